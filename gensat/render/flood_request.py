"""The water of a scene from what a person types: a level, a depth raster, or the moments of a flood."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gensat.errors import InputError
from gensat.geo.raster import open_image
from gensat.render.flood_scene import Staff, filled, flooded
from gensat.render.flood_steps import FloodSteps
from gensat.render.flood_view import levels
from gensat.render.scene import Scene


@dataclass(frozen=True, eq=False)
class Course:
    """One surface of water, or the moments of a flood.

    Args:
        dry: the scene without it.
        scene: with the water that a still shows.
        seconds: of that moment; None for a surface.
        steps: all moments; None for a surface.
    """

    dry: Scene
    scene: Scene
    seconds: float | None = None
    steps: FloodSteps | None = None

    def scenes(self, scene: Scene, frames: int, staff: Staff | None = None) -> Iterator[tuple[Scene, float | None]]:
        """The water as it comes to ``scene`` (the still one on its device, with the staff), with the seconds of moments.

        Raises InputError for fewer than two frames or moments.
        """
        if self.steps is None:
            yield from ((one, None) for one in levels(scene, frames))
            return
        for one, seconds in self.steps.scenes(self.dry, frames):
            yield (one if staff is None else staff.into(one)).to(scene.image.device), seconds


def open_flood(
    dry: Scene,
    *,
    depth: str | os.PathLike[str] | None = None,
    level: float | int | None = None,
    minute: float | int | None = None,
    points: Sequence[tuple[float, float]] = (),
) -> Course:
    """The water that a person describes.

    Args:
        dry: the scene without it.
        depth: raster of metres over the ground, or a folder of such of several moments.
        level: instead, metres in the heights of the terrain.
        minute: that a still of moments shows. When not given, that at which it is deepest at the first of ``points`` that gets wet.
        points: local x and y in metres: the camera, a gauge.

    Raises:
        InputError: both or none of depth and level, a minute without moments, no water in the scene, or as :class:`FloodSteps` and ``flooded``.
    """
    if (depth is None) == (level is None):
        raise InputError("give the depth of a computed flood, or the level of level water: one of them")
    moments = depth is not None and Path(depth).is_dir()
    if minute is not None and not moments:
        raise InputError("a minute is one of the moments of a flood; give a folder with its depths, or no minute")
    if level is not None:
        return Course(dry, filled(dry, level))
    assert depth is not None
    if not moments:
        return Course(dry, flooded(dry, open_image(depth)))
    steps = FloodSteps.open(depth)
    seconds = steps.deepest(dry, *points) if minute is None else 60.0 * minute
    scene = steps.scene(dry, seconds)
    if scene.water is None:
        raise InputError(
            f"no open ground of the scene is under water at minute {seconds / 60:g}; give another minute, or depths of this place"
        )
    return Course(dry, scene, seconds, steps)
