"""Train the ground refiner's denoiser: ``python -m gensat.train.refiner [RECIPE] key=value ...``.

Flow matching on the latents of what a street looks like, shown the G-buffers of its raw render (``conditioning.gbuffers``), words, and half
of the time latents of an earlier frame, as far as they reach: the answer's own, disturbed and with holes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from ..conditioning.gbuffers import GBUFFER_CHANNELS, refiner_channels
from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..hub.resolve import shipped
from ..hub.spec import Defaults, ModelSpec, Signal
from ..models.denoiser import LatentDenoiser
from ..models.finisher import Finisher
from ..pipelines.ground import GroundPipeline
from .assemble import save_shared
from .card import Outcome, finished, write_card
from .objective import flow, loss
from .pair_bank import PairBank, load_vae
from .recipe import program, start
from .runner import Trainer


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.refiner [RECIPE] key=value ...``."""
    start(train, "refiner", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; a whole model folder of the EMA weights is written to ``out/ema`` at every save."""
    bank = PairBank(recipe.data.folder)
    torch.manual_seed(recipe.seed)
    vae = load_vae(recipe.autoencoder)
    codec = Codec(vae)
    finisher = Finisher.from_pretrained(recipe.finisher) if recipe.finisher else Finisher()
    channels, text = codec.channels, bank.text(load_minilm())
    extra = len(GBUFFER_CHANNELS) + 2 * channels + 1
    fresh = LatentDenoiser(in_channels=channels, out_channels=channels, extra_channels=extra, **recipe.model)
    trainer = Trainer(LatentDenoiser.from_pretrained(recipe.init, subfolder="unet") if recipe.init else fresh, recipe)
    vae.to(trainer.accelerator.device)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        batch = bank.batch(rng, recipe.batch, recipe.data.crop)
        words = ["" if rng.random() < recipe.dropout.text else c for c in batch.pop("captions")]
        cells = recipe.data.crop // codec.factor
        batch["tokens"], batch["mask"] = text.states(words)
        batch["valid"] = torch.from_numpy(earlier(rng, recipe.batch, cells, share=1 - recipe.dropout.previous))
        shape = (recipe.batch, channels, cells, cells)
        noise = rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, 0.5, (recipe.batch, 1, 1, 1))
        batch["disturbance"] = torch.from_numpy(noise.astype(np.float32))
        batch["flow"] = flow(torch.zeros(shape), rng)
        return batch

    def error(model: LatentDenoiser, batch: dict[str, Any]) -> dict[str, Tensor]:
        with torch.no_grad():
            latents = codec.encode(batch["target"])
            shown = refiner_channels(codec.encode, batch["guide"], latents + batch["disturbance"], batch["valid"])
        made = batch["flow"]  # drawn for latents of zero, so that they may be made here
        s = made["t"][:, None, None, None] / 1000
        x, target = made["x"] + (1 - s) * latents, made["target"] - latents
        out = model(torch.cat([x, shown], 1), made["t"], batch["tokens"], encoder_attention_mask=batch["mask"])
        return {"loss": loss(out.sample, {"target": target})}

    def save(model: LatentDenoiser, folder: Path) -> None:
        spec = refiner_spec(recipe.name, licence=LICENCE)  # whose text encoder is read from its package
        shared = {"vae": recipe.autoencoder} if recipe.autoencoder in shipped() else {}
        pipe = GroundPipeline(
            vae, model, finisher, FlowMatchEulerDiscreteScheduler(), spec=replace(spec, shared=shared)
        )
        save_shared(pipe, folder)

    trainer.run(error, draw, on_save=lambda t: t.save_ema(t.out / "ema", save))
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Ground refiner",
            summary="What a scene's raw render looks like from the street: latent diffusion shown its G-buffers.",
            licence=LICENCE,
            use="gensat ground IMAGE ... --refine THIS_FOLDER",
            data=bank.about(),
        )
    return finished(trainer, trainer.out / "ema")


LICENCE = "Apache-2.0"


def earlier(rng: np.random.Generator, count: int, cells: int, *, share: float) -> Float[np.ndarray, "b 1 h w"]:
    """Which cells an earlier frame shows: none of it in 1 - ``share``; else all but up to four rectangles."""
    valid = np.zeros((count, 1, cells, cells), np.float32)
    for k in np.flatnonzero(rng.random(count) < share):
        mask = valid[k]
        mask[:] = 1
        for _ in range(int(rng.integers(0, 5))):
            row, col = rng.integers(0, cells, 2)
            mask[0, row : row + int(rng.integers(1, cells)), col : col + int(rng.integers(1, cells))] = 0
    return valid


def refiner_spec(name: str, *, licence: str) -> ModelSpec:
    """The spec of a refiner; G-buffers belong to every request."""
    return ModelSpec(
        name=name,
        pipeline="GroundPipeline",
        licence=licence,
        description="street views from raw renders with their G-buffers",
        signals={
            "prompt": Signal("tokens", null="empty_text", component="text_encoder"),
            "gbuffers": Signal("channels", bands=GBUFFER_CHANNELS, unconditional="kept", spatial="canvas"),
        },
        native_size=128,
        size_limits=(64, 192),
        window=128,
        window_stride=64,
        text_encoder="minilm",
        defaults=Defaults(steps=12, guidance_scale=1.0, prompt_tokens=24),
    )


if __name__ == "__main__":
    program(main)
