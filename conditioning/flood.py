"""What a flood renderer is shown of the place: the image before, which pixels are open water, and how deep it is there."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError

FLOOD_CHANNELS = ("red", "green", "blue", "water", "depth")
"""Names of the channels in order: the image before in [-1, 1], 1 where there is water, and depth in [0, 1], see ``depth_channel``."""

DEEPEST = 20.0
"""Metres from which on all depths look alike."""


def depth_channel(depth: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Metres of water to [0, 1]: log(1 + depth) / log(21), 0 where it is dry, 1 from 20 m on."""
    return torch.log1p(depth.clamp(0, DEEPEST)) / math.log1p(DEEPEST)


def encode_flood(before: Float[Tensor, "b 3 h w"], depth: Float[Tensor, "b2 h2 w2"]) -> Float[Tensor, "b 5 h w"]:
    """Channels of images in [-1, 1] and of water depths in metres on the same pixels; see FLOOD_CHANNELS.

    A pixel with a depth above 0 is water. Each pixel is encoded by itself, so any crop of the result is the result of the crop.

    Raises:
        InputError: sizes that differ, or a depth that is negative or no number.
    """
    if before.shape[-2:] != depth.shape[-2:] or before.shape[0] != depth.shape[0]:
        raise InputError(
            f"images {tuple(before.shape)} and depths {tuple(depth.shape)} differ in size; bring them together"
        )
    if not bool((depth >= 0).all()):
        raise InputError("a depth is negative or no number; give metres, 0 where it is dry")
    depth = depth.to(before)
    return torch.cat([before, (depth > 0).to(before)[:, None], depth_channel(depth)[:, None]], 1)
