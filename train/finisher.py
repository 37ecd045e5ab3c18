"""Train the refiner's finisher: ``python -m gensat.train.finisher [RECIPE] key=value ...``.

What the autoencoder makes of a street view, put back onto the edges of its G-buffers (``street_pairs``). Its latents are disturbed in training, so
that the finisher takes what a denoiser makes.
"""

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from ..conditioning.gbuffers import GBUFFER_CHANNELS
from ..diffusion.codec import Codec
from ..geo.display import contact_sheet
from ..models.features import EfficientNetLite0
from ..models.finisher import Finisher
from .autoencoder import gradients
from .card import Outcome, finished, write_card
from .pair_bank import PairBank, load_vae, tensors
from .recipe import program, start
from .runner import Trainer

SKY = GBUFFER_CHANNELS.index("sky")


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.finisher [RECIPE] key=value ...``."""
    start(train, "finisher", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights are written to ``out/ema`` at every save."""
    torch.manual_seed(recipe.seed)
    codec = Codec(load_vae(recipe.autoencoder))
    shape: Any = OmegaConf.to_container(recipe.model)
    trainer = Trainer(Finisher(**shape).to(memory_format=torch.channels_last), recipe)
    device, w = trainer.accelerator.device, recipe.loss
    codec.vae.to(device, memory_format=torch.channels_last)
    bank = PairBank(recipe.data.folder, codec)
    extractor = EfficientNetLite0.from_installed(size=None).to(device) if w.perceptual else None

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        batch = bank.batch(rng, recipe.batch, recipe.data.crop)
        cells = recipe.data.crop // codec.factor
        noise = rng.standard_normal((recipe.batch, codec.channels, cells, cells), dtype=np.float32)
        level = rng.uniform(0, recipe.disturbed, (recipe.batch, 1, 1, 1)).astype(np.float32)
        latents = batch["latents"] + torch.from_numpy(noise * level)
        return {"target": batch["target"], "guide": batch["guide"], "latents": latents}

    def loss(model: Finisher, batch: dict[str, Any]) -> dict[str, Tensor]:
        x, guide = (batch[n].contiguous(memory_format=torch.channels_last) for n in ("target", "guide"))
        with torch.no_grad():
            decoded = codec.decode(batch["latents"])
        y = torch.where(guide[:, SKY : SKY + 1] == 1, x, model(decoded, guide).float())  # a sky stays as it is
        l1 = (y - x).abs().mean()
        edges = sum((a - b).abs().mean() for a, b in zip(gradients(y), gradients(x), strict=True))
        figures = {"l1": l1, "edges": edges, "before": (decoded - x).abs().mean()}
        total = w.l1 * l1 + w.gradient * edges
        if extractor:
            part = slice(max(1, recipe.batch // 2))  # half of the batch: this loss costs as much as the network itself
            with torch.autocast(device.type, enabled=False):
                both = (extractor.pyramid(v[part] / 2 + 0.5) for v in (y, x))
                figures["perceptual"] = sum((a - b).pow(2).mean() for a, b in zip(*both, strict=True))
            total = total + w.perceptual * figures["perceptual"]
        return {"loss": total, **figures}

    def on_save(trainer: Trainer) -> None:
        trainer.save_ema(trainer.out / "ema", lambda model, folder: model.save_pretrained(folder))

    shown = [bank.pairs[i] for i in np.random.default_rng(recipe.seed).choice(len(bank.pairs), 6)]
    trainer.run(loss, draw, on_save=on_save, sample=lambda: beside(codec, trainer.plain, shown))
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Finisher",
            summary="A Finisher of gensat: decoded street views, put back onto the edges of their G-buffers.",
            licence="Apache-2.0 (procedural streets; textures and lights CC0)",
            use="gensat train refiner finisher=THIS_FOLDER",
            data=bank.about(),
        )
    return finished(trainer, trainer.out / "ema")


@torch.no_grad()
def beside(codec: Codec, model: Finisher, pairs: list) -> Image.Image:
    """Raw renders, below each what the autoencoder makes of the truth, that finished, and the truth."""
    device = next(model.parameters()).device
    target, guide = (t.to(device) for t in tensors(pairs))
    decoded = codec.decode(codec.encode(target))
    rows = [guide[:, :3], decoded, model(decoded, guide), target]
    pictures = [
        (p * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy() for r in rows for p in r
    ]
    return contact_sheet(pictures, len(pairs), side=pairs[0].target.shape[0])


if __name__ == "__main__":
    program(main)
