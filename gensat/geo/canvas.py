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
    ground_sampling_distance,
    lonlat_bounds,
    parse_crs,
    pixel_to_world,
    project,
    raster_bounds,
    require_metric,
    shifted,
    to_lonlat,
    utm_crs,
)
from gensat.types import Acquisition, Band, GeoImage, Place

MAX_EXTENT = 200_000.0
"""Longest side of a canvas in metres: beyond it one UTM zone is no longer a faithful plane."""

_DISTORTION = 3.0  # how far a metre of a CRS may be from one on the ground: Web Mercator up to 70 degrees
_TIE = 1e-6  # cell indices are rounded half up; this much slack keeps exact halves from flipping with float error


@dataclass(frozen=True, repr=False)
class Canvas:
    """The pixels to be made. Build one with :meth:`around`, :meth:`from_bbox`, :meth:`like` or :meth:`local`.

    Args:
        width: columns.
        height: rows.
        gsd: metres per pixel of the grid; None on a local canvas of unknown scale.
        crs: projected CRS in metres; None on a local canvas.
        transform: affine from pixel corners (column, row) to CRS metres; a local canvas has its own plane, in metres
            or, without gsd, in pixels.
        grid: ``"earth"`` or ``"local"``, the world that noise and windows are anchored to.

    Raises:
        InputError: no pixels, or a gsd that is not above 0.
    """

    width: int
    height: int
    gsd: float | int | None
    crs: CRS | None
    transform: Affine
    grid: str = "earth"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"a canvas of {self.width} x {self.height} pixels is empty; give sizes of 1 or more")
        if self.gsd is not None:
            _require_gsd(self.gsd)

    @classmethod
    def around(cls, place: Place, gsd: float | int, width: int, height: int, *, crs: Any = None) -> Canvas:
        """Canvas whose exact centre is ``place``.

        Args:
            place: the centre.
            gsd: metres per pixel, in the grid of the CRS.
            width: columns.
            height: rows.
            crs: projected CRS in metres; default the UTM zone of the place (UPS beyond 84 N and 80 S).

        Raises:
            InputError: a CRS that is not in metres or not defined at the place, or a side of more than 200 km.
        """
        system = _metric_crs(crs, place)
        x, y = from_lonlat(system, place.lon, place.lat)
        _require_extent(max(width, height) * gsd)
        return cls(width, height, gsd, system, _grid(float(x) - width / 2 * gsd, float(y) + height / 2 * gsd, gsd))

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
            gsd: metres per pixel; taken from ``width`` (or else ``height``) when not given.
            width: columns; follows from the box and gsd when not given.
            height: rows; follows likewise.
            crs: projected CRS in metres; default the UTM zone (or UPS) of the centre of the box.

        Raises:
            InputError: west >= east, south >= north, neither gsd nor a size, sizes that disagree with box and gsd by
                more than a pixel, or a canvas of more than 200 km.
        """
        west, south, east, north = _checked_bbox(bbox)
        system = _metric_crs(crs, Place((west + east) / 2, (south + north) / 2))
        left, bottom, right, top = _envelope(system, west, south, east, north)
        across, down = right - left, top - bottom
        if gsd is None and width is None and height is None:
            raise InputError("a bbox alone does not fix the pixels; give gsd in metres per pixel, or width")
        if gsd is not None:
            _require_gsd(gsd)
        if (width is not None and width < 1) or (height is not None and height < 1):
            raise InputError(f"a canvas of {width} x {height} pixels is empty; give sizes of 1 or more")
        _require_extent(max(across, down))
        step = float(gsd or (across / width if width else down / (height or 1)))
        columns, rows = width or _cover(across, step), height or _cover(down, step)
        for name, pixels, extent in (("width", columns, across), ("height", rows, down)):
            if abs(pixels * step - extent) > step * (1 + 1e-6):
                raise InputError(
                    f"{name} {pixels} at {step:.6g} m is {pixels * step:.6g} m but the bbox is {extent:.6g} m; "
                    f"give {name} {_cover(extent, step)} or leave out one of bbox, gsd and size"
                )
        return cls(columns, rows, step, system, _grid(left, top, step))

    @classmethod
    def local(cls, width: int, height: int, gsd: float | int | None = None) -> Canvas:
        """Canvas on no place: its own plane with origin (0, 0); ``gsd`` in metres per pixel if known."""
        return cls(width, height, gsd, None, _grid(0.0, 0.0, gsd or 1.0), "local")

    @classmethod
    def like(cls, image: GeoImage) -> Canvas:
        """Canvas on the pixels of an image: local if it has no georeference.

        Raises:
            InputError: the image is in degrees or feet, or its pixels are not square.
        """
        if image.crs is None or image.transform is None:
            return cls.local(image.width, image.height, image.gsd)
        require_metric(image.crs)
        across, down = image.transform.a, -image.transform.e
        if abs(across - down) * max(image.width, image.height) > 0.01 * across:
            raise InputError(f"pixels of {across:g} x {down:g} m are not square; warp the image to square pixels first")
        return cls(image.width, image.height, across, image.crs, image.transform)

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
        """Metres on the ground per pixel: the gsd, except in a CRS that stretches distances such as Web Mercator."""
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
        """Part of the canvas from (row, col) on, same grid; it may reach outside."""
        transform = shifted(self.transform, row, col)
        return Canvas(width, height, self.gsd, self.crs, transform, self.grid)

    def padded(self, multiple: int) -> tuple[Canvas, tuple[slice, slice]]:
        """Canvas grown to a multiple, and the (rows, columns) slices that cut the original out of it again.

        It grows to the south and east only, so that the origin, and with it the noise, stays where it was.
        """
        height, width = (-(-size // multiple) * multiple for size in (self.height, self.width))
        return self.crop(0, 0, height, width), (slice(0, self.height), slice(0, self.width))

    def require_multiple(self, multiple: int) -> None:
        """Checks both sides against the model's multiple; see :func:`require_multiple`."""
        require_multiple(self.width, self.height, multiple)

    def snapped(self, cell_px: int) -> Canvas:
        """Canvas with its origin moved to the nearest corner of a grid of cells of ``cell_px`` pixels."""
        cell = cell_px * self.transform.a
        row, col = self.cell_origin(cell_px)
        transform = _grid(col * cell, -row * cell, self.transform.a)
        return Canvas(self.width, self.height, self.gsd, self.crs, transform, self.grid)

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


def require_multiple(width: int, height: int, multiple: int) -> None:
    """Checks a size in pixels against the multiple a model works in.

    Raises:
        InputError: a side is off; the message names the nearest two sizes.
    """
    for name, size in (("width", width), ("height", height)):
        if size % multiple or size < multiple:
            below = size // multiple * multiple
            choice = f"{below} or {below + multiple}" if below else f"{multiple}"
            raise InputError(f"{name} {size} is not a multiple of {multiple}; use {choice}")


def _require_gsd(gsd: float | int) -> None:
    if not (math.isfinite(gsd) and gsd > 0):
        raise InputError(f"gsd {gsd} is not a ground sampling distance; give metres per pixel above 0")


def _require_extent(metres: float | int) -> None:
    if metres > MAX_EXTENT:
        raise InputError(
            f"the canvas is {metres / 1000:.4g} km long, more than {MAX_EXTENT / 1000:g} km; "
            "make it smaller or split it into several"
        )


def _grid(left: float | int, top: float | int, step: float | int) -> Affine:
    return Affine(float(step), 0.0, float(left), 0.0, -float(step), float(top))


def _metric_crs(crs: Any, place: Place) -> CRS:
    default = utm_crs(place.lon, place.lat)
    chosen = parse_crs(crs)
    if chosen is None:
        return default
    x, y = from_lonlat(require_metric(chosen), place.lon, place.lat)
    ground = None
    if np.isfinite(x) and np.isfinite(y):
        ground = ground_sampling_distance(chosen, Affine(1, 0, float(x) - 0.5, 0, -1, float(y) + 0.5), 1, 1)
    if ground is None or not 1 / _DISTORTION < ground < _DISTORTION:
        raise InputError(
            f"{crs_name(chosen)} is not made for lon={place.lon:g} lat={place.lat:g}; "
            f"give a CRS of the region, or none for {crs_name(default)}"
        )
    return chosen


def _cover(extent: float, step: float) -> int:
    """Pixels that cover an extent; a sliver of a thousandth of a pixel does not count."""
    return max(1, math.ceil(extent / step - 1e-3))


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
