"""Does an image show what was asked: the class in words, the place, the ground sampling distance?

Each figure comes with what chance would give and, where real held-out images are at hand, with what real images
reach in their place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor
from gensat.metrics.bootstrap import bootstrap
from gensat.metrics.frechet import PrincipalBasis
from gensat.metrics.memorisation import nearest


@dataclass(frozen=True)
class ClassMeasurement(Measurement):
    """``value`` is the share of images recognised as the class asked for; ``confusion[i][j]`` counts class i asked,
    class j recognised.
    """

    chance: float = 0.0
    per_class: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlaceMeasurement(Measurement):
    """``value`` is the share of images nearest to the mean of real images of their own place; ``vote`` the share
    whose nearest real image is.

    ``per_place`` gives (value, vote) of each place asked for; ``ceiling`` is (value, vote) of real held-out images,
    None where not given.
    """

    vote: float = 0.0
    vote_interval: tuple[float, float] | None = None
    chance: float = 0.0
    per_place: dict[str, tuple[float, float]] = field(default_factory=dict)
    ceiling: tuple[float, float] | None = None


@dataclass(frozen=True)
class GsdMeasurement(Measurement):
    """``value`` is Spearman's rank correlation of asked and recognised ground sampling distance (1: the order is
    always right).

    ``median_ratio`` = median of recognised / asked (1: unbiased; the recogniser's own bias included), ``octaves`` =
    median of |log2(recognised / asked)|.
    """

    median_ratio: float = 0.0
    octaves: float = 0.0


def class_consistency(
    recognised: Int[Tensor, " n"],
    asked: Int[Tensor, " m"],
    *,
    classes: Sequence[str],
    extractor: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> ClassMeasurement:
    """Accuracy of a probe trained on real images (``recognised``: its class indices) on images made for the classes
    ``asked``.
    """
    if recognised.shape != asked.shape or len(asked) == 0:
        raise InputError(
            f"{len(recognised)} recognised classes do not match {len(asked)} asked ones; give one of each per image"
        )
    count = len(classes)
    both = torch.cat([recognised, asked]).long()
    if not 0 <= int(both.min()) <= int(both.max()) < count:
        raise InputError(
            f"class indices span {int(both.min())} to {int(both.max())}; give indices into the {count} classes"
        )
    right = (recognised == asked).double()
    table = torch.bincount(asked.long() * count + recognised.long(), minlength=count * count).reshape(count, count)
    interval = (
        bootstrap(lambda x: float(x.mean()), right, confidence=confidence, seed=seed)
        if confidence is not None
        else None
    )
    return ClassMeasurement(
        "class_consistency",
        float(right.mean()),
        len(asked),
        extractor,
        interval,
        confidence,
        chance=1 / count,
        per_class={name: float(table[i, i] / table[i].sum()) for i, name in enumerate(classes) if table[i].sum() > 0},
        confusion=table.tolist(),
        classes=tuple(classes),
    )


def place_consistency(
    generated: FeatureSet,
    asked: Sequence[str],
    *,
    real: Mapping[str, FeatureSet],
    basis: PrincipalBasis,
    heldout: Mapping[str, FeatureSet] | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> PlaceMeasurement:
    """Whether images made for a place are nearer to real images of that place than to those of the others.

    Measured twice in the coordinates of ``basis`` (64 principal components): by the nearest mean of a place, and by
    the single nearest real image among equally many of each place (a place with more images would win more votes).
    ``asked[i]`` is the place, a key of ``real``, of row i. ``heldout`` gives real images of the same places that
    are measured in the same way: what the best generator could reach.
    """
    places = list(real)
    require_same_extractor(generated, *real.values(), *(heldout or {}).values())
    unknown = sorted(set(asked) - set(places)) + sorted(set(heldout or {}) - set(places))
    if len(asked) != len(generated) or unknown or len(places) < 2:
        raise InputError(
            f"{len(asked)} places for {len(generated)} images, among {len(places)} real places"
            + (f", with {unknown[0]!r} not among them" if unknown else "")
            + "; give one known place per image and at least two real places"
        )
    count = min(len(s) for s in real.values())
    means = torch.stack([basis.project(s).mean(0) for s in real.values()])
    gallery = torch.cat([basis.project(s.sample(count, seed=seed)) for s in real.values()])

    def right(features: FeatureSet, wanted: Tensor) -> Float[Tensor, "n 2"]:
        x = basis.project(features)
        by_mean, by_vote = torch.cdist(x, means).argmin(1), nearest(x, gallery)[1] // count
        return torch.stack([by_mean == wanted, by_vote == wanted], dim=1).double()

    wanted = torch.tensor([places.index(p) for p in asked])
    hits = right(generated, wanted)
    ceiling = None
    if heldout:
        each = [right(s, torch.full((len(s),), places.index(p))).mean(0) for p, s in heldout.items()]
        ceiling = tuple(torch.stack(each).mean(0).tolist())  # every place weighs the same
    intervals: list[tuple[float, float] | None] = [None, None]
    if confidence is not None:
        intervals = [bootstrap(lambda x: float(x.mean()), h, confidence=confidence, seed=seed) for h in hits.T]
    return PlaceMeasurement(
        "place_consistency",
        float(hits[:, 0].mean()),
        len(generated),
        generated.extractor,
        intervals[0],
        confidence,
        vote=float(hits[:, 1].mean()),
        vote_interval=intervals[1],
        chance=1 / len(places),
        per_place={p: tuple(hits[wanted == i].mean(0).tolist()) for i, p in enumerate(places) if (wanted == i).any()},
        ceiling=ceiling,
    )


def spearman(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Spearman's rank correlation; equal values share their mean rank. NaN where one side is constant."""
    ranks = torch.stack([_ranks(a), _ranks(b)])
    centred = ranks - ranks.mean(1, keepdim=True)
    scale = float(centred.square().sum(1).prod().sqrt())
    return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else math.nan


def gsd_response(
    asked: Float[Tensor, " n"],
    recognised: Float[Tensor, " m"],
    *,
    extractor: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> GsdMeasurement:
    """Whether finer asked ground sampling distances (m per pixel) give finer images.

    ``recognised`` is what a regressor trained on real images reads from the generated ones at their own pixel size.
    The interval is of the rank correlation and redraws images.
    """
    if asked.shape != recognised.shape or len(asked) < 3:
        raise InputError(
            f"{len(asked)} asked and {len(recognised)} recognised values; give one of each for at least 3 images"
        )
    if not (bool((asked > 0).all()) and bool((recognised > 0).all())):
        raise InputError("a ground sampling distance is not positive; give metres per pixel")
    rank = spearman(asked, recognised)
    if math.isnan(rank):
        raise InputError(
            "all asked or all recognised ground sampling distances are equal; ask for at least two different ones"
        )
    interval = (
        bootstrap(spearman, asked, recognised, paired=True, confidence=confidence, seed=seed)
        if confidence is not None
        else None
    )
    octaves = torch.log2(recognised.double() / asked.double())
    return GsdMeasurement(
        "gsd_response",
        rank,
        len(asked),
        extractor,
        interval,
        confidence,
        median_ratio=float(2 ** octaves.quantile(0.5)),
        octaves=float(octaves.abs().quantile(0.5)),
    )


def _ranks(x: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(x.double(), return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]
