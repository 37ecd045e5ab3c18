"""Train the layout ControlNet of a finished denoiser: ``python -m gensat.train.controlnet [RECIPE] key=value ...``.

The denoiser and its encoders stay as they are; class maps come from the sources that have them, edges from every image.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from ..models.controlnet import LayoutControlNet
from .autoencoder import turn
from .denoiser import build, flow, load_bank
from .latents import Dropout, conditions, controls, time_vector
from .runner import Trainer, load_recipe


def main(arguments: list[str]) -> None:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    name = arguments.pop(0) if arguments and "=" not in arguments[0] else "controlnet"
    recipe = load_recipe(name, arguments)
    torch.manual_seed(recipe.seed)
    bank = load_bank(recipe)
    drop = Dropout(**recipe.dropout)
    sizes = sorted(bank.by_size)
    base = build({"init": recipe.denoiser}).eval().requires_grad_(False)
    controlnet = LayoutControlNet(**recipe.model)
    controlnet.load_from_denoiser(base.unet)
    trainer = Trainer(controlnet, recipe)
    device = trainer.accelerator.device
    base.to(device)

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

    def loss(model: LayoutControlNet, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([recipe.seed, step])
        large = rng.random() < recipe.large
        entries = bank.pick(rng, sizes[-1] if large else sizes[0], recipe.batch if large else 3 * recipe.batch)
        captions, places, acquisitions = conditions(entries, rng, drop)
        k = int(rng.integers(8))
        latents = turn(torch.from_numpy(np.stack([e.latent for e in entries])).float(), k)
        image = turn(controls(entries, rng), k).to(device)
        x, t, target = (part.to(device) for part in flow(latents, rng))
        tokens, mask = (part.to(device) for part in bank.text(captions))
        with torch.no_grad():
            vector = time_vector(base.place_encoder, base.acquisition_encoder, places, acquisitions)
        prediction = run(x, t, tokens, mask, vector, image)
        error = (prediction.float() - target).square().mean()
        return {"loss": error, "large" if large else "small": error}

    def save(model: LayoutControlNet, folder) -> None:
        model.save_pretrained(folder / "controlnet")

    trainer.run(loss, on_save=lambda t: t.save_ema(t.out / "ema", save))


if __name__ == "__main__":
    main(sys.argv[1:])
