"""What can be said about a request before a model is loaded: the canvas it means, and whether the model can take it.

Imports no torch, so that the command line refuses a wrong request at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gensat.errors import InputError
from gensat.geo.canvas import Canvas, require_multiple
from gensat.hub.registry import models_with
from gensat.hub.spec import ModelSpec
from gensat.types import Acquisition, Place


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
        gsd: metres per pixel.
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
        return Canvas.from_bbox(tuple(bbox), gsd=gsd, width=width, height=height, crs=crs)
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
    return Canvas.around(place, gsd, width, height, crs=crs)


def check_request(
    spec: ModelSpec,
    canvas: Canvas,
    acquisition: Acquisition,
    *,
    prompt: bool = False,
    layout: bool = False,
    edges: bool = False,
    cropped: bool = False,
    width: int | None = None,
    height: int | None = None,
) -> None:
    """Checks that the model takes these conditions at this ground sampling distance and size.

    Args:
        spec: of the model.
        canvas: the pixels asked for.
        acquisition: gsd on the ground in metres, date, cloud cover and sensor.
        prompt: whether there are words.
        layout: whether there is a layout.
        edges: whether there are edges.
        cropped: the canvas is made larger and cropped, as for a bbox, so its sides may be off the model's multiple;
            but not those that were asked for as such:
        width: the user's own number of columns, if any.
        height: the user's own number of rows, if any.

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
    low, high = spec.gsd_range
    if acquisition.gsd is not None and not low <= acquisition.gsd <= high:
        raise InputError(
            f"gsd {acquisition.gsd:g} m is outside {low:g} to {high:g} m of model {spec.name}; choose one inside"
        )
    if cropped:
        require_multiple(width or spec.multiple, height or spec.multiple, spec.multiple)
        return
    canvas.require_multiple(spec.multiple)
    smallest = spec.size_limits[0]
    if min(canvas.width, canvas.height) < smallest:
        raise InputError(
            f"the canvas is {canvas.width} x {canvas.height}; model {spec.name} makes at least {smallest} pixels a "
            f"side, so give {smallest} or more"
        )
