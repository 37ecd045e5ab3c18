"""Train the denoiser with its place and acquisition encoders: ``python -m gensat.train.denoiser [RECIPE] key=value ...``.

Flow matching on straight paths (Lipman et al. 2023, eq. 23; Liu et al. 2023): x_s = (1 - s) x + s n, target n - x, s logit-normal
(Esser et al. 2024, section 3.1). Latents are turned by the symmetries of the square, which the autoencoder was trained to follow.
"""

import hashlib
import json
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioning.acquisition import AcquisitionEncoder
from ..conditioning.place import SirenPlaceEncoder
from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..models.autoencoder import ConvAutoencoder
from ..models.denoiser import LatentDenoiser
from .autoencoder import turn
from .cache import cached
from .data import read_samples
from .latents import Bank, Dropout, Entry, TextBank, encode_samples, stacked, told
from .runner import Trainer, load_recipe
from .sources import NON_COMMERCIAL


class ConditionedDenoiser(nn.Module):
    """The denoiser and the encoders that are trained with it."""

    unet: LatentDenoiser
    place_encoder: SirenPlaceEncoder
    acquisition_encoder: AcquisitionEncoder

    def __init__(self, unet: LatentDenoiser, place_encoder: SirenPlaceEncoder, acquisition_encoder: AcquisitionEncoder):
        super().__init__()
        self.unet, self.place_encoder, self.acquisition_encoder = unet, place_encoder, acquisition_encoder

    def save(self, folder) -> None:
        """Each part as a diffusers folder under ``folder``."""
        for name in ("unet", "place_encoder", "acquisition_encoder"):
            getattr(self, name).save_pretrained(folder / name)


def build(recipe) -> ConditionedDenoiser:
    """Fresh networks of a recipe, or those saved in the folder ``recipe["init"]``."""
    if init := recipe["init"]:
        return ConditionedDenoiser(
            LatentDenoiser.from_pretrained(init, subfolder="unet"),
            SirenPlaceEncoder.from_pretrained(init, subfolder="place_encoder"),
            AcquisitionEncoder.from_pretrained(init, subfolder="acquisition_encoder"),
        )
    return ConditionedDenoiser(
        LatentDenoiser(**recipe.model),
        SirenPlaceEncoder(**recipe.place),
        AcquisitionEncoder(**{**recipe.acquisition, "sensors": list(recipe.acquisition.sensors)}),
    )


def load_bank(recipe, *, mosaics: bool = True) -> Bank:
    """All training samples of the recipe as latents of its autoencoder, with encoded captions."""
    vae = ConvAutoencoder.from_pretrained(recipe.autoencoder).eval().to(memory_format=torch.channels_last)

    def encode() -> list[Entry]:
        samples = read_samples(recipe.data.root, "train", mosaics=mosaics)
        if recipe.data.public_domain:
            samples = (s for s in samples if s.source not in NON_COMMERCIAL)
        return encode_samples(samples, Codec(vae), seed=recipe.data.seed, clouds=recipe.data.clouds)

    weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in vae.state_dict().values())).hexdigest()[:16]
    data = {k: v for k, v in recipe.data.items() if k in ("public_domain", "clouds", "seed")}
    entries = cached(recipe.data.cache, json.dumps({"autoencoder": weights, "mosaics": mosaics, **data}), encode)
    captions = (c for e in entries for c in e.captions)
    text = (
        TextBank.load(recipe.data.text_states) if recipe.data.text_states else TextBank.encode(captions, load_minilm())
    )
    return Bank(entries, dict(recipe.shares), text)


def flow(latents: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """Noisy latents ``x``, time steps ``t`` (0..1000) and ``target`` of flow matching, all drawn from ``rng``."""
    sigma = torch.from_numpy(1 / (1 + np.exp(-rng.standard_normal(len(latents), dtype=np.float32))))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    s = sigma[:, None, None, None]
    return {"x": (1 - s) * latents + s * noise, "t": 1000 * sigma, "target": noise - latents}


def main(arguments: list[str]) -> None:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    name = arguments.pop(0) if arguments and "=" not in arguments[0] else "denoiser"
    recipe = load_recipe(name, arguments)
    torch.manual_seed(recipe.seed)
    bank = load_bank(recipe)
    drop = Dropout(**recipe.dropout)
    small = min(bank.by_size)
    trainer = Trainer(build(recipe), recipe)
    unet = torch.compile(trainer.plain.unet, dynamic=False) if recipe.compile else trainer.plain.unet
    sensors = list(trainer.plain.acquisition_encoder.config.sensors)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries = bank.batch(rng, small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
        k = int(rng.integers(8))
        return told(bank, entries, rng, drop, sensors) | flow(turn(stacked(entries), k), rng)

    def loss(model: ConditionedDenoiser, batch: dict[str, Any]) -> dict[str, Tensor]:
        vector = model.place_encoder(*batch["place"]) + model.acquisition_encoder(*batch["acquisition"])
        x, t, target, tokens, mask = (batch[n] for n in ("x", "t", "target", "tokens", "mask"))
        prediction = unet(x, t, tokens, encoder_attention_mask=mask, time_vector=vector, return_dict=False)[0]
        error = (prediction.float() - target).square().mean()
        return {"loss": error, "large" if x.shape[-1] > small else "small": error}

    trainer.run(loss, draw, on_save=lambda t: t.save_ema(t.out / "ema", lambda model, folder: model.save(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
