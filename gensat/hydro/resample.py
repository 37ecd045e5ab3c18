"""Depths on another grid, without inventing water: the wet mask is nearest, depths are bilinear between wet cells only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from rasterio.enums import Resampling

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import lonlat_bounds
from gensat.geo.warp import warped
from gensat.types import GeoImage


def depth_on(
    depth: GeoImage, canvas: Canvas, name: str = "the depth"
) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Water depths on the grid of a canvas, such as ``Canvas.like(image)``.

    A pixel is wet where the cell that holds its centre is. Its depth is bilinear over the wet cells among its four
    neighbours, their weights made to sum to one: a dry neighbour, or one outside the raster, never makes water
    shallower, and no water crosses a dry cell.

    Args:
        depth: one band of metres; 0 is dry, not valid (nodata, NaN) is outside what was computed.
        canvas: where to. One without a CRS needs a depth of its own size, which is taken cell by cell.
        name: of the depth in messages.

    Returns:
        (H, W) float32 metres: 0 where dry, NaN outside the raster; and (H, W) bool, True where wet.

    Raises:
        InputError: more than one band, depths below 0, no CRS, another size without one, or no overlap.
    """
    if depth.array.shape[2] != 1:
        raise InputError(f"{name} has {depth.array.shape[2]} bands; give a raster with one band of depths in metres")
    values = depth.physical()[:, :, 0]
    if np.nanmin(values, initial=0.0) < 0:
        raise InputError(f"{name} holds depths below 0; give metres of water, 0 where dry, nodata outside")
    known = np.isfinite(values)
    if canvas.crs is None:
        if values.shape != (canvas.height, canvas.width):
            raise InputError(
                f"{name} of {values.shape[1]} x {values.shape[0]} cells cannot be laid on an image without a georeference of "
                f"{canvas.width} x {canvas.height} pixels; give the same size, or an image with a CRS"
            )
        return values, known & (values > 0)
    if depth.crs is None or depth.transform is None:
        raise InputError(f"{name} has no CRS; give a GeoTIFF with one, or an image without one and the same size")
    nearest = warped(values, depth.transform, depth.crs, canvas, Resampling.nearest)
    inside = np.isfinite(nearest)
    if not inside.any():
        theirs = lonlat_bounds(depth.crs, depth.transform, *values.shape)
        raise InputError(
            f"{name} at {_box(theirs)} does not overlap the image at {_box(canvas.lonlat_bounds or theirs)}; "
            "give depths of the place"
        )
    wet = inside & (nearest > 0)
    # GDAL leaves cells of nodata out of a bilinear mean and scales the other weights up: dry cells are made such cells.
    deep = np.where(values > 0, values, np.float32(np.nan))
    smooth = warped(deep, depth.transform, depth.crs, canvas, Resampling.bilinear)
    laid = np.where(wet, np.where(np.isfinite(smooth), smooth, nearest), np.float32(0))
    return np.where(inside, laid, np.float32(np.nan)), wet


def _box(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    return f"lon {west:.6f} to {east:.6f} lat {south:.6f} to {north:.6f}"
