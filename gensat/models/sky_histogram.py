"""The sky of a reference panorama as Sat2Density takes it; Sat2Density++ takes :func:`gensat.render.environment.sky_histogram`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError


def raw_histogram(
    picture: Float[Tensor, "h w 3"], sky: Bool[Tensor, "h w"] | Float[Tensor, "h w"]
) -> Float[Tensor, " bins"]:
    """270 raw counts, as Sat2Density was trained on: channels blue, green, red; per channel 100 bins without the first ten.

    Pixels that are no sky count as black. The bins of a channel go from its own smallest to its own largest value, and counts
    are not normalised, so the result depends on exposure and on the number of pixels: give panoramas of the model's size
    (512 x 128), which the published weights saw.

    Args:
        picture: display values, 0 to 1.
        sky: which pixels are sky, or how much of each (0 to 1).

    Raises:
        InputError: no pixel is sky, or the sizes differ.
    """
    if picture.shape[:2] != sky.shape:
        raise InputError(
            f"the sky mask is {tuple(sky.shape)} for a panorama of {tuple(picture.shape[:2])} (rows, columns)"
        )
    if not bool((sky > 0).any()):
        raise InputError("the reference panorama shows no sky; give another, or its sky mask")
    masked = picture.float() * sky[..., None].float()
    return torch.cat([torch.histc(masked[..., channel])[10:] for channel in (2, 1, 0)])
