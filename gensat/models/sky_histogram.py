"""The sky of a reference panorama: where it is, and its histogram as Sat2Density takes it; Sat2Density++ and Sat3DGen take
:func:`gensat.render.environment.sky_histogram`."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
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


_ROWS = 256  # of the picture that the sky is sought in
_SMOOTH = 0.16  # largest step of a colour from pixel to pixel inside a sky, display values
_TOP = 0.12  # share of the height from the top that every piece of sky reaches into
_LEAST = 0.05  # share of the upper half below which there is no sky


def find_sky(picture: Float[Tensor, "h w 3"], horizon: float = 0.5) -> Bool[Tensor, "h w"]:
    """An estimate of where the sky of a panorama is: what is smooth, and connected to the top without a step of colour.

    Clouds with hard edges, wires and thin branches are lost or bridged by a pixel or two; a smooth bright facade that
    reaches the top counts as sky. A mask that was drawn or segmented is better.

    Args:
        picture: display values, 0 to 1; left and right border meet.
        horizon: row of it as a share of the height; there is no sky below.

    Raises:
        InputError: none was found.
    """
    height, width = picture.shape[:2]
    rows = min(_ROWS, height)
    cols = max(1, round(width * rows / height))
    small = torch.nn.functional.interpolate(picture.movedim(-1, 0)[None].float(), (rows, cols), mode="area")[0].numpy()
    small = ndimage.gaussian_filter(small, (0, 0.7, 0.7), mode=("nearest", "nearest", "wrap"))
    steps = [ndimage.sobel(small, axis, mode=mode) / 8 for axis, mode in ((1, "nearest"), (2, "wrap"))]
    smooth = np.hypot(*steps).max(0) < _SMOOTH
    smooth[round(rows * horizon) :] = False
    pieces, _ = ndimage.label(np.concatenate([smooth, smooth], axis=1))  # twice, so that pieces meet across the seam
    high = np.unique(pieces[: max(1, round(rows * _TOP))])
    found = np.isin(pieces, high[high > 0])
    found = found[:, :cols] | found[:, cols:]
    found = (
        ndimage.binary_dilation(ndimage.binary_closing(found, iterations=2) | found)
        & (np.arange(rows) < rows * horizon)[:, None]
    )
    if found.mean() < _LEAST / 2:
        raise InputError("no sky was found in the panorama; give its mask")
    mask = torch.from_numpy(found)[None, None].float()
    return torch.nn.functional.interpolate(mask, (height, width), mode="nearest")[0, 0] > 0.5
