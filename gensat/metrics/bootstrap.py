"""Confidence intervals by resampling (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and
13).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from gensat.errors import InputError


def bootstrap(
    statistic: Callable[..., float],
    *samples: Tensor,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    paired: bool = False,
    method: Literal["percentile", "centred"] = "percentile",
) -> tuple[float, float]:
    """The confidence interval of ``statistic(*samples)`` when the rows (first axis) of each sample are redrawn with
    replacement.

    ``paired`` redraws the same rows of every sample (asked and obtained values of the same image).
    ``method="centred"`` shifts the percentile interval so that the mean of the redrawn statistics falls on the
    statistic itself: for distances between distributions, whose redrawn values are biased upward because a redrawn
    sample repeats rows. The same seed gives the same interval.
    """
    if not samples or any(len(s) == 0 for s in samples):
        raise InputError("a bootstrap needs at least one sample with at least one row; measure something first")
    if not 0 < confidence < 1 or resamples < 2:
        raise InputError(
            f"confidence {confidence} with {resamples} resamples gives no interval; "
            "give a confidence between 0 and 1 and at least 2 resamples"
        )
    if paired and len({len(s) for s in samples}) > 1:
        raise InputError(f"paired samples have {[len(s) for s in samples]} rows; give the same number in each")
    generator = torch.Generator().manual_seed(seed)

    def redraw(sample: Tensor) -> Tensor:
        return torch.randint(len(sample), (len(sample),), generator=generator)

    values = []
    for _ in range(resamples):
        if paired:
            rows = redraw(samples[0])
            values.append(statistic(*(s[rows] for s in samples)))
        else:
            values.append(statistic(*(s[redraw(s)] for s in samples)))
    drawn = torch.tensor(values, dtype=torch.float64)
    drawn = drawn[torch.isfinite(drawn)]  # a redraw may lack what the statistic needs, e.g. every row of one class
    if len(drawn) < 2:
        raise InputError("the statistic is not finite on resampled data; measure more samples")
    tail = (1 - confidence) / 2
    low, high = torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    if method == "centred":
        shift = float(statistic(*samples)) - float(drawn.mean())
        low, high = low + shift, high + shift
    return low, high
