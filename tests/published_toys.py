"""Small checkpoints in the layout that was published: spectral norm as weight_orig, u and v; equalised learning rates."""

import math
import re
from functools import cache

import torch

from gensat.models.sat2density import Sat2Density
from gensat.models.sat2density_plus import Sat2DensityPlus
from gensat.models.sat3dgen import Sat3DGen

PLAIN = {
    "levels": 8, "density_width": 2, "density_blocks": 1, "painter_width": 2, "painter_blocks": 2, "painter_up": 6,
    "style_dim": 5, "style_width": 7, "style_layers": 3, "tile_metres": 30.0, "elevation": 90.0,
}  # fmt: skip
PLUS = {
    "z_dim": 6, "w_dim": 6, "mapping_layers": 2, "sky_layers": 2, "encoder_widths": (3, 4, 4, 4, 4),
    "plane_widths": (4, 4, 3, 3), "sky_widths": (4, 4, 4, 4, 4, 4), "planes": 4, "hidden": 8, "colours": 5, "upscaler": (4, 3),
    "coarse": 6, "fine": 5,
}  # fmt: skip
GEN = {
    "dino": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 48, "num_register_tokens": 4,
        "patch_size": 16, "layer_norm_eps": 1e-5,
    },
    "widths": [32, 32, 32, 64, 64], "sky_widths": [32, 32, 32, 32, 32, 32, 64], "plane": 4, "hidden": 8, "colours": 5, "w_dim": 6,
    "mapping_layers": 2, "upscaler": 8, "coarse": 6, "fine": 5,
}  # fmt: skip
GEN_SETTINGS = {
    "_class_name": "Sat3DGen",
    "opt": {
        "backbone": "dinov3-large-sat", "sr_padding_mode": "reflect", "representation_type": "oneplane", "pad": 0.125,
        "network": {
            "no_hidden_states": True, "no_cls_token": True, "color_channels": 5, "sr_factor": 2,
            "point_sampling_kwargs": {"aabb_strict": True, "data_type": "vigor", "num_importance": 5, "num_points": 6},
            "ray_marching_kwargs": {
                "density_clamp_mode": "mipnerf", "scale_color": False, "use_mid_point": True, "use_white_background": False,
            },
        },
    },
}  # fmt: skip


@cache
def plain_model() -> Sat2Density:
    torch.manual_seed(4)
    return Sat2Density(**PLAIN).requires_grad_(False).eval()


@cache
def plus_model() -> Sat2DensityPlus:
    torch.manual_seed(5)
    model = Sat2DensityPlus(**PLUS).requires_grad_(False).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("affine.bias"):
            parameter.fill_(1.0)
        elif name.endswith("noise_strength"):
            parameter.fill_(0.3)
    return model


@cache
def gen_model() -> Sat3DGen:
    torch.manual_seed(6)
    model = Sat3DGen(**GEN).requires_grad_(False).eval()
    # random weights of decoders make features near 0; a field that is here opaque and there clear shows more
    model.decoder.conv_out.weight.mul_(8)
    model.mlp.net1_density.weight.mul_(60)
    model.sky_decoder.conv_out.weight.mul_(8)
    return model


def gen_checkpoint() -> dict:
    """The toy under the published names: those of latent diffusion's decoders, and of DINOv3 in transformers 4."""
    tensors = {"point_representer.oneplane_axes": torch.eye(3)[None]}
    for name, value in gen_model().state_dict().items():
        name = re.sub(r"^backbone\.(model\.)?", "unet_model.dino_model.", name)
        if found := re.match(r"(sky_)?decoder\.", name):
            last = len(GEN["sky_widths" if found[1] else "widths"]) - 1
            name = re.sub(r"up_blocks\.(\d)", lambda m, last=last: f"up.{last - int(m[1])}", name)
            for new, old in (
                ("resnets.", "block."), ("mid_block.block.0", "mid.block_1"), ("mid_block.block.1", "mid.block_2"),
                ("upsamplers.0", "upsample"), ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
                ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"), ("mid_block.attentions.0.to_", "mid.attn_1."),
                ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"),
            ):  # fmt: skip
                name = name.replace(new, old)
            if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name):
                value = value[:, :, None, None]
            name = name if found[1] else "unet_model." + name
        tensors[name] = value.clone()
    return tensors


def plain_checkpoint() -> dict:
    tensors = {}
    draw = torch.Generator().manual_seed(9)
    for name, value in plain_model().state_dict().items():
        normed = name.endswith("conv.weight") and value.ndim == 4 and "up_end" not in name
        if not normed:
            tensors[name] = value.clone()
            continue
        u, v = torch.randn(value.shape[0], generator=draw), torch.randn(value[0].numel(), generator=draw)
        sigma = u @ (value.flatten(1) @ v)
        # orig / (u . orig v) has to be the weight: orig = s weight gives s weight / (s sigma), so u is divided by sigma
        tensors |= {name + "_orig": 3 * value, name + "_u": u / sigma, name + "_v": v}
    return {"epoch": 3, "netG": tensors, "netD": {"a.weight": torch.zeros(2)}}


def plus_checkpoint() -> dict:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    tensors = {
        "rendering_resolution": torch.tensor(64),
        "point_representer.triplane_axes": torch.eye(3).repeat(3, 1, 1),
        "encoder.alpha": torch.tensor(-1.0),
        "post_cnn.resample_filter": torch.outer(taps, taps) / 64,
    }
    for name, value in plus_model().state_dict().items():
        styled = re.search(r"\.conv[01]\.weight$", name) and not name.startswith("encoder.")
        stored = value.clone()
        if name.endswith(".weight") and value.ndim >= 2 and not styled:
            stored = stored * math.sqrt(value[0].numel())
        if re.search(r"mapping\.fc\d", name):
            stored = stored * 100
        tensors[name] = stored
    return tensors
