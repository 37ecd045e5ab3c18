"""Pictures of a flood from the street: marks on a staff, before and after, and the water rising."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from gensat.errors import InputError
from gensat.render.cameras import AnyCamera
from gensat.render.flood_scene import Staff, depth_at, receded, require_above
from gensat.render.gbuffers import render
from gensat.render.scene import Scene
from gensat.render.view import View
from gensat.render.water import WaterLight

_FRONT = 0.5  # metres by which something stands before the staff if it hides it
_LEAST = 9  # pixels between two figures


def read_staff(view: View, scene: Scene, staff: Staff) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a view with figures beside a staff: metres up, and the depth of the water where it stands.

    Only what the camera sees gets figures. The picture is uint8, as :meth:`View.image` makes it.
    """
    picture = Image.fromarray(view.image().array)
    draw = ImageDraw.Draw(picture)
    depth = depth_at(scene, staff.x, staff.y)
    ups = [round(0.5 * k, 1) for k in range(int(staff.height / 0.5 + 1e-9) + 1) if 0.5 * k > depth + 0.05]
    points = torch.stack([staff.mark(scene, up) for up in (depth, *ups)])
    pixels, away, inside = view.camera.project(points)
    seen = [bool(inside[k]) and _sees(view, pixels[k], float(away[k])) for k in range(len(points))]
    size = max(11, view.camera.height // 40)
    last = np.inf
    font, small = (ImageFont.load_default(float(s)) for s in (size * 1.4, size))
    for k, up in enumerate(ups, 1):
        (column, row), shown = pixels[k].tolist(), seen[k]
        if shown and (last - row > _LEAST or last == np.inf):
            _tag(draw, column, row, f"{up:g}", small, (255, 255, 255), gap=size * 0.8)
            last = row
    if seen[0] and depth > 0:
        column, row = pixels[0].tolist()
        _tag(draw, column, row, f"{depth:.2f} m", font, (255, 226, 90), gap=-size * 0.8)
    return np.asarray(picture)


def _sees(view: View, pixel: torch.Tensor, away: float | int) -> bool:
    column, row = (int(v) for v in pixel.floor())
    column, row = min(column, view.camera.width - 1), min(row, view.camera.height - 1)
    around = view.distance[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return float(around.max()) > away - _FRONT


def _tag(
    draw: ImageDraw.ImageDraw,
    column: float | int,
    row: float | int,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: tuple[int, int, int],
    gap: float | int,
) -> None:
    """Text beside a point, to the right for a gap above 0, with a line to it."""
    anchor = "lm" if gap > 0 else "rm"
    draw.line([(column, row), (column + gap, row)], fill=colour, width=2)
    draw.text(
        (column + gap * 1.3, row), text, fill=colour, font=font, anchor=anchor, stroke_width=2, stroke_fill=(20, 20, 20)
    )


def rising(
    scene: Scene, camera: AnyCamera, light: WaterLight, *, frames: int, fps: float | int = 12.0, samples: int = 1
) -> Iterator[tuple[View, Scene]]:
    """Views of the water rising to the level of ``scene``, with the scene of each; the first is dry, and the surface rises evenly.

    A level surface rises alike everywhere, which is how a bathtub fills. For a flood that travels give the scenes of
    :class:`gensat.render.flood_steps.FloodSteps` to :func:`filmed`.

    Args:
        scene: at its highest, staffs included.
        camera: which stays above the water.
        light: of that scene.
        frames: 2 or more.
        fps: frames a second, for the waves.
        samples: n x n rays a pixel.

    Raises:
        InputError: fewer than two frames.
    """
    return filmed(levels(scene, frames), camera, light, fps=fps, samples=samples)


def levels(scene: Scene, frames: int) -> Iterator[Scene]:
    """So many scenes of which the first is dry and the last is this one, at levels that rise evenly. Raises InputError for fewer than two."""
    if frames < 2:
        raise InputError(f"{frames} frames do not rise; give 2 or more")
    x, y = scene.grid.centres()
    ground = scene.height_at(x.to(scene.terrain.heights), y.to(scene.terrain.heights))
    assert scene.water is not None
    deepest = float(torch.nan_to_num(scene.water.to(ground) - ground, nan=0.0).max())
    for k in range(frames):
        yield receded(scene, deepest * (1 - k / (frames - 1))) if k else replace(scene, water=None)


def filmed(
    scenes: Iterable[Scene], camera: AnyCamera, light: WaterLight, *, fps: float | int = 12.0, samples: int = 1
) -> Iterator[tuple[View, Scene]]:
    """A view of each of some scenes that differ in their water alone, with waves that move.

    Args:
        scenes: of one place, dry or not.
        camera: above the water of them all.
        light: of that place under water.
        fps: scenes a second.
        samples: n x n rays a pixel.

    Raises:
        InputError: the camera is under water.
    """
    for k, now in enumerate(scenes):
        require_above(now, camera)
        if now.water is None:
            yield render(now, camera, light=light.base, samples=samples), now
        else:
            lit = light.at(now, time=k / float(fps))
            yield render(now, camera, light=lit, shader=lit.shader, samples=samples), now


def write_time(picture: UInt8[np.ndarray, "h w 3"], seconds: float | int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with a time in its lower left corner: minutes and seconds, from an hour on hours and minutes."""
    made = Image.fromarray(picture)
    size = max(11.0, made.height / 24)
    ImageDraw.Draw(made).text(
        (size * 0.6, made.height - size * 0.6), time_text(seconds), fill=(255, 255, 255), font=ImageFont.load_default(size),
        anchor="ls", stroke_width=2, stroke_fill=(20, 20, 20),
    )  # fmt: skip
    return np.asarray(made)


def time_text(seconds: float | int) -> str:
    """A time of a flood: ``2 min 05 s``, ``1 h 30 min``."""
    whole = round(float(seconds))
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(float(seconds) / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def before_and_after(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w2 3"]:
    """Two pictures of one camera side by side, with a white line between them."""
    line = np.full((before.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([before, line, after], axis=1)
