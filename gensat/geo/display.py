"""From any image to a picture for eyes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from gensat.types import GeoImage

_LABEL = 14  # pixels, the height of a line under a picture of a contact sheet


def to_rgb(image: GeoImage, *, stretch: tuple[float | int, float | int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Red, green and blue as uint8.

    The bands are those named (or coloured) red, green and blue, else the first three, else the first one as gray.
    Without ``stretch`` uint8 is shown as stored, float32 within [0, 1] is scaled to 0..255, and everything else is
    stretched linearly from the 2nd to the 98th percentile of the valid pixels of the shown bands together, which
    keeps their colour balance. Pixels that are not valid are black.

    Args:
        image: any GeoImage.
        stretch: (low, high) in physical units, shown as 0 and 255.
    """
    channels = display_channels(image)
    shown = image.array[:, :, channels]
    valid = np.ones(shown.shape[:2], dtype=bool) if image.valid is None else image.valid
    if image.array.dtype == np.uint8 and stretch is None:
        picture = np.where(valid[:, :, None], shown, 0).astype(np.uint8)
    else:
        scale = np.array([image.bands[channel].scale for channel in channels])
        offset = np.array([image.bands[channel].offset for channel in channels])
        values = shown.astype(np.float64) * scale + offset
        low, high = stretch or _range(values[valid], unit=image.array.dtype.kind == "f")
        scaled = (values - low) / (high - low if high > low else 1.0)
        picture = np.round(np.clip(np.where(valid[:, :, None], scaled, 0), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture)


def display_channels(image: GeoImage) -> list[int]:
    """Channels shown as red, green and blue; a single one for gray."""
    roles = [band.role for band in image.bands]
    if {"red", "green", "blue"} <= set(roles):
        return [roles.index(colour) for colour in ("red", "green", "blue")]
    return [0, 1, 2] if len(roles) >= 3 else [0]


def contact_sheet(
    pictures: Sequence[np.ndarray], columns: int, *, side: int = 128, labels: Sequence[object] = ()
) -> Image.Image:
    """Pictures (H, W, 3) uint8 row by row on white, a pixel of white around each, with a label under it where there are any.

    Each picture is scaled until its longer side is ``side`` pixels; cells are as large as the largest.
    """
    small = []
    for picture in pictures:
        scale = side / max(picture.shape[:2])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        small.append(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    tall = max(one.height for one in small)
    width, height = max(one.width for one in small) + 2, tall + 2 + (_LABEL if labels else 0)
    sheet = Image.new("RGB", (columns * width, -(-len(small) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, one in enumerate(small):
        x, y = i % columns * width + 1, i // columns * height + 1
        sheet.paste(one, (x, y))
        if labels:
            draw.text((x + 2, y + tall + 1), str(labels[i]), fill="black")
    return sheet


def _range(values: np.ndarray, *, unit: bool) -> tuple[float, float]:
    if not values.size or (unit and values.min() >= 0 and values.max() <= 1):
        return 0.0, 1.0
    low, high = np.percentile(values, (2, 98))
    return float(low), float(high)
