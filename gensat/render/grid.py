"""Square cells over a scene: where rasters lie in its frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gensat.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A north-up grid of square cells in the scene frame; cell (r, c) covers [r, r + 1) x [c, c + 1).

    Args:
        left: local x of the western edge, metres.
        top: local y of the northern edge, metres.
        step: side of a cell, metres.
        rows: number of cells from north to south.
        columns: number of cells from west to east.
    """

    left: float | int
    top: float | int
    step: float | int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or not self.step > 0:
            raise InputError(f"a grid of {self.rows} x {self.columns} cells of {self.step} m is empty")

    @classmethod
    def centred(cls, rows: int, columns: int, step: float | int) -> Grid:
        """Grid around the local origin, as that of the image of a scene."""
        return cls(-columns * step / 2, rows * step / 2, step, rows, columns)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in local metres."""
        return self.left, self.top - self.rows * self.step, self.left + self.columns * self.step, self.top

    def pixels(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Local metres to continuous (rows, columns); the centre of cell 0 is at 0.5."""
        return (self.top - y) / self.step, (x - self.left) / self.step

    def centres(self, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """x and y (rows, columns) of the centres of all cells, float64."""
        row = torch.arange(self.rows, device=device, dtype=torch.float64) + 0.5
        column = torch.arange(self.columns, device=device, dtype=torch.float64) + 0.5
        y, x = torch.meshgrid(self.top - row * self.step, self.left + column * self.step, indexing="ij")
        return x, y

    def inside(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether points lie on the grid, bool."""
        left, bottom, right, top = self.bounds
        return (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
