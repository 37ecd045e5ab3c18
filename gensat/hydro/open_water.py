"""Which water is seen from above: where it is deep enough, and nothing that stands there rises out of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, WOODLAND

ASSUMED_HEIGHTS = {BUILDING: 4.0, WOODLAND: 8.0}
"""Metres above ground of what a class map knows and no height is given for: a house of one storey, a grown tree."""

SHALLOWEST = 0.02
"""Metres: less water than that wets the ground, but is not seen as water."""


def open_water(
    depth: Float[np.ndarray, "h w"],
    *,
    heights: Float[np.ndarray, "h2 w2"] | None = None,
    classes: Integer[np.ndarray, "h3 w3"] | None = None,
    shallowest: float | int = SHALLOWEST,
) -> Bool[np.ndarray, "h w"]:
    """Where a flood shows its surface from above.

    Args:
        depth: metres over the ground, 0 or NaN where there is none.
        heights: metres above the ground of what stands there (a surface model less the terrain); NaN is as 0.
        classes: codes of ``gensat.geo.classes``; where there are no ``heights``, buildings and trees count as high as ``ASSUMED_HEIGHTS`` says.
        shallowest: metres of water that are seen.

    Raises:
        InputError: arrays of different sizes, or depths below 0.
    """
    for name, other in (("heights", heights), ("classes", classes)):
        if other is not None and other.shape != depth.shape:
            raise InputError(f"{name} {other.shape} and depth {depth.shape} differ in size; bring them to one grid")
    water = np.nan_to_num(depth, nan=0.0)
    if water.size and water.min() < 0:
        raise InputError("a depth is below 0; give metres of water, 0 where dry")
    above = np.zeros_like(water)
    if heights is not None:
        above = np.nan_to_num(heights, nan=0.0).astype(water.dtype)
    elif classes is not None:
        for code, metres in ASSUMED_HEIGHTS.items():
            above[classes == code] = metres
    return (water >= shallowest) & (above <= water)


def soft_edge(water: Bool[np.ndarray, "h w"], width: float | int = 2.0) -> Float[np.ndarray, "h w"]:
    """0 outside the water, and inside from its shore on rising to 1 over ``width`` pixels; a shore at the image's edge is none."""
    if width <= 0:
        return water.astype(np.float32)
    away = ndimage.distance_transform_edt(np.pad(water, 1, mode="edge"))[1:-1, 1:-1]
    if water.all():
        return np.ones(water.shape, np.float32)
    return np.where(water, (away / (width + 1)).clip(0, 1), 0).astype(np.float32)
