"""What a run keeps while it goes: its balance of water, the highest values of every cell, and stages at points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gensat.hydro.boundary import SIDES
from gensat.hydro.state import State
from gensat.hydro.threads import threads_for
from gensat.hydro.tiles import Tiles

if TYPE_CHECKING:
    from gensat.hydro.solver import Solver

ARRIVED = 0.01
"""Metres of depth from which water has arrived at a cell."""

DEEP = 0.1
"""Metres of depth from which Froude numbers are looked at."""

SWIFT = 0.8
"""Froude number from which the local inertial equations leave out too much."""


@dataclass(eq=False)
class Balance:
    """Cubic metres of every scenario, (\\*b) float64 each; edges (\\*b, 4) in the order of ``SIDES``.

    Args:
        start: in the domain at first.
        rain: that fell on the domain.
        infiltrated: of the rain.
        inflow: at points.
        edges: that came in over the edges, negative for what left.
        held: that a sea held at its level gave, negative for what it took.
        stored: in the domain now.
    """

    start: Tensor
    rain: Tensor
    infiltrated: Tensor
    inflow: Tensor
    edges: Tensor
    held: Tensor
    stored: Tensor

    @classmethod
    def of(cls, start: Tensor) -> Balance:
        """At the beginning."""
        zero = torch.zeros_like(start)
        edges = zero[..., None].repeat_interleave(4, -1)
        return cls(start, zero, zero.clone(), zero.clone(), edges, zero.clone(), start.clone())

    @property
    def error(self) -> Tensor:
        """(\\*b) cubic metres that are there and should not be; negative for what is missing."""
        came = self.rain - self.infiltrated + self.inflow + self.edges.sum(-1) + self.held
        return self.stored - (self.start + came)

    @property
    def relative(self) -> Tensor:
        """(\\*b) the error as a share of all water that was ever in the domain."""
        there = self.start + self.rain - self.infiltrated + self.inflow + self.edges.clamp(min=0).sum(-1)
        there = there + self.held.clamp(min=0)
        return self.error / there.clamp(min=1e-300)

    def describe(self) -> dict[str, Any]:
        """Cubic metres by name, for run.json."""
        found: dict[str, Any] = {f.name: getattr(self, f.name).tolist() for f in fields(self) if f.name != "edges"}
        found["edges"] = {side: self.edges[..., i].tolist() for i, side in enumerate(SIDES)}
        return found | {"error": self.error.tolist(), "relative_error": self.relative.tolist()}


@dataclass(eq=False)
class Peaks:
    """The highest values that every cell had at the end of any step.

    Args:
        depth: (\\*b, h, w) metres.
        speed: (\\*b, h, w) metres a second.
        hazard: (\\*b, h, w) d (v + 0.5) of one moment, in square metres a second (Defra FD2321 without debris).
        arrival: (\\*b, h, w) seconds at which the depth first was ``ARRIVED`` or more; infinite where it never was.
        froude: (\\*b) float64, largest Froude number of water deeper than ``DEEP``.
        swift: (\\*b) float64, largest share of that water's volume which ran faster than ``SWIFT``.
    """

    depth: Tensor
    speed: Tensor
    hazard: Tensor
    arrival: Tensor
    froude: Tensor
    swift: Tensor

    @classmethod
    def of(cls, state: State) -> Peaks:
        """Before anything is looked at."""
        zero = torch.zeros_like(state.depth)
        none = torch.zeros_like(state.time)
        return cls(zero, zero.clone(), zero.clone(), torch.full_like(zero, torch.inf), none, none.clone())

    def look(self, solver: Solver, state: State) -> None:
        """Takes a state into account; only tiles that are wet in it, where the solver knows them."""
        if state.depth.device.type == "cpu" and getattr(solver, "backend", "") == "numba":
            self._look_fast(solver, state)
        else:
            self._look(solver, state)

    def _look(self, solver: Solver, state: State) -> None:
        depth = state.depth
        u, v = solver.speed(state)
        speed = torch.hypot(u, v)
        torch.maximum(self.depth, depth, out=self.depth)
        torch.maximum(self.speed, speed, out=self.speed)
        torch.maximum(self.hazard, depth * (speed + 0.5), out=self.hazard)
        time = state.time.to(depth)[..., None, None]
        first = torch.where(depth >= ARRIVED, time, torch.inf)
        torch.minimum(self.arrival, first, out=self.arrival)
        deep = depth >= DEEP
        froude = torch.where(deep, speed / (solver.gravity * torch.where(deep, depth, 1)).sqrt(), 0)
        torch.maximum(self.froude, froude.amax((-2, -1)).double(), out=self.froude)
        volume = torch.where(deep, depth, 0).sum((-2, -1), dtype=torch.float64)
        swift = torch.where(froude > SWIFT, depth, 0).sum((-2, -1), dtype=torch.float64)
        torch.maximum(self.swift, swift / volume.clamp(min=1e-300), out=self.swift)

    def _look_fast(self, solver: Solver, state: State) -> None:
        from gensat.hydro import record_kernels as kernels

        tiles = state.work if isinstance(state.work, Tiles) else None
        size = tiles.size if tiles is not None else kernels.TILE
        height, width = (int(n) for n in state.depth.shape[-2:])
        count = -(-height // size[0]) * -(-width // size[1])
        bed = solver.bed.numpy()

        arrays = [_flat(a) for a in (state.depth, state.x, state.y, self.depth, self.speed, self.hazard, self.arrival)]
        froude, swift = self.froude.reshape(-1), self.swift.reshape(-1)
        for k, seconds in enumerate(state.time.reshape(-1).tolist()):
            every = torch.arange(count).numpy() if tiles is None else tiles.now[k].reshape(-1).nonzero()[0]
            h, x, y, depth, speed, hazard, arrival = (array[k] for array in arrays)
            with threads_for(len(every) * size[0] * size[1]):
                found = kernels.look(
                    every, size[0], size[1], bed, h, x, y, seconds, solver.gravity, depth, speed, hazard, arrival
                )
            froude[k] = max(float(froude[k]), found[0])
            swift[k] = max(float(swift[k]), found[1])


def _flat(array: Tensor) -> Any:
    """(n, r, c) scenarios in one row, as numpy."""
    return array.reshape(-1, *array.shape[-2:]).numpy()


@dataclass(eq=False)
class Gauges:
    """Stages at points, read at every output time.

    Args:
        names: of the points.
        cells: (p) flat indices of their cells.
        times: (t) seconds.
        depth: (t, \\*b, p) metres.
        level: (t, \\*b, p) metres above the datum: the bed's where it is dry.
    """

    names: tuple[str, ...]
    cells: Tensor
    times: list[float] = field(default_factory=list)
    depth: list[Tensor] = field(default_factory=list)
    level: list[Tensor] = field(default_factory=list)

    @classmethod
    def at(cls, solver: Solver, points: Mapping[str, tuple[int, int]] | Sequence[tuple[int, int]]) -> Gauges:
        """At (row, column) of cells, by name or by number."""
        named = points if isinstance(points, Mapping) else {str(i): point for i, point in enumerate(points)}
        width = solver.domain.shape[1]
        cells = torch.tensor([row * width + column for row, column in named.values()], dtype=torch.int64)
        return cls(tuple(named), cells)

    def read(self, solver: Solver, state: State) -> None:
        """Adds a row for a state whose scenarios have one time."""
        cells = self.cells.to(state.depth.device)
        depth = state.depth.reshape(*state.batch, -1)[..., cells].double()
        bed = torch.as_tensor(solver.domain.bed, device=depth.device).reshape(-1)[cells]
        self.times.append(float(state.time.max()))
        self.depth.append(depth.cpu())
        self.level.append((bed + depth).cpu())


@dataclass(eq=False)
class FlowRun:
    """A run of a solver: how far it is and what it found.

    Args:
        state: the water now.
        balance: of the water.
        peaks: highest values, None if they were not asked for.
        gauges: stages, None if none were asked for.
        steps: (\\*b) number of steps that were taken.
        wall: seconds that it took, those before an interruption too.
    """

    state: State
    balance: Balance
    peaks: Peaks | None
    gauges: Gauges | None
    steps: Tensor
    wall: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name, for a checkpoint."""
        found = {f"state.{name}": getattr(self.state, name) for name in ("depth", "x", "y", "time")}
        found |= {f"balance.{f.name}": getattr(self.balance, f.name) for f in fields(self.balance)}
        found["steps"], found["wall"] = self.steps, torch.tensor(self.wall, dtype=torch.float64)
        if self.peaks is not None:
            found |= {f"peaks.{f.name}": getattr(self.peaks, f.name) for f in fields(self.peaks)}
        if self.gauges is not None and self.gauges.times:
            found["gauges.times"] = torch.tensor(self.gauges.times, dtype=torch.float64)
            found |= {"gauges.depth": torch.stack(self.gauges.depth), "gauges.level": torch.stack(self.gauges.level)}
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`, in place."""
        device = self.state.depth.device
        depth, x, y, time = (tensors[f"state.{name}"].to(device) for name in ("depth", "x", "y", "time"))
        self.state = State(depth, x, y, time)
        self.balance = Balance(**{f.name: tensors[f"balance.{f.name}"].to(device) for f in fields(self.balance)})
        self.steps, self.wall = tensors["steps"].to(device), float(tensors["wall"])
        if self.peaks is not None:
            self.peaks = Peaks(**{f.name: tensors[f"peaks.{f.name}"].to(device) for f in fields(self.peaks)})
        if self.gauges is not None and "gauges.times" in tensors:
            self.gauges.times = tensors["gauges.times"].tolist()
            self.gauges.depth = list(tensors["gauges.depth"].unbind(0))
            self.gauges.level = list(tensors["gauges.level"].unbind(0))
