"""The same figure for each region, each with its own N: a mean over the world hides where a model fails.

After Basu et al. 2023, Inspecting the Geographical Representativeness of Images from Text-to-Image Models,
https://arxiv.org/abs/2305.11080, who score countries one by one. Small regions have wide intervals: the smallest is
named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement

FEWEST = 5


@dataclass(frozen=True)
class RegionMeasurement(Measurement):
    """``value`` is the mean over regions, every region weighing the same; ``n`` counts the images in them.

    ``per_region`` holds each region's own figure (value, n, interval); ``smallest`` names the one with the fewest
    images, ``lowest`` and ``highest`` those with the smallest and largest value; ``too_few`` gives N of regions that
    were left out, ``nowhere`` the number of images without a region.
    """

    per_region: dict[str, dict[str, Any]] = field(default_factory=dict)
    smallest: str = ""
    lowest: str = ""
    highest: str = ""
    too_few: dict[str, int] = field(default_factory=dict)
    nowhere: int = 0


def by_region(
    measure: Callable[[Int[Tensor, " k"]], Measurement], regions: Sequence[str | None], *, fewest: int = FEWEST
) -> RegionMeasurement:
    """``measure(rows)`` for the rows of each region; ``regions[i]`` is the region of row i, None where unknown.

    Regions of fewer than ``fewest`` rows are listed, not measured.

    Raises:
        InputError: no region has enough rows.
    """
    rows: dict[str, list[int]] = {}
    for i, region in enumerate(regions):
        if region is not None:
            rows.setdefault(region, []).append(i)
    enough = {name: r for name, r in sorted(rows.items()) if len(r) >= fewest}
    if not enough:
        most = max((len(r) for r in rows.values()), default=0)
        raise InputError(
            f"no region has {fewest} images ({len(rows)} regions, at most {most} images in one); "
            "give more images or larger regions"
        )
    each = {name: measure(torch.tensor(r)) for name, r in enough.items()}
    values = {name: m.value for name, m in each.items()}
    one = next(iter(each.values()))
    return RegionMeasurement(
        f"{one.metric} by region",
        sum(values.values()) / len(values),
        sum(m.n for m in each.values()),
        one.extractor,
        None,
        one.confidence,
        per_region={name: {"value": m.value, "n": m.n, "interval": m.interval} for name, m in each.items()},
        smallest=min(each, key=lambda name: each[name].n),
        lowest=min(values, key=lambda name: values[name]),
        highest=max(values, key=lambda name: values[name]),
        too_few={name: len(r) for name, r in sorted(rows.items()) if name not in enough},
        nowhere=sum(region is None for region in regions),
    )


def cell_name(lon: float, lat: float, *, degrees: int = 10) -> str:
    """The name of the ``degrees`` x ``degrees`` cell that holds a point, e.g. "20 to 30 N, 100 to 90 W"."""
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise InputError(f"longitude {lon}, latitude {lat} lies not on Earth; give degrees, longitude first")
    south = min(int(lat // degrees) * degrees, 90 - degrees)
    west = min(int(lon // degrees) * degrees, 180 - degrees)
    return f"{_span(south, degrees, 'N', 'S')}, {_span(west, degrees, 'E', 'W')}"


def _span(low: int, degrees: int, positive: str, negative: str) -> str:
    high = low + degrees
    return f"{low} to {high} {positive}" if low >= 0 else f"{-low} to {abs(high)} {negative}"
