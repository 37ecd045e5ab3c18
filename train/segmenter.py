"""Train the layout segmenter of the evaluation: ``python -m gensat.train.segmenter [RECIPE] key=value ...``.

Pixels whose class is unknown say nothing about ground, road or trees. In a building-footprint map, though, they were
looked at and not called a building: they push the building score down, gently (``loss.not_building``). Without this
a segmenter that has only ever seen African roofs labelled, and never African soil, calls everything there a roof.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ..geo.legend import BUILDING, CLASSES, UNKNOWN, colourise
from ..metrics.layout import confusion, mean_iou
from ..models.features import EfficientNetLite0, over_images
from ..models.segmenter import LayoutSegmenter
from .card import Outcome, finished
from .data import load_samples
from .logs import say
from .recipe import program, start
from .runner import Trainer
from .sources import Sample

FOOTPRINTS = {"uganda"}  # sources whose layouts hold buildings and unknown only


def augment(
    image: UInt8[np.ndarray, "h w 3"],
    layout: UInt8[np.ndarray, "h w"],
    rng: np.random.Generator,
    *,
    crop: int,
    softest: float = 2.5,
) -> tuple[Float[np.ndarray, "c c 3"], UInt8[np.ndarray, "c c"]]:
    """A random crop, turned, mirrored, recoloured and sometimes softened (detail up to ``softest`` times coarser); image in [0, 1]."""
    side = min(int(rng.uniform(0.7, 1.0) * min(image.shape[:2])) if rng.random() < 0.5 else crop, *image.shape[:2])
    row, col = (rng.integers(0, n - side + 1) for n in image.shape[:2])
    tile, codes = (a[row : row + side, col : col + side] for a in (image, layout))
    if side != crop:
        tile = np.asarray(Image.fromarray(tile).resize((crop, crop), Image.Resampling.BICUBIC))
        codes = np.asarray(Image.fromarray(codes).resize((crop, crop), Image.Resampling.NEAREST))
    if rng.random() < 0.3:  # generated images are softer than real ones: detail must not be what decides
        small = int(crop / rng.uniform(1.2, softest))
        tile = np.asarray(Image.fromarray(tile).resize((small, small), Image.Resampling.BOX).resize((crop, crop)))
    turns, mirror = int(rng.integers(4)), int(rng.integers(2))
    tile, codes = np.rot90(tile, turns), np.rot90(codes, turns)
    if mirror:
        tile, codes = tile[:, ::-1], codes[:, ::-1]
    colour = rng.uniform(0.85, 1.15, size=3) * rng.uniform(0.8, 1.2)
    bright = (tile / 255.0) ** rng.uniform(0.8, 1.25) * colour + rng.uniform(-0.05, 0.05)
    return np.clip(bright, 0, 1).astype(np.float32), np.ascontiguousarray(codes)


def class_weights(samples: Sequence[Sample], classes: Sequence[int], *, power: float) -> Float[Tensor, " k"]:
    """Weights of the classes, (share of known pixels) ** -power, scaled so that the mean over known pixels is 1."""
    counts = np.zeros(len(CLASSES), np.int64)
    for sample in samples:
        if sample.layout is not None and sample.source not in FOOTPRINTS:
            counts += np.bincount(sample.layout.ravel(), minlength=len(CLASSES))
    share = torch.from_numpy(counts[list(classes)]).double()
    share = share.clamp_min(1) / share.sum()
    weight = share**-power
    return (weight / (weight * share).sum()).float()


def segmentation_loss(
    scores: Float[Tensor, "b k h w"],
    layout: Int[Tensor, "b h w"],
    *,
    classes: Sequence[int],
    weights: Float[Tensor, " k"],
    footprints: Sequence[bool],
    not_building: float,
) -> dict[str, Tensor]:
    """Weighted cross-entropy over known pixels; for footprint maps also -log(1 - p(building)) over unknown ones."""
    lookup = torch.full((len(CLASSES),), -100, dtype=torch.long, device=layout.device)
    lookup[list(classes)] = torch.arange(len(classes), device=layout.device)
    target = lookup[layout]
    known = target >= 0
    each = F.cross_entropy(scores, target, ignore_index=-100, reduction="none")  # 0 where ignored
    weight = torch.where(known, weights.to(scores)[target.clamp_min(0)], 0.0)
    total, mass = (weight * each).sum(), weight.sum()
    mapped = torch.tensor(footprints, device=layout.device)[:, None, None] & (layout == UNKNOWN)
    building = list(classes).index(BUILDING)
    others = scores.logsumexp(1) - torch.cat([scores[:, :building], scores[:, building + 1 :]], dim=1).logsumexp(1)
    total = total + not_building * (mapped * others).sum()
    mass = mass + not_building * mapped.sum()
    right = (scores.argmax(1) == target) & known
    return {"loss": total / mass.clamp_min(1), "accuracy": right.sum() / known.sum().clamp_min(1)}


def read_layouts(model: LayoutSegmenter, samples: Sequence[Sample], *, backbone: EfficientNetLite0) -> list[np.ndarray]:
    """The class map that the model sees in each sample's image, at its size."""
    device = next(model.parameters()).device
    maps = []
    for sample in samples:  # one at a time: sizes differ
        maps.append(
            over_images(lambda x: model.predict(x, backbone=backbone), [sample.image], device=device)[0].numpy()
        )
    return maps


def report(maps: Sequence[np.ndarray], samples: Sequence[Sample], *, confidence: float = 0.95) -> dict:
    """Layout figures per source; for footprint maps also with "unknown" counted as other ground ("as_ground")."""
    out = {}
    for source in dict.fromkeys(s.source for s in samples):
        pairs = [
            (torch.from_numpy(m)[None], torch.from_numpy(s.layout)[None])
            for m, s in zip(maps, samples, strict=True)
            if s.source == source
        ]
        counts = torch.cat([confusion(m, t) for m, t in pairs])
        out[source] = mean_iou(counts, extractor=LayoutSegmenter.name, confidence=confidence).to_dict()
        if source in FOOTPRINTS:
            binary = [((m == BUILDING).long() + 1, (t == BUILDING).long() + 1) for m, t in pairs]
            counts = torch.cat([confusion(m, t, classes=3) for m, t in binary])
            names = {1: "not building", 2: "building"}
            out[source]["as_ground"] = mean_iou(
                counts, names=names, extractor=LayoutSegmenter.name, confidence=confidence
            ).to_dict()
    return out


def sheet(maps: Sequence[np.ndarray], samples: Sequence[Sample], *, columns: int = 4) -> Image.Image:
    """Image, map and reading of each sample side by side, ``columns`` samples a row (all of one size)."""
    strips = [
        np.concatenate([s.image, colourise(s.layout), colourise(m)], axis=1)
        for m, s in zip(maps, samples, strict=True)
        if s.layout is not None
    ]
    rows = [np.concatenate(strips[i : i + columns], axis=1) for i in range(0, len(strips) - columns + 1, columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def write(model: LayoutSegmenter, folder: Path, figures: dict) -> None:
    """Save the model in fp16 and its figures beside it; the model itself stays in float32."""
    small = LayoutSegmenter(**{k: v for k, v in model.config.items() if not k.startswith("_")})
    small.load_state_dict(model.state_dict())
    small.half().save_pretrained(folder)
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.segmenter [RECIPE] key=value ...``."""
    start(train, "segmenter", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe, then measure the EMA weights on the held-out split and save them."""
    torch.manual_seed(recipe.seed)
    samples = [s for s in load_samples(recipe.data.root, "train", sources=recipe.data.sources) if s.layout is not None]
    model = LayoutSegmenter(widths=list(recipe.model.widths))  # a plain list: it goes into config.json
    weights = class_weights(samples, model.classes, power=recipe.loss.power)
    backbone = EfficientNetLite0.from_installed(size=None)
    trainer = Trainer(model, recipe)
    backbone.to(trainer.accelerator.device)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = [samples[i] for i in rng.integers(len(samples), size=recipe.batch)]
        images, layouts = zip(*(augment(s.image, s.layout, rng, crop=recipe.data.crop) for s in chosen), strict=True)
        return {
            "x": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            "layout": torch.from_numpy(np.stack(layouts)).long(),
            "footprints": [s.source in FOOTPRINTS for s in chosen],
        }

    def loss(model: LayoutSegmenter, batch: dict[str, Any]) -> dict[str, Tensor]:
        levels = backbone.pyramid(batch["x"], normalise=False)
        return segmentation_loss(
            model(levels, size=(recipe.data.crop, recipe.data.crop)),
            batch["layout"],
            classes=model.classes,
            weights=weights,
            footprints=batch["footprints"],
            not_building=recipe.loss.not_building,
        )

    trainer.run(loss, draw)
    heldout = [
        s for s in load_samples(recipe.data.root, "heldout", sources=recipe.data.sources) if s.layout is not None
    ]

    def finish(model: LayoutSegmenter, folder: Path) -> None:
        model.eval()
        maps = read_layouts(model, heldout, backbone=backbone)
        figures = report(maps, heldout)
        say(json.dumps(figures, indent=1))
        sheet(maps, heldout).save(folder / "heldout.jpg", quality=90)
        if recipe.save:
            write(model, Path(recipe.save), figures)

    if trainer.main:
        with trainer.averaged() as net:
            finish(net, trainer.out)
    return finished(trainer, Path(recipe.save or trainer.out))


if __name__ == "__main__":
    program(main)
