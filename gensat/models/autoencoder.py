"""The default autoencoder: convolutional, with a finite receptive field, so that tiled decoding equals whole decoding.

Neither attention nor normalisation over space: RMS normalisation acts on the channels of one pixel. A decoded pixel depends on
latent cells at most ``decoder_halo`` away, an encoded cell on pixels at most ``encoder_halo`` away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.utils.accelerate_utils import apply_forward_hook
from jaxtyping import Float
from torch import Tensor, nn

from gensat.errors import InputError

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """The layer with all its parameters at zero: what it adds starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class PixelNorm(nn.Module):
    """RMS normalisation over the channels of each pixel, with a learned gain; computed in float32."""

    def __init__(self, channels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape with unit mean square over c."""
        scale = torch.rsqrt(x.float().pow(2).mean(dim=1, keepdim=True) + 1e-6)
        return x * (scale * self.gain[:, None, None]).to(x.dtype)


class ConvBlock(nn.Module):
    """Residual block: norm, 3x3 convolution, SiLU, 3x3 convolution; the last one starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = PixelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape."""
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


def regrouped(x: Float[Tensor, "b c h w"], channels: int) -> Float[Tensor, "b d h w"]:
    """Means of neighbouring channels, or channels repeated, until there are ``channels``; one number must divide the other."""
    if x.shape[1] > channels:
        return x.unflatten(1, (channels, -1)).mean(dim=2)
    return x.repeat_interleave(channels // x.shape[1], dim=1)


class Halving(nn.Module):
    """2x2 pixels folded into channels and a convolution, beside a shortcut that learns nothing: their ``regrouped`` channels.

    Without it little more than mean colours finds its way into deep latents for a long time: "residual autoencoding" of Chen et al. 2025
    ("Deep Compression Autoencoder", section 3.2).
    """

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to (b, out, h/2, w/2)."""
        x = F.pixel_unshuffle(x, 2)
        return self.conv(x) + regrouped(x, self.conv.out_channels)


class Doubling(nn.Module):
    """The way back from ``Halving``."""

    def __init__(self, channels: int, out: int, *, kernel: int):
        super().__init__()
        self.norm, self.conv = PixelNorm(channels), nn.Conv2d(channels, 4 * out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to (b, out, 2h, 2w)."""
        return F.pixel_shuffle(self.conv(self.norm(x)) + regrouped(x, self.conv.out_channels), 2)


class Moments(nn.Module):
    """Mean and log-variance (b, 2 latent_channels, h, w) of latents; the mean has the shortcut."""

    def __init__(self, channels: int, latent_channels: int):
        super().__init__()
        self.norm, self.conv = PixelNorm(channels), nn.Conv2d(channels, 2 * latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, channels, h, w) to both."""
        mean, spread = self.conv(self.norm(x)).chunk(2, dim=1)
        return torch.cat([mean + regrouped(x, mean.shape[1]), spread], dim=1)


class Widened(nn.Module):
    """Latents to the decoder's channels."""

    def __init__(self, latent_channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(latent_channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, latent_channels, h, w) to (b, out, h, w)."""
        return self.conv(x) + regrouped(x, self.conv.out_channels)


@dataclass
class EncoderOutput:
    """What ``encode`` returns, as in diffusers: a diagonal Gaussian over latents."""

    latent_dist: DiagonalGaussianDistribution


def _check_widths(bands: int, latents: int, decoder: Sequence[int], encoder: Sequence[int]) -> None:
    """InputError where shortcuts cannot lead from one number of channels to the next."""
    down = [(4 * a, b) for a, b in zip((bands, *encoder), encoder, strict=False)]
    up = [(a, 4 * b) for a, b in zip(decoder, (bands, *decoder), strict=False)]
    for a, b in [*down, (encoder[-1], latents), *up, (latents, decoder[-1])]:
        if max(a, b) % min(a, b):
            raise InputError(
                f"with shortcuts {a} channels become {b} by means or repetition, so one must divide the other; "
                "change block_channels, encoder_channels or latent_channels"
            )


class ConvAutoencoder(ModelMixin, ConfigMixin):
    """Images (b, bands, h, w) in [-1, 1] to latents (b, latent_channels, h/f, w/f) and back, f = 2 ** len(block_channels).

    ``encode`` and ``decode`` speak the interface of diffusers' autoencoders; ``normalise`` and ``denormalise`` map latents to zero mean
    and unit variance per channel (the statistics are buffers, measured after training). Any number of bands. ``shortcuts`` lead past every change
    of the grid.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        bands: int = 3,
        latent_channels: int = 8,
        block_channels: Sequence[int] = (64, 96, 160),
        encoder_channels: Sequence[int] = (32, 64, 128),
        decoder_blocks: Sequence[int] = (2, 3, 3),
        encoder_blocks: Sequence[int] = (1, 1, 2),
        shortcuts: bool = False,
    ):
        super().__init__()
        if shortcuts:
            _check_widths(bands, latent_channels, block_channels, encoder_channels)
        enc: list[Any] = []
        width = bands
        for out, blocks in zip(encoder_channels, encoder_blocks, strict=True):
            if shortcuts:
                enc.append(Halving(width, out))
            else:
                enc += [nn.PixelUnshuffle(2), nn.Conv2d(4 * width, out, 3, padding=1)]
            enc += [ConvBlock(out) for _ in range(blocks)]
            width = out
        if shortcuts:
            enc.append(Moments(width, latent_channels))
        else:
            enc += [PixelNorm(width), nn.Conv2d(width, 2 * latent_channels, 3, padding=1)]
        self.encoder = nn.Sequential(*enc)

        first = Widened if shortcuts else partial(nn.Conv2d, kernel_size=3, padding=1)
        dec: list[nn.Module] = [first(latent_channels, block_channels[-1])]
        width = block_channels[-1]
        for level in reversed(range(len(block_channels))):
            dec += [ConvBlock(width) for _ in range(decoder_blocks[level])]
            out = block_channels[level - 1] if level else bands
            kernel = 1 if level else 3
            if shortcuts:
                dec.append(Doubling(width, out, kernel=kernel))
            else:
                dec += [PixelNorm(width), nn.Conv2d(width, 4 * out, kernel, padding=kernel // 2), nn.PixelShuffle(2)]
            width = out
        self.decoder = nn.Sequential(*dec)
        # The mean colour of a cell takes a straight way through the first latent channels, so the rest only learns detail.
        self.colour_in = zeroed(nn.Conv2d(bands, 2 * latent_channels, 1, bias=False))
        self.colour_out = zeroed(nn.Conv2d(latent_channels, bands, 1, bias=False))
        with torch.no_grad():
            for band in range(min(bands, latent_channels)):
                self.colour_in.weight[band, band] = self.colour_out.weight[band, band] = 1.0
            (enc[-1].conv if shortcuts else enc[-1]).bias[
                latent_channels:
            ] = -6.0  # begin with little noise on the latents
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @property
    def factor(self) -> int:
        """Pixels per latent cell along one axis."""
        return 2 ** len(self.config.block_channels)

    @property
    def last_weight(self) -> nn.Parameter:
        """Weights of the last convolution: what an adversarial loss is balanced by."""
        last: Any = self.decoder[-1].conv if self.config.shortcuts else self.decoder[-2]
        return last.weight

    @property
    def decoder_halo(self) -> int:
        """Latent cells on each side that a decoded pixel can depend on (3x3 convolutions, one pixel each at their own scale)."""
        reach, scale = 1.0, 1.0
        for level in reversed(range(len(self.config.block_channels))):
            reach += (2 * self.config.decoder_blocks[level] + (level == 0)) / scale
            scale *= 2
        return math.ceil(reach)

    @property
    def encoder_halo(self) -> int:
        """Pixels on each side of a cell's own footprint that its latent can depend on."""
        reach, scale = 0, 1
        for blocks in self.config.encoder_blocks:
            scale *= 2
            reach += (2 * blocks + 1) * scale
        return reach + scale

    @apply_forward_hook
    def encode(self, x: Float[Tensor, "b c h w"]) -> EncoderOutput:
        """Distribution of the (unnormalised) latents of images in [-1, 1]."""
        colour = self.colour_in(F.avg_pool2d(x, self.factor))
        return EncoderOutput(DiagonalGaussianDistribution(self.encoder(x) + colour))

    @apply_forward_hook
    def decode(self, z: Float[Tensor, "b z h w"], return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Images in about [-1, 1] from (unnormalised) latents."""
        colour = F.interpolate(self.colour_out(z), scale_factor=self.factor, mode="bilinear", align_corners=False)
        sample = self.decoder(z) + colour
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def normalise(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Latents to zero mean and unit variance per channel: what the denoiser works on."""
        return (z - self.latent_mean.to(z)[:, None, None]) / self.latent_std.to(z)[:, None, None]

    def denormalise(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Inverse of ``normalise``."""
        return z * self.latent_std.to(z)[:, None, None] + self.latent_mean.to(z)[:, None, None]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Reconstruction through the mode of the latent distribution."""
        return self.decode(self.encode(x).latent_dist.mode()).sample
