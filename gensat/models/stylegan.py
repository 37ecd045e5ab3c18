"""Layers of StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958) for networks that are only run.

The equalised learning rate is folded into the weights when a checkpoint is converted (:mod:`gensat.hub.convert_ground`), so
layers here are plain convolutions. Activations are leaky ReLU of slope 0.2 times sqrt(2). Names of tensors are the
published ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Noise = Literal["const", "none"]
_TAPS = (1.0, 3.0, 3.0, 1.0)


def activate(x: Tensor, gain: float = 1.0) -> Tensor:
    """Leaky ReLU of slope 0.2, times sqrt(2) and ``gain``."""
    return F.leaky_relu(x, 0.2) * (math.sqrt(2) * gain)


def unit_power(x: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Scaled to a mean square of 1 per row."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def blur(x: Float[Tensor, "b c h w"], pad: tuple[int, int], *, stride: int = 1, gain: float = 1.0) -> Tensor:
    """The binomial filter 1 3 3 1 along both axes over zero-padded borders, sum 1 times ``gain``."""
    taps = torch.tensor(_TAPS, dtype=x.dtype, device=x.device) * (math.sqrt(gain) / 8)
    channels = x.shape[1]
    x = F.pad(x, (*pad, *pad))
    x = F.conv2d(x, taps.expand(channels, 1, 1, 4), stride=(1, stride), groups=channels)
    return F.conv2d(x, taps[:, None].expand(channels, 1, 4, 1), stride=(stride, 1), groups=channels)


def doubled(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Twice the size: zeros between the pixels, then the binomial filter."""
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = x
    return blur(spread.reshape(b, c, 2 * h, 2 * w), (2, 1), gain=4.0)


class Mapping(nn.Module):
    """Latents, with or without a condition, to the w that styles layers.

    Args:
        z_dim: of the latent.
        w_dim: of the result.
        layers: fully connected ones.
        c_dim: of the condition, 0 for none.
        rows: of the stored average, 0 for a single one.
    """

    def __init__(self, z_dim: int, w_dim: int, layers: int, c_dim: int = 0, rows: int = 0):
        super().__init__()
        self.layers = layers
        if c_dim:
            self.embed = nn.Linear(c_dim, w_dim)
        inputs = z_dim + (w_dim if c_dim else 0)
        for i in range(layers):
            self.add_module(f"fc{i}", nn.Linear(inputs if i == 0 else w_dim, w_dim))
        self.register_buffer("w_avg", torch.zeros((rows, w_dim) if rows else (w_dim,)))

    def forward(self, z: Float[Tensor, "b z"], c: Float[Tensor, "b c"] | None = None) -> Float[Tensor, "b s"]:
        """Latents (and conditions) to w."""
        x = unit_power(z)
        if c is not None:
            x = torch.cat([x, unit_power(self.embed(c))], dim=1)
        for i in range(self.layers):
            x = activate(self.get_submodule(f"fc{i}")(x))
        return x


class StyledConv(nn.Module):
    """3x3 convolution whose input channels are scaled by a style and whose output is brought back to unit power (eq. 3)."""

    noise_const: Tensor

    def __init__(self, channels: int, out: int, w_dim: int, size: tuple[int, int], up: bool = False):
        super().__init__()
        self.up = up
        self.weight = nn.Parameter(torch.randn(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        self.affine = nn.Linear(w_dim, channels)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor, noise: Noise = "const") -> Tensor:
        """Features of the same or twice the size."""
        style = self.affine(w)
        power = torch.einsum("bi,oi->bo", style.square(), self.weight.square().sum((2, 3)))
        x = x * style[:, :, None, None]
        if self.up:
            x = blur(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), (1, 1), gain=4.0)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * torch.rsqrt(power + 1e-8)[:, :, None, None]
        if noise == "const":
            x = x + self.noise_const * self.noise_strength
        return activate(x + self.bias[:, None, None])


class ToFeatures(nn.Module):
    """1x1 convolution whose input channels are scaled by a style."""

    def __init__(self, channels: int, out: int, w_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, 1, 1) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(out))
        self.affine = nn.Linear(w_dim, channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """A picture of ``out`` channels."""
        return F.conv2d(x * self.affine(w)[:, :, None, None], self.weight, self.bias)


class Block(nn.Module):
    """Two styled convolutions, the first of which may double the size, and the picture that they add to."""

    def __init__(self, channels: int, out: int, w_dim: int, size: tuple[int, int], image: int, up: bool = True):
        super().__init__()
        self.up = up
        if channels:
            self.conv0 = StyledConv(channels, out, w_dim, size, up)
        else:
            self.const = nn.Parameter(torch.randn(out, *size))
        self.conv1 = StyledConv(out, out, w_dim, size)
        self.torgb = ToFeatures(out, image, w_dim)

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: Noise = "const"
    ) -> tuple[Tensor, Tensor]:
        """Features and the picture so far, of the same or twice the size."""
        x = self.const.expand(len(w), -1, -1, -1) if x is None else self.conv0(x, w, noise)
        x = self.conv1(x, w, noise)
        made = self.torgb(x, w)
        if image is not None:
            made = made + (doubled(image) if self.up else image)
        return x, made


class Synthesis(nn.Module):
    """Blocks from small to large, each named by its size.

    Args:
        sizes: height of each block's picture, in the published naming (b32, b64, ...).
        widths: channels of each.
        channels: of the input of the first block; 0: it begins with a learned constant.
        w_dim: of the style.
        image: channels of the picture.
        wide: False: pictures are size x size; True: they are size / 2 x 2 size.
    """

    def __init__(
        self, sizes: tuple[int, ...], widths: tuple[int, ...], channels: int, w_dim: int, image: int, wide: bool = False
    ):
        super().__init__()
        self.sizes = sizes
        for size, out in zip(sizes, widths, strict=True):
            shape = (size // 2, 2 * size) if wide else (size, size)
            self.add_module(f"b{size}", Block(channels, out, w_dim, shape, image))
            channels = out

    def forward(self, x: Tensor | None, w: Float[Tensor, "b s"]) -> Tensor:
        """The picture of the last block."""
        image = None
        for size in self.sizes:
            x, image = self.get_submodule(f"b{size}")(x, image, w)
        assert image is not None
        return image


class Down(nn.Module):
    """Residual block that halves the size, as in StyleGAN2's discriminator."""

    def __init__(self, channels: int, out: int, image: int = 0):
        super().__init__()
        if image:
            self.fromrgb = nn.Conv2d(image, channels, 1)
        self.conv0 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, out, 3, stride=2)
        self.skip = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Half the size."""
        if hasattr(self, "fromrgb"):
            x = activate(self.fromrgb(x))
        short = self.skip(blur(x, (1, 1), stride=2)) * math.sqrt(0.5)
        return short + activate(self.conv1(blur(activate(self.conv0(x)), (2, 2))), math.sqrt(0.5))
