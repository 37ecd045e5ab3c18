"""What is known of an image, in words: ground resolution, season, place and land cover. Each says nothing where it is not known."""

import json
import math
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Integer

from ..geo import classes
from ..types import PartialDate, Place

_RESOLUTIONS = {
    0.075: "7 cm",
    0.15: "15 cm",
    0.3: "30 cm",
    0.5: "half-metre",
    0.6: "60 cm",
    1.0: "1 m",
    5.0: "5 m",
    10.0: "10 m",
    15.0: "15 m",
    20.0: "20 m",
    30.0: "30 m",
}
_COVER = {
    classes.OTHER_GROUND: "open ground",
    classes.BUILDING: "buildings",
    classes.ROAD: "roads",
    classes.WATER: "water",
    classes.WOODLAND: "woodland",
    classes.LOW_VEGETATION: "low vegetation",
    classes.CROPLAND: "cropland",
    classes.BARE: "bare ground",
    classes.WETLAND: "wetland",
    classes.SNOW: "snow",
}
_TROPICS = 23.44  # degrees, between which there are no four seasons
_IN, _NEAR, _COUNTRY = 5.0, 30.0, 60.0  # km


def resolution(gsd: float | None) -> str | None:
    """Metres a pixel as one says it ("30 cm"), within a tenth; None for what has no name."""
    if gsd is None:
        return None
    nearest = min(_RESOLUTIONS, key=lambda known: abs(math.log(known / gsd)))
    return _RESOLUTIONS[nearest] if abs(nearest / gsd - 1) < 0.1 else None


def season(date: PartialDate, place: Place | None) -> str | None:
    """Season of the month on that side of the equator; None without a month or a place, and between the tropics."""
    if date.month is None or place is None or abs(place.lat) < _TROPICS:
        return None
    month = date.month if place.lat > 0 else date.month + 6
    return ("winter", "spring", "summer", "autumn")[month % 12 // 3]


@cache
def _towns() -> list[dict]:
    return json.loads((files(__package__) / "towns.json").read_text(encoding="utf-8"))["towns"]


def whereabouts(place: Place | None) -> str | None:
    """ "in TOWN, COUNTRY", "near TOWN, COUNTRY" or "in COUNTRY" by the nearest of the towns that are kept; None far from all.

    Of the United States the state is said. A country is not said where towns of two are near.
    """
    if place is None:
        return None
    near = sorted((kilometres(place, Place(t["lon"], t["lat"])), t["name"], t["region"]) for t in _towns())
    near = [one for one in near if one[0] <= _COUNTRY]
    if not near:
        return None
    away, name, region = near[0]
    if away <= _NEAR:
        return f"{'in' if away <= _IN else 'near'} {name}, {region}"
    return f"in {region}" if len({one[2] for one in near}) == 1 else None


def kilometres(a: Place, b: Place) -> float:
    """Along the great circle, on a sphere (haversine)."""
    p, q = math.radians(a.lat), math.radians(b.lat)
    half = math.sin((p - q) / 2) ** 2 + math.cos(p) * math.cos(q) * math.sin(math.radians(a.lon - b.lon) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(half))


def cover(layout: Integer[np.ndarray, "h w"] | None) -> str | None:
    """The greatest kinds of ground of a layout, "mostly woodland, some roads"; None where most of it is unknown.

    "mostly" from six tenths of what is known on, "some" below a quarter; kinds below a twentieth are not named.
    """
    if layout is None:
        return None
    counts = np.bincount(layout.ravel(), minlength=len(classes.CLASSES)).astype(float)
    if counts[classes.UNKNOWN] > 0.5 * counts.sum():
        return None
    counts[classes.UNKNOWN] = 0
    shares = counts / counts.sum()
    named = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= 0.05][:3]
    return ", ".join(_amount(float(shares[k])) + _COVER[int(k)] for k in named)


def _amount(share: float) -> str:
    return "mostly " if share >= 0.6 else "some " if share < 0.25 else ""
