"""Trees of a real place: what a surface model holds above the ground where no building stands.

A surface model shows how high crowns reach, not where one ends and the next begins. Tops are local maxima of the height above ground,
and between them the canopy is filled with trees of the height it has there; how wide a crown of that height is comes from the regression for deciduous trees of Popescu and Wynne 2004 (Forest Science 50):
crown width = 3.09632 + 0.00895 height^2 metres.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from gensat.geo.classes import WOODLAND
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.streets.plan import Item
from gensat.render.streets.things import PARTS, Maker, Solids, part_of

LOWEST = 2.5
"""Metres above ground from which on a thing counts as a tree."""

_TALLEST = 45.0  # metres; what is higher is a mast, a crane or an error
_SMOOTH = 1.0  # metres over which tops are looked for
_APART = 0.7  # of the sum of two radii: the nearest that two tops stand
_FILLED = 1.1  # of the sum of two radii: the nearest that a tree between tops stands to another
_WITHIN = 0.8  # of its radius: the nearest that such a tree stands to the edge of the canopy
_KINDS = 12  # different shapes of trees
_LATTICE = 2.0  # metres between places that are tried for them


def tree_tops(
    above: Float[np.ndarray, "h w"], grid: Grid, covered: Bool[np.ndarray, "h w"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Places, heights and crown radii of trees, the highest first.

    Args:
        above: metres of the surface above the ground.
        grid: where its cells are.
        covered: cells on which no tree stands, such as those of buildings.

    Returns:
        Local (x, y) in metres, metres from the ground to the top, and metres of radius.
    """
    canopy = np.where(covered | (above > _TALLEST), 0.0, above)
    smooth = gaussian_filter(canopy, _SMOOTH / grid.step)
    window = max(3, 2 * round(_SMOOTH / grid.step) + 1)
    top = smooth == maximum_filter(smooth, window)
    every = max(1, round(_LATTICE / grid.step))
    filled = np.zeros_like(top)
    filled[every // 2 :: every, every // 2 :: every] = True
    radius = (3.09632 + 0.00895 * canopy**2) / 2
    # What fills the canopy lies inside of it; a top may have been narrower than its height says.
    filled &= distance_transform_edt(canopy >= LOWEST) * grid.step >= _WITHIN * radius
    row, column = np.nonzero((top | filled) & (canopy >= LOWEST))
    order = np.lexsort((column, row, -smooth[row, column], ~top[row, column]))  # tops before what is between them
    row, column = row[order], column[order]
    places = np.stack([grid.left + (column + 0.5) * grid.step, grid.top - (row + 0.5) * grid.step], axis=1)
    heights, radii = canopy[row, column].astype(np.float64), radius[row, column].astype(np.float64)
    apart = np.where(top[row, column], _APART, _FILLED)
    kept = _spread_out(places, radii, apart)
    return places[kept], heights[kept], radii[kept]


def _spread_out(
    places: Float[np.ndarray, "n 2"], radii: Float[np.ndarray, " n"], apart: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """One after the other, those that stand ``apart`` x the sum of two radii from all that were taken before."""
    kept = np.zeros(len(places), bool)
    if not len(places):
        return kept
    near = cKDTree(places)
    for i in range(len(places)):
        others = np.array(near.query_ball_point(places[i], apart[i] * (radii[i] + radii.max())))
        others = others[kept[others]]
        kept[i] = (np.hypot(*(places[others] - places[i]).T) >= apart[i] * (radii[others] + radii[i])).all()
    return kept


def trees(
    above: Float[np.ndarray, "h w"], grid: Grid, covered: Bool[np.ndarray, "h w"], ground: HeightField, *, seed: int = 0
) -> tuple[Objects, int]:
    """Trunks and crowns for a surface model, and how many trees they are; crowns have the image's colour, seen from above.

    Args:
        above: metres of the surface above the ground.
        grid: where its cells are.
        covered: cells on which no tree stands.
        ground: what they stand on.
        seed: of their shapes.
    """
    places, heights, radii = tree_tops(above, grid, covered)
    feet = ground.height_at(*torch.from_numpy(places).float().unbind(1)).tolist()
    solids, rng = Solids(), np.random.default_rng(seed)
    # A few shapes, turned and stretched: files hold each of them once.
    turns, kinds = rng.uniform(0, 360, len(places)), seed + rng.integers(_KINDS, size=len(places))
    for number, ((x, y), foot, high, radius) in enumerate(zip(places, feet, heights, radii, strict=True)):
        maker = Maker(solids, lambda *_, foot=foot: foot, lambda *_: WOODLAND)
        maker.tree(
            Item("tree", float(x), float(y), float(turns[number]), seed=int(kinds[number])), float(high), float(radius)
        )
    objects = solids.objects()
    part, _ = part_of(objects.label)
    leaves = (part == PARTS.index("leaf"))[:, None]
    return replace(objects, colour=torch.where(leaves, torch.nan, objects.colour)), len(places)
