"""The frames of Sat2Density, turned into ours: metres, x east, y north, z up over the ground at the tile's centre.

The published frame has x right, y up, z out of the picture to the south and half a tile as its unit; the camera stands
``eye_metres`` above the ground, and the volume is ``volume_metres`` high. Panorama rays belong to pixel corners there
(column j at j / width of the circle, row i at i / height), and column 0 looks south: the middle column looks north.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.models.sat2density import GROUND, Sat2Density
from gensat.render.density import DensityVolume
from gensat.render.volume import Integral


def tile_volume(
    model: Sat2Density, density: Float[Tensor, "levels h w"], tile: Float[Tensor, "3 h w"] | None, ground: bool = True
) -> DensityVolume:
    """The density network's volume over its tile, in metres and per metre, the opaque level of the ground below it."""
    half, config = model.config.tile_metres / 2, model.config
    if ground:
        density = torch.cat([torch.full_like(density[:1], GROUND), density])
    return DensityVolume(density / half, (-half, -half, 0.0, half, half, config.volume_metres), tile)


def panorama_directions(width: int, height: int, elevation: float) -> Float[Tensor, "{height} {width} 3"]:
    """Unit vectors (east, north, up) of the published panorama, float64.

    Args:
        width: columns; the middle one looks north, to its right is east.
        height: rows; the top one looks up by
        elevation: degrees.
    """
    up = (1 - 2 * torch.arange(height, dtype=torch.float64) / height) * math.radians(elevation)
    azimuth = (2 * torch.arange(width, dtype=torch.float64) / width - 1) * math.pi  # clockwise from north
    flat, rise = up.cos()[:, None], up.sin()[:, None].expand(-1, width)
    return torch.stack([flat * azimuth.sin(), flat * azimuth.cos(), rise], dim=-1)


def ray_length(model: Sat2Density) -> float:
    """Metres along a panorama's ray: to the far corner, in whole pixels of the tile as published."""
    config = model.config
    half = config.tile_metres / 2
    rise = max(config.eye_metres, config.volume_metres - config.eye_metres)
    pixels = int(math.sqrt(2 * half**2 + rise**2) / (config.tile_metres / config.tile_size))
    return pixels * config.tile_metres / config.tile_size


def look_around(model: Sat2Density, volume: DensityVolume, east: float, north: float, heading: float = 0.0) -> Integral:
    """Gather along the rays of a panorama.

    Args:
        model: says how the panorama is taken.
        volume: of the tile.
        east: metres of the camera from the tile's centre.
        north: likewise.
        heading: degrees clockwise from the grid's north that the middle column looks at.
    """
    width, height = model.config.pano_size
    along = panorama_directions(width, height, model.config.elevation)
    turn = math.radians(heading)
    x, y, z = along.unbind(-1)
    along = torch.stack(
        [x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn), z], dim=-1
    ).to(volume.density)
    eye = along.new_tensor([east, north, model.config.eye_metres])
    return volume.gather(eye, along, ray_length(model), model.config.samples)


def look_down(model: Sat2Density, volume: DensityVolume) -> Integral:
    """Gather straight down through every cell, from half a tile above the middle of the cube that the tile is the floor of."""
    _, rows, cols = volume.density.shape
    side = model.config.tile_metres
    x = ((torch.arange(cols) + 0.5) / cols - 0.5) * side
    y = (0.5 - (torch.arange(rows) + 0.5) / rows) * side
    start = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, cols), torch.full((rows, cols), side)], dim=-1)
    start = start.to(volume.density)
    down = start.new_tensor([0.0, 0.0, -1.0]).expand(start.shape)
    return volume.gather(start, down, side, model.config.samples)
