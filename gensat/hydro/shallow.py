"""Full shallow water: mass and momentum, for dam breaks, jumps, fast flow between houses and wherever water moves as waves do.

    h_t + (hu)_x + (hv)_y = 0
    (hu)_t + (hu^2 + g h^2 / 2)_x + (huv)_y = -g h z_x - g n^2 |u| u h^(-1/3)        (and the same for v)

Finite volumes: HLLC fluxes (Toro 2001) between states that are second order in space (MUSCL with a limiter on depth, surface
and velocity), hydrostatic reconstruction of the bed (Audusse et al. 2004), Heun's two stages in time, friction implicit in each
stage. Depths stay positive: a cell that would give more than it has holds all that leaves it back by one factor. A lake at rest
stays at rest over any bed. What falls over a wall (``Domain.walls``) is what a weir lets pass (:mod:`gensat.hydro.weirs`). Smooth flow is second order, dam breaks first order in the mean error, as any such scheme.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.boundary import Boundaries
from gensat.hydro.domain import Domain
from gensat.hydro.inertial import choose_backend
from gensat.hydro.shallow_torch import CLOSED, OPEN, STAGE, Ground, Scheme, euler, velocity
from gensat.hydro.solver import GRAVITY, Solver
from gensat.hydro.state import THIN, State
from gensat.hydro.threads import threads_for
from gensat.hydro.tiles import Tiles
from gensat.hydro.weirs import as_arrays, weir_faces

_KINDS = {"closed": CLOSED, "open": OPEN, "stage": STAGE}


class ShallowWater(Solver):
    """The solver.

    Args:
        domain: where.
        boundaries: its four edges. An open edge lets out what runs out and is a wall to what would come in; a stage edge
            takes the level, and the velocity from the wave that runs out.
        courant: of the time step courant dx / max(\\|u\\| + sqrt(g h)), of the faster axis; at most 0.5.
        limiter: theta of the generalised minmod limiter, 1 (minmod) to 2; 0 for no slopes, which is first order.
        dry: metres under which a cell has water but no velocity.
        gravity: metres a second squared.
        dtype: ``float64`` or ``float32``.
        device: of the state.
        backend: as of :class:`gensat.hydro.inertial.LocalInertial`. ``numba`` computes in float64 whatever the dtype, which
            then saves memory only.

    Raises:
        InputError: a number out of its range, or a backend that cannot run there.
    """

    name = "swe"
    staggered = False

    def __init__(
        self,
        domain: Domain,
        boundaries: Boundaries | None = None,
        *,
        courant: float | int = 0.45,
        limiter: float | int = 1.5,
        dry: float | int = 1e-6,
        gravity: float | int = GRAVITY,
        dtype: str = "float64",
        device: torch.device | str | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(domain, boundaries, courant=courant, gravity=gravity, dtype=dtype, device=device)
        if courant > 0.5:
            raise InputError(f"a Courant number of {courant:g} is not stable here; give 0.5 or less")
        if limiter != 0 and not 1 <= limiter <= 2:
            raise InputError(f"the limiter is {limiter:g}; give 1 (minmod) to 2, or 0 for first order")
        if not 0 < dry < 0.1:
            raise InputError(f"the depth without velocity is {dry:g} m; give above 0 and below 0.1")
        self.backend = choose_backend(backend, self.device)
        self.scheme = Scheme(self.gravity, float(limiter), float(dry))
        exists = self.exists.contiguous()
        bed = torch.where(exists, self.bed, 0).contiguous()
        self.ground = Ground(bed, exists, self.manning, self.dx, weir_faces(domain, self.device, self.dtype))
        north, east, south, west = (_KINDS[side.kind] for side in self.boundaries.sides)
        self._kinds = (north, east, south, west)
        outside = self.deepest_outside()
        # What a stage may ever send in: critical flow of the deepest water at its edge.
        self._outside = None if outside is None else 2 * (self.gravity * outside).sqrt()
        self._euler = torch.compile(euler) if self.backend == "compile" else euler

    def time_step(self, state: State) -> Tensor:
        """courant dx over the speed of the fastest wave along either axis, stages outside included."""
        fastest = self._fastest(state)
        return self.courant * self.dx / (fastest if self._outside is None else torch.maximum(fastest, self._outside))

    def step(self, state: State, dt: Tensor) -> tuple[State, Tensor]:
        """One step of Heun's method, as :meth:`gensat.hydro.solver.Solver.step` says."""
        levels = self._levels(state.time), self._levels(state.time + dt)
        if self.backend == "numba":
            return self._step_tiles(state, dt, levels)
        before = (state.depth, state.x, state.y)
        once, came_first = self._euler(before, self.ground, self.scheme, dt, self._kinds, levels[0])
        twice, came_then = self._euler(once, self.ground, self.scheme, dt, self._kinds, levels[1])
        some = (dt > 0)[..., None, None]
        depth, x, y = (torch.where(some, (a + b) / 2, a) for a, b in zip(before, twice, strict=True))
        return State(depth, x, y, state.time + dt), (came_first + came_then) / 2

    def speed(self, state: State) -> tuple[Tensor, Tensor]:
        """Momentum over depth; 0 where that is not above :data:`gensat.hydro.state.THIN`."""
        return velocity(state.depth, state.x, THIN), velocity(state.depth, state.y, THIN)

    def memory(self, batch: int = 1) -> int:
        """Two states of three arrays (numba), or the temporaries of the torch reference; bed, extent, roughness once."""
        height, width = self.domain.shape
        arrays = 6 if self.backend == "numba" else 80
        return height * width * self.bed.element_size() * (arrays * batch + 4)

    def settings(self) -> dict[str, Any]:
        """Numbers that change the result."""
        return {
            "solver": self.name, "courant": self.courant, "limiter": self.scheme.limiter, "dry": self.scheme.dry,
            "gravity": self.gravity, "dtype": str(self.dtype).split(".")[1],
        }  # fmt: skip

    def _fastest(self, state: State) -> Tensor:
        """(\\*b) m/s of the fastest wave."""
        if self.backend == "numba":
            from gensat.hydro.shallow_kernels import fastest

            state = _contiguous(state)
            with threads_for(state.depth[..., 0, 0].numel() * self.bed.numel()):
                found = [fastest(*arrays, self.gravity, self.scheme.dry).max() for arrays in _scenarios(state)]
            return torch.tensor(found, dtype=torch.float64).reshape(state.batch)
        u, v = (velocity(state.depth, q, self.scheme.dry) for q in (state.x, state.y))
        waves = torch.maximum(u.abs(), v.abs()) + (self.gravity * state.depth).sqrt()
        return torch.where(state.depth <= self.scheme.dry, 0, waves).amax((-2, -1)).double()

    def _levels(self, time: Tensor) -> Tensor:
        """(\\*b, 4) of the stages at a time, above the datum of the solver's bed; 0 for other edges."""
        none = torch.zeros_like(time)
        return torch.stack(
            [none if side.level is None else side.level.at(time) - self.lift for side in self.boundaries.sides], -1
        )

    def _step_tiles(self, state: State, dt: Tensor, levels: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
        """In place: the spare arrays hold the water between the two stages."""
        from gensat.hydro import shallow_kernels as kernels

        tiles = state.work
        if not isinstance(tiles, Tiles):
            state = _contiguous(state)
            sides = tuple(side.kind == "stage" for side in self.boundaries.sides)
            tiles = Tiles.of(state, kernels.TILE, always=sides)  # type: ignore[arg-type]
        between = State(*tiles.spare, state.time)
        ground = (
            self.ground.bed.numpy(), self.ground.exists.numpy(), self.rows_of_n.numpy(), as_arrays(self.ground.weirs)
        )  # fmt: skip
        numbers = np.array([self.gravity, self.scheme.limiter, self.scheme.dry, self.dx])
        kinds, came = np.array(self._kinds), np.zeros((max(1, dt.numel()), 4))
        first, second = (level.reshape(-1, 4).numpy() for level in levels)
        for k, (now, then) in enumerate(zip(_scenarios(state), _scenarios(between), strict=True)):
            seconds = float(dt.reshape(-1)[k])
            if seconds == 0:
                continue
            for source, target, level, blend in ((now, then, first[k], False), (then, now, second[k], True)):
                active, wet = tiles.turn(k)
                with threads_for(len(active) * kernels.TILE[0] * kernels.TILE[1]) as threads:
                    came[k] += 0.5 * kernels.stage(
                        active, *ground, *source, *target, kinds, level, numbers, seconds, blend, wet, threads
                    )
        tiles.deepest = None
        volumes = torch.from_numpy(came).reshape(*dt.shape, 4)
        return State(state.depth, state.x, state.y, state.time + dt, tiles), volumes


def _contiguous(state: State) -> State:
    """The state itself where its memory is in one piece."""
    if state.depth.is_contiguous() and state.x.is_contiguous() and state.y.is_contiguous():
        return state
    return State(state.depth.contiguous(), state.x.contiguous(), state.y.contiguous(), state.time)


def _scenarios(state: State) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Depth and momenta of each scenario, as views."""
    count = math.prod(state.batch)
    flat = [a.reshape(count, *a.shape[-2:]).numpy() for a in (state.depth, state.x, state.y)]
    return [(flat[0][k], flat[1][k], flat[2][k]) for k in range(count)]
