"""A scene under water: the level of a computed flood over its ground, what a rising flood does, and a staff to read the depth on.

The level stands where the depth was computed. So that the water meets walls and shores, which do not follow the cells of a raster, it goes on
under what covers it: into buildings, and into the next cell where the ground is higher than the water. It goes over no dry ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from affine import Affine
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from gensat.errors import InputError, require_number
from gensat.geo.canvas import Canvas
from gensat.geo.crs import to_lonlat
from gensat.hydro.resample import depth_on
from gensat.render.cameras import AnyCamera
from gensat.render.objects import Objects
from gensat.render.scene import Scene
from gensat.render.streets.things import PARTS
from gensat.types import GeoImage

UNDER = 3.0
"""Metres that the level goes on into buildings."""


def canvas_of(scene: Scene) -> Canvas:
    """The pixels of a scene on its map, such as other rasters are brought to."""
    grid, frame = scene.grid, scene.frame
    if frame.crs is None:
        return Canvas.local(grid.columns, grid.rows, grid.step)
    x, y = frame.to_crs(grid.left, grid.top)
    step = float(grid.step) / float(frame.metre)
    return Canvas(grid.columns, grid.rows, step, frame.crs, Affine(step, 0, float(x), 0, -step, float(y)))


def flooded(scene: Scene, depth: GeoImage, *, dry: bool = False) -> Scene:
    """The scene with the water of a depth raster in it, at the level of the scene's own ground plus the depth.

    Args:
        scene: without the flood.
        depth: one band of metres over the ground, of any CRS and resolution; 0 is dry.
        dry: whether a depth without water in the scene leaves it as it is, as at the beginning of a flood.

    Raises:
        InputError: as :func:`gensat.hydro.resample.depth_on`, or no water at all in the scene unless it may be ``dry``.
    """
    canvas = canvas_of(scene)
    metres, wet = depth_on(depth, canvas)
    x, y = scene.grid.centres()
    ground = _ground(scene, x, y)
    covered = scene.blocked().numpy()
    # On a surface model the ground of a building or tree is its top: the flood is known around it only.
    known = wet & np.isfinite(ground) & ~covered
    if not known.any() and dry:
        return scene
    if not known.any():
        raise InputError(
            "no open ground of the scene is under water; check that the depth is of this place and in metres"
        )
    stands, cell = _levels(scene, depth, canvas)
    level = np.where(known & np.isfinite(stands), stands, np.nan)
    level = _goes_on(level, ground, covered, float(scene.grid.step), cell)
    deepest = float(np.nanmax(metres[known]))
    provenance = {
        **scene.provenance,
        "flood_depth_max": round(deepest, 3),
        "flood_share": round(float(known.mean()), 5),
    }
    return replace(scene, water=torch.from_numpy(level).to(scene.image), provenance=provenance)


def filled(scene: Scene, level: float | int) -> Scene:
    """The scene with level water, as high as ``level`` in the heights of its terrain: all that is lower is under water, connected or not.

    For water that has to find its way give a computed depth to :func:`flooded`.

    Raises:
        InputError: no open ground of the scene is that low, or the scene has none.
    """
    z = require_number(level, "level") - float(scene.frame.origin[2])
    ground = _ground(scene, *scene.grid.centres())
    under = (ground < z) & ~scene.blocked().numpy()
    if not under.any():
        lowest = float(np.nanmin(ground)) + float(scene.frame.origin[2])
        raise InputError(
            f"a level of {level:g} m is below all open ground, which begins at {lowest:.2f} m; give a higher one"
        )
    provenance = {
        **scene.provenance,
        "flood_level": float(level),
        "flood_depth_max": round(float(z - ground[under].min()), 3),
        "flood_share": round(float(under.mean()), 5),
    }
    return replace(scene, water=torch.full_like(scene.image[..., 0], z), provenance=provenance)


def _ground(scene: Scene, x: Tensor, y: Tensor) -> np.ndarray:
    """Local z of the terrain at points, float64; NaN where there is none."""
    at = (v.to(scene.terrain.heights.device, torch.float64) for v in (x, y))
    return scene.height_at(*at).detach().cpu().numpy()


def _levels(scene: Scene, depth: GeoImage, canvas: Canvas) -> tuple[np.ndarray, float]:
    """Local z of the water on the scene's grid, NaN where it is dry, and metres of a cell of the raster.

    The level is taken at the centres of the raster's own cells, where depth and ground belong to each other, and is then smooth between them;
    depths of coarse cells over fine ground would climb its slopes.
    """
    values = depth.physical()[:, :, 0]
    if depth.crs is None or depth.transform is None or canvas.crs is None:
        metres, wet = depth_on(depth, canvas)
        return np.where(wet, _ground(scene, *scene.grid.centres()) + metres, np.nan), float(scene.grid.step)
    rows, columns = np.mgrid[: depth.height, : depth.width] + 0.5
    x, y = scene.frame.local(*to_lonlat(depth.crs, *(depth.transform @ (columns, rows))))
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    stands = _ground(scene, tx, ty) + values
    r, c = (
        np.clip(v.numpy(), 0, n - 1).astype(int)
        for v, n in zip(scene.grid.pixels(tx, ty), scene.blocked().shape, strict=True)
    )
    holds = (values > 0) & np.isfinite(stands) & scene.grid.inside(tx, ty).numpy() & ~scene.blocked().numpy()[r, c]
    if not holds.any():  # all of it lies in the parts of cells that the scene shows
        metres, wet = depth_on(depth, canvas)
        return np.where(wet, _ground(scene, *scene.grid.centres()) + metres, np.nan), float(
            depth.gsd or scene.grid.step
        )
    low = float(stands[holds].min()) - 1  # 0 is dry
    raster = GeoImage(
        np.where(holds, stands - low, np.where(np.isfinite(values), 0, np.nan)).astype(np.float32),
        crs=depth.crs,
        transform=depth.transform,
    )
    laid, wet = depth_on(raster, canvas)
    return np.where(wet, laid + low, np.nan), float(depth.gsd or scene.grid.step)


def _goes_on(
    level: np.ndarray, ground: np.ndarray, covered: np.ndarray, step: float | int, cell: float | int
) -> np.ndarray:
    """Levels, continued under buildings, into higher ground next to the water, and over what cells coarser than the scene leave open."""
    away, (row, column) = ndimage.distance_transform_edt(np.isnan(level), return_indices=True)
    nearest = level[row, column]
    into = covered & (away * step <= max(UNDER, 2 * step))
    shore = (away < 1.5) & ~(ground < nearest)
    within = away * step <= 0.75 * cell if cell > 1.5 * step else np.zeros_like(covered)
    return np.where(np.isnan(level) & (into | shore | within), nearest, level)


def receded(scene: Scene, metres: float | int) -> Scene:
    """The same flood, so many metres lower: the water of a level surface falls alike everywhere and leaves what is higher."""
    if scene.water is None:
        raise InputError("the scene has no water that could fall; flood it first")
    return replace(scene, water=scene.water - float(metres))


def depth_at(scene: Scene, x: float | int, y: float | int) -> float:
    """Metres of water over the ground at a local point; 0 where it is dry."""
    if scene.water is None:
        return 0.0
    at = torch.tensor([[float(x)], [float(y)]], dtype=torch.float64, device=scene.terrain.heights.device)
    surface = scene._water.height_at(*at)  # type: ignore[attr-defined]
    return max(0.0, float(torch.nan_to_num(surface - scene.height_at(*at), nan=0.0)))


def require_above(scene: Scene, camera: AnyCamera) -> None:
    """Raise InputError for a camera that is under water."""
    x, y, z = (float(v) for v in camera.position)
    if scene.water is None:
        return
    at = torch.tensor([[x], [y]], dtype=torch.float64, device=scene.terrain.heights.device)
    level = float(scene._water.height_at(*at))  # type: ignore[attr-defined]
    ground = float(scene.height_at(*at))
    if z <= level and z > ground - 1:
        raise InputError(
            f"the camera at {scene.name(x, y)} is {level - z:.2f} m under water, which is {level - ground:.2f} m deep there; "
            f"give an eye more than {level - ground:.2f} m above the ground, or another place"
        )


@dataclass(frozen=True)
class Staff:
    """A measuring staff with decimetre marks, red and white, black every metre.

    Args:
        x, y: local metres.
        height: metres.
        width: of its sides, metres.

    Raises:
        InputError: a size that is not above 0.
    """

    x: float | int
    y: float | int
    height: float | int = 3.0
    width: float | int = 0.16

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if not 0 < require_number(getattr(self, name), f"{name} of the staff") < 1000:
                raise InputError(f"{name} of the staff is {getattr(self, name):g}; give metres above 0")

    def foot(self, scene: Scene) -> float:
        """Local z of the ground that it stands on."""
        at = torch.tensor([[float(self.x)], [float(self.y)]], dtype=torch.float64, device=scene.terrain.heights.device)
        z = float(scene.height_at(*at))
        if not math.isfinite(z):
            raise InputError(
                f"the ground at {scene.name(float(self.x), float(self.y))} is not known; put the staff elsewhere"
            )
        return z

    def into(self, scene: Scene) -> Scene:
        """The scene with the staff in it."""
        foot, marks = self.foot(scene), math.ceil(float(self.height) / 0.1 - 1e-9)
        low = torch.arange(marks, dtype=torch.float64) * 0.1
        high = (low + 0.1).clamp(max=float(self.height))
        half = float(self.width) / 2
        centre = torch.stack(
            [torch.full_like(low, float(self.x)), torch.full_like(low, float(self.y)), foot + (low + high) / 2], 1
        )
        size = torch.stack([torch.full_like(low, half), torch.full_like(low, half), (high - low) / 2], 1)
        odd = (torch.arange(marks) % 2 == 1)[:, None]
        colour = torch.where(odd, torch.tensor([0.93, 0.93, 0.9]), torch.tensor([0.78, 0.08, 0.06]))
        colour[9::10] = 0.06  # the last decimetre of each metre
        like = scene.objects.centre
        made = Objects.boxes(centre.to(like), size.to(like), colour=colour.to(like), label=PARTS.index("plastic"))
        return replace(scene, objects=scene.objects + made)

    def mark(self, scene: Scene, up: float | int) -> Float[Tensor, " 3"]:
        """Local point of the staff's axis so many metres above its foot, float64."""
        return torch.tensor([float(self.x), float(self.y), self.foot(scene) + float(up)], dtype=torch.float64)
