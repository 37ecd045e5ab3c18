"""Heights of a DEM brought to square cells of metres, and which of its holes lie outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS
from rasterio.enums import Resampling
from scipy.ndimage import label

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import crs_name, ground_sampling_distance, lonlat_bounds, parse_crs, shifted
from gensat.geo.warp import warped
from gensat.types import GeoImage

LOWEST, HIGHEST = -500.0, 9000.0
"""Metres above any datum between which all ground and water of the Earth lies."""

_COARSER = 1.5  # source cells per cell from which their mean counts, not the bilinear value


def reaches_edge(holes: np.ndarray) -> np.ndarray:
    """(h, w) bool, those holes that are connected to the edge of the raster."""
    if not holes.any():
        return holes
    parts, _ = label(holes)
    rim = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, rim[rim > 0])


def on_metres(
    values: np.ndarray, crs: CRS, transform: Affine, wanted: Any, gsd: float | int | None, name: str
) -> tuple[np.ndarray, CRS, Affine, str | None]:
    """Heights on square cells of a projected CRS in metres; as they are where they lie on such cells already.

    Args:
        values: (h, w) metres, NaN where there is nothing.
        crs: of the values.
        transform: of their pixel corners.
        wanted: projected CRS to go to; None for their own where it is in metres, else the UTM zone.
        gsd: metres a cell; None for that of the values. Coarser cells take the mean.
        name: of the heights, in messages.

    Returns:
        The heights (float32 where they were warped), their CRS and transform, and a note of what was done, or None.

    Raises:
        InputError: a CRS that is not defined there.
    """
    height, width = values.shape
    target = parse_crs(wanted)
    here = GeoImage(values.astype(np.float32), crs=crs, transform=transform)
    try:
        own: Canvas | None = Canvas.like(here)
    except InputError:
        own = None  # degrees, feet or oblong cells
    step = ground_sampling_distance(crs, transform, height, width)
    bounds = lonlat_bounds(crs, transform, height, width)
    if step is None or not np.isfinite(bounds).all():
        raise InputError(f"{crs_name(crs)} is not defined where {name} lies; warp it to a UTM zone with gdalwarp")
    if own is not None and (target is None or target == crs) and (gsd is None or abs(gsd / step - 1) < 1e-3):
        return values, crs, transform, None
    if own is not None and target is None:  # only coarser or finer cells
        assert gsd is not None
        cell = gsd * transform.a / step
        columns, rows = max(1, round(width * transform.a / cell)), max(1, round(height * transform.a / cell))
        canvas = Canvas(columns, rows, cell, crs, Affine(cell, 0.0, transform.c, 0.0, -cell, transform.f))
    else:
        canvas = Canvas.from_bbox(bounds, gsd or step, crs=target)
    assert canvas.crs is not None
    coarser = (gsd or step) / step > _COARSER
    laid = warped(
        values.astype(np.float32), transform, crs, canvas, Resampling.average if coarser else Resampling.bilinear
    )
    known = np.isfinite(laid)
    if not known.any():
        raise InputError(f"{name} does not lie where {crs_name(canvas.crs)} is used; leave the CRS out")
    rows_known, columns_known = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    r0, c0 = int(rows_known[0]), int(columns_known[0])
    cut = laid[r0 : int(rows_known[-1]) + 1, c0 : int(columns_known[-1]) + 1]
    note = f"{name} was warped from {crs_name(crs)} to {crs_name(canvas.crs)}, square cells of {gsd or step:.6g} m on the ground"
    return cut, canvas.crs, shifted(canvas.transform, r0, c0), note
