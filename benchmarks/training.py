"""One training step of ours against the loop of diffusers' text-to-image example: same U-Net, batch, precision, optimizer, in one run.

``python -m benchmarks.training``, on the GPU where there is one. Latents and text states: the example encodes every image and caption
anew in every step, we keep them; a second row gives the example our kept ones, so that what remains is the loop itself.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from omegaconf import OmegaConf

from gensat.diffusion.codec import Codec
from gensat.train import logs
from gensat.train.dropout import Dropout
from gensat.train.latents import TextBank, encode_samples, fitted
from gensat.train.methods import Full
from gensat.train.objective import Objective, loss
from gensat.train.runner import Trainer
from gensat.train.sources import Sample
from gensat.train.tuning import EpochDraw

from . import stable_diffusion
from .common import machine, pairs, table
from .stable_diffusion import SD21, SMALL, components

RATE, DECAY, CLIP = 1e-4, 0.9999, 1.0


def samples(count: int, side: int) -> list[Sample]:
    """Pictures of noise, each with a caption."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return [Sample("noise", f"k{k}", picture, f"picture {chr(97 + k % 26)}") for k, picture in enumerate(pictures)]


def parts(size: Any, device: torch.device) -> dict[str, Any]:
    """A model of its own for each side, with the same weights, and the scheduler it is trained with."""
    made = components(size, device)
    made["scheduler"] = DDPMScheduler.from_config(made["scheduler"].config)
    return made


def example(made: dict[str, Any], found: list[Sample], batch: int, precision: str, *, kept: bool) -> Callable[[], None]:
    """The step of the example: encode, noise, predict, weigh by min-SNR, clip, AdamW, EMA; written with diffusers and accelerate."""
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    unet, vae, text, tokenizer, scheduler = (
        made[name] for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    )
    unet.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = EMAModel(unet.parameters(), decay=DECAY)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    average.to(accelerator.device)
    pixels = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1).float() / 127.5 - 1 for s in found])
    words = [s.caption for s in found]

    def encode(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids = tokenizer([words[i] for i in rows], padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad(), accelerator.autocast():
            states = text(ids.to(accelerator.device))[0]
            latents = vae.encode(pixels[rows].to(accelerator.device)).latent_dist.sample() * vae.config.scaling_factor
        return latents.float(), states.float()

    everything = encode(torch.arange(len(found))) if kept else None
    alphas = scheduler.alphas_cumprod.to(accelerator.device)
    position = itertools.count(0, batch)

    def step() -> None:
        rows = torch.arange(first := next(position), first + batch) % len(found)
        latents, states = encode(rows) if everything is None else (part[rows] for part in everything)
        noise = torch.randn_like(latents)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (batch,), device=latents.device)
        with accelerator.autocast():
            made = unet(scheduler.add_noise(latents, noise, times), times, states, return_dict=False)[0]
        snr = alphas[times] / (1 - alphas[times])
        error = F.mse_loss(made.float(), noise, reduction="none").mean(dim=(1, 2, 3))
        value = (error * snr.clamp(max=5.0) / snr).mean()
        accelerator.backward(value)
        accelerator.clip_grad_norm_(unet.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        average.step(unet.parameters())
        float(value.detach())  # the example logs every step

    return step


def ours(made: dict[str, Any], found: list[Sample], batch: int, precision: str, out: Path) -> Callable[[], None]:
    """A step of our trainer on the same data."""
    pipe = stable_diffusion.ours(made, steps=20)
    settings = {"batch": batch, "lr": RATE, "beta2": 0.99, "weight_decay": 0.01, "ema": DECAY, "clip": CLIP, "seed": 0}
    run = {
        "steps": 10**9,
        "minutes": None,
        "warmup": 1,
        "schedule": "constant",
        "log_every": 10**9,
        "save_every": 10**9,
    }
    recipe = OmegaConf.create({**settings, **run, "out": str(out), "precision": precision, "tensorboard": False})
    side = found[0].image.shape[0]
    entries = encode_samples(found, Codec(pipe.vae), seed=0, clouds=0.0, make=lambda s: [fitted(s, side)])
    text = TextBank.encode([s.caption for s in found], (pipe.text_encoder, pipe.tokenizer), max_tokens=77)
    text = TextBank(list(text.row), text.tokens.float().cpu(), text.mask.cpu())
    objective, nothing = Objective(pipe.scheduler, snr_gamma=5), Dropout(*[0.0] * 8)
    draw = EpochDraw(entries, text, objective, batch=batch, seed=0, drop=nothing)
    trainer = Trainer(Full(pipe, recipe), recipe)
    batches = trainer._batches(draw)

    def error(model: Any, told: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"loss": loss(model(told), told)}

    return lambda: trainer._update(error, next(batches), 1.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("small", "sd21"), default="small")
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    parser.add_argument("--runs", type=int, default=9, help="pairs a row")
    options = parser.parse_args()
    logs.quiet = True
    size = {"small": SMALL, "sd21": SD21}[options.size]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found, rows = samples(16, options.side), []
    with tempfile.TemporaryDirectory() as folder:
        for name, kept in (("example as it is", False), ("example with kept latents and text", True)):
            mine = ours(parts(size, device), found, options.batch, options.precision, Path(folder) / str(kept))
            theirs = example(parts(size, device), found, options.batch, options.precision, kept=kept)
            compared = pairs(mine, theirs, runs=options.runs)
            rate = f"{options.batch / compared.first:.2f}"
            rows.append((name, f"{compared.first:.3f}", f"{compared.second:.3f}", compared.text(), rate))
    what = (
        f"{options.size} U-Net, {options.side} x {options.side}, batch {options.batch}, precision {options.precision}"
    )
    print(f"{machine()}; {what}, AdamW, EMA, min-SNR; {options.runs} pairs\n")
    print(table(rows, ("against", "gensat s a step", "diffusers s a step", "ratio", "gensat images/s")))


if __name__ == "__main__":
    main()
