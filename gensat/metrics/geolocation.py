"""How far from the place that was asked for does a geolocator put an image?

The geolocator (GeoCLIP, PLONK: ``gensat.train.evaluation.geolocate``) never saw what was asked. Distances are great
circles; the shares within 1, 25, 200, 750 and 2500 km are the street, city, region, country and continent levels of the
geolocation literature (Hays and Efros 2008; Vivanco Cepeda et al. 2023, https://arxiv.org/abs/2309.16020).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap

EARTH_KM = 6371.0088  # mean radius
LEVELS_KM = (1, 25, 200, 750, 2500)


@dataclass(frozen=True)
class GeolocationMeasurement(Measurement):
    """``value`` is the median distance in km; ``within`` the share of images within each level; ``null`` the median
    distance to the places asked of the other images, which is what an image of nowhere in particular gives.
    """

    within: dict[str, float] = field(default_factory=dict)
    null: float = 0.0


def great_circle_km(a: Float[Tensor, "*#n 2"], b: Float[Tensor, "*#n 2"]) -> Float[Tensor, "..."]:
    """Distance in km of points (lon, lat) in degrees on a sphere (haversine), float64; broadcasts."""
    a, b = torch.deg2rad(a.double()), torch.deg2rad(b.double())
    half = torch.sin((b - a) / 2).square()
    h = half[..., 1] + torch.cos(a[..., 1]) * torch.cos(b[..., 1]) * half[..., 0]
    return 2 * EARTH_KM * torch.asin(h.clamp(0, 1).sqrt())


def geolocation(
    predicted: Float[Tensor, "n 2"],
    asked: Float[Tensor, "m 2"],
    *,
    extractor: str,
    confidence: float | None = None,
    seed: int = 0,
) -> GeolocationMeasurement:
    """Compare where a geolocator puts images with where they were asked for, both (lon, lat) in degrees."""
    if predicted.shape != asked.shape or len(asked) < 2:
        raise InputError(f"{len(predicted)} located and {len(asked)} asked places; give one of each, two or more")
    both = torch.cat([predicted, asked])
    if not bool(torch.isfinite(both).all()) or bool((both[:, 1].abs() > 90).any()):
        raise InputError("a place is NaN or beyond a pole; give (longitude, latitude) in degrees")
    distance = great_circle_km(predicted, asked)
    table = great_circle_km(predicted[:, None].expand(-1, len(asked), -1), asked[None].expand(len(predicted), -1, -1))
    others = table[(asked[:, None] != asked[None]).any(-1)]
    if len(others) == 0:
        raise InputError("all images were asked for the same place; ask for at least two different ones")
    interval = None
    if confidence is not None:
        interval = bootstrap(lambda x: float(x.quantile(0.5)), distance, confidence=confidence, seed=seed)
    return GeolocationMeasurement(
        "geolocation_km",
        float(distance.quantile(0.5)),
        len(asked),
        extractor,
        interval,
        confidence,
        {f"{km} km": float((distance <= km).double().mean()) for km in LEVELS_KM},
        float(others.median()),
    )
