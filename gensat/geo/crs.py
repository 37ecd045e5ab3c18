"""Coordinate reference systems: parsing, UTM zones, lon/lat in and out, pixel size on the ground.

Every coordinate pair is (x, y) = (easting, northing) or (lon, lat), whatever axis order an authority prescribes.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Float
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError

from gensat.errors import InputError

_WGS84 = CRS.from_epsg(4326)
_epsg = lru_cache(maxsize=128)(CRS.from_epsg)
_GEOD = Geod(ellps="WGS84")

# UPS as EPSG lists it with easting first; 32661 and 32761 are the same grids with northing first, which some
# readers take literally.
_UPS_NORTH, _UPS_SOUTH = 5041, 5042

_DISTORTION = 3.0  # how far a metre of a CRS may be from one on the ground: Web Mercator up to 70 degrees
_OUTSIDE = 1.02  # the same outside of a CRS's area of use: UTM one zone away, but not two
_ANISOTROPY = 1.2  # and how much longer it may be in one direction than in another, as pixels are square


def parse_crs(value: Any) -> CRS | None:
    """Reads an EPSG code, WKT, PROJ text or CRS object; None stays None.

    Raises:
        InputError: pyproj does not know it.
    """
    if value is None or isinstance(value, CRS):
        return value
    try:
        return CRS.from_user_input(value)
    except CRSError as error:
        raise InputError(f"coordinate system {str(value)[:60]!r} is not known; give one such as EPSG:32615") from error


def require_metric(crs: CRS) -> CRS:
    """The horizontal part of ``crs`` if it is projected in metres; heights of a compound or 3-D system are dropped.

    Raises:
        InputError: it is geographic (degrees), in feet, or not projected at all.
    """
    if not crs.is_projected:
        raise InputError(f"{crs.to_string()[:60]} is not a projected system; give one in metres such as EPSG:32615")
    if any(not math.isclose(axis.unit_conversion_factor, 1.0) for axis in crs.axis_info[:2]):
        raise InputError(
            f"{crs.to_string()[:60]} is in {crs.axis_info[0].unit_name}; give a system in metres such as EPSG:32615"
        )
    flat = crs.is_compound or len(crs.axis_info) > 2
    return crs.to_2d() if flat else crs


def utm_crs(lon: float, lat: float) -> CRS:
    """UTM zone of a point with the exceptions for Norway and Svalbard; UPS north of 84 N and south of 80 S.

    Args:
        lon: degrees east, -180 to 180.
        lat: degrees north, -90 to 90.
    """
    if lat > 84:
        return _epsg(_UPS_NORTH)
    if lat < -80:
        return _epsg(_UPS_SOUTH)
    zone = min(int((lon + 180) // 6) + 1, 60)
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32  # band V: western Norway lies in one zone
    elif lat >= 72 and 0 <= lon < 42:
        zone = 31 + 2 * int((lon + 3) // 12)  # band X: Svalbard has zones 31, 33, 35 and 37 only
    return _epsg((32600 if lat >= 0 else 32700) + zone)


@lru_cache(maxsize=64)
def transformer(source: CRS, target: CRS) -> Transformer:
    """Cached pyproj transformer, x (or lon) first on both sides."""
    return Transformer.from_crs(source, target, always_xy=True)


def to_lonlat(crs: CRS, x: Any, y: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """CRS coordinates to (lon, lat) in degrees, float64; infinite where the CRS is not defined."""
    return project(crs, _WGS84, x, y)


def from_lonlat(crs: CRS, lon: Any, lat: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """(lon, lat) in degrees to CRS coordinates, float64; infinite where the CRS is not defined."""
    return project(_WGS84, crs, lon, lat)


def project(
    source: CRS, target: CRS, x: Any, y: Any
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Coordinates of ``source`` to ``target``, float64, any broadcastable shapes."""
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    u, v = transformer(source, target).transform(x, y)
    return np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64)


def pixel_to_world(
    transform: Affine, columns: Any, rows: Any
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Applies an affine transform to (columns, rows) of any broadcastable shapes; its inverse does the way back."""
    columns, rows = np.asarray(columns, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    return np.asarray(x), np.asarray(y)


def raster_bounds(transform: Affine, height: int, width: int) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a north-up raster, in units of its CRS."""
    (left, right), (top, bottom) = pixel_to_world(transform, [0, width], [0, height])
    return float(left), float(bottom), float(right), float(top)


def shifted(transform: Affine, row: float | int, column: float | int) -> Affine:
    """The transform of a part of a raster that begins at (row, column)."""
    x, y = pixel_to_world(transform, column, row)
    return Affine(transform.a, transform.b, float(x), transform.d, transform.e, float(y))


def require_north_up(transform: Affine) -> None:
    """Checks the geometry contract: columns grow eastward, rows southward, no rotation.

    Raises:
        InputError: the transform is rotated, mirrored or south-up.
    """
    if transform.b != 0 or transform.d != 0 or transform.a <= 0 or transform.e >= 0:
        raise InputError(
            f"transform {tuple(transform)[:6]} is not north-up; open the file with GeoImage.open, which warps it"
        )


def ground_sampling_distance(crs: CRS, transform: Affine, height: int, width: int) -> float | None:
    """Metres on the ground per pixel at the centre of a raster, None where the CRS is not defined.

    Metric grids within 2 percent of the ground (UTM, UPS, national grids) report their own spacing, so that a 10 m
    UTM raster has 10 and not 10.004; others (degrees, Web Mercator) are measured along the ellipsoid.
    """
    columns = width / 2 + np.array([-0.5, 0.5, 0, 0])
    rows = height / 2 + np.array([0, 0, -0.5, 0.5])
    x, y = pixel_to_world(transform, columns, rows)
    lon, lat = to_lonlat(crs, x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    _, _, (across, down) = _GEOD.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    ground = math.sqrt(across * down)
    if ground == 0:  # at a pole that the CRS puts at infinity
        return None
    if crs.is_projected:
        grid = math.sqrt(abs(transform.determinant)) * crs.axis_info[0].unit_conversion_factor
        if abs(grid / ground - 1) <= 0.02:
            return grid
    return ground


def ground_metre(crs: CRS, x: float, y: float) -> float:
    """Metres on the ground of one metre of a CRS at a point, 1 if within 2 percent of it; NaN where not defined."""
    return ground_sampling_distance(crs, Affine(1, 0, x - 0.5, 0, -1, y + 0.5), 1, 1) or math.nan


def metric_crs(value: Any, lon: float, lat: float) -> CRS:
    """A projected CRS in metres that is fit for a place in degrees; the UTM zone or UPS for None.

    Raises:
        InputError: it is unknown, not in metres, or not made for the place: a metre in it is less than a third of one
            on the ground, more than three, a fifth longer in one direction than in another, or, outside the area that
            its authority gives, off by more than 2 percent (a UTM zone two zones away).
    """
    default, chosen = utm_crs(lon, lat), parse_crs(value)
    if chosen is None:
        return default
    chosen = require_metric(chosen)
    x, y = (float(v) for v in from_lonlat(chosen, lon, lat))
    fits = math.isfinite(x) and math.isfinite(y) and _anisotropy(chosen, x, y) <= _ANISOTROPY
    most = _DISTORTION if _made_for(chosen, lon, lat) else _OUTSIDE
    if not fits or not 1 / most < ground_metre(chosen, x, y) < most:
        raise InputError(
            f"{crs_name(chosen)} is not made for lon={lon:g} lat={lat:g}; "
            f"give a CRS of the region, or none for {crs_name(default)}"
        )
    return chosen


def _made_for(crs: CRS, lon: float, lat: float) -> bool:
    """Whether a place lies in the area of use that the authority gives; where it gives none, the whole Earth is."""
    area = crs.area_of_use
    if area is None:
        return True
    across = area.west <= lon <= area.east if area.west <= area.east else lon >= area.west or lon <= area.east
    return across and area.south <= lat <= area.north


def _anisotropy(crs: CRS, x: float, y: float) -> float:
    """How much longer a metre of a CRS is on the ground in one direction than in another: 1 where it keeps angles."""
    lon, lat = np.radians(to_lonlat(crs, x + np.array([-0.5, 0.5, 0, 0]), y + np.array([0, 0, -0.5, 0.5])))
    # In geocentric metres rather than by bearing, which has no meaning at a pole.
    normal = _GEOD.a / np.sqrt(1 - _GEOD.es * np.sin(lat) ** 2)
    across = normal * np.cos(lat)
    points = np.stack([across * np.cos(lon), across * np.sin(lon), normal * (1 - _GEOD.es) * np.sin(lat)])
    if not np.isfinite(points).all():
        return math.inf
    longest, shortest = np.linalg.svd(points[:, 1::2] - points[:, ::2], compute_uv=False)
    return float(longest / shortest) if shortest > 0 else math.inf


def lonlat_bounds(crs: CRS, transform: Affine, height: int, width: int) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees of a raster, its edges densified; infinite where undefined."""
    along = np.linspace(0, 1, 22)
    columns = np.concatenate([along * width, along * width, 0 * along, 0 * along + width, [width / 2]])
    rows = np.concatenate([0 * along, 0 * along + height, along * height, along * height, [height / 2]])
    lon, lat = to_lonlat(crs, *pixel_to_world(transform, columns, rows))
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def crs_name(crs: CRS) -> str:
    """Short stable name: ``EPSG:32615`` where an authority lists the CRS, else a hash of its WKT."""
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else f"wkt-{hashlib.sha256(crs.to_wkt().encode()).hexdigest()[:12]}"


def crs_text(crs: CRS) -> str:
    """What :func:`parse_crs` reads back: ``EPSG:32615`` where an authority lists the CRS, else its WKT."""
    return crs_name(crs) if crs.to_authority(min_confidence=100) else crs.to_wkt()
