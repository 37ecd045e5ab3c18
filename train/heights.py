"""Train the height model on procedural streets: ``gensat train heights key=value ...``.

The streets look alike and are simpler than any town, so pictures are turned, mirrored, scaled (heights with them), coloured, blurred and
made noisy; open water, which hardly any street has, is laid into some. What comes of it is measured on street types that were held out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from omegaconf import DictConfig
from torch import Tensor

from ..geo.sun import SunPosition
from ..hub.spec import Defaults, ModelSpec
from ..models.height import HeightModel, sun_values
from ..pipelines.heights import HeightPipeline
from .card import Outcome, finished, write_card
from .height_figures import measure, table
from .height_pairs import GROUPS, HeightPair, height_pairs, mean_heights, types_for
from .logs import say
from .recipe import program, start
from .runner import Trainer

LICENCE = "Apache-2.0"
_SCALES = (0.85, 1.2)  # by how much a street is made larger or smaller, heights included


def augment(
    pair: HeightPair, rng: np.random.Generator, *, crop: int, known_sun: float = 0.7, water: float = 0.0
) -> tuple[
    Float[Tensor, "3 {crop} {crop}"], Float[Tensor, "{crop} {crop}"], Int[Tensor, "{crop} {crop}"], SunPosition | None
]:
    """A random piece: turned, mirrored, scaled, recoloured, blurred; with its heights in metres, what stands there, and its sun.

    Args:
        pair: image and heights.
        rng: of everything.
        crop: side of the piece, pixels.
        known_sun: how often the sun is told where there are shadows.
        water: how often open water is laid into it.
    """
    scale = float(rng.uniform(*_SCALES))
    side = min(round(crop / scale), *pair.heights.shape)
    row, column = (int(rng.integers(0, n - side + 1)) for n in pair.heights.shape)
    window = np.s_[row : row + side, column : column + side]
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    rgb, heights, groups = (np.rot90(a[window], turns) for a in (pair.rgb, pair.heights, pair.groups))
    if mirror:
        rgb, heights, groups = rgb[:, ::-1], heights[:, ::-1], groups[:, ::-1]
    picture = torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, 0)[None].float() / 255
    truth = torch.from_numpy(np.stack([heights * (crop / side), groups]).astype(np.float32))[None]
    picture = F.interpolate(picture, (crop, crop), mode="bilinear", antialias=True)
    metres, kinds = F.interpolate(truth, (crop, crop), mode="nearest")[0]
    sun = turned(pair.sun, turns, mirror) if rng.random() < known_sun else None
    if rng.random() < water:
        wet, shown = open_water(crop, rng)
        picture = torch.where(wet, shown, picture)
        metres, kinds = metres.where(~wet, 0), kinds.where(~wet, GROUPS.index("ground"))
    return _photographed(picture, rng)[0], metres, kinds.long(), sun


def open_water(size: int, rng: np.random.Generator) -> tuple[Bool[Tensor, "h w"], Float[Tensor, "3 h w"]]:
    """Where a lake, river or sea lies, with a smooth shore, and what it looks like: one colour, slow changes, ripples."""

    def smooth(cells: int) -> Tensor:
        coarse = torch.as_tensor(rng.normal(size=(1, 1, cells, cells)), dtype=torch.float32)
        return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]

    relief = smooth(int(rng.integers(2, 5)))
    wet = relief < torch.quantile(relief, float(rng.uniform(0.15, 0.8)))
    tone, tint = rng.uniform(0.05, 0.5), rng.uniform(-0.12, 0.12, 3)
    ripples = torch.as_tensor(rng.normal(0, rng.uniform(0, 0.02), (3, size, size)), dtype=torch.float32)
    colour = torch.as_tensor(tone * (1 + 2 * tint), dtype=torch.float32)[:, None, None]
    return wet, (colour + 0.03 * rng.uniform() * smooth(4) + ripples).clamp(0, 1)


def turned(sun: SunPosition | None, turns: int, mirror: bool) -> SunPosition | None:
    """Where the sun stands in a picture that numpy's ``rot90`` turned so often and that was then mirrored left to right."""
    if sun is None:
        return None
    azimuth = sun.azimuth - 90 * turns
    return SunPosition(-azimuth if mirror else azimuth, sun.elevation)


def _photographed(picture: Float[Tensor, "1 3 h w"], rng: np.random.Generator) -> Float[Tensor, "1 3 h w"]:
    """As another camera might have taken it: gsd of up to 1 m, blur, haze, colours, contrast, noise."""
    size = picture.shape[-2:]
    if rng.random() < 0.6:
        less = float(rng.uniform(1.0, 2.0))
        small = [max(8, round(n / less)) for n in size]
        picture = F.interpolate(picture, small, mode="bilinear", antialias=True)
        picture = F.interpolate(picture, size, mode="bicubic", align_corners=False)
    if rng.random() < 0.5:
        sigma = float(rng.uniform(0.3, 0.9))
        tap = float(np.exp(-0.5 / sigma**2))
        kernel = torch.tensor([tap, 1.0, tap]) / (1 + 2 * tap)
        both = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
        picture = F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), both, groups=3)
    picture = picture.clamp(0, 1) ** float(rng.uniform(0.8, 1.25))
    gain = torch.as_tensor(rng.uniform(0.9, 1.1, (1, 3, 1, 1)) * rng.uniform(0.8, 1.2), dtype=torch.float32)
    grey = picture.mean(1, keepdim=True)
    picture = grey + (picture - grey) * float(rng.uniform(0.5, 1.3))
    haze = float(rng.uniform(0, 0.15)) * torch.as_tensor(rng.uniform(0.7, 1.0, (1, 3, 1, 1)), dtype=torch.float32)
    noise = torch.as_tensor(rng.normal(0, rng.uniform(0, 0.02), picture.shape), dtype=torch.float32)
    return (picture * gain * (1 - haze) + haze + noise).clamp(0, 1)


def save_model(model: HeightModel, folder: Path, figures: str) -> None:
    """The pipeline in float16 with its spec and licence; the model itself stays in float32.

    Args:
        model: trained.
        folder: to write into.
        figures: what was measured, in a sentence; it goes into the tags of everything that the model estimates.
    """
    small = HeightModel(**{k: v for k, v in model.config.items() if not k.startswith("_")})
    small.load_state_dict(model.state_dict())
    gsd = float(model.config.gsd)
    spec = ModelSpec(
        name="gensat-heights",
        pipeline="HeightPipeline",
        licence=LICENCE,
        description=f"heights above the ground from an image; {figures}",
        bands=("red", "green", "blue"),
        native_size=512,
        size_limits=(16, 2048),
        gsd_range=(0.1, 2.0),
        defaults=Defaults(gsd=gsd),
    )
    HeightPipeline(small.half(), spec).save_pretrained(folder)
    licence = Path(str(files("gensat"))).parent / "LICENSE"
    if licence.is_file():
        shutil.copyfile(licence, folder / "LICENSE")


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.heights [RECIPE] key=value ...``."""
    start(train, "heights", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe, then measure the EMA weights on the held-out street types and save them."""
    torch.manual_seed(recipe.seed)
    data = recipe.data
    pairs = height_pairs(data.cache, types_for(False), data.streets, seed=data.seed, samples=data.samples)
    heldout = height_pairs(data.cache, types_for(True), data.heldout, seed=data.seed + 1, samples=data.samples)
    options: dict[str, Any] = {k: list(v) if k in ("channels", "blocks") else v for k, v in recipe.model.items()}
    model = HeightModel(**options)
    with torch.no_grad():  # begin where nothing is known: at the median of all heights, and unsure
        model.head[-1].bias[model.config.patch**2 : 2 * model.config.patch**2] = -1.0
    if recipe.init:
        model = HeightModel.from_pretrained(recipe.init)
    trainer = Trainer(model, recipe)

    def draw(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = [pairs[i] for i in rng.integers(len(pairs), size=recipe.batch)]
        made = [augment(pair, rng, crop=data.crop, known_sun=data.known_sun, water=data.water) for pair in chosen]
        pictures, heights, groups, suns = zip(*made, strict=True)
        truth = {"heights": torch.stack(heights), "groups": torch.stack(groups)}
        return {"pictures": torch.stack(pictures), "sun": sun_values(suns), **truth}

    def loss(model: HeightModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        found = model(batch["pictures"], batch["sun"])
        likely = found.loss(batch["heights"]).mean()
        absolute = (torch.log1p(batch["heights"]) - found.location).abs().mean()
        metres = (found.median().detach() - batch["heights"]).abs().mean()
        told = F.cross_entropy(found.groups, batch["groups"])
        total = likely + recipe.loss.absolute * absolute + recipe.loss.groups * told
        return {"loss": total, "likelihood": likely, "groups": told, "metres": metres}

    trainer.run(loss, draw)
    folder = Path(recipe.save or trainer.out / "model")
    means = mean_heights(pairs)
    figures: dict[str, Any] = {}

    def finish(model: HeightModel, fresh: Path) -> None:
        figures.update(measure(model, heldout, means))
        say(table(figures))
        save_model(model, fresh, sentence(figures))
        report = {"constants": means, "heldout": figures}
        (fresh / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        _card(fresh, trainer, pairs, heldout, figures)

    trainer.save_ema(folder, finish)
    return finished(trainer, folder, heldout=figures)


def sentence(figures: dict[str, Any]) -> str:
    """The figure that goes with every estimate."""
    off = figures["model"]["building"]["mae"]
    return f"mean absolute error {off['value']:.1f} m over buildings of held-out generated streets; never checked on photos"


def _card(
    folder: Path, trainer: Trainer, pairs: Sequence[HeightPair], heldout: Sequence[HeightPair], figures: dict[str, Any]
) -> None:
    square = pairs[0].heights.shape[0] * pairs[0].gsd
    write_card(
        folder,
        trainer,
        title="gensat-heights",
        summary=(
            "Heights above the ground, and how unsure they are, from one image from above of 0.1 to 2 m per pixel. "
            "It has seen nothing but procedurally generated streets, and says nothing dependable about photographs. "
            "Lean on a surface model wherever there is one."
        ),
        licence=LICENCE,
        use="gensat heights image.tif --time 2024-06-21T09:00Z -o heights.tif --spread spread.tif",
        data={
            "training": f"{len(pairs)} streets of {square:.0f} m, types {', '.join(types_for(False))}",
            "held out": f"{len(heldout)} streets, types {', '.join(types_for(True))}",
            "textures of the streets": "CC0 and US public domain (assets/streets)",
        },
        tags=("depth-estimation",),
        measured={"held-out street types": sentence(figures)},
    )
    with (folder / "README.md").open("a", encoding="utf-8") as card:
        card.write("\n## Against baselines, on held-out street types\n\n" + table(figures) + "\n")


if __name__ == "__main__":
    program(main)
