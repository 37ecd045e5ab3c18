"""Where the pixels of an image to be made lie: a north-up grid of square pixels, on the Earth or on no place.

Pixel (row, column) covers [row, row + 1) x [column, column + 1); its centre is at +0.5. Row 0 is north.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Float
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.crs import (
    crs_name,
    from_lonlat,
    ground_metre,
    ground_sampling_distance,
    lonlat_bounds,
    metric_crs,
    pixel_to_world,
    project,
    raster_bounds,
    require_metric,
    shifted,
    to_lonlat,
)
from gensat.types import Acquisition, Band, GeoImage, Place

MAX_EXTENT = 200_000.0
"""Longest side of a canvas in metres on the ground: beyond it one UTM zone is no longer a faithful plane."""

_SLIVER = 1e-3  # of a pixel, which a canvas need not cover
_TIE = 1e-6  # cell indices are rounded half up; this much slack keeps exact halves from flipping with float error


@dataclass(frozen=True, repr=False)
class Canvas:
    """The pixels to be made. Build one with :meth:`around`, :meth:`from_bbox`, :meth:`like` or :meth:`local`.

    Args:
        width: columns.
        height: rows.
        gsd: metres per pixel of the grid, in the metres of the CRS; None on a local canvas of unknown scale.
        crs: projected CRS in metres; None on a local canvas.
        transform: affine from pixel corners (column, row) to CRS metres; a local canvas has its own plane, in metres
            or, without gsd, in pixels.
        grid: ``"earth"`` or ``"local"``, the world that noise and windows are anchored to.
        covers: whether it was made to cover a box, so that :meth:`snapped` may not move its edges inward.

    Raises:
        InputError: no pixels, or a gsd that is not above 0.
    """

    width: int
    height: int
    gsd: float | int | None
    crs: CRS | None
    transform: Affine
    grid: str = "earth"
    covers: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"a canvas of {self.width} x {self.height} pixels is empty; give sizes of 1 or more")
        Acquisition(self.gsd)  # checks its range

    @classmethod
    def around(cls, place: Place, gsd: float | int, width: int, height: int, *, crs: Any = None) -> Canvas:
        """Canvas whose exact centre is ``place``.

        Args:
            place: the centre.
            gsd: metres per pixel on the ground at the place. Where the CRS stretches distances by more than 2 percent,
                as Web Mercator does, the pixels of the grid are larger or smaller by as much.
            width: columns.
            height: rows.
            crs: projected CRS in metres; default the UTM zone of the place (UPS beyond 84 N and 80 S).

        Raises:
            InputError: a CRS that is not in metres, not defined at the place or too distorted there, or a side of more
                than 200 km.
        """
        Acquisition(gsd)  # checks its range
        system = metric_crs(crs, place.lon, place.lat)
        x, y = (float(value) for value in from_lonlat(system, place.lon, place.lat))
        _require_extent(max(width, height) * gsd)
        step = gsd / ground_metre(system, x, y)
        return cls(width, height, step, system, _grid(x - width / 2 * step, y + height / 2 * step, step))

    @classmethod
    def from_bbox(
        cls,
        bbox: Sequence[float | int],
        gsd: float | int | None = None,
        *,
        width: int | None = None,
        height: int | None = None,
        crs: Any = None,
    ) -> Canvas:
        """Envelope, in a metric CRS, of a box in degrees, with its north-west corner kept exactly.

        Args:
            bbox: (west, south, east, north) in degrees.
            gsd: metres per pixel on the ground in the middle, as in :meth:`around`; taken from ``width`` (or else
                ``height``) when not given.
            width: columns; follows from the box and gsd when not given.
            height: rows; follows likewise.
            crs: projected CRS in metres; default the UTM zone (or UPS) of the centre of the box.

        Raises:
            InputError: west >= east, south >= north, neither gsd nor a size, sizes that disagree with box and gsd by
                more than a pixel, or a canvas of more than 200 km.
        """
        west, south, east, north = _checked_bbox(bbox)
        system = metric_crs(crs, (west + east) / 2, (south + north) / 2)
        left, bottom, right, top = _envelope(system, west, south, east, north)
        across, down = right - left, top - bottom
        if gsd is None and width is None and height is None:
            raise InputError("a bbox alone does not fix the pixels; give gsd in metres per pixel, or width")
        Acquisition(gsd)  # checks its range
        if (width is not None and width < 1) or (height is not None and height < 1):
            raise InputError(f"a canvas of {width} x {height} pixels is empty; give sizes of 1 or more")
        ground = ground_metre(system, (left + right) / 2, (bottom + top) / 2)
        _require_extent(max(across, down) * ground)
        step = float(gsd / ground if gsd else across / width if width else down / (height or 1))
        columns, rows = width or _cover(across, step), height or _cover(down, step)
        for name, pixels, extent in (("width", columns, across), ("height", rows, down)):
            if abs(pixels * step - extent) > step * (1 + 1e-6):
                raise InputError(
                    f"{name} {pixels} at {step * ground:.6g} m is {pixels * step * ground:.6g} m but the bbox is "
                    f"{extent * ground:.6g} m; "
                    f"give {name} {_cover(extent, step)} or leave out one of bbox, gsd and size"
                )
        return cls(columns, rows, step, system, _grid(left, top, step), covers=True)

    @classmethod
    def local(cls, width: int, height: int, gsd: float | int | None = None) -> Canvas:
        """Canvas on no place: a plane of its own, whose origin (0, 0) is the north-west corner.

        Args:
            width: columns, 1 or more.
            height: rows, 1 or more.
            gsd: metres per pixel, above 0; None if the scale is unknown.

        Raises:
            InputError: no pixels, a gsd that is not above 0, or a side of more than 200 km.
        """
        if gsd is not None:
            _require_extent(max(width, height) * gsd)
        return cls(width, height, gsd, None, _grid(0.0, 0.0, gsd or 1.0), "local")

    @classmethod
    def like(cls, image: GeoImage) -> Canvas:
        """Canvas on the pixels of an image: local if it has no georeference.

        Raises:
            InputError: the image is in degrees or feet, or its pixels are not square.
        """
        if image.crs is None or image.transform is None:
            return cls.local(image.width, image.height, image.gsd)
        system = require_metric(image.crs)
        across, down = image.transform.a, -image.transform.e
        if abs(across - down) * max(image.width, image.height) > 0.01 * across:
            raise InputError(f"pixels of {across:g} x {down:g} m are not square; warp the image to square pixels first")
        return cls(image.width, image.height, across, system, image.transform)

    def __repr__(self) -> str:
        where = (
            "no place" if self.crs is None else f"{crs_name(self.crs)} from ({self.transform.c}, {self.transform.f})"
        )
        return f"Canvas({self.width} x {self.height} at {self.gsd} m, {where})"

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in metres of the CRS (of the local plane on a local canvas)."""
        return raster_bounds(self.transform, self.height, self.width)

    @property
    def lonlat_bounds(self) -> tuple[float, float, float, float] | None:
        """(west, south, east, north) in degrees; None on a local canvas."""
        return None if self.crs is None else lonlat_bounds(self.crs, self.transform, self.height, self.width)

    @property
    def place(self) -> Place | None:
        """Centre of the canvas; None on a local canvas."""
        if self.crs is None:
            return None
        lon, lat = self.places(self.height / 2, self.width / 2)
        return Place(float(lon), float(lat))

    @property
    def ground_gsd(self) -> float | None:
        """Metres on the ground per pixel in the middle: the gsd, except in a CRS that stretches distances."""
        if self.crs is None:
            return self.gsd
        return ground_sampling_distance(self.crs, self.transform, self.height, self.width)

    def places(self, rows: Any, cols: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Pixel coordinates to places.

        Args:
            rows: continuous rows, any shape; the centre of row r is r + 0.5. May lie outside the canvas.
            cols: continuous columns, broadcastable with ``rows``.

        Returns:
            (lon, lat) in degrees, float64.

        Raises:
            InputError: the canvas is local.
        """
        return to_lonlat(self._earth(), *pixel_to_world(self.transform, cols, rows))

    def pixels(self, lon: Any, lat: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Inverse of :meth:`places`: (lon, lat) in degrees to continuous (rows, cols)."""
        cols, rows = pixel_to_world(~self.transform, *from_lonlat(self._earth(), lon, lat))
        return rows, cols

    def crop(self, row: int, col: int, height: int, width: int) -> Canvas:
        """Part of the canvas on the same grid.

        Args:
            row: its first row in pixels of this canvas; negative and beyond the last one are allowed, as below.
            col: its first column.
            height: rows, 1 or more; it may reach outside.
            width: columns, 1 or more.

        Raises:
            InputError: no pixels.
        """
        transform = shifted(self.transform, row, col)
        return Canvas(width, height, self.gsd, self.crs, transform, self.grid)

    def snapped(self, cell_px: int) -> Canvas:
        """Canvas whose origin lies on a corner of the grid of cells of ``cell_px`` pixels.

        The origin moves to the nearest one; that of a canvas that covers a box to the next one outside, and the canvas
        grows by as many pixels, so that it still covers the box.
        """
        cell = cell_px * self.transform.a
        row, col = self.cell_origin(cell_px)
        height, width = self.height, self.width
        if self.covers:
            above, left = -self.transform.f / cell, self.transform.c / cell
            row, col = math.floor(above + _TIE), math.floor(left + _TIE)
            height += math.ceil((above - row) * cell_px - _SLIVER)
            width += math.ceil((left - col) * cell_px - _SLIVER)
        transform = _grid(col * cell, -row * cell, self.transform.a)
        return Canvas(width, height, self.gsd, self.crs, transform, self.grid, self.covers)

    def cell_origin(self, cell_px: int) -> tuple[int, int]:
        """(row, column) of the grid cell nearest to the north-west corner; rows grow southward.

        Args:
            cell_px: pixels per cell, such as the downsampling factor of a VAE.
        """
        cell = cell_px * self.transform.a
        return math.floor(-self.transform.f / cell + 0.5 + _TIE), math.floor(self.transform.c / cell + 0.5 + _TIE)

    def grid_name(self, cell_px: int) -> str:
        """Name of the grid the cells belong to, for the noise field: ``earth/EPSG:32615/4.0000`` or ``local``."""
        if self.crs is None:
            return self.grid
        return f"{self.grid}/{crs_name(self.crs)}/{cell_px * self.transform.a:.4f}"

    def image(
        self,
        array: np.ndarray,
        *,
        bands: Sequence[Band | str] | None = None,
        valid: np.ndarray | None = None,
        acquisition: Acquisition | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> GeoImage:
        """GeoImage of pixels (H, W, C) made for this canvas; without CRS and transform on a local canvas.

        Raises:
            InputError: the array has another size than the canvas.
        """
        if array.shape[:2] != (self.height, self.width):
            raise InputError(f"array {array.shape} is not {self.height} x {self.width}; make it the canvas's size")
        transform = self.transform if self.crs is not None else None
        return GeoImage(array, bands, self.crs, transform, valid, acquisition, provenance)

    def _earth(self) -> CRS:
        if self.crs is None:
            raise InputError("a local canvas lies on no place; build it with Canvas.around or Canvas.from_bbox")
        return self.crs


def _require_extent(metres: float | int) -> None:
    if metres > MAX_EXTENT:
        raise InputError(
            f"the canvas is {metres / 1000:.4g} km long, more than {MAX_EXTENT / 1000:g} km; "
            "make it smaller or split it into several"
        )


def _grid(left: float | int, top: float | int, step: float | int) -> Affine:
    return Affine(float(step), 0.0, float(left), 0.0, -float(step), float(top))


def _cover(extent: float, step: float) -> int:
    """Pixels that cover an extent."""
    return max(1, math.ceil(extent / step - _SLIVER))


def _checked_bbox(bbox: Sequence[float | int]) -> tuple[float, float, float, float]:
    if len(bbox) != 4:
        raise InputError(f"bbox has {len(bbox)} numbers; give west south east north in degrees")
    west, south, east, north = (float(value) for value in bbox)
    Place(west, south), Place(east, north)  # checks the ranges
    if west >= east:
        raise InputError(
            f"bbox west {west:g} is not less than east {east:g}; give west south east north "
            "(split a box across the antimeridian in two)"
        )
    if south >= north:
        raise InputError(f"bbox south {south:g} is not less than north {north:g}; give west south east north")
    return west, south, east, north


def _envelope(crs: CRS, west: float, south: float, east: float, north: float) -> tuple[float, float, float, float]:
    # The edges of a box in degrees are curved in the CRS, and around a pole they are circles: sample them densely.
    along = np.linspace(0, 1, 361)
    lon, lat = west + along * (east - west), south + along * (north - south)
    edge_lon = np.concatenate([lon, lon, np.full_like(lat, west), np.full_like(lat, east)])
    edge_lat = np.concatenate([np.full_like(lon, south), np.full_like(lon, north), lat, lat])
    x, y = project(CRS.from_epsg(4326), crs, edge_lon, edge_lat)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(
            f"bbox {west:g} {south:g} {east:g} {north:g} does not fit into {crs_name(crs)}; "
            "make it smaller or give another CRS"
        )
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
