"""Maximum mean discrepancy with a Gaussian kernel: the CMMD of Jayasumana et al. 2024, https://arxiv.org/abs/2401.09603.

On CLIP vectors it is CMMD as published (sigma 10, times 1000, unit vectors, the biased estimator: equation 5 of Gretton
et al. 2012). On other features it is the same statistic under another name, ``gaussian_mmd``: its values say nothing
beside published ones. No Gaussian is fitted, and few images suffice.
"""

from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor
from gensat.metrics.kernel import jackknife

SIGMA, SCALE = 10.0, 1000.0


@dataclass(frozen=True)
class MmdMeasurement(Measurement):
    """``value`` is the biased estimate (never negative; 0 only for equal sets), ``unbiased`` the one whose expectation
    does not depend on N; the interval is the jackknife's, laid around ``value``.
    """

    unbiased: float = 0.0
    std: float = 0.0


def gaussian_kernel(
    a: Float[Tensor, "n f"], b: Float[Tensor, "m f"], *, sigma: float | int = SIGMA
) -> Float[Tensor, "n m"]:
    """exp(-|a - b|^2 / (2 sigma^2)), float64."""
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return torch.exp(-squares.clamp_min(0) / (2 * sigma**2))


def gaussian_mmd(
    real: FeatureSet,
    generated: FeatureSet,
    *,
    sigma: float | int = SIGMA,
    scale: float | int = SCALE,
    confidence: float | None = None,
) -> MmdMeasurement:
    """``scale`` * MMD^2 between unit-length features; called ``cmmd`` where a CLIP made them, else ``gaussian_mmd``.

    Raises:
        InputError: unlike extractors, or fewer than 3 images a side.
    """
    name = require_same_extractor(real, generated)
    n = min(len(real), len(generated))
    if n < 3:
        raise InputError(f"a discrepancy needs at least 3 images a side, not {len(real)} and {len(generated)}")
    x, y = (F.normalize(s.values.double(), dim=1) for s in (real, generated))
    kxx, kyy, kxy = (gaussian_kernel(a, b, sigma=sigma) for a, b in ((x, x), (y, y), (x, y)))
    value = scale * float((kxx.mean() + kyy.mean() - 2 * kxy.mean()).clamp_min(0))
    unbiased, error = (scale * v for v in jackknife(kxx, kyy, kxy))
    interval = None
    if confidence is not None:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        interval = (value - z * error, value + z * error)
    metric = "cmmd" if name.startswith("clip") and (sigma, scale) == (SIGMA, SCALE) else "gaussian_mmd"
    return MmdMeasurement(metric, value, n, name, interval, confidence, unbiased, error)
