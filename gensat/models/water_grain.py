"""The grain of water: ripples of a few pixels, which an autoencoder of an eighth of the resolution does not hand on.

Texture by example (Heitz and Neyret 2018, "High-Performance By-Example Noise using a Histogram-Preserving Blending Operator"; grain is near
enough to normal to need no transform of its histogram): windows out of an exemplar lie on a lattice, each at a place of its own in the
exemplar, and overlap with weights w that fall to 0 at their edges,

    grain = sum w g / sqrt(sum w^2)

so that the mean stays 0, the variance that of the exemplar, and nothing repeats. The lattice is tied to the Earth: images that meet share it.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from gensat.diffusion.noise import philox4x32
from gensat.errors import InputError

_ALIKE = 0.15  # of the ground sampling distance: closer than that, grain is not resampled


class WaterGrain(ModelMixin, ConfigMixin):
    """Grain for water of any extent, from exemplars (count, 3, size, size) of mean 0 in the units of images in [-1, 1].

    ``gsd`` is theirs, metres per pixel. Untrained it is 0.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(self, count: int = 8, size: int = 48, gsd: float = 0.4673):
        super().__init__()
        if count < 1 or size < 16 or size % 4:
            raise InputError(
                f"{count} exemplars of {size} pixels make no grain; give one or more, of 16, 20, ... pixels"
            )
        self.exemplars = nn.Parameter(torch.zeros(count, 3, size, size), requires_grad=False)

    @classmethod
    def of(cls, exemplars: Sequence[Float[np.ndarray, "_ _ 3"]], gsd: float) -> "WaterGrain":
        """Of square pieces of images of water, float in [-1, 1], without what is coarser than grain."""
        made = cls(len(exemplars), exemplars[0].shape[0], gsd)
        stacked = torch.from_numpy(np.stack(exemplars)).movedim(-1, 1).float()
        made.exemplars.data.copy_(stacked - stacked.mean((2, 3), keepdim=True))
        return made

    def forward(
        self, height: int, width: int, *, gsd: float, seed: int, origin: tuple[int, int] = (0, 0)
    ) -> Float[Tensor, "3 h w"]:
        """Grain of an image, float32; one exemplar, drawn by the seed, for all of it: one wind blows over a flood.

        Args:
            height, width: pixels.
            gsd: metres per pixel; coarser ones mean the grain out.
            seed: of the exemplar and of the places in it.
            origin: (row, column) of the first pixel on the grid of the Earth.
        """
        size, own = self.config.size, self.config.gsd
        period = size // 4
        free = size - 2 * period
        step = gsd / own if abs(gsd / own - 1) > _ALIKE else 1.0
        digest = blake2b(f"{seed}|water grain".encode(), digest_size=8).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        first = philox4x32(tuple(np.full((1, 1), n, np.uint64) for n in (0, 0, 1, 0)), key)[0]
        exemplar = self.exemplars[int(first.flat[0]) % self.config.count].float()
        if step > 1:
            sigma = 0.5 * math.sqrt(step * step - 1)
            side = 2 * min(math.ceil(3 * sigma), size // 2 - 1) + 1
            exemplar = gaussian_blur2d(exemplar[None], side, (sigma, sigma))[0]
        # In pixels of the exemplar; where nothing is resampled, those of the image are whole.
        rows, columns = ((np.arange(n) + o) * step for n, o in zip((height, width), origin, strict=True))
        total = torch.zeros(3, height, width, device=exemplar.device)
        squares = torch.zeros(height, width, device=exemplar.device)
        for down in (0, 1):
            for right in (0, 1):
                (at_r, in_r, w_r), (at_c, in_c, w_c) = (
                    _windows(positions, period, further) for positions, further in ((rows, down), (columns, right))
                )
                counter = (at_r[:, None], at_c[None], np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64))
                words = philox4x32(tuple(np.broadcast_arrays(*counter)), key)
                y = in_r[:, None] + (words[0] % np.uint64(free)).astype(np.float64)
                x = in_c[None] + (words[1] % np.uint64(free)).astype(np.float64)
                weight = torch.from_numpy(w_r[:, None] * w_c[None]).float().to(exemplar.device)
                total += weight * _sampled(exemplar, y, x)
                squares += weight * weight
        return total / squares.sqrt()


def _windows(positions: np.ndarray, period: int, further: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For places along an axis: which window of the two over them, where in it, and its weight."""
    before = np.floor(positions / period)
    at = before + further
    inside = positions - (at - 1) * period  # a window reaches one period to both sides of its vertex
    weight = 1 - np.abs(inside / period - 1)
    return (at.astype(np.int64) & 0xFFFFFFFF).astype(np.uint64), inside, weight


def _sampled(exemplar: Tensor, y: np.ndarray, x: np.ndarray) -> Float[Tensor, "3 h w"]:
    """The exemplar at pixel centres (rows, columns), bilinear between them."""
    last = exemplar.shape[-1] - 1
    grid = torch.from_numpy(np.stack([x, y], -1) * (2 / last) - 1).float().to(exemplar.device)
    return grid_sample(exemplar[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


__all__ = ["WaterGrain"]
