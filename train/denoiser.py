"""Train the denoiser with its place and acquisition encoders: ``python -m gensat.train.denoiser [RECIPE] key=value ...``.

``objective`` says what it predicts, flow matching by default. Latents are turned by symmetries of the square (``latents.turns``), which the autoencoder was trained to
follow.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..errors import InputError
from ..models.autoencoder import ConvAutoencoder
from ..models.features import to_tensor
from .alignment import Alignment
from .assemble import ConditionedDenoiser, build, make_pipeline, save_scheduler, scheduler_of
from .cache import cached
from .card import Outcome, finished, write_card
from .dropout import make_dropout, told
from .feed import check_data, identity, samples
from .latents import Bank, Entry, TextBank, encode_samples, stacked, turn_each, turns
from .objective import BatchObjective, loss
from .recipe import program, start
from .runner import Trainer
from .sheets import requests, sample_sheet


def load_bank(recipe, pipe: Any = None, *, mosaics: bool = True) -> Bank:
    """All training samples of the recipe as latents of its autoencoder, with encoded captions; with ``pipe`` by that model's networks."""
    vae = pipe.vae if pipe else ConvAutoencoder.from_pretrained(recipe.autoencoder)
    vae = vae.eval().to(memory_format=torch.channels_last)

    def encode() -> list[Entry]:
        found = samples(recipe.data, mosaics=mosaics)
        return encode_samples(found, Codec(vae), seed=recipe.data.seed, clouds=recipe.data.clouds)

    weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in vae.state_dict().values())).hexdigest()[:16]
    data = {k: v for k, v in recipe.data.items() if k in ("public_domain", "clouds", "seed")}
    key = {"autoencoder": weights, "mosaics": mosaics, **data, "identity": identity(recipe.data)}
    entries = cached(recipe.data.cache, json.dumps(key), encode)
    captions = (c for e in entries for c in e.captions)
    if states := recipe.data.text_states:
        text = TextBank.load(states)
    else:
        text = TextBank.encode(captions, (pipe.text_encoder, pipe.tokenizer) if pipe else load_minilm())
    return Bank(entries, dict(recipe.shares), text)


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.denoiser [RECIPE] key=value ...``."""
    start(train, "denoiser", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    check_data(recipe.data)
    torch.manual_seed(recipe.seed)
    drop, objective = make_dropout(recipe.dropout), BatchObjective(**recipe.objective)
    base, align = build(recipe), recipe.align
    if recipe.core and type(scheduler_of(recipe.core)) is not type(objective.scheduler):
        raise InputError(f"the denoiser of {recipe.core} predicts something else; set objective.prediction as it was")
    bank = load_bank(recipe)
    small = min(bank.by_size)
    if align.weight:
        base.add_module("alignment", alignment := Alignment(base.unet, block=align.block))
    trainer = Trainer(base.to(memory_format=torch.channels_last), recipe)
    unet = torch.compile(trainer.plain.unet, dynamic=False) if recipe.compile else trainer.plain.unet
    sensors = list(trainer.plain.acquisition_encoder.config.sensors)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries = bank.batch(rng, small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
        ways = turns(entries, int(rng.integers(8)))
        batch = told(bank, entries, rng, drop, sensors) | objective(turn_each(stacked(entries), ways), rng)
        if align.weight:
            batch["image"] = turn_each(to_tensor([e.image for e in entries]), ways)
        return batch

    def error(model: ConditionedDenoiser, batch: dict[str, Any]) -> dict[str, Tensor]:
        vector = model.place_encoder(*batch["place"]) + model.acquisition_encoder(*batch["acquisition"])
        x, t, tokens, mask = (batch[n] for n in ("x", "t", "tokens", "mask"))
        prediction = unet(x, t, tokens, encoder_attention_mask=mask, time_vector=vector, return_dict=False)[0]
        value = loss(prediction, batch)
        figures = {"large" if x.shape[-1] > small else "small": value}
        if align.weight:
            figures["unlike"] = alignment(batch["image"])
            value = value + align.weight * figures["unlike"]
        return {"loss": value, **figures}

    def save(model: ConditionedDenoiser, folder: Path) -> None:
        model.save(folder)
        save_scheduler(objective.scheduler, folder)

    trainer.run(
        error,
        draw,
        on_save=lambda t: t.save_ema(t.out / "ema", save),
        sample=pictures(recipe, trainer.plain, bank, scheduler=objective.scheduler),
    )
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Denoiser",
            summary="A LatentDenoiser of gensat with its place and acquisition encoders.",
            licence="that of the training data",
            use="python -m gensat.train.assemble OUT autoencoder=DIR denoiser=THIS_FOLDER",
            data=bank.about(),
        )
    return finished(trainer, trainer.out / "ema")


def pictures(
    recipe: DictConfig, base: ConditionedDenoiser, bank: Bank, controlnet: Any = None, *, scheduler: Any = None
) -> Callable | None:
    """What makes a sample sheet, or None where the recipe wants none or the text encoder could not be carried here."""
    if not recipe.get("sample_every") or recipe.data.text_states:
        return None
    pipe: list[Any] = []
    largest = [e for e in bank.entries if e.latent.shape[-1] == max(bank.by_size)]
    calls = requests(largest, layouts=controlnet is not None)

    def picture() -> Any:
        if not pipe:
            vae = ConvAutoencoder.from_pretrained(recipe.autoencoder).eval()
            pipe.append(
                make_pipeline("training", vae, base, controlnet, licence="", scheduler=scheduler).to(
                    next(base.parameters()).device
                )
            )
            pipe[0].set_progress_bar_config(disable=True)
        return sample_sheet(pipe[0], calls, seed=recipe.seed)

    return picture


if __name__ == "__main__":
    program(main)
