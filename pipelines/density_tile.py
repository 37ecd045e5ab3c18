"""The tile that a ground-view model takes, cut out of an image in true coordinates, and where the camera stands on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from affine import Affine
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..geo.display import to_rgb
from ..render.frame import SceneFrame
from ..types import GeoImage, Place

SLACK = 0.02
"""Share of a tile's width that an image may be short of it."""


@dataclass(frozen=True, eq=False)
class DensityTile:
    """What a model makes of a tile, kept for all cameras on it.

    Args:
        pixels: (3, h, w) of the tile in [0, 1], row 0 in the (grid) north.
        frame: scene frame with its origin at the tile's centre, on the ground.
        metres: width of the tile.
        held: what the model computed from it: a volume, or planes.
        style: w of the tile's latent, for models that have one.
        high: metres from north to south where the tile is no square.
    """

    pixels: Float[Tensor, "3 h w"]
    frame: SceneFrame
    metres: float
    held: Any = None
    style: Tensor | None = None
    high: float | None = None

    def geo(self, array: np.ndarray, **more: Any) -> GeoImage:
        """An image on the tile's own grid, whatever its number of pixels."""
        if self.frame.crs is None:
            return GeoImage(array, **more)
        wide, high = (v / self.frame.metre for v in (self.metres, self.high or self.metres))
        x, y, _ = self.frame.origin
        transform = Affine(wide / array.shape[1], 0.0, x - wide / 2, 0.0, -high / array.shape[0], y + high / 2)
        return GeoImage(array, crs=self.frame.crs, transform=transform, **more)


def standing(tile: DensityTile, at: Place | tuple[float | int, float | int] | None) -> tuple[float, float]:
    """Metres east and north of the tile's centre of a Place, or of (row, col) in the tile's own pixels; the centre for None.

    Raises:
        InputError: it lies outside, or the tile lies on no place.
    """
    half = tile.metres / 2
    if at is None:
        return 0.0, 0.0
    if isinstance(at, Place):
        east, north = (float(v) for v in tile.frame.local(at.lon, at.lat))
        told = f"({at.lon:.6f}, {at.lat:.6f})"
    else:
        rows, cols = tile.pixels.shape[1:]
        row, col = at
        east, north = (col / cols - 0.5) * tile.metres, (0.5 - row / rows) * tile.metres
        told = f"row {row:g}, column {col:g}"
    if not (math.isfinite(east) and abs(east) < half and abs(north) < half):
        raise InputError(
            f"the camera at {told} stands outside of the tile of {tile.metres:g} m; choose a place inside, or another tile"
        )
    return east, north


def cut_tile(
    image: GeoImage | Image.Image | np.ndarray,
    metres: float | tuple[float, float],
    size: int | tuple[int, int],
    at: Place | None = None,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    bicubic: bool = True,
) -> DensityTile:
    """Cut the tile around a place out of an image.

    A georeferenced image is cut around ``at`` (its centre for None), moved inwards where the image ends; one of a known gsd
    around its centre. Any other picture is taken to be the tile itself, ``metres`` wide.

    Args:
        image: 8 bits, or floats in 0 to 1.
        metres: width of the tile, or its width and height.
        size: its pixels, or its columns and rows.
        at: where the camera will stand.
        offset: metres east and north from the image's centre to the tile's, instead of ``at``.
        bicubic: resampling; else bilinear.

    Raises:
        InputError: the image is smaller than the tile, the place is outside, the picture is not square.
    """
    wide_metres, high_metres = metres if isinstance(metres, tuple) else (metres, metres)
    shape = size if isinstance(size, tuple) else (size, size)
    picture, gsd = _picture(image)
    height, width = picture.height, picture.width
    kind = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    frame, transform = SceneFrame(None), None
    if isinstance(image, GeoImage) and image.crs is not None:
        frame, transform = SceneFrame.around(image), image.transform
    elif at is not None:
        raise InputError(
            "the image lies on no place, so lon and lat mean nothing in it; give (row, col), or an image with a CRS"
        )
    elif gsd is not None:
        transform = Affine(gsd, 0.0, 0.0, 0.0, -gsd, 0.0)
    if transform is None:
        if width != height:
            raise InputError(
                f"the picture is {width} x {height} pixels and says nothing of its scale; give a square tile of {wide_metres:g} m, "
                "or an image with coordinates"
            )
        return DensityTile(_tensor(picture.resize(shape, kind)), frame, wide_metres)
    across, down = transform.a * frame.metre, -transform.e * frame.metre
    wide, high = wide_metres / across, high_metres / down
    if wide > width * (1 + SLACK) or high > height * (1 + SLACK):
        raise InputError(
            f"the image covers {width * across:.1f} x {height * down:.1f} m, the model's tile is {wide_metres:g} m wide; "
            "give a larger image"
        )
    col, row = width / 2 + offset[0] / across, height / 2 - offset[1] / down
    if at is not None:
        x, y = (float(v) for v in frame.to_crs(*frame.local(at.lon, at.lat)))
        col, row = (float(v) for v in ~transform @ (x, y))
        if not (0 <= col <= width and 0 <= row <= height):
            raise InputError(f"({at.lon:.6f}, {at.lat:.6f}) lies outside of the image; choose a place inside")
    col, row = _inside(col, wide, width), _inside(row, high, height)
    box = (max(col - wide / 2, 0), max(row - high / 2, 0), min(col + wide / 2, width), min(row + high / 2, height))
    if frame.crs is not None:
        x, y = (float(v) for v in transform @ (col, row))
        frame = SceneFrame(frame.crs, (x, y, 0.0), frame.metre)
    return DensityTile(_tensor(picture.resize(shape, kind, box=box)), frame, wide_metres, high=high_metres)


def image_extent(image: GeoImage) -> tuple[float, float, SceneFrame]:
    """Metres from west to east and from south to north of an image, and the frame with its origin at the centre.

    Raises:
        InputError: nothing says its scale.
    """
    rows, cols = image.array.shape[:2]
    if image.crs is not None and image.transform is not None:
        frame = SceneFrame.around(image)
        return image.transform.a * frame.metre * cols, -image.transform.e * frame.metre * rows, frame
    if image.gsd is None:
        raise InputError("the image says nothing of its scale; give one with coordinates or with a gsd")
    return image.gsd * cols, image.gsd * rows, SceneFrame(None)


def _inside(centre: float, span: float, size: int) -> float:
    return size / 2 if span >= size else min(max(centre, span / 2), size - span / 2)


def _picture(image: Any) -> tuple[Image.Image, float | None]:
    if isinstance(image, GeoImage):
        if image.valid is not None and not image.valid.any():
            raise InputError("the image holds no valid pixel; give another")
        return Image.fromarray(to_rgb(image)), image.gsd
    if isinstance(image, Image.Image):
        return image.convert("RGB"), None
    if isinstance(image, np.ndarray):
        return Image.fromarray(to_rgb(GeoImage(image.astype(np.float32) if image.dtype.kind == "f" else image))), None
    raise InputError(f"the image is a {type(image).__name__}; give a GeoImage, a PIL image or an array (h, w, 3)")


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()
