"""Masks and shares from files onto the pixels of an image: rasters of any CRS, or polygons of a vector file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from rasterio.enums import Resampling
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo import vectors
from gensat.geo.canvas import Canvas
from gensat.geo.crs import lonlat_bounds
from gensat.geo.raster import open_image, require_file
from gensat.geo.warp import warped
from gensat.types import GeoImage


def read_mask(path: str | os.PathLike[str], canvas: Canvas) -> tuple[Bool[np.ndarray, "h w"], list[str]]:
    """A mask on the pixels of a canvas, and notes on what was left out.

    Args:
        path: a raster, which is True where a band is anything but 0 and valid, brought there by the nearest cell; or polygons in a vector file, which
            cover the pixels whose centre they hold.
        canvas: where to. A raster without a CRS, or a canvas without one, has to have as many cells as the other pixels.

    Raises:
        InputError: unreadable, no overlap, another size without a CRS, or a vector file without polygons there or for a canvas without a place.
    """
    path = require_file(path)
    if path.suffix.lower() in vectors.SUFFIXES:
        shapes, _, notes = vectors.read_polygons(path, canvas)
        if not shapes:
            raise InputError(f"mask {path.name} holds no polygons on the image; give areas, not points or lines")
        drawn = rasterize(shapes, (canvas.height, canvas.width), transform=canvas.transform)
        return drawn > 0, notes
    image = open_image(path)
    values = np.nan_to_num(image.array) if image.array.dtype.kind == "f" else image.array
    inside = (values != 0).any(2) & (True if image.valid is None else image.valid)
    # 1 and 2, so that 0 can mean outside
    laid = _on_canvas(image, (inside + 1).astype(np.float32), canvas, Resampling.nearest, f"mask {path.name}")
    return laid == 2, _outside(laid, f"mask {path.name}")


def read_shares(path: str | os.PathLike[str], canvas: Canvas) -> tuple[Float[np.ndarray, "h w"], list[str]]:
    """A raster of shares (0 to 1, one band) on the pixels of a canvas, bilinear, 0 where it says nothing; and notes. Raises InputError as :func:`read_mask`."""
    image = open_image(path)
    if image.array.shape[2] != 1:
        raise InputError(f"{Path(path).name} has {image.array.shape[2]} bands; give one band of shares from 0 to 1")
    laid = _on_canvas(image, image.physical()[:, :, 0], canvas, Resampling.bilinear, Path(path).name)
    return np.nan_to_num(laid, nan=0.0), _outside(laid, Path(path).name)


def _on_canvas(image: GeoImage, values: np.ndarray, canvas: Canvas, how: Resampling, name: str) -> np.ndarray:
    """(H, W) float32 values on the canvas, NaN outside."""
    if image.crs is None or image.transform is None or canvas.crs is None:
        if values.shape != (canvas.height, canvas.width):
            raise InputError(
                f"{name} of {values.shape[1]} x {values.shape[0]} cells and the image of {canvas.width} x {canvas.height} pixels have no place in "
                "common; give one of the same size, or both with a CRS"
            )
        return values
    made = warped(values, image.transform, image.crs, canvas, how)
    if not np.isfinite(made).any():
        raise vectors.no_overlap(name, lonlat_bounds(image.crs, image.transform, *values.shape), canvas)
    return made


def _outside(laid: np.ndarray, name: str) -> list[str]:
    share = float(np.isnan(laid).mean())
    return [f"{share:.0%} of the image lie outside {name} and stay as they are"] if share else []
