"""What a renderer knows of its pixels, as the picture a refiner reads: one channel per class, distance, orientation, sky, what was seen.

On walls there is a ruler: waves along and up the wall, whose phase lies still in the world. By them a network that sees a few pixels knows where
along a facade it is, and windows stand in rows.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from ..errors import InputError
from ..geo.legend import CLASSES
from ..render.rays import OBJECT, SKY, WALL

NEAR = 10.0
"""Metres at which nearness is one half."""

RULERS = (("along", 2.0), ("along", 4.0), ("along", 16.0), ("up", 3.0), ("up", 12.0))
"""Waves on walls: their direction, and their length in metres."""

GBUFFER_CHANNELS = (
    *("red", "green", "blue"),
    *("nearness", "upward normal", "facing", "edge-on", "elevation", "sky", "wall", "object", "seen"),
    *CLASSES[1:],
    *(f"{part} of {length:g} m {way} a wall" for way, length in RULERS for part in ("sine", "cosine")),
)
"""Names of the 32 channels in order: the raw picture in [-1, 1], then buffers in [0, 1] (normals, elevation and rulers in [-1, 1])."""


def encode_gbuffers(
    buffers: Mapping[str, Any], rays: Float[Tensor, "*b h w 3"], origins: Float[Tensor, "*b #h #w 3"]
) -> Float[Tensor, "n 32 h w"]:
    """Channels of views; see GBUFFER_CHANNELS.

    Args:
        buffers: ``rgb`` (..., h, w, 3) in [0, 1], ``distance`` (metres, inf for sky), ``normals`` (scene frame), ``classes``, ``kind`` and
            ``seen`` as in :class:`gensat.render.view.View`, tensors or arrays; one view or a batch.
        rays: unit directions of the pixels in the scene frame, z up.
        origins: where the rays begin, metres; one for all pixels will do.

    Nearness is 1 / (1 + distance / 10 m). ``facing`` is the cosine between the normal and the way back to the eye, ``edge-on`` the
    horizontal part of the normal across the view, so nothing depends on where north is: a turned scene looks the same. ``elevation`` is the
    sine of the ray's angle above the horizon. The rulers are zero off the walls and fade where a pixel is as large as half a wave; ``along``
    is measured from the world's origin, ``up`` from the eye.

    Raises:
        InputError: buffers of different sizes, or a distance that is no number.
    """
    size = rays.shape[:-1]
    tensors = {
        name: torch.as_tensor(buffers[name]) for name in ("rgb", "distance", "normals", "classes", "kind", "seen")
    }
    for name, value in tensors.items():
        if value.shape[: len(size)] != size:
            raise InputError(
                f"buffer {name} is {tuple(value.shape)}, the rays are {tuple(size)}; render both at one size"
            )
    if bool(torch.isnan(tensors["distance"]).any()):
        raise InputError("the distance holds NaN; it is metres along the ray, infinite where there is sky")
    rays = rays.float()
    normals, kind = tensors["normals"].float(), tensors["kind"].long()
    across = normalize(torch.stack([rays[..., 1], -rays[..., 0]], -1), dim=-1, eps=1e-6)
    channels = [
        tensors["rgb"].float() * 2 - 1,
        torch.stack(
            [
                1 / (1 + tensors["distance"].float() / NEAR),
                normals[..., 2],
                -(normals * rays).sum(-1),
                (normals[..., :2] * across).sum(-1),
                rays[..., 2],
                *((kind == k).float() for k in (SKY, WALL, OBJECT)),
                tensors["seen"].float(),
            ],
            -1,
        ),
        one_hot(tensors["classes"].long(), len(CLASSES))[..., 1:].float(),
        _rulers(tensors["distance"], rays, origins, normals, kind == WALL),
    ]
    stacked = torch.cat(channels, -1)
    return stacked.reshape(-1, *stacked.shape[-3:]).permute(0, 3, 1, 2).contiguous()


def _rulers(
    distance: Tensor, rays: Tensor, origins: Tensor, normals: Tensor, wall: Tensor
) -> Float[Tensor, "*b h w 10"]:
    """The waves of ``RULERS`` on walls, sine and cosine of each."""
    metres = torch.where(wall, distance, 0.0).double()
    reach = metres[..., None] * rays.double()
    right = normalize(torch.stack([-normals[..., 1], normals[..., 0]], -1).double(), dim=-1, eps=1e-6)
    way = {"along": ((origins.double() + reach)[..., :2] * right).sum(-1), "up": reach[..., 2]}
    step = (rays[..., 1:, :] - rays[..., :-1, :]).norm(dim=-1)
    pixel = torch.cat([step, step[..., -1:]], -1) * metres
    slant = (normals * rays).sum(-1).abs().clamp(min=0.02)
    waves = []
    for name, length in RULERS:
        there = pixel / slant if name == "along" else pixel
        strength = torch.where(wall, (1 - 2 * there / length).clamp(min=0), 0.0)
        angle = way[name] * (2 * math.pi / length)
        waves += [strength * angle.sin(), strength * angle.cos()]
    return torch.stack(waves, -1).float()


def refiner_channels(
    guide: Float[Tensor, "b g h w"],
    raw: Float[Tensor, "b z h w"],
    previous: Float[Tensor, "b z h w"] | None = None,
    valid: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """What a refiner's denoiser is shown at the size of its latents, g + 2 z + 1 channels.

    The guide through the model's stem (:class:`gensat.models.stem.GuideStem`); the latents of the raw render; those of an earlier frame
    brought here (``previous``), times ``valid``, and ``valid`` itself: 1 where the frame shows the cell. Without an earlier frame both are zero.
    """
    if previous is None or valid is None:
        previous, valid = torch.zeros_like(raw), torch.zeros_like(raw[:, :1])
    return torch.cat([guide, raw, previous * valid, valid], 1)
