"""A flood laid over an image: depths on its pixels, and which of the water is seen from above.

The depth is brought to the image, never the image to the depth.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from rasterio.features import rasterize

from gensat.errors import InputError, require_number
from gensat.geo.buildings import read_buildings
from gensat.geo.canvas import Canvas
from gensat.geo.elevation import HeightMap
from gensat.geo.layout import load_layout
from gensat.geo.raster import open_image
from gensat.hydro.open_water import SHALLOWEST, open_water
from gensat.hydro.resample import depth_on
from gensat.types import GeoImage

Raster = str | os.PathLike[str] | GeoImage | np.ndarray


@dataclass(frozen=True)
class LaidFlood:
    """What a renderer of floods needs.

    Args:
        image: before the flood.
        canvas: its pixels.
        depth: metres of water over the ground, 0 where dry and outside of what was computed.
        seen: open water: all that a renderer may change.
        objects: what says which things rise above the water: "heights", "buildings", "layout", or None.
        notes: what was assumed, one sentence each.
    """

    image: GeoImage
    canvas: Canvas
    depth: Float[np.ndarray, "h w"]
    seen: Bool[np.ndarray, "h w"]
    objects: str | None
    notes: tuple[str, ...] = ()


def lay_flood(
    image: GeoImage,
    depth: Raster,
    *,
    heights: Raster | None = None,
    buildings: str | os.PathLike[str] | None = None,
    height_field: str | None = None,
    layout: Any = None,
    legend: Any = None,
    gsd: float | int | None = None,
    shallowest: float | int = SHALLOWEST,
) -> LaidFlood:
    """Brings a depth, and what says how high things stand, to an image.

    Args:
        image: before the flood.
        depth: metres of water, 0 where dry: a raster of any CRS and resolution, or an array of the image's size.
        heights: metres above the ground of what stands there (a surface model less the terrain), likewise.
        buildings: or footprints with heights, any vector file; a flood deeper than a house covers it. ``height_field`` names their attribute.
        layout: or a class map, as :func:`gensat.geo.layout.load_layout` takes it with its ``legend``: buildings and trees rise as high as
            ``hydro.open_water.ASSUMED_HEIGHTS`` says.
        gsd: metres per pixel of an image without a georeference.
        shallowest: metres; less water is not seen.

    Raises:
        InputError: rasters that do not overlap, depths below 0, more than one of heights, buildings and layout, or no water on the image.
    """
    given = [n for n, v in (("heights", heights), ("buildings", buildings), ("layout", layout)) if v is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} were given; give one of them, it says what rises above the water")
    if gsd is not None and image.crs is not None:
        raise InputError("a gsd was given for an image that has a georeference; leave it out")
    local = image.crs is None and gsd is not None
    canvas = Canvas.local(image.width, image.height, require_number(gsd, "gsd")) if local else Canvas.like(image)
    own = Canvas.local(image.width, image.height, canvas.gsd)  # of arrays, which lie on the image cell by cell
    metres, _ = depth_on(_raster(depth, "depth"), own if isinstance(depth, np.ndarray) else canvas)
    notes: list[str] = []
    if outside := float(np.isnan(metres).mean()):
        notes.append(f"{100 * outside:.2g}% of the image lie outside the depth and stay dry")
    above = classes = None
    if heights is not None:
        where, unit = (own, "m") if isinstance(heights, np.ndarray) else (canvas, None)
        found = HeightMap.of(_raster(heights, "heights"), unit=unit, name="heights")
        laid = found.on(where, "the heights", nearest=True)
        above = laid.heights
        notes += [note for note in laid.notes if "datum" not in note]  # a difference of heights has none
    elif buildings is not None:
        houses = read_buildings(buildings, canvas, height=height_field)
        shapes = zip(houses.footprints, houses.heights.tolist(), strict=True)
        above = rasterize(shapes, (canvas.height, canvas.width), transform=canvas.transform, dtype="float32")
        notes += houses.notes
    elif layout is not None:
        classes = load_layout(layout, canvas, legend=legend).class_map
    else:
        notes.append("no heights, buildings or layout were given: the water covers whatever stands in it")
    metres = np.nan_to_num(metres, nan=0.0)
    seen = open_water(metres, heights=above, classes=classes, shallowest=shallowest)
    if image.valid is not None:
        seen &= image.valid
    if not seen.any():
        raise InputError("no pixel of the image is under water; check that the depth is of this place and in metres")
    return LaidFlood(image, canvas, metres, seen, given[0] if given else None, tuple(notes))


def _raster(source: Raster, name: str) -> GeoImage:
    if isinstance(source, GeoImage):
        return source
    if isinstance(source, np.ndarray):
        flat = source[..., 0] if source.ndim == 3 else source
        if flat.ndim != 2:
            raise InputError(f"the {name} is {source.shape}; give one number a pixel, (H, W)")
        return GeoImage(flat.astype(np.float32)[:, :, None], valid=np.isfinite(flat))
    return open_image(source)
