"""Sat2Density (Qian et al. 2023, https://arxiv.org/abs/2303.14672): a satellite tile to a volume of density, and a panorama
painted over what is seen in it.

Written from the published description; tensor names are those of the published checkpoints with spectral norm folded in
(``gensat models convert`` does that). The tile is RGB in [0, 1] with row 0 in the north; the volume has its lowest level first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from gensat.models.fast_conv import ReflectConv, UpsampledConv

GROUND = 1000.0
"""Density of the level that is put under the volume, per half tile."""
DOWN = 4  # halvings, as many doublings


class _Layers(nn.Module):
    """What a published block holds: ``layers.conv`` and, where it has one, ``layers.norm``."""

    def __init__(self, conv: nn.Module, norm: int | None = None):
        super().__init__()
        parts: dict[str, nn.Module] = {"conv": conv}
        if norm is not None:
            parts["norm"] = nn.InstanceNorm2d(norm, affine=True)
        self.layers = nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv_block_0 = _Layers(ReflectConv(channels, channels, 3), channels)
        self.conv_block_1 = _Layers(ReflectConv(channels, channels, 3), channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block_1(F.relu(self.conv_block_0(x)))


class _Net(nn.Module):
    """Halve four times, residual blocks, double four times; a style changes two of the doublings by scale and shift."""

    def __init__(self, inputs: int, width: int, blocks: int, ups: tuple[int, ...], out: int, style: int | None = None):
        super().__init__()
        model: list[nn.Module] = [_Layers(ReflectConv(inputs, width, 7), width), nn.PReLU()]
        for level in range(DOWN):
            channels = width * 2**level
            model += [_Layers(ReflectConv(channels, 2 * channels, 3, 2), 2 * channels), nn.PReLU()]
        top = width * 2**DOWN
        self.model = nn.Sequential(*model, *(_Residual(top) for _ in range(blocks)))
        self.up0_b, self.up1_b, self.up2_b, self.up3_b = (
            _Layers(UpsampledConv(a, b), b) for a, b in zip((top, *ups[:-1]), ups, strict=True)
        )
        self.up_end = _Layers(ReflectConv(ups[-1], out, 7))
        if style is not None:
            self.fc_z_cond = nn.Linear(style, 4 * ups[2])

    def forward(self, x: Float[Tensor, "b c h w"], style: Float[Tensor, "b s"] | None = None) -> Tensor:
        changes = [None] * 4 if style is None else self.fc_z_cond(style)[..., None, None].chunk(4, dim=1)
        x = F.leaky_relu(self.up0_b(self.model(x)), 0.2)
        for up, scale, shift in ((self.up1_b, *changes[:2]), (self.up2_b, *changes[2:])):
            x = up(x)
            if scale is not None:
                x = x * (scale + 1) + shift
            x = F.leaky_relu(x, 0.2)
        return self.up_end(F.leaky_relu(self.up3_b(x), 0.2))


class _HistogramEncoder(nn.Module):
    """Sky histogram to mean and log variance of the illumination code, both in (-1, 1)."""

    def __init__(self, bins: int, width: int, out: int):
        super().__init__()
        self.layer1 = _Layers(nn.Linear(bins, width))
        self.layer4 = _Layers(nn.Linear(width, width))
        self.fc_mu = _Layers(nn.Linear(width, out))
        self.fc_var = _Layers(nn.Linear(width, out))

    def forward(self, histogram: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer4(self.layer1(histogram))
        return torch.tanh(self.fc_mu(x)), torch.tanh(self.fc_var(x))


class _StyleMLP(nn.Module):
    def __init__(self, inputs: int, width: int, out: int, layers: int):
        super().__init__()
        sizes = [inputs] + [width] * layers
        self.fc_layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.fc_out = nn.Linear(width, out)

    def forward(self, z: Tensor) -> Tensor:
        z = F.normalize(z, dim=-1, eps=1e-6)
        for layer in (*self.fc_layers, self.fc_out):
            z = F.leaky_relu(layer(z), 0.2)
        return z


@dataclass(frozen=True)
class Illumination:
    """Gaussian over illumination codes: mean and log variance, (b, style_dim) each."""

    mean: Float[Tensor, "b s"]
    log_variance: Float[Tensor, "b s"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "b s"]:
        """A random code, as the published program draws one for every picture."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean)
        return self.mean + noise * torch.exp(self.log_variance / 2)


class Sat2Density(ModelMixin, ConfigMixin):
    """Density network, painter and illumination encoder of one published checkpoint.

    Args:
        levels: of the volume that the density network makes.
        density_width, density_blocks, painter_width, painter_blocks, painter_up, style_dim, style_width, bins: sizes; the
            defaults are those of both published checkpoints.
        tile_metres: width of the tile on the ground: 30 for CVACT, 55 for CVUSA.
        volume_metres: height of the volume over the ground.
        eye_metres: height of the camera over the ground.
        elevation: of the top and (negative) the bottom row of the panorama, degrees: 90 for CVACT, 45 for CVUSA.
        samples: along a ray.
        pano_size: (width, height) in pixels.
        tile_size: pixels of the square tile.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        levels: int = 64,
        density_width: int = 32,
        density_blocks: int = 6,
        painter_width: int = 64,
        painter_blocks: int = 9,
        painter_up: int = 384,
        style_dim: int = 128,
        style_width: int = 256,
        style_layers: int = 5,
        bins: int = 270,
        tile_metres: float = 30.0,
        volume_metres: float = 8.0,
        eye_metres: float = 2.0,
        elevation: float = 90.0,
        samples: int = 100,
        pano_size: Sequence[int] = (512, 128),
        tile_size: int = 256,
    ):
        super().__init__()
        ups = tuple(density_width * n for n in (8, 4, 2, 1))
        self.depth_model = _Net(3, density_width, density_blocks, ups, levels)
        painted = (painter_up, painter_up, painter_up, painter_width)
        self.denoise_model = _Net(5, painter_width, painter_blocks, painted, 3, style=style_width)
        self.style_encode = _HistogramEncoder(bins, style_width, style_dim)
        self.style_model = _StyleMLP(style_dim, style_width, style_width, style_layers)

    def density(self, tile: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b levels h w"]:
        """Density per half tile of a tile in [0, 1]: levels from the lowest to the highest, without the ground below."""
        return F.relu(self.depth_model(tile))

    def illumination(self, histogram: Float[Tensor, "b bins"]) -> Illumination:
        """What the sky histogram of :func:`gensat.models.sky_histogram.raw_histogram` says of the light."""
        return Illumination(*self.style_encode(histogram))

    def style(self, code: Float[Tensor, "b s"]) -> Float[Tensor, "b style_width"]:
        """An illumination code as the painter takes it."""
        return self.style_model(code)

    def paint(self, seen: Float[Tensor, "b 5 h w"], style: Float[Tensor, "b style_width"]) -> Float[Tensor, "b 3 h w"]:
        """The panorama in [0, 1] over what is seen: red, green, blue, opacity, and depth per half tile, not divided by opacity."""
        return torch.sigmoid(self.denoise_model(seen, style))
