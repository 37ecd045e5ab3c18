"""One way to ask for any picture of a flood: by optics, by diffusion, or by a published generator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..geo.sun import SunPosition
from ..hydro.over_image import LaidFlood
from ..render.flood_optics import SUN, render_flood
from ..render.water_seen import SeenWater, is_seen
from ..types import GeoImage
from .flood import FloodPipeline
from .flood_published import PublishedFloodPipeline

MODEL = "gensat-flood"
STYLES = ("optical", "diffusion", "pix2pixhd")


def picture_flood(
    laid: LaidFlood,
    style: str,
    *,
    pipe: Any = None,
    edge: float | int = 2.0,
    seed: int | None = None,
    optics: Mapping[str, Any] | None = None,
    painting: Mapping[str, Any] | None = None,
) -> GeoImage:
    """The image under water; dry pixels stay as they were.

    Args:
        laid: of :func:`gensat.hydro.over_image.lay_flood`.
        style: one of ``STYLES``.
        pipe: the model of the styles that a network paints, loaded; "diffusion" takes ``MODEL`` without one.
        edge: pixels over which the water sets in, inside its shore.
        seed: of waves or noise.
        optics: ``water`` (a preset's name; g/m3 of sediment, as a number or in digits; "image" or the file of a mask, for the water that the image
            shows: :class:`gensat.render.water_seen.SeenWater`), ``wind``, ``sun`` (degrees from true north, degrees up), ``cloud`` and
            ``wavelengths`` of :func:`gensat.render.flood_optics.render_flood`.
        painting: as of ``FloodPipeline.paint``.

    Raises:
        InputError: an unknown style, a model that is none of it, or what the renderer refuses.
    """
    if style not in STYLES:
        raise InputError(f"there is no style {style!r} of floods; give one of {', '.join(STYLES)}")
    if style == "optical":
        return _by_optics(laid, edge, seed, dict(optics or {}))
    if pipe is None:
        if style == "pix2pixhd":
            raise InputError(
                "no pix2pixHD weights are shipped; convert some (gensat models convert) and give their folder as the model"
            )
        import gensat

        pipe = gensat.load(MODEL)
    if not isinstance(pipe, FloodPipeline if style == "diffusion" else PublishedFloodPipeline):
        raise InputError(f"{pipe.spec.name} is no model for the style {style}; give one, or another style")
    if isinstance(pipe, PublishedFloodPipeline):
        return pipe(laid.image, laid.seen, edge=edge)
    return pipe.paint(laid, edge=edge, seed=seed, **(painting or {})).scenes[0]


def _by_optics(laid: LaidFlood, edge: float | int, seed: int | None, given: dict[str, Any]) -> GeoImage:
    sun, water, found = given.pop("sun", None), given.pop("water", "silt"), None
    if is_seen(water):
        lengths = given.pop("wavelengths", None)
        found = SeenWater.of(laid.image, water, canvas=laid.canvas, flooded=laid.seen, wavelengths=lengths)
        given["reading"] = found.reading
    made = render_flood(
        laid.image,
        laid.depth,
        laid.seen,
        water=water if found is None else found.water,
        sun=SUN if sun is None else SunPosition(*sun),
        edge=edge,
        gsd=laid.canvas.gsd if laid.image.crs is None else None,
        seed=seed or 0,
        **given,
    )
    if found is not None:
        made.provenance["water"] |= {"seen_in": Path(water).name, "seen_pixels": int(found.where.sum())}
    return made
