"""A discriminator of patches for the autoencoder, and a loss of frequencies.

Both networks are trained in one backward pass and by one optimizer: what the autoencoder gains from the discriminator is taken with the
discriminator's weights held fixed, what the discriminator learns with the images held fixed. So a checkpoint holds both, and a run resumes
bit for bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

_CALM = 1e-4  # added to the adversarial gradient's norm
_MOST = 1e4  # of the adaptive weight


class PatchDiscriminator(nn.Module):
    """Scores (b, 1, h', w') of overlapping patches of images (b, bands, h, w), high for real ones.

    The 70x70 network of Isola et al. (2017, section 3.2.2 and appendix 6.1.2) with ``layers=3``; group normalisation in the place of batch
    normalisation, so that an image's scores do not depend on the others.
    """

    def __init__(self, bands: int = 3, *, width: int = 64, layers: int = 3):
        super().__init__()
        made: list[nn.Module] = [nn.Conv2d(bands, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(1, layers + 1):
            out = width * min(2**level, 8)
            stride = 2 if level < layers else 1
            made += [
                nn.Conv2d(channels, out, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, out),
                nn.LeakyReLU(0.2),
            ]
            channels = out
        self.body = nn.Sequential(*made, nn.Conv2d(channels, 1, 4, padding=1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 _ _"]:
        """Images in [-1, 1] to scores."""
        return self.body(x)


class Rivals(nn.Module):
    """An autoencoder and the discriminator that is trained with it."""

    def __init__(self, autoencoder: nn.Module, discriminator: nn.Module):
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def believed(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """What the autoencoder minimises: minus the mean score of its images; gradients reach the images only."""
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        scores: Any = functional_call(self.discriminator, fixed, (y,))
        return -scores.mean()

    def told_apart(self, real: Float[Tensor, "b c h w"], made: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """What the discriminator minimises, the hinge loss (Lim & Ye 2017, eq. 7-8): gradients reach its weights only."""
        return 0.5 * (
            F.relu(1 - self.discriminator(real.detach())).mean() + F.relu(1 + self.discriminator(made.detach())).mean()
        )


def adaptive_weight(rebuilt: Tensor, adversarial: Tensor, last: Tensor) -> Float[Tensor, ""]:
    """|d rebuilt / d last| / (|d adversarial / d last| + 1e-4), at most 1e4: both losses pull alike at the decoder's last layer.

    Esser et al. 2021 (VQGAN), eq. 7, as latent diffusion uses it (Rombach et al. 2022, appendix G).
    """
    ours, theirs = (torch.autograd.grad(value, last, retain_graph=True)[0].float() for value in (rebuilt, adversarial))
    return (ours.norm() / (theirs.norm() + _CALM)).clamp(max=_MOST).detach()


def focal_frequency(
    y: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], *, alpha: float | int = 1.0
) -> Float[Tensor, ""]:
    """Mean squared distance of the spectra, frequencies weighted by their own distance ** ``alpha`` over the image's greatest.

    Focal frequency loss (Jiang et al. 2021, eq. 6-9): what is rebuilt worst, mostly fine texture, counts most. Spectra are orthonormal, so that with
    ``alpha=0`` it is the mean squared error of the pixels.
    """
    distance = (torch.fft.fft2(y.float(), norm="ortho") - torch.fft.fft2(x.float(), norm="ortho")).abs().square()
    weight = distance.detach().sqrt() ** alpha
    weight = weight / weight.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    return (weight * distance).mean()
