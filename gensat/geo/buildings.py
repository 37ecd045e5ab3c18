"""Building footprints with heights, from any vector file, on the grid of a canvas."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from gensat.errors import InputError
from gensat.geo.attributes import OPENSTREETMAP
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING
from gensat.geo.raster import require_file
from gensat.geo.vectors import read_polygons

HEIGHTS = ("height", "building:height", "building_height", "bldg_height", "hgt", "roof_height")
"""Attributes that hold a height above ground in metres; case does not matter."""

LEVELS = ("building:levels", "building_levels", "levels", "num_floors", "floors", "storeys")
"""Attributes that hold a number of storeys."""

STOREY = 3.0
"""Metres of one storey."""

DEFAULT_HEIGHT = 2 * STOREY
"""Metres of a building whose height no attribute says."""

_TALLEST = 1000.0
_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(m|metres?|meters?|ft|feet|')?\s*$", re.IGNORECASE)
_SMALLEST = 0.5  # square metres of a footprint


@dataclass(frozen=True)
class Buildings:
    """Footprints in the CRS of a canvas.

    Args:
        footprints: valid polygons, clipped to the canvas.
        heights: (n) metres above ground.
        attributes: of each, as the file has them.
        notes: what the user should know; sentences without a full stop.
    """

    footprints: tuple[shapely.Polygon, ...]
    heights: np.ndarray
    attributes: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()


def read_buildings(
    path: str | os.PathLike[str], canvas: Canvas, *, height: str | None = None, default: float | int | None = None
) -> Buildings:
    """Reads footprints and their heights.

    A height is the value of the attribute ``height`` if that is given, else of the first of ``HEIGHTS`` that holds a number
    (metres, or ``"30 ft"``), else the number of storeys times 3 m, else ``default``. Features that OpenStreetMap's tags
    call something other than a building are left out; invalid polygons are mended; courtyards stay open.

    Args:
        path: GeoJSON, GeoPackage, Shapefile or FlatGeobuf.
        canvas: where; with a place.
        height: name of the attribute of the height in metres.
        default: metres of buildings without one; 6 if other buildings of the file have one, and an error if none has.

    Raises:
        InputError: unreadable, not overlapping the canvas, without polygons, without the attribute, or without heights.
    """
    path = require_file(path)
    shapes, attributes, notes = read_polygons(path, canvas)
    window = shapely.box(*canvas.bounds)
    footprints: list[shapely.Polygon] = []
    metres: list[float] = []
    kept: list[Mapping[str, Any]] = []
    unknown = others = small = 0
    for shape, values in zip(shapes, attributes, strict=True):
        found = OPENSTREETMAP.classify(values)
        if found is not None and found[0] != BUILDING:
            others += 1
            continue
        value = height_of(values, height)
        unknown += value is None
        for part in shapely.get_parts(shapely.intersection(shape, window)):
            if shapely.get_type_id(part) != 3 or part.area < _SMALLEST:
                small += 1
                continue
            footprints.append(part)
            metres.append(math.nan if value is None else value)
            kept.append(values)
    names = sorted({name for values in attributes for name in values})
    if height is not None and height not in names:
        raise InputError(f"buildings {path.name} have no attribute {height!r}; choose one of {', '.join(names[:12])}")
    heights = np.array(metres)
    if not footprints:
        raise InputError(f"no building of {path.name} lies on the image; give footprints of the place")
    if np.isnan(heights).all() and default is None:
        raise InputError(
            f"no building of {path.name} has a height (attributes: {', '.join(names[:8]) or 'none'}); "
            "name the attribute with --height-field, or give metres for all with --default-height"
        )
    if unknown:
        assumed = DEFAULT_HEIGHT if default is None else float(default)
        heights = np.where(np.isnan(heights), assumed, heights)
        notes.append(f"{unknown} buildings have no height; {assumed:g} m is assumed")
    if others:
        notes.append(f"{others} features are no buildings and were left out")
    if small:
        notes.append(f"{small} slivers of footprints under {_SMALLEST:g} square metres were left out")
    return Buildings(tuple(footprints), heights, tuple(kept), tuple(notes))


def height_of(attributes: Mapping[str, Any], name: str | None = None) -> float | None:
    """Metres of a building by its attributes; None if they do not say. ``name`` is the only attribute asked if given."""
    lower = {key.lower(): value for key, value in attributes.items()}
    if name is not None:
        return _metres(attributes.get(name))
    for key in HEIGHTS:
        if (value := _metres(lower.get(key))) is not None:
            return value
    for key in LEVELS:
        if (value := _metres(lower.get(key))) is not None:
            return value * STOREY if value * STOREY < _TALLEST else None
    return None


def _metres(value: Any) -> float | None:
    match = _NUMBER.match(str(value)) if value is not None else None
    if match is None:
        return None
    metres = float(match[1]) * (0.3048 if (match[2] or "m").lower() in ("ft", "feet", "'") else 1.0)
    return metres if 0 < metres < _TALLEST else None
