"""What a canvas covers in the CRS of a map, where longitudes repeat every turn and a pole is a whole edge."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from pyproj import CRS

from gensat.geo.canvas import Canvas
from gensat.geo.crs import project

Box = tuple[float, float, float, float]

_ALONG = 721  # samples an edge: 200 km long and 50 km from a pole, it bulges 0.2 m between two


def footprint(canvas: Canvas, crs: CRS, *, margin: float = 0.0) -> Box | None:
    """(left, bottom, right, top) of a canvas in another CRS, or None where that CRS is not defined.

    Longitudes are continuous around those of the centre of the canvas, so they may pass the antimeridian: 179.9 to
    180.1. Around a pole they are -360 to 360, whatever meridian a map begins at, and latitudes reach the pole.

    Args:
        canvas: a canvas with a place.
        crs: of the map.
        margin: metres around the canvas that belong to it.
    """
    assert canvas.crs is not None
    left, bottom, right, top = (b + m for b, m in zip(canvas.bounds, (-margin, -margin, margin, margin), strict=True))
    along, none, full = np.linspace(0, 1, _ALONG), np.zeros(_ALONG), np.ones(_ALONG)
    x = left + np.concatenate([along, along, none, full, [0.5]]) * (right - left)
    y = bottom + np.concatenate([none, full, along, along, [0.5]]) * (top - bottom)
    u, v = project(canvas.crs, crs, x, y)
    u = continuous(crs, u, float(u[-1]))
    known = np.isfinite(u) & np.isfinite(v)
    if not known.any():
        return None
    west, south, east, north = u[known].min(), v[known].min(), u[known].max(), v[known].max()
    pole = pole_inside(canvas, crs, margin=margin)
    if pole is not None:
        west, east = -4 * abs(pole), 4 * abs(pole)
        south, north = min(south, pole), max(north, pole)
    return float(west), float(south), float(east), float(north)


def turn(crs: CRS) -> float | None:
    """After how much a longitude comes round again, in units of the CRS (360 in degrees); None if it is projected."""
    return 2 * math.pi / crs.axis_info[0].unit_conversion_factor if crs.is_geographic else None


def continuous(crs: CRS, x: Float[np.ndarray, " n"], about: float) -> Float[np.ndarray, " n"]:
    """Longitudes moved by whole turns to within half a turn of ``about``; coordinates of a projected CRS as they are."""
    whole = turn(crs)
    return x if whole is None else about + (x - about + whole / 2) % whole - whole / 2


def copies(crs: CRS, box: Box) -> list[tuple[float, Box]]:
    """A box and how far it was moved, as maps that begin at -180, at 0 or across the antimeridian may hold it."""
    left, bottom, right, top = box
    whole = turn(crs)
    if whole is None or right - left > whole:
        return [(0.0, box)]
    return [(k, (left + k, bottom, right + k, top)) for k in (0.0, -whole, whole)]


def pole_inside(canvas: Canvas, crs: CRS, *, margin: float = 0.0) -> float | None:
    """Latitude, in units of a geographic CRS, of the pole that a canvas and its margin contain; None without one."""
    whole = turn(crs)
    if whole is None or canvas.crs is None:
        return None
    left, bottom, right, top = canvas.bounds
    for pole in (whole / 4, -whole / 4):
        x, y = project(crs, canvas.crs, 0.0, pole)
        if left - margin < x < right + margin and bottom - margin < y < top + margin:
            return pole
    return None
