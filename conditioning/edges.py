"""Edges as a condition: Canny's from a picture, or a user's own drawing."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import InputError


def canny_edges(
    image: Float[Tensor, "b 3 h w"], *, low: float | int = 0.1, high: float | int = 0.2, sigma: float | int = 1.0
) -> Float[Tensor, "b 1 h w"]:
    """Edges (0 or 1) of an RGB picture in [0, 1] by Canny 1986.

    ``low`` and ``high`` are thresholds on the Sobel gradient after a blur of ``sigma`` pixels (a step from 0 to 1 is
    about 2.6). Raises InputError for values outside [0, 1] and for thresholds that are not 0 < low <= high.
    """
    if not 0 < low <= high:
        raise InputError(f"the Canny thresholds are {low} and {high}; give 0 < low <= high")
    if not sigma > 0:
        raise InputError(f"the Canny blur is {sigma} pixels; give a number above 0")
    _check_range(image, "the picture")
    from kornia.filters import canny  # here: half a second that only who asks for edges should wait

    window = 2 * round(2 * sigma) + 1
    return canny(image, low, high, kernel_size=(window, window), sigma=(sigma, sigma))[1]


def load_edges(source: str | Path | np.ndarray | Image.Image, *, width: int, height: int) -> Float[Tensor, "h w"]:
    """A user's edge picture (0 = none, 1 = edge) as float32 of the canvas's size.

    Takes a file, a PIL image or an array (H, W) or (H, W, 3): integers count up to their type's largest value, floats
    are in [0, 1] already, colours become grey. Raises InputError for an unreadable file, another size, or other values.
    """
    name = f"the edge picture {source}" if isinstance(source, (str, Path)) else "the edge picture"
    values = source if isinstance(source, np.ndarray) else _pixels(source, name)
    if values.dtype.kind in "ui":
        values = values / np.float32(np.iinfo(values.dtype).max)
    if values.ndim == 3 and values.shape[2] in (1, 3):
        values = values.mean(axis=2)
    if values.ndim != 2:
        raise InputError(f"{name} has shape {values.shape}; give (H, W) or (H, W, 3)")
    if values.shape != (height, width):
        raise InputError(
            f"{name} is {values.shape[1]} x {values.shape[0]} pixels and the canvas {width} x {height}; "
            "resize it, or draw it at the size of the canvas"
        )
    edges = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    _check_range(edges, name)
    return edges


def _pixels(source: str | Path | Image.Image, name: str) -> np.ndarray:
    """The pixels of a picture, (H, W) or (H, W, 3)."""
    try:
        picture = source if isinstance(source, Image.Image) else Image.open(source)
        if picture.mode == "I":  # how Pillow opens some 16-bit files
            return np.asarray(picture) / np.float32(65535)
        return np.asarray(picture if picture.mode in ("1", "L", "I;16", "F") else picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be read ({error}); give a PNG, JPEG or TIFF picture") from error


def _check_range(values: Float[Tensor, "..."], name: str) -> None:
    low, high = (float(v) for v in torch.aminmax(values))
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise InputError(f"{name} has values from {low:g} to {high:g}; scale them to 0..1")
