"""Heights from the lengths of shadows, where the sun is known: height = length x tan(elevation of the sun).

The classical estimate for one image from above (Irvin and McKeown 1989; Liow and Pavlidis 1990), for level ground: shadows are the dark
mode of the picture, each runs away from the sun from the foot of what casts it, and an object is as high as the median of the shadows
that begin at its edge says. Objects that are not given are found as patches of one colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from gensat.errors import InputError
from gensat.geo.sun import SunPosition

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_DARK = 0.45  # light of a shadow against that of its surroundings, at most: else there are none
_BLUE = 0.5  # weight of the colour beside the light
_EDGE = 0.06  # gradient of display values that parts two objects
_AREA = (6.0, 8000.0)  # square metres of an object
_SHARE = 0.35  # of an object's width across the sun, along which its shadow must begin
_FEW = 3  # samples that say nothing yet


@dataclass(frozen=True, eq=False)
class ShadowHeights:
    """What shadows say.

    Args:
        heights: metres above the ground; 0 where nothing casts a shadow.
        objects: number of the object at each pixel, 0 for none.
        shadows: where it is dark.
        measured: number of objects with a height.
    """

    heights: Float[np.ndarray, "h w"]
    objects: Int[np.ndarray, "h w"]
    shadows: Bool[np.ndarray, "h w"]
    measured: int


def heights_from_shadows(
    rgb: Float[np.ndarray, "h w 3"],
    sun: SunPosition,
    gsd: float | int,
    objects: Int[np.ndarray, "h w"] | None = None,
) -> ShadowHeights:
    """Heights of the objects in a picture.

    Args:
        rgb: display values in [0, 1], row 0 at the top.
        sun: its azimuth clockwise from the top of the picture.
        gsd: metres per pixel.
        objects: their numbers, 0 for none, such as of footprints; found by colour when not given.

    Raises:
        InputError: the sun is not above the horizon, or so low (below 3 degrees) that shadows say nothing.
    """
    if not sun.elevation > 3:
        raise InputError(
            f"the sun is {sun.elevation:.1f} degrees high, too low for heights from shadows; "
            "give a sun above 3 degrees, or another method"
        )
    shadows = shadow_mask(rgb)
    found = colour_patches(rgb, shadows, gsd) if objects is None else objects
    starts, lengths = shadow_runs(shadows, sun.azimuth)
    metres = lengths * gsd * math.tan(math.radians(sun.elevation))
    row, column = np.nonzero(starts & np.isfinite(metres))
    up, right = _towards(sun.azimuth)
    height, width = shadows.shape
    own = np.zeros(len(row), found.dtype)
    for steps in (1, 2, 3):  # the edge between an object and its shadow may be of neither
        r = np.round(row + steps * up).astype(int).clip(0, height - 1)
        c = np.round(column + steps * right).astype(int).clip(0, width - 1)
        own = np.where(own == 0, found[r, c], own)
    values = metres[row, column]
    table = np.zeros(int(found.max()) + 1, np.float32)
    wide = _widths(found, sun.azimuth) if objects is None else None
    for number in np.unique(own[own > 0]):
        mine = values[own == number]
        if len(mine) >= _FEW and (wide is None or len(mine) >= _SHARE * wide[number]):
            table[number] = np.median(mine)
    return ShadowHeights(table[found], found, shadows, int((table > 0).sum()))


def shadow_mask(rgb: Float[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Where a picture is in shadow: below the threshold of Otsu 1979 on its light, if that parts two levels of light.

    What is lit by the sky alone is dark and blue, so the log of the light is taken less the log of the share of blue (as the ratio of
    hue to intensity of Tsai 2006): grass and dark roofs are dark too, but not blue.

    Args:
        rgb: display values in [0, 1].
    """
    linear = np.stack([ndimage.median_filter(band, 3) for band in np.moveaxis(_linear(rgb), 2, 0)], axis=2)
    light = linear @ _LUMA
    blue = (linear[..., 2] + 0.01) / (linear[..., :2].mean(axis=2) + 0.01)
    shade = np.log(light + 0.004) - _BLUE * np.log(blue)
    threshold = _otsu(shade)
    dark = shade < threshold
    if not dark.any() or dark.all() or np.median(light[dark]) > _DARK * np.median(light[~dark]):
        return np.zeros(dark.shape, bool)
    return ndimage.binary_opening(dark, np.ones((2, 2), bool))


def shadow_runs(
    shadows: Bool[np.ndarray, "h w"], azimuth: float | int
) -> tuple[Bool[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Where shadows begin on the side of the sun, and from every pixel how far they go on, in pixels.

    Args:
        shadows: where it is dark.
        azimuth: of the sun, degrees clockwise from the top.

    Returns:
        Starts, and lengths along the ground; NaN where a shadow leaves the picture.
    """
    up, right = _towards(azimuth)
    longest = max(abs(up), abs(right))
    step = 1 / longest  # pixels along the ray for one row or column
    starts = shadows & ~_shifted(shadows, -up * step, -right * step, outside=True)
    count, going = np.zeros(shadows.shape, np.float32), shadows.copy()
    left = np.zeros(shadows.shape, bool)
    inside = np.ones(shadows.shape, bool)
    for k in range(1, sum(shadows.shape)):
        count += going
        within = _shifted(inside, up * step * k, right * step * k, outside=False)
        left |= going & ~within
        going = going & _shifted(shadows, up * step * k, right * step * k, outside=False)
        if not going.any():
            break
    return starts, np.where(left, np.float32(np.nan), count * np.float32(step))


def colour_patches(
    rgb: Float[np.ndarray, "h w 3"], shadows: Bool[np.ndarray, "h w"], gsd: float | int
) -> Int[np.ndarray, "h w"]:
    """Patches of like colour outside shadows: watersheds of the gradient (Vincent and Soille 1991), numbered from 1.

    Patches of less than 6 or more than 8000 square metres are 0.
    """
    smooth = ndimage.gaussian_filter(rgb, (0.7, 0.7, 0))
    slope = np.max([np.hypot(*np.gradient(smooth[..., band])) for band in range(3)], axis=0)
    slope = np.where(shadows, 1.0, slope)
    seeds, count = ndimage.label(slope < _EDGE)
    if not count:
        return seeds.astype(np.int32)
    relief = (slope.clip(0, 1) * 255).astype(np.uint8)
    patches = np.where(shadows, 0, ndimage.watershed_ift(relief, seeds.astype(np.int32)))
    area = np.bincount(patches.ravel(), minlength=count + 1) * float(gsd) ** 2
    kept = (area >= _AREA[0]) & (area <= _AREA[1])
    kept[0] = False
    return np.where(kept[patches], patches, 0).astype(np.int32)


def _towards(azimuth: float | int) -> tuple[float, float]:
    """(rows, columns) of a step of one pixel towards the sun."""
    angle = math.radians(azimuth)
    return -math.cos(angle), math.sin(angle)


def _shifted(mask: np.ndarray, up: float, right: float, *, outside: bool) -> np.ndarray:
    """The value at p - (up, right) for every pixel p; beyond the picture ``outside``."""
    down, across = -round(up), -round(right)
    height, width = mask.shape
    result = np.full(mask.shape, outside)
    rows, columns = slice(max(0, -down), min(height, height - down)), slice(max(0, -across), min(width, width - across))
    if rows.start < rows.stop and columns.start < columns.stop:
        result[rows, columns] = mask[
            rows.start + down : rows.stop + down, columns.start + across : columns.stop + across
        ]
    return result


def _widths(objects: np.ndarray, azimuth: float | int) -> np.ndarray:
    """How many rays of light each object stands in the way of, by number: its width across them, in those that are a pixel apart."""
    up, right = _towards(azimuth)
    rows, columns = np.indices(objects.shape)
    across = rows * right - columns * up
    numbers = np.arange(int(objects.max()) + 1)
    high, low = (f(across, objects, numbers) for f in (ndimage.maximum, ndimage.minimum))
    return (np.asarray(high) - np.asarray(low) + 1) / max(abs(up), abs(right))


def _linear(rgb: np.ndarray) -> np.ndarray:
    """Display values (sRGB) to light."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two classes with the least variance within them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    best = int(np.nanargmax(np.where(above > 0, between, np.nan))) if (above > 0).any() else 0
    return float(edges[best + 1])
