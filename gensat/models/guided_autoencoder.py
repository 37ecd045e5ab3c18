"""An autoencoder whose decoder is shown the geometry: latents only have to say what a renderer does not know.

The decoder reads a guide picture of full size (``gensat.conditioning.gbuffers``) beside the latents and begins as the raw render itself, so edges of
the geometry stay where they are to the pixel and latents carry what surfaces look like. As in the default autoencoder nothing looks over
the whole picture: a decoded pixel depends on cells at most ``decoder_halo`` away.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn

from gensat.models.autoencoder import ConvBlock, EncoderOutput, PixelNorm, zeroed


class GuidedAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (b, 3, 8h, 8w) in [-1, 1] to latents (b, latent_channels, h, w), and with a guide (b, guide_channels, 8h, 8w) back.

    The first three channels of the guide are the raw render in [-1, 1]: what is decoded is added to it.
    """

    _supports_gradient_checkpointing = False
    factor = 8

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        guide_channels: int = 22,
        widths: Sequence[int] = (40, 56, 80),
        encoder_widths: Sequence[int] = (24, 40, 64),
        blocks: Sequence[int] = (1, 2, 2),
    ):
        super().__init__()

        def down(inside: int, outside: int) -> nn.Sequential:
            return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inside, outside, 3, padding=1), ConvBlock(outside))

        def up(inside: int, outside: int) -> nn.Sequential:
            return nn.Sequential(PixelNorm(inside), nn.Conv2d(inside, 4 * outside, 1), nn.PixelShuffle(2))

        inputs = (3, *encoder_widths)
        self.encoder = nn.Sequential(
            *(down(a, b) for a, b in zip(inputs, encoder_widths, strict=False)),
            PixelNorm(encoder_widths[-1]),
            nn.Conv2d(encoder_widths[-1], 2 * latent_channels, 3, padding=1),
        )
        inputs = (guide_channels, *widths)
        self.guide = nn.ModuleList(down(a, b) for a, b in zip(inputs, widths, strict=False))
        self.latent_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.decoder = nn.ModuleList(
            nn.Sequential(*(ConvBlock(w) for _ in range(n))) for w, n in zip(widths, blocks, strict=True)
        )
        self.ups = nn.ModuleList(up(b, a) for a, b in itertools.pairwise(widths))
        self.out = nn.Sequential(
            PixelNorm(widths[0]), zeroed(nn.Conv2d(widths[0], 12, 3, padding=1)), nn.PixelShuffle(2)
        )
        with torch.no_grad():
            self.encoder[-1].bias[latent_channels:] = -6.0  # begin with little noise on the latents
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @property
    def decoder_halo(self) -> int:
        """Cells on each side that a decoded pixel can depend on, through latents or guide."""
        reach, scale = 1 / 4.0, 1  # the last convolution, on half of the picture's size
        for blocks in self.config.blocks:
            scale *= 2
            reach += (2 * blocks + 3) * scale / 8  # the level's own blocks, and those of the guide
        return math.ceil(reach + 1) + 1

    def encode(self, x: Float[Tensor, "b 3 hh ww"]) -> EncoderOutput:
        """Distribution of the (unnormalised) latents."""
        return EncoderOutput(DiagonalGaussianDistribution(self.encoder(x)))

    def decode(self, z: Float[Tensor, "b z h w"], guide: Float[Tensor, "b g hh ww"]) -> Float[Tensor, "b 3 hh ww"]:
        """Pictures in about [-1, 1] from (unnormalised) latents and the guide."""
        levels = []
        x = guide
        for layer in self.guide:
            x = layer(x)
            levels.append(x)
        y = self.latent_in(z) + levels.pop()
        for i in reversed(range(len(self.decoder))):
            y = self.decoder[i](y)
            if i:
                y = self.ups[i - 1](y) + levels.pop()
        return guide[:, :3] + self.out(y)

    def normalise(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Latents to zero mean and unit variance per channel: what the denoiser works on."""
        return (z - self.latent_mean.to(z)[:, None, None]) / self.latent_std.to(z)[:, None, None]

    def denormalise(self, z: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Inverse of ``normalise``."""
        return z * self.latent_std.to(z)[:, None, None] + self.latent_mean.to(z)[:, None, None]

    def latents(self, x: Float[Tensor, "b 3 hh ww"]) -> Float[Tensor, "b z h w"]:
        """Normalised latents (the mode) of pictures in [-1, 1]."""
        return self.normalise(self.encode(x).latent_dist.mode())

    def picture(
        self, latents: Float[Tensor, "b z h w"], guide: Float[Tensor, "b g hh ww"], *, wrap: bool = False
    ) -> Float[Tensor, "b 3 hh ww"]:
        """Pictures in [-1, 1] from normalised latents; ``wrap`` joins the left and the right edge (a panorama)."""
        z, width = self.denormalise(latents), guide.shape[-1]
        if wrap:
            halo = self.decoder_halo
            cells = torch.arange(-halo, z.shape[-1] + halo, device=z.device) % z.shape[-1]
            pixels = torch.arange(-8 * halo, width + 8 * halo, device=z.device) % width
            return self.decode(z[..., cells], guide[..., pixels])[..., 8 * halo : 8 * halo + width].clamp(-1, 1)
        return self.decode(z, guide).clamp(-1, 1)


__all__ = ["GuidedAutoencoder"]
