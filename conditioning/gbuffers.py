"""What a renderer knows of its pixels, as the picture a refiner reads: one channel per class, distance, orientation, sky, what was seen."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from ..errors import InputError
from ..geo.legend import CLASSES

NEAR = 10.0
"""Metres at which nearness is one half."""

GBUFFER_CHANNELS = (
    *("red", "green", "blue"),
    *("nearness", "upward normal", "facing", "edge-on", "elevation", "sky", "wall", "object", "seen"),
    *CLASSES[1:],
)
"""Names of the 22 channels in order: the raw picture in [-1, 1], then buffers in [0, 1] (normals and elevation in [-1, 1])."""


def encode_gbuffers(buffers: Mapping[str, Any], rays: Float[Tensor, "*b h w 3"]) -> Float[Tensor, "n 22 h w"]:
    """Channels of views; see GBUFFER_CHANNELS.

    Args:
        buffers: ``rgb`` (..., h, w, 3) in [0, 1], ``distance`` (metres, inf for sky), ``normals`` (scene frame), ``classes``, ``kind`` and
            ``seen`` as in :class:`gensat.render.view.View`, tensors or arrays; one view or a batch.
        rays: unit directions of the pixels in the scene frame, z up.

    Nearness is 1 / (1 + distance / 10 m). ``facing`` is the cosine between the normal and the way back to the eye, ``edge-on`` the
    horizontal part of the normal across the view, so nothing depends on where north is: a turned scene looks the same. ``elevation`` is the
    sine of the ray's angle above the horizon.

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
    across = torch.nn.functional.normalize(torch.stack([rays[..., 1], -rays[..., 0]], -1), dim=-1, eps=1e-6)
    channels = [
        tensors["rgb"].float() * 2 - 1,
        torch.stack(
            [
                1 / (1 + tensors["distance"].float() / NEAR),
                normals[..., 2],
                -(normals * rays).sum(-1),
                (normals[..., :2] * across).sum(-1),
                rays[..., 2],
                *((kind == k).float() for k in (0, 3, 4)),
                tensors["seen"].float(),
            ],
            -1,
        ),
        one_hot(tensors["classes"].long(), len(CLASSES))[..., 1:].float(),
    ]
    stacked = torch.cat(channels, -1)
    return stacked.reshape(-1, *stacked.shape[-3:]).permute(0, 3, 1, 2).contiguous()


def refiner_channels(
    latents: Callable[[Tensor], Tensor],
    guide: Float[Tensor, "b 22 hh ww"],
    previous: Float[Tensor, "b z h w"] | None = None,
    valid: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """What a refiner's denoiser is shown at the size of its latents, 22 + 2 z + 1 channels.

    The mean of the guide over each cell of 8 x 8 pixels; the latents of the raw render (``latents`` maps pictures in [-1, 1] to normalised
    latents); those of an earlier frame brought here (``previous``), times ``valid``, and ``valid`` itself: 1 where the frame shows the cell.
    Without an earlier frame both are zero.
    """
    raw = latents(guide[:, :3])
    if previous is None or valid is None:
        previous, valid = torch.zeros_like(raw), torch.zeros_like(raw[:, :1])
    return torch.cat([avg_pool2d(guide, 8), raw, previous * valid, valid], 1)
