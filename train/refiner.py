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
from torch import Tensor, nn

from ..conditioning.gbuffers import GBUFFER_CHANNELS, refiner_channels
from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..hub.resolve import shipped
from ..hub.spec import Defaults, ModelSpec, Signal
from ..models.denoiser import LatentDenoiser
from ..models.finisher import Finisher
from ..models.stem import GuideStem
from ..pipelines.ground import GroundPipeline
from .assemble import save_model
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
    torch.manual_seed(recipe.seed)
    vae = load_vae(recipe.autoencoder)
    codec = Codec(vae)
    trainer = Trainer(Painter.build(recipe, codec.channels), recipe)
    vae.to(trainer.accelerator.device)
    bank = PairBank(recipe.data.folder, codec)
    finisher = Finisher.from_pretrained(recipe.finisher) if recipe.finisher else Finisher()
    channels, text = codec.channels, bank.text(load_minilm())

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        batch = bank.batch(rng, recipe.batch, recipe.data.crop)
        words = ["" if rng.random() < recipe.dropout.text else c for c in batch.pop("captions")]
        cells = recipe.data.crop // codec.factor
        batch["tokens"], batch["mask"] = text.states(words)
        del batch["target"]
        batch["valid"] = torch.from_numpy(earlier(rng, recipe.batch, cells, share=1 - recipe.dropout.previous))
        shape = (recipe.batch, channels, cells, cells)
        noise = rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, 0.5, (recipe.batch, 1, 1, 1))
        batch["previous"] = batch["latents"] + torch.from_numpy(noise.astype(np.float32))
        return batch | flow(batch.pop("latents"), rng)

    def error(model: Painter, batch: dict[str, Any]) -> dict[str, Tensor]:
        shown = refiner_channels(model.stem(batch["guide"]), batch["raw"], batch["previous"], batch["valid"])
        x = torch.cat([batch["x"], shown], 1)
        out = model.unet(x, batch["t"], batch["tokens"], encoder_attention_mask=batch["mask"])
        return {"loss": loss(out.sample, {"target": batch["target"]})}

    def save(model: Painter, folder: Path) -> None:
        spec = refiner_spec(recipe.name, licence=LICENCE)  # whose text encoder is read from its package
        shared = {"vae": recipe.autoencoder} if recipe.autoencoder in shipped() else {}
        pipe = GroundPipeline(
            vae, model.unet, model.stem, finisher, FlowMatchEulerDiscreteScheduler(), spec=replace(spec, shared=shared)
        )
        save_model(pipe, folder)

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


class Painter(nn.Module):
    """The denoiser, and the stem through which it sees the buffers, which is trained with it."""

    unet: LatentDenoiser
    stem: GuideStem

    def __init__(self, unet: LatentDenoiser, stem: GuideStem):
        super().__init__()
        self.unet, self.stem = unet, stem

    @classmethod
    def build(cls, recipe: DictConfig, channels: int) -> "Painter":
        """Fresh networks for latents of ``channels``, or those of the folder ``recipe.init``."""
        if recipe.init:
            parts = (
                c.from_pretrained(recipe.init, subfolder=n) for c, n in ((LatentDenoiser, "unet"), (GuideStem, "stem"))
            )
            return cls(*parts)
        stem = GuideStem(len(GBUFFER_CHANNELS), list(recipe.stem.widths))
        extra = recipe.stem.widths[-1] + 2 * channels + 1
        return cls(LatentDenoiser(channels, channels, extra, **recipe.model), stem)


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
