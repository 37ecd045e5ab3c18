"""The light of a published ground-view model: the sky of a reference panorama, with its mask or without, or the 270 numbers themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError
from ..models.sky_histogram import find_sky
from ..render.environment import SKY_BINS, read_panorama
from ..render.light import tone_map
from ..types import GeoImage
from .density_models import GroundModel

PANO_SIZE = (512, 128)
"""Pixels of the panoramas that the models saw in training; reference panoramas are brought to it."""
FIND = "find"
"""Instead of a mask: look for the sky."""
_GREY = 0.2  # linear value that the median of an HDR panorama is shown at


class Reference(NamedTuple):
    """A reference panorama from files: what ``light`` and ``sky`` of a pipeline call take."""

    light: Image.Image
    sky: Image.Image | str


def open_reference(panorama: str | os.PathLike[str], sky: str | os.PathLike[str] | None = None) -> Reference:
    """Open a reference panorama for :class:`DensityGroundPipeline`.

    Args:
        panorama: .jpg or .png as it is shown, or .exr, which is shown with its median at 0.2 of linear light.
        sky: picture of its sky mask, white where there is sky; None: the sky is looked for (:func:`find_sky`).

    Raises:
        InputError: a file is missing or no picture, or the mask has another shape than the panorama.
    """
    path = Path(panorama)
    if path.suffix.lower() == ".exr":
        linear = read_panorama(path)
        shown = tone_map(linear * (_GREY / linear.mean(-1).median().clamp_min(1e-6)))
        light = Image.fromarray((shown.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    else:
        light = _opened(path, "panorama").convert("RGB")
    if sky is None:
        return Reference(light, FIND)
    mask = _opened(Path(sky), "sky mask").convert("L")
    if abs(mask.width / mask.height - light.width / light.height) > 0.02 * light.width / light.height:
        raise InputError(
            f"the sky mask is {mask.width} x {mask.height} pixels for a panorama of {light.width} x {light.height}; "
            "give the mask of this panorama"
        )
    return Reference(light, mask)


def light_histogram(
    ground: GroundModel, light: Any, sky: Any, histogram: Any
) -> tuple[Float[Tensor, " bins"], list[str]]:
    """The histogram that a model takes, from one of its ways to be told, and what was assumed.

    Args:
        ground: the model.
        light: a panorama: GeoImage, PIL image or array (h, w, 3).
        sky: its mask, likewise, or "find".
        histogram: 270 numbers, instead of both.

    Raises:
        InputError: none or both were given, there is no mask, or it shows no sky.
    """
    if histogram is not None:
        if light is not None or sky is not None:
            raise InputError("both a histogram and a panorama were given for the light; give one of them")
        counts = torch.as_tensor(np.asarray(histogram), dtype=torch.float32)
        if counts.shape != (SKY_BINS,) or not bool(torch.isfinite(counts).all()):
            raise InputError(f"the histogram has shape {tuple(counts.shape)}; give {SKY_BINS} finite numbers")
        return counts, []
    if light is None:
        raise InputError(
            "no light was given; give a street panorama as light=... with its sky mask as sky=..., or a histogram"
        )
    if sky is None:
        raise InputError(
            "the light is a panorama without a sky mask; give sky=..., a picture that is white where there is sky, or sky='find'"
        )
    shown = _pil(light, "RGB")
    picture = _display(shown.resize(PANO_SIZE, Image.Resampling.BICUBIC))
    if isinstance(sky, str):
        if sky != FIND:
            raise InputError(f"sky is {sky!r}; give a mask, or 'find'")
        found = find_sky(_display(shown))
        mask = torch.nn.functional.interpolate(found[None, None].float(), PANO_SIZE[::-1], mode="area")[0, 0]
        return ground.histogram(picture, (mask > 0.5).float()), [
            f"the sky of the light was looked for: {100 * float(found.float().mean()):.0f} percent of the panorama"
        ]
    return ground.histogram(picture, _display(_pil(sky, "L").resize(PANO_SIZE, Image.Resampling.BICUBIC))), []


def _display(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)


def _opened(path: Path, what: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist; give a .jpg, .png or .exr") from None
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{what} {path} cannot be read as a picture; check that it is complete") from error


def _pil(picture: Any, mode: str) -> Image.Image:
    if isinstance(picture, GeoImage):
        picture = picture.to_pil()
    if isinstance(picture, np.ndarray):
        scaled = picture * 255.0 if picture.dtype.kind in "fb" else picture
        picture = Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))
    if not isinstance(picture, Image.Image):
        raise InputError(f"the light or its sky is a {type(picture).__name__}; give a PIL image or an array (h, w)")
    return picture.convert(mode)
