"""Height fields as exact surfaces: bilinear patches through cell centres, or flat cell columns with vertical walls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from gensat.render.grid import Grid


@dataclass(frozen=True, eq=False)
class HeightField:
    """A surface over a grid.

    Args:
        heights: local z of each cell, metres; row 0 is north. NaN cells are holes that nothing hits.
        grid: where the cells lie.
        surface: ``"bilinear"``: interpolated between cell centres, flat from the outermost centres on; ``"columns"``:
            each cell a flat top with vertical walls to lower neighbours.
        beyond: what lies outside the grid: ``"edge"``: the heights of the edge go on outward for ever; a number: a
            level plane at that z; None: nothing.

    Raises:
        InputError: the heights do not have the size of the grid, or an unknown surface.
    """

    heights: Float[Tensor, "rows columns"]
    grid: Grid
    surface: Literal["bilinear", "columns"] = "bilinear"
    beyond: Literal["edge"] | float | int | None = "edge"
