"""Measure renderers of floods: ``python -m gensat.train.flood_report [RECIPE] key=value ...``.

On pairs of a place that was never trained on: each renderer is given the image before and the derived mask of open water, and is compared with
the image after: does a judge see the water where it was asked for, how far is the picture from the real one, and is it like floods at all?
"""

import json
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from omegaconf import DictConfig

import gensat

from ..diffusion.codec import Codec
from ..files import write_bytes
from ..geo.display import contact_sheet
from ..hydro.over_image import LaidFlood, lay_flood
from ..metrics.base import FeatureSet, extract
from ..metrics.flood import fvps_each, summarise_flood
from ..metrics.frechet import PrincipalBasis, frechet_64
from ..models.features import EfficientNetLite0, to_tensor
from ..models.perceptual import Elpd
from ..models.segmenter import LayoutSegmenter
from ..pipelines.flood import FloodPipeline
from ..render.flood_optics import render_flood
from ..types import GeoImage
from .card import Outcome
from .flood import GSD, guessed_depth
from .flood_pairs import FloodPair, flood_pairs
from .logs import say
from .recipe import program, start
from .water import WaterJudge, agreement
from .water_cheats import PAINT, laid_in, painted

CONFIDENCE = 0.95
BASELINE = "hand-painted"
CALM = 1.5
"""Metres a second in which optics' water is as smooth as paint."""

_SLOPE = 0.02  # of the ground, where a depth has to be made up

Renderer = Callable[[LaidFlood, int], np.ndarray]


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.flood_report [RECIPE] key=value ...``."""
    start(train, "flood_report", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Measure to the recipe; figures.json and pictures go to ``out``."""
    began, out = time.time(), Path(recipe.out)
    out.mkdir(parents=True, exist_ok=True)
    pairs = chosen(flood_pairs(recipe.data.root, split="heldout", cache=recipe.data.cache), recipe)
    backbone = EfficientNetLite0.from_installed(size=None)
    judge = WaterJudge(
        LayoutSegmenter.from_pretrained(recipe.judge or str(files("gensat.assets") / "evaluation" / "water")), backbone
    )
    floods = [laid(pair, recipe.size) for pair in pairs]
    real = [cut(pair.after, pair, recipe.size) for pair in pairs]
    pipe = gensat.load(recipe.model)
    assert isinstance(pipe, FloodPipeline)
    pipe.set_progress_bar_config(disable=True)
    pictures: dict[str, list[np.ndarray]] = {"real, after the flood": real}
    pictures["real water, dry pixels of before"] = [
        laid_in(f.image.array, picture, f.seen) for f, picture in zip(floods, real, strict=True)
    ]
    pictures["the same through the autoencoder"] = [
        laid_in(f.image.array, decoded(picture, pipe.codec), f.seen) for f, picture in zip(floods, real, strict=True)
    ]
    for name, renderer in renderers(pipe, recipe).items():
        say(f"{name}: {len(floods)} images")
        pictures[name] = [renderer(flood, recipe.seed + i) for i, flood in enumerate(floods)]
    figures = measure(pictures, real, [f.seen for f in floods], judge, Elpd.from_assets())
    others = chosen(flood_pairs(recipe.data.root, split="train", cache=recipe.data.cache), recipe)
    spread = np.linspace(0, len(others) - 1, min(len(others), len(real))).astype(int)
    others = [others[i] for i in spread]  # as many as there are real images here
    likeness(figures, pictures, real, [cut(p.after, p, recipe.size) for p in others])
    write_bytes(out / "figures.json", (json.dumps(figures, indent=2) + "\n").encode(), overwrite=True)
    write_bytes(out / "figures.md", table(figures).encode(), overwrite=True)
    rows = np.random.default_rng(recipe.seed).choice(len(pairs), min(10, len(pairs)), replace=False)
    columns = [[f.image.array for f in floods], *pictures.values()]
    contact_sheet([column[i] for i in rows for column in columns], len(columns), side=recipe.size).save(
        out / "renderers.jpg", quality=92
    )
    flat = {f"{side} {name}": f["value"] for side, all_of in figures.items() for name, f in all_of.items()}
    return Outcome(out, out, len(pairs), time.time() - began, flat)


def chosen(pairs: list[FloodPair], recipe: DictConfig) -> list[FloodPair]:
    """Pairs that know enough of the image after, with some water in it, but not nothing else."""
    kept = [p for p in pairs if all(s.stop - s.start >= recipe.size for s in p.window())]
    share = [float(cut(p.water, p, recipe.size).mean()) for p in kept]
    kept = [p for p, s in zip(kept, share, strict=True) if recipe.share[0] <= s <= recipe.share[1]]
    return kept[: recipe.count] if recipe.count else kept


def cut(array: np.ndarray, pair: FloodPair, size: int) -> np.ndarray:
    """The middle of what is known of a pair."""
    rows, columns = (slice(s.start + (s.stop - s.start - size) // 2, None) for s in pair.window())
    return array[rows, columns][:size, :size]


def laid(pair: FloodPair, size: int) -> LaidFlood:
    """The flood of a pair, its depth made up (``guessed_depth``); nothing that is dry can rise out of it."""
    water = cut(pair.water, pair, size)
    image = GeoImage(np.ascontiguousarray(cut(pair.before, pair, size)))
    return lay_flood(image, guessed_depth(water, _SLOPE), gsd=GSD, heights=np.zeros(water.shape, np.float32))


@torch.no_grad()
def decoded(image: UInt8[np.ndarray, "h w 3"], codec: Codec) -> UInt8[np.ndarray, "h w 3"]:
    """What is left of an image after the autoencoder: no renderer that decodes through it can come nearer."""
    made = codec.decode(codec.encode(to_tensor([image]) * 2 - 1))
    return (made[0].movedim(0, -1).clamp(-1, 1) * 127.5 + 127.5).round().byte().numpy()


def renderers(pipe: FloodPipeline, recipe: DictConfig) -> dict[str, Renderer]:
    """What is compared, by name."""
    options = {"num_inference_steps": recipe.denoising_steps, "guidance_scale": recipe.guidance}

    def diffusion(flood: LaidFlood, seed: int) -> np.ndarray:
        return pipe.paint(flood, seed=seed, **options).scenes[0].array

    def smooth(flood: LaidFlood, seed: int) -> np.ndarray:
        return pipe.paint(flood, seed=seed, grain=0, **options).scenes[0].array

    def optical(flood: LaidFlood, seed: int) -> np.ndarray:
        return render_flood(flood.image, flood.depth, flood.seen, gsd=GSD, seed=seed).array

    def calm(flood: LaidFlood, seed: int) -> np.ndarray:
        return render_flood(flood.image, flood.depth, flood.seen, gsd=GSD, seed=seed, wind=CALM).array

    def grainy(flood: LaidFlood, seed: int) -> np.ndarray:
        grain = np.zeros(flood.image.array.shape)
        if pipe.grain is not None:
            grain = pipe.grain(*flood.seen.shape, gsd=GSD, seed=seed).movedim(0, -1).numpy() * 127.5
        return laid_in(flood.image.array, np.array(PAINT) + grain, flood.seen)

    def unmasked(flood: LaidFlood, seed: int) -> np.ndarray:
        return pipe.paint(flood, seed=seed, masked=False, **options).scenes[0].array

    return {
        "diffusion": diffusion,
        "diffusion without grain": smooth,
        "optical": optical,
        f"optical, wind of {CALM:g} m/s": calm,
        BASELINE: lambda flood, seed: painted(flood.image.array, flood.seen),
        "paint with grain": grainy,
        "diffusion without the mask": unmasked,
        "image before the flood": lambda flood, seed: flood.image.array,
    }


def measure(
    pictures: dict[str, list[np.ndarray]], real: list[np.ndarray], wet: list[np.ndarray], judge: WaterJudge, elpd: Elpd
) -> dict[str, dict[str, Any]]:
    """IoU of the water that the judge sees with that which was asked for, ELPD to the real image, and FVPS of both, per image.

    ``over paint`` is by how much FVPS is above that of the hand-painted baseline on the same images: images differ far more than
    renderers, so the interval of this difference says what two intervals side by side cannot.
    """
    figures: dict[str, dict[str, Any]] = {}
    plausible: dict[str, torch.Tensor] = {}
    truth = to_tensor(real)
    for name, made in pictures.items():
        iou = agreement(judge, made, wet)
        with torch.no_grad():
            pairs = zip(to_tensor(made).split(16), truth.split(16), strict=True)
            distance = torch.cat([elpd(a, b) for a, b in pairs])
        plausible[name] = fvps_each(iou, distance)
        figures[name] = {
            "IoU": summarise_flood("IoU", iou, extractor=judge.name, confidence=CONFIDENCE).to_dict(),
            "ELPD": summarise_flood("ELPD", distance, extractor="ELPD", confidence=CONFIDENCE).to_dict(),
        }
    for name, values in plausible.items():
        for metric, each in (("FVPS(ELPD)", values), ("over paint", values - plausible[BASELINE])):
            figures[name][metric] = summarise_flood(
                metric, each, extractor=f"{judge.name}, ELPD", confidence=CONFIDENCE
            ).to_dict()
    return figures


def likeness(
    figures: dict[str, dict[str, Any]],
    pictures: dict[str, list[np.ndarray]],
    real: list[np.ndarray],
    others: list[np.ndarray],
) -> None:
    """Adds the Frechet-64 distance of each renderer to the real images of the same place; the real ones' own is to those of other places."""
    extractor = EfficientNetLite0.from_installed(size=224)

    def features(images: list[np.ndarray]) -> FeatureSet:
        return extract(extractor, images)

    truth, elsewhere = features(real), features(others)
    basis = PrincipalBasis.fit(elsewhere)
    for name, made in pictures.items():
        side = elsewhere if made is real else features(made)
        figures[name]["Frechet-64"] = frechet_64(
            truth, side, basis=basis, confidence=CONFIDENCE, force=len(made) < 320
        ).to_dict()


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    names = ["IoU", "ELPD", "FVPS(ELPD)", "over paint", "Frechet-64"]
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for side, found in figures.items():
        cells = []
        for name in names:
            low, high = found[name]["interval"]
            places = 1 if name == "Frechet-64" else 3
            cells.append(f"{found[name]['value']:.{places}f} [{low:.{places}f}, {high:.{places}f}]")
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    program(main)
