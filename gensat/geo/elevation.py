"""Heights from files: metres on a known grid, with datum, unit and holes accounted for.

A file that says it is in feet is converted, and a note says so; a file that says nothing is taken to be in metres, and a
note says that too. The vertical datum is never changed: heights of one scene share whatever datum their file has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from jaxtyping import Float
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.fill import fillnodata
from scipy.ndimage import distance_transform_edt

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name, lonlat_bounds
from gensat.geo.raster import open_image
from gensat.geo.warp import warped
from gensat.types import GeoImage

UNITS = {
    "m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048,
    "us-ft": 1200 / 3937, "us_ft": 1200 / 3937, "ftus": 1200 / 3937, "us survey foot": 1200 / 3937,
    "cm": 0.01, "centimetre": 0.01, "centimetres": 0.01, "dm": 0.1, "decimetre": 0.1, "km": 1000.0,
}  # fmt: skip
"""Metres per unit of height, by the names that files use."""

_LOWEST, _HIGHEST = -500.0, 9000.0  # metres; beyond, the unit or the nodata value is not what the file says
_HOLES = (-9999.0, -32768.0, -32767.0)  # nodata values that files forget to declare
_REACH = 100  # cells over which a hole is interpolated; beyond, the nearest height counts


@dataclass(frozen=True, eq=False)
class HeightMap:
    """Heights in metres on a north-up grid.

    Args:
        heights: (H, W) float32 metres above ``datum``; NaN in holes.
        crs: of the grid, or None.
        transform: from pixel corners (column, row) to the CRS, or None.
        datum: name of the vertical datum, None if the file does not say.
        filled: number of cells that were holes and are now interpolated.
        notes: what the user should know; sentences without a full stop.
    """

    heights: Float[np.ndarray, "h w"]
    crs: CRS | None
    transform: Affine | None
    datum: str | None = None
    filled: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, unit: str | None = None) -> HeightMap:
        """Reads a raster of heights.

        Args:
            path: GeoTIFF or any raster with one band that GDAL reads.
            unit: of the heights, one of ``UNITS``; goes before what the file says.

        Raises:
            InputError: unreadable, more than one band, an unknown unit, nothing but holes, or heights that no place on
                the Earth has (feet or centimetres taken for metres, nodata that is not declared).
        """
        image = open_image(path)
        if image.array.shape[2] != 1:
            raise InputError(
                f"heights {path} have {image.array.shape[2]} bands; give a raster with one band of heights"
            )
        return cls.of(image, unit=unit, name=Path(path).name)

    @classmethod
    def of(cls, image: GeoImage, *, unit: str | None = None, name: str = "heights") -> HeightMap:
        """Heights of a GeoImage with one band; arguments and errors as of :meth:`open`."""
        band = image.bands[0]
        heights = np.array(image.physical()[:, :, 0])
        vertical = _vertical(image.crs)
        notes = []
        stated = unit or band.unit or (vertical.axis_info[0].unit_name if vertical is not None else "")
        factor = UNITS.get(stated.strip().lower()) if stated else 1.0
        if factor is None:
            raise InputError(
                f"unit {stated!r} of {name} is not known; give --unit with one of m, ft, us-ft, cm, dm, km"
            )
        if not stated:
            notes.append(f"{name} does not state its unit; metres are assumed")
        elif factor != 1.0:
            notes.append(f"{name} is in {stated} and was converted to metres")
        undeclared = np.isin(heights, _HOLES) | (heights < -1e5) | (heights > 1e6)
        if undeclared.any():
            notes.append(
                f"{int(undeclared.sum())} cells of {name} hold a nodata value that is not declared; they are holes"
            )
            heights[undeclared] = np.nan
        heights *= np.float32(factor)
        known = heights[np.isfinite(heights)]
        if not known.size:
            raise InputError(f"heights {name} hold nothing but nodata; give another file")
        if known.min() < _LOWEST or known.max() > _HIGHEST:
            raise InputError(
                f"heights of {name} run from {known.min():g} to {known.max():g} m, as no place on the Earth does; "
                "give their unit with --unit, such as ft or cm, or declare the nodata value"
            )
        if vertical is None:
            notes.append(f"{name} does not state its vertical datum; heights are used as they are")
        flat = (
            image.crs.to_2d()
            if image.crs is not None and (vertical is not None or len(image.crs.axis_info) > 2)
            else image.crs
        )
        return cls(heights, flat, image.transform, None if vertical is None else vertical.name, 0, tuple(notes))

    @property
    def holes(self) -> int:
        """Number of cells whose height is not known."""
        return int(np.isnan(self.heights).sum())

    def without_holes(self, name: str = "the heights") -> HeightMap:
        """Holes filled by inverse-distance interpolation from their rims (GDAL's), counted and noted.

        Raises:
            InputError: there is nothing but holes.
        """
        holes = np.isnan(self.heights)
        count = int(holes.sum())
        if not count:
            return self
        heights = _filled(self.heights, holes)
        note = f"{count} cells of {name} ({100 * count / holes.size:.2g} percent) were holes and are interpolated"
        return replace(self, heights=heights, filled=self.filled + count, notes=(*self.notes, note))

    def on(self, canvas: Canvas, name: str = "the heights", *, nearest: bool = False) -> HeightMap:
        """The heights on the grid of a canvas, without holes: bilinear, or the nearest cell's, which keeps walls upright.

        What the file does not cover of the canvas takes the nearest height, and is counted and noted. On a canvas that
        lies on no place the heights must have its size and are used cell by cell.

        Raises:
            InputError: no overlap, no CRS, or, on no place, another size.
        """
        source = self.without_holes(name)
        if canvas.crs is None:
            if source.heights.shape != (canvas.height, canvas.width):
                raise InputError(
                    f"{name} of {source.heights.shape[1]} x {source.heights.shape[0]} cells cannot be laid under an "
                    f"image without a georeference of {canvas.width} x {canvas.height} pixels; give the same size, or "
                    "an image with a CRS"
                )
            return replace(source, crs=None, transform=canvas.transform)
        if source.crs is None or source.transform is None:
            raise InputError(f"{name} have no CRS; give a GeoTIFF with one, or an image without one and the same size")
        notes = list(source.notes)
        if source.crs == canvas.crs and _aligned(source, canvas):
            heights = _cut(source, canvas)
        else:
            way = Resampling.nearest if nearest else Resampling.bilinear
            heights = warped(source.heights, source.transform, source.crs, canvas, way)
            step = abs(source.transform.a)
            how = "laid cell by cell" if nearest else "resampled"
            notes.append(f"{name} were {how} from {crs_name(source.crs)}, {step:.6g} {_unit_of(source.crs)} a cell")
        outside = np.isnan(heights)
        if outside.all():
            theirs = lonlat_bounds(source.crs, source.transform, *source.heights.shape)
            raise InputError(
                f"{name} at {_box(theirs)} do not overlap the image at {_box(canvas.lonlat_bounds or theirs)}; "
                "give heights of the place"
            )
        if outside.any():
            share = 100 * outside.mean()
            notes.append(f"{name} do not cover {share:.2g} percent of the image, which takes the nearest height")
            heights = _nearest(heights, outside)
        return HeightMap(heights, canvas.crs, canvas.transform, source.datum, source.filled, tuple(notes))


def _vertical(crs: CRS | None) -> CRS | None:
    """The vertical part of a compound CRS."""
    return next((part for part in crs.sub_crs_list if part.is_vertical), None) if crs is not None else None


def _filled(heights: np.ndarray, holes: np.ndarray) -> np.ndarray:
    if holes.all():
        raise InputError("the heights hold nothing but holes; give another file")
    rim = np.where(holes, 0, heights).astype(np.float32)
    filled = fillnodata(rim, mask=(~holes).astype(np.uint8), max_search_distance=_REACH)
    # GDAL leaves holes alone that are wider than its reach, as the 0 they were given.
    distance = distance_transform_edt(holes)
    return _nearest(np.where(distance > _REACH, np.nan, filled).astype(np.float32), distance > _REACH)


def _nearest(heights: np.ndarray, holes: np.ndarray) -> np.ndarray:
    if not holes.any():
        return heights
    rows, columns = distance_transform_edt(holes, return_distances=False, return_indices=True)
    return heights[rows, columns]


def _aligned(source: HeightMap, canvas: Canvas) -> bool:
    """Whether both grids are one, so that cells can be copied as they are."""
    assert source.transform is not None
    a, b = source.transform, canvas.transform
    column, row = (b.c - a.c) / a.a, (b.f - a.f) / a.e
    same = abs(a.a / b.a - 1) * canvas.width < 1e-3 and abs(a.e / b.e - 1) * canvas.height < 1e-3
    return same and abs(column - round(column)) < 1e-3 and abs(row - round(row)) < 1e-3


def _cut(source: HeightMap, canvas: Canvas) -> np.ndarray:
    assert source.transform is not None
    column = round((canvas.transform.c - source.transform.c) / source.transform.a)
    row = round((canvas.transform.f - source.transform.f) / source.transform.e)
    target = np.full((canvas.height, canvas.width), np.nan, dtype=np.float32)
    height, width = source.heights.shape
    r0, r1 = max(row, 0), min(row + canvas.height, height)
    c0, c1 = max(column, 0), min(column + canvas.width, width)
    if r1 > r0 and c1 > c0:
        target[r0 - row : r1 - row, c0 - column : c1 - column] = source.heights[r0:r1, c0:c1]
    return target


def _unit_of(crs: CRS) -> str:
    return "degrees" if crs.is_geographic else str(crs.axis_info[0].unit_name)


def _box(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    return f"lon {west:.6f} to {east:.6f} lat {south:.6f} to {north:.6f}"
