"""What every time-stepping solver does, and how a flood is run with one: steps, balance, what is kept, interruption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.boundary import Boundaries
from gensat.hydro.domain import Domain
from gensat.hydro.state import State

GRAVITY = 9.80665
"""Metres a second squared."""

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Solver(ABC):
    """A solver of flow over a domain; scenarios of a batch do not know of each other, not even by their time step.

    Args:
        domain: where.
        boundaries: its four edges.
        courant: share of the longest stable time step that is taken, 0 to 1.
        dtype: ``float64``, or ``float32`` for speed; the bed is then counted from its middle.
        device: of the state; None is the CPU.

    Raises:
        InputError: a number out of its range.
    """

    name: str
    """What run.json and checkpoints call it."""

    staggered: bool
    """Whether discharges lie on faces; else momenta at cells."""

    def __init__(
        self,
        domain: Domain,
        boundaries: Boundaries | None = None,
        *,
        courant: float | int,
        dtype: str = "float64",
        device: torch.device | str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} is none of a solver; give float64 or float32")
        if not 0 < courant <= 1:
            raise InputError(f"a Courant number of {courant:g} is not stable; give one above 0 and up to 1")
        self.domain = domain
        self.boundaries = boundaries or Boundaries()
        self.courant = float(courant)
        self.dtype = DTYPES[dtype]
        self.device = torch.device(device or "cpu")
        self.dx = float(domain.dx)
        bed = domain.walled
        known = bed[domain.exists]
        # In float32 a bed 2000 m up would leave a tenth of a millimetre to the levels.
        self.lift = 0.0 if dtype == "float64" else float(np.round((known.min() + known.max()) / 2))
        self.bed = torch.as_tensor(bed - self.lift, dtype=self.dtype, device=self.device).contiguous()
        self.exists = torch.as_tensor(domain.exists, device=self.device)
        self.manning = torch.as_tensor(domain.manning, dtype=self.dtype, device=self.device).contiguous()

    def start(
        self,
        *,
        depth: float | int | np.ndarray | Tensor | None = None,
        level: float | int | np.ndarray | Tensor | None = None,
        batch: tuple[int, ...] = (),
    ) -> State:
        """Water at rest; dry if neither depth nor level is given.

        Args:
            depth: metres, anything that broadcasts to (\\*b, h, w).
            level: water surface in metres above the datum: a number, (\\*b, 1, 1) or (\\*b, h, w); wet is what lies
                below it, connected or not.
            batch: shape of the scenarios; default that of depth or level.

        Raises:
            InputError: both are given, a depth is negative or not finite, or shapes do not fit.
        """
        if depth is not None and level is not None:
            raise InputError("both a depth and a level are given to start from; give one")
        if level is not None:
            water = torch.as_tensor(level, dtype=torch.float64, device=self.device)
            if not torch.isfinite(water).all():
                raise InputError("the level to start from is not finite; give metres above the datum of the DEM")
            bed = torch.as_tensor(self.domain.bed, device=self.device)
            found = (water - bed).clamp(min=0)
        else:
            found = torch.as_tensor(0.0 if depth is None else depth, dtype=torch.float64, device=self.device)
        if not (torch.isfinite(found).all() and (found >= 0).all()):
            raise InputError("the depth to start from is negative or not finite; give metres, 0 where it is dry")
        height, width = self.domain.shape
        batch = batch or tuple(found.shape[:-2])
        try:
            found = found.broadcast_to(*batch, height, width)
        except RuntimeError:
            raise InputError(
                f"the water to start from has shape {tuple(found.shape)}; give one that fits {(*batch, height, width)}"
            ) from None
        filled = torch.where(self.exists, found, 0).to(self.dtype).contiguous()
        extra = int(self.staggered)
        return State(
            filled,
            filled.new_zeros(*batch, height, width + extra),
            filled.new_zeros(*batch, height + extra, width),
            torch.zeros(batch, dtype=torch.float64, device=self.device),
        )

    @abstractmethod
    def time_step(self, state: State) -> Tensor:
        """(\\*b) float64 seconds, the longest step to take from here; infinite where all is dry."""

    @abstractmethod
    def step(self, state: State, dt: Tensor) -> tuple[State, Tensor]:
        """One step; the memory of ``state`` may be used for the result.

        Args:
            state: of this solver.
            dt: (\\*b) float64 seconds; a scenario whose dt is 0 comes back as it is.

        Returns:
            The state later (its time too), and (\\*b, 4) float64 cubic metres that came in over the edges in the order
            of :data:`gensat.hydro.boundary.SIDES` (negative for what left).
        """

    @abstractmethod
    def speed(self, state: State) -> tuple[Tensor, Tensor]:
        """(u, v), each (\\*b, h, w) metres a second at the cells, to the east and to the SOUTH; 0 where it is dry."""

    @abstractmethod
    def memory(self, batch: int = 1) -> int:
        """Bytes of solver and states of ``batch`` scenarios at most."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Numbers that change the result, for run.json; a checkpoint of others is not resumed."""
