"""Does the model repeat its training images? Nearest-neighbour distances in feature space, against real images that
it never saw.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor
from gensat.metrics.bootstrap import bootstrap


@dataclass(frozen=True)
class MemorisationMeasurement(Measurement):
    """``value`` = median distance of generated images to their nearest training image / the same for held-out real
    images.

    Near 1: as new as a real image of another place; well below 1: copies. ``share_below`` is the share of generated
    images nearer to a training image than 1 % of the held-out real ones are (0.01 is expected of an honest model).
    ``closest`` holds (generated index, training index, distance), nearest first.
    """

    median_generated: float = 0.0
    median_heldout: float = 0.0
    share_below: float = 0.0
    closest: list[tuple[int, int, float]] = field(default_factory=list)


def nearest(
    queries: Float[Tensor, "n f"], gallery: Float[Tensor, "m f"], *, chunk: int = 1024
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Euclidean distance to, and index of, the nearest row of ``gallery`` for each row of ``queries``, float64."""
    # cdist by explicit differences: the matrix-product form loses the distance of near copies to cancellation
    parts = [
        torch.cdist(q.double(), gallery.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1)
        for q in queries.split(chunk)
    ]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def memorisation(
    generated: FeatureSet,
    train: FeatureSet,
    *,
    heldout: FeatureSet,
    pairs: int = 20,
    confidence: float | None = None,
    seed: int = 0,
) -> MemorisationMeasurement:
    """Compare how near generated and held-out real images come to ``train``; ``pairs`` of the closest are returned
    to be looked at.
    """
    name = require_same_extractor(generated, train, heldout)
    if pairs < 0:
        raise InputError(f"cannot show {pairs} pairs; give 0 or more")
    ours, index = nearest(generated.values, train.values)
    reference, _ = nearest(heldout.values, train.values)
    if float(reference.quantile(0.5)) == 0:
        raise InputError(
            "half of the held-out images are copies of training images; fix the split before measuring memorisation"
        )
    interval = bootstrap(_ratio, ours, reference, confidence=confidence, seed=seed) if confidence is not None else None
    order = torch.argsort(ours, stable=True)[:pairs].tolist()
    return MemorisationMeasurement(
        "memorisation",
        _ratio(ours, reference),
        len(generated),
        name,
        interval,
        confidence,
        median_generated=float(ours.quantile(0.5)),
        median_heldout=float(reference.quantile(0.5)),
        share_below=float((ours < reference.quantile(0.01)).double().mean()),
        closest=[(i, int(index[i]), float(ours[i])) for i in order],
    )


def _ratio(ours: Tensor, reference: Tensor) -> float:
    return float(ours.quantile(0.5) / reference.quantile(0.5))
