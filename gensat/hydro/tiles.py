"""Which parts of a grid are wet or about to be: only those are stepped, with the result of stepping all."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gensat.hydro.state import State


@dataclass(eq=False)
class Tiles:
    """Bookkeeping of a solver that writes each step into a second set of arrays.

    Water moves by at most one cell a step, so a tile changes only if it or one of its eight neighbours holds water. As the two
    sets of arrays take turns, one that was wet in the step before last still has that written where the next result
    goes: it counts too. Then a tile that is left out is dry in both sets.

    Args:
        shape: rows and columns of cells.
        size: rows and columns of a tile.
        now: (n, R, C) bool, per scenario the tiles with water or discharge in the state.
        before: the same of the arrays that are written next.
        always: (R, C) bool, tiles at an edge where water may come in.
        spare: the other set of depth and discharges.
        deepest: (\\*b) largest depth, None where it is not known.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    now: np.ndarray
    before: np.ndarray
    always: np.ndarray
    spare: tuple[Tensor, Tensor, Tensor]
    deepest: Tensor | None = None
    _known: tuple[Tensor, np.ndarray] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, state: State, size: tuple[int, int], *, always: tuple[bool, ...] = (False,) * 4) -> Tiles:
        """For a state that comes from elsewhere.

        Args:
            state: on the CPU.
            size: rows and columns of a tile.
            always: whether water may come in over the northern, eastern, southern and western edge.
        """
        height, width = (int(v) for v in state.depth.shape[-2:])
        rows, columns = -(-height // size[0]), -(-width // size[1])
        moving = state.depth > 0
        moving |= (state.x[..., :, :width] != 0) | (state.y[..., :height, :] != 0)
        moving[..., -1:] |= state.x[..., -1:] != 0
        moving[..., -1:, :] |= state.y[..., -1:, :] != 0
        flat = moving.reshape(-1, height, width).numpy()
        padded = np.zeros((len(flat), rows * size[0], columns * size[1]), dtype=bool)
        padded[:, :height, :width] = flat
        now = padded.reshape(-1, rows, size[0], columns, size[1]).any((2, 4))
        rim = np.zeros((rows, columns), dtype=bool)
        north, east, south, west = always
        rim[0] |= north
        rim[-1] |= south
        rim[:, 0] |= west
        rim[:, -1] |= east
        spare = (torch.zeros_like(state.depth), torch.zeros_like(state.x), torch.zeros_like(state.y))
        flags = np.asarray(now)
        return cls((height, width), size, flags, np.zeros_like(flags), rim, spare)

    def touch(self, cells: Tensor | None) -> None:
        """Water was added to (k) flat cells, or anywhere (None)."""
        self.deepest = None
        if cells is None:
            self.now[:] = True
            return
        if self._known is None or self._known[0] is not cells:  # held water comes with the same cells after every step
            row, column = np.divmod(cells.numpy(), self.shape[1])
            flags = np.zeros(self.now.shape[1:], dtype=bool)
            flags[row // self.size[0], column // self.size[1]] = True
            self._known = cells, flags
        self.now |= self._known[1]

    def turn(self, scenario: int) -> tuple[np.ndarray, np.ndarray]:
        """What to step, as the sets of arrays are about to change places.

        Returns:
            (k) numbers of the tiles to step, row by row; and (R * C) bool, False, for the step to say which are wet.
        """
        wet = self.now[scenario] | self.before[scenario]
        self.before[scenario] = self.now[scenario]
        self.now[scenario] = False
        rows, columns = wet.shape
        near = np.zeros((rows + 2, columns + 2), dtype=bool)
        for down in range(3):
            for right in range(3):
                near[down : down + rows, right : right + columns] |= wet
        return np.flatnonzero(near[1:-1, 1:-1] | self.always), self.now[scenario].reshape(-1)

    def wait(self, scenario: int) -> None:
        """A scenario is carried over from one set to the other as it is."""
        self.before[scenario] = self.now[scenario]
