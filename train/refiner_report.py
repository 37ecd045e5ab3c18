"""Measure a ground refiner: ``python -m gensat.train.refiner_report [RECIPE] key=value ...``.

Pairs of street types that were never trained on, three ways: raw renders, what the refiner makes of them, and what the generator itself
shows. Distances to crops of panoramas that were never trained on, edges against the G-buffers, and reprojection along a walk.
"""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

import gensat

from ..files import write_bytes
from ..geo.display import contact_sheet
from ..metrics.base import FeatureSet, extract
from ..metrics.depth_edges import depth_edge_f1
from ..metrics.frechet import PrincipalBasis, frechet_64
from ..metrics.kernel import kernel_distance
from ..models.features import EfficientNetLite0
from ..render.cameras import Camera
from ..render.environment import PanoramaLight, read_panorama
from ..render.equirect import to_perspective
from ..render.gbuffers import render
from ..render.light import exposure, tone_map
from ..render.lighting import SceneLight
from ..render.reproject import reprojection_error
from ..render.streets.scenes import Street
from ..render.view import View
from .card import Outcome
from .logs import say
from .recipe import program, start
from .street_pairs import caption_of

CONFIDENCE = 0.95


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.refiner_report [RECIPE] key=value ...``."""
    start(train, "refiner_report", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Measure to the recipe; figures.json and pictures go to ``out``."""
    began, out = time.time(), Path(recipe.out)
    if recipe.count < 320:
        say(f"{recipe.count} views are too few for a Frechet-64 that can be compared; give 320 or more")
    out.mkdir(parents=True, exist_ok=True)
    pipe = gensat.load(recipe.model)
    pipe.set_progress_bar_config(disable=True)
    views = held_out_views(recipe)
    sides: dict[str, list[Tensor]] = {"raw": [r.rgb for r, _, _ in views], "generator": [t.rgb for _, t, _ in views]}
    sides["refined"] = []
    for i, (raw, _, words) in enumerate(views):
        made = pipe(
            raw, words, seed=recipe.seed + i, num_inference_steps=recipe.denoising_steps, guidance_scale=recipe.guidance
        )
        sides["refined"].append(made.views[0].rgb)
        if i % 40 == 39:
            say(f"{i + 1} of {len(views)} refined")
    figures = distances(sides, recipe)
    distance = torch.stack([r.distance for r, _, _ in views])
    for name, pictures in sides.items():
        figures[name]["edges"] = depth_edge_f1(torch.stack(pictures), distance).to_dict()
    figures["walk"] = walks(pipe, recipe)
    write_bytes(out / "figures.json", (json.dumps(figures, indent=2) + "\n").encode(), overwrite=True)
    shown = [p for k in range(min(12, len(views))) for p in (sides[n][k] for n in ("raw", "refined", "generator"))]
    sheet([*shown], 6).save(out / "raw_refined_generator.jpg", quality=90)
    flat = {f"{side} {name}": f["value"] for side in sides for name, f in figures[side].items()}
    flat |= {f"walk {name}": value for name, value in figures["walk"].items()}
    return Outcome(out, out, len(views), time.time() - began, flat)


def held_out_views(recipe: DictConfig) -> list[tuple[View, View, str]]:
    """``count`` raw renders of streets of held-out types, what the generator shows, and their words."""
    found: list[tuple[View, View, str]] = []
    index = 0
    while len(found) < recipe.count:
        rng = np.random.default_rng([recipe.seed, index])
        street = Street.make(str(rng.choice(held_out_types())), int(rng.integers(2**31)), samples=1)
        lit = raw_light(street)
        for camera in street.cameras(recipe.views, seed=index, width=recipe.side, height=recipe.side):
            found.append((render(street.scene, camera, light=lit), street.view(camera), caption_of(street)))
        index += 1
    return found[: recipe.count]


def held_out_types() -> list[str]:
    """Street types that no refiner is trained on."""
    from ..render.streets.styles import STREET_TYPES

    return [name for name, kind in STREET_TYPES.items() if kind.held_out]


def raw_light(street: Street) -> SceneLight:
    """The light of a street on the raw render of its scene."""
    light = SceneLight(street.light.light, visibility=street.weather.visibility)
    light.exposure = street.light.exposure
    light.remember(street.scene, street.light.sky_view(street.scene))
    return light


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


def walks(pipe: Any, recipe: DictConfig) -> dict[str, float]:
    """Mean reprojection error of consecutive frames of a walk: raw, the generator's truth, and refined frame by frame and together."""
    rng = np.random.default_rng([recipe.seed, 7])
    street = Street.make(held_out_types()[0], int(rng.integers(2**31)), samples=1)
    [start_camera] = street.cameras(1, seed=3, width=recipe.side, height=recipe.side)
    assert isinstance(start_camera, Camera)
    light, words = raw_light(street), caption_of(street)
    ahead = start_camera.pose[2, :3]
    cameras = []
    for k in range(recipe.frames):
        pose = start_camera.pose.copy()
        pose[:3, 3] -= pose[:3, :3] @ np.array([ahead[0], ahead[1], 0.0]) * recipe.step * k
        cameras.append(replace(start_camera, pose=pose))
    raw = [render(street.scene, camera, light=light) for camera in cameras]
    options = {"seed": recipe.seed, "num_inference_steps": recipe.denoising_steps, "guidance_scale": recipe.guidance}
    frames = {
        "raw": raw,
        "generator": [street.view(camera) for camera in cameras],
        "refined, frame by frame": list(pipe.walk(raw, words, consistent=False, **options)),
        "refined, together": list(pipe.walk(raw, words, **options)),
    }
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
