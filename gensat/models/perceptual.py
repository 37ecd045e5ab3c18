"""Perceptual distances between pairs of images: ELPD, which needs no download, and LPIPS from files that the user has.

Both are equation 1 of LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924): feature maps scaled to unit length
in every pixel, squared differences weighted by channel, averaged over space, summed over layers. LPIPS looks through
AlexNet and was weighted by human judgements. ELPD looks through EfficientNet-lite0, and its weights were calibrated on
known distortions (``gensat.train.perceptual``): it orders distortions of satellite images, and is no human's opinion.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from gensat.errors import InputError, ModelError
from gensat.hub.installed import installed_file
from gensat.models.features import EfficientNetLite0
from gensat.models.inception import read_tensors, short_hash

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, for images in [-1, 1]
_LEAST = 32  # pixels: below, the coarsest maps are a single pixel


def channel_differences(
    a: Sequence[Float[Tensor, "b _ _ _"]], b: Sequence[Float[Tensor, "b _ _ _"]]
) -> Float[Tensor, "b c"]:
    """Squared differences of two pyramids with unit-length pixels, averaged over space: all layers' channels in a row."""
    return torch.cat([(x - y).square().mean((2, 3)) for x, y in zip(a, b, strict=True)], dim=1)


class Elpd(nn.Module):
    """Offline perceptual distance of pairs of RGB images in [0, 1]; 0 for equal ones, about 1 for unrelated ones.

    Images are compared at their own size, 32 pixels a side or more.
    """

    weights: Tensor

    def __init__(self, weights: Float[Tensor, " c"], backbone: EfficientNetLite0 | None = None):
        super().__init__()
        channels = sum(EfficientNetLite0.pyramid_channels)
        if weights.shape != (channels,) or not bool((weights >= 0).all()):
            raise ModelError(f"ELPD takes {channels} weights of 0 or more, not {tuple(weights.shape)}; calibrate again")
        self.backbone = backbone or EfficientNetLite0.from_installed(size=None)
        if self.backbone.size is not None:
            raise InputError(
                f"ELPD compares images at their own size; give a backbone with size=None, not {self.backbone.size}"
            )
        self.register_buffer("weights", weights.float())
        self.name = f"elpd ({short_hash({'weights': weights})}) of {self.backbone.name}"

    @classmethod
    def from_assets(cls, backbone: EfficientNetLite0 | None = None) -> "Elpd":
        """The shipped calibration."""
        path = Path(str(files("gensat.assets"))) / "evaluation" / "elpd" / "weights.safetensors"
        if not path.is_file():
            raise ModelError(f"{path.name} of ELPD is missing; run gensat train perceptual")
        return cls(load_file(path)["weights"], backbone)

    def forward(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b2 3 h2 w2"]) -> Float[Tensor, " b"]:
        """Distance of each pair."""
        check_pairs(a, b, least=_LEAST)
        return channel_differences(self.backbone.pyramid(a), self.backbone.pyramid(b)) @ self.weights


class Lpips(nn.Module):
    """LPIPS v0.1 with AlexNet, of pairs of RGB images in [0, 1]."""

    name = "lpips-alex v0.1"
    weights: Tensor
    shift: Tensor
    scale: Tensor
    _taps = (1, 4, 7, 9, 11)  # after each ReLU

    def __init__(self, net: Any, linear: Sequence[Float[Tensor, " c"]]):
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.register_buffer("weights", torch.cat(list(linear)))
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    @classmethod
    def from_file(cls, path: str | Path) -> "Lpips":
        """``path`` is torchvision's AlexNet (alexnet-owt-7be5be79.pth); the channel weights are those in torchmetrics.

        Raises:
            ModelError: a file is missing, damaged or of another network.
        """
        from torchvision.models import alexnet

        tensors = read_tensors(Path(path))
        net = alexnet(weights=None)
        try:
            net.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"{path} is not torchvision's AlexNet; give alexnet-owt-7be5be79.pth") from error
        lin = installed_file("torchmetrics", "functional/image/lpips_models/alex.pth", install="gensat[eval]")
        linear = read_tensors(lin)
        return cls(net.features, [linear[f"lin{i}.model.1.weight"].flatten() for i in range(5)])

    def train(self, mode: bool = True) -> "Lpips":
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    def forward(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b2 3 h2 w2"]) -> Float[Tensor, " b"]:
        """Distance of each pair."""
        check_pairs(a, b, least=_LEAST)
        return channel_differences(self._levels(a), self._levels(b)) @ self.weights

    def _levels(self, images: Tensor) -> list[Tensor]:
        x = (images * 2 - 1 - self.shift) / self.scale
        levels = []
        for i, layer in enumerate(self.net):
            x = layer(x)
            if i in self._taps:
                levels.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return levels


def check_pairs(a: Tensor, b: Tensor, *, least: int) -> None:
    """Raises InputError unless both hold images of one size, at least ``least`` pixels a side, in [0, 1]."""
    if a.shape != b.shape or len(a) == 0:
        raise InputError(f"images {tuple(a.shape)} and {tuple(b.shape)} differ in shape; give pairs of equal size")
    if min(a.shape[-2:]) < least:
        raise InputError(f"images of {a.shape[-1]} x {a.shape[-2]} px are too small; give at least {least} px a side")
    low, high = min(float(a.min()), float(b.min())), max(float(a.max()), float(b.max()))
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InputError(f"values span {low:.3g} to {high:.3g}; scale images to [0, 1] before comparing them")
