"""Small terrains and water of known behaviour, for tests of the flood solvers."""

import numpy as np
import torch

from gensat.hydro.boundary import OPEN, Boundaries, Side
from gensat.hydro.domain import Domain


def hills(height=40, width=60, dx=5.0, seed=0):
    """Rough ground that falls to the west, with holes in it and roughness that varies."""
    draw = np.random.default_rng(seed)
    bed = 2 * draw.random((height, width)) + np.linspace(0, 5, width)
    exists = draw.random((height, width)) > 0.02
    return Domain.flat(height, width, dx, bed=bed, exists=exists, manning=draw.uniform(0.02, 0.1, (height, width)))


def valley(height=30, width=40, dx=20.0):
    """Smooth ground: a valley that falls to the west."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(0, 1, width), indexing="ij")
    return Domain.flat(height, width, dx, bed=0.8 * y**2 + 0.4 * x, manning=0.04)


def puddles(domain, *batch, seed=1):
    """Water of up to 1.5 m on half of the cells."""
    draw = np.random.default_rng(seed)
    depth = np.maximum(3 * draw.random((*batch, *domain.shape)) - 1.5, 0)
    return torch.from_numpy(np.where(domain.exists, depth, 0))


def all_kinds():
    """One edge of each kind, and two stages: one that flows in, one that drains."""
    return Boundaries(north=OPEN, east=Side.stage(6.0), south=Side.stage(1.5))


def advance(solver, state, steps):
    """So many steps of the longest that is stable; the state, and the volumes over the edges."""
    total = torch.zeros(*state.batch, 4, dtype=torch.float64)
    for _ in range(steps):
        state, edges = solver.step(state, solver.time_step(state))
        total += edges
    return state, total
