"""Weather and time of a street: sun, sky, haze, wet or snowy ground."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from gensat.errors import InputError
from gensat.geo.sun import sun_position
from gensat.render.frame import SceneFrame
from gensat.render.sky import Sky
from gensat.types import Place

WEATHERS = ("clear", "scattered", "overcast", "rain", "fog", "snow")
"""Kinds of weather that can be asked for."""

_SHARES = (0.36, 0.26, 0.16, 0.09, 0.06, 0.07)


@dataclass(frozen=True)
class Weather:
    """Air and water.

    Args:
        name: one of ``WEATHERS``.
        turbidity: of the sky.
        cloud_cover: 0 to 1.
        visibility: metres.
        wet: share of water on the ground, 0 to 1.
        snow: share of level ground under snow, 0 to 1.
        seed: of the clouds.
    """

    name: str
    turbidity: float | int
    cloud_cover: float | int
    visibility: float | int
    wet: float | int = 0.0
    snow: float | int = 0.0
    seed: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str | None = None, latitude: float | int = 45.0) -> Weather:
        """Random weather of a kind, or of a random kind (no snow within 30 degrees of the equator).

        Raises:
            InputError: there is no such kind.
        """
        if name is not None and name not in WEATHERS:
            raise InputError(f"there is no weather {name!r}; choose one of {', '.join(WEATHERS)}")
        chosen = name or str(rng.choice(WEATHERS, p=_SHARES))
        if name is None and chosen == "snow" and abs(latitude) < 30:
            chosen = "clear"
        haze, seed, cover = float(rng.uniform(2.2, 4.5)), int(rng.integers(2**31)), float(rng.uniform(0.25, 0.6))
        far = float(rng.uniform(9_000, 35_000))
        return {
            "clear": cls("clear", haze, 0.0 if rng.random() < 0.5 else float(rng.uniform(0.05, 0.2)), far, seed=seed),
            "scattered": cls("scattered", haze, cover, far, seed=seed),
            "overcast": cls("overcast", 4.0, 1.0, far / 2, seed=seed),
            "rain": cls("rain", 5.0, 1.0, float(rng.uniform(900, 3000)), wet=float(rng.uniform(0.6, 1.0)), seed=seed),
            "fog": cls("fog", 8.0, 1.0, float(rng.uniform(90, 350)), wet=0.15, seed=seed),
            "snow": cls(
                "snow", 3.0, float(rng.choice([0.2, 1.0])), far / 4, snow=float(rng.uniform(0.5, 1.0)), seed=seed
            ),
        }[chosen]

    def sky(self, sun: tuple[float, float, float]) -> Sky:
        """The sky of this weather with the sun in a direction of the scene."""
        ground = (0.16, 0.15, 0.13) if not self.snow else (0.55, 0.55, 0.56)
        return Sky(sun, self.turbidity, self.cloud_cover, ground, self.seed)


def draw_time(place: Place, rng: np.random.Generator, lowest: float | int = 6.0) -> datetime.datetime:
    """A moment of some day when the sun stands at least ``lowest`` degrees high at a place; the highest of ten tries if none does."""
    best, when = -90.0, None
    for _ in range(10):
        day = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
            days=int(rng.integers(366))
        )
        noon = 12 - place.lon / 15
        moment = day + datetime.timedelta(hours=float(noon + rng.uniform(-6.5, 6.5)))
        high = float(sun_position(place, moment).elevation)
        if when is None or high > best:
            best, when = high, moment
        if high >= lowest:
            break
    assert when is not None
    return when.replace(second=0, microsecond=0)


def sun_in(frame: SceneFrame, place: Place, time: str | datetime.datetime) -> tuple[float, float, float]:
    """Unit vector to the sun in a scene's frame, its grid convergence taken off."""
    return sun_position(place, time).direction(frame.convergence())
