"""The way from full resolution down to latents: what a network is shown of every pixel, before it thinks in cells of 8 x 8."""

import itertools
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from gensat.models.autoencoder import ConvBlock


def downward(channels: int, widths: Sequence[int]) -> nn.ModuleList:
    """Stages that halve the size each, from ``channels`` to ``widths``: 2 x 2 pixels become one, a convolution, a residual block."""
    return nn.ModuleList(
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * a, b, 3, padding=1), ConvBlock(b))
        for a, b in itertools.pairwise((channels, *widths))
    )


def wrapped(x: Float[Tensor, "b c h w"], halo: int) -> Float[Tensor, "b c h w2"]:
    """A panorama with ``halo`` more pixels on both sides, which are those of the other side."""
    width = x.shape[-1]
    return x[..., torch.arange(-halo, width + halo, device=x.device) % width]


class GuideStem(ModelMixin, ConfigMixin):
    """Guides (b, guide_channels, 2**n h, 2**n w) to what a denoiser is shown of them, (b, widths[-1], h, w), with n widths."""

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(self, guide_channels: int, widths: Sequence[int] = (32, 64, 96)):
        super().__init__()
        self.down = downward(guide_channels, widths)

    def forward(self, guide: Float[Tensor, "b g hh ww"], *, wrap: bool = False) -> Float[Tensor, "b c h w"]:
        """One cell for every 2**n x 2**n pixels; ``wrap`` joins the left and the right edge (a panorama)."""
        halo = 6 if wrap else 0  # cells: the three convolutions of a stage reach 3 (1 + 1/2 + 1/4 ...) of them
        x = wrapped(guide, halo * 2 ** len(self.down)) if wrap else guide
        for stage in self.down:
            x = stage(x)
        return x[..., halo : x.shape[-1] - halo]


__all__ = ["GuideStem"]
