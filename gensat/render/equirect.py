"""Equirectangular panoramas as pictures: to directions and back, to perspective and back, turned.

Convention of the project: the centre column looks along the heading, azimuth grows to the right, the top row is ``elevation_max`` and the
bottom row ``elevation_min``; pixel (r, c) covers [r, r + 1) x [c, c + 1). Directions are unit vectors, x east, y north, z up.
Turns are of a camera: heading clockwise from y, pitch up, roll clockwise as seen by the camera, all in degrees.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from gensat.errors import InputError


def camera_axes(heading: float | int, pitch: float | int = 0.0, roll: float | int = 0.0) -> Float[Tensor, "3 3"]:
    """Rows: right, down and forward of a camera in the frame x east, y north, z up (an OpenCV world-to-camera rotation), float64."""
    h, p, r = (math.radians(value) for value in (heading, pitch, roll))
    forward = torch.tensor([math.sin(h) * math.cos(p), math.cos(h) * math.cos(p), math.sin(p)], dtype=torch.float64)
    level = torch.tensor([math.cos(h), -math.sin(h), 0.0], dtype=torch.float64)
    under = torch.linalg.cross(forward, level)
    right = math.cos(r) * level + math.sin(r) * under
    return torch.stack([right, torch.linalg.cross(forward, right), forward])


def equirect_directions(
    height: int,
    width: int,
    *,
    heading: float | int = 0.0,
    elevation_max: float | int = 90.0,
    elevation_min: float | int = -90.0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "{height} {width} 3"]:
    """Unit direction of every pixel centre of a panorama.

    Raises:
        InputError: an empty size, or elevations that are not -90 <= elevation_min < elevation_max <= 90.
    """
    _check(height, width, elevation_max, elevation_min)
    rows = torch.arange(height, dtype=torch.float64) + 0.5
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    elevation = torch.deg2rad(elevation_max - rows / height * (elevation_max - elevation_min))[:, None]
    azimuth = torch.deg2rad(heading + (columns / width - 0.5) * 360)[None]
    across = elevation.cos()
    parts = across * azimuth.sin(), across * azimuth.cos(), elevation.sin().expand(height, width)
    return torch.stack(parts, dim=-1).to(dtype)


def equirect_pixels(
    directions: Float[Tensor, "*shape 3"],
    height: int,
    width: int,
    *,
    heading: float | int = 0.0,
    elevation_max: float | int = 90.0,
    elevation_min: float | int = -90.0,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """(columns, rows) of directions, in pixels from the corner: columns in [0, width), rows outside [0, height] above or below the panorama."""
    _check(height, width, elevation_max, elevation_min)
    x, y, z = directions.unbind(-1)
    azimuth = torch.rad2deg(torch.atan2(x, y)) - heading
    elevation = torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    columns = torch.remainder(azimuth / 360 + 0.5, 1.0) * width
    return columns, (elevation_max - elevation) / (elevation_max - elevation_min) * height


def sample_equirect(
    panorama: Float[Tensor, "h w c"],
    directions: Float[Tensor, "*shape 3"],
    *,
    heading: float | int = 0.0,
    elevation_max: float | int = 90.0,
    elevation_min: float | int = -90.0,
    mode: str = "bilinear",
) -> Float[Tensor, "*shape c"]:
    """Values of a panorama in given directions: across its left and right edge, and over the poles where it reaches them.

    Differentiable with respect to the panorama (and, with bilinear sampling, to the directions). Beyond the elevations of a partial panorama
    the nearest row is returned.

    Args:
        panorama: any channels; the dtype of the result.
        directions: unit vectors, on the panorama's device.
        heading: of the panorama.
        elevation_max: of its top row's upper edge.
        elevation_min: of its bottom row's lower edge.
        mode: ``bilinear``, ``bicubic`` or ``nearest``, as in torch.
    """
    height, width = panorama.shape[:2]
    columns, rows = equirect_pixels(
        directions, height, width, heading=heading, elevation_max=elevation_max, elevation_min=elevation_min
    )
    pad = 2
    opposite = panorama.roll(width // 2, dims=1)  # what lies beyond a pole is the other side of it
    top = opposite[:pad].flip(0) if elevation_max == 90 and width % 2 == 0 else panorama[:1].expand(pad, -1, -1)
    bottom = opposite[-pad:].flip(0) if elevation_min == -90 and width % 2 == 0 else panorama[-1:].expand(pad, -1, -1)
    tall = torch.cat([top, panorama, bottom])
    padded = torch.cat([tall[:, -pad:], tall, tall[:, :pad]], dim=1)
    grid = torch.stack(
        [(columns + pad) / (width + 2 * pad) * 2 - 1, (rows + pad) / (height + 2 * pad) * 2 - 1], dim=-1
    ).to(padded.dtype)
    values = functional.grid_sample(
        padded.permute(2, 0, 1)[None], grid.reshape(1, 1, -1, 2), mode=mode, padding_mode="border", align_corners=False
    )
    return values[0, :, 0].T.reshape(*directions.shape[:-1], panorama.shape[2])


def perspective_directions(
    height: int,
    width: int,
    *,
    fov: float | int,
    heading: float | int = 0.0,
    pitch: float | int = 0.0,
    roll: float | int = 0.0,
) -> Float[Tensor, "{height} {width} 3"]:
    """Unit direction of every pixel centre of a perspective picture with square pixels.

    Args:
        height: rows.
        width: columns.
        fov: horizontal field of view in degrees, between 0 and 180.
        heading: of the optical axis.
        pitch: up.
        roll: clockwise.

    Raises:
        InputError: an empty size or a field of view outside 0 to 180.
    """
    if height < 1 or width < 1 or not 0 < fov < 180:
        raise InputError(
            f"a view of {width} x {height} pixels and {fov:g} degrees cannot be made; give sizes of 1 or more, a field of view between 0 and 180"
        )
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - width / 2) / focal
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - height / 2) / focal
    rays = torch.stack(torch.broadcast_tensors(x[None], y[:, None], torch.ones(1, 1, dtype=torch.float64)), dim=-1)
    return functional.normalize(rays @ camera_axes(heading, pitch, roll), dim=-1).float()


def to_perspective(
    panorama: Float[Tensor, "h w c"],
    *,
    fov: float | int,
    width: int,
    height: int,
    heading: float | int = 0.0,
    pitch: float | int = 0.0,
    roll: float | int = 0.0,
    panorama_heading: float | int = 0.0,
    mode: str = "bilinear",
) -> Float[Tensor, "{height} {width} c"]:
    """The perspective picture that a camera at the panorama's place would take; see :func:`perspective_directions`."""
    directions = perspective_directions(height, width, fov=fov, heading=heading, pitch=pitch, roll=roll)
    return sample_equirect(panorama, directions.to(panorama), heading=panorama_heading, mode=mode)


def from_perspective(
    picture: Float[Tensor, "h w c"],
    *,
    fov: float | int,
    height: int,
    width: int,
    heading: float | int = 0.0,
    pitch: float | int = 0.0,
    roll: float | int = 0.0,
    panorama_heading: float | int = 0.0,
    mode: str = "bilinear",
) -> tuple[Float[Tensor, "{height} {width} c"], Bool[Tensor, "{height} {width}"]]:
    """A panorama that shows the picture where it was taken, 0 elsewhere, and which pixels it covers; inverse of :func:`to_perspective`."""
    rows, columns = picture.shape[:2]
    focal = columns / 2 / math.tan(math.radians(fov) / 2)
    directions = equirect_directions(height, width, heading=panorama_heading, dtype=torch.float64)
    right, down, forward = (directions @ camera_axes(heading, pitch, roll).T).unbind(-1)
    u = right / forward * focal * 2 / columns
    v = down / forward * focal * 2 / rows
    covered = (forward > 0) & (u.abs() <= 1) & (v.abs() <= 1)
    grid = torch.stack([u, v], dim=-1).where(covered[..., None], 2.0).to(picture)
    values = functional.grid_sample(
        picture.permute(2, 0, 1)[None], grid[None], mode=mode, padding_mode="border", align_corners=False
    )[0].permute(1, 2, 0)
    covered = covered.to(picture.device)
    return values.where(covered[..., None], 0.0), covered


def rotate_equirect(
    panorama: Float[Tensor, "h w c"],
    *,
    heading: float | int = 0.0,
    pitch: float | int = 0.0,
    roll: float | int = 0.0,
    mode: str = "bilinear",
) -> Float[Tensor, "h w c"]:
    """The same surroundings as a camera turned by heading, pitch and roll sees them.

    A turn by heading alone that is a whole number of columns moves columns and changes no value.
    """
    height, width = panorama.shape[:2]
    columns = heading * width / 360
    if pitch == roll == 0 and abs(columns - round(columns)) < 1e-9:
        return panorama.roll(-round(columns), dims=1)
    turned = equirect_directions(height, width, dtype=torch.float64)
    right, down, forward = camera_axes(heading, pitch, roll)
    world = turned[..., :1] * right + turned[..., 1:2] * forward - turned[..., 2:] * down
    return sample_equirect(panorama, world.to(panorama), mode=mode)


def solid_angles(
    height: int, width: int, *, elevation_max: float | int = 90.0, elevation_min: float | int = -90.0
) -> Float[Tensor, " h"]:
    """Steradians that a pixel of each row covers; times width they add to 4 pi for a whole panorama."""
    _check(height, width, elevation_max, elevation_min)
    edges = torch.deg2rad(torch.linspace(elevation_max, elevation_min, height + 1, dtype=torch.float64)).sin()
    return ((edges[:-1] - edges[1:]) * (2 * math.pi / width)).float()


def _check(height: int, width: int, elevation_max: float | int, elevation_min: float | int) -> None:
    if height < 1 or width < 1:
        raise InputError(f"a panorama of {width} x {height} pixels is empty; give sizes of 1 or more")
    if not -90 <= elevation_min < elevation_max <= 90:
        raise InputError(
            f"a panorama from {elevation_min:g} to {elevation_max:g} degrees cannot be; give -90 <= elevation_min < elevation_max <= 90"
        )
