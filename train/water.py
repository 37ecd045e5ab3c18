"""Train the reader of flood water: ``python -m gensat.train.water [RECIPE] key=value ...``.

It judges pictures of floods: where do they show water? It learns from real images alone, after the storm and before it (dry but for ponds and
pools, which are left unknown by their colour). The masks are derived (``water_masks``), so its agreement with them on real held-out images is
a ceiling; that on images before with the real water of the same place pasted in is the ceiling of whatever keeps dry pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from omegaconf import DictConfig
from torch import Tensor

from ..geo.legend import OTHER_GROUND, UNKNOWN, WATER
from ..hydro.open_water import soft_edge
from ..metrics.flood import summarise_flood, water_iou
from ..models.features import EfficientNetLite0, over_images
from ..models.segmenter import LayoutSegmenter
from .card import Outcome, finished
from .flood_pairs import FloodPair, flood_pairs
from .logs import say
from .recipe import program, start
from .runner import Trainer
from .segmenter import augment, write

PAINT = (153, 141, 111)
"""#998d6f, with which the baseline of Luetjens et al. paints water."""

_KINDS = ("after", "before")


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


def laid_in(
    before: UInt8[np.ndarray, "h w 3"], inside: UInt8[np.ndarray, "h w 3"], water: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """``before`` with the pixels of ``inside`` where there is water, softly within its edge."""
    alpha = soft_edge(water)[..., None]
    return np.rint(before + alpha * (inside.astype(np.float32) - before)).astype(np.uint8)


def painted(before: UInt8[np.ndarray, "h w 3"], water: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The hand-painted baseline: one brown where there is water."""
    return np.where(water[..., None], np.array(PAINT, np.uint8), before)


def _may_be_water(image: np.ndarray) -> np.ndarray:
    """Blue or smooth dark pixels of an image before: pools, ponds and lakes are there, and nobody marked them."""
    rgb = image.astype(np.float32)
    blue = rgb[..., 2] > 1.05 * rgb[..., 0]
    dark = rgb.mean(-1) < 45
    return blue | dark


class WaterJudge:
    """Masks of open water in RGB images, by a segmenter on EfficientNet-lite0 features."""

    def __init__(self, model: LayoutSegmenter, backbone: EfficientNetLite0):
        self.model, self.backbone = model.eval(), backbone
        self.name = "water reader on efficientnet-lite0@native"

    def __call__(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Bool[np.ndarray, "h w"]]:
        """One mask an image; sizes may differ."""
        device = next(self.model.parameters()).device

        def read(x: Tensor) -> Tensor:
            return self.model.predict(x, backbone=self.backbone)

        with torch.no_grad():
            return [over_images(read, [image], device=device)[0].numpy() == WATER for image in images]


def report(judge: WaterJudge, pairs: Sequence[FloodPair]) -> dict[str, Any]:
    """IoU with the derived masks: on real images after the flood (the ceiling), pasted and painted ones, and false alarms before it."""
    figures: dict[str, Any] = {}
    cut = [(*pair.window(), pair) for pair in pairs]
    wet = [p.water[r, c] for r, c, p in cut]
    pictures = {
        "real images after the flood": [p.after[r, c] for r, c, p in cut],
        "their water pasted into the image before": [shown(p, "pasted")[0] for _, _, p in cut],
        "one brown painted into the image before": [
            painted(p.before[r, c], w) for (r, c, p), w in zip(cut, wet, strict=True)
        ],
    }
    for name, images in pictures.items():
        figures[name] = summarise_flood("IoU", agreement(judge, images, wet), extractor=judge.name).to_dict()
    dry = judge([p.before[r, c] for r, c, p in cut])
    figures["water seen before the flood"] = float(np.mean([m.mean() for m in dry]))
    return figures


def agreement(
    judge: WaterJudge, images: Sequence[np.ndarray], wet: Sequence[Bool[np.ndarray, "h w"]]
) -> Float[Tensor, " n"]:
    """IoU of what the judge sees in each image with the mask that was asked for."""
    return torch.cat(
        [
            water_iou(torch.from_numpy(m)[None], torch.from_numpy(w)[None])
            for m, w in zip(judge(images), wet, strict=True)
        ]
    )


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe, then measure the EMA weights on the held-out place and save them."""
    torch.manual_seed(recipe.seed)
    pairs = flood_pairs(recipe.data.root, split="train", cache=recipe.data.cache)
    pairs = [p for p in pairs if all(s.stop - s.start >= recipe.data.crop for s in p.window())]
    model = LayoutSegmenter(classes=[OTHER_GROUND, WATER], widths=list(recipe.model.widths))
    backbone = EfficientNetLite0.from_installed(size=None)
    trainer = Trainer(model, recipe)
    backbone.to(trainer.accelerator.device)
    weights = torch.tensor([1.0, float(recipe.loss.water)])
    share = np.array([p.water.mean() for p in pairs]) + 0.05

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = rng.choice(len(pairs), size=recipe.batch, p=share / share.sum())
        kinds = rng.choice(_KINDS, size=recipe.batch, p=list(recipe.data.kinds))
        made = [
            augment(*shown(pairs[i], str(k)), rng, crop=recipe.data.crop) for i, k in zip(chosen, kinds, strict=True)
        ]
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
    figures: dict[str, Any] = {}
    if trainer.main:
        with trainer.averaged() as net:
            figures = report(WaterJudge(net, backbone), heldout)
            say(json.dumps(figures, indent=1))
            write(net, Path(recipe.save or trainer.out / "model"), figures)
    return finished(trainer, Path(recipe.save or trainer.out / "model"), heldout=figures)


if __name__ == "__main__":
    program(main)
