"""The emission-absorption integral along rays (Max 1995, Optical models for direct volume rendering, eq. 8 and 10).

A ray through density sigma(t) per metre keeps the share T(t) = exp(-integral of sigma from 0 to t); what it gathers is the
integral of T sigma c dt. Both rules below are exact in the transmittance of a density that is constant in every piece.
Any unit of length will do as long as distances and densities share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError

Rule = Literal["endpoint", "midpoint"]
SKY = 0.5
"""Opacity below which a ray is called sky."""


@dataclass(frozen=True)
class Integral:
    """What rays gather.

    Args:
        opacity: (...) sum of the weights, 0 for a free ray to 1.
        distance: (...) sum of weight times distance, not divided by the opacity: an expected distance only where the
            opacity is 1.
        weights: (..., pieces) share of each piece, T * alpha; None where they were not kept.
        values: (..., c) weighted sum of the values; black where nothing is hit. None where no values were given.
    """

    opacity: Float[Tensor, "*rays"]
    distance: Float[Tensor, "*rays"]
    weights: Float[Tensor, "*rays k"] | None
    values: Float[Tensor, "*rays c"] | None = None

    def mean_distance(self, floor: float = 1e-4) -> Float[Tensor, "*rays"]:
        """Expected distance of what is hit: distance divided by opacity, infinite where the opacity is below ``floor``."""
        hit = self.opacity > floor
        return torch.where(hit, self.distance / torch.where(hit, self.opacity, 1.0), torch.inf)

    def sky(self, threshold: float = SKY) -> Bool[Tensor, "*rays"]:
        """Rays that pass: opacity below ``threshold``."""
        return self.opacity < threshold


def integrate(
    density: Float[Tensor, "*rays k"],
    distance: Float[Tensor, "*#rays k"],
    values: Float[Tensor, "*rays k c"] | None = None,
    *,
    rule: Rule = "endpoint",
    step: float | Float[Tensor, "*rays k"] | None = None,
) -> Integral:
    """Integrate along rays from samples, nearest first.

    Args:
        density: sigma >= 0 at the samples, per unit of length.
        distance: of the samples along the rays, increasing (it broadcasts, so one row may serve all rays).
        values: what is gathered at the samples, such as colours.
        rule: "endpoint": each sample stands for the piece that ends at it (Sat2Density has samples at step, 2 step, ...,
            all pieces of one length); "midpoint": each pair of neighbours makes a piece with the mean of both (EG3D and
            Sat2Density++), so there are k - 1 pieces.
        step: length of the pieces of "endpoint"; by default from the distances, the first piece beginning at 0.

    Raises:
        InputError: fewer than two samples for "midpoint", or a step for it.
    """
    distance = distance.expand(density.shape)
    if rule == "midpoint":
        if density.shape[-1] < 2 or step is not None:
            raise InputError("the midpoint rule takes two samples or more and no step; use rule='endpoint'")
        piece = distance.diff(dim=-1)
        density, distance = _between(density, -1), _between(distance, -1)
        values = None if values is None else _between(values, -2)
    elif step is None:
        piece = torch.diff(distance, dim=-1, prepend=torch.zeros_like(distance[..., :1]))
    else:
        piece = torch.as_tensor(step, dtype=density.dtype, device=density.device).expand(density.shape)
    weights = piece_weights(density * piece)
    return Integral(
        weights.sum(-1),
        (weights * distance).sum(-1),
        weights,
        None if values is None else torch.einsum("...k,...kc->...c", weights, values),
    )


def _between(x: Tensor, dim: int) -> Tensor:
    count = x.shape[dim] - 1
    return (x.narrow(dim, 0, count) + x.narrow(dim, 1, count)) / 2


def piece_weights(thickness: Float[Tensor, "*rays k"]) -> Float[Tensor, "*rays k"]:
    """Share that each piece takes, exp(-sum of the pieces before) (1 - exp(-own)), from the optical thickness of the pieces."""
    before = F.pad(thickness[..., :-1].cumsum(-1), (1, 0))
    return torch.exp(-before) * -torch.expm1(-thickness)


def resample(
    distance: Float[Tensor, "*rays k"],
    weights: Float[Tensor, "*rays pieces"],
    count: int,
    *,
    generator: torch.Generator | None = None,
    deterministic: bool = True,
) -> Float[Tensor, "*rays {count}"]:
    """Distances drawn where the weights are (inverse transform sampling of Mildenhall 2020, NeRF, section 5.2).

    The weights of ``rule="midpoint"`` are smoothed as in mip-NeRF (Barron 2021, eq. 18: a maximum over two neighbours,
    then their mean, plus 0.01) and spread over the pieces between the midpoints of the samples. Without gradient.

    Args:
        distance: of the samples, increasing.
        weights: of the pieces between them, k - 1.
        count: distances to draw.
        generator: of the random draws; without it torch's own.
        deterministic: evenly spaced quantiles instead of random ones.

    Raises:
        InputError: fewer than three samples, or weights that are not one fewer than samples.
    """
    if distance.shape[-1] < 3 or weights.shape[-1] != distance.shape[-1] - 1:
        raise InputError("resampling takes three samples or more and the weights of the pieces between them")
    with torch.no_grad():
        flat = distance.flatten(0, -2)
        share = weights.flatten(0, -2) + 1e-5
        peak = F.max_pool1d(F.pad(share, (1, 1), value=-torch.inf)[:, None], 2, 1)
        share = F.avg_pool1d(peak, 2, 1)[:, 0] + 0.01
        edges = _between(flat, -1)
        share = share[:, 1:-1] + 1e-5
        below = F.pad((share / share.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
        if deterministic:
            u = torch.linspace(0, 1, count, device=flat.device, dtype=flat.dtype).expand(len(flat), -1)
        else:
            u = torch.rand(len(flat), count, generator=generator, device=flat.device, dtype=flat.dtype)
        right = torch.searchsorted(below, u.contiguous())
        left, right = (right - 1).clamp_min(0), right.clamp_max(below.shape[-1] - 1)
        low, high = below.gather(-1, left), below.gather(-1, right)
        near, far = edges.gather(-1, left), edges.gather(-1, right)
        width = torch.where(high - low < 1e-5, torch.ones_like(low), high - low)
        return (near + (u - low) / width * (far - near)).reshape(*distance.shape[:-1], count)


def softplus_density(raw: Tensor) -> Tensor:
    """softplus(raw - 1), the activation of mip-NeRF (Barron 2021) that Sat2Density++ and Sat3DGen were trained with."""
    return F.softplus(raw - 1)
