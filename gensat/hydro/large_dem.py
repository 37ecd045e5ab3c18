"""A DEM that is larger than memory, read window by window in metres on square cells."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
from affine import Affine
from jaxtyping import Float
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name, ground_sampling_distance, lonlat_bounds, shifted
from gensat.geo.elevation import HeightMap
from gensat.geo.raster import open_dataset, read_bands, require_file
from gensat.hydro.blocks import BLOCK, Blocks
from gensat.types import Band, GeoImage

_CACHE = 64  # megabytes of GDAL's own cache of blocks
_EXACT = 1e-6  # pixels by which GDAL may approximate a projection; rasterio fails at 0
_COUNT = re.compile(r"^\d+")


@dataclass(eq=False)
class LargeDem:
    """A DEM that is read window by window, in metres on square cells.

    Build it with :meth:`open`, in a ``with``.
    """

    source: Any
    name: str
    unit: str | None
    blocks: Blocks
    crs: CRS
    transform: Affine
    bands: list[Band]
    notes: dict[str, int] = field(default_factory=dict)
    datum: str | None = None
    counted: set[tuple[int, int]] = field(default_factory=set)

    @classmethod
    @contextmanager
    def open(cls, path: str | os.PathLike[str], *, unit: str | None = None, side: int = BLOCK) -> Iterator[LargeDem]:
        """Opens a DEM; one in degrees, feet or oblong cells is warped to UTM as it is read (bilinear).

        Args:
            path: any raster with one band that GDAL reads.
            unit: of the heights, as of :meth:`gensat.geo.elevation.HeightMap.open`.
            side: cells of a side of a block.

        Raises:
            InputError: unreadable, several bands, no CRS, or south-up.
        """
        path = require_file(path)
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE))
            source: Any = stack.enter_context(open_dataset(path))
            if source.count != 1:
                raise InputError(f"heights {path} have {source.count} bands; give a raster with one band of heights")
            if not source.crs:
                raise InputError(f"{path.name} has no CRS; give one, as gdal_translate -a_srs does")
            t = source.transform
            if t.b or t.d or t.e > 0 or t.a < 0:
                raise InputError(f"{path.name} is south-up or rotated and too large to turn; warp it with gdalwarp")
            crs = CRS.from_wkt(source.crs.to_wkt())
            notes: dict[str, int] = {}
            bands = read_bands(source, [1])
            flat = crs.to_2d() if len(crs.axis_info) > 2 or crs.is_compound else crs
            try:
                canvas = Canvas.like(_grid_of(source, flat))
                height, width = source.height, source.width
                transform, flat = t, canvas.crs or flat
            except InputError:
                canvas = _metric(flat, t, source.height, source.width, path.name)
                assert canvas.crs is not None
                grid = {"transform": canvas.transform, "width": canvas.width, "height": canvas.height}
                target = rasterio.crs.CRS.from_wkt(canvas.crs.to_wkt())
                vrt = WarpedVRT(
                    source, crs=target, resampling=Resampling.bilinear, tolerance=_EXACT, add_alpha=False,
                    src_nodata=source.nodata, nodata=np.nan if source.nodata is None else source.nodata, dtype="float32", **grid,
                )  # fmt: skip
                said = f"{path.name} was warped from {crs_name(crs)} to {crs_name(canvas.crs)}, square cells of {canvas.gsd:.6g} m"
                notes[said] = 0
                source, flat = stack.enter_context(vrt), canvas.crs
                transform, height, width = canvas.transform, canvas.height, canvas.width
            yield cls(source, path.name, unit, Blocks(height, width, side), flat, transform, bands, notes)

    @cached_property
    def canvas(self) -> Canvas:
        """The grid."""
        return Canvas(self.blocks.width, self.blocks.height, self.transform.a, self.crs, self.transform)

    def read(self, window: Window) -> Float[np.ndarray, "h w"]:
        """float64 metres, NaN where nothing is known; a window may reach outside, where nothing is."""
        inside = window.intersection(Window(0, 0, self.blocks.width, self.blocks.height))
        values = self.source.read(1, window=inside)
        known = (self.source.read_masks(1, window=inside) > 0) & np.isfinite(values)
        bed = np.full((window.height, window.width), np.nan)
        if known.any():
            crs = CRS.from_wkt(self.source.crs.to_wkt())
            place = shifted(self.transform, inside.row_off, inside.col_off)
            image = GeoImage(values.astype(np.float32), self.bands, crs, place, known)
            heights = HeightMap.of(image, unit=self.unit, name=self.name)
            self.datum = self.datum or heights.datum
            again = (window.row_off, window.col_off) in self.counted  # windows are read more than once
            self.counted.add((window.row_off, window.col_off))
            for note in heights.notes:  # a note that counts cells of a window is one that counts all
                counted = None if again else _COUNT.match(note)
                key = _COUNT.sub("#", note)
                self.notes[key] = self.notes.get(key, 0) + (int(counted[0]) if counted else 0)
            row, column = inside.row_off - window.row_off, inside.col_off - window.col_off
            bed[row : row + inside.height, column : column + inside.width] = heights.heights
        return bed

    def said(self) -> list[str]:
        """The notes, each once."""
        return [
            note.replace("#", str(count), 1) if note.startswith("#") else note for note, count in self.notes.items()
        ]


def _grid_of(source: Any, crs: CRS) -> GeoImage:
    """The grid without its pixels, which says whether its cells are square metres."""
    nothing = np.broadcast_to(np.zeros((1, 1), np.uint8), (source.height, source.width))
    return GeoImage(nothing, crs=crs, transform=source.transform)


def _metric(crs: CRS, transform: Affine, height: int, width: int, name: str) -> Canvas:
    gsd = ground_sampling_distance(crs, transform, height, width)
    bounds = lonlat_bounds(crs, transform, height, width)
    if gsd is None or not np.isfinite(bounds).all():
        raise InputError(f"{crs_name(crs)} is not defined where {name} lies; warp it to a UTM zone with gdalwarp")
    return Canvas.from_bbox(bounds, gsd)
