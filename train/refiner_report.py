"""Measure a ground refiner: ``python -m gensat.train.refiner_report [RECIPE] key=value ...``.

Street types that were never trained on, or a real place (``scene``): renders with plain walls and with drawn facades, what the refiner makes
of both, and what the generator itself shows of a street. Distances to crops of panoramas that were never trained on, edges against the
G-buffers, and reprojection along a walk.
"""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

import gensat

from ..errors import InputError
from ..files import write_bytes
from ..geo.display import contact_sheet
from ..metrics.base import FeatureSet, extract
from ..metrics.depth_edges import depth_edge_f1, depth_edges_kept
from ..metrics.frechet import PrincipalBasis, frechet_64
from ..metrics.kernel import kernel_distance
from ..models.features import EfficientNetLite0
from ..render.environment import PanoramaLight, read_panorama
from ..render.equirect import to_perspective
from ..render.light import exposure, tone_map
from ..render.reproject import reprojection_error
from .card import Outcome
from .logs import say
from .recipe import program, start
from .refiner_views import Ways, ahead, ways

CONFIDENCE = 0.95

SIDES = ("plain walls", "plain walls refined", "drawn facades", "drawn facades refined", "generator")
"""What is compared; the last one only for generated streets."""

PAINTED = " refined"


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.refiner_report [RECIPE] key=value ...``."""
    start(train, "refiner_report", arguments)


@torch.no_grad()
def train(recipe: DictConfig) -> Outcome:
    """Measure to the recipe; figures.json and pictures go to ``out``."""
    began, out = time.time(), Path(recipe.out)
    for name in ("panoramas", "trained_panoramas"):
        missing = [path for path in recipe[name] if not Path(path).is_file()]
        if missing or not recipe[name]:
            what = f"{missing[0]} is no file" if missing else "there are none"
            raise InputError(f"{name} are what pictures are compared with, and {what}; give {name}=[FILE,...]")
    if recipe.count < 320:
        say(f"{recipe.count} views are too few for a Frechet-64 that can be compared; give 320 or more")
    out.mkdir(parents=True, exist_ok=True)
    pipe = gensat.load(recipe.model)
    pipe.set_progress_bar_config(disable=True)
    scenes = list(ways(recipe))
    sides, distance = paint(pipe, scenes, recipe)
    figures = distances(sides, recipe)
    for name, pictures in sides.items():
        figures[name]["edges"] = depth_edge_f1(torch.stack(pictures), distance).to_dict()
        if name.endswith(PAINTED):
            before = torch.stack(sides[name.removesuffix(PAINTED)])
            figures[name]["kept edges"] = depth_edges_kept(torch.stack(pictures), before, distance).to_dict()
    figures["walk"] = walks(pipe, scenes, recipe)
    write_bytes(out / "figures.json", (json.dumps(figures, indent=2) + "\n").encode(), overwrite=True)
    shown = [pictures[k] for k in range(min(12, len(distance))) for pictures in sides.values()]
    sheet(shown, 2 * len(sides)).save(out / "sides.jpg", quality=90)
    flat = {f"{side} {name}": f["value"] for side in sides for name, f in figures[side].items()}
    flat |= {f"walk {name}": value for name, value in figures["walk"].items()}
    return Outcome(out, out, len(distance), time.time() - began, flat)


def paint(pipe: Any, scenes: Sequence[Ways], recipe: DictConfig) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Pictures (h, w, 3) of every camera of the scenes, side by side, and the distances (n, h, w) of their pixels."""
    sides: dict[str, list[Tensor]] = {name: [] for name in SIDES if scenes[0].answer or name != "generator"}
    distance: list[Tensor] = []
    for scene in scenes:
        for camera in scene.cameras:
            plain, drawn = (scene.look(side, camera) for side in ("plain", "drawn"))
            seed = recipe.seed + len(distance)
            made = [pipe(raw, scene.words, seed=seed, **settings(recipe)).views[0] for raw in (plain, drawn)]
            views = [plain, made[0], drawn, made[1], *([scene.look("answer", camera)] if scene.answer else [])]
            for name, view in zip(sides, views, strict=True):
                sides[name].append(view.rgb)
            distance.append(drawn.distance)
            if len(distance) % 40 == 0:
                say(f"{len(distance)} of {recipe.count} views painted")
    return sides, torch.stack(distance)


def settings(recipe: DictConfig) -> dict[str, Any]:
    """What the refiner is called with."""
    return {"num_inference_steps": recipe.denoising_steps, "guidance_scale": recipe.guidance}


def panorama_crops(paths: Sequence[Path], count: int, side: int, seed: int) -> list[Tensor]:
    """``count`` perspective pictures (side, side, 3) out of HDR panoramas, developed as renders are, all around and at the height of eyes."""
    rng = np.random.default_rng(seed)
    developed = []
    for path in paths:
        developed.append(tone_map(read_panorama(path) * exposure(PanoramaLight.open(path), 1.3)).clamp(0, 1))
    made = []
    for k in range(count):
        heading, pitch, fov = rng.uniform(0, 360), rng.uniform(-2, 9), rng.uniform(60, 90)
        panorama = developed[k % len(developed)]
        made.append(
            to_perspective(
                panorama, fov=float(fov), heading=float(heading), pitch=float(pitch), width=side, height=side
            )
        )
    return made


def distances(sides: dict[str, list[Tensor]], recipe: DictConfig) -> dict[str, Any]:
    """Frechet-64 and kernel distance of every side to crops of the held-out panoramas; the floor is that of crops of the other panoramas."""
    extractor = EfficientNetLite0.from_installed(size=224)
    held = panorama_crops([Path(p) for p in recipe.panoramas], recipe.count, recipe.side, recipe.seed)
    seen = panorama_crops([Path(p) for p in recipe.trained_panoramas], recipe.count, recipe.side, recipe.seed + 1)

    def features(pictures: Sequence[Tensor]) -> FeatureSet:
        return extract(extractor, [_bytes(p) for p in pictures])

    real, other = features(held), features(seen)
    basis = PrincipalBasis.fit(other)
    every = {**{name: features(pictures) for name, pictures in sides.items()}, "trained panoramas": other}
    found: dict[str, Any] = {}
    for name, values in every.items():
        found[name] = {
            "frechet_64": frechet_64(
                real, values, basis=basis, confidence=CONFIDENCE, force=recipe.count < 320
            ).to_dict(),
            "kernel": kernel_distance(real, values, confidence=CONFIDENCE).to_dict(),
        }
    return found


def walks(pipe: Any, scenes: Sequence[Ways], recipe: DictConfig) -> dict[str, float]:
    """Mean reprojection error of consecutive frames of a walk in the first scene: drawn facades, those refined frame by frame and together, and
    the generator's truth."""
    scene = scenes[0]
    cameras = ahead(scene.cameras[0], recipe.frames, recipe.step)
    raw = [scene.look("drawn", camera) for camera in cameras]
    options = {"seed": recipe.seed, **settings(recipe)}
    frames = {
        "drawn facades": raw,
        "refined, frame by frame": list(pipe.walk(raw, scene.words, consistent=False, **options)),
        "refined, together": list(pipe.walk(raw, scene.words, **options)),
    }
    if scene.answer:
        frames["generator"] = [scene.look("answer", camera) for camera in cameras]
    sheet([view.rgb for side in frames.values() for view in side], recipe.frames).save(
        Path(recipe.out) / "walk.jpg", quality=90
    )
    return {
        name: float(np.mean([reprojection_error(a, b).error for a, b in itertools.pairwise(side)]))
        for name, side in frames.items()
    }


def _bytes(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round().byte().numpy()


def sheet(pictures: Sequence[Tensor], columns: int) -> Image.Image:
    """A contact sheet of pictures (h, w, 3) in [0, 1]."""
    return contact_sheet([_bytes(p) for p in pictures], columns, side=pictures[0].shape[0])


if __name__ == "__main__":
    program(main)
