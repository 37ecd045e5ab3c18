"""Does a picture show what its caption says? CLIP score (Hessel et al. 2021, https://arxiv.org/abs/2104.08718) beside
what the same pictures score with other pictures' captions.

A CLIP score alone says little: captions that differ little ("an aerial image of ...") score high with any picture. The
null is the mean over all captions of the set that read differently; only what is above it is agreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement
from gensat.metrics.bootstrap import bootstrap


@dataclass(frozen=True)
class ClipScoreMeasurement(Measurement):
    """``value`` = mean of 100 max(cos, 0) of image and own caption; ``null`` the same with the other captions.

    ``gain`` = value - null, with ``gain_interval`` over images: agreement is shown where it lies above 0. ``preferred``
    is the share of (image, other caption) pairs in which the own caption scores higher (0.5: chance).
    """

    null: float = 0.0
    gain: float = 0.0
    gain_interval: tuple[float, float] | None = None
    preferred: float = 0.0


def clip_score(
    images: FeatureSet,
    texts: Float[Tensor, "n f"],
    captions: Sequence[str],
    *,
    confidence: float | None = None,
    seed: int = 0,
) -> ClipScoreMeasurement:
    """CLIP score of images and their captions; ``texts[i]`` is the vector of ``captions[i]``, which belongs to image i.

    Raises:
        InputError: numbers or widths that do not match, an empty caption, or captions that are all the same.
    """
    n = len(images)
    if len(texts) != n or len(captions) != n or texts.shape[1] != images.values.shape[1]:
        raise InputError(
            f"{n} images of {images.values.shape[1]} features do not match {len(captions)} captions of "
            f"{tuple(texts.shape)} vectors; give one caption per image, of the same CLIP"
        )
    empty = [i for i, caption in enumerate(captions) if not caption.strip()]
    if empty:
        raise InputError(f"{len(empty)} of {n} images have no caption (the first is number {empty[0]}); add captions")
    kinds = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    if len(kinds) < 2:
        raise InputError("all captions are the same, so that no other caption can be compared; give at least two")
    own = torch.tensor([kinds[c] for c in captions])
    first = torch.tensor([captions.index(c) for c in kinds])
    x = torch.nn.functional.normalize(images.values.double(), dim=1)
    y = torch.nn.functional.normalize(texts.double(), dim=1)
    scores = 100 * (x @ y[first].T).clamp_min(0)  # (n, kinds)
    weights = torch.bincount(own, minlength=len(kinds)).double().expand(n, -1).clone()
    weights[torch.arange(n), own] = 0  # other images' captions, those that read the same left out
    hit = scores[torch.arange(n), own]
    null = (scores * weights).sum(1) / weights.sum(1)
    wins = (scores < hit[:, None]).double() + 0.5 * (scores == hit[:, None]).double()
    preferred = float(((wins * weights).sum(1) / weights.sum(1)).mean())
    intervals: list[tuple[float, float] | None] = [None, None]
    if confidence is not None:
        intervals = [
            bootstrap(lambda v: float(v.mean()), v, confidence=confidence, seed=seed) for v in (hit, hit - null)
        ]
    return ClipScoreMeasurement(
        "clip_score",
        float(hit.mean()),
        n,
        images.extractor,
        intervals[0],
        confidence,
        float(null.mean()),
        float((hit - null).mean()),
        intervals[1],
        preferred,
    )
