"""What every time-stepping solver does, and how a flood is run with one: steps, balance, what is kept, interruption."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.boundary import Boundaries
from gensat.hydro.checkpoint import fingerprint, load
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing
from gensat.hydro.record import Balance, FlowRun, Gauges, Peaks
from gensat.hydro.state import State
from gensat.hydro.stepping import Progress, Runner

GRAVITY = 9.80665
"""Metres a second squared."""

DTYPES = {"float64": torch.float64, "float32": torch.float32}

_KEPT = 4  # arrays of the highest values


class Solver(ABC):
    """A solver of flow over a domain; scenarios of a batch do not know of each other, not even by their time step.

    Args:
        domain: where.
        boundaries: its four edges.
        courant: share of the longest stable time step that is taken, 0 to 1.
        gravity: metres a second squared.
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
        gravity: float | int = GRAVITY,
        dtype: str = "float64",
        device: torch.device | str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} is none of a solver; give float64 or float32")
        if not 0 < courant <= 1:
            raise InputError(f"a Courant number of {courant:g} is not stable; give one above 0 and up to 1")
        if not gravity > 0:
            raise InputError(f"gravity is {gravity:g}; give metres a second squared above 0")
        self.domain = domain
        self.boundaries = boundaries or Boundaries()
        self.courant = float(courant)
        self.gravity = float(gravity)
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
        uniform = bool((self.manning == self.manning.flatten()[0]).all())
        self.rows_of_n = self.manning[:1].contiguous() if uniform else self.manning
        """(1, w) where the roughness is the same everywhere, which kernels then read once, else (h, w)."""

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
            InputError: both are given, a depth is negative or not finite, shapes do not fit, or the memory is too
                small for a run.
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
        self.require_memory(batch)
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

    def require_memory(self, batch: tuple[int, ...] = ()) -> None:
        """Checks, before a run, that it fits into the memory that is free.

        Raises:
            InputError: it does not.
        """
        scenarios, (height, width) = math.prod(batch), self.domain.shape
        needed = self.memory(scenarios) + _KEPT * scenarios * height * width * torch.finfo(self.dtype).bits // 8
        cuda = self.device.type == "cuda"
        import psutil  # of the extra flood

        free = torch.cuda.mem_get_info(self.device)[0] if cuda else psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"{scenarios} x {height} x {width} cells need {needed / 2**30:.3g} GiB and {free / 2**30:.3g} are free; "
                "give coarser cells with --gsd, a smaller extent, fewer scenarios, or --dtype float32"
            )

    def deepest_outside(self) -> Tensor | None:
        """() or (\\*b) metres of water that ever stands at an edge by its stage, above its lowest cell; None without stages."""
        found = None
        bed, exists = self.domain.bed, self.domain.exists
        rows = ((bed[0], exists[0]), (bed[:, -1], exists[:, -1]), (bed[-1], exists[-1]), (bed[:, 0], exists[:, 0]))
        for side, (heights, there) in zip(self.boundaries.sides, rows, strict=True):
            if side.level is not None and there.any():
                depth = (side.level.values.amax(0) - float(heights[there].min())).clamp(min=0).to(self.device)
                found = depth if found is None else torch.maximum(found, depth)
        return found

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


def run(
    solver: Solver,
    state: State,
    forcing: Forcing | None = None,
    *,
    seconds: float | int,
    every: float | int | None = None,
    on_output: Callable[[FlowRun], None] | None = None,
    gauges: Mapping[str, tuple[int, int]] | Sequence[tuple[int, int]] | None = None,
    peaks: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float | int = 60.0,
    progress: Callable[[Progress], None] | None = None,
) -> FlowRun:
    """Runs a flood.

    Each scenario takes its own time steps, as long as they are stable, and lands on every output time. Rain and inflow are
    added before each step; held water is brought to its level at the beginning and after each step.

    Args:
        solver: any.
        state: where it begins; its memory may be used.
        forcing: what adds or holds water.
        seconds: of the flood, until the end.
        every: seconds between outputs; the end is one in any case, the beginning is not.
        on_output: called at each output time with the run as it is then. The state belongs to the run.
        gauges: (row, column) of cells whose stage is read at the beginning and at each output.
        peaks: whether the highest values of every cell are kept; it costs as much time as the steps.
        checkpoint: file (``.safetensors``) to resume from if it is there, and to write every ``checkpoint_every`` seconds of
            work, on an interrupt, and at the end. A resumed run has the bits of one that was never interrupted. It is not
            removed.
        checkpoint_every: seconds of work.
        progress: called some times a second.

    Returns:
        The run at its end.

    Raises:
        InputError: times that make no sense, or a checkpoint that is damaged or of another run.
        GensatError: the flow became unstable.
    """
    targets = _targets(seconds, every)
    forcing = forcing or Forcing()
    volume = state.volume(solver.domain.area)
    flow = FlowRun(
        state,
        Balance.of(volume),
        Peaks.of(state) if peaks else None,
        None if gauges is None else Gauges.at(solver, gauges),
        torch.zeros(state.batch, dtype=torch.int64, device=state.depth.device),
    )
    mark = None
    if checkpoint is not None:
        mark = fingerprint(solver, forcing, state, every, peaks, gauges)
        load(checkpoint, mark, flow)
    flow.balance.held += forcing.hold(flow.state, solver.domain, solver.gravity)  # 0 where a run goes on
    if not bool((flow.steps > 0).any()):
        if flow.gauges is not None:
            flow.gauges.read(solver, flow.state)
        if flow.peaks is not None:
            flow.peaks.look(solver, flow.state)
    runner = Runner(solver, forcing, flow, float(seconds), progress, checkpoint, mark, float(checkpoint_every))
    try:
        for target in targets:
            if bool((flow.state.time >= target).all()):
                continue
            runner.go(target)
            if flow.gauges is not None:
                flow.gauges.read(solver, flow.state)
            if on_output is not None:
                runner.settle()
                on_output(flow)
    except KeyboardInterrupt:
        runner.save()
        raise
    runner.settle()
    runner.save()
    return flow


def _targets(seconds: float | int, every: float | int | None) -> list[float]:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a flood of {seconds:g} seconds is none; give a time above 0")
    if every is None:
        return [float(seconds)]
    if not (math.isfinite(every) and every > 0):
        raise InputError(f"an output every {every:g} seconds is none; give a time above 0")
    if seconds / every > 1e6:
        raise InputError(
            f"outputs every {every:g} s of {seconds:g} s are more than a million; give a longer time between"
        )
    count = math.floor(seconds / every * (1 + 1e-12))
    targets = [k * float(every) for k in range(1, count + 1)]
    return targets if targets and math.isclose(targets[-1], seconds, rel_tol=1e-9) else [*targets, float(seconds)]
