"""Images that lie on no metric grid (degrees, feet, oblong pixels) brought onto one."""

from __future__ import annotations

import numpy as np
import rasterio.crs
from rasterio.enums import Resampling
from rasterio.warp import reproject

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name, lonlat_bounds
from gensat.types import GeoImage


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
    warped = np.full((len(values), canvas.height, canvas.width), np.nan, np.float32)
    reproject(
        values,
        warped,
        src_transform=image.transform,
        src_crs=rasterio.crs.CRS.from_wkt(image.crs.to_wkt()),
        src_nodata=np.nan,
        dst_transform=canvas.transform,
        dst_crs=rasterio.crs.CRS.from_wkt(canvas.crs.to_wkt()),
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
    )
    known = np.asarray(np.isfinite(warped).all(axis=0))
    pixels = np.moveaxis(np.where(known, warped, 0), 0, 2)
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
