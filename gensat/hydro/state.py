"""The water at one moment: depths and discharges of one scenario or a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

THIN = 1e-3
"""Metres of flow depth from which a speed is spoken of."""


@runtime_checkable
class Work(Protocol):
    """What a solver keeps beside a state from step to step: buffers, which tiles are wet, the largest time step."""

    def touch(self, cells: Tensor | None) -> None:
        """Someone else changed the depth of ``cells`` ((k) flat indices), or of any cell (None)."""


@dataclass(eq=False)
class State:
    """Water of scenarios ``*b`` (none for one alone) on the grid of a domain.

    Discharges are per metre of width, x to the east and y to the SOUTH, as the rows run. A staggered solver keeps them
    on the faces between cells: ``x[..., r, c]`` is the western face of cell (r, c), ``y[..., r, c]`` its northern face.
    Others keep the momentum of each cell, u h and v h. A solver may reuse the memory of the state that it is given:
    :meth:`clone` what must not change.

    Args:
        depth: (\\*b, h, w) metres, never negative, 0 where it is dry and outside the domain.
        x: (\\*b, h, w + 1) on faces or (\\*b, h, w) at cells, square metres a second, positive to the east.
        y: (\\*b, h + 1, w) or (\\*b, h, w), positive to the south.
        time: (\\*b) seconds, float64; scenarios step on their own.
        work: belongs to the solver; None is always allowed.
    """

    depth: Float[Tensor, "*b h w"]
    x: Float[Tensor, "*b h x"]
    y: Float[Tensor, "*b y w"]
    time: Tensor
    work: Work | None = field(default=None, repr=False)

    @property
    def batch(self) -> torch.Size:
        """Shape of the scenarios, () for one alone."""
        return self.depth.shape[:-2]

    @property
    def staggered(self) -> bool:
        """Whether discharges lie on faces."""
        return self.x.shape[-1] == self.depth.shape[-1] + 1

    def clone(self) -> State:
        """A copy that shares nothing."""
        return State(self.depth.clone(), self.x.clone(), self.y.clone(), self.time.clone())

    def add(self, metres: Tensor, cells: Tensor | None = None) -> None:
        """Adds water, in place.

        Args:
            metres: (\\*b) or (\\*b, 1, 1) or (\\*b, h, w) for the whole grid; (\\*b, k) for ``cells``.
            cells: (k) flat indices (row * w + column), each once; None is the whole grid.
        """
        if cells is None:
            shape = metres.shape if metres.ndim >= self.depth.ndim else (*metres.shape, 1, 1)
            self.depth += metres.reshape(shape).to(self.depth)
        else:
            flat = self.depth.reshape(*self.batch, -1)
            flat.index_add_(-1, cells, metres.to(flat).expand(*self.batch, len(cells)).contiguous())
        if self.work is not None:
            self.work.touch(cells)

    def volume(self, area: float | int) -> Tensor:
        """(\\*b) cubic metres of water, summed in float64; ``area`` of a cell in square metres."""
        return self.depth.sum((-2, -1), dtype=torch.float64) * area
