"""How well a picture of a flood shows the flood that was asked for: IoU of the water, and the Flood Visualization Plausibility Score.

Luetjens et al. 2024 (https://arxiv.org/abs/2104.04785), section III: FVPS is the harmonic mean of IoU and 1 - perceptual distance, per image,
then averaged. Theirs is taken with LPIPS; with another distance it is another figure, and its name says which.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap

_EPS = 1e-11


@dataclass(frozen=True)
class FloodMeasurement(Measurement):
    """``value`` is the mean over images; ``deviation`` their standard deviation."""

    deviation: float = 0.0


def water_iou(shown: Bool[Tensor, "b h w"], asked: Bool[Tensor, "b2 h2 w2"]) -> Float[Tensor, " b"]:
    """Intersection over union of water in each image; 1 where neither has any.

    Raises:
        InputError: masks of different sizes.
    """
    if shown.shape != asked.shape:
        raise InputError(f"masks {tuple(shown.shape)} and {tuple(asked.shape)} differ in size; bring them together")
    both, either = ((shown & asked).sum((1, 2)).double(), (shown | asked).sum((1, 2)).double())
    return torch.where(either > 0, both / either.clamp_min(1), 1.0).float()


def fvps_each(iou: Float[Tensor, " n"], distance: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """2 / (1 / (IoU + eps) + 1 / (1 - distance + eps)) of each image; a distance counts as 1 at most.

    Raises:
        InputError: unlike numbers of images, or a negative distance.
    """
    if iou.shape != distance.shape:
        raise InputError(f"{len(iou)} IoU values came with {len(distance)} distances; give one of each per image")
    if not bool((distance >= 0).all()):
        raise InputError("a perceptual distance is negative or no number")
    near = 1 - distance.double().clamp_max(1)
    return (2 / (1 / (iou.double() + _EPS) + 1 / (near + _EPS))).float()


def summarise_flood(
    metric: str,
    values: Float[Tensor, " n"],
    *,
    extractor: str,
    confidence: float | None = 0.95,
    seed: int = 0,
) -> FloodMeasurement:
    """The mean of per-image values with its bootstrap interval over images.

    Args:
        metric: its name, such as "FVPS(ELPD)".
        values: one an image.
        extractor: the networks behind it.
        confidence: of the interval; None for none.
        seed: of the bootstrap.
    """
    if len(values) == 0 or not bool(torch.isfinite(values).all()):
        raise InputError(f"{metric} of {len(values)} images is not finite; check the images")
    interval = None
    if confidence is not None:
        interval = bootstrap(lambda x: float(x.mean()), values, confidence=confidence, seed=seed)
    mean, deviation = float(values.double().mean()), float(values.double().std(correction=0))
    return FloodMeasurement(metric, mean, len(values), extractor, interval, confidence, deviation)
