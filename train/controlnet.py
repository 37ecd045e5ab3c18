"""Train the layout ControlNet of a finished denoiser: ``python -m gensat.train.controlnet [RECIPE] key=value ...``.

The denoiser and its encoders stay as they are; class maps come from the sources that have them, edges from every image.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.controlnet import LayoutControlNet
from .autoencoder import turn
from .denoiser import build, flow, load_bank
from .latents import Dropout, controls, stacked, told
from .runner import Trainer, load_recipe


def main(arguments: list[str]) -> None:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    name = arguments.pop(0) if arguments and "=" not in arguments[0] else "controlnet"
    recipe = load_recipe(name, arguments)
    torch.manual_seed(recipe.seed)
    bank = load_bank(recipe)
    drop = Dropout(**recipe.dropout)
    small = min(bank.by_size)
    base = build({"init": recipe.denoiser}).eval().requires_grad_(False)
    controlnet = LayoutControlNet(**recipe.model)
    controlnet.load_from_denoiser(base.unet)
    trainer = Trainer(controlnet, recipe)
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

    run = torch.compile(predict, dynamic=False) if recipe.compile else predict

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries = bank.batch(rng, small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
        k = int(rng.integers(8))
        image = turn(controls(entries, rng), k)
        return {"image": image} | told(bank, entries, rng, drop, sensors) | flow(turn(stacked(entries), k), rng)

    def loss(model: LayoutControlNet, batch: dict[str, Any]) -> dict[str, Tensor]:
        with torch.no_grad():
            vector = base.place_encoder(*batch["place"]) + base.acquisition_encoder(*batch["acquisition"])
        x, t, target, tokens, mask = (batch[n] for n in ("x", "t", "target", "tokens", "mask"))
        error = (run(x, t, tokens, mask, vector, batch["image"]).float() - target).square().mean()
        return {"loss": error, "large" if x.shape[-1] > small else "small": error}

    def save(model: LayoutControlNet, folder) -> None:
        model.save_pretrained(folder / "controlnet")

    trainer.run(loss, draw, on_save=lambda t: t.save_ema(t.out / "ema", save))


if __name__ == "__main__":
    main(sys.argv[1:])
