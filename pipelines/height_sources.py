"""What an estimate of heights begins with (a picture on a metric grid, its sun, its ground), and sources of heights besides our own network."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..errors import InputError
from ..geo.canvas import Canvas
from ..geo.display import to_rgb
from ..geo.elevation import HeightMap
from ..geo.sun import SunPosition, sun_position
from ..geo.warp import on_metric_grid
from ..render.frame import SceneFrame
from ..types import Acquisition, GeoImage

GSD_RANGE = (0.1, 2.0)
"""Metres per pixel of images that heights are estimated from."""

_OVERLAP = 0.25  # of the tiles of a published model


@dataclass(frozen=True, eq=False)
class HeightRequest:
    """An image that is ready to be read.

    Args:
        image: on a metric grid, or on no place.
        canvas: its pixels.
        gsd: metres per pixel on the ground.
        rgb: display values in [0, 1]; pixels without a value have that of the nearest one.
        holes: pixels without a value.
        sun: its azimuth from grid north, which is the top of the picture; None where nobody knows.
        ground: heights of the ground on the canvas, None for level ground at 0.
        notes: what the user should know; sentences without a full stop.
    """

    image: GeoImage
    canvas: Canvas
    gsd: float
    rgb: Float[np.ndarray, "h w 3"]
    holes: Bool[np.ndarray, "h w"]
    sun: SunPosition | None
    ground: HeightMap | None
    notes: tuple[str, ...]


def height_request(
    image: GeoImage | str | os.PathLike[str],
    *,
    gsd: float | int | None = None,
    sun: SunPosition | None = None,
    time: Any = None,
    terrain: HeightMap | float | int | str | os.PathLike[str] | None = None,
) -> HeightRequest:
    """Check what was given, and bring it onto one grid.

    Args:
        image: red, green and blue; in degrees, feet or oblong pixels it is warped to UTM.
        gsd: metres per pixel of an image without a georeference.
        sun: when the image was taken, its azimuth from true north (from the top of an image on no place).
        time: or the moment, see :func:`gensat.geo.sun.parse_time`.
        terrain: the bare ground, a raster of heights or one number; level ground at 0 when not given.

    Raises:
        InputError: fewer than three bands, no pixel with a value, an unknown or unfit gsd, a sun below the horizon, both
            ``sun`` and ``time``, or a time for an image on no place.
    """
    picture = image if isinstance(image, GeoImage) else GeoImage.open(image)
    if len(picture.bands) < 3:
        raise InputError(
            f"the image has {len(picture.bands)} band{'s' if len(picture.bands) > 1 else ''}; heights are read from "
            "red, green and blue, so give an image with three bands"
        )
    if sun is not None and time is not None:
        raise InputError("the sun and the time both say where the sun stands; give one of them")
    picture, note = on_metric_grid(picture)
    notes = [note] if note else []
    canvas = Canvas.like(picture)
    scale = _scale(picture, canvas, gsd)
    if canvas.crs is None:
        canvas = Canvas.local(picture.width, picture.height, scale)
    holes = np.zeros((picture.height, picture.width), bool) if picture.valid is None else ~picture.valid
    if holes.all():
        raise InputError("the image has no pixel with a value (NaN or nodata everywhere); give another image")
    rgb = to_rgb(picture).astype(np.float32) / 255
    if picture.array.dtype != np.uint8:
        notes.append(f"the image holds {picture.array.dtype} values, which were stretched to a picture")
    if holes.any():
        notes.append(f"{int(holes.sum())} pixels of the image have no value (NaN or nodata), and get no height")
        rows, columns = distance_transform_edt(holes, return_distances=False, return_indices=True)
        rgb = rgb[rows, columns]
    where = _sun(picture, canvas, sun, time)
    ground = None if terrain is None else _ground(terrain, canvas)
    notes += ground.notes if ground is not None else ()
    return HeightRequest(picture, canvas, scale, rgb, holes, where, ground, tuple(notes))


def _scale(picture: GeoImage, canvas: Canvas, gsd: float | int | None) -> float:
    known = canvas.ground_gsd if canvas.crs is not None else None
    if known is not None and gsd is not None and not math.isclose(gsd, known, rel_tol=0.02):
        raise InputError(f"the image has {known:.4g} m per pixel by its georeference; leave --gsd out")
    scale = known or gsd or picture.gsd
    if scale is None:
        raise InputError("the image has no georeference, so its scale is unknown; give --gsd in metres per pixel")
    scale = float(Acquisition(gsd=scale).gsd or 0)
    low, high = GSD_RANGE
    if not low <= scale <= high:
        raise InputError(
            f"the image has {scale:.4g} m per pixel; heights can be estimated from {low:g} to {high:g} m, so "
            f"{'coarsen it' if scale < low else 'give a finer image'}"
        )
    return scale


def _sun(picture: GeoImage, canvas: Canvas, sun: SunPosition | None, time: Any) -> SunPosition | None:
    if time is not None:
        place = canvas.place
        if place is None:
            raise InputError("the image has no georeference, so a time says nothing of the sun; give its direction")
        sun = sun_position(place, time)
    if sun is None:
        return None
    if not sun.up:
        raise InputError(
            f"the sun is {-sun.elevation:.1f} degrees below the horizon then, and the image shows daylight; correct "
            "the time (UTC unless it names a zone) or the direction"
        )
    return SunPosition(SceneFrame.around(picture).azimuth(sun.azimuth), sun.elevation)


def _ground(terrain: HeightMap | float | int | str | os.PathLike[str], canvas: Canvas) -> HeightMap:
    if isinstance(terrain, float | int):
        if not math.isfinite(terrain):
            raise InputError(f"ground height {terrain} is not finite; give metres")
        level = np.full((canvas.height, canvas.width), terrain, np.float32)
        return HeightMap(level, canvas.crs, canvas.transform)
    source = terrain if isinstance(terrain, HeightMap) else HeightMap.open(terrain)
    return source.on(canvas, "the terrain")


def resampled(picture: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c {size[0]} {size[1]}"]:
    """A picture with another number of pixels over the same ground: averaged where there are fewer, cubic where there are more."""
    if tuple(picture.shape[1:]) == size:
        return picture
    fewer = size[0] < picture.shape[1]
    mode = "bilinear" if fewer else "bicubic"
    made = F.interpolate(picture[None], size, mode=mode, antialias=fewer, align_corners=False)[0]
    return made if fewer else made.clamp(float(picture.min()), float(picture.max()))


def density_heights(pipe: Any, request: HeightRequest) -> Float[np.ndarray, "h w"]:
    """Heights in a published density field (Sat2Density, Sat2Density++), seen from straight above.

    The image is covered by tiles of the size that the model was made for, which overlap by a quarter and are blended.

    Args:
        pipe: a :class:`gensat.pipelines.density.DensityGroundPipeline`.
        request: the image; the sun is not used.

    Raises:
        InputError: the image is smaller than a tile of the model.
    """
    metres, size = pipe.ground.tile_metres, pipe.ground.tile_size
    side = round(metres / request.gsd)
    height, width = request.rgb.shape[:2]
    if side > min(height, width):
        raise InputError(
            f"the image covers {width * request.gsd:.0f} x {height * request.gsd:.0f} m, and the model's tile is "
            f"{metres:g} m wide; give a larger image"
        )
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    ramp = np.minimum(np.arange(side) + 0.5, np.arange(side)[::-1] + 0.5)
    window = np.minimum.outer(ramp, ramp).clip(max=side * _OVERLAP)
    for row in _starts(height, side):
        for column in _starts(width, side):
            here = np.s_[row : row + side, column : column + side]
            pixels = torch.from_numpy(np.ascontiguousarray(request.rgb[here])).movedim(-1, 0)
            cut = (resampled(pixels, (size, size)).movedim(0, -1) * 255).round().to(torch.uint8).numpy()
            with torch.inference_mode():
                seen = pipe.ground.above(pipe.read(GeoImage(cut)))
            found = resampled(seen.heights.float().cpu()[None], (side, side))[0].numpy()
            total[here] += window * found.clip(min=0)
            weight[here] += window
    return (total / weight).astype(np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that cover a length, evenly, with the overlap or more."""
    count = 1 + math.ceil(max(0, length - side) / (side * (1 - _OVERLAP)))
    return [round(k * (length - side) / max(1, count - 1)) for k in range(count)]
