"""One sample that is to be packed: where its pixels are and what is known of it."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pyproj import CRS

from ...errors import InputError
from ...geo.crs import pixel_to_world, to_lonlat
from ...types import Acquisition, PartialDate, Place

METRES_PER_DEGREE = 111_320.0
_NAMED_DATE = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<gap>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=gap)(?P<day>0[1-9]|[12]\d|3[01])(?!\d)"
)


@dataclass
class Record:
    """A sample before it is packed.

    Args:
        key: unique name; becomes the name of its members.
        path: file of its pixels.
        source: short name of where it comes from.
        caption, klass, place, acquisition, licence, sensor: what is known, as in ``Sample``.
        size: (height, width) in pixels.
        crs: as ``parse_crs`` reads it, or None.
        transform: affine from pixel corners to CRS, or None.
        footprint: outline on the ground in degrees, longitudes within -180 to 180; None when unknown.
        window: (row, column) of the tile in its scene; None for a whole picture.
        layout: file of its own map, or None.
        split: what a column says, ``train`` or ``heldout``; None without.
        more: further values for the json member.
    """

    key: str
    path: Path
    source: str
    caption: str = ""
    klass: str | None = None
    place: Place | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    licence: str | None = None
    size: tuple[int, int] | None = None
    crs: str | None = None
    transform: Affine | None = None
    footprint: Any = None
    window: tuple[int, int] | None = None
    layout: Path | None = None
    split: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def describe(self, split: str) -> dict[str, Any]:
        """The json member: only what is known."""
        bounds = None if self.footprint is None else bounds_of(self.footprint)
        values = {
            "source": self.source,
            "lon": None if self.place is None else round(self.place.lon, 8),
            "lat": None if self.place is None else round(self.place.lat, 8),
            "gsd_m": None if self.acquisition.gsd is None else round(self.acquisition.gsd, 6),
            "date": str(self.acquisition.date) or None,
            "caption": self.caption or None,
            "class": self.klass,
            "cloud_cover": self.acquisition.cloud_cover,
            "sensor": self.acquisition.sensor,
            "crs": self.crs,
            "transform": None if self.transform is None else [round(v, 9) for v in tuple(self.transform)[:6]],
            "bounds": None if bounds is None else [round(v, 8) for v in bounds],
            "licence": self.licence,
            **self.more,
            "split": split,
        }
        return {name: value for name, value in values.items() if value is not None}


def safe_key(*parts: str) -> str:
    """A member name without dots, spaces and folders: ``a/b c.1`` becomes ``a-b_c_1``."""
    return "-".join(re.sub(r"[^\w()+-]+", "_", part).strip("_") or "x" for part in parts)


def unique_keys(records: list[Record]) -> None:
    """Gives records of the same key numbers, in their order."""
    seen: dict[str, int] = {}
    taken = {record.key for record in records}
    for record in records:
        count = seen.get(record.key, 0)
        seen[record.key] = count + 1
        if count:
            while (key := f"{record.key}-{count}") in taken:
                count += 1
            taken.add(key)
            record.key = key


def date_in(name: str, pattern: str | None) -> PartialDate:
    """The date in a file name: by a pattern with groups named year, month and day (or the first three), else YYYYMMDD with or without dashes.

    Raises:
        InputError: the pattern is no regular expression, has no groups, or finds what is no date.
    """
    try:
        match = re.search(pattern, name) if pattern else _NAMED_DATE.search(name)
    except re.error as error:
        raise InputError(
            f"date pattern {pattern!r} is no regular expression ({error}); group year, month and day"
        ) from error
    if match is None:
        return PartialDate()
    named = match.groupdict()
    groups = [named.get(part) for part in ("year", "month", "day")] if "year" in named else list(match.groups())[:3]
    if not groups or groups[0] is None:
        raise InputError(rf"date pattern {pattern!r} has no groups; write such as (\d{{4}})(\d\d)(\d\d)")
    return PartialDate(*(None if g is None else int(g) for g in groups))


def outline(crs: CRS, transform: Affine, height: int, width: int) -> Any:
    """Footprint of a raster in degrees: its edges densified, cut at the antimeridian; None where the CRS is not defined."""
    along = np.linspace(0, 1, 9)
    columns = np.concatenate([along, along * 0 + 1, along[::-1], along * 0]) * width
    rows = np.concatenate([along * 0, along, along * 0 + 1, along[::-1]]) * height
    lon, lat = to_lonlat(crs, *pixel_to_world(transform, columns, rows))
    return on_globe(lon, lat)


def box_around(place: Place, gsd: float | int, height: int, width: int) -> Any:
    """Footprint of a north-up picture of which only centre and gsd are known, in degrees."""
    half_lat = height * gsd / 2 / METRES_PER_DEGREE
    half_lon = width * gsd / 2 / METRES_PER_DEGREE / max(math.cos(math.radians(place.lat)), 1e-6)
    lon = place.lon + half_lon * np.array([-1, 1, 1, -1])
    lat = place.lat + half_lat * np.array([1, 1, -1, -1])
    return on_globe(lon, lat)


def bounds_of(footprint: Any) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees; as in GeoJSON west is above east where it crosses the antimeridian."""
    west, south, east, north = (float(v) for v in shapely.bounds(footprint))
    if east - west > 180:
        lon = shapely.get_coordinates(footprint)[:, 0]
        west, east = float(lon[lon > 0].min()), float(lon[lon < 0].max())
    return west, south, east, north


def centre_of(footprint: Any) -> Place:
    """The middle of an outline."""
    west, south, east, north = bounds_of(footprint)
    if west <= east:
        point = shapely.centroid(footprint)
        return Place(point.x, point.y)
    return Place(((west + east + 360) / 2 + 180) % 360 - 180, (south + north) / 2)


def on_globe(lon: np.ndarray, lat: np.ndarray) -> Any:
    """A ring of (lon, lat) as a polygon with longitudes in -180 to 180, in two parts where it crosses the antimeridian."""
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    lon = lon[0] + (lon - lon[0] + 180) % 360 - 180
    ring = shapely.make_valid(shapely.polygons(np.stack([lon, lat], axis=1)))
    if lon.min() >= -180 and lon.max() <= 180:
        return ring
    parts = []
    for turn in (-360.0, 0.0, 360.0):
        moved = shapely.transform(ring, lambda xy, turn=turn: xy + np.array([turn, 0.0]))
        parts.append(shapely.clip_by_rect(moved, -180, -90, 180, 90))
    return shapely.union_all(parts)
