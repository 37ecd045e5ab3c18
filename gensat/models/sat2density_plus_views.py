"""What Sat2Density++ sees: rays of its panorama and of its view from above, two passes of samples along them, the sky behind.

In the published frame: x east, y south, z up in half tiles, the tile spanning -1 to 1 and the ground at z = -1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gensat.models.sat2density_frames import corner_rays
from gensat.models.sat2density_plus import Sat2DensityPlus
from gensat.render.cameras import Panorama
from gensat.render.density import NEGLIGIBLE
from gensat.render.volume import Integral, integrate, resample, softplus_density

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mipnerf": softplus_density,
    "softplus": F.softplus,
    "relu": F.relu,
}
_RAYS = 1024  # looked up together
_APART = 7.0  # added to features before they are blended with the sky's, as published


@dataclass(frozen=True)
class Seen:
    """What the panorama's networks make of one place.

    Args:
        picture: (3, 2h, 2w) in about [-1, 1].
        features: (c, h, w) of what stands there, in about [-1, 1].
        opacity: (h, w).
        depth: (h, w) in half tiles, not divided by the opacity.
        blended: (c, h, w) features with the sky behind; the first three channels are a picture of half the size.
    """

    picture: Float[Tensor, "3 h2 w2"]
    features: Float[Tensor, "c h w"]
    opacity: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    blended: Float[Tensor, "c h w"]


def panorama_rays(model: Sat2DensityPlus, azimuth: float = 0.0, *, corners: bool = False) -> Float[Tensor, "h w 3"]:
    """Unit vectors of the panorama's rays; the middle column looks along ``azimuth``, degrees clockwise from north.

    Through the centres of the pixels, or through their upper left ``corners`` as published.
    """
    (width, height), top = model.config.render_size, model.config.elevation
    camera = Panorama(width, height, np.zeros(3), azimuth, top, -top)
    rays = corner_rays(camera) if corners else camera.rays(dtype=torch.float64)
    return (rays.directions * rays.directions.new_tensor([1.0, -1.0, 1.0])).float()


def to_cube(start: Float[Tensor, "*#rays 3"], along: Float[Tensor, "*rays 3"]) -> Float[Tensor, "*rays"]:
    """Distance at which rays that start inside leave the cube from -1 to 1."""
    far = torch.where(along.abs() < 1e-9, torch.inf, (along.sign() - start) / along)
    return far.amin(-1)


def look(
    model: Sat2DensityPlus,
    planes: Float[Tensor, "3 f h w"],
    start: Float[Tensor, "*#rays 3"],
    along: Float[Tensor, "*rays 3"],
    reach: Float[Tensor, "*rays"],
    light: Float[Tensor, " s"] | None = None,
) -> Integral:
    """Features, opacity and distance along rays: evenly spaced samples, more where they weigh, then all of them.

    Densities are computed at all samples, colours only at those that weigh at least ``NEGLIGIBLE``.

    Args:
        model: the networks.
        planes: of one tile.
        start: of the rays, inside the cube.
        along: unit vectors.
        reach: distance of the last of the even samples.
        light: what the colours are lit by; None: nothing in particular.
    """
    shape = reach.shape
    planes = planes.contiguous(memory_format=torch.channels_last)
    flat = (start.expand(*shape, 3).reshape(-1, 3), along.reshape(-1, 3), reach.reshape(-1))
    blocks = zip(*(x.split(_RAYS) for x in flat), strict=True)
    parts = [_look(model, planes, s, a, r, light) for s, a, r in blocks]
    values, opacity, distance = (torch.cat(part) for part in zip(*parts, strict=True))
    return Integral(opacity.reshape(shape), distance.reshape(shape), None, values.reshape(*shape, -1))


def _look(
    model: Sat2DensityPlus, planes: Tensor, start: Tensor, along: Tensor, reach: Tensor, light: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    config, active = model.config, _ACTIVATIONS[model.config.activation]

    def sampled(radii: Tensor) -> tuple[Tensor, Tensor]:
        points = start[:, None] + along[:, None] * radii[..., None]
        feature = model.features(planes, points.reshape(-1, 3))
        return feature.unflatten(0, radii.shape), model.density(feature).reshape(radii.shape)

    between = lambda x: (x[:, :-1] + x[:, 1:]) / 2  # noqa: E731
    radii = reach[:, None] * ((torch.arange(config.coarse, device=reach.device) + 1) / config.coarse)
    feature, raw = sampled(radii)
    order = torch.arange(config.coarse, device=reach.device).expand(raw.shape)
    if config.fine:
        # the activation follows the mean of two neighbours, as published
        weights = integrate(active(between(raw)), between(radii), step=radii.diff(dim=-1)).weights
        assert weights is not None
        more = resample(radii, weights, config.fine)
        more_feature, more_raw = sampled(more)
        radii, order = torch.cat([radii, more], dim=-1).sort(dim=-1)
        raw = torch.cat([raw, more_raw], dim=-1).gather(-1, order)
        feature = torch.cat([feature, more_feature], dim=1)
    found = integrate(active(between(raw)), between(radii), step=radii.diff(dim=-1))
    assert found.weights is not None
    # a piece has the mean colour of its ends, so half of its weight goes to each
    share = (F.pad(found.weights, (1, 0)) + F.pad(found.weights, (0, 1))) / 2
    ray, at = (share.detach() > NEGLIGIBLE).nonzero(as_tuple=True)
    colour = model.colour(feature[ray, order[ray, at]], light)
    values = colour.new_zeros(len(reach), colour.shape[-1]).index_add(0, ray, colour * share[ray, at, None])
    return values * 2 - 1, found.opacity, found.distance


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
