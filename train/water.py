"""Train the reader of flood water: ``python -m gensat.train.water [RECIPE] key=value ...``.

It judges pictures of floods: where do they show water? It learns from real images, after the storm and before it (dry but for ponds and
pools, which are left unknown by their colour), from real water laid into other images, and from fills that are no water although they have its
colours (``water_cheats``). The masks are derived (``water_masks``), so its agreement with them on real held-out images is a ceiling; that on
images before with the real water of the same place pasted in is the ceiling of whatever keeps dry pixels.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError
from ..geo.legend import OTHER_GROUND, UNKNOWN, WATER
from ..metrics.flood import summarise_flood, water_iou
from ..models.features import EfficientNetLite0, over_images
from ..models.segmenter import LayoutSegmenter
from .card import Outcome, finished
from .flood_pairs import FloodPair, flood_pairs
from .logs import say
from .recipe import program, start
from .runner import Trainer
from .segmenter import augment, write
from .water_cheats import (
    HELD_OUT,
    TRAINED,
    blob,
    cheated,
    laid_in,
    mean_colours,
    painted,
    real_grain,
    recompressed,
    transplanted,
)

_SHARE = (0.03, 0.97)  # of water in the images that the report is over
_DONOR = 0.6  # share of water of an image from which water is taken
_SOFTEST = 1.3  # times: softer than that, water is no more than paint


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.water [RECIPE] key=value ...``."""
    start(train, "water", arguments)


def shown(pair: FloodPair, kind: str) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """An image of the pair and what of it is water, other ground or unknown; ``kind``: after, before or pasted."""
    rows, columns = pair.window()
    before, after, water = (a[rows, columns] for a in (pair.before, pair.after, pair.water))
    if kind == "after":
        return after, np.where(water, WATER, OTHER_GROUND).astype(np.uint8)
    if kind == "before":
        return before, np.where(_may_be_water(before), UNKNOWN, OTHER_GROUND).astype(np.uint8)
    codes = np.where(water, WATER, np.where(_may_be_water(before), UNKNOWN, OTHER_GROUND))
    return laid_in(before, after, water), codes.astype(np.uint8)


def _may_be_water(image: np.ndarray) -> np.ndarray:
    """Blue or smooth dark pixels of an image before: pools, ponds and lakes are there, and nobody marked them."""
    rgb = image.astype(np.float32)
    blue = rgb[..., 2] > 1.05 * rgb[..., 0]
    dark = rgb.mean(-1) < 45
    return blue | dark


class Lessons:
    """What the judge learns from: pairs, and what can be made of them.

    Args:
        pairs: of the training place.
        kinds: shares of the images by kind: after, before, pasted (the water of the place in the image before), transplanted (real water of
            another place) and cheated (fills of ``water_cheats.TRAINED``).
    """

    def __init__(self, pairs: Sequence[FloodPair], kinds: Mapping[str, float | int]):
        if unknown := set(kinds) - {"after", "before", "pasted", "transplanted", "cheated"}:
            raise InputError(f"data.kinds names {sorted(unknown)}; give after, before, pasted, transplanted, cheated")
        self.pairs, self.kinds, self.shares = list(pairs), list(kinds), np.array(list(kinds.values()), float)
        self.colours = mean_colours([p.after for p in pairs], [p.water & p.valid for p in pairs])
        wet = np.array([(p.water & p.valid).mean() for p in pairs])
        self.donors = [p for p, share in zip(pairs, wet, strict=True) if share > _DONOR] or [pairs[int(wet.argmax())]]
        self.weight = (wet + 0.05) / (wet + 0.05).sum()  # dry places teach little

    def draw(self, rng: np.random.Generator) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """An image and its codes: water, other ground, unknown."""
        pair = self.pairs[int(rng.choice(len(self.pairs), p=self.weight))]
        kind = str(rng.choice(self.kinds, p=self.shares / self.shares.sum()))
        made, codes = self._made(pair, kind, rng)
        return (recompressed(made, int(rng.integers(55, 96))) if rng.random() < 0.5 else made), codes

    def _made(self, pair: FloodPair, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if kind in ("after", "before", "pasted"):
            return shown(pair, kind)
        image, codes = shown(pair, "before" if kind == "transplanted" or rng.random() < 0.6 else "after")
        dry = codes != WATER
        where = pair.water[pair.window()] if dry.all() and rng.random() < 0.5 else blob(codes.shape, rng)
        if kind == "transplanted":
            donor = self.donors[int(rng.integers(len(self.donors)))]
            made, inside = transplanted(image, where, donor.after, donor.water & donor.valid, rng)
            return made, np.where(inside, WATER, codes).astype(np.uint8)
        fill = str(rng.choice(list(TRAINED)))
        if fill in ("blurred ground", "washed ground"):
            where = where & dry  # water that is seen through a wash is water still
        colour = self.colours[int(rng.integers(len(self.colours)))] + rng.normal(0, 8, 3)
        return cheated(fill, image, where, colour, rng), np.where(where, OTHER_GROUND, codes).astype(np.uint8)


class WaterJudge:
    """Masks of open water in RGB images, by a segmenter on EfficientNet-lite0 features."""

    def __init__(self, model: LayoutSegmenter, backbone: EfficientNetLite0):
        self.model, self.backbone = model.eval(), backbone
        self.name = "water reader on efficientnet-lite0@native"

    def __call__(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Bool[np.ndarray, "_ _"]]:
        """One mask an image; sizes may differ."""
        device = next(self.model.parameters()).device

        def read(x: Tensor) -> Tensor:
            return self.model.predict(x, backbone=self.backbone)

        with torch.no_grad():
            return [over_images(read, [image], device=device)[0].numpy() == WATER for image in images]


def report(judge: WaterJudge, pairs: Sequence[FloodPair]) -> dict[str, Any]:
    """IoU with the derived masks and the share of their water that is read as such, of real images after the flood (the ceiling), of real water
    laid into images before, and of what is no water; and the share that is read as water before the flood.
    """
    cut = [(p.before[w], p.after[w], p.water[w], p) for p in pairs for w in [p.window()]]
    wet = [water for _, _, water, _ in cut]
    tints = [after[water].mean(0) for _, after, water, _ in cut]

    def filled(kind: str) -> list[np.ndarray]:
        rngs = (np.random.default_rng([7, i]) for i in range(len(cut)))
        return [cheated(kind, c[0], c[2], tint, rng) for c, tint, rng in zip(cut, tints, rngs, strict=True)]

    brown = [painted(before, water) for before, _, water, _ in cut]
    phases = np.random.default_rng(7)
    pictures = {
        "real images after the flood": [after for _, after, _, _ in cut],
        "their water pasted into the image before": [shown(p, "pasted")[0] for *_, p in cut],
        "brown paint with their grain": [real_grain(b, a, w) for b, a, w, _ in cut],
        "brown paint with noise of their spectrum": [real_grain(b, a, w, phases) for b, a, w, _ in cut],
        "brown paint": brown,
        "brown paint, after JPEG": [recompressed(image, 80) for image in brown],
        **{f"{kind}, trained on": filled(kind) for kind in TRAINED},
        **{f"{kind}, not trained on": filled(kind) for kind in HELD_OUT},
        "image before the flood": [before for before, *_ in cut],
    }
    figures: dict[str, Any] = {}
    for name, images in pictures.items():
        read = judge(images)
        inside = float(np.mean([m[w].mean() for m, w in zip(read, wet, strict=True)]))
        iou = summarise_flood("IoU", overlaps(read, wet), extractor=judge.name).to_dict()
        figures[name] = {"IoU": iou, "read as water": inside}
    figures["water seen before the flood"] = float(np.mean([m.mean() for m in read]))
    return figures


def agreement(
    judge: WaterJudge, images: Sequence[np.ndarray], wet: Sequence[Bool[np.ndarray, "_ _"]]
) -> Float[Tensor, " n"]:
    """IoU of what the judge sees in each image with the mask that was asked for."""
    return overlaps(judge(images), wet)


def overlaps(read: Sequence[Bool[np.ndarray, "_ _"]], wet: Sequence[Bool[np.ndarray, "_ _"]]) -> Float[Tensor, " n"]:
    """IoU of masks, image by image."""
    pairs = zip(read, wet, strict=True)
    return torch.cat([water_iou(torch.from_numpy(m)[None], torch.from_numpy(w)[None]) for m, w in pairs])


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe, then measure the EMA weights on the held-out place and save them."""
    torch.manual_seed(recipe.seed)
    pairs = flood_pairs(recipe.data.root, split="train", cache=recipe.data.cache)
    pairs = [p for p in pairs if all(s.stop - s.start >= recipe.data.crop for s in p.window())]
    if recipe.init:
        model = LayoutSegmenter.from_pretrained(recipe.init).float()
    else:
        model = LayoutSegmenter(classes=[OTHER_GROUND, WATER], widths=list(recipe.model.widths))
    backbone = EfficientNetLite0.from_installed(size=None)
    trainer = Trainer(model, recipe)
    backbone.to(trainer.accelerator.device)
    weights = torch.tensor([1.0, float(recipe.loss.water)])
    lessons = Lessons(pairs, recipe.data.kinds)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        drawn = (lessons.draw(rng) for _ in range(recipe.batch))
        made = [augment(*one, rng, crop=recipe.data.crop, softest=_SOFTEST) for one in drawn]
        images, codes = zip(*made, strict=True)
        return {
            "x": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            "codes": torch.from_numpy(np.stack(codes)).long(),
        }

    def loss(model: LayoutSegmenter, batch: dict[str, Any]) -> dict[str, Tensor]:
        found = model(backbone.pyramid(batch["x"], normalise=False), size=tuple(batch["x"].shape[-2:]))
        known = torch.where(batch["codes"] == UNKNOWN, -100, (batch["codes"] == WATER).long())
        each = torch.nn.functional.cross_entropy(found, known, weight=weights.to(found), ignore_index=-100)
        right = (found.argmax(1) == known)[known >= 0].float().mean()
        return {"loss": each, "accuracy": right}

    trainer.run(loss, draw)
    heldout = flood_pairs(recipe.data.root, split="heldout", cache=recipe.data.cache)
    heldout = [p for p in heldout if _SHARE[0] <= p.water[p.window()].mean() <= _SHARE[1]][: recipe.count]
    figures: dict[str, Any] = {}
    if trainer.main:
        with trainer.averaged() as net:
            figures = report(WaterJudge(net, backbone), heldout)
            say(json.dumps(figures, indent=1))
            write(net, Path(recipe.save or trainer.out / "model"), figures)
    return finished(trainer, Path(recipe.save or trainer.out / "model"), heldout=figures)


if __name__ == "__main__":
    program(main)
