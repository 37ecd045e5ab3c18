"""Where the sun stands: from a place and a time, by pvlib's implementation of NREL's solar position algorithm.

Reda and Andreas 2004, "Solar position algorithm for solar radiation applications", Solar Energy 76: accurate to 0.0003 degrees
from the year -2000 to 6000. Azimuths are degrees clockwise from TRUE north; a scene whose y axis is grid north turns them by the grid
convergence of its place.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from gensat.errors import InputError, require_number
from gensat.types import Place


@dataclass(frozen=True)
class SunPosition:
    """Direction to the centre of the sun.

    Args:
        azimuth: degrees clockwise from true north, 0 to 360.
        elevation: degrees above the horizontal, -90 to 90.

    Raises:
        InputError: a value is not finite, or an elevation out of range.
    """

    azimuth: float | int
    elevation: float | int

    def __post_init__(self) -> None:
        azimuth, elevation = (
            require_number(self.azimuth, "sun azimuth"),
            require_number(self.elevation, "sun elevation"),
        )
        if not (math.isfinite(azimuth) and -90 <= elevation <= 90):
            raise InputError(
                f"sun azimuth {azimuth:g} elevation {elevation:g} is no direction; give degrees, elevation -90 to 90"
            )
        object.__setattr__(self, "azimuth", azimuth % 360)
        object.__setattr__(self, "elevation", elevation)

    @property
    def up(self) -> bool:
        """Whether some of the disc, 0.27 degrees in radius, is above the horizon of flat ground."""
        return self.elevation > -0.2666

    def direction(self, convergence: float | int = 0.0) -> tuple[float, float, float]:
        """Unit vector to the sun in a frame with x east, y north, z up.

        Args:
            convergence: grid convergence in degrees: the azimuth of grid north, clockwise from true north, where y is grid north.
        """
        azimuth, elevation = math.radians(self.azimuth - convergence), math.radians(self.elevation)
        across = math.cos(elevation)
        return across * math.sin(azimuth), across * math.cos(azimuth), math.sin(elevation)


def parse_time(value: str | datetime.datetime) -> datetime.datetime:
    """A moment as an aware datetime in UTC.

    Args:
        value: ISO 8601 text such as ``2024-06-21T09:00Z`` or ``2024-06-21T11:00+02:00``, or a datetime. A time without a zone is UTC.

    Raises:
        InputError: it is not such a time, or a date without a time of day.
    """
    example = "give one such as 2024-06-21T09:00Z"
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= 10:
            raise InputError(f"time {value!r} has no time of day; {example}")
        try:
            value = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1] in "zZ" else text)
        except ValueError as error:
            raise InputError(f"time {text!r} is not an ISO time; {example}") from error
    if not isinstance(value, datetime.datetime):
        raise InputError(f"time is {value!r}; {example}")
    utc = datetime.timezone.utc
    return value.replace(tzinfo=utc) if value.tzinfo is None else value.astimezone(utc)


def sun_position(
    place: Place, time: str | datetime.datetime, *, refraction: bool = True, altitude: float | int = 0.0
) -> SunPosition:
    """Azimuth and elevation of the sun.

    Args:
        place: where on the Earth.
        time: see :func:`parse_time`.
        refraction: elevation as it is seen through the air (at 12 degrees C and the pressure of the altitude), which lifts the sun by 0.5 degrees at the
            horizon; else the geometric one.
        altitude: metres above sea level.

    Raises:
        InputError: a time that cannot be read, or pvlib is not installed.
    """
    moment = parse_time(time)
    try:
        import pandas
        from pvlib import solarposition
    except ImportError as error:
        raise InputError("the position of the sun needs pvlib; pip install 'gensat[ground]'") from error
    table = solarposition.get_solarposition(
        pandas.DatetimeIndex([moment]), float(place.lat), float(place.lon), altitude=float(altitude)
    )
    row = table.iloc[0]
    return SunPosition(float(row["azimuth"]), float(row["apparent_elevation" if refraction else "elevation"]))
