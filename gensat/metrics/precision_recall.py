"""Improved precision and recall: are generated images realistic, and do they cover what is real?

Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991: each set is described by balls around its points that
reach to their k-th neighbour; precision is the share of generated points in the real balls, recall the share of
real points in the generated balls.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor
from gensat.metrics.bootstrap import bootstrap


@dataclass(frozen=True)
class PrecisionRecallMeasurement(Measurement):
    """``value`` is the precision; ``recall`` beside it, with its interval where one was asked for."""

    recall: float = 0.0
    recall_interval: tuple[float, float] | None = None
    neighbours: int = 3


def covered(points: Float[Tensor, "n f"], manifold: Float[Tensor, "m f"], *, neighbours: int = 3) -> Bool[Tensor, " n"]:
    """Whether each point lies in the ball of at least one row of ``manifold`` (radius: distance to its k-th other
    row).
    """
    if len(manifold) <= neighbours:
        raise InputError(
            f"{neighbours} neighbours need more than {len(manifold)} images; give more images or fewer neighbours"
        )
    manifold = manifold.double()
    radii = torch.cdist(manifold, manifold).kthvalue(neighbours + 1, dim=1).values  # the first is the point itself
    return (torch.cdist(points.double(), manifold) <= radii).any(1)


def precision_recall(
    real: FeatureSet, generated: FeatureSet, *, neighbours: int = 3, confidence: float | None = None, seed: int = 0
) -> PrecisionRecallMeasurement:
    """Improved precision and recall; the interval redraws the points that are tested, the manifolds stay as they
    are.
    """
    name = require_same_extractor(real, generated)
    precise = covered(generated.values, real.values, neighbours=neighbours).double()
    recalled = covered(real.values, generated.values, neighbours=neighbours).double()
    intervals: list[tuple[float, float] | None] = [None, None]
    if confidence is not None:
        intervals = [
            bootstrap(lambda x: float(x.mean()), x, confidence=confidence, seed=seed) for x in (precise, recalled)
        ]
    return PrecisionRecallMeasurement(
        "precision_recall",
        float(precise.mean()),
        min(len(real), len(generated)),
        name,
        intervals[0],
        confidence,
        float(recalled.mean()),
        intervals[1],
        neighbours,
    )
