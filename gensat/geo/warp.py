"""Values brought onto the pixels of a canvas, and images that lie on no metric grid (degrees, feet, oblong pixels) onto one."""

from __future__ import annotations

import numpy as np
import rasterio.crs
from affine import Affine
from jaxtyping import Float
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name, lonlat_bounds
from gensat.types import GeoImage


def warped(
    values: Float[np.ndarray, "*bands r c"], transform: Affine, crs: CRS, canvas: Canvas, how: Resampling
) -> Float[np.ndarray, "*bands h w"]:
    """Values on the pixels of a canvas with a CRS, float32; NaN is left out, and stands where they say nothing.

    Args:
        values: (\\*bands, rows, columns), north up.
        transform: from their pixel corners to ``crs``.
        crs: theirs.
        canvas: where to.
        how: to resample.
    """
    assert canvas.crs is not None
    made = np.full((*values.shape[:-2], canvas.height, canvas.width), np.nan, np.float32)
    here, there = (rasterio.crs.CRS.from_wkt(one.to_wkt()) for one in (crs, canvas.crs))
    reproject(
        values,
        made,
        src_transform=transform,
        src_crs=here,
        src_nodata=np.nan,
        dst_transform=canvas.transform,
        dst_crs=there,
        dst_nodata=np.nan,
        resampling=how,
    )
    return made


def on_metric_grid(image: GeoImage) -> tuple[GeoImage, str | None]:
    """The image on square pixels of metres, and a note where it had to be warped to them.

    An image on no place, or on such a grid already, comes back as it is. Others are warped to the UTM zone (or UPS) of their
    centre at their own ground sampling distance: cubic, and what their corners leave open is not valid.

    Raises:
        InputError: the CRS is not defined where the image lies.
    """
    if image.crs is None or image.transform is None:
        return image, None
    try:
        Canvas.like(image)
        return image, None
    except InputError:
        pass  # degrees, feet or oblong pixels: exactly what is warped here
    gsd = image.gsd
    bounds = lonlat_bounds(image.crs, image.transform, image.height, image.width)
    if gsd is None or not np.isfinite(bounds).all():
        raise InputError(
            f"{crs_name(image.crs)} is not defined where the image lies; warp it to a UTM zone with gdalwarp"
        )
    canvas = Canvas.from_bbox(bounds, gsd)
    assert canvas.crs is not None
    values = np.moveaxis(image.array.astype(np.float32), 2, 0)
    if image.valid is not None:
        values = np.where(image.valid, values, np.float32(np.nan))
    laid = warped(values, image.transform, image.crs, canvas, Resampling.cubic)
    known = np.asarray(np.isfinite(laid).all(axis=0))
    pixels = np.moveaxis(np.where(known, laid, 0), 0, 2)
    if image.array.dtype.kind == "u":
        pixels = np.round(pixels).clip(0, np.iinfo(image.array.dtype).max)
    made = canvas.image(
        pixels.astype(image.array.dtype),
        bands=image.bands,
        valid=None if known.all() else known,
        acquisition=image.acquisition,
        provenance=image.provenance,
    )
    return made, f"the image was warped from {crs_name(image.crs)} to {crs_name(canvas.crs)} at {gsd:.4g} m per pixel"
