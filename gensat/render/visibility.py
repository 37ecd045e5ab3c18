"""What a point sees of the sun and of the sky.

The sun by rays through the scene, exactly; the sky by horizon angles on a height grid, which costs one look-up a point.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from gensat.errors import InputError
from gensat.render.grid import Grid
from gensat.render.rays import Rays
from gensat.render.sky import SUN_RADIUS

LIFT = 0.01
"""Metres by which a shadow ray starts above its surface."""


def disc_samples(
    direction: tuple[float, float, float], samples: int, radius: float = SUN_RADIUS
) -> Float[Tensor, "{samples} 3"]:
    """Unit vectors spread evenly over a disc of angular ``radius`` around ``direction`` (a sunflower spiral); one sample is its centre."""
    if samples < 1:
        raise InputError(f"{samples} samples of the sun cannot be taken; give 1 or more")
    forward = functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    helper = torch.tensor([0.0, 0.0, 1.0] if abs(forward[2]) < 0.9 else [1.0, 0.0, 0.0], dtype=torch.float64)
    right = functional.normalize(torch.linalg.cross(forward, helper), dim=0)
    under = torch.linalg.cross(forward, right)
    index = torch.arange(samples, dtype=torch.float64)
    away = math.tan(radius) * ((index + 0.5) / samples).sqrt() if samples > 1 else torch.zeros(1, dtype=torch.float64)
    turn = index * math.pi * (3 - math.sqrt(5))
    spread = forward + (away * turn.cos())[:, None] * right + (away * turn.sin())[:, None] * under
    return functional.normalize(spread, dim=-1).float()


def sun_visibility(
    scene: Any,
    points: Float[Tensor, "*shape 3"],
    normals: Float[Tensor, "*shape 3"],
    direction: tuple[float, float, float],
    *,
    samples: int = 1,
    radius: float = SUN_RADIUS,
    wanted: Bool[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """Share of the sun's disc that each point sees, 0 to 1: rays through ``scene.occluded``.

    Args:
        scene: anything with ``occluded(rays, far) -> bool``.
        points: on surfaces, scene frame, metres.
        normals: unit; a point that faces away from the sun is in its own shadow and costs no ray.
        direction: unit vector to the sun.
        samples: of the disc: 1 gives hard edges, 16 a smooth penumbra.
        radius: angular, radians; a veiled sun is wider.
        wanted: where to look; 0 elsewhere.
    """
    facing = (normals * normals.new_tensor(direction)).sum(-1) > 0
    if wanted is not None:
        facing = facing & wanted
    seen = torch.zeros_like(points[..., 0])
    if direction[2] <= -radius or not facing.any():
        return seen
    starts = points[facing] + LIFT * normals[facing]
    total = torch.zeros_like(starts[..., 0])
    for ray in disc_samples(direction, samples, radius).to(points):
        blocked = scene.occluded(Rays(starts, ray.expand_as(starts)), math.inf)
        total = total + (~blocked).to(total)
    seen[facing] = total / samples
    return seen


def sky_view_factor(
    heights: Float[Tensor, "h w"],
    gsd: float | int,
    *,
    above: Float[Tensor, "h w"] | None = None,
    directions: int = 16,
    reach: float | int = 120.0,
) -> Float[Tensor, "h w"]:
    """Share of a uniform sky's light that falls on horizontal ground, from the horizon angle in each direction.

    The mean of cos^2 of the horizon angle (Oke 1987, appendix A2): 1 in the open, cos(atan(2 H / W)) in the middle of a long street of
    width W between walls of height H. Steps along a direction grow with distance, so far edges are a few percent less sharp.

    Args:
        heights: top surface, metres, row 0 north.
        gsd: metres per pixel.
        above: height of the points that look, if not on the surface itself.
        directions: around the compass.
        reach: how far they look, metres.
    """
    height, width = heights.shape
    eyes = heights if above is None else above
    distances, step = [], float(gsd)
    while step <= reach:
        distances.append(step)
        step = max(step + gsd, step * 1.1)
    rows = torch.arange(height, device=heights.device)[:, None]
    columns = torch.arange(width, device=heights.device)[None]
    total = torch.zeros_like(heights)
    for turn in range(directions):
        azimuth = 2 * math.pi * (turn + 0.5) / directions
        slope = torch.zeros_like(heights)
        for distance in distances:
            over = round(distance * math.sin(azimuth) / gsd)
            up = round(distance * math.cos(azimuth) / gsd)
            if over == up == 0:
                continue
            r, c = rows - up, columns + over
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            seen = heights[r.clamp(0, height - 1), c.clamp(0, width - 1)]
            slope = torch.maximum(slope, torch.where(inside, (seen - eyes) / (gsd * math.hypot(over, up)), 0.0))
        total = total + 1 / (1 + slope**2)
    return total / directions


class SkyView:
    """Share of the sky's light at any point over a grid, by a stack of :func:`sky_view_factor` at several heights above the ground.

    Args:
        heights: top surface (terrain, roofs) on ``grid``, metres.
        ground: terrain without what stands on it.
        grid: where the cells lie in the scene frame.
        levels: metres above the ground, ascending from 0, two or more.
    """

    def __init__(
        self,
        heights: Float[Tensor, "h w"],
        ground: Float[Tensor, "h w"],
        grid: Grid,
        levels: tuple[float, ...] = (0.0, 4.0, 10.0, 20.0, 40.0),
    ) -> None:
        self.ground, self.grid, self.levels = ground, grid, levels
        self.volume = torch.stack(
            [
                sky_view_factor(heights, grid.step, above=ground + level + 0.1, directions=12, reach=60)
                for level in levels
            ]
        )

    def at(
        self, points: Float[Tensor, "*shape 3"], normals: Float[Tensor, "*shape 3"], offset: float | int = 1.0
    ) -> Float[Tensor, "*shape"]:
        """Share of the sky's light at points, looked up ``offset`` metres off the surface so that a wall does not hide itself."""
        where = points + offset * normals
        rows, columns = self.grid.pixels(where[..., 0], where[..., 1])
        u, v = columns / self.grid.columns * 2 - 1, rows / self.grid.rows * 2 - 1
        flat = torch.stack([u, v], dim=-1).reshape(1, 1, -1, 2)
        base = functional.grid_sample(
            self.ground[None, None].to(flat), flat, mode="bilinear", padding_mode="border", align_corners=False
        )
        above = (points[..., 2] - base.reshape(u.shape)).clamp(self.levels[0], self.levels[-1]).contiguous()
        edges = above.new_tensor(self.levels)
        upper = torch.bucketize(above, edges[1:-1]) + 1
        share = (above - edges[upper - 1]) / (edges[upper] - edges[upper - 1])
        layer = (upper - 0.5 + share) / len(self.levels) * 2 - 1  # centres of layers, as torch counts them
        grid = torch.stack([u, v, layer], dim=-1).reshape(1, 1, 1, -1, 3)
        stack = self.volume[None, None].to(grid)
        return functional.grid_sample(stack, grid, mode="bilinear", padding_mode="border", align_corners=False).reshape(
            u.shape
        )
