"""Local inertial flow (Bates et al. 2010; de Almeida et al. 2012): shallow water without the advection of momentum.

Depths at cells, discharges q per metre of width on the faces between them. With z the bed, eta = z + h the level, and L and R
the cells on both sides of a face (Bates et al. 2010, equation 11; de Almeida et al. 2012, equation 8):

    hf = max(eta_L, eta_R) - max(z_L, z_R)
    q' = (theta q + (1 - theta) / 2 (q_before + q_after) - g hf dt (eta_R - eta_L) / dx) / (1 + g dt n^2 |q| / hf^(7/3))
    h' = h + dt / dx (what comes in - what goes out)

Over walls (``Domain.walls``) a face has no friction and carries at most what a weir does (:mod:`gensat.hydro.weirs`).

It holds where flow is slower than its waves (Froude number below about 0.8). Dam breaks and hydraulic jumps need
:mod:`gensat.hydro.shallow`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.boundary import Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.solver import GRAVITY, Solver
from gensat.hydro.state import THIN, State
from gensat.hydro.threads import threads_for
from gensat.hydro.tiles import Tiles
from gensat.hydro.weirs import Weirs, as_arrays, weir, weir_faces

BACKENDS = ("auto", "numba", "torch", "compile")


@dataclass(frozen=True)
class Options:
    """Numbers of the scheme.

    Args:
        theta: weight of a face's own discharge against its neighbours', 0 to 1; 1 is Bates et al. (2010), less damps
            the ripples that smooth beds of low friction show.
        thin: metres under which a face carries nothing.
        froude: largest Froude number of a face, None for no limit.
        steep: whether a face that would drain more than a quarter of its depth in a step drains a fifth, and the Froude
            number is at most 1 unless ``froude`` says otherwise: landlab's ``steep_slopes``.
        gravity: metres a second squared.
    """

    theta: float = 0.8
    thin: float = 1e-6
    froude: float | None = None
    steep: bool = False
    gravity: float = GRAVITY

    def __post_init__(self) -> None:
        if not 0 < self.theta <= 1:
            raise InputError(f"theta is {self.theta:g}; give above 0 and up to 1")
        if not 0 < self.thin < 0.1:
            raise InputError(f"the thinnest flow is {self.thin:g} m; give above 0 and below 0.1")
        if self.froude is not None and not self.froude > 0:
            raise InputError(f"the limit of the Froude number is {self.froude:g}; give above 0, or none")


class LocalInertial(Solver):
    """The solver.

    Args:
        domain: where.
        boundaries: its four edges.
        courant: alpha of the time step alpha dx / sqrt(g h). Up to 0.7 as published, and more is refused; but 0.7 is the
            very limit in two dimensions (1 / sqrt 2) and leaves nothing for the flow itself: waves of one cell may grow.
        theta: as of :class:`Options`, and so on.
        thin: see there.
        froude: see there.
        steep: see there.
        gravity: see there.
        dtype: ``float64`` or ``float32``.
        device: of the state.
        backend: ``numba`` (CPU), ``torch`` (anywhere, the plain reference), ``compile`` (torch.compile of it), or
            ``auto``: numba on a CPU where it is installed, compile on a GPU.

    Raises:
        InputError: a number out of its range, or a backend that cannot run there.
    """

    name = "inertial"
    staggered = True

    def __init__(
        self,
        domain: Domain,
        boundaries: Boundaries | None = None,
        *,
        courant: float | int = 0.5,
        theta: float | int = 0.8,
        thin: float | int = 1e-6,
        froude: float | int | None = None,
        steep: bool = False,
        gravity: float | int = GRAVITY,
        dtype: str = "float64",
        device: torch.device | str | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(domain, boundaries, courant=courant, gravity=gravity, dtype=dtype, device=device)
        if courant > 0.7:
            raise InputError(f"a Courant number of {courant:g} is not stable here; give 0.7 or less")
        froude = 1.0 if froude is None and steep else froude
        self.options = Options(
            float(theta), float(thin), None if froude is None else float(froude), steep, float(gravity)
        )
        self.backend = choose_backend(backend, self.device)
        self._outside = self.deepest_outside()
        self._weirs = weir_faces(domain, self.device, self.dtype)
        self._move = torch.compile(_move) if self.backend == "compile" else _move

    def time_step(self, state: State) -> Tensor:
        """alpha dx / sqrt(g h) of the deepest water, equation 14 of Bates et al. (2010)."""
        work = state.work
        deepest = work.deepest if isinstance(work, Tiles) else None
        if deepest is None:
            deepest = state.depth.amax((-2, -1)).double()
        if self._outside is not None:
            deepest = torch.maximum(deepest, self._outside)
        return self.courant * self.dx / (self.options.gravity * deepest).sqrt()

    def step(self, state: State, dt: Tensor) -> tuple[State, Tensor]:
        """One step, as :meth:`gensat.hydro.solver.Solver.step` says."""
        edges = [self._edge(i, side, state, dt) for i, side in enumerate(self.boundaries.sides)]
        if self.backend == "numba":
            moved = self._step_tiles(state, dt, edges)
        else:
            depth, x, y = self._move(
                state.depth, state.x, state.y, edges, dt, self.bed, self.manning, self.dx, self.options, self._weirs
            )
            moved = State(depth, x, y, state.time + dt)
        return moved, self._volumes(moved, dt)

    def speed(self, state: State) -> tuple[Tensor, Tensor]:
        """Mean discharge of both faces over their mean flow depth; 0 where that is under :data:`gensat.hydro.state.THIN`."""
        level, bed = self.bed + state.depth, self.bed
        u = _mean_speed(state.x, level, bed, state.depth)
        v = _mean_speed(state.y.mT, level.mT, bed.mT, state.depth.mT).mT
        return u, v

    def memory(self, batch: int = 1) -> int:
        """Two states of three arrays (numba), or the temporaries of the torch reference; bed and roughness once."""
        height, width = self.domain.shape
        arrays = 6 if self.backend == "numba" else 22
        return height * width * self.bed.element_size() * (arrays * batch + 2)

    def settings(self) -> dict[str, Any]:
        """Numbers that change the result."""
        o = self.options
        return {
            "solver": self.name, "courant": self.courant, "theta": o.theta, "thin": o.thin, "froude": o.froude,
            "steep": o.steep, "gravity": o.gravity, "dtype": str(self.dtype).split(".")[1],
        }  # fmt: skip

    def _edge(self, index: int, side: Side, state: State, dt: Tensor) -> Tensor:
        """New discharge (\\*b, w) or (\\*b, h) through an edge, positive to the east or south."""
        north_south = index % 2 == 0
        depth, bed = (state.depth.mT, self.bed.mT) if north_south else (state.depth, self.bed)
        if side.kind == "closed":
            return depth.new_zeros(depth.shape[:-1])
        q = state.y.mT if north_south else state.x
        n = self.manning.mT if north_south else self.manning
        at_end = index in (1, 2)  # east and south lie at the end of their axis, where outward is positive
        outward = 1.0 if at_end else -1.0
        cell, inner = (-1, -2 if depth.shape[-1] > 1 else -1) if at_end else (0, 1 if depth.shape[-1] > 1 else 0)
        h0, h1, z0, z1 = depth[..., cell], depth[..., inner], bed[..., cell], bed[..., inner]
        old, before = outward * q[..., cell], outward * q[..., -2 if at_end else 1]
        step = dt.to(depth)[..., None]
        if side.kind == "open":
            hf = h0
            joined = torch.maximum(z0 + h0, z1 + h1) - torch.maximum(z0, z1) > self.options.thin
            rise = torch.where(joined, (z0 + h0) - (z1 + h1), 0)  # the surface goes on as it falls inside
        else:
            assert side.level is not None
            level = (side.level.at(state.time + dt / 2) - self.lift).to(depth)[..., None]
            hf = torch.maximum(level, z0 + h0) - z0
            rise = level - (z0 + h0)
        o = self.options
        mean = o.theta * old + (1 - o.theta) / 2 * (old + before)
        found = _momentum(mean, old, hf, rise, n[..., cell], step, self.dx, o)
        if side.kind == "open":
            found = found.clamp(min=0)
        return outward * found

    def _volumes(self, state: State, dt: Tensor) -> Tensor:
        """(\\*b, 4) cubic metres that came in over the northern, eastern, southern and western edge."""
        ways = (state.y[..., 0, :], -state.x[..., -1], -state.y[..., -1, :], state.x[..., 0])
        return torch.stack([way.sum(-1, dtype=torch.float64) for way in ways], -1) * dt[..., None] * self.dx

    def _step_tiles(self, state: State, dt: Tensor, edges: list[Tensor]) -> State:
        from gensat.hydro import inertial_kernels as kernels

        tiles = state.work
        if not isinstance(tiles, Tiles):
            state = State(state.depth.contiguous(), state.x.contiguous(), state.y.contiguous(), state.time)
            sides = tuple(side.kind == "stage" for side in self.boundaries.sides)
            tiles = Tiles.of(state, kernels.TILE, always=sides)  # type: ignore[arg-type]
        o = self.options
        options = (o.theta, o.thin, o.froude or 0.0, float(o.steep), o.gravity, self.dx)
        now, then = (state.depth, state.x, state.y), tiles.spare
        deepest = np.zeros(max(1, dt.numel()))
        steps = dt.reshape(-1).tolist()
        bed, n = self.bed.numpy(), self.rows_of_n.numpy()
        weirs = as_arrays(self._weirs)
        for k, seconds in enumerate(steps):
            h, x, y = (_scenario(array, k) for array in now)
            h2, x2, y2 = (_scenario(array, k) for array in then)
            if seconds == 0:  # stands still: only carried over to the other arrays
                h2[:], x2[:], y2[:] = h, x, y
                deepest[k] = h.max()
                tiles.wait(k)
                continue
            ways = tuple(_scenario(edge, k, 1) for edge in edges)
            active, wet = tiles.turn(k)
            with threads_for(len(active) * kernels.TILE[0] * kernels.TILE[1]):
                deepest[k] = kernels.step(active, bed, n, weirs, h, x, y, ways, options, seconds, h2, x2, y2, wet)
        tiles.spare = now
        tiles.deepest = torch.as_tensor(deepest).reshape(dt.shape)
        return State(*then, state.time + dt, tiles)


def choose_backend(backend: str, device: torch.device) -> str:
    """The backend that is meant, by name.

    Raises:
        InputError: an unknown name, numba on a GPU, or numba where it is not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is not known; choose one of {', '.join(BACKENDS)}")
    from importlib.util import find_spec

    here = find_spec("numba") is not None
    if backend == "auto":
        return "compile" if device.type == "cuda" else ("numba" if here else "torch")
    if backend == "numba" and device.type != "cpu":
        raise InputError("the numba backend runs on the CPU; choose --device cpu, or the backend compile")
    if backend == "numba" and not here:
        raise InputError("numba is not installed; install gensat[flood], or choose the backend torch")
    return backend


def _scenario(array: Tensor, k: int, axes: int = 2) -> np.ndarray:
    return array.reshape(-1, *array.shape[-axes:])[k].numpy()


def _momentum(
    mean: Tensor, q: Tensor, hf: Tensor, rise: Tensor, n: Tensor, dt: Tensor, dx: float, options: Options
) -> Tensor:
    """The new discharge of faces: equation 8 of de Almeida et al. (2012), and landlab's two limits.

    Sums are taken in the order of the fast kernel. Where almost nothing flows, friction follows from the last bits of what
    flowed before, so any other order would differ by more than rounding after a few steps.
    """
    g = options.gravity
    wet = hf > options.thin
    flow = torch.where(wet, hf, 1.0)
    new = (mean - g * dt / dx * flow * rise) / (1 + g * dt * n * n * q.abs() / flow ** (7 / 3))
    free = new.abs()
    if options.froude is not None:
        cap = options.froude * flow * (g * flow).sqrt()
        new = torch.minimum(torch.maximum(new, -cap), cap)
    if options.steep:
        most = flow * dx / dt
        new = torch.where(free > most / 4, most / 5 * new.sign(), new)
    return torch.where(wet, new, 0)


def _new_discharge(
    q: Tensor,
    first: Tensor,
    last: Tensor,
    depth: Tensor,
    bed: Tensor,
    n: Tensor,
    dt: Tensor,
    dx: float,
    o: Options,
    weirs: Tensor | None,
) -> Tensor:
    """New discharges (\\*b, r, c + 1) across the last axis; ``first`` and ``last`` (\\*b, r) are those of the edges."""
    level = bed + depth
    sill = torch.maximum(bed[..., :-1], bed[..., 1:])
    hf = torch.maximum(level[..., :-1], level[..., 1:]) - sill
    rise = level[..., 1:] - level[..., :-1]
    mean = o.theta * q[..., 1:-1] + 0.5 * (1 - o.theta) * (q[..., :-2] + q[..., 2:])
    rough = 0.5 * (n[..., :-1] + n[..., 1:])
    if weirs is not None:
        share = weirs[..., 1:-1]
        here = share > 0
        rough = torch.where(here, 0, rough)
    inner = _momentum(mean, q[..., 1:-1], hf, rise, rough, dt, dx, o)
    if weirs is not None:
        most = share * weir(level[..., :-1] - sill, level[..., 1:] - sill, o.gravity)
        inner = torch.where(here, torch.minimum(torch.maximum(inner, -most), most), inner)
    return torch.cat([first[..., None], inner, last[..., None]], -1)


def _limited(q: Tensor, factor: Tensor) -> Tensor:
    """Discharges across the last axis, scaled by what their donor cell can give; water from outside is not limited."""
    one = torch.ones_like(factor[..., :1])
    return q * torch.where(q > 0, torch.cat([one, factor], -1), torch.cat([factor, one], -1))


def _move(
    depth: Tensor,
    x: Tensor,
    y: Tensor,
    edges: list[Tensor],
    dt: Tensor,
    bed: Tensor,
    n: Tensor,
    dx: float,
    options: Options,
    weirs: Weirs | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of all cells, in plain torch; arguments as of :class:`State`, new discharges of the edges, (\\*b) dt."""
    north, east, south, west = edges
    some = (dt > 0)[..., None, None]
    span = torch.where(dt > 0, dt, 1.0).to(depth)[..., None, None]
    across, down = (None, None) if weirs is None else (weirs[0], weirs[1].mT)
    qx = _new_discharge(x, west, east, depth, bed, n, span, dx, options, across)
    qy = _new_discharge(y.mT, north, south, depth.mT, bed.mT, n.mT, span, dx, options, down).mT
    leaving = (
        qx[..., 1:].clamp(min=0)
        - qx[..., :-1].clamp(max=0)
        + qy[..., 1:, :].clamp(min=0)
        - qy[..., :-1, :].clamp(max=0)
    )
    there = depth * (dx / span)
    factor = torch.where(leaving > there, there / leaving.clamp(min=1e-300), 1.0)
    qx, qy = _limited(qx, factor), _limited(qy.mT, factor.mT).mT
    new = depth + (qx[..., :-1] - qx[..., 1:] + qy[..., :-1, :] - qy[..., 1:, :]) / (dx / span)
    return (
        torch.where(some, new.clamp(min=0), depth),
        torch.where(some, qx, x),
        torch.where(some, qy, y),
    )


def _mean_speed(q: Tensor, level: Tensor, bed: Tensor, depth: Tensor) -> Tensor:
    """Speed at cells along the last axis from discharges on faces."""
    inner = torch.maximum(level[..., :-1], level[..., 1:]) - torch.maximum(bed[..., :-1], bed[..., 1:])
    hf = torch.cat([depth[..., :1], inner, depth[..., -1:]], -1)
    both = hf[..., :-1] + hf[..., 1:]
    deep = (both > 2 * THIN) & (depth > 0)
    return torch.where(deep, (q[..., :-1] + q[..., 1:]) / torch.where(deep, both, 1), 0)
