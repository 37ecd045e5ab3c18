"""pix2pixHD generators (Wang et al. 2018, https://arxiv.org/abs/1711.11585) that are shown an image and where water is, as the Earth
Intelligence Engine publishes one (Luetjens et al. 2024, https://arxiv.org/abs/2104.04785).

Layers stand where the published checkpoints number them, so tensors keep their names: ``model.1`` is the first convolution. A local
enhancer k adds ``model{k}_1`` (down) and ``model{k}_2`` (blocks and up) at twice the resolution of the generator below it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gensat.errors import InputError

FLOODED, DRY = -1.0, 1.0
"""What the published mask channel, the first of the input, says of a pixel."""


class _ResnetBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _normed(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm2d(channels), nn.ReLU()]


def _down(channels: int) -> list[nn.Module]:
    return _normed(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), 2 * channels)


def _up(channels: int) -> list[nn.Module]:
    half = channels // 2
    return _normed(nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1), half)


def _first(channels: int, width: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), *_normed(nn.Conv2d(channels, width, 7), width)]


def _last(width: int, channels: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]


class Pix2PixHD(ModelMixin, ConfigMixin):
    """An image and a flood mask to an image of the flood.

    Args:
        channels: of the input: the mask first, then red, green and blue.
        out_channels: of the output.
        width: channels after the first convolution, at full resolution.
        downsamples: halvings of the global generator.
        blocks: residual blocks of it.
        enhancers: local enhancers around it, each at twice the resolution.
        local_blocks: residual blocks of each of them.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 4,
        out_channels: int = 3,
        width: int = 64,
        downsamples: int = 4,
        blocks: int = 9,
        enhancers: int = 0,
        local_blocks: int = 3,
    ):
        super().__init__()
        inner = width * 2**enhancers
        deepest = inner * 2**downsamples
        layers = _first(channels, inner)
        for k in range(downsamples):
            layers += _down(inner * 2**k)
        layers += [_ResnetBlock(deepest) for _ in range(blocks)]
        for k in range(downsamples):
            layers += _up(deepest // 2**k)
        self.model = nn.Sequential(*layers, *([] if enhancers else _last(width, out_channels)))
        for number in range(1, enhancers + 1):
            wide = width * 2 ** (enhancers - number)
            self.add_module(f"model{number}_1", nn.Sequential(*_first(channels, wide), *_down(wide)))
            end = _last(width, out_channels) if number == enhancers else []
            middle = [_ResnetBlock(2 * wide) for _ in range(local_blocks)]
            self.add_module(f"model{number}_2", nn.Sequential(*middle, *_up(2 * wide), *end))

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this; :meth:`forward` sees to it."""
        return 2 ** (self.config.downsamples + self.config.enhancers)

    def forward(
        self, rgb: Float[Tensor, "b c h w"], flooded: Bool[Tensor, "b2 h2 w2"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        """The image of the flood, in [-1, 1]. What was given stays as it is.

        Norms are over the whole picture, so that a part of it does not come out as in the whole; sides that are no multiples of
        :attr:`multiple` are continued to the right and below, and cut again.

        Args:
            rgb: before the flood, in [-1, 1].
            flooded: True where there is water; the channel that the network sees is ``FLOODED`` there and ``DRY`` elsewhere. None
                for a network that takes no mask.

        Raises:
            InputError: sizes that differ, or another number of channels than the network takes.
        """
        shown = [rgb]
        if flooded is not None:
            if flooded.shape != (rgb.shape[0], *rgb.shape[2:]):
                raise InputError(
                    f"images {tuple(rgb.shape)} and masks {tuple(flooded.shape)} differ in size; give (b, c, h, w) and (b, h, w)"
                )
            shown.insert(0, torch.where(flooded, FLOODED, DRY).to(rgb)[:, None])
        x = torch.cat(shown, 1)
        if x.shape[1] != self.config.channels:
            raise InputError(
                f"this network takes {self.config.channels} channels with the mask, not {x.shape[1]}; give an RGB image and a mask"
            )
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        return self._run(x)[..., :height, :width]

    def _run(self, x: Tensor) -> Tensor:
        scales: Sequence[Tensor] = [x]
        for _ in range(self.config.enhancers):
            half = F.avg_pool2d(scales[-1], 3, stride=2, padding=1, count_include_pad=False)
            scales = [*scales, half]
        found = self.model(scales[-1])
        for number in range(1, self.config.enhancers + 1):
            down, up = self.get_submodule(f"model{number}_1"), self.get_submodule(f"model{number}_2")
            found = up(down(scales[-1 - number]) + found)
        return found
