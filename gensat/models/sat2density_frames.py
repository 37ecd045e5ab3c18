"""The frames of Sat2Density, turned into ours: metres, x east, y north, z up over the ground at the tile's centre.

The published frame has x right, y up, z out of the picture to the south and half a tile as its unit; the camera stands
``eye_metres`` above the ground, and the volume is ``volume_metres`` high. Panorama rays belong to pixel corners there
(column j at j / width of the circle, row i at i / height), and column 0 looks south: the middle column looks north.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.models.sat2density import GROUND, Sat2Density
from gensat.render.cameras import Panorama
from gensat.render.density import DensityVolume
from gensat.render.rays import Rays
from gensat.render.volume import Integral


def tile_volume(
    model: Sat2Density, density: Float[Tensor, "levels h w"], tile: Float[Tensor, "3 h w"] | None, ground: bool = True
) -> DensityVolume:
    """The density network's volume over its tile, in metres and per metre, the opaque level of the ground below it."""
    half, config = model.config.tile_metres / 2, model.config
    if ground:
        density = torch.cat([torch.full_like(density[:1], GROUND), density])
    return DensityVolume(density / half, (-half, -half, 0.0, half, half, config.volume_metres), tile)


def panorama_camera(model: Sat2Density, east: float = 0.0, north: float = 0.0, azimuth: float = 0.0) -> Panorama:
    """The panorama that the model was trained on, ``east`` and ``north`` metres from the tile's centre.

    Its middle column looks along ``azimuth``, degrees clockwise from the tile's y axis (0 as published).
    """
    (width, height), config = model.config.pano_size, model.config
    eye = np.array([east, north, config.eye_metres])
    return Panorama(width, height, eye, azimuth, config.elevation, -config.elevation)


def ray_length(model: Sat2Density) -> float:
    """Metres along a panorama's ray: to the far corner, in whole pixels of the tile as published."""
    config = model.config
    half = config.tile_metres / 2
    rise = max(config.eye_metres, config.volume_metres - config.eye_metres)
    pixels = int(math.sqrt(2 * half**2 + rise**2) / (config.tile_metres / config.tile_size))
    return pixels * config.tile_metres / config.tile_size


def look_around(model: Sat2Density, volume: DensityVolume, camera: Panorama, *, corners: bool = False) -> Integral:
    """Gather along the rays of a panorama in metres of the tile.

    Args:
        model: says how far rays go and how many samples they have.
        volume: of the tile.
        camera: the panorama; the published size and elevations are those of ``model.config``.
        corners: rays through the upper left corners of the pixels, as published, instead of their centres.
    """
    rays = corner_rays(camera, volume.density.device) if corners else camera.rays(volume.density.device, torch.float64)
    return volume.gather(rays.origins, rays.directions, ray_length(model), model.config.samples)


def corner_rays(camera: Panorama, device: torch.device | None = None) -> Rays:
    """Rays through the upper left corners of a panorama's pixels, float64: where the published programs look."""
    rows, columns = (torch.arange(n, dtype=torch.float64, device=device) for n in (camera.height, camera.width))
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    return camera.rays_at(u, v, dtype=torch.float64)


def look_down(model: Sat2Density, volume: DensityVolume) -> Integral:
    """Gather straight down through every cell, from as high over the ground as the tile is wide."""
    _, rows, cols = volume.density.shape
    side = model.config.tile_metres
    x = ((torch.arange(cols) + 0.5) / cols - 0.5) * side
    y = (0.5 - (torch.arange(rows) + 0.5) / rows) * side
    start = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, cols), torch.full((rows, cols), side)], dim=-1)
    start = start.to(volume.density)
    down = start.new_tensor([0.0, 0.0, -1.0]).expand(start.shape)
    return volume.gather(start, down, side, model.config.samples)
