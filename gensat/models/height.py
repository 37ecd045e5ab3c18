"""A small network that reads heights above the ground from an image from above, and says how sure it is.

A U-Net (Ronneberger et al. 2015) without attention and without normalisation over space, so that a pixel depends on pixels at most
``halo`` away and tiles equal the whole. Its first layer takes blocks of 4 x 4 pixels and its last one gives them back, so that no
feature map is as large as the picture. Where the sun stands scales and shifts the features (FiLM, Perez et al. 2018), as shadows point along it.

It predicts a Laplace distribution of log(1 + h), h in metres: location and log of the scale (Kendall and Gal 2017, eq. 8, with the
absolute error). ``exp(location) - 1`` is the median height. Beside it the network says what stands there (ground, building or tree):
to learn that makes its heights better, and whoever wants it may have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from gensat.errors import InputError
from gensat.geo.sun import SunPosition
from gensat.models.autoencoder import PixelNorm
from gensat.models.blocks import TimeConvBlock

SUN_VALUES = 6
GROUPS = ("ground", "building", "tree")
"""What a pixel shows, by code."""

_MAPS = 2 + len(GROUPS)
_LEAST = math.log(0.02)  # log scale: two centimetres at the ground
_MOST = math.log(2.0)
_SURE = -math.log(1 - 0.6827)  # scales from the median of a Laplace distribution that hold 68 percent of it
_LONGEST = 4.0  # shadow per height that the network is told of: a sun 14 degrees high; lower ones look alike


@dataclass(frozen=True)
class Heights:
    """A distribution of heights above the ground per pixel.

    Args:
        location: median of log(1 + h), h in metres.
        log_scale: log of the mean absolute deviation of log(1 + h) from it.
        groups: logits of ground, building and tree.
    """

    location: Float[Tensor, "b h w"]
    log_scale: Float[Tensor, "b h w"]
    groups: Float[Tensor, "b 3 h w"]

    def median(self) -> Float[Tensor, "b h w"]:
        """Metres, 0 or more: half of the probability lies below."""
        return torch.expm1(self.location).clamp_min(0)

    def spread(self) -> Float[Tensor, "b h w"]:
        """Metres: half the width of the middle 68 percent of the distribution."""
        low, high = self.interval()
        return (high - low) / 2

    def interval(self) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        """Metres between which 68 percent of the probability lies."""
        away = _SURE * self.log_scale.exp()
        return (torch.expm1(self.location - away).clamp_min(0), torch.expm1(self.location + away).clamp_min(0))

    def loss(self, heights: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """Negative log-likelihood of true heights in metres, without its constant; per pixel."""
        error = (torch.log1p(heights) - self.location).abs()
        return error * torch.exp(-self.log_scale) + self.log_scale


class HeightModel(ModelMixin, ConfigMixin):
    """Pictures of one ground sampling distance to heights above the ground.

    ``patch`` is the side of the blocks of pixels that the first layer takes, ``channels`` are those at strides ``patch``, 2 ``patch`` ...,
    ``blocks`` the residual blocks at each going down; going up there is one at each.
    ``gsd`` is that of its training, metres per pixel: bring pictures to it (:class:`gensat.pipelines.heights.HeightPipeline` does).
    """

    @register_to_config
    def __init__(
        self,
        patch: int = 4,
        channels: Sequence[int] = (40, 56, 64),
        blocks: Sequence[int] = (2, 2, 2),
        sun_width: int = 24,
        gsd: float = 0.5,
    ):
        super().__init__()
        if len(channels) != len(blocks) or len(channels) < 2:
            raise InputError(f"{len(channels)} channels for {len(blocks)} numbers of blocks; give two or more of each")
        self.sun = nn.Sequential(
            nn.Linear(SUN_VALUES, sun_width), nn.SiLU(), nn.Linear(sun_width, sun_width), nn.SiLU()
        )
        self.enter = nn.ModuleList([nn.Conv2d(3 * patch**2, channels[0], 3, padding=1)])
        self.enter += [nn.Conv2d(4 * a, b, 1) for a, b in pairwise(channels)]
        self.down = nn.ModuleList(
            nn.ModuleList(TimeConvBlock(c, sun_width) for _ in range(n)) for c, n in zip(channels, blocks, strict=True)
        )
        self.leave = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.up = nn.ModuleList(TimeConvBlock(c, sun_width) for c in channels[:-1])
        self.head = nn.Sequential(
            PixelNorm(channels[0]), nn.SiLU(), nn.Conv2d(channels[0], _MAPS * patch**2, 3, padding=1)
        )

    @property
    def multiple(self) -> int:
        """What sides of pictures must be a multiple of."""
        return self.config.patch * 2 ** (len(self.config.channels) - 1)

    @property
    def halo(self) -> int:
        """Pixels around one that its height may depend on, at most; a multiple of ``multiple``."""
        patch = self.config.patch
        reach = 2 * patch  # the first and the last convolution
        for level, count in enumerate(self.config.blocks):
            stride = patch * 2**level
            up = 1 if level < len(self.config.blocks) - 1 else 0
            reach += stride * 2 * (count + up) + stride  # two convolutions a block; the edge of a cell
        return math.ceil(reach / self.multiple) * self.multiple

    def forward(self, pictures: Float[Tensor, "b 3 h w"], sun: Float[Tensor, "b 6"] | None = None) -> Heights:
        """Heights of pictures in [0, 1] at ``config.gsd``.

        Args:
            pictures: sides must be multiples of ``multiple``.
            sun: what :func:`sun_values` makes; None where nobody knows.

        Raises:
            InputError: sides that are no multiples.
        """
        height, width = pictures.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise InputError(f"a picture of {height} x {width} pixels; give multiples of {self.multiple}")
        weight = next(self.parameters())
        if sun is None:
            sun = sun_values([None] * len(pictures))
        code = self.sun(sun.to(weight))
        x, kept = (pictures.to(weight) * 2 - 1), []
        blocks: Any
        for level, (enter, blocks) in enumerate(zip(self.enter, self.down, strict=True)):
            x = enter(F.pixel_unshuffle(x, 2 if level else self.config.patch))
            for block in blocks:
                x = block(x, code)
            kept.append(x)
        x = kept.pop()
        for leave, block in zip(reversed(self.leave), reversed(self.up), strict=True):
            x = block(kept.pop() + F.interpolate(leave(x), scale_factor=2.0, mode="nearest"), code)
        maps = F.pixel_shuffle(self.head(x).float(), self.config.patch)
        return Heights(maps[:, 0], maps[:, 1].clamp(_LEAST, _MOST), maps[:, 2:])

    @torch.inference_mode()
    def predict(
        self, picture: Float[Tensor, "3 h w"], sun: SunPosition | None = None, *, tile: int | None = 512
    ) -> Heights:
        """Heights of one picture of any size, in tiles; a batch of one.

        The picture is continued by mirroring to a multiple of ``multiple``. Each tile is computed with a margin of ``halo`` pixels,
        so that the result is that of the whole picture, up to rounding.

        Args:
            picture: in [0, 1], at ``config.gsd``.
            sun: where it stands, its azimuth from the top of the picture; None where nobody knows.
            tile: side of a tile without its margin, pixels; None for the picture as a whole.

        Raises:
            InputError: a tile that is no multiple of ``multiple``.
        """
        if tile is not None and (tile < 1 or tile % self.multiple):
            raise InputError(f"tiles of {tile} pixels; give a multiple of {self.multiple}")
        height, width = picture.shape[-2:]
        down, across = (-height % self.multiple, -width % self.multiple)
        mode = "reflect" if min(height, width) > self.multiple else "replicate"
        whole = F.pad(picture[None], (0, across, 0, down), mode=mode)
        values = sun_values([sun]).to(self.device)
        rows, columns = whole.shape[-2:]
        step = max(rows, columns) if tile is None else tile
        made = torch.empty(1, _MAPS, rows, columns)
        for top in range(0, rows, step):
            for left in range(0, columns, step):
                bottom, right = min(top + step, rows), min(left + step, columns)
                r, c = max(0, top - self.halo), max(0, left - self.halo)
                part = whole[:, :, r : bottom + self.halo, c : right + self.halo].to(self.device)
                found = self(part, values)
                maps = torch.cat([found.location[:, None], found.log_scale[:, None], found.groups], 1)
                made[..., top:bottom, left:right] = maps[..., top - r : bottom - r, left - c : right - c].cpu()
        made = made[..., :height, :width]
        return Heights(made[:, 0], made[:, 1], made[:, 2:])


def sun_values(suns: Sequence[SunPosition | None]) -> Float[Tensor, "b 6"]:
    """What the network is told of the sun: known or not, its direction, and the shadow of a metre's height (east, north).

    Args:
        suns: azimuths from the top of the picture; None where nobody knows; one below the horizon is as unknown.
    """
    rows = []
    for sun in suns:
        if sun is None or sun.elevation <= 0:
            rows.append([0.0] * SUN_VALUES)
            continue
        east, north, up = sun.direction()
        length = min(1 / math.tan(math.radians(max(float(sun.elevation), 1.0))), _LONGEST)
        across = max(math.hypot(east, north), 1e-6)
        rows.append([1.0, east, north, up, -length * east / across, -length * north / across])
    return torch.tensor(rows, dtype=torch.float32)
