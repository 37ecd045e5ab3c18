"""The frame of a scene: x east, y north, z up, in metres, and its way to places on the Earth and back.

x and y follow the axes of a projected CRS, so "north" here is grid north; headings are given from TRUE north and turned
by the grid convergence at the point. The Earth is flat within a scene: z is height above one level surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pyproj import CRS, Geod

from gensat.errors import InputError
from gensat.geo.crs import crs_name, from_lonlat, ground_metre, require_metric, to_lonlat
from gensat.types import GeoImage, Place

_GEOD = Geod(ellps="WGS84")
_STEP = 20.0  # metres walked north to see where north is: short for the curvature, long for float64


@dataclass(frozen=True, repr=False)
class SceneFrame:
    """Local metres of a scene.

    Args:
        crs: projected CRS in metres; None for a scene on no place, whose y axis is then taken to be true north.
        origin: (x, y, z) of the local origin: x and y in the CRS, z in metres of whatever datum the heights have.
        metre: metres on the ground per metre of the CRS: 1 for UTM and national grids (their distortion of less than
            2 percent is kept), 1 / cos(latitude) less than 1 for Web Mercator.

    Raises:
        InputError: the CRS is in degrees or feet.
    """

    crs: CRS | None
    origin: tuple[float | int, float | int, float | int] = (0.0, 0.0, 0.0)
    metre: float | int = 1.0

    def __post_init__(self) -> None:
        if self.crs is not None:
            object.__setattr__(self, "crs", require_metric(self.crs))
        if not (len(self.origin) == 3 and np.isfinite([*self.origin, self.metre]).all() and self.metre > 0):
            raise InputError(f"origin {self.origin} of a scene frame is not finite; give (x, y, z) in metres")
        object.__setattr__(self, "origin", tuple(float(v) for v in self.origin))

    def __repr__(self) -> str:
        return f"SceneFrame({'no place' if self.crs is None else crs_name(self.crs)}, origin {self.origin})"

    @classmethod
    def around(cls, image: GeoImage, z: float | int = 0.0) -> SceneFrame:
        """Frame whose origin is the centre of an image, at height ``z`` of its datum.

        Raises:
            InputError: the image has a CRS in degrees or feet.
        """
        if image.crs is None or image.transform is None:
            return cls(None, (0.0, 0.0, z))
        crs = require_metric(image.crs)
        x, y = image.transform @ (image.width / 2, image.height / 2)
        return cls(crs, (x, y, z), ground_metre(crs, x, y))

    def to_crs(self, x: Any, y: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Local x and y (metres, any broadcastable shapes) to coordinates of the CRS, float64."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        return np.asarray(x / self.metre + self.origin[0]), np.asarray(y / self.metre + self.origin[1])

    def from_crs(self, x: Any, y: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Inverse of :meth:`to_crs`."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        return np.asarray((x - self.origin[0]) * self.metre), np.asarray((y - self.origin[1]) * self.metre)

    def lonlat(self, x: Any, y: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Local x and y to (lon, lat) in degrees, float64.

        Raises:
            InputError: the scene is on no place.
        """
        return to_lonlat(self._earth(), *self.to_crs(x, y))

    def local(self, lon: Any, lat: Any) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """(lon, lat) in degrees to local x and y in metres; inverse of :meth:`lonlat`. Raises InputError likewise."""
        return self.from_crs(*from_lonlat(self._earth(), lon, lat))

    def place(self, x: float | int, y: float | int) -> Place:
        """The place of one local point. Raises InputError on no place."""
        lon, lat = self.lonlat(x, y)
        return Place(float(lon), float(lat))

    def convergence(self, x: float | int = 0.0, y: float | int = 0.0) -> float:
        """Grid convergence at a local point: how many degrees grid north is clockwise of true north; 0 on no place.

        It is measured by walking north along the ellipsoid, so it holds in any CRS that keeps angles.
        """
        if self.crs is None:
            return 0.0
        lon, lat = (float(v) for v in self.lonlat(x, y))
        azimuth = 0.0 if lat < 89.9 else 180.0  # close to the pole, walk away from it
        lon, lat, _ = _GEOD.fwd(lon, lat, azimuth, _STEP)
        east, north = self.local(lon, lat)
        grid = np.degrees(np.arctan2(float(east) - x, float(north) - y)) - azimuth
        return float((180.0 - grid) % 360.0 - 180.0)

    def azimuth(self, heading: float | int, x: float | int = 0.0, y: float | int = 0.0) -> float:
        """Degrees clockwise from the y axis (grid north) of a heading clockwise from true north, at a local point."""
        return float((heading - self.convergence(x, y)) % 360.0)

    def heading(self, azimuth: float | int, x: float | int = 0.0, y: float | int = 0.0) -> float:
        """Inverse of :meth:`azimuth`, 0 to 360."""
        return float((azimuth + self.convergence(x, y)) % 360.0)

    def _earth(self) -> CRS:
        if self.crs is None:
            raise InputError("the scene lies on no place, so lon and lat mean nothing in it; give an image with a CRS")
        return self.crs
