"""Rays through a field of densities and features that networks read off planes: what Sat2Density++ and Sat3DGen share.

In the published frame: x east, y south, z up, the planes spanning the cube from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gensat.render.density import NEGLIGIBLE
from gensat.render.volume import Integral, integrate, resample, softplus_density

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mipnerf": softplus_density,
    "softplus": F.softplus,
    "relu": F.relu,
}
"""Raw densities to densities, by their published names."""
_RAYS = 1024  # looked up together
_LEVEL = 1e-9  # part of a direction below which a ray never leaves through that side


@runtime_checkable
class PlaneField(Protocol):
    """A network with a field; its ``config`` holds ``coarse``, ``fine`` and ``activation``."""

    config: Any

    def features(self, planes: Any, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """What the planes hold at points."""

    def density(self, feature: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        """Raw densities."""

    def colour(self, feature: Float[Tensor, "n f"], light: Float[Tensor, " s"] | None = None) -> Float[Tensor, "n c"]:
        """Colours in about [0, 1] in a light."""


class FieldNet(nn.Module):
    """The layers that both fields begin with: features of planes to a hidden layer, and that to a density and to features of colour."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.net0 = nn.Linear(inputs, hidden)
        self.net1_feature = nn.Linear(hidden, hidden // 2)
        self.net1_density = nn.Linear(hidden, 1)


@dataclass(frozen=True)
class Seen:
    """What the networks of a model make of one view.

    Args:
        picture: (3, 2h, 2w) in about [-1, 1] (Sat2Density++) or in [0, 1] (Sat3DGen).
        features: (c, h, w) of what stands there, in the same range.
        opacity: (h, w).
        depth: (h, w) in half tiles, not divided by the opacity.
        blended: (c, h, w) features with the sky behind; the first three channels are a picture of half the size.
    """

    picture: Float[Tensor, "3 h2 w2"]
    features: Float[Tensor, "c h w"]
    opacity: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    blended: Float[Tensor, "c h w"]


def to_cube(start: Float[Tensor, "*#rays 3"], along: Float[Tensor, "*rays 3"]) -> Float[Tensor, "*rays"]:
    """Distance at which rays that start inside leave the cube from -1 to 1."""
    far = torch.where(along.abs() < _LEVEL, torch.inf, (along.sign() - start) / along)
    return far.amin(-1)


def gather(
    model: PlaneField,
    planes: Any,
    start: Float[Tensor, "*#rays 3"],
    along: Float[Tensor, "*rays 3"],
    reach: Float[Tensor, "*rays"],
    light: Float[Tensor, " s"] | None = None,
) -> Integral:
    """Colours, opacity and distance along rays: evenly spaced samples, more where they weigh, then all of them.

    Densities are computed at all samples, colours only at those that weigh at least ``NEGLIGIBLE``.

    Args:
        model: the networks.
        planes: of one tile, as the model's ``features`` takes them.
        start: of the rays, inside the cube.
        along: unit vectors.
        reach: distance of the last of the even samples.
        light: what the colours are lit by; None: nothing in particular.
    """
    shape = reach.shape
    flat = (start.expand(*shape, 3).reshape(-1, 3), along.reshape(-1, 3), reach.reshape(-1))
    blocks = zip(*(x.split(_RAYS) for x in flat), strict=True)
    parts = [_gather(model, planes, s, a, r, light) for s, a, r in blocks]
    values, opacity, distance = (torch.cat(part) for part in zip(*parts, strict=True))
    return Integral(opacity.reshape(shape), distance.reshape(shape), None, values.reshape(*shape, -1))


def _gather(
    model: PlaneField, planes: Any, start: Tensor, along: Tensor, reach: Tensor, light: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    config, active = model.config, ACTIVATIONS[model.config.activation]

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
    chosen = feature.flatten(0, 1).index_select(0, ray * feature.shape[1] + order[ray, at])
    colour = model.colour(chosen, light)
    values = colour.new_zeros(len(reach), colour.shape[-1]).index_add(0, ray, colour * share[ray, at, None])
    return values, found.opacity, found.distance
