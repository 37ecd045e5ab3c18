"""Sat3DGen (Qian et al., ICLR 2026, https://github.com/qianmingduowan/Sat3DGen): a satellite tile to one plane of features under one
column of them, a field of density and colours read from both, a sky from a reference's histogram, and super-resolved views.

Written from the published program as a description; the encoder is DINOv3 (Simeoni et al. 2025, https://arxiv.org/abs/2508.10104)
of transformers and both decoders are diffusers' (Rombach et al. 2022), so tensors carry their names (:mod:`gensat.hub.convert_sat3dgen`).
Points are (x, y, z) of the published frame: x east, y south, z up; the cube from -1 to 1 is 1 + 2 ``pad`` tiles wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from gensat.models.field_rays import FieldNet

Padding = Literal["reflect", "zeros"]
TILE = 256
"""Pixels of a tile: 16 x 16 patches of 16."""
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in display values
_SKY_SIDE = 8  # cells of the constant picture that the sky is decoded from
_BESIDE = 8  # columns repeated on both sides of a panorama: more than its super-resolution reaches


class Planes(NamedTuple):
    """What a tile is to the field: features over the ground, and features of heights that all places share."""

    ground: Float[Tensor, "f rows cols"]
    heights: Float[Tensor, "f levels"]


class _SkyMapping(nn.Module):
    """A histogram to the code of a light: linear layers, each followed by a leaky ReLU of slope 0.2."""

    def __init__(self, bins: int, w_dim: int, layers: int):
        super().__init__()
        widths = [bins] * layers + [w_dim]
        steps = [nn.Linear(a, b) for a, b in pairwise(widths)]
        self.mapping = nn.Sequential(*(part for step in steps for part in (step, nn.LeakyReLU(0.2))))

    def forward(self, histogram: Float[Tensor, "b bins"]) -> Float[Tensor, "b s"]:
        return self.mapping(histogram)


class _FieldNet(FieldNet):
    def __init__(self, inputs: int, hidden: int, colours: int, w_dim: int):
        super().__init__(inputs, hidden)
        self.style_squ = nn.Linear(w_dim, hidden // 2)
        self.grd_color_convert = nn.Linear(hidden, colours)

    def hidden(self, across: Float[Tensor, "f n"], up: Float[Tensor, "f n"]) -> Float[Tensor, "n h"]:
        ground, height = self.net0.weight.split(len(across), dim=1)
        return F.softplus(torch.addmm(torch.addmm(self.net0.bias, across.T, ground.T), up.T, height.T))

    def density(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, " n"]:
        return self.net1_density(hidden)[:, 0]

    def colour(self, hidden: Float[Tensor, "n h"], light: Float[Tensor, " s"]) -> Float[Tensor, "n c"]:
        feature = self.net1_feature(hidden)
        own, lit = self.grd_color_convert.weight.split(feature.shape[1], dim=1)
        # the light is the same for all points, so its half of the layer is a bias
        return torch.sigmoid(F.linear(feature, own, self.grd_color_convert.bias + lit @ self.style_squ(light)))


class _Convolution(nn.Module):
    def __init__(self, channels: int, out: int, padding: Padding):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, padding_mode=padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(self.conv(x)), 0.2)


class _Features(nn.Module):
    def __init__(self, channels: int, width: int, padding: Padding):
        super().__init__()
        self.conv0 = _Convolution(channels, width, padding)
        self.conv1 = _Convolution(width, width, padding)
        self.skip_conv = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv0(x)) + self.skip_conv(x)


class _Doubled(nn.Module):
    def __init__(self, width: int, padding: Padding):
        super().__init__()
        self.conv0 = _Convolution(width, width, padding)
        self.conv1 = _Convolution(width, width, padding)
        self.toRGB = nn.Conv2d(width, 3, 1, bias=False)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        twice = lambda y: F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)  # noqa: E731
        return (twice(image) + self.toRGB(self.conv1(self.conv0(twice(x))))).clamp(0, 1)


class _Upscaler(nn.Module):
    """Features to a picture of twice the size, its first three channels being the picture so far."""

    def __init__(self, features: int, width: int, padding: Padding):
        super().__init__()
        self.block0 = _Features(features, width, padding)
        self.block1 = _Doubled(width, padding)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 2*h 2*w"]:
        return self.block1(self.block0(x), x[:, :3])


def _decoder(channels: int, out: int, widths: Sequence[int], attention: bool) -> Any:
    """The decoder of latent diffusion (https://arxiv.org/abs/2112.10752), ``widths`` from the largest picture to the smallest."""
    kinds = ("UpDecoderBlock2D",) * len(widths)
    return Decoder(channels, out, kinds, tuple(widths), 2, 32, mid_block_add_attention=attention)


class Sat3DGen(ModelMixin, ConfigMixin):
    """All networks of the published checkpoint.

    Args:
        dino: settings of transformers' ``DINOv3ViTConfig`` (hidden_size, num_hidden_layers, ...).
        widths: channels of the planes' decoder at 320, 160, 80, 40 and 20 cells a side.
        sky_widths: channels of the sky's decoder at 512, 256, ..., 8 cells a side.
        plane: channels of the plane, and as many of the column.
        hidden, colours: channels of the field's hidden layer, and of its colours, the first three red, green and blue.
        w_dim, bins, mapping_layers: of the code of a light, of the histogram that it is made from, of the layers between.
        upscaler: channels of the super-resolution.
        padding: of its convolutions, "reflect" or "zeros".
        pad: border around the tile, as a share of its width on each side, where space has features too.
        tile_metres: width of the tile on the ground: 71.68, 256 pixels of 0.28 m, as the published program for larger images takes it.
            Tiles of VIGOR are 71.1 (Chicago), 72.4 (New York), 75.5 (San Francisco) and 64.4 m (Seattle) wide.
        eye: height of the camera over the bottom of the tile's space, in half tiles.
        coarse, fine: samples along a ray, and those added where the weights are.
        activation: of densities: "mipnerf" or "softplus".
        render_size: (width, height) of the features of a panorama; the picture has twice as many pixels a side.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        dino: dict[str, Any] | None = None,
        widths: Sequence[int] = (128, 256, 512, 512, 512),
        sky_widths: Sequence[int] = (32, 64, 64, 128, 128, 128, 128),
        plane: int = 32,
        hidden: int = 64,
        colours: int = 24,
        w_dim: int = 512,
        bins: int = 270,
        mapping_layers: int = 8,
        upscaler: int = 128,
        padding: Padding = "reflect",
        pad: float | int = 0.125,
        tile_metres: float | int = 71.68,
        eye: float | int = 0.15,
        coarse: int = 48,
        fine: int = 48,
        activation: str = "mipnerf",
        render_size: Sequence[int] = (256, 64),
    ):
        super().__init__()
        settings = DINOv3ViTConfig(**(dino or LARGE))
        self.backbone = DINOv3ViTModel(settings)
        self.decoder = _decoder(settings.hidden_size, 2 * plane, widths, attention=True)
        self.sky_mapping = _SkyMapping(bins, w_dim, mapping_layers)
        sky = self.sky_decoder = _decoder(w_dim, colours, sky_widths, attention=False)
        blocks = [resnet.conv1 for block in sky.up_blocks for resnet in block.resnets]
        for conv in (sky.conv_in, sky.conv_out, *blocks):
            conv.padding_mode = "circular"  # in the other convolutions the borders are zeros, as published
        self.mlp = _FieldNet(2 * plane, hidden, colours, w_dim)
        self.sr_module = _Upscaler(colours, upscaler, padding)

    @property
    def shrink(self) -> float:
        """Half tiles to units of the cube."""
        return 1 / (1 + 2 * self.config.pad)

    def encode(self, tile: Float[Tensor, "b 3 256 256"]) -> list[Planes]:
        """The planes of tiles in [0, 1], row 0 in the north."""
        mean, spread = (tile.new_tensor(v)[:, None, None] for v in (_MEAN, _SPREAD))
        tokens = self.backbone((tile - mean) / spread).last_hidden_state
        side = TILE // self.backbone.config.patch_size
        cells = tokens[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        beside = round(side * self.config.pad)
        made = self.decoder(F.pad(cells, (beside,) * 4))
        ground, heights = made.split(self.config.plane, dim=1)
        # channels last halves the time of looking up planes on a CPU
        ground = ground.contiguous(memory_format=torch.channels_last)
        return [Planes(g, h) for g, h in zip(ground, heights.mean(2), strict=True)]

    def light(self, histogram: Float[Tensor, "b bins"]) -> Float[Tensor, "b s"]:
        """The code of a light from its sky's histogram (:func:`gensat.render.environment.sky_histogram`)."""
        return self.sky_mapping(histogram)

    def sky(self, light: Float[Tensor, "b s"]) -> Float[Tensor, "b c rows cols"]:
        """Features of the sky in [0, 1]: rows are directions all around, columns angles from the zenith (:func:`sample_sky`)."""
        start = light[:, :, None, None].expand(-1, -1, _SKY_SIDE, _SKY_SIDE)
        return torch.sigmoid(self.sky_decoder(start))

    def features(self, planes: Planes, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """What densities and colours at points of the cube are read from: the hidden layer over the plane's features and the height's."""
        level = torch.stack([torch.zeros_like(points[:, 2]), points[:, 2]], dim=-1)
        across = F.grid_sample(planes.ground[None], points[None, None, :, :2], align_corners=False)
        up = F.grid_sample(planes.heights[None, :, :, None], level[None, None], align_corners=False)
        return self.mlp.hidden(across[0, :, 0], up[0, :, 0])

    def density(self, feature: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        """Raw densities of features, before the activation, per unit of the cube."""
        return self.mlp.density(feature)

    def colour(self, feature: Float[Tensor, "n f"], light: Float[Tensor, " s"] | None = None) -> Float[Tensor, "n c"]:
        """Colours of features in [0, 1], in a light (None: the zero code, as published for views from above)."""
        return self.mlp.colour(feature, feature.new_zeros(self.config.w_dim) if light is None else light)

    def upscale(self, features: Float[Tensor, "c h w"], around: bool = False) -> Float[Tensor, "3 h2 w2"]:
        """Features to a picture in [0, 1] of twice the size; ``around``: its left and right borders meet, as a panorama's do."""
        if not around:
            return self.sr_module(features[None])[0]
        wide = torch.cat([features[..., -_BESIDE:], features, features[..., :_BESIDE]], dim=-1)
        return self.sr_module(wide[None])[0][..., 2 * _BESIDE : -2 * _BESIDE]

    def _fix_state_dict_keys_on_load(self, state_dict: dict[str, Any]) -> None:
        """transformers 5 calls ``layer`` of DINOv3 ``model.layer``: names of the other release are renamed, in place."""
        new = any(name.startswith("backbone.model.layer.") for name in self.state_dict())
        own, other = ("backbone.model.layer.", "backbone.layer.")[:: 1 if new else -1]
        for name in [n for n in state_dict if n.startswith(other)]:
            state_dict[own + name.removeprefix(other)] = state_dict.pop(name)


LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "num_register_tokens": 4, "patch_size": 16, "layer_norm_eps": 1e-5,
}  # fmt: skip
"""Settings of DINOv3 ViT-L/16, the published backbone."""


def sample_sky(sky: Float[Tensor, "c rows cols"], along: Float[Tensor, "*rays 3"]) -> Float[Tensor, "*rays c"]:
    """What a sky shows along unit vectors of the published frame, black beyond 100 degrees from the zenith.

    Rows reach from -180 to 180 degrees about the zenith (0 east, 90 south) with both ends the same direction. Columns begin
    at the zenith; 1.8 times as many (rounded down) as there are would end at the nadir.
    """
    columns = sky.shape[-1]
    cols = torch.acos(along[..., 2].clamp(-1, 1)) / torch.pi * (columns + int(columns * 0.8) - 1)
    turn = torch.atan2(along[..., 1], along[..., 0]) / torch.pi
    at = torch.stack([cols / (columns - 1) * 2 - 1, turn], dim=-1).reshape(1, 1, -1, 2)
    found = F.grid_sample(sky[None], at, align_corners=True)[0, :, 0]
    return found.T.unflatten(0, along.shape[:-1])
