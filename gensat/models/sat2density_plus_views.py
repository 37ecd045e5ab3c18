"""What Sat2Density++ sees: rays of its panorama and of its view from above, two passes of samples along them, the sky behind.

In the published frame: x east, y south, z up in half tiles, the tile spanning -1 to 1 and the ground at z = -1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.models.field_rays import Seen, gather, to_cube
from gensat.models.sat2density_frames import corner_rays
from gensat.models.sat2density_plus import Sat2DensityPlus
from gensat.render.cameras import Panorama
from gensat.render.volume import Integral

_APART = 7.0  # added to features before they are blended with the sky's, as published


def panorama_rays(model: Sat2DensityPlus, azimuth: float = 0.0, *, corners: bool = False) -> Float[Tensor, "h w 3"]:
    """Unit vectors of the panorama's rays; the middle column looks along ``azimuth``, degrees clockwise from north.

    Through the centres of the pixels, or through their upper left ``corners`` as published.
    """
    (width, height), top = model.config.render_size, model.config.elevation
    camera = Panorama(width, height, np.zeros(3), azimuth, top, -top)
    rays = corner_rays(camera) if corners else camera.rays(dtype=torch.float64)
    return (rays.directions * rays.directions.new_tensor([1.0, -1.0, 1.0])).float()


def look(
    model: Sat2DensityPlus,
    planes: Float[Tensor, "3 f h w"],
    start: Float[Tensor, "*#rays 3"],
    along: Float[Tensor, "*rays 3"],
    reach: Float[Tensor, "*rays"],
    light: Float[Tensor, " s"] | None = None,
) -> Integral:
    """Features in about [-1, 1], opacity and distance along rays; see :func:`gensat.models.field_rays.gather`."""
    # channels last halves the time of looking up planes on a CPU
    planes = planes.contiguous(memory_format=torch.channels_last)
    found = gather(model, planes, start, along, reach, light)
    assert found.values is not None
    return replace(found, values=found.values * 2 - 1)


def blend(
    features: Float[Tensor, "c h w"], opacity: Float[Tensor, "h w"], sky: Float[Tensor, "c h w"]
) -> Float[Tensor, "c h w"]:
    """What stands there before the sky: features are weighted once more by the opacity, as published."""
    return (features + _APART) * opacity + (sky + _APART) * (1 - opacity) - _APART


def opaque_ground(opacity: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The opacity that the published program uses for pictures: 1 in the lower half, 0 where it is below 0.1."""
    lower = torch.arange(len(opacity), device=opacity.device)[:, None] >= len(opacity) // 2
    whole = torch.where(lower, torch.ones_like(opacity), opacity)
    return torch.where(whole < 0.1, torch.zeros_like(whole), whole)


def panorama(
    model: Sat2DensityPlus,
    planes: Float[Tensor, "3 f h w"],
    eye: Float[Tensor, " xyz"],
    light: Float[Tensor, " s"],
    style: Float[Tensor, " s"],
    *,
    sky: Float[Tensor, "c rows cols"] | None = None,
    azimuth: float = 0.0,
    ground: bool = True,
    corners: bool = False,
) -> Seen:
    """A panorama from ``eye``.

    Args:
        model: the networks.
        planes: of the tile.
        eye: (x, y, z) inside the cube.
        light: of the sky and of what it lights.
        style: w of the tile's latent, which styles the super-resolution.
        sky: its features, where they were made before.
        azimuth: degrees clockwise from north that the middle column looks at; the sky turns along.
        ground: whether the lower half is made opaque (``opaque_ground``).
        corners: rays as published, half a pixel to the upper left.
    """
    eye = eye.to(planes)
    along = panorama_rays(model, azimuth, corners=corners).to(planes)
    found = look(model, planes, eye, along, to_cube(eye, along), light)
    assert found.values is not None
    features = found.values.movedim(-1, 0)
    if sky is None:
        sky = model.sky(light[None])[0]
    opacity = opaque_ground(found.opacity) if ground else found.opacity
    blended = blend(features, opacity, turned(sky, azimuth))
    picture = model.post_cnn(blended[None], style[None])[0]
    return Seen(picture, features, found.opacity, found.distance, blended)


def turned(sky: Float[Tensor, "c h w"], azimuth: float) -> Float[Tensor, "c h w"]:
    """A sky all around, looked at along ``azimuth`` instead of north: columns shifted, between two of them linearly."""
    shift = azimuth / 360 * sky.shape[-1]
    whole = math.floor(shift)
    part = shift - whole
    near = sky.roll(-whole, dims=-1)
    return near if part == 0 else near * (1 - part) + sky.roll(-whole - 1, dims=-1) * part


def from_above(
    model: Sat2DensityPlus, planes: Float[Tensor, "3 f h w"], size: int = 256, light: Float[Tensor, " s"] | None = None
) -> Integral:
    """The tile seen straight from above, ``size`` x ``size``: values are features in about [-1, 1], distances count from z = 1."""
    at = (torch.arange(size, device=planes.device, dtype=planes.dtype) + 0.5) / (size / 2) - 1
    start = torch.stack(
        [at.expand(size, -1), at[:, None].expand(-1, size), torch.ones_like(planes[0, 0, :1, :1]).expand(size, size)],
        -1,
    )
    down = planes.new_tensor([0.0, 0.0, -1.0]).expand(size, size, 3)
    return look(model, planes, start, down, planes.new_full((size, size), 2.0), light)
