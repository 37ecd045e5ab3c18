"""Water levels of a storm surge, from rasters, points or SLOSH cells, at any place: the level of a bathtub.

Models of storm surges (SLOSH, ADCIRC, GTSM) and tide gauges give levels at sea, coarser than a DEM and with nothing inland.
Between them a level is interpolated, and inland the levels of the coast go on: the bathtub decides what they reach.
Levels have to be above the same vertical datum as the DEM; an offset brings them there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from affine import Affine
from jaxtyping import Float
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from scipy.spatial import cKDTree

from gensat.errors import InputError
from gensat.geo.crs import parse_crs, pixel_to_world, project
from gensat.geo.elevation import UNITS, HeightMap
from gensat.geo.raster import require_file

METHODS = ("idw", "nearest", "plane")
"""How levels between points are found: inverse distance squared, the nearest point's, or a plane through all of them."""

COLUMNS = ("level", "water_level", "surge", "wse", "stage", "height", "elevation", "z")
"""Attributes that hold a level, in the order in which they are looked for; case does not matter."""

_RASTERS = (".tif", ".tiff", ".vrt", ".img", ".asc", ".nc", ".grd")
_X, _Y = ("lon", "longitude", "long", "x", "easting"), ("lat", "latitude", "y", "northing")
_DRY = 90.0  # SLOSH writes 99.9 or -99.9, of any unit, where it stays dry
_ALL = 32  # points; of more, inverse distances count the nearest ones only
_FAR = 100_000.0  # metres between a DEM and the nearest level at most
_CHUNK = 1 << 17  # places at a time, whose distances to _ALL points stay below 100 MB


@dataclass(frozen=True, eq=False)
class Surge:
    """Levels at points, or on a grid, in metres above the datum of the DEM.

    Args:
        x: (n) of the points, or of the cells of the raster that hold a level, in ``crs``.
        y: (n) likewise.
        levels: (n) metres.
        crs: of x and y.
        method: one of ``METHODS``; a raster is bilinear, and ``nearest`` beyond its cells.
        grid: levels of a raster (h, w), NaN where none, and its transform; None of points.
        notes: what the user should know; sentences without a full stop.
    """

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    levels: Float[np.ndarray, " n"]
    crs: CRS
    method: str = "idw"
    grid: tuple[np.ndarray, Affine] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} for levels is not known; give one of {', '.join(METHODS)}")
        if self.method == "plane" and np.linalg.matrix_rank(self._plane_rows(self.x, self.y), tol=1e-3) < 3:
            raise InputError("a plane needs three points that are not on one line; give more, or take idw")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        column: str | None = None,
        unit: str | None = None,
        offset: float | int = 0.0,
        method: str = "idw",
    ) -> Surge:
        """Reads levels.

        Args:
            path: a raster with one band of levels; a csv with columns lon, lat (or x, y in degrees) and a level; or a vector
                file (GeoJSON, GeoPackage, Shapefile) of points, or of polygons as SLOSH has them, whose centres count.
            column: that holds the level, such as ``c3_high`` of a SLOSH file; else the first of ``COLUMNS`` there is.
            unit: of the levels, one of ``gensat.geo.elevation.UNITS``; metres, or what a raster says.
            offset: metres to add, from the datum of the levels to that of the DEM.
            method: one of ``METHODS``.

        Raises:
            InputError: unreadable, no such column, no CRS, no levels, or levels that no water has.
        """
        path = require_file(path)
        if unit is not None and unit.strip().lower() not in UNITS:
            raise InputError(f"unit {unit!r} of levels is not known; give one of m, ft, us-ft, cm, dm, km")
        factor = UNITS[unit.strip().lower()] if unit else 1.0
        if path.suffix.lower() in _RASTERS:
            return cls._of_raster(path, unit, float(offset), method)
        x, y, stored, crs = _points(path, column)
        known = np.isfinite(stored) & (np.abs(stored) < _DRY) & np.isfinite(x) & np.isfinite(y)
        if not known.any():
            raise InputError(f"{path.name} holds no water level; give a file with levels, in metres or with their unit")
        notes = [f"levels of {path.name} are moved by {offset:g} m to the datum of the DEM"] if offset else []
        if dry := int((~known).sum()):
            notes.append(f"{dry} of {len(known)} places in {path.name} hold no level (dry) and are left out")
        levels = _checked(stored[known] * factor + offset, path.name)
        return cls(x[known], y[known], levels, crs, method, None, tuple(notes))

    @classmethod
    def _of_raster(cls, path: Path, unit: str | None, offset: float, method: str) -> Surge:
        heights = HeightMap.open(path, unit=unit)
        if heights.crs is None or heights.transform is None:
            raise InputError(f"{path.name} has no CRS; give a raster of levels with one")
        values = heights.heights.astype(np.float64)
        values[np.abs(values) >= _DRY * (UNITS[unit.strip().lower()] if unit else 1.0)] = np.nan
        rows, columns = np.nonzero(np.isfinite(values))
        if not len(rows):
            raise InputError(f"{path.name} holds no water level; give a file with levels, in metres or with their unit")
        values += offset
        x, y = pixel_to_world(heights.transform, columns + 0.5, rows + 0.5)
        levels = _checked(values[rows, columns], path.name)
        said = [note for note in heights.notes if "datum" not in note]
        if offset:
            said.append(f"levels of {path.name} are moved by {offset:g} m to the datum of the DEM")
        return cls(x, y, levels, heights.crs, method, (values, heights.transform), tuple(said))

    def require_near(self, x: float, y: float, crs: CRS) -> None:
        """Raises InputError if no level is within 100 km of a place."""
        apart = float(self._tree(crs).query([x, y])[0])
        if not apart <= _FAR:
            raise InputError(
                f"the nearest water level is {apart / 1000:.0f} km from the DEM; give levels of the place, as lon and lat"
            )

    def at(
        self, x: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"], crs: CRS
    ) -> Float[np.ndarray, "*shape"]:
        """Levels at places, each a function of its own place alone, so that blocks equal the whole.

        Args:
            x: of a CRS in metres.
            y: likewise.
            crs: of x and y.

        Returns:
            float64 metres.
        """
        flat = np.stack([np.ravel(x), np.ravel(y)], axis=1)
        made = np.empty(len(flat))
        for first in range(0, len(flat), _CHUNK):
            made[first : first + _CHUNK] = self._at(flat[first : first + _CHUNK], crs)
        return made.reshape(np.shape(x))

    def _at(self, places: np.ndarray, crs: CRS) -> np.ndarray:
        if self.grid is not None and self.method != "plane":
            inside = self._bilinear(places, crs)
            open_ = np.isnan(inside)
            if open_.any():
                inside[open_] = self.levels[self._tree(crs).query(places[open_])[1]]
            return inside
        if self.method == "plane":
            u, v = project(crs, self.crs, *places.T)
            return self._plane_rows(u, v) @ self._plane
        tree = self._tree(crs)
        if self.method == "nearest" or len(self.levels) == 1:
            return self.levels[tree.query(places)[1]]
        apart, which = tree.query(places, k=min(_ALL, len(self.levels)))
        with np.errstate(divide="ignore"):
            weights = 1 / apart**2
        exact = ~np.isfinite(weights)  # on a point
        weights[exact.any(axis=1)] = exact[exact.any(axis=1)]
        return (weights * self.levels[which]).sum(1) / weights.sum(1)

    def _bilinear(self, places: np.ndarray, crs: CRS) -> np.ndarray:
        """Over the corners that hold a level; NaN where none does."""
        assert self.grid is not None
        values, transform = self.grid
        columns, rows = pixel_to_world(~transform, *project(crs, self.crs, *places.T))
        columns, rows = (
            np.nan_to_num(columns, posinf=-9, neginf=-9) - 0.5,
            np.nan_to_num(rows, posinf=-9, neginf=-9) - 0.5,
        )
        left, top = np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)
        total, weight = np.zeros(len(places)), np.zeros(len(places))
        for down in (0, 1):
            for right in (0, 1):
                r, c = top + down, left + right
                inside = (r >= 0) & (r < values.shape[0]) & (c >= 0) & (c < values.shape[1])
                value = np.where(inside, values[np.where(inside, r, 0), np.where(inside, c, 0)], np.nan)
                share = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
                share = np.where(np.isfinite(value), share, 0.0)
                total += share * np.where(share > 0, value, 0.0)
                weight += share
        with np.errstate(invalid="ignore"):
            return np.where(weight > 1e-9, total / weight, np.nan)

    def _tree(self, crs: CRS) -> cKDTree:
        if crs not in self._trees:
            self._trees[crs] = cKDTree(np.stack(project(self.crs, crs, self.x, self.y), axis=1))
        return self._trees[crs]

    @cached_property
    def _trees(self) -> dict[CRS, cKDTree]:
        return {}

    def _plane_rows(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[1, x, y] from the middle of the points, in their own spread."""
        scale = max(float(np.ptp(self.x)), float(np.ptp(self.y))) or 1.0
        return np.stack([np.ones_like(x), (x - self.x.mean()) / scale, (y - self.y.mean()) / scale], axis=1)

    @cached_property
    def _plane(self) -> np.ndarray:
        return np.linalg.lstsq(self._plane_rows(self.x, self.y), self.levels, rcond=None)[0]

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "levels": len(self.levels),
            "lowest": float(self.levels.min()),
            "highest": float(self.levels.max()),
            "method": "bilinear, beyond it nearest"
            if self.grid is not None and self.method != "plane"
            else self.method,
        }


def _checked(levels: np.ndarray, name: str) -> np.ndarray:
    if np.abs(levels).max() > 50:
        raise InputError(
            f"water levels of {name} run from {levels.min():g} to {levels.max():g} m, as no sea does; give their unit, such as ft or cm"
        )
    return levels.astype(np.float64)


def _points(path: Path, column: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, CRS]:
    """Places and stored values of a csv or vector file."""
    try:
        meta, _, geometry, columns = pyogrio.raw.read(path, force_2d=True)
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise InputError(f"{path} cannot be read as water levels; give a raster, a csv or a vector file") from error
    names = [str(name) for name in meta["fields"]]
    named = {name.strip().lower(): values for name, values in zip(names, columns, strict=True)}
    if column is not None and column.strip().lower() not in named:
        raise InputError(f"{path.name} has no column {column!r}; it has {', '.join(names) or 'none'}")
    chosen = column or next((name for name in COLUMNS if name in named), None)
    if chosen is None:
        raise InputError(
            f"{path.name} has no column of levels ({', '.join(names[:12]) or 'none'}); name it, such as c3_high of a SLOSH file"
        )
    levels = _numbers(named[chosen.strip().lower()])
    if geometry is not None and len(geometry):
        crs = parse_crs(meta["crs"])
        if crs is None:
            raise InputError(f"{path.name} has no CRS; save it with one, or as GeoJSON in lon/lat")
        centres = shapely.centroid(shapely.from_wkb(geometry))
        return shapely.get_x(centres), shapely.get_y(centres), levels, crs
    x, y = (next((named[name] for name in either if name in named), None) for either in (_X, _Y))
    if x is None or y is None:
        raise InputError(f"{path.name} has no columns lon and lat; name them so, in degrees")
    lon, lat = _numbers(x), _numbers(y)
    if np.nanmax(np.abs(lat), initial=0) > 90 or np.nanmax(np.abs(lon), initial=0) > 180:
        raise InputError(f"{path.name} has places beyond 180 or 90 degrees; give lon and lat, or a file with a CRS")
    return lon, lat, levels, CRS.from_epsg(4326)


def _numbers(values: Any) -> np.ndarray:
    """float64; NaN where there is no number."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return np.array([_number(value) for value in values], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
