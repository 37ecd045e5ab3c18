"""Train the flood renderer on a finished denoiser: ``python -m gensat.train.flood [RECIPE] key=value ...``.

A ControlNet is shown the place before, where the water is and how deep (``conditioning.flood``), and learns what the same place looked like
after. The denoiser and its encoders stay as they are; the grain of the water, which the autoencoder loses, is taken from the same pairs. No pair says how deep the water was: a depth that grows with the
distance from the shore, at a slope that is drawn, stands in for it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d

import gensat

from ..conditioning.flood import FLOOD_CHANNELS, encode_flood
from ..conditioning.text import load_minilm
from ..diffusion.codec import Codec
from ..hub.resolve import model_folder
from ..hub.spec import Signal
from ..hub.weights import load_component
from ..models.controlnet import LayoutControlNet
from ..models.water_grain import WaterGrain
from ..pipelines.flood import FloodPipeline
from ..types import Acquisition
from .assemble import NON_COMMERCIAL_LICENCE, control_signals, load_denoiser, save_model
from .autoencoder import turn
from .card import Outcome, finished, write_card
from .controlnet import begun
from .dropout import make_dropout, told
from .flood_pairs import FloodPair, flood_pairs
from .latents import Bank, Entry, TextBank, encode_samples
from .objective import flow, loss
from .recipe import program, start
from .runner import Trainer
from .sources import Sample
from .water_exemplars import water_grain

AFTER = "2017-08-31"
GSD = 0.4673
GUIDANCE = 1.5
"""Guidance scale that is written into the model."""

_SLOPES = (0.005, 0.08)  # of the ground under the water: metres of depth per metre from the shore
_EDGE = 0.1  # metres of water at the shore


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.flood [RECIPE] key=value ...``."""
    start(train, "flood", arguments)


def guessed_depth(water: Bool[np.ndarray, "h w"], slope: float, gsd: float = GSD) -> Float[np.ndarray, "h w"]:
    """Metres of water where nobody knows: 0.1 m at the shore, and deeper with the distance from it times ``slope``; 0 where it is dry."""
    padded = np.pad(water, 1, mode="edge")  # the water goes on beyond the image
    away = ndimage.distance_transform_edt(padded)[1:-1, 1:-1] if not padded.all() else np.full(water.shape, 64.0)
    return np.where(water, _EDGE + away * gsd * slope, 0).astype(np.float32)


class FloodBank:
    """Pairs as latents with what is known of them, and the batches drawn from them."""

    def __init__(self, pairs: Sequence[FloodPair], codec: Codec, crop: int):
        self.crop = crop
        self.pairs = [p for p in pairs if all(s.stop - s.start >= crop + 8 for s in p.window())]
        self.after = self._encode(codec)
        captions = (c for e in self.after for c in e.captions)
        self.bank = Bank(self.after, {}, TextBank.encode(captions, load_minilm()))
        wet = np.array([p.water.mean() for p in self.pairs])
        self.weight = (wet + 0.05) / (wet + 0.05).sum()  # dry places teach little

    def _encode(self, codec: Codec) -> list[Entry]:
        known = Acquisition(gsd=GSD, date=AFTER, sensor="vhr", cloud_cover=0.0)
        samples = [Sample("houston", f"{p.key}.post", p.after, "", None, p.place, known) for p in self.pairs]
        return encode_samples(samples, codec, seed=0, make=lambda s: [s])

    def draw(self, rng: np.random.Generator, count: int) -> tuple[list[Entry], dict[str, Tensor]]:
        """Entries of a batch, and their latents ``after``, the control ``image`` and the share of ``wet`` pixels in each cell, all turned alike."""
        chosen = rng.choice(len(self.pairs), size=count, p=self.weight)
        parts: dict[str, list[np.ndarray]] = {"after": [], "pixels": [], "depth": []}
        for i in chosen:
            pair = self.pairs[i]
            rows, columns = (self._window(s, rng) for s in pair.window())
            cells = (slice(None), *(slice(s.start // 8, s.stop // 8) for s in (rows, columns)))
            parts["after"].append(self.after[i].latent[cells])
            parts["pixels"].append(pair.before[rows, columns])
            slope = float(np.exp(rng.uniform(*np.log(_SLOPES))))
            parts["depth"].append(guessed_depth(pair.water[rows, columns], slope))
        stacked = {name: torch.from_numpy(np.stack(values)) for name, values in parts.items()}
        pixels = stacked.pop("pixels").movedim(-1, 1).float() / 127.5 - 1
        image = encode_flood(pixels, stacked.pop("depth"))
        stacked["image"] = image
        stacked["wet"] = avg_pool2d(image[:, 3:4], 8)
        k = int(rng.integers(8))
        return [self.after[i] for i in chosen], {name: turn(v.float(), k) for name, v in stacked.items()}

    def _window(self, known: slice, rng: np.random.Generator) -> slice:
        first = -(-known.start // 8)
        last = (known.stop - self.crop) // 8
        begin = 8 * int(rng.integers(first, last + 1))
        return slice(begin, begin + self.crop)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    torch.manual_seed(recipe.seed)
    core = model_folder(recipe.core)
    base = load_denoiser(core).eval().requires_grad_(False)
    controlnet = begun(recipe, base.unet, control_channels=len(FLOOD_CHANNELS))
    vae = load_component(core, "vae").eval().to(memory_format=torch.channels_last)
    pairs = flood_pairs(recipe.data.root, split="train", cache=recipe.data.cache)
    bank = FloodBank(pairs, Codec(vae), recipe.data.crop)
    grain = water_grain(pairs, gsd=GSD).half()
    drop = make_dropout(recipe.dropout)
    trainer = Trainer(controlnet.to(memory_format=torch.channels_last), recipe)
    sensors = list(base.acquisition_encoder.config.sensors)
    base.to(trainer.accelerator.device)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries, made = bank.draw(rng, recipe.batch)
        hidden = torch.from_numpy(rng.random(recipe.batch) < drop.controls)[:, None, None, None]
        made["weight"] = torch.where(hidden, 1.0, 1 + (recipe.wet - 1) * made.pop("wet"))
        made["image"] = torch.where(hidden, 0.0, made["image"])  # so that guidance can amplify it
        return made | told(bank.bank, entries, rng, drop, sensors) | flow(made.pop("after"), rng)

    def error(model: LayoutControlNet, batch: dict[str, Any]) -> dict[str, Tensor]:
        x, t, tokens, mask = (batch[n] for n in ("x", "t", "tokens", "mask"))
        with torch.no_grad():
            vector = base.place_encoder(*batch["place"]) + base.acquisition_encoder(*batch["acquisition"])
        residuals = model(x, t, batch["image"], time_vector=vector)
        made = base.unet(
            x,
            t,
            tokens,
            encoder_attention_mask=mask,
            time_vector=vector,
            down_block_additional_residuals=residuals,
            return_dict=False,
        )[0]
        return {"loss": loss(made, batch)}

    def save(model: LayoutControlNet, folder: Path) -> None:
        half = LayoutControlNet.from_config(model.config).half()
        half.load_state_dict(model.state_dict())
        save_model(flood_pipeline(half, recipe.core, recipe.name, grain), folder)

    trainer.run(error, draw, on_save=lambda t: t.save_ema(t.out / "ema", save))
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Flood renderer",
            summary="A ControlNet that paints open water into satellite images, where a depth says that there is some.",
            licence=NON_COMMERCIAL_LICENCE,
            use="gensat flood render IMAGE --depth DEPTH --style diffusion --model THIS_FOLDER -o OUT",
            data={"pairs": len(bank.pairs), "place": "Houston, Texas, before and after the storm of August 2017"},
        )
    return finished(trainer, trainer.out / "ema")


def flood_pipeline(
    controlnet: LayoutControlNet, core: str, name: str, grain: WaterGrain | None = None
) -> FloodPipeline:
    """A flood renderer of a ControlNet and the satellite model it was trained on, which the spec names."""
    pipe = gensat.load(core, device="cpu", dtype="float32")
    signals = {k: v for k, v in pipe.spec.signals.items() if k not in control_signals()}
    signals["water_depth"] = Signal("residuals", null="zero", spatial="canvas", component="controlnet")
    spec = replace(
        pipe.spec,
        name=name,
        pipeline="FloodPipeline",
        licence=NON_COMMERCIAL_LICENCE,
        description="floods in satellite images: physics says where the water is, the network what it looks like",
        signals=signals,
        native_size=128,
        gsd_range=(0.2, 1.5),
        shared=dict.fromkeys(("vae", "unet", "place_encoder", "acquisition_encoder"), core),
        defaults=replace(pipe.spec.defaults, guidance_scale=GUIDANCE),
    )
    return FloodPipeline.from_pipe(
        pipe, controlnet=controlnet, spec=spec, text_encoder=None, tokenizer=None, grain=grain
    )


if __name__ == "__main__":
    program(main)
