"""Linear probes on frozen EfficientNet-lite0 features: which land use, which place, which ground sampling distance
does an image show?

A probe is trained on real images and then asked about generated ones, so it stays linear: what it can tell is what
the features hold. For lists of images of many sizes, hand its methods to ``gensat.models.features.over_images``.
"""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from gensat.errors import InputError
from gensat.models.features import EfficientNetLite0, resize_square

_LEVELS = (1, 2, 3, 4)  # strides 4 to 32
FEATURES_PER_SIZE = EfficientNetLite0.num_features + 2 * sum(EfficientNetLite0.pyramid_channels[i] for i in _LEVELS)


class SceneProbe(ModelMixin, ConfigMixin):
    """Standardised features, one linear layer.

    Each image is described at every size in ``sizes`` (resized, as a whole) by the pooled features and the mean and
    deviation over space of four pyramid levels; or, where ``window`` is set, by the average description of its
    ``window`` x ``window`` parts at native pixel size (as many as lie side by side), which keeps the ground
    sampling distance. ``outputs`` are class names, or the single name ``log2_gsd`` (log2 of metres per pixel).
    """

    @register_to_config
    def __init__(self, outputs: Sequence[str], sizes: Sequence[int] = (224,), window: int | None = None):
        super().__init__()
        if (window is None) != bool(sizes):
            raise InputError(f"a probe looks at sizes {list(sizes)} or at windows of {window}; give one of the two")
        self.outputs, self.sizes, self.window = tuple(outputs), tuple(sizes), window
        count = FEATURES_PER_SIZE * (len(sizes) or 1)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.linear = nn.Linear(count, len(outputs))

    @property
    def name(self) -> str:
        """What stands beside a figure as its extractor, e.g. ``probe of efficientnet-lite0@224+256``."""
        looks = f"{self.window}px" if self.window else "+".join(map(str, self.sizes))
        return f"probe of efficientnet-lite0@{looks}"

    def describe(self, images: Float[Tensor, "b 3 h w"], *, backbone: EfficientNetLite0) -> Float[Tensor, "b f"]:
        """Features of RGB images in [0, 1] that ``forward`` takes; ``backbone`` must leave sizes alone
        (``size=None``).
        """
        if backbone.size is not None:
            raise InputError(f"a probe resizes by itself; give it a backbone with size=None, not {backbone.size}")
        if self.window is None:
            return torch.cat([_describe(backbone, resize_square(images, s)) for s in self.sizes], dim=1)
        side = self.window
        height, width = images.shape[-2:]
        if min(height, width) < side:
            raise InputError(f"an image of {width}x{height} px holds no {side} px window; give the probe a larger one")
        parts = (
            images[:, :, : height // side * side, : width // side * side].unfold(2, side, side).unfold(3, side, side)
        )
        b, _, rows, cols = parts.shape[:4]
        windows = parts.permute(0, 2, 3, 1, 4, 5).reshape(b * rows * cols, 3, side, side)
        return _describe(backbone, windows).reshape(b, rows * cols, -1).mean(1)

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b k"]:
        """Class scores (logits), or log2 of the ground sampling distance, of described images."""
        return self.linear((features.to(self.linear.weight.dtype) - self.mean) * self.scale)

    def classify(self, images: Float[Tensor, "b 3 h w"], *, backbone: EfficientNetLite0) -> Int[Tensor, " b"]:
        """Index into ``outputs`` of the likeliest class of each image."""
        return self.forward(self.describe(images, backbone=backbone)).argmax(1)

    def gsd(self, images: Float[Tensor, "b 3 h w"], *, backbone: EfficientNetLite0) -> Float[Tensor, " b"]:
        """Ground sampling distance in metres per pixel that each image looks like; only for a ``log2_gsd`` probe."""
        if self.outputs != ("log2_gsd",):
            raise InputError(f"this probe tells {self.outputs[0]!r} and the like; give one trained for log2_gsd")
        return torch.exp2(self.forward(self.describe(images, backbone=backbone))[:, 0])

    def set_linear(
        self, weight: Float[Tensor, "k f"], bias: Float[Tensor, " k"], *, mean: Tensor, scale: Tensor
    ) -> "SceneProbe":
        """Take a fitted solution on features standardised as ``(x - mean) * scale``."""
        with torch.no_grad():
            for own, new in (
                (self.linear.weight, weight),
                (self.linear.bias, bias),
                (self.mean, mean),
                (self.scale, scale),
            ):
                own.copy_(new)
        return self


def _describe(backbone: EfficientNetLite0, images: Tensor) -> Tensor:
    pooled, levels = backbone.everything(images)
    parts = [pooled.float()]
    for i in _LEVELS:
        level = levels[i].float()
        parts += [level.mean((2, 3)), level.std((2, 3), unbiased=False)]
    return torch.cat(parts, dim=1)
