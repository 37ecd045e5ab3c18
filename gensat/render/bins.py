"""Things sorted into the cells they touch, and the nearest of those in one cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.render.walk import Cells, walk

_MOST = 512  # cells along the longer side
_EACH = 2.0  # cells per thing, about

Intersect: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(origins (k, 3), directions (k, 3), thing (k), from (k), to (k)) -> metres to the thing, inf for a miss.

What lies before ``from`` or beyond ``to`` need not be found.
"""


@dataclass(frozen=True, eq=False)
class Bins:
    """Things by the cells they touch, endless cells around included (in which there is none).

    Args:
        cells: the grid, with the highest point of what touches each cell.
        start: (cells + 1) where the things of each cell begin in ``things``.
        things: numbers of things, cell by cell.
    """

    cells: Cells
    start: Int[Tensor, " c"]
    things: Int[Tensor, " k"]

    def first(
        self, origins: Tensor, directions: Tensor, far: Tensor, intersect: Intersect, slack: float = 1e-3
    ) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Nearest thing that each ray meets: metres (inf for none) and its number (-1).

        A thing is met in the cell where its hit lies, give or take ``slack`` metres, so that no nearer one is overlooked.
        """
        columns = self.cells.maxima[0].shape[1]

        def leaf(o: Tensor, d: Tensor, row: Tensor, column: Tensor, t: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
            cell = row * columns + column
            ray, thing = pairs(self.start, self.things, cell)
            last = out.index_select(0, ray) + slack
            there = o.index_select(0, ray), d.index_select(0, ray)
            hit = intersect(*there, thing, t.index_select(0, ray) - slack, last)
            hit = torch.where(hit <= last, hit, torch.inf)
            return nearest(ray, thing, hit, len(cell))

        return walk(self.cells, origins, directions, far, leaf)


def pairs(start: Tensor, things: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of a ray (its position in ``cell``) and a thing in its cell."""
    first = start.index_select(0, cell)
    count = start.index_select(0, cell + 1) - first
    ray = torch.repeat_interleave(torch.arange(len(cell), device=cell.device), count)
    skipped = first - count.cumsum(0) + count
    return ray, things.index_select(0, torch.arange(len(ray), device=cell.device) + skipped.index_select(0, ray))


def nearest(ray: Tensor, thing: Tensor, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Least ``t`` for each of ``count`` rays, and its thing; of equal ones the lowest number. inf and -1 for none."""
    best = torch.full((count,), torch.inf, dtype=t.dtype, device=t.device).scatter_reduce(0, ray, t, "amin")
    number = torch.where((t == best[ray]) & (t < torch.inf), thing, torch.iinfo(torch.int64).max)
    none = torch.full((count,), torch.iinfo(torch.int64).max, device=t.device)
    what = none.scatter_reduce(0, ray, number, "amin")
    return best, torch.where(best < torch.inf, what, -1)


def sort_into_cells(
    boxes: np.ndarray,
    high: np.ndarray,
    touches: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Bins:
    """Bins of things by their bounding boxes.

    Args:
        boxes: (n, 4) left, bottom, right, top in local metres.
        high: (n) highest z of each.
        touches: given (k) things and (k, 4) boxes of cells that their own boxes overlap, says which they really touch.
        dtype: of the planes and heights.
        device: where they go.
    """
    left, bottom = boxes[:, :2].min(axis=0) - 0.5
    right, top = boxes[:, 2:].max(axis=0) + 0.5
    width, height = right - left, top - bottom
    step = max(max(width, height) / _MOST, np.sqrt(width * height / (_EACH * max(len(boxes), 32))))
    columns, rows = int(np.ceil(width / step)), int(np.ceil(height / step))
    slack = 1e-3 + 1e-6 * max(width, height)  # of float32 coordinates
    first_column = np.floor((boxes[:, 0] - slack - left) / step).astype(int).clip(0, columns - 1)
    last_column = np.floor((boxes[:, 2] + slack - left) / step).astype(int).clip(0, columns - 1)
    first_row = np.floor((top - boxes[:, 3] - slack) / step).astype(int).clip(0, rows - 1)
    last_row = np.floor((top - boxes[:, 1] + slack) / step).astype(int).clip(0, rows - 1)
    across, down = last_column - first_column + 1, last_row - first_row + 1
    count = across * down
    thing = np.repeat(np.arange(len(boxes)), count)
    nth = np.arange(len(thing)) - np.repeat(np.cumsum(count) - count, count)
    column = first_column[thing] + nth % across[thing]
    row = first_row[thing] + nth // across[thing]
    if touches is not None:
        x0, y1 = left + column * step - slack, top - row * step + slack
        kept = touches(thing, np.stack([x0, y1 - step - 2 * slack, x0 + step + 2 * slack, y1], axis=1))
        thing, column, row = thing[kept], column[kept], row[kept]
    highest = np.full((rows, columns), -np.inf)
    np.maximum.at(highest, (row, column), high[thing])
    cell = (row + 1) * (columns + 2) + column + 1
    order = np.lexsort((thing, cell))
    thing, cell = thing[order], cell[order]
    start = np.searchsorted(cell, np.arange((rows + 2) * (columns + 2) + 1))
    padded = torch.as_tensor(np.pad(highest, 1, constant_values=-np.inf), dtype=dtype, device=device)
    return Bins(
        Cells.over(padded, (float(left), float(top)), float(step)),
        torch.as_tensor(start, device=device),
        torch.as_tensor(thing, device=device),
    )
