"""Views that a ground refiner is measured on: generated streets of held-out types, or a real place, each as it is painted in several ways."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from omegaconf import DictConfig

from ..errors import InputError
from ..render.cameras import EYE, AnyCamera, Camera
from ..render.gbuffers import render
from ..render.lighting import SceneLight
from ..render.request import NO_FACADES, open_light, open_scene
from ..render.scene import Scene
from ..render.streets.scenes import Street
from ..render.streets.styles import STREET_TYPES
from ..render.view import View
from .street_pairs import caption_of, raw_light

_FREE, _NEAR = 3.0, 25.0  # metres from the next building, at least and at most
_TRIES = 1000  # a view


@dataclass(frozen=True)
class Ways:
    """One scene, and what it looks like from a camera: ``plain`` walls, ``drawn`` facades, and, for a generated street, the ``answer``."""

    scene: Scene
    cameras: list[Camera]
    plain: SceneLight | None
    drawn: SceneLight | None
    answer: Callable[[AnyCamera], View] | None
    words: str

    def look(self, side: str, camera: AnyCamera) -> View:
        """The view of a camera, ``side`` being plain, drawn or answer."""
        if side == "answer":
            if self.answer is None:
                raise InputError("a real place has no answer")
            return self.answer(camera)
        return render(self.scene, camera, light=getattr(self, side))


def held_out_types() -> list[str]:
    """Street types that no refiner is trained on."""
    return [name for name, kind in STREET_TYPES.items() if kind.held_out]


def ways(recipe: DictConfig) -> Iterator[Ways]:
    """Scenes that have ``recipe.count`` cameras together: held-out streets, ``recipe.views`` a street, or the place of ``recipe.scene``."""
    if recipe.scene:
        yield place(recipe)
        return
    for index, first in enumerate(range(0, recipe.count, recipe.views)):
        rng = np.random.default_rng([recipe.seed, index])
        street = Street.make(str(rng.choice(held_out_types())), int(rng.integers(2**31)), samples=1)
        count = min(recipe.views, recipe.count - first)
        cameras = street.cameras(count, seed=index, width=recipe.side, height=recipe.side)
        plain, drawn = (raw_light(street, facades=f) for f in (False, True))
        found = [c for c in cameras if isinstance(c, Camera)]
        yield Ways(street.scene, found, plain, drawn, street.view, caption_of(street))


def place(recipe: DictConfig) -> Ways:
    """The real place of ``recipe.scene`` (options of :func:`gensat.render.request.open_scene`) in the light of ``recipe.light``."""
    given: dict[str, Any] = {
        k: Path(v) if k in ("image", "heights", "buildings", "layout") else str(v) for k, v in recipe.scene.items()
    }
    scene = open_scene(given.pop("image"), **given)
    options: dict[str, Any] = dict(recipe.light or {})
    plain, drawn = (open_light(scene, facades=f, **options) for f in (NO_FACADES, None))
    return Ways(scene, standing(scene, recipe), plain, drawn, None, str(recipe.words))


def standing(scene: Scene, recipe: DictConfig) -> list[Camera]:
    """``recipe.count`` cameras in the open, 3 to 25 m from the next building and outside trees, looking anywhere.

    Raises InputError where there is no such place.
    """
    rng = np.random.default_rng(recipe.seed)
    left, bottom, right, top = scene.grid.bounds
    buildings = shapely.STRtree(list(scene.buildings.footprints))
    crowns, radii = scene.objects.centre[:, :2].numpy(), scene.objects.half[:, 0].numpy()
    made: list[Camera] = []
    for _ in range(_TRIES * recipe.count):
        if len(made) == recipe.count:
            return made
        x, y = rng.uniform(left + 40, right - 40), rng.uniform(bottom + 40, top - 40)
        heading, pitch, fov = rng.uniform(0, 360), rng.uniform(-2, 9), rng.uniform(60, 90)
        near, free = (len(buildings.query(shapely.Point(x, y), "dwithin", distance=d)) for d in (_FREE, _NEAR))
        if near or not free or (np.hypot(crowns[:, 0] - x, crowns[:, 1] - y) < radii + 1.5).any():
            continue
        z = float(scene.height_at(torch.tensor(x), torch.tensor(y))) + EYE
        size = {"width": int(recipe.side), "height": int(recipe.side)}
        made.append(
            Camera.looking(scene.frame, (x, y, z), heading=float(heading), pitch=float(pitch), fov=float(fov), **size)
        )
    raise InputError("the scene has too little open ground within 25 m of buildings; give a scene with streets")


def ahead(camera: Camera, frames: int, step: float) -> list[Camera]:
    """A walk straight on: ``frames`` cameras, ``step`` metres apart."""
    forward = camera.pose[2, :3]
    made = []
    for k in range(frames):
        pose = camera.pose.copy()
        pose[:3, 3] -= pose[:3, :3] @ np.array([forward[0], forward[1], 0.0]) * step * k
        made.append(replace(camera, pose=pose))
    return made
