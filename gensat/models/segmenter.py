"""A small segmenter on frozen EfficientNet-lite0 features: which layout does an image show?

It is the judge of layout consistency: trained on real images and maps, it reads generated images back into the legend
of ``gensat.geo.legend``. A U-Net decoder (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) over the
backbone's five levels; the backbone stays outside, so that the saved file holds the decoder alone.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gensat.errors import InputError
from gensat.geo.legend import (
    BARE,
    BUILDING,
    CROPLAND,
    LOW_VEGETATION,
    OTHER_GROUND,
    ROAD,
    SNOW,
    WATER,
    WOODLAND,
)
from gensat.models.features import EfficientNetLite0

_GROUPS = 8
_OPEN = (LOW_VEGETATION, CROPLAND, BARE, SNOW)
"""What LandCover.ai, whose maps it learned from, calls other ground."""


class _Block(nn.Module):
    """Residual: norm, SiLU, 3x3 convolution, twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(_GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(_GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LayoutSegmenter(ModelMixin, ConfigMixin):
    """Class scores for every pixel, from the pyramid of an EfficientNet-lite0 that leaves image sizes alone.

    ``classes`` are the legend's codes that it can tell, in the order of its output channels; ``widths`` the decoder's
    channels at strides 2, 4, 8, 16 and 32, multiples of 8.
    """

    @register_to_config
    def __init__(
        self,
        classes: Sequence[int] = (OTHER_GROUND, BUILDING, ROAD, WATER, WOODLAND),
        widths: Sequence[int] = (24, 48, 64, 80, 96),
    ):
        super().__init__()
        channels = EfficientNetLite0.pyramid_channels
        if len(widths) != len(channels) or any(w % _GROUPS or w <= 0 for w in widths):
            raise InputError(f"decoder widths {list(widths)} do not fit; give {len(channels)} multiples of {_GROUPS}")
        self.classes = tuple(classes)
        # the levels' scales differ by an order of magnitude: each is normalised before it enters
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(_GROUPS, c), nn.Conv2d(c, w, 1)) for c, w in zip(channels, widths, strict=True)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.blocks = nn.ModuleList(_Block(w) for w in widths)
        self.head = nn.Sequential(
            nn.GroupNorm(_GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], len(classes), 3, padding=1)
        )

    name = "segmenter of efficientnet-lite0@native"

    def forward(self, levels: Sequence[Tensor], *, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Scores (logits) at ``size`` = (height, width) from a raw pyramid (``normalise=False``), fine to coarse."""
        x = self.blocks[-1](self.lateral[-1](levels[-1]))
        for i in reversed(range(len(levels) - 1)):
            fine = levels[i]
            x = F.interpolate(self.up[i](x), fine.shape[-2:], mode="bilinear", align_corners=False)
            x = self.blocks[i](x + self.lateral[i](fine))
        return F.interpolate(self.head(x).float(), size, mode="bilinear", align_corners=False)

    def scores(self, images: Float[Tensor, "b 3 h w"], *, backbone: EfficientNetLite0) -> Float[Tensor, "b k h w"]:
        """Scores of RGB images in [0, 1]; channel i belongs to ``classes[i]``."""
        if backbone.size is not None:
            raise InputError(
                f"a segmenter needs pixels as they are; give a backbone with size=None, not {backbone.size}"
            )
        weight = next(self.parameters())
        levels = [x.to(weight.dtype) for x in backbone.pyramid(images, normalise=False)]
        return self.forward(levels, size=(images.shape[-2], images.shape[-1]))

    def tellable(self, layout: UInt8[Tensor, "b h w"]) -> UInt8[Tensor, "b h w"]:
        """A map in the classes that it can tell apart: open ground of every kind is other ground, the rest that it does
        not know (wetland) becomes unknown.
        """
        known = torch.zeros(256, dtype=torch.uint8, device=layout.device)
        known[list(self.classes)] = torch.tensor(self.classes, dtype=torch.uint8, device=layout.device)
        if OTHER_GROUND in self.classes:
            known[[code for code in _OPEN if code not in self.classes]] = OTHER_GROUND
        return known[layout.long()]

    def predict(self, images: Float[Tensor, "b 3 h w"], *, backbone: EfficientNetLite0) -> UInt8[Tensor, "b h w"]:
        """The likeliest class of every pixel as the legend's code; never "unknown"."""
        codes = torch.tensor(self.classes, dtype=torch.uint8, device=images.device)
        return codes[self.scores(images, backbone=backbone).argmax(1)]
