"""Representation alignment: a middle layer of the denoiser is to know what a frozen network sees in the clean image.

Yu et al. 2025 (REPA, https://arxiv.org/abs/2410.06940), equation 6: the mean over cells of the cosine between a small perceptron of the hidden
state and the features. The features are EfficientNet-lite0's at stride 16, whose cells are exactly the denoiser's tokens. They are brought to mean 0
and deviation 1 in each channel first: a convolutional network's share a large mean direction that says nothing about a picture.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..models.denoiser import LatentDenoiser
from ..models.features import EfficientNetLite0

_LEVEL = 3
"""Of the pyramid: stride 16, 112 channels."""


class Alignment(nn.Module):
    """Listens to block number ``block`` (from 1) of a denoiser; only its perceptron is trained, and left behind with the training.

    Raises InputError for a block that there is not.
    """

    def __init__(self, unet: LatentDenoiser, *, block: int):
        super().__init__()
        if not 1 <= block <= len(unet.blocks):
            raise InputError(f"align.block is {block}; this denoiser has blocks 1 to {len(unet.blocks)}")
        width, features = unet.config.width, EfficientNetLite0.pyramid_channels[_LEVEL]
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, features))
        self._heard: list[Tensor] = []
        self._seer: list[EfficientNetLite0] = []  # in a list: frozen, and no part of a checkpoint
        unet.blocks[block - 1].register_forward_hook(self._listen)

    def _listen(self, block: nn.Module, given: Any, hidden: Tensor) -> None:
        if torch.is_grad_enabled():
            self._heard.append(hidden)

    @torch.no_grad()
    def targets(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n f"]:
        """What is seen in each cell of 16 x 16 pixels of images in [0, 1], row by row; standardised over the batch."""
        if not self._seer:
            self._seer.append(EfficientNetLite0.from_installed(size=None))
        seen = self._seer[0].to(image.device).pyramid(image, normalise=False)[_LEVEL]
        return F.batch_norm(seen.float(), None, None, training=True).flatten(2).transpose(1, 2)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """1 - the mean cosine (0 at best, 1 for what knows nothing) of what was heard in the last pass of the denoiser."""
        hidden = self._heard.pop()
        self._heard.clear()
        return 1 - F.cosine_similarity(self.head(hidden).float(), self.targets(image), dim=-1).mean()
