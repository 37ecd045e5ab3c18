"""What can be said about a request before a model is loaded: the canvas it means, and whether the model can take it.

Imports no torch, so that the command line refuses a wrong request at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name
from gensat.hub.registry import models_with
from gensat.hub.spec import ModelSpec
from gensat.types import Acquisition, Place

MAX_PIXELS = 2**28
"""Most pixels of one canvas, a square of 16,384: what its arrays need must fit into memory."""


def make_canvas(
    spec: ModelSpec,
    notes: list[str],
    *,
    place: Place | None = None,
    bbox: Sequence[float | int] | None = None,
    gsd: float | int | None = None,
    width: int | None = None,
    height: int | None = None,
    crs: Any = None,
) -> Canvas:
    """The canvas of a request; what had to be assumed is added to ``notes``.

    Args:
        spec: of the model; its default gsd and native size fill what is not given.
        notes: list that sentences are added to.
        place: (lon, lat) of the centre in degrees; or else
        bbox: (west, south, east, north) in degrees; with neither the canvas lies on no place.
        gsd: metres per pixel on the ground.
        width: columns.
        height: rows.
        crs: projected CRS in metres; default the UTM zone (or UPS) of the place.

    Raises:
        InputError: the parts disagree; see :class:`Canvas`.
    """
    if place is not None and bbox is not None:
        raise InputError("both a place and a bbox were given; give one of them")
    assumed = f"no gsd was given: made at the model's default of {spec.defaults.gsd:g} m per pixel"
    if bbox is not None:
        if gsd is None and width is None and height is None:
            gsd = spec.defaults.gsd
            notes.append(assumed)
        return _noted(Canvas.from_bbox(tuple(bbox), gsd=gsd, width=width, height=height, crs=crs), notes)
    for name, size in (("width", width), ("height", height)):
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; give pixels, a multiple of {spec.multiple}")
    width = width or height or spec.native_size
    height = height or width
    if place is None:
        if crs is not None:
            raise InputError("a CRS was given without a place; add a place or a bbox")
        return Canvas.local(width, height, gsd)
    if gsd is None:
        gsd = spec.defaults.gsd
        notes.append(assumed)
    return _noted(Canvas.around(place, gsd, width, height, crs=crs), notes)


def _noted(canvas: Canvas, notes: list[str]) -> Canvas:
    """The canvas; a note says where a metre of its CRS is none on the ground."""
    ground, step = canvas.ground_gsd, canvas.transform.a
    if canvas.crs is not None and ground is not None and ground != step:
        notes.append(
            f"{crs_name(canvas.crs)} stretches distances here: pixels of {ground:.4g} m on the ground are {step:.4g} m in it"
        )
    return canvas


def check_request(
    spec: ModelSpec,
    canvas: Canvas,
    acquisition: Acquisition,
    *,
    prompt: bool = False,
    layout: bool = False,
    edges: bool = False,
    cropped: bool = False,
) -> None:
    """Checks that the model takes these conditions at this ground sampling distance and size.

    Args:
        spec: of the model.
        canvas: the pixels asked for.
        acquisition: gsd on the ground in metres, date, cloud cover and sensor.
        prompt: whether there are words.
        layout: whether there is a layout.
        edges: whether there are edges.
        cropped: the canvas is made larger and cropped, as for a bbox, so its sides may be of any size.

    Raises:
        InputError: a condition the model cannot take (naming models that can), a gsd or a size outside its range.
    """
    others = acquisition.date or acquisition.cloud_cover is not None or acquisition.sensor
    given = [
        name
        for name, wanted in (("prompt", prompt), ("layout", layout), ("edges", edges), ("acquisition", others))
        if wanted
    ]
    spec.require(given, models_with())
    if canvas.width * canvas.height > MAX_PIXELS:
        raise InputError(
            f"the canvas is {canvas.width} x {canvas.height} pixels, more than {MAX_PIXELS:,} in all; "
            "make it smaller, choose a larger gsd, or split it into several"
        )
    low, high = spec.gsd_range
    # A thousandth of slack: in a CRS that stretches distances the pixels are measured, not chosen.
    if acquisition.gsd is not None and not low * 0.999 <= acquisition.gsd <= high * 1.001:
        raise InputError(
            f"gsd {acquisition.gsd:g} m is outside {low:g} to {high:g} m of model {spec.name}; choose one inside"
        )
    if not cropped:
        _require_sides(spec, canvas)


def _require_sides(spec: ModelSpec, canvas: Canvas) -> None:
    """Checks that the model can make an image of exactly this size; the message names the nearest sizes it can make."""
    smallest, multiple = spec.size_limits[0], spec.multiple
    for name, size in (("width", canvas.width), ("height", canvas.height)):
        if size < smallest:
            raise InputError(
                f"the canvas is {canvas.width} x {canvas.height}; model {spec.name} makes at least {smallest} pixels a "
                f"side, so give {smallest} or a larger multiple of {multiple}"
            )
        if size % multiple:
            below = size // multiple * multiple
            raise InputError(f"{name} {size} is not a multiple of {multiple}; use {below} or {below + multiple}")
