"""Kernel distance (KID): unbiased squared maximum mean discrepancy with a cubic kernel.

Bińkowski et al. 2018, Demystifying MMD GANs, https://arxiv.org/abs/1801.01401, section 4; the estimator is equation
3 of Gretton et al. 2012. Unlike the Fréchet distance its expectation does not depend on N, so it is the figure to
read where images are few.
"""

from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor


@dataclass(frozen=True)
class KernelMeasurement(Measurement):
    """A kernel distance; ``std`` is the spread over subsets where subsets were drawn, else the jackknife standard
    error.
    """

    std: float = 0.0
    subset_size: int = 0


def polynomial_kernel(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
    """(a . b / f + 1)^3, float64."""
    return (a.double() @ b.double().T / a.shape[1] + 1.0) ** 3


def kernel_distance(
    real: FeatureSet,
    generated: FeatureSet,
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
    confidence: float | None = None,
) -> KernelMeasurement:
    """KID between two sets of features; may be slightly negative, being unbiased.

    Without ``subset_size`` it uses all pairs once, and the interval comes from the two-sample jackknife. With it,
    the value is the mean over ``subsets`` random subsets of that many rows of each side, as KID is usually printed,
    with their standard deviation in ``std``.
    """
    name = require_same_extractor(real, generated)
    n = min(len(real), len(generated))
    if n < 3 or (subset_size is not None and not 2 <= subset_size <= n):
        raise InputError(
            f"a kernel distance needs at least 3 images a side and subsets of 2 to N, not {len(real)} "
            f"and {len(generated)} with subsets of {subset_size}; give more images or smaller subsets"
        )
    kxx = polynomial_kernel(real.values, real.values)
    kyy = polynomial_kernel(generated.values, generated.values)
    kxy = polynomial_kernel(real.values, generated.values)
    value, error = jackknife(kxx, kyy, kxy)
    interval = None
    if confidence is not None:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        interval = (value - z * error, value + z * error)
    if subset_size is None:
        return KernelMeasurement("kernel_distance", value, n, name, interval, confidence, error, n)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(subsets):
        i = torch.randperm(len(real), generator=generator)[:subset_size]
        j = torch.randperm(len(generated), generator=generator)[:subset_size]
        drawn.append(float(_mmd2(kxx[i][:, i], kyy[j][:, j], kxy[i][:, j])))
    values = torch.tensor(drawn, dtype=torch.float64)
    mean, std = float(values.mean()), float(values.std(unbiased=False))
    return KernelMeasurement("kernel_distance", mean, n, name, interval, confidence, std, subset_size)


def _mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> Tensor:
    n, m = kxy.shape
    within = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1))
    return within - 2 * kxy.mean()


def jackknife(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> tuple[float, float]:
    """MMD^2 over all pairs and its standard error, leaving out each row of either side once (all in closed form)."""
    n, m = kxy.shape
    within_x, within_y, across = kxx.sum() - kxx.trace(), kyy.sum() - kyy.trace(), kxy.sum()
    rows_x, rows_y = 2 * (kxx.sum(1) - kxx.diagonal()), 2 * (kyy.sum(1) - kyy.diagonal())
    full = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)
    without_x = (
        (within_x - rows_x) / ((n - 1) * (n - 2)) + within_y / (m * (m - 1)) - 2 * (across - kxy.sum(1)) / ((n - 1) * m)
    )
    without_y = (
        within_x / (n * (n - 1)) + (within_y - rows_y) / ((m - 1) * (m - 2)) - 2 * (across - kxy.sum(0)) / (n * (m - 1))
    )
    variance = (n - 1) * without_x.var(unbiased=False) + (m - 1) * without_y.var(unbiased=False)
    return float(full), float(variance.sqrt())
