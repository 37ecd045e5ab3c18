"""Images of many bands, pair by pair: spectral angle, ERGAS, and PSNR and SSIM of single bands.

Bands are given as they are (reflectance, digital numbers), in the same unit on both sides. A pixel with a NaN in any
band of either side counts nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap
from gensat.metrics.reconstruction import PSNR_CAP, ssim_each


@dataclass(frozen=True)
class SpectralMeasurement(Measurement):
    """``value`` is the mean over images; ``per_band`` the mean of each band where the figure has bands; ``unit`` is
    "degrees" for the spectral angle and "dB" for PSNR.
    """

    unit: str = ""
    per_band: dict[str, float] = field(default_factory=dict)


def spectral_angle_each(
    predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b2 c2 h2 w2"]
) -> Float[Tensor, " b"]:
    """Mean angle in degrees between the spectra of corresponding pixels (SAM; Kruse et al. 1993): 0 is the same colour
    at any brightness. Pixels that are all zero on either side have no angle and are left out.
    """
    known = _known(predicted, target)
    p, t = predicted.double(), target.double()
    lengths = p.norm(dim=1) * t.norm(dim=1)
    known = known & (lengths > 0)
    # the chord form: arccos of a cosine near 1 loses half the digits
    chord = (p / p.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)).norm(dim=1)
    return _mean(torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1))), known).float()


def ergas_each(
    predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b2 c2 h2 w2"], *, ratio: float | int = 4.0
) -> Float[Tensor, " b"]:
    """ERGAS (Wald 2000): 100 / ratio * sqrt(mean over bands of (RMSE / mean of the target's band)^2).

    ``ratio`` is the coarse pixel's side over the fine one's (4 in pan-sharpening; 1 where nothing was enlarged).
    """
    if not ratio > 0:
        raise InputError(f"the ratio of pixel sizes is {ratio}; give coarse / fine, a positive number")
    known = _known(predicted, target)[:, None]
    error = _mean((predicted.double() - target.double()).square(), known)
    mean = _mean(target.double(), known)
    if bool((mean.abs() < 1e-12).any()):
        raise InputError("a band of the target has mean 0, which ERGAS divides by; leave that band out")
    return (100 / ratio * (error / mean.square()).mean(1).sqrt()).float()


def psnr_bands(
    predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b2 c2 h2 w2"], *, span: float | int = 1.0
) -> Float[Tensor, "b c"]:
    """PSNR in dB of each band of each image, at most 100; ``span`` is the width of the value range."""
    if not span > 0:
        raise InputError(f"the value range is {span} wide; give a positive number, e.g. 1.0 or 10000")
    error = _mean((predicted.double() - target.double()).square(), _known(predicted, target)[:, None]) / span**2
    return (-10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))).float()


def ssim_bands(predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b2 c2 h2 w2"]) -> Float[Tensor, "b c"]:
    """SSIM of each band of each image, values in [0, 1] and none missing (a window needs all of its pixels)."""
    if not bool(_known(predicted, target).all()):
        raise InputError("SSIM needs every pixel, and some are NaN; crop the images, or use PSNR")
    return torch.stack([ssim_each(predicted[:, i : i + 1], target[:, i : i + 1]) for i in range(target.shape[1])], 1)


def summarise_spectral(
    metric: str,
    values: Float[Tensor, "n ..."],
    *,
    bands: Sequence[str] = (),
    confidence: float | None = None,
    seed: int = 0,
) -> SpectralMeasurement:
    """The mean of per-image values, or of per-image and per-band ones, with the bootstrap interval over images."""
    each = values.double() if values.ndim == 1 else values.double().mean(1)
    interval = None
    if confidence is not None:
        interval = bootstrap(lambda x: float(x.mean()), each, confidence=confidence, seed=seed)
    names = list(bands) or [f"band{i + 1}" for i in range(values.shape[1] if values.ndim == 2 else 0)]
    if values.ndim == 2 and len(names) != values.shape[1]:
        raise InputError(f"{len(names)} band names do not fit {values.shape[1]} bands; give one name per band")
    per_band = dict(zip(names, values.double().mean(0).tolist(), strict=True)) if values.ndim == 2 else {}
    unit = {"spectral_angle": "degrees", "psnr_bands": "dB"}.get(metric, "")
    return SpectralMeasurement(metric, float(each.mean()), len(values), None, interval, confidence, unit, per_band)


def _known(a: Tensor, b: Tensor) -> Bool[Tensor, "b h w"]:
    if a.shape != b.shape or len(a) == 0:
        raise InputError(f"images {tuple(a.shape)} and {tuple(b.shape)} differ in shape; give pairs of equal size")
    known = torch.isfinite(a).all(1) & torch.isfinite(b).all(1)
    if not bool(known.flatten(1).any(1).all()):
        raise InputError("an image has no pixel with a value in every band; leave it out")
    return known


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the last two axes where ``known``."""
    known = known.expand_as(values)
    return torch.where(known, values, 0.0).sum((-2, -1)) / known.sum((-2, -1))
