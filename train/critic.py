"""A critic that looks through a frozen network: what a few-step student has to convince.

Projected discriminators (Sauer et al. 2021, section 3): small trained heads on feature maps of EfficientNet-lite0, which never changes, so that the
critic sees objects from the first step on and cannot learn the training images by heart. What was asked for enters by projection (Miyato & Koyama
2018, eq. 3), as in the few-step students of Sauer et al. 2023 (adversarial diffusion distillation, section 3.2).
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from ..models.features import EfficientNetLite0

LEVELS = (1, 2, 3, 4)
"""Of the pyramid: strides 4, 8, 16 and 32."""


class Head(nn.Module):
    """Scores (b, n) of the n places of feature maps (b, channels, h, w), for what was asked (b, asked)."""

    def __init__(self, channels: int, asked: int, *, width: int = 64):
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 1)
        self.look = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.GroupNorm(8, width),
            nn.LeakyReLU(0.2),
        )
        self.real = nn.Conv2d(width, 1, 1)
        self.fits = nn.Linear(asked, width)

    def forward(self, features: Float[Tensor, "b c h w"], asked: Float[Tensor, "b a"]) -> Float[Tensor, "b n"]:
        """High where a place looks real and fits what was asked."""
        seen = self.look(self.enter(features))
        fits = (self.fits(asked)[:, :, None, None] * seen).sum(1, keepdim=True) / sqrt(seen.shape[1])
        return (self.real(seen) + fits).flatten(1)


class Critic(nn.Module):
    """Heads on the frozen network, one for each of ``LEVELS``.

    Args:
        text: size of a token's state.
        vector: size of the vector of place and acquisition.
        width: of a head.
    """

    def __init__(self, text: int, vector: int, *, width: int = 64):
        super().__init__()
        self.asked = nn.Sequential(nn.Linear(text + vector, 2 * width), nn.SiLU())
        channels = EfficientNetLite0.pyramid_channels
        self.heads = nn.ModuleList(Head(channels[level], 2 * width, width=width) for level in LEVELS)
        self._seer: list[EfficientNetLite0] = []  # in a list: frozen, and no part of a checkpoint

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What the frozen network sees in images in [0, 1]: maps whose values have a mean square of 1 in every place."""
        if not self._seer:
            self._seer.append(EfficientNetLite0.from_installed(size=None).to(images.device))
        levels = self._seer[0].pyramid(images)
        return [levels[level] * sqrt(levels[level].shape[1]) for level in LEVELS]

    def forward(
        self,
        features: Sequence[Tensor],
        tokens: Float[Tensor, "b l d"],
        mask: Bool[Tensor, "b l"],
        vector: Float[Tensor, "b v"],
    ) -> list[Tensor]:
        """Scores of the places of every level, (b, n) each."""
        kept = mask.to(tokens.dtype)[..., None]
        words = (tokens * kept).sum(1) / kept.sum(1).clamp_min(1)
        asked = self.asked(torch.cat([words, vector], dim=1))
        return [head(level, asked) for head, level in zip(self.heads, features, strict=True)]

    def held(self, *given: Any) -> list[Tensor]:
        """The same with weights that take no gradients: for what is to be convinced."""
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        scores: Any = functional_call(self, fixed, given)
        return scores


def convincing(scores: Sequence[Tensor]) -> Float[Tensor, ""]:
    """What a maker of images minimises: minus the mean score, every level counting alike."""
    return -torch.stack([s.mean() for s in scores]).mean()


def told_apart(real: Sequence[Tensor], made: Sequence[Tensor]) -> Float[Tensor, ""]:
    """What the critic minimises: the hinge loss (Lim & Ye 2017, eq. 7-8) at every place, every level counting alike."""
    each = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for r, m in zip(real, made, strict=True)]
    return 0.5 * torch.stack(each).mean()


def steepness(scores: Sequence[Tensor], features: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Squared gradient of the mean scores with respect to the features of real images, the mean over images and levels: R1 (Mescheder et al. 2018, eq. 9)."""
    total = torch.stack([s.mean(1).sum() for s in scores]).sum()
    slopes = torch.autograd.grad(total, list(features), create_graph=True)
    return torch.stack([g.square().sum(dim=(1, 2, 3)).mean() for g in slopes]).mean()
