"""Train the refiner's autoencoder: ``python -m gensat.train.guided_autoencoder [RECIPE] key=value ...``.

Latents of street views that the decoder turns back beside the G-buffers of the same view (``street_pairs``). They are disturbed in training,
so that the decoder takes what a denoiser makes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from ..geo.display import contact_sheet
from ..models.features import EfficientNetLite0
from ..models.guided_autoencoder import GuidedAutoencoder
from .autoencoder import gradients
from .card import Outcome, finished, write_card
from .pair_bank import PairBank, tensors
from .recipe import program, start
from .runner import Trainer


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.guided_autoencoder [RECIPE] key=value ...``."""
    start(train, "guided_autoencoder", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights with latent statistics are written to ``out/ema`` at every save."""
    bank = PairBank(recipe.data.folder)
    torch.manual_seed(recipe.seed)
    shape: Any = OmegaConf.to_container(recipe.model)
    trainer = Trainer(GuidedAutoencoder(**shape).to(memory_format=torch.channels_last), recipe)
    device, w = trainer.accelerator.device, recipe.loss
    extractor = EfficientNetLite0.from_installed(size=None).to(device) if w.perceptual else None

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        batch = bank.batch(rng, recipe.batch, recipe.data.crop)
        cells = recipe.data.crop // GuidedAutoencoder.factor
        shape = (recipe.batch, trainer.plain.config.latent_channels, cells, cells)
        batch["noise"] = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        batch["level"] = torch.from_numpy(rng.uniform(0, recipe.disturbed, (recipe.batch, 1, 1, 1)).astype(np.float32))
        del batch["captions"]
        return batch

    def loss(model: GuidedAutoencoder, batch: dict[str, Any]) -> dict[str, Tensor]:
        x, guide = (batch[n].contiguous(memory_format=torch.channels_last) for n in ("target", "guide"))
        posterior = model.encode(x).latent_dist
        spread = posterior.mean.std(dim=(0, 2, 3), keepdim=True).detach()
        z = posterior.mean + posterior.std * batch["noise"] + spread * batch["level"] * batch["noise"].roll(1, 0)
        y = model.decode(z, guide).float()
        l1 = (y - x).abs().mean()
        edges = sum((a - b).abs().mean() for a, b in zip(gradients(y), gradients(x), strict=True))
        kl = posterior.kl().mean()
        figures = {"l1": l1, "edges": edges, "kl": kl}
        total = w.l1 * l1 + w.gradient * edges + w.kl * kl
        if extractor:
            part = slice(max(1, recipe.batch // 2))  # half of the batch: this loss costs as much as the network itself
            with torch.autocast(device.type, enabled=False):
                both = (extractor.pyramid(v[part] / 2 + 0.5) for v in (y, x))
                figures["perceptual"] = sum((a - b).pow(2).mean() for a, b in zip(*both, strict=True))
            total = total + w.perceptual * figures["perceptual"]
        return {"loss": total, **figures}

    def on_save(trainer: Trainer) -> None:
        trainer.save_ema(trainer.out / "ema", lambda model, folder: write(model, folder, bank, recipe))

    shown = [bank.pairs[i] for i in np.random.default_rng(recipe.seed).choice(len(bank.pairs), 6)]
    trainer.run(loss, draw, on_save=on_save, sample=lambda: beside(trainer.plain, shown))
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Guided autoencoder",
            summary="A GuidedAutoencoder of gensat: street views to latents, and back beside their G-buffers.",
            licence="Apache-2.0 (procedural streets; textures and lights CC0)",
            use="gensat train refiner autoencoder=THIS_FOLDER",
            data=bank.about(),
        )
    return finished(trainer, trainer.out / "ema")


@torch.no_grad()
def beside(model: GuidedAutoencoder, pairs: list) -> Image.Image:
    """Raw renders, below each what the decoder makes of the true latents, below it the truth."""
    device = next(model.parameters()).device
    target, guide = (t.to(device) for t in tensors(pairs))
    made = model.decode(model.encode(target).latent_dist.mode(), guide)
    rows = [guide[:, :3], made, target]
    pictures = [
        (p * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy() for r in rows for p in r
    ]
    return contact_sheet(pictures, len(pairs), side=160)


@torch.no_grad()
def write(model: GuidedAutoencoder, folder: Path, bank: PairBank, recipe: DictConfig) -> None:
    """Measure the latent statistics on random crops, then save the model."""
    device = next(model.parameters()).device
    x = bank.batch(np.random.default_rng([recipe.seed, 2**31]), 96, recipe.data.crop)["target"]
    z = torch.cat([model.encode(part.to(device)).latent_dist.mode() for part in x.split(16)]).float()
    model.latent_mean.copy_(z.mean(dim=(0, 2, 3)))
    model.latent_std.copy_(z.std(dim=(0, 2, 3)))
    model.save_pretrained(folder)


if __name__ == "__main__":
    program(main)
