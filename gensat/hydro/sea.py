"""Where there is sea, from polygons or a mask, and levels of water on a grid: whole or window by window."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rasterio.crs
from jaxtyping import Bool, Float
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import pixel_to_world
from gensat.geo.raster import open_dataset, require_file
from gensat.geo.vectors import SUFFIXES, read_polygons
from gensat.hydro.surge import Surge

_EXACT = 1e-6  # pixels by which GDAL may approximate a projection; rasterio fails at 0


class Sea:
    """Cells of a grid that are sea.

    Args:
        path: polygons (GeoJSON, GeoPackage, Shapefile, FlatGeobuf), or a raster with one band, in which everything but 0 and
            nodata is sea; in any CRS.
        canvas: the grid.

    Raises:
        InputError: unreadable, without a CRS, more than one band, or the grid lies on no place.
    """

    def __init__(self, path: str | os.PathLike[str], canvas: Canvas) -> None:
        if canvas.crs is None:
            raise InputError("the sea needs a DEM with a place; give one with a CRS")
        self.canvas = canvas
        self.path = require_file(path)
        self.shapes = None
        if self.path.suffix.lower() in SUFFIXES:
            self.shapes = [(shape, 1) for shape in read_polygons(Path(self.path), canvas)[0]]
            return
        with open_dataset(self.path) as file:
            if file.count != 1 or not file.crs:
                raise InputError(f"{self.path.name} is no mask of the sea; give one band with a CRS, or polygons")

    def cells(self, window: Window | None = None) -> Bool[np.ndarray, "h w"]:
        """Of the whole grid or a window of it; a cell is sea if its centre is."""
        window = window or Window(0, 0, self.canvas.width, self.canvas.height)
        part = self.canvas.crop(window.row_off, window.col_off, window.height, window.width)
        if self.shapes is not None:
            if not self.shapes:
                return np.zeros((part.height, part.width), bool)
            return rasterize(self.shapes, (part.height, part.width), transform=part.transform, dtype=np.uint8) == 1
        assert self.canvas.crs is not None
        grid = {"transform": self.canvas.transform, "width": self.canvas.width, "height": self.canvas.height}
        crs = rasterio.crs.CRS.from_wkt(self.canvas.crs.to_wkt())
        with open_dataset(self.path) as file:
            with WarpedVRT(
                file, crs=crs, resampling=Resampling.nearest, tolerance=_EXACT, add_alpha=False, **grid
            ) as laid:
                values = laid.read(1, window=window, masked=True)
        return np.asarray(np.nan_to_num(values.filled(0)) != 0)


def level_on(level: float | int | Surge, canvas: Canvas) -> float | Float[np.ndarray, "h w"]:
    """A level on the cells of a canvas in the CRS that the canvas has: the number itself, or the field of a surge."""
    if not isinstance(level, Surge):
        return float(level)
    if canvas.crs is None:
        raise InputError("levels with a place need a DEM with a place; give one with a CRS, or one number")
    columns, rows = np.meshgrid(np.arange(canvas.width) + 0.5, np.arange(canvas.height) + 0.5)
    return level.at(*pixel_to_world(canvas.transform, columns, rows), canvas.crs)
