"""Vector layers (GeoJSON, GeoPackage, Shapefile, FlatGeobuf) drawn as layout classes onto a canvas."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import UInt8
from pyproj import CRS
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo.attributes import AttributeLegend
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING, ROAD, WATER
from gensat.geo.crs import parse_crs, project, to_lonlat
from gensat.geo.footprint import Box, copies, footprint, pole_inside, turn

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".fgb")
"""Extensions that are read as vectors."""

_RANK = {WATER: 1, ROAD: 2, BUILDING: 3}  # drawn in this order over all kinds of ground
_MARGIN = 50.0  # metres around the canvas in which a line may be wide enough to reach into it
_SEGMENT = 32  # pixels after which a straight edge of another CRS gets a point of its own
_CIRCLE = 1440  # points of a parallel around a pole: a radius of 10,000 pixels is kept to 0.02 pixels
_AREAS, _LINES, _COLLECTION = (3, 6), (1, 5, 2), 7  # shapely type ids: polygons; lines and rings; collections


class NothingHere(InputError):
    """A layout that says nothing about a canvas: it lies elsewhere, or none of its features there has a class."""


@dataclass
class _Layer:
    crs: CRS
    bounds: Box
    boxes: list[Box]  # where the canvas lies in it; two if the layer is cut along a meridian that crosses the canvas
    geometry: np.ndarray  # of shapely geometries, in the CRS of the layer
    attributes: list[dict[str, Any]]
    mended: int  # features with a ring that was not closed


def draw_vectors(path: Path, canvas: Canvas, legend: AttributeLegend) -> tuple[UInt8[np.ndarray, "h w"], list[str]]:
    """Class map of all layers of a file on the grid of a canvas.

    Features are drawn as ground, then water, roads and buildings; within a class large ones before small ones. A pixel
    takes the class of the polygon that covers its centre. Lines are widened to the metres their legend says; points are
    left out. Pixels that no feature covers get the background of the legend.

    Args:
        path: a file GDAL reads; GeoJSON without a CRS is in lon/lat.
        canvas: a canvas with a place.
        legend: what the attributes mean.

    Returns:
        (H, W) classes 0 to 10, and notes on what was left out.

    Raises:
        InputError: unreadable, without a CRS, not overlapping the canvas, or without one feature the legend knows.
    """
    if canvas.crs is None:
        raise InputError(f"vector layout {path.name} needs a canvas with a place; give a place or a bbox")
    layers = _layers_here(path, canvas)
    drawn: list[tuple[int, float, Any, int]] = []
    unclassified = points = 0
    for layer in layers:
        geometry = _on_canvas(layer, canvas)
        polygonal = np.isin(shapely.get_type_id(layer.geometry), _AREAS)
        for shape, is_area, attributes in zip(geometry, polygonal, layer.attributes, strict=True):
            found = legend.classify(attributes)
            if found is None:
                unclassified += 1
                continue
            area = _as_area(shape, None if is_area else found[1])
            points += area is None
            if area is None:
                continue
            if not area.is_empty:
                drawn.append((_RANK.get(found[0], 0), -area.area, area, found[0]))
    total = sum(len(layer.geometry) for layer in layers)
    if total and unclassified == total:
        names = sorted({name for layer in layers for attributes in layer.attributes for name in attributes})
        raise NothingHere(
            f"no feature of {path.name} has a class in legend {legend.name!r} "
            f"(attributes: {', '.join(names[:8]) or 'none'}); give --legend FILE, or a class such as --legend building"
        )
    class_map = np.full((canvas.height, canvas.width), legend.background, dtype=np.uint8)
    shapes = [(area, code) for _, _, area, code in sorted(drawn, key=lambda item: item[:2])]
    if shapes:
        rasterize(shapes, out=class_map, transform=canvas.transform, all_touched=False)
    notes = []
    if unclassified:
        notes.append(f"{unclassified} of {total} features have no class in legend {legend.name!r} and were left out")
    if points:
        notes.append(f"{points} features are points and were left out")
    if mended := sum(layer.mended for layer in layers):
        notes.append(f"{mended} features have a ring that does not end where it began; it was closed")
    if not total:
        notes.append("the layout has no features on the canvas")
    return class_map, notes


def read_polygons(path: Path, canvas: Canvas) -> tuple[list[Any], list[dict[str, Any]], list[str]]:
    """Polygonal features of all layers of a file that touch a canvas, in its CRS.

    Args:
        path: a file GDAL reads; GeoJSON without a CRS is in lon/lat.
        canvas: a canvas with a place.

    Returns:
        Valid polygons and multipolygons (not clipped exactly), the attributes of each, and notes on what was left out.

    Raises:
        InputError: unreadable, without a CRS, or not overlapping the canvas.
    """
    if canvas.crs is None:
        raise InputError(f"{path.name} needs an image with a place; give one with a CRS")
    shapes: list[Any] = []
    attributes: list[dict[str, Any]] = []
    left_out = mended = 0
    for layer in _layers_here(path, canvas):
        mended += layer.mended + int((~shapely.is_valid(layer.geometry)).sum())
        for shape, values in zip(_on_canvas(layer, canvas), layer.attributes, strict=True):
            area = _as_area(shape, None)
            if area is not None and not area.is_empty:
                shapes.append(area)
                attributes.append(values)
        left_out += int((~np.isin(shapely.get_type_id(layer.geometry), (*_AREAS, _COLLECTION))).sum())
    notes = [f"{left_out} features are points or lines and were left out"] if left_out else []
    if mended:
        notes.append(f"{mended} polygons were not valid and were mended")
    return shapes, attributes, notes


def read_lines(path: Path, canvas: Canvas) -> tuple[list[Any], list[dict[str, Any]], list[str]]:
    """Lines of all layers of a file that come near a canvas, in its CRS, as :func:`read_polygons` reads polygons.

    Raises:
        InputError: unreadable, without a CRS, not overlapping the canvas, or without lines.
    """
    if canvas.crs is None:
        raise InputError(f"{path.name} needs a raster with a place; give one with a CRS")
    lines: list[Any] = []
    attributes: list[dict[str, Any]] = []
    left_out = 0
    for layer in _layers_here(path, canvas):
        given = np.isin(shapely.get_type_id(layer.geometry), _LINES)
        left_out += int((~given).sum())
        for shape, is_line, values in zip(_on_canvas(layer, canvas), given, layer.attributes, strict=True):
            if is_line and not shape.is_empty:
                lines.append(shape)
                attributes.append(values)
    if left_out and not lines:
        raise InputError(f"{path.name} holds no lines there, but polygons or points; give lines")
    notes = [f"{left_out} features of {path.name} are no lines and were left out"] if left_out else []
    return lines, attributes, notes


def _layers_here(path: Path, canvas: Canvas) -> list[_Layer]:
    """Layers of a file with features; InputError if there are none or none reaches the canvas."""
    layers = [layer for layer in _read_layers(path, canvas) if layer is not None]
    if not layers:
        raise InputError(f"vector layout {path} holds no features with a geometry; give another file")
    if not any(layer.boxes for layer in layers):
        raise no_overlap(path.name, _lonlat_extent(layers), canvas)
    return layers


def no_overlap(name: str, extent: Box, canvas: Canvas) -> NothingHere:
    """The error of a layout elsewhere, naming both boxes (west, south, east, north) in degrees."""
    return NothingHere(
        f"layout {name} at {_box(extent)} does not overlap the canvas at {_box(canvas.lonlat_bounds or extent)}; "
        "give a layout of the place or another place"
    )


def _box(bounds: Box) -> str:
    west, south, east, north = bounds
    return f"lon {west:.6f} to {east:.6f} lat {south:.6f} to {north:.6f}"


def _read_layers(path: Path, canvas: Canvas) -> list[_Layer | None]:
    import pyogrio  # here: it brings pandas and pyarrow along, which takes longer than an image of the fast model
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        return [_read_layer(path, name, canvas) for name in names]
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read as a vector file; check that it is complete") from error


def _read_layer(path: Path, name: str, canvas: Canvas) -> _Layer | None:
    import pyogrio.raw

    info = pyogrio.read_info(path, layer=name, force_feature_count=True, force_total_bounds=True)
    if not info["features"] or info["total_bounds"] is None or not np.isfinite(info["total_bounds"]).all():
        return None
    crs = parse_crs(info["crs"])
    if crs is None:
        raise InputError(f"vector layout {path.name} has no CRS; save it with one, or as GeoJSON in lon/lat")
    bounds = tuple(info["total_bounds"])
    around = footprint(canvas, crs, margin=_MARGIN)
    boxes = [box for _, box in copies(crs, around) if _overlap(box, bounds)] if around else []
    found: dict[int, tuple[Any, dict[str, Any]]] = {}  # by feature, as one may reach into both boxes
    mended: set[int] = set()
    for box in boxes:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Non closed ring")  # counted below
            meta, ids, geometry, columns = pyogrio.raw.read(path, layer=name, bbox=box, force_2d=True, return_fids=True)
        whole = shapely.from_wkb(geometry, on_invalid="ignore")
        for i, shape in enumerate(shapely.from_wkb(geometry, on_invalid="fix")):  # closes rings
            if shape is not None and not shape.is_empty:
                found[int(ids[i])] = shape, {str(f): c[i] for f, c in zip(meta["fields"], columns, strict=True)}
                mended |= {int(ids[i])} if whole[i] is None else set()
    shapes = np.array([shape for shape, _ in found.values()], dtype=object)
    return _Layer(crs, bounds, boxes, shapes, [attributes for _, attributes in found.values()], len(mended))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and a[2] > b[0] and a[1] < b[3] and a[3] > b[1]


def _on_canvas(layer: _Layer, canvas: Canvas) -> np.ndarray:
    """Geometries clipped to the surroundings of the canvas, in its CRS."""
    assert canvas.crs is not None
    target = canvas.crs
    if not len(layer.geometry):
        return layer.geometry
    shapes = shapely.make_valid(layer.geometry)
    shapes = shapely.union_all(np.stack([shapely.clip_by_rect(shapes, *box) for box in layer.boxes]), axis=0)
    if layer.crs == target:
        return shapes
    # What is straight in the CRS of the layer is curved on the canvas; around a pole it is a circle, whatever its size.
    left, bottom, right, top = layer.boxes[0]
    step = min((right - left) / canvas.width, (top - bottom) / canvas.height) * _SEGMENT
    whole = turn(layer.crs)
    if whole and pole_inside(canvas, layer.crs, margin=_MARGIN):
        step = whole / _CIRCLE
    shapes = shapely.segmentize(shapes, step)
    return shapely.transform(shapes, lambda xy: np.stack(project(layer.crs, target, xy[:, 0], xy[:, 1]), axis=1))


def _as_area(shape: Any, width: float | None) -> Any:
    """Polygons of a geometry, its lines widened (left out with width None); None if it is nothing but points."""
    parts = shapely.get_parts(shapely.get_parts(shape))
    kinds = shapely.get_type_id(parts)
    areas = list(parts[np.isin(kinds, _AREAS)])
    lines = parts[np.isin(kinds, _LINES)]
    if width is not None:  # making a polygon valid or clipping it may leave threads, which are no lines of the map
        areas += list(shapely.buffer(lines, width / 2, cap_style="round"))
    only_points = len(parts) > 0 and not areas and not len(lines)
    return None if only_points else shapely.union_all(areas)


def _lonlat_extent(layers: list[_Layer]) -> Box:
    corners = []
    for layer in layers:
        x, y = np.meshgrid(np.linspace(layer.bounds[0], layer.bounds[2], 9), np.linspace(*layer.bounds[1::2], 9))
        corners.append(np.stack(to_lonlat(layer.crs, x, y)).reshape(2, -1))
    lon, lat = np.concatenate(corners, axis=1)
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())
