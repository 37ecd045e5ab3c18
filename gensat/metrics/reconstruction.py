"""How like two images of one size are: PSNR and SSIM, per image, then averaged; perceptual distances are summed up alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from kornia.metrics import ssim as ssim_map
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap

PSNR_CAP = 100.0  # dB; an exact copy has infinite PSNR, which no mean survives
_WINDOW = 11


@dataclass(frozen=True)
class ReconstructionMeasurement(Measurement):
    """``value`` is the mean over images; ``worst`` and ``best`` are single images."""

    worst: float = 0.0
    best: float = 0.0
    unit: str = ""


def psnr_each(reconstructed: Float[Tensor, "b c h w"], original: Float[Tensor, "b2 c2 h2 w2"]) -> Float[Tensor, " b"]:
    """-10 log10 of the mean squared error of each image, values in [0, 1]; at most 100 dB."""
    _check(reconstructed, original)
    error = (reconstructed.double() - original.double()).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))).float()


def ssim_each(reconstructed: Float[Tensor, "b c h w"], original: Float[Tensor, "b2 c2 h2 w2"]) -> Float[Tensor, " b"]:
    """Structural similarity of each image, values in [0, 1] (Wang et al. 2004, 11x11 Gaussian window of deviation
    1.5, no border).
    """
    _check(reconstructed, original)
    if min(original.shape[-2:]) < _WINDOW:
        raise InputError(
            f"SSIM needs images of at least {_WINDOW} px, not {tuple(original.shape[-2:])}; give larger images"
        )
    maps = ssim_map(reconstructed.float(), original.float(), _WINDOW, max_val=1.0, padding="valid")
    return maps.mean(dim=(1, 2, 3)).float()


UNITS = {"psnr": "dB", "ssim": "", "elpd": "", "lpips": ""}


def summarise(
    metric: str,
    values: Float[Tensor, " n"],
    *,
    extractor: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> ReconstructionMeasurement:
    """The mean of per-image values (collected over batches) with its bootstrap interval; ``metric`` is a key of
    ``UNITS``, ``extractor`` the network of a perceptual distance.
    """
    if metric not in UNITS:
        raise InputError(f"unknown reconstruction metric {metric!r}; give one of {', '.join(UNITS)}")
    if len(values) == 0 or not bool(torch.isfinite(values).all()):
        raise InputError(f"{metric} of {len(values)} images is not finite; check the images for NaN")
    interval = (
        bootstrap(lambda x: float(x.mean()), values, confidence=confidence, seed=seed)
        if confidence is not None
        else None
    )
    similar = metric in ("psnr", "ssim")  # the others are distances
    return ReconstructionMeasurement(
        metric,
        float(values.double().mean()),
        len(values),
        extractor,
        interval,
        confidence,
        float(values.min() if similar else values.max()),
        float(values.max() if similar else values.min()),
        UNITS[metric],
    )


def psnr(
    reconstructed: Float[Tensor, "b c h w"], original: Float[Tensor, "b2 c2 h2 w2"], *, confidence: float | None = None
) -> ReconstructionMeasurement:
    """Mean PSNR in dB over the images."""
    return summarise("psnr", psnr_each(reconstructed, original), confidence=confidence)


def ssim(
    reconstructed: Float[Tensor, "b c h w"], original: Float[Tensor, "b2 c2 h2 w2"], *, confidence: float | None = None
) -> ReconstructionMeasurement:
    """Mean SSIM over the images."""
    return summarise("ssim", ssim_each(reconstructed, original), confidence=confidence)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or len(a) == 0:
        raise InputError(
            f"reconstructions {tuple(a.shape)} and originals {tuple(b.shape)} differ in shape; give pairs of equal size"
        )
    low, high = min(float(a.min()), float(b.min())), max(float(a.max()), float(b.max()))
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(f"values span {low:.3g} to {high:.3g}; scale images to [0, 1] before comparing them")
