"""Fréchet distance between Gaussians fitted to features (Heusel et al. 2017, https://arxiv.org/abs/1706.08500,
equation 6).

With 1280 features the covariance of a few hundred images is singular and the distance mostly measures N.
``frechet_64`` therefore projects both sides on the 64 principal components of the TRAINING features, fitted once,
and insists on equal N; its floor is the same figure between real training and real held-out images.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, Measurement, require_same_extractor
from gensat.metrics.bootstrap import bootstrap

MIN_COUNT = 320


@dataclass(frozen=True)
class FrechetMeasurement(Measurement):
    """A Fréchet distance with the number of dimensions it was measured in and, where asked, its floor (real against
    real, same N).
    """

    dims: int = 0
    floor: float | None = None


@dataclass(frozen=True)
class PrincipalBasis:
    """The leading principal components of one set of features, to be applied unchanged to every other set."""

    mean: Float[Tensor, " f"]
    components: Float[Tensor, "d f"]
    explained: float  # share of the variance, 0..1
    extractor: str

    @classmethod
    def fit(cls, features: FeatureSet, *, dims: int = 64) -> "PrincipalBasis":
        """The ``dims`` directions of largest variance; needs more rows than dims."""
        n, f = features.values.shape
        if not 0 < dims <= min(n - 1, f):
            raise InputError(
                f"cannot fit {dims} principal components to {n} rows of {f} features; give more images or fewer dims"
            )
        x = features.values.double()
        mean = x.mean(0)
        variances, vectors = torch.linalg.eigh(torch.cov(x.T))
        return cls(
            mean, vectors[:, -dims:].T.flip(0), float(variances[-dims:].sum() / variances.sum()), features.extractor
        )

    def project(self, features: FeatureSet) -> Float[Tensor, "n d"]:
        """Coordinates of the rows along the components, float64."""
        if features.extractor != self.extractor or features.values.shape[1] != len(self.mean):
            raise InputError(
                f"a basis of {self.extractor} cannot take features of {features.extractor}; "
                "extract both with the same network"
            )
        return (features.values.double() - self.mean) @ self.components.T

    def save(self, path: str | Path) -> None:
        """Write it as safetensors in float32."""
        tensors = {"mean": self.mean.float(), "components": self.components.float().contiguous()}
        save_file(tensors, path, metadata={"extractor": self.extractor, "explained": repr(self.explained)})

    @classmethod
    def load(cls, path: str | Path) -> "PrincipalBasis":
        """Read what ``save`` wrote."""
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            mean, components = (file.get_tensor(k).double() for k in ("mean", "components"))
        return cls(mean, components, float(meta["explained"]), meta["extractor"])


def gaussian(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance of the rows, float64."""
    if len(x) < 2:
        raise InputError(f"a covariance needs at least 2 samples, not {len(x)}; give more images")
    x = x.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def frechet_distance(
    mean_a: Float[Tensor, " d"], cov_a: Float[Tensor, "d d"], mean_b: Float[Tensor, " d"], cov_b: Float[Tensor, "d d"]
) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), the squared Wasserstein-2 distance between two Gaussians.

    The trace of (A B)^(1/2) is taken as that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric: its eigenvalues are
    real, and the tiny negative ones that rounding leaves in a singular covariance are cut at zero. Everything in
    float64.
    """
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return float(distance.clamp_min(0))


def frechet(real: FeatureSet, generated: FeatureSet) -> FrechetMeasurement:
    """The distance in all feature dimensions, as in the original figure; compare only at equal N (named in the
    result: the smaller).
    """
    name = require_same_extractor(real, generated)
    value = frechet_distance(*gaussian(real.values), *gaussian(generated.values))
    return FrechetMeasurement("frechet", value, min(len(real), len(generated)), name, dims=real.values.shape[1])


def frechet_64(
    real: FeatureSet,
    generated: FeatureSet,
    *,
    basis: PrincipalBasis,
    train: FeatureSet | None = None,
    force: bool = False,
    confidence: float | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> FrechetMeasurement:
    """Frechet-64: the distance in the 64 principal components ``basis`` of the training features.

    ``train`` adds the floor: the same distance between ``real`` and as many training features. ``confidence`` adds
    a centred bootstrap interval over both sides. Raises InputError when the two sides differ in number or hold
    fewer than 320, unless ``force`` (then ``metric`` is called "frechet_64 (forced)", so that it is not mistaken
    for the comparable figure).
    """
    name = require_same_extractor(real, generated)
    unequal, few = len(real) != len(generated), min(len(real), len(generated)) < MIN_COUNT
    if (unequal or few) and not force:
        raise InputError(
            f"Frechet-64 compares equal numbers of at least {MIN_COUNT} images, "
            f"not {len(real)} real with {len(generated)} generated; "
            "give more, draw a sample of the larger side, or force it"
        )
    a, b = basis.project(real), basis.project(generated)
    interval = None
    if confidence is not None:
        interval = bootstrap(_distance, a, b, resamples=resamples, confidence=confidence, seed=seed, method="centred")
    floor = None
    if train is not None:
        require_same_extractor(real, train)
        floor = _distance(a, basis.project(train.sample(len(real), seed=seed)))
    metric = "frechet_64 (forced)" if unequal or few else "frechet_64"
    dims, n = len(basis.components), min(len(a), len(b))
    return FrechetMeasurement(metric, _distance(a, b), n, name, interval, confidence, dims, floor)


def _distance(a: Tensor, b: Tensor) -> float:
    return frechet_distance(*gaussian(a), *gaussian(b))
