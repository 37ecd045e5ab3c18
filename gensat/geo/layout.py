"""Any map onto a canvas: a class-map raster, a picture in the colours of the legend, or vector layers.

A layout with a CRS is brought to the grid of the canvas, whatever its own size; one without must have the size of the
canvas. Where it says nothing the class is 0, unknown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.crs
from affine import Affine
from jaxtyping import UInt8
from PIL import Image
from pyproj import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window

from gensat.errors import InputError
from gensat.geo import vectors
from gensat.geo.attributes import OPENSTREETMAP, AttributeLegend
from gensat.geo.canvas import Canvas
from gensat.geo.classes import UNKNOWN, from_colours
from gensat.geo.crs import lonlat_bounds, pixel_to_world, project, shifted
from gensat.geo.footprint import continuous, copies, footprint, pole_inside
from gensat.geo.legend import LEGENDS, Legend, load_legend
from gensat.geo.picture import pixels, read_picture
from gensat.geo.raster import is_picture, open_dataset, require_file, unreadable
from gensat.types import GeoImage

_MODE_FROM = 1.5  # source pixels per canvas pixel from which the majority counts, not the nearest


@dataclass(frozen=True)
class LayoutMap:
    """A layout on the grid of a canvas.

    Args:
        class_map: (H, W) uint8, classes 0 (unknown) to 10 of :mod:`gensat.geo.classes`.
        coverage: share of the pixels whose class is known, 0 to 1.
        notes: what the user should know, such as features that were left out; sentences without a full stop.
    """

    class_map: UInt8[np.ndarray, "h w"]
    coverage: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Raster:
    """Pixels (H, W, C) of a layout; valid (H, W) or None; where they lie, if that is known."""

    name: str
    array: np.ndarray
    valid: np.ndarray | None
    crs: CRS | None = None
    transform: Affine | None = None


def load_layout(
    source: str | os.PathLike[str] | GeoImage | np.ndarray | Image.Image,
    canvas: Canvas,
    *,
    legend: str | os.PathLike[str] | Mapping[Any, Any] | Legend | AttributeLegend | None = None,
) -> LayoutMap:
    """Brings a layout onto a canvas.

    Rasters with a CRS are warped: the nearest class where the canvas is as fine as the raster or finer, the most
    frequent one where it is coarser (unknown counts as a class of its own). Vectors are drawn as
    :func:`gensat.geo.vectors.draw_vectors` says. On a local canvas a raster's CRS is ignored, and noted.

    Args:
        source: path of a GeoTIFF, PNG, GeoJSON, GeoPackage, Shapefile or FlatGeobuf; a GeoImage; an (H, W) array of
            integer codes; or a PIL image. Three bands are read as a picture in the colours of the legend.
        canvas: the pixels to fill.
        legend: what codes or attributes mean, as :func:`gensat.geo.legend.load_legend` takes it; default the classes
            0 to 10 themselves for rasters, OpenStreetMap's tags for vectors.

    Raises:
        InputError: the source is unreadable, has codes, colours or attributes the legend does not know, has no CRS and
            another size than the canvas, or does not overlap it.
    """
    table = None if legend is None else load_legend(legend)
    if isinstance(source, (str, os.PathLike)):
        path = require_file(source)
        if path.suffix.lower() in vectors.SUFFIXES:
            if isinstance(table, Legend):
                raise InputError(
                    f"legend {table.name!r} is for rasters, not for {path.name}; give one with an attribute"
                )
            return _finish(*vectors.draw_vectors(path, canvas, table or OPENSTREETMAP))
        parts = _parts_of(_picture(path), canvas) if is_picture(path) else _read_parts(path, canvas)
    else:
        parts = _parts_of(_in_memory(source), canvas)
    raster = parts[0]
    if isinstance(table, AttributeLegend):
        raise InputError(f"legend {table.name!r} is for vectors, not for {raster.name}; give a table of code: class")
    if raster.crs is not None and raster.transform is not None and canvas.crs is not None:
        return _warped(parts, table, canvas)
    classes = _classes(raster, table)
    if classes.shape != (canvas.height, canvas.width):
        raise InputError(
            f"layout {raster.name} of {classes.shape[1]} x {classes.shape[0]} pixels has no place in common with the "
            f"canvas of {canvas.width} x {canvas.height}; give the same size, or a layout with a CRS and a canvas with "
            "a place"
        )
    ignored = raster.crs is not None and canvas.crs is None
    return _finish(classes, ["the canvas has no place, so the CRS of the layout was ignored"] if ignored else [])


def _finish(class_map: np.ndarray, notes: list[str]) -> LayoutMap:
    coverage = float(np.mean(class_map != UNKNOWN))
    if coverage < 1:
        notes = [*notes, f"the layout is unknown on {100 * (1 - coverage):.3g} percent of the canvas"]
    return LayoutMap(class_map, coverage, tuple(notes))


def _in_memory(source: GeoImage | np.ndarray | Image.Image) -> _Raster:
    if isinstance(source, GeoImage):
        return _Raster("image", source.array, source.valid, source.crs, source.transform)
    if isinstance(source, Image.Image):
        return _Raster("picture", *_codes_or_colours(source))
    array = source[:, :, None] if source.ndim == 2 else source
    if array.ndim != 3:
        raise InputError(f"layout array has shape {source.shape}; give (height, width)")
    return _Raster("array", array.astype(np.uint8) if array.dtype == bool else array, None)


def _picture(path: Path) -> _Raster:
    image = read_picture(path)  # place and validity; also finds truncated files
    with Image.open(path) as picture:
        array = _codes_or_colours(picture)[0] if picture.mode in ("1", "P") else image.array
    return _Raster(path.name, array, image.valid, image.crs, image.transform)


def _codes_or_colours(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of a PIL image; a palette is its colours if they are all the legend's, else its indices are the codes."""
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)[:, :, None], None
    if picture.mode != "P":
        return pixels(picture)
    colours = np.asarray(picture.convert("RGB"))
    try:
        from_colours(colours)
    except InputError:
        return np.asarray(picture)[:, :, None], None
    return colours, None


def _read_parts(path: Path, canvas: Canvas) -> list[_Raster]:
    """The parts of a raster file that the canvas needs; all of it if one of the two has no place."""
    with open_dataset(path) as source:
        crs = CRS.from_wkt(source.crs.to_wkt()) if source.crs else None
        whole = Window(0, 0, source.width, source.height), source.transform
        windows = [whole] if crs is None else _windows(path.name, crs, *whole, canvas)
        bands = [i for i, c in zip(source.indexes, source.colorinterp, strict=True) if c != ColorInterp.alpha]
        try:
            return [
                _Raster(
                    path.name,
                    np.moveaxis(source.read(bands, window=window), 0, 2),
                    source.dataset_mask(window=window) > 0,
                    crs,
                    None if crs is None else transform,
                )
                for window, transform in windows
            ]
        except RasterioError as error:
            raise unreadable(path, error) from error


def _parts_of(raster: _Raster, canvas: Canvas) -> list[_Raster]:
    """The same of a raster in memory."""
    if raster.crs is None or raster.transform is None:
        return [raster]
    height, width = raster.array.shape[:2]
    parts = []
    windows = _windows(raster.name, raster.crs, Window(0, 0, width, height), raster.transform, canvas)
    for window, transform in windows:
        rows, columns = window.toslices()
        valid = None if raster.valid is None else raster.valid[rows, columns]
        parts.append(_Raster(raster.name, raster.array[rows, columns], valid, raster.crs, transform))
    return parts


def _windows(name: str, crs: CRS, whole: Window, transform: Affine, canvas: Canvas) -> list[tuple[Window, Affine]]:
    """Where the canvas lies in a raster, and the transform of each window with its longitudes around the canvas's.

    There are two where the meridian along which a map of the world is cut crosses the canvas.
    """
    if canvas.crs is None:
        return [(whole, transform)]
    windows = []
    box = footprint(canvas, crs)
    for moved, (left, bottom, right, top) in copies(crs, box) if box else []:
        u, v = pixel_to_world(~transform, np.array([left, right, left, right]), np.array([top, top, bottom, bottom]))
        # Two pixels more on each side: the samples along the edges may miss the outermost bulge of a curved one.
        first, last = max(int(np.floor(u.min())) - 2, 0), min(int(np.ceil(u.max())) + 2, whole.width)
        upper, lower = max(int(np.floor(v.min())) - 2, 0), min(int(np.ceil(v.max())) + 2, whole.height)
        if last > first and lower > upper:
            window = Window(first, upper, last - first, lower - upper)
            t = shifted(transform, upper, first)
            windows.append((window, Affine(t.a, t.b, t.c - moved, t.d, t.e, t.f)))
    if not windows:
        raise vectors.no_overlap(name, lonlat_bounds(crs, transform, whole.height, whole.width), canvas)
    return windows


def _classes(raster: _Raster, legend: Legend | None) -> np.ndarray:
    """(H, W) classes on the raster's own grid; 0 where it is not valid."""
    count = raster.array.shape[2]
    valid = np.ones(raster.array.shape[:2], dtype=bool) if raster.valid is None else raster.valid
    if raster.array.dtype.kind == "f":
        valid = valid & np.isfinite(raster.array).all(axis=2)  # as in a GeoImage
    classes = np.zeros(valid.shape, dtype=np.uint8)
    if count == 3 and raster.array.dtype == np.uint8 and (legend is None or legend.name == "gensat"):
        classes[valid] = from_colours(raster.array[valid][None])[0]
        return classes
    if count != 1:
        raise InputError(f"layout {raster.name} has {count} bands; give one band of class codes")
    codes = raster.array[:, :, 0][valid]
    if codes.dtype.kind == "f":
        if not np.array_equal(codes, np.round(codes)):
            example = codes[codes != np.round(codes)][0]
            raise InputError(f"layout {raster.name} holds {example:g}, which is no class code; give whole numbers")
        codes = codes.astype(np.int64)
    classes[valid] = (legend or LEGENDS["gensat"]).to_classes(codes)
    return classes


def _warped(parts: list[_Raster], legend: Legend | None, canvas: Canvas) -> LayoutMap:
    assert canvas.crs is not None
    # Classes travel as 1 + class, so that 0 can mean "outside": unknown must take part when the majority is counted.
    class_map = np.zeros((canvas.height, canvas.width), dtype=np.uint8)
    for part in parts:
        assert part.crs is not None and part.transform is not None
        target = np.zeros_like(class_map)
        coarser = _source_pixels(part.crs, part.transform, canvas) > _MODE_FROM
        # GDAL looks for its source along the edges of the canvas, where it would not find a pole in the middle.
        extra = max(part.array.shape) if pole_inside(canvas, part.crs) is not None else 0
        reproject(
            _classes(part, legend) + np.uint8(1),
            target,
            src_transform=part.transform,
            src_crs=rasterio.crs.CRS.from_wkt(part.crs.to_wkt()),
            src_nodata=0,
            dst_transform=canvas.transform,
            dst_crs=rasterio.crs.CRS.from_wkt(canvas.crs.to_wkt()),
            dst_nodata=0,
            resampling=Resampling.mode if coarser else Resampling.nearest,
            SOURCE_EXTRA=extra,
        )
        class_map = np.where(class_map == 0, target, class_map)
        extent = lonlat_bounds(part.crs, part.transform, *part.array.shape[:2])
    if not class_map.any():
        raise vectors.no_overlap(parts[0].name, extent, canvas)
    return _finish(np.where(class_map == 0, UNKNOWN, class_map - 1).astype(np.uint8), [])


def _source_pixels(crs: CRS, transform: Affine, canvas: Canvas) -> float:
    """Pixels of the source (area) per pixel of the canvas; 0 where the source CRS ends."""
    assert canvas.crs is not None
    # Off the centre, which may be a pole, where the area of a pixel in degrees says nothing.
    columns, rows = canvas.width / 4 + np.array([0.0, 1.0, 0.0]), canvas.height / 4 + np.array([0.0, 0.0, 1.0])
    x, y = project(canvas.crs, crs, *pixel_to_world(canvas.transform, columns, rows))
    u, v = pixel_to_world(~transform, continuous(crs, x, float(x[0])), y)
    area = abs((u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0]))
    return float(area) if np.isfinite(area) else 0.0
