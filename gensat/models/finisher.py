"""The last step of a painted view: what an autoencoder decoded, put back onto the geometry's own edges.

An eighth of the resolution is too coarse for silhouettes. The finisher is shown the decoded picture and the G-buffers at full size
(``gensat.conditioning.gbuffers``) and corrects the picture. Nothing looks over the whole picture: a pixel depends on others at most ``halo`` away.
"""

import itertools
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from gensat.models.autoencoder import ConvBlock, PixelNorm, zeroed
from gensat.models.stem import downward, wrapped


class Finisher(ModelMixin, ConfigMixin):
    """Decoded pictures (b, 3, h, w) in [-1, 1] and guides (b, guide_channels, h, w), sides multiples of 2 ** levels, to finished pictures.

    Untrained it changes nothing.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self, guide_channels: int = 32, widths: Sequence[int] = (40, 56, 80), blocks: Sequence[int] = (1, 1, 2)
    ):
        super().__init__()
        self.down = downward(3 + guide_channels, widths)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ConvBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(PixelNorm(b), nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2))
            for a, b in itertools.pairwise(widths)
        )
        self.out = nn.Sequential(
            PixelNorm(widths[0]), zeroed(nn.Conv2d(widths[0], 12, 3, padding=1)), nn.PixelShuffle(2)
        )

    @property
    def halo(self) -> int:
        """Pixels on each side that a finished pixel can depend on."""
        reach = 2  # the last convolution, on half of the size
        for level, count in enumerate(self.config.blocks):
            reach += 2 ** (level + 1) * (
                3 + 2 * count + 1
            )  # way down, blocks, and the grid that it is brought back from
        return reach

    def forward(
        self, decoded: Float[Tensor, "b 3 h w"], guide: Float[Tensor, "b g h w"], *, wrap: bool = False
    ) -> Float[Tensor, "b 3 h w"]:
        """Finished pictures; ``wrap`` joins the left and the right edge (a panorama)."""
        x = torch.cat([decoded, guide], 1)
        step, width = 2 ** len(self.config.widths), decoded.shape[-1]
        halo = -(-self.halo // step) * step if wrap else 0
        x = wrapped(x, halo) if wrap else x
        levels = []
        for layer in self.down:
            x = layer(x)
            levels.append(x)
        y = self.levels[-1](levels.pop())
        for i in reversed(range(len(self.ups))):
            y = self.levels[i](self.ups[i](y) + levels.pop())
        return decoded + self.out(y)[..., halo : halo + width]


__all__ = ["Finisher"]
