"""Image pairs: what an autoencoder gives back, and two folders whose files have the same names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...metrics.reconstruction import psnr_each, ssim_each, summarise
from ...metrics.spectral import (
    ergas_each,
    psnr_bands,
    spectral_angle_each,
    ssim_bands,
    summarise_spectral,
)
from ...models.features import to_tensor
from ...types import GeoImage
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation, by_shape

_WIDTH = {"uint8": 255.0, "uint16": 10000.0}  # of the value range: 16 bit is read as reflectance times 10,000


def autoencoder(run: Evaluation) -> dict:
    """PSNR, SSIM and ELPD (LPIPS too, where given) of reconstructions of all held-out images, by source."""
    if run.pipe is None:
        raise LeftOut("needs a model; folders have no autoencoder")
    codec = run.pipe.codec
    figures = {}
    for source in sorted({s.source for s in run.heldout}):
        each: dict[str, list[Tensor]] = {}
        for same in by_shape(s.image for s in run.heldout if s.source == source):
            x = to_tensor(same)
            y = (codec.decode(codec.encode((x * 2 - 1).to(run.pipe.device))).float().cpu() / 2 + 0.5).clamp(0, 1)
            for name, values in compared(run, y, x).items():
                each.setdefault(name, []).append(values)
        figures[source] = summed(run, each)
    return figures


def pairs(run: Evaluation) -> dict:
    """Images of the same name on both sides: PSNR, SSIM, ELPD, LPIPS; with more than three bands also spectral angle,
    ERGAS, and PSNR and SSIM of each band.
    """
    found = run.sides.pairs
    if not found:
        raise LeftOut("no image of --fake has the name of one of --real; name them alike to compare them one by one")
    each: dict[str, list[Tensor]] = {}
    bands: dict[str, list[Tensor]] = {}
    names: tuple[str, ...] = ()
    shown: list[np.ndarray] = []
    unlike: list[str] = []
    for real, fake in found:
        a, b = real.image(), fake.image()
        if a.array.shape != b.array.shape or a.array.dtype != b.array.dtype:
            unlike.append(f"{fake.path.name} ({shape(b)}, the real one {shape(a)})")
            continue
        x, y = real.rgb() if a.array.dtype == np.uint8 else None, fake.rgb() if b.array.dtype == np.uint8 else None
        if x is not None and y is not None:
            for name, values in compared(run, to_tensor([y]), to_tensor([x])).items():
                each.setdefault(name, []).append(values)
        if len(a.bands) > 3:
            names = tuple(band.name for band in a.bands)
            for name, values in spectra(a, b).items():
                bands.setdefault(name, []).append(values)
        if len(shown) < 24:
            shown += [real.rgb(), fake.rgb()]
    if unlike:
        why = f"{len(unlike)} of {len(found)} pairs differ in size, bands or type, first {unlike[0]}; make them alike"
        if len(unlike) == len(found):
            raise LeftOut(why)
        run.leave_out("pairs / unlike", why)
    figures: dict[str, Any] = {"images": summed(run, each)} if each else {}
    if bands:
        figures["bands"] = {
            name: summarise_spectral(
                name, torch.cat(v), bands=names if v[0].ndim == 2 else (), confidence=CONFIDENCE
            ).to_dict()
            for name, v in bands.items()
        }
    else:
        run.leave_out("pairs / spectral angle, ERGAS", "the images have three bands or fewer")
    run.picture("pairs (real, fake)", shown, 8)
    return figures


def compared(run: Evaluation, y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Per-image values of all pair metrics that are at hand, of RGB images in [0, 1]."""
    values = {"psnr": psnr_each(y, x)}
    if min(x.shape[-2:]) >= 11:
        values["ssim"] = ssim_each(y, x)
    device = run.networks.device
    if min(x.shape[-2:]) >= 32:
        values["elpd"] = run.networks.elpd(y.to(device), x.to(device)).cpu()
        try:
            values["lpips"] = run.networks.lpips(y.to(device), x.to(device)).cpu()
        except LeftOut as reason:
            run.leave_out("lpips", str(reason))
    return values


def summed(run: Evaluation, each: dict[str, list[Tensor]]) -> list[dict]:
    """One measurement for each metric."""
    names = {"elpd": "elpd", "lpips": "lpips"}
    return [
        summarise(
            name,
            torch.cat(values),
            extractor=getattr(run.networks, name).name if name in names else None,
            confidence=CONFIDENCE,
            seed=run.seed,
        ).to_dict()
        for name, values in each.items()
    ]


def shape(image: GeoImage) -> str:
    """Size, bands and type in words."""
    return f"{image.width} x {image.height}, {len(image.bands)} bands, {image.array.dtype}"


def spectra(real: GeoImage, fake: GeoImage) -> dict[str, Tensor]:
    """Per-image values of the metrics of many bands; invalid pixels are left out."""
    x, y = (torch.from_numpy(np.ascontiguousarray(i.physical().transpose(2, 0, 1)))[None] for i in (real, fake))
    values = {"spectral_angle": spectral_angle_each(y, x), "ergas": ergas_each(y, x, ratio=1)}
    span = _WIDTH.get(real.array.dtype.name) or float(np.nanmax(x.numpy()) - np.nanmin(x.numpy()))
    values["psnr_bands"] = psnr_bands(y, x, span=span)
    whole = bool(torch.isfinite(x).all() and torch.isfinite(y).all())
    if whole and min(x.shape[-2:]) >= 11:
        values["ssim_bands"] = ssim_bands((y / span).clamp(0, 1), (x / span).clamp(0, 1))
    return values
