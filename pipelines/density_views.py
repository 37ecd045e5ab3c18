"""Views of the published ground-view models: with their buffers, and perspective ones cut out of panoramas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..render.cameras import Camera, Panorama
from ..render.equirect import sample_equirect
from ..render.rays import MESH
from ..render.view import View
from ..render.volume import SKY
from .density_models import Around
from .density_tile import DensityTile


def cut(seen: Around, panorama: Panorama, camera: Camera) -> Around:
    """What a perspective camera at a panorama's place sees of it: colours between pixels, distances of the nearest one.

    Raises:
        InputError: the view reaches above or below the panorama.
    """
    directions = camera.rays(seen.rgb.device, torch.float64).directions
    up = torch.rad2deg(torch.asin(directions[..., 2].clamp(-1, 1)))
    low, high = panorama.elevation_min, panorama.elevation_max
    if float(up.min()) < low or float(up.max()) > high:
        raise InputError(
            f"the model's panoramas reach from {low:g} to {high:g} degrees up, the view from {float(up.min()):.0f} to "
            f"{float(up.max()):.0f}; choose a smaller field of view or pitch"
        )
    span: dict[str, Any] = {"heading": panorama.azimuth, "elevation_max": high, "elevation_min": low}
    colours = torch.cat([seen.rgb, seen.gathered, seen.opacity[..., None]], dim=-1)
    rgb, gathered, opacity = sample_equirect(colours, directions.to(colours), **span).split((3, 3, 1), dim=-1)
    # an infinite distance next to a finite one would make it not a number even with weight 0
    near = torch.nan_to_num(seen.distance, posinf=torch.finfo(seen.distance.dtype).max / 4)[..., None]
    distance = sample_equirect(near, directions.to(near), mode="nearest", **span)[..., 0]
    distance = torch.where(distance > 1e9, torch.inf, distance)
    return Around(rgb, opacity[..., 0], distance, gathered)


def as_view(seen: Around, camera: Camera | Panorama, tile: DensityTile, about: Mapping[str, Any]) -> View:
    """The picture with what is known of its pixels; there are no classes in a density."""
    sky = seen.opacity < SKY
    distance = torch.where(sky, torch.inf, seen.distance).float().cpu()
    sky, shape = sky.cpu(), distance.shape
    none = torch.zeros(shape, dtype=torch.int64)
    rays = camera.rays()
    return View(
        rgb=seen.rgb.float().cpu(),
        distance=distance,
        depth=distance * camera.forward(rays),
        normals=_normals(distance, rays.directions, isinstance(camera, Panorama)),
        opacity=seen.opacity.float().clamp(0, 1).cpu(),
        sky=sky,
        classes=none,
        kind=torch.where(sky, 0, MESH),
        index=none - 1,
        seen=torch.zeros(shape, dtype=torch.bool),
        camera=camera,
        frame=tile.frame,
        provenance=about,
    )


def _normals(distance: Float[Tensor, "h w"], along: Float[Tensor, "h w 3"], around: bool) -> Float[Tensor, "h w 3"]:
    """Normals of the surface through neighbouring pixels, towards the camera; 0 where there is sky beside them."""
    points = along * distance[..., None]
    across = points.roll(-1, 1) - points.roll(1, 1)
    if not around:
        across[:, [0, -1]] = 0
    down = torch.zeros_like(points)
    down[1:-1] = points[2:] - points[:-2]
    normal = torch.nn.functional.normalize(torch.linalg.cross(across, down), dim=-1)
    normal = torch.where((normal * along).sum(-1, keepdim=True) > 0, -normal, normal)
    return torch.nan_to_num(normal, nan=0.0, posinf=0.0, neginf=0.0)
