"""Sat2Density++ (Qian et al. 2025, https://arxiv.org/abs/2505.17001): a satellite tile to three planes of features, a field of density and
features read from them, a sky from a reference's histogram, and a super-resolved panorama.

Written from the published description; tensor names are those of the published checkpoints. Points are (x, y, z) of the
published frame: x east, y south, z up, -1 to 1 over the tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from gensat.models.field_rays import FieldNet
from gensat.models.stylegan import Block, Down, Mapping, Synthesis, ToFeatures

PLANES = ((0, 1), (0, 2), (2, 1))
"""Axes of a point that are column and row of each plane."""


class _Encoder(nn.Module):
    def __init__(self, sizes: tuple[int, ...], widths: tuple[int, ...]):
        super().__init__()
        self.sizes = sizes
        channels = widths[0]
        for i, (size, out) in enumerate(zip(sizes, widths[1:], strict=True)):
            self.add_module(f"b{size}", Down(channels, out, image=0 if i else 3))
            channels = out

    def forward(self, x: Tensor) -> Tensor:
        for size in self.sizes:
            x = self.get_submodule(f"b{size}")(x)
        return x


class _Backbone(nn.Module):
    def __init__(self, mapping: Mapping, synthesis: Synthesis):
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis


class _FieldNet(FieldNet):
    def __init__(self, inputs: int, hidden: int, colours: int, w_dim: int):
        super().__init__(inputs, hidden)
        self.grd_color_convert = ToFeatures(hidden // 2, colours, w_dim)

    def density(self, point: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        return self.net1_density(F.softplus(self.net0(point)))[:, 0]

    def colour(self, point: Float[Tensor, "n f"], light: Float[Tensor, " s"]) -> Float[Tensor, "n c"]:
        feature = self.net1_feature(F.softplus(self.net0(point)))
        convert = self.grd_color_convert
        scaled = convert.weight[:, :, 0, 0] * convert.affine(light)
        return torch.sigmoid(F.linear(feature, scaled, convert.bias)) * (1 + 2e-3) - 1e-3


class _Upscaler(nn.Module):
    """Features of 64 x 256 to a picture of twice the size, after EG3D's super-resolution."""

    def __init__(self, features: int, widths: Sequence[int], w_dim: int, size: tuple[int, int]):
        super().__init__()
        self.block0 = Block(features, widths[0], w_dim, size, 3, up=False)
        self.block1 = Block(widths[0], widths[1], w_dim, (2 * size[0], 2 * size[1]), 3)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        rest, image = self.block0(x, x[:, :3], w, "none")
        return self.block1(rest, image, w, "none")[1]


class Sat2DensityPlus(ModelMixin, ConfigMixin):
    """All networks of one published checkpoint.

    Args:
        z_dim, w_dim, mapping_layers, sky_layers, bins: of the mappings.
        encoder_widths: channels of the encoder before and after each of its four halvings of the 256 x 256 tile.
        plane_widths: channels of the synthesis at 32, 64, 128 and 256.
        sky_widths: channels of the sky's at 2 x 8 to 64 x 256.
        planes, hidden, colours: channels of one plane, of the field's hidden layer, of its colours.
        upscaler: channels of the super-resolution.
        tile_metres: width of the tile on the ground: 30 for CVACT, 55 for CVUSA, about 72 for VIGOR.
        eye: height of the camera in half tiles over the ground, which lies at -1: 0.2 as published for CVACT and CVUSA.
        elevation: of the top and (negative) the bottom row of the panorama, degrees: 90, for CVUSA 45.
        coarse, fine: samples along a ray, and those added where the weights are.
        activation: of densities: "mipnerf", "softplus" or "relu".
        box: side of the cube that the planes span, in half tiles: 1 in the recorded runs of the published code, so that only
            the inner half of the tile's width has features of its own there.
        render_size: (width, height) of the features of a panorama; the picture has twice as many pixels a side.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 2,
        sky_layers: int = 3,
        bins: int = 270,
        encoder_widths: Sequence[int] = (128, 256, 512, 512, 512),
        plane_widths: Sequence[int] = (512, 512, 256, 128),
        sky_widths: Sequence[int] = (512, 512, 512, 512, 512, 256),
        planes: int = 32,
        hidden: int = 64,
        colours: int = 32,
        upscaler: Sequence[int] = (128, 64),
        tile_metres: float = 30.0,
        eye: float = 0.2,
        elevation: float = 90.0,
        coarse: int = 48,
        fine: int = 48,
        activation: str = "mipnerf",
        render_size: Sequence[int] = (256, 64),
        box: float | int = 1.0,
    ):
        super().__init__()
        self.encoder = _Encoder((256, 128, 64, 32), tuple(encoder_widths))
        synthesis = Synthesis((32, 64, 128, 256), tuple(plane_widths), encoder_widths[-1], w_dim, 3 * planes)
        self.backbone = _Backbone(Mapping(z_dim, w_dim, mapping_layers, rows=9), synthesis)
        self.sky_synthesis = Synthesis((4, 8, 16, 32, 64, 128), tuple(sky_widths), 0, w_dim, colours, wide=True)
        self.sky_img_mapping = Mapping(z_dim, w_dim, sky_layers, c_dim=bins)
        self.mlp = _FieldNet(planes, hidden, colours, w_dim)
        self.post_cnn = _Upscaler(colours, upscaler, w_dim, (render_size[1], render_size[0]))

    def encode(self, tile: Float[Tensor, "b 3 256 256"]) -> Float[Tensor, "b c 16 16"]:
        """Features of a tile in [-1, 1]."""
        return self.encoder(tile)

    def planes(self, feature: Float[Tensor, "b c 16 16"], w: Float[Tensor, "b s"]) -> Float[Tensor, "b 3 f 256 256"]:
        """The three planes of an encoded tile."""
        return self.backbone.synthesis(feature, w).unflatten(1, (3, -1))

    def features(self, planes: Float[Tensor, "3 f h w"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """What the planes of one tile hold at points."""
        return sample_planes(planes, points * (2 / self.config.box))

    def density(self, feature: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        """Raw densities of features, before the activation."""
        return self.mlp.density(feature)

    def colour(self, feature: Float[Tensor, "n f"], light: Float[Tensor, " s"] | None = None) -> Float[Tensor, "n c"]:
        """Colours of features in about [0, 1], in a light (None: none in particular, as for views from above)."""
        return self.mlp.colour(feature, feature.new_ones(self.config.w_dim) if light is None else light)

    def sky(self, light: Float[Tensor, "b s"]) -> Float[Tensor, "b c h w"]:
        """Features of the sky all around, in the frame of the panorama's columns."""
        return self.sky_synthesis(None, light)


def sample_planes(planes: Float[Tensor, "3 f h w"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
    """Mean of what the three planes hold at points in [-1, 1], zero outside (Chan et al. 2022, EG3D).

    About half the time on a CPU where the planes are stored channels last.
    """
    at = torch.stack([points[:, list(axes)] for axes in PLANES])[:, None]
    return F.grid_sample(planes, at, align_corners=False)[:, :, 0].mean(0).T
