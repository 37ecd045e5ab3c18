"""The steps of a run between two output times: how long each is, what it adds to the balance, what is told and saved on the way."""

from __future__ import annotations

import math
import os
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gensat.errors import GensatError
from gensat.hydro.checkpoint import save
from gensat.hydro.forcing import Forcing
from gensat.hydro.record import FlowRun
from gensat.hydro.state import State

if TYPE_CHECKING:
    from gensat.hydro.solver import Solver

_SHORTEST = 1e-7  # seconds of a step, under which a run goes nowhere
_GLANCE = 0.25  # seconds between two calls of ``progress``


@dataclass(frozen=True)
class Progress:
    """Where a run is, for a bar: of all scenarios the slowest time, the shortest step, and the worst balance.

    Args:
        time: seconds of the flood.
        seconds: at which it ends.
        dt: last time step, seconds.
        steps: so far.
        volume: cubic metres in the domain, of all scenarios.
        error: relative error of the balance.
    """

    time: float
    seconds: float
    dt: float
    steps: int
    volume: float
    error: float


class Runner:
    """The loop of :func:`gensat.hydro.solver.run` between two output times; its arguments are those of it."""

    def __init__(
        self,
        solver: Solver,
        forcing: Forcing,
        flow: FlowRun,
        seconds: float,
        progress: Callable[[Progress], None] | None,
        checkpoint: str | os.PathLike[str] | None,
        mark: str | None,
        checkpoint_every: float,
    ) -> None:
        self.solver, self.forcing, self.flow, self.seconds = solver, forcing, flow, seconds
        self.progress, self.checkpoint, self.mark = progress, checkpoint, mark
        self.checkpoint_every = checkpoint_every
        # Until which depth sources raise a dry cell, and how fast its waves are then: dt^3 g rise = (courant dx)^2.
        # One by one: a tensor's power is not the same to the last bit for one scenario and for several.
        reach, rise = (solver.courant * solver.dx) ** 2, forcing.rise(solver.domain)
        longest = [(reach / (solver.gravity * r)) ** (1 / 3) if r > 0 else math.inf for r in rise.reshape(-1).tolist()]
        self.longest = torch.tensor(longest, dtype=torch.float64).reshape(rise.shape).to(flow.state.time)
        self.began, self.seen, self.saved = (clock.monotonic(),) * 3
        self.before = flow.wall

    def go(self, target: float) -> None:
        """Steps until every scenario is at a time."""
        solver, flow = self.solver, self.flow
        while True:
            state = flow.state
            left = target - state.time
            if bool((left <= 0).all()):
                return
            dt, landed = self._step_size(state, left)
            added = self.forcing.apply(state, solver.domain, dt)
            flow.balance.rain += added[..., 0]
            flow.balance.infiltrated += added[..., 1]
            flow.balance.inflow += added[..., 2]
            state, edges = solver.step(state, dt)
            state.time = torch.where(landed, target, state.time)
            flow.balance.edges += edges
            flow.balance.held += self.forcing.hold(state, solver.domain, solver.gravity)
            flow.steps += dt > 0
            flow.state = state
            if flow.peaks is not None:
                flow.peaks.look(solver, state)
            now = clock.monotonic()
            flow.wall = self.before + now - self.began
            if self.progress is not None and now - self.seen > _GLANCE:
                self._tell(dt)
                self.seen = now
            if self.checkpoint is not None and now - self.saved > self.checkpoint_every:
                self.save()
                self.saved = now

    def settle(self) -> None:
        """Brings the balance up to date."""
        self.flow.balance.stored = self.flow.state.volume(self.solver.domain.area)

    def save(self) -> None:
        """Writes the checkpoint, if there is to be one."""
        if self.checkpoint is not None and self.mark is not None:
            self.settle()
            save(self.checkpoint, self.mark, self.flow)

    def _step_size(self, state: State, left: Tensor) -> tuple[Tensor, Tensor]:
        """(\\*b) seconds to step, 0 for who is there already, and whether that lands on the target."""
        longest = self.solver.time_step(state)
        # With a = dt / longest and b = dt / self.longest, a^2 + b^3 <= 1 holds where a^2 + b^2 = 1 does.
        longest = (longest**-2 + self.longest**-2) ** -0.5
        there = left <= 0
        if not bool((there | (longest > _SHORTEST)).all()):  # NaN too
            raise GensatError(
                f"the flow became unstable after {float(state.time.min()):.6g} s (time step {float(longest.min()):g} s); "
                "give a smaller --courant, a Froude limit, or the swe method"
            )
        landed = longest >= left
        dt = torch.where(landed, left, torch.where(2 * longest > left, left / 2, longest))
        return torch.where(there, 0.0, dt), landed | there & (left == 0)

    def _tell(self, dt: Tensor) -> None:
        assert self.progress is not None
        self.settle()
        flow = self.flow
        moving = dt[dt > 0]
        self.progress(
            Progress(
                float(flow.state.time.min()),
                self.seconds,
                float(moving.min()) if len(moving) else 0.0,
                int(flow.steps.max()),
                float(flow.balance.stored.sum()),
                float(flow.balance.relative.abs().max()),
            )
        )
