"""Does an image show the layout that was asked for? Confusion and intersection over union of class maps, unknown
pixels left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from gensat.errors import InputError
from gensat.geo.legend import CLASSES
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap


@dataclass(frozen=True)
class LayoutMeasurement(Measurement):
    """``value`` is the mean IoU over the classes that occur in the target; ``n`` counts images, ``pixels`` the
    known pixels.

    Where the target knows one class only and the rest is unknown (building footprints without ground), wrong pixels
    of that class cannot be seen: its IoU is then its recall. ``recall`` is given beside ``per_class`` (IoU) so that
    this shows.
    """

    accuracy: float = 0.0
    per_class: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    pixels: int = 0


def confusion(
    predicted: Integer[Tensor, "b h w"], target: Integer[Tensor, "b2 h2 w2"], *, classes: int = 11, unknown: int = 0
) -> Int[Tensor, "b c c"]:
    """Pixel counts of each image: row = class in the target, column = class predicted; pixels of unknown target
    count nowhere.

    Codes are 0..classes-1. A pixel predicted "unknown" where the target is known stays in (column ``unknown``): it
    is an error.
    """
    if predicted.shape != target.shape:
        sizes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise InputError(f"class maps {sizes} differ in size; predict at the target's size")
    predicted, target = predicted.long(), target.long()
    for name, codes in (("predicted", predicted), ("target", target)):
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < classes:
            held = f"codes {int(codes.min())} to {int(codes.max())}"
            raise InputError(f"the {name} map holds {held}; remap it to the legend's 0 to {classes - 1}")
    out = torch.zeros(len(target), classes, classes, dtype=torch.long)
    for i, (p, t) in enumerate(zip(predicted, target, strict=True)):
        known = t != unknown
        out[i] = (
            torch.bincount(t[known] * classes + p[known], minlength=classes * classes).reshape(classes, classes).cpu()
        )
    return out


def iou(counts: Int[Tensor, "c c"]) -> tuple[Tensor, Tensor]:
    """Intersection over union and recall of each class from one confusion matrix, float64; NaN where the target
    lacks the class.
    """
    hit, target, predicted = counts.diagonal().double(), counts.sum(1).double(), counts.sum(0).double()
    absent = torch.where(target > 0, 1.0, torch.nan)
    return hit / (target + predicted - hit) * absent, hit / target * absent


def mean_iou(
    confusions: Int[Tensor, "b c c"],
    *,
    names: Mapping[int, str] | None = None,
    extractor: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> LayoutMeasurement:
    """Mean IoU over the classes in the target, from the confusions of single images (``confusion``).

    ``names`` maps codes to class names (the legend's by default), ``extractor`` names the segmenter that made the
    maps; the interval redraws images.
    """
    counts = confusions.sum(0)
    if int(counts.sum()) == 0:
        raise InputError("no pixel of the target is known; give layouts that say something")
    names = names or dict(enumerate(CLASSES))
    each, recall = iou(counts)
    present = torch.isfinite(each)
    interval = None
    if confidence is not None:
        interval = bootstrap(lambda c: float(iou(c.sum(0))[0].nanmean()), confusions, confidence=confidence, seed=seed)
    codes = present.nonzero().flatten().tolist()
    return LayoutMeasurement(
        "layout_miou",
        float(each[present].mean()),
        len(confusions),
        extractor,
        interval,
        confidence,
        accuracy=float(counts.diagonal().sum() / counts.sum()),
        per_class={names.get(i, str(i)): float(each[i]) for i in codes},
        recall={names.get(i, str(i)): float(recall[i]) for i in codes},
        pixels=int(counts.sum()),
    )
