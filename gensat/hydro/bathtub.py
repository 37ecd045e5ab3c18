"""Bathtub floods: what lies below the level, and is connected to where the water comes from.

The simplest flood there is: a level surface (or one that varies in space, but not in time) that reaches every cell from
which a path of cells below it leads to a source. Low ground behind a dike stays dry until the level passes the dike. It
knows no time, no volume and no friction: it is the upper bound of what a long-lasting level can reach.

Paths step to the 4 neighbours by default: with 8, water leaks through walls of one cell that run diagonally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion, label

from gensat.errors import InputError

STRUCTURES = {4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool), 8: np.ones((3, 3), bool)}
"""Which cells of a 3 x 3 square are neighbours."""

_NEVER = np.inf


@dataclass(frozen=True, eq=False)
class Sources:
    """Where the water of a bathtub comes from.

    Args:
        cells: (H, W) bool. A source need not be part of the DEM (a sea that is nodata): it wets its neighbours.
        how: in words, for tags and messages.
        notes: what the user should know; sentences without a full stop.
    """

    cells: Bool[np.ndarray, "h w"]
    how: str
    notes: tuple[str, ...] = ()


def require_neighbours(neighbours: int) -> None:
    """Raises InputError unless cells have 4 or 8 neighbours."""
    if neighbours not in STRUCTURES:
        raise InputError(f"cells with {neighbours} neighbours are not known; give 4, or 8 for paths along diagonals")


def find_sources(
    bed: Float[np.ndarray, "h w"],
    level: Float[np.ndarray, "h w"] | float | int,
    *,
    points: Sequence[tuple[int, int]] = (),
    sea: Bool[np.ndarray, "h w"] | None = None,
) -> Sources:
    """Where water enters: the points and sea that were given, else sea at the edge, else low cells at the edge.

    Args:
        bed: metres; NaN outside the DEM.
        level: of the water, metres above the same datum.
        points: (row, column) of cells where water stands or enters.
        sea: True where there is sea; it may lie on cells outside the DEM.

    Returns:
        The points and the sea if either is given; else the cells at or below 0 m that touch the edge of the raster; else
        the cells of the edge below the level, with a note that warns.

    Raises:
        InputError: a point outside the DEM or above the level, a sea without cells, or no cell of the edge below the
            level.
    """
    height, width = bed.shape
    field = np.broadcast_to(np.asarray(level, np.float64), bed.shape)
    cells = np.zeros(bed.shape, bool)
    for row, column in points:
        if not (0 <= row < height and 0 <= column < width) or np.isnan(bed[row, column]):
            raise InputError("water cannot come from outside the DEM; give --from a point on it")
        if not bed[row, column] < field[row, column]:
            raise InputError(
                f"the ground at row {row}, column {column} is {bed[row, column]:.2f} m, not below the level of "
                f"{field[row, column]:.2f} m; give --from a point where the water stands"
            )
        cells[row, column] = True
    if sea is not None:
        if not sea.any():
            raise InputError("the sea has no cells on the DEM; give the sea of the place, or --from LON LAT")
        cells |= sea
    if points or sea is not None:
        named = [f"{len(points)} points"] if points else []
        return Sources(cells, " and ".join(named + (["the sea that was given"] if sea is not None else [])))
    edge = edge_of(~np.isnan(bed))
    with np.errstate(invalid="ignore"):
        low, below = edge & (bed <= 0), edge & (bed < field)
    if (low & below).any():
        return Sources(low, "cells at or below 0 m at the edge")
    if below.any():
        note = (
            "no cell at the edge is at or below 0 m, so water enters wherever the edge is below the level; "
            "give --from LON LAT or --sea FILE if it comes from elsewhere"
        )
        return Sources(below, "cells below the level at the edge", (note,))
    raise InputError(
        "no cell at the edge of the DEM is below the level, so no water can enter; give --from LON LAT, --sea FILE or a higher level"
    )


def edge_of(exists: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The outermost cells of a DEM: at the edge of the raster, or beside a cell outside the DEM."""
    return exists & ~binary_erosion(exists, STRUCTURES[4])


def reached(
    open_: Bool[np.ndarray, "h w"], sources: Bool[np.ndarray, "h w"], *, neighbours: int = 4
) -> Bool[np.ndarray, "h w"]:
    """Open cells that are sources, or to which a path over open cells and sources leads from one.

    Args:
        open_: where water may stand.
        sources: where it comes from; those that are not open let it pass without getting wet.
        neighbours: 4 or 8.
    """
    require_neighbours(neighbours)
    labels, count = label(open_ | sources, STRUCTURES[neighbours])
    fed = np.zeros(count + 1, bool)
    fed[labels[sources]] = True
    return fed[labels] & open_


def bathtub(
    bed: Float[np.ndarray, "h w"],
    level: Float[np.ndarray, "*b h w"] | Float[np.ndarray, "*b"] | float | int,
    sources: Bool[np.ndarray, "h w"],
    *,
    neighbours: int = 4,
) -> Float[np.ndarray, "*b h w"]:
    """Depth of the water where ``bed < level`` and a path leads to a source.

    Args:
        bed: metres above the datum of the level; NaN outside the DEM.
        level: one number, a field (h, w), or batches of either: (b) numbers or (b, h, w) fields. NaN is no water.
        sources: where the water comes from (:func:`find_sources`).
        neighbours: 4 (default) or 8.

    Returns:
        float32 metres: 0 where dry, NaN outside the DEM.
    """
    level = np.asarray(level, np.float64)
    if level.ndim in (0, 2):
        with np.errstate(invalid="ignore"):
            wet = reached(bed < level, sources, neighbours=neighbours)
        return depth_of(bed, level, wet)
    return np.stack([bathtub(bed, one, sources, neighbours=neighbours) for one in level])


def depth_of(
    bed: Float[np.ndarray, "h w"],
    level: Float[np.ndarray, "h w"] | Float[np.ndarray, ""],
    wet: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """float32 metres of water of a level over wet cells; 0 elsewhere, NaN where the bed is."""
    depth = np.where(wet, level - bed, 0.0).astype(np.float32)
    # A cell that is wet by less than float32 can say is wet all the same.
    depth[wet] = np.maximum(depth[wet], np.finfo(np.float32).tiny)
    depth[np.isnan(bed)] = np.nan
    return depth


def spill_level(
    bed: Float[np.ndarray, "h w"], sources: Bool[np.ndarray, "h w"], *, neighbours: int = 4
) -> Float[np.ndarray, "h w"]:
    """The level above which a cell is wet: the lowest height that a path from a source must pass, the cell's own included.

    One pass answers for every level: ``bathtub(bed, level) > 0`` is ``spill_level < level`` for any number. It is the
    greyscale reconstruction by erosion of the bed from the sources (Vincent 1993, scikit-image), so a rising-water
    animation or a hundred levels of an ensemble cost one.

    Returns:
        (H, W) float64 metres; infinite where no path leads, NaN outside the DEM.
    """
    from skimage.morphology import reconstruction

    require_neighbours(neighbours)
    outside = np.isnan(bed)
    ground = np.where(outside, _NEVER, bed).astype(np.float64)
    ground[sources & outside] = -np.inf  # a sea without heights lets water pass at any level
    seed = np.where(sources, ground, _NEVER)
    # The reconstruction cannot rank infinities: they become the largest and the smallest heights of all.
    known = ground[np.isfinite(ground)]
    low, high = float(known.min()) - 1.0, float(known.max()) + 1.0
    spill = reconstruction(np.clip(seed, low, high), np.clip(ground, low, high), "erosion", STRUCTURES[neighbours])
    spill = np.asarray(spill, np.float64)
    spill[spill >= high] = _NEVER
    spill[outside] = np.nan
    return spill
