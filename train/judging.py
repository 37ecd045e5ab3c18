"""How a trained autoencoder or denoiser is measured when several are compared (``compare``): small, the same for all, on held-out images."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from jaxtyping import Float
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..files import atomic_write
from ..metrics.base import FeatureSet, extract
from ..metrics.consistency import class_consistency
from ..metrics.frechet import PrincipalBasis, frechet_64
from ..metrics.reconstruction import psnr_each, ssim_each
from ..models.autoencoder import ConvAutoencoder
from ..models.features import over_images, to_tensor
from .assemble import ConditionedDenoiser, load_denoiser, make_pipeline, scheduler_of
from .data import SOURCES, load_samples
from .dropout import Dropout, told
from .evaluation.networks import Networks
from .evaluation.session import bucketed
from .latents import Bank, TextBank, encode_samples, stacked
from .look import spread
from .objective import Objective
from .sources import Sample

SMALL_THINGS = ("harbor", "parkinglot")
"""Classes whose pictures are full of boats and cars."""

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of noise at which denoisers are compared."""


def last_step(log: Path) -> int:
    """The step that a run's log ends with; 0 where there is none."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def detail_kept(y: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """How much of the finest octave of each image is there again: 1 - |d(y) - d(x)|^2 / |d(x)|^2, d(x) what a 2x2 mean takes away.

    1 is all of it, 0 what a picture without any would have; below 0 it is there, but wrong.
    """

    def fine(image: Tensor) -> Tensor:
        return image - F.interpolate(F.avg_pool2d(image, 2), scale_factor=2, mode="nearest")

    missing = (fine(y) - fine(x)).square().sum(dim=(1, 2, 3))
    return 1 - missing / fine(x).square().sum(dim=(1, 2, 3)).clamp_min(1e-12)


@torch.no_grad()
def rebuilt(folder: Path, measure: DictConfig, recipe: DictConfig) -> dict[str, float | int]:
    """Of the autoencoder that ``recipe`` trained into ``folder``: size, numbers a pixel, and PSNR, SSIM and kept detail of held-out images.

    ``measure.count`` images a source, cut to ``measure.side`` pixels at most.
    """
    vae = ConvAutoencoder.from_pretrained(folder).eval()
    codec = Codec(vae)
    weights = sum(p.numel() for p in vae.parameters())
    figures = {
        "million weights": round(weights / 1e6, 2),
        "latent numbers a pixel": vae.config.latent_channels / vae.factor**2,
    }
    each: dict[str, list[Tensor]] = {}
    for source in measure.get("sources") or SOURCES:
        samples = load_samples(measure.root, "heldout", sources=[source])
        for sample in (
            spread(samples, measure.count) if source != "ucmerced" else evenly_by_class(samples, measure.count)
        ):
            x = to_tensor([middle(sample.image, measure.side, vae.factor)])
            y = (codec.decode(codec.encode(x * 2 - 1)).float() / 2 + 0.5).clamp(0, 1)
            found = {"psnr": psnr_each(y, x), "ssim": ssim_each(y, x), "detail": detail_kept(y, x)}
            names = [source, "all", *(["boats and cars"] if sample.klass in SMALL_THINGS else [])]
            for name in names:
                for metric, values in found.items():
                    each.setdefault(f"{metric} {name}", []).append(values)
    wanted = [k for k in each if k.startswith("psnr") or k.split(" ", 1)[1] in ("all", "boats and cars")]
    return figures | {name: round(float(torch.cat(each[name]).mean()), 3) for name in wanted}


def evenly_by_class(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most ``count``, as many of each class; those of ``SMALL_THINGS`` first."""
    names = sorted({s.klass or "" for s in samples}, key=lambda name: (name not in SMALL_THINGS, name))
    groups = [[s for s in samples if (s.klass or "") == name] for name in names]
    order = [group[k] for k in range(max(map(len, groups))) for group in groups if k < len(group)]
    return order[:count]


def middle(image: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """The central square of at most ``side`` pixels, a multiple of ``multiple``."""
    size = min(side, *image.shape[:2]) // multiple * multiple
    row, col = ((n - size) // 2 for n in image.shape[:2])
    return np.ascontiguousarray(image[row : row + size, col : col + size])


def _kept_features(path: Path, samples: Sequence[Sample], networks: Networks) -> FeatureSet:
    """Of real images, from a file where it is of these."""
    key = hashlib.sha256(b"".join(s.image.tobytes() for s in samples)).hexdigest()[:16]
    path = path.with_name(f"{path.name}-{networks.features.name.replace('@', '-')}-{key}.safetensors")
    if path.is_file():
        return FeatureSet(load_file(path)["values"], networks.features.name)
    found = extract(networks.features, [s.image for s in samples], device=networks.device)
    with atomic_write(path) as fresh:
        save_file({"values": found.values.contiguous()}, fresh)
    return found


@torch.no_grad()
def flow_error(base: ConditionedDenoiser, scheduler: Any, vae: ConvAutoencoder, samples: Sequence[Sample]) -> float:
    """Mean square error of a denoiser on held-out samples, told all that is known of them, as the loss of flow matching.

    Whatever it was trained to predict, its estimate y of the clean latents x counts, at shares of noise s of ``LEVELS``: |y - x|^2 / s^2, which
    for flow matching is the error of the velocity. The noise is the same for all denoisers.
    """
    device, objective = next(base.parameters()).device, Objective(scheduler)
    entries = encode_samples(samples, Codec(vae), seed=0, make=lambda sample: [sample])  # as they are, at any size
    bank = Bank(
        entries, {e.source: 1.0 for e in entries}, TextBank.encode((e.captions[0] for e in entries), load_minilm())
    )
    open_ears = Dropout(**dict.fromkeys(vars(Dropout()), 0.0))
    sensors, found = list(base.acquisition_encoder.config.sensors), []
    for first in range(0, len(entries), 32):
        part = [replace(e, captions=e.captions[:1]) for e in entries[first : first + 32]]
        rng = np.random.default_rng(first)
        batch = send_to_device(told(bank, part, rng, open_ears, sensors), device)
        vector = base.place_encoder(*batch["place"]) + base.acquisition_encoder(*batch["acquisition"])
        x = stacked(part)
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        for share in LEVELS:
            time, signal, spread = objective.at(share)
            given = {"encoder_hidden_states": batch["tokens"], "encoder_attention_mask": batch["mask"]}
            noisy = signal * x + spread * noise
            out = base.unet(noisy.to(device), torch.full((len(x),), time, device=device), **given, time_vector=vector)
            clean = objective.clean(noisy, out.sample.cpu(), signal, spread)
            found.append((clean - x).square().mean(dim=(1, 2, 3)) * ((signal + spread) / spread) ** 2)
    return float(torch.cat(found).mean())


@torch.no_grad()
def made(folder: Path, measure: DictConfig, recipe: DictConfig) -> dict[str, float | int]:
    """Of the denoiser that ``recipe`` trained into ``folder``: its size, ``flow_error``, and Frechet-64 and class consistency of images asked for by held-out UC Merced's captions.

    ``measure.count`` images of ``measure.side`` pixels; the features of real images are the same for all and are kept two folders above.
    """
    base = load_denoiser(folder).eval()
    vae = ConvAutoencoder.from_pretrained(recipe.autoencoder).eval()
    pipe = make_pipeline("compared", vae, base, licence="", scheduler=scheduler_of(folder))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe.to(device).set_progress_bar_config(disable=True)
    held = load_samples(measure.root, "heldout", sources=["ucmerced"])
    asked = [bucketed(s, measure.side, measure.side) for s in evenly_by_class(held, measure.count)]
    networks = Networks(device=device)
    trained = load_samples(measure.root, "train", sources=["ucmerced"])[:: measure.every]
    trained = [bucketed(s, measure.side, measure.side) for s in trained]
    real = extract(networks.features, [s.image for s in asked], device=device)
    train = _kept_features(folder.parents[1] / "features", trained, networks)
    images = []
    for first in range(0, len(asked), measure.batch):
        part = asked[first : first + measure.batch]
        result: Any = pipe(
            [s.caption for s in part],
            width=measure.side,
            height=measure.side,
            gsd=part[0].acquisition.gsd,
            seed=[measure.seed + first + k for k in range(len(part))],
            num_inference_steps=measure.steps,
            guidance_scale=measure.guidance,
        )
        images += [scene.array for scene in result.scenes]
    fake = extract(networks.features, images, device=device)
    basis = PrincipalBasis.fit(train, dims=64)
    probe = networks.class_probe
    seen = over_images(lambda x: probe.classify(x, backbone=networks.backbone), images, device=device)
    wanted = torch.tensor([probe.outputs.index(str(s.klass)) for s in asked])
    consistent = class_consistency(seen, wanted, classes=probe.outputs, extractor=probe.name)
    return {
        "million weights": round(sum(p.numel() for p in base.unet.parameters()) / 1e6, 2),
        "flow error": round(flow_error(base, pipe.scheduler, vae, asked), 4),
        "Frechet-64": round(frechet_64(real, fake, basis=basis, train=train, force=True).value, 1),
        "class consistency": round(consistent.value, 3),
    }
