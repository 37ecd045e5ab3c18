"""Train the autoencoder: ``python -m gensat.train.autoencoder [RECIPE] key=value ...``.

Latents are turned by a random element of the square's symmetry group before decoding, and the target with them, so that a rotated or
mirrored latent decodes to the rotated or mirrored image: the denoiser can then be trained on turned latents without encoding again.
``halved`` asks the same of the scale: averaged 2x2 they decode to the image at twice its gsd, which keeps what is coarse in an image coarse in its latents
(Kouzelis et al. 2025, "EQ-VAE", section 3; Skorokhodov et al. 2025, "Improving the diffusability of autoencoders").

``loss.frequency`` and ``loss.adversarial`` (``adversary``) are off by default: the second costs more than the autoencoder itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from torch._functorch import config

from ..errors import InputError
from ..geo.display import contact_sheet
from ..models.autoencoder import ConvAutoencoder
from ..models.features import EfficientNetLite0
from .adversary import PatchDiscriminator, Rivals, adaptive_weight, focal_frequency
from .card import Outcome, count_by, finished, write_card
from .feed import check_data
from .feed import samples as read
from .recipe import program, start
from .runner import Trainer
from .sources import Sample


def turn(x: Float[Tensor, "b c h w"], k: int) -> Float[Tensor, "b c h w"]:
    """Element ``k`` (0..7) of the symmetry group of the square: ``k % 4`` quarter turns, then a mirror if ``k >= 4``."""
    x = torch.rot90(x, k % 4, dims=(-2, -1))
    return x.flip(-1) if k >= 4 else x


def random_crops(
    samples: Sequence[Sample], weights: np.ndarray, rng: np.random.Generator, *, batch: int, crop: int
) -> Tensor:
    """(batch, 3, crop, crop) in [-1, 1]: images drawn by source weight, cropped, turned; smaller ones are reflected outward."""
    out = np.empty((batch, crop, crop, 3), np.uint8)
    for i, k in enumerate(rng.choice(len(samples), size=batch, p=weights)):
        image = samples[k].image
        short = [max(0, crop - n) for n in image.shape[:2]]
        if any(short):
            image = np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
        row, col = (rng.integers(0, n - crop + 1) for n in image.shape[:2])
        tile = np.rot90(image[row : row + crop, col : col + crop], int(rng.integers(4)))
        out[i] = tile[:, ::-1] if rng.integers(2) else tile
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def source_weights(samples: Sequence[Sample], power: float = 0.5) -> np.ndarray:
    """Drawing probability of each sample: sources weigh by (their pixel count) ** power, so small ones are not drowned."""
    _, index = np.unique([s.source for s in samples], return_inverse=True)
    area = np.array([s.image.shape[0] * s.image.shape[1] for s in samples], float)
    total = np.bincount(index, weights=area)
    weight = area * (total**power / total)[index]
    return weight / weight.sum()


def gradients(x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical first differences."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.autoencoder [RECIPE] key=value ...``."""
    start(train, "autoencoder", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; EMA weights with latent statistics are written to ``out/ema`` at every save."""
    check_data(recipe.data)
    torch.manual_seed(recipe.seed)
    shape: Any = OmegaConf.to_container(recipe.model)  # plain lists: they go into config.json
    w = recipe.loss
    net = ConvAutoencoder.from_pretrained(recipe.init).train() if recipe.init else ConvAutoencoder(**shape)
    if recipe.keep_encoder:
        if not recipe.init:
            raise InputError("keep_encoder=true keeps a finished encoder; give its autoencoder: init=FOLDER")
        for part in (net.encoder, net.colour_in):
            part.requires_grad_(False)
    samples = list(read(recipe.data))
    weights = source_weights(samples)
    rivals = Rivals(net, PatchDiscriminator(recipe.model.bands, **recipe.discriminator)) if w.adversarial else None
    trainer = Trainer((rivals or net).to(memory_format=torch.channels_last), recipe)
    device = trainer.accelerator.device
    if recipe.compile:
        net.encoder.compile(dynamic=False)  # crops of twice the side come too
        if (
            rivals
        ):  # the adaptive weight goes back to the decoder's last layer alone; compiled, that would be the whole decoder
            config.donated_buffer = False  # and twice through the graph of a compiled loss
        else:
            net.decoder.compile(dynamic=False)
    extractor = EfficientNetLite0.from_installed(size=None).to(device) if w.perceptual else None
    pyramid = torch.compile(extractor.pyramid) if extractor and recipe.compile else extractor and extractor.pyramid

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        halved = bool(rng.random() < recipe.halved)
        crop = recipe.data.crop * (2 if halved else 1)  # so that what is decoded is always as large
        x = random_crops(samples, weights, rng, batch=recipe.batch, crop=crop)
        shape = (recipe.batch, net.config.latent_channels, crop // net.factor, crop // net.factor)
        noise = rng.standard_normal(shape, dtype=np.float32)
        error = rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, recipe.disturb, (len(x), 1, 1, 1))
        return {
            "x": x,
            "noise": torch.from_numpy(noise),
            "error": torch.from_numpy(error.astype(np.float32)),
            "turn": int(rng.integers(8)),
            "halved": halved,
            "textured": step >= w.perceptual_from,
            "judged": step >= w.adversarial_from,
            "heard": min(1.0, max(0.0, (step - w.adversarial_from) / max(1, w.adversarial_warmup))),
        }

    def loss(_: torch.nn.Module, batch: dict) -> dict[str, Tensor]:
        x = batch["x"].contiguous(memory_format=torch.channels_last)
        posterior = net.encode(x).latent_dist
        latents = posterior.mean + posterior.std * batch["noise"] + net.latent_std.view(1, -1, 1, 1) * batch["error"]
        if batch["halved"]:  # seen from twice as high, latents are what the picture is from there (scale equivariance)
            latents, x = F.avg_pool2d(latents, 2), F.avg_pool2d(x, 2)
        # in one order of memory, or every turn is compiled anew
        turned = turn(latents, batch["turn"]).contiguous(memory_format=torch.channels_last)
        y = net.decode(turned).sample.float()
        x = turn(x, batch["turn"])
        l1 = (y - x).abs().mean()
        edges = sum((a - b).abs().mean() for a, b in zip(gradients(y), gradients(x), strict=True))
        kl = posterior.kl().mean()
        rebuilt = w.l1 * l1 + w.gradient * edges
        figures = {"l1": l1, "edges": edges, "kl": kl}
        if w.frequency:
            figures["frequency"] = focal_frequency(y, x)
            rebuilt = rebuilt + w.frequency * figures["frequency"]
        if pyramid and batch["textured"]:
            part = slice(max(1, recipe.batch // 2))  # half of the batch: this loss costs as much as the network itself
            with torch.autocast(device.type, enabled=False):  # depthwise convolutions are slower in bfloat16 on a CPU
                pairs = zip(pyramid(y[part] / 2 + 0.5), pyramid(x[part] / 2 + 0.5), strict=True)
                figures["perceptual"] = sum((a - b).pow(2).mean() for a, b in pairs)
            rebuilt = rebuilt + w.perceptual * figures["perceptual"]
        total = rebuilt + w.kl * kl
        if rivals and batch["judged"]:
            believed = rivals.believed(y)
            weight = adaptive_weight(rebuilt, believed, net.last_weight)
            figures |= {"believed": believed, "told_apart": rivals.told_apart(x, y), "adaptive": weight}
            total = total + w.adversarial * batch["heard"] * weight * believed + figures["told_apart"]
        return {"loss": total, **figures}

    def keep(folder: Path) -> None:
        if not recipe.keep_encoder:
            measure_latents(net, samples, weights, recipe.seed)
        net.save_pretrained(folder)

    def on_save(trainer: Trainer) -> None:
        trainer.save_ema(trainer.out / "ema", lambda _, folder: keep(folder))

    held = [samples[i].image for i in np.random.default_rng(recipe.seed).choice(len(samples), 6)]
    trainer.run(loss, draw, on_save=on_save, sample=lambda: beside(net, held))
    about = {"images": len(samples), "sources": count_by([s.source for s in samples])}
    if trainer.main:
        write_card(
            trainer.out / "ema",
            trainer,
            title="Autoencoder",
            summary=f"A ConvAutoencoder of gensat: images to latents of 1/{net.factor} of their side and back.",
            licence="that of the training data",
            use="gensat train denoiser autoencoder=THIS_FOLDER",
            data=about,
        )
    return finished(trainer, trainer.out / "ema")


def beside(model: ConvAutoencoder, images: Sequence[np.ndarray]) -> Image.Image:
    """Images (H, W, 3), and below each what the autoencoder makes of it."""
    device = next(model.parameters()).device
    made = []
    for image in images:
        part = image[: image.shape[0] // model.factor * model.factor, : image.shape[1] // model.factor * model.factor]
        x = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].float().to(device) / 127.5 - 1
        y = model.decode(model.encode(x).latent_dist.mode()).sample[0]
        made.append((y * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())
    return contact_sheet([*images, *made], len(images), side=128)


@torch.no_grad()
def measure_latents(model: ConvAutoencoder, samples: Sequence[Sample], weights: np.ndarray, seed: int) -> None:
    """Set the latent statistics by random training crops."""
    x = random_crops(samples, weights, np.random.default_rng([seed, 2**31]), batch=128, crop=128)
    device = next(model.parameters()).device
    z = torch.cat([model.encode(part.to(device)).latent_dist.mode() for part in x.split(16)]).float()
    model.latent_mean.copy_(z.mean(dim=(0, 2, 3)))
    model.latent_std.copy_(z.std(dim=(0, 2, 3)))


if __name__ == "__main__":
    program(main)
