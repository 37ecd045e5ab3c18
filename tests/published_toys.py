"""Small checkpoints in the layout that was published: spectral norm as weight_orig, u and v; equalised learning rates."""

import math
import re
from functools import cache

import torch

from gensat.models.sat2density import Sat2Density
from gensat.models.sat2density_plus import Sat2DensityPlus

PLAIN = {
    "levels": 8, "density_width": 2, "density_blocks": 1, "painter_width": 2, "painter_blocks": 2, "painter_up": 6,
    "style_dim": 5, "style_width": 7, "style_layers": 3, "tile_metres": 30.0, "elevation": 90.0,
}  # fmt: skip
PLUS = {
    "z_dim": 6, "w_dim": 6, "mapping_layers": 2, "sky_layers": 2, "encoder_widths": (3, 4, 4, 4, 4),
    "plane_widths": (4, 4, 3, 3), "sky_widths": (4, 4, 4, 4, 4, 4), "planes": 4, "hidden": 8, "colours": 5, "upscaler": (4, 3),
    "coarse": 6, "fine": 5,
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
