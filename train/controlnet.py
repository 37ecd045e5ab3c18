"""Train the layout ControlNet of a finished denoiser: ``python -m gensat.train.controlnet [RECIPE] key=value ...``.

The denoiser and its encoders stay as they are; class maps come from the sources that have them, edges from every image. Cells with
rare classes weigh more (``balance``), and now and then nothing is given (``dropout.controls``), so that guidance can amplify the map.
"""

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from ..conditioning.layout import LAYOUT_CHANNELS
from ..errors import InputError
from ..models.controlnet import LayoutControlNet
from ..models.denoiser import LatentDenoiser
from .assemble import load_denoiser, scheduler_of
from .card import Outcome, finished, write_card
from .controls import cell_weights, class_weights, controls
from .denoiser import load_bank, pictures
from .dropout import make_dropout, told
from .feed import check_data
from .latents import stacked, turn_each, turns
from .objective import BatchObjective, loss
from .recipe import program, start
from .runner import Trainer


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.controlnet [RECIPE] key=value ...``."""
    start(train, "controlnet", arguments)


def begun(recipe: DictConfig, denoiser: LatentDenoiser, *, control_channels: int) -> LayoutControlNet:
    """What a recipe begins with: its ``init``, or a new ControlNet on the denoiser with its ``model`` settings.

    Raises InputError for an ``init`` that does not fit the denoiser or shows it other channels.
    """
    if not recipe.init:
        return LayoutControlNet.from_denoiser(denoiser, control_channels=control_channels, **recipe.model)
    made = LayoutControlNet.from_pretrained(recipe.init)
    made.check_fits(denoiser)
    if made.config.control_channels != control_channels:
        raise InputError(
            f"the ControlNet of init={recipe.init} takes {made.config.control_channels} channels, this training shows it {control_channels}"
        )
    return made


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    check_data(recipe.data)
    torch.manual_seed(recipe.seed)
    base = load_denoiser(recipe.denoiser).eval().requires_grad_(False)
    controlnet = begun(recipe, base.unet, control_channels=len(LAYOUT_CHANNELS))
    bank = load_bank(recipe)
    drop = make_dropout(recipe.dropout)
    small, scheduler = min(bank.by_size), scheduler_of(recipe.denoiser)
    objective = BatchObjective.of(scheduler)
    trainer = Trainer(controlnet.to(memory_format=torch.channels_last), recipe)
    maps = [e.layout for e in bank.entries if e.layout is not None and e.layout_origin == "map"]
    weights = class_weights(maps, recipe.balance)
    sensors = list(base.acquisition_encoder.config.sensors)
    base.to(trainer.accelerator.device)

    def predict(x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor, vector: Tensor, image: Tensor) -> Tensor:
        residuals = trainer.plain(x, t, image, time_vector=vector)
        return base.unet(
            x,
            t,
            tokens,
            encoder_attention_mask=mask,
            time_vector=vector,
            down_block_additional_residuals=residuals,
            return_dict=False,
        )[0]

    # on a CPU inductor's C++ compiler died on this step (torch 2.15, bf16, one block), so there it runs as it is
    compiled = recipe.compile and trainer.accelerator.device.type == "cuda"
    run = torch.compile(predict, dynamic=False) if compiled else predict

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries = bank.batch(rng, small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
        ks = turns(entries, int(rng.integers(8)))
        image = turn_each(controls(entries, rng, none=drop.controls), ks)
        latents = turn_each(stacked(entries), ks)
        trust = torch.tensor([recipe.trust if e.layout_origin == "read" else 1.0 for e in entries])
        weight = cell_weights(image, weights, latents.shape[-1], trust)
        return told(bank, entries, rng, drop, sensors) | objective(latents, rng) | {"image": image, "weight": weight}

    def error(model: LayoutControlNet, batch: dict[str, Any]) -> dict[str, Tensor]:
        with torch.no_grad():
            vector = base.place_encoder(*batch["place"]) + base.acquisition_encoder(*batch["acquisition"])
        x, t, tokens, mask = (batch[n] for n in ("x", "t", "tokens", "mask"))
        value = loss(run(x, t, tokens, mask, vector, batch["image"]), batch)
        return {"loss": value, "large" if x.shape[-1] > small else "small": value}

    def save(model: LayoutControlNet, folder) -> None:
        model.save_pretrained(folder / "controlnet")

    trainer.run(
        error,
        draw,
        on_save=lambda t: t.save_ema(t.out / "ema", save),
        sample=pictures(recipe, base, bank, trainer.plain, scheduler=scheduler),
    )
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Layout ControlNet",
            summary="A LayoutControlNet of gensat: ten classes, edges, and what of both is known.",
            licence="that of the training data",
            use="python -m gensat.train.assemble OUT autoencoder=DIR denoiser=DIR controlnet=THIS_FOLDER",
            data=bank.about(),
        )
    return finished(trainer, trainer.out / "ema")


if __name__ == "__main__":
    program(main)
