"""Levees, flood walls and dykes: lines with a height, raised out of the bed so that no water slips through diagonally."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo.raster import require_file
from gensat.geo.vectors import read_lines
from gensat.hydro.domain import Domain
from gensat.hydro.metres import HIGHEST, LOWEST

HEIGHTS = ("height", "wall_height", "height_m", "hgt", "h")
"""Attributes that hold a height above the ground in metres, in the order in which they are looked for; case does not matter."""

CRESTS = ("crest", "crest_level", "crest_m", "crest_elevation", "elevation", "elev", "z", "top")
"""Attributes that hold the elevation of a crest in metres above the datum of the DEM."""

_TALLEST = 100.0  # metres of a wall
_NOTHING = -np.inf


def with_walls(
    domain: Domain,
    path: str | os.PathLike[str],
    *,
    field: str | None = None,
    height: float | int | None = None,
    crest: bool = False,
    corners: bool = True,
) -> Domain:
    """A domain with walls: every cell of a line stands at least as high as the wall.

    Heights are above the ground of each cell, so that the crest follows the terrain; with ``crest`` they are elevations above the
    datum of the DEM. Where walls meet the higher one counts, and a cell that is higher than its wall stays as it is. Over a crest
    water runs as over a weir (:mod:`gensat.hydro.weirs`).

    Args:
        domain: where.
        path: lines in a vector file.
        field: attribute that holds the height; else the first of :data:`HEIGHTS` (or :data:`CRESTS`) that there is.
        height: metres of walls that have none.
        crest: whether heights are elevations of the crest.
        corners: whether every cell that a line touches is raised, and cells of a line have an edge in common with the next
            one: so that not even 8 neighbours lead through it. Solvers that step through time pass water over edges only.
            Without corners an oblique wall is one cell thick for them, and lets pass what a weir does; with them, less.

    Raises:
        InputError: unreadable, no lines, none on the domain, no such attribute, or walls without a height or with an impossible one.
    """
    path = require_file(path)
    lines, attributes, notes = read_lines(path, domain.canvas)
    heights, said = _heights(attributes, path.name, field, height, crest=crest)
    tops = burn(lines, heights, domain, corners=corners)
    touched = np.isfinite(tops) & domain.exists
    if not touched.any():
        raise InputError(f"no wall of {path.name} lies on the DEM; give walls of the place")
    bed = np.maximum(domain.bed, np.where(touched, tops if crest else domain.bed + tops, _NOTHING))
    raised = bed > domain.bed
    gained = (bed - domain.bed)[raised]
    note = f"{len(lines)} walls raise {int(raised.sum())} cells"
    note += f" by {gained.min():.3g} to {gained.max():.3g} m" if len(gained) else ""
    if buried := int((touched & ~raised).sum()):
        note += f"; at {buried} cells the ground is as high"
    walls = raised if domain.walls is None else domain.walls | raised
    return replace(domain, bed=bed, walls=walls, notes=(*domain.notes, *notes, *said, note))


def burn(
    lines: Sequence[shapely.Geometry], heights: Sequence[float], domain: Domain, *, corners: bool = True
) -> Float[np.ndarray, "h w"]:
    """(h, w) the highest value of the lines on each cell, minus infinity where there is none; ``corners`` as of :func:`with_walls`."""
    tops = np.full(domain.shape, _NOTHING)
    shapes = sorted(zip(lines, heights, strict=True), key=lambda one: one[1])  # the last one burnt counts
    if shapes:
        rasterize(shapes, out=tops, transform=domain.canvas.transform, all_touched=corners)
    for flip in (False, True) if corners else ():
        # A line through the very corner of four cells touches two that share no edge.
        seen = tops[:, ::-1] if flip else tops
        a, b, c, d = seen[:-1, :-1], seen[:-1, 1:], seen[1:, :-1], seen[1:, 1:]
        gap = np.isfinite(a) & np.isfinite(d) & ~np.isfinite(b) & ~np.isfinite(c)
        b[gap] = np.minimum(a, d)[gap]
    return tops


def _heights(
    attributes: Sequence[Mapping[str, Any]], name: str, field: str | None, default: float | int | None, *, crest: bool
) -> tuple[list[float], list[str]]:
    """Metres of each wall, and notes."""
    low, high = (LOWEST, HIGHEST) if crest else (0.0, _TALLEST)
    what = "a crest" if crest else "a wall"
    if default is not None and not (math.isfinite(default) and low < default < high):
        raise InputError(f"{what} of {default:g} m cannot be; give --wall-height in metres")
    lower = [{key.lower(): value for key, value in values.items()} for values in attributes]
    there = sorted({key for values in lower for key in values})
    names = CRESTS if crest else HEIGHTS
    chosen = field.lower() if field is not None else next((one for one in names if one in there), None)
    listed = ", ".join(there[:8]) or "none"
    if field is not None and chosen not in there:
        raise InputError(f"walls {name} have no attribute {field!r}; choose one of {listed}")
    if chosen is None and default is None:
        raise InputError(
            f"walls {name} have no height (attributes: {listed}); name it with --wall-field, or give --wall-height"
        )
    found = [_number(values.get(chosen)) if chosen is not None else math.nan for values in lower]
    missing = sum(math.isnan(value) for value in found)
    if missing and default is None:
        raise InputError(f"{missing} of {len(found)} walls in {name} have no height; give it with --wall-height")
    wrong = [value for value in found if not math.isnan(value) and not low < value < high]
    if wrong:
        raise InputError(f"{what} of {wrong[0]:g} m in {name} cannot be; give heights in metres ({chosen})")
    notes = [f"{missing} walls have no height; {default:g} m is taken"] if missing and chosen is not None else []
    return [float(default or 0) if math.isnan(value) else value for value in found], notes


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
