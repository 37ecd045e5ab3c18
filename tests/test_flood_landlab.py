"""The local inertial solver beside landlab's OverlandFlow, on the same grid with the same numbers, in float64."""

import numpy as np
import pytest
import torch

from gensat.hydro.boundary import Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.inertial import LocalInertial

landlab = pytest.importorskip("landlab")
from landlab.components import OverlandFlow  # noqa: E402

FILM = 1e-5  # metres of water that landlab lays everywhere


def both(bed, depth, *, theta, n, seconds, stage=None, steep=False, alpha=0.5, dx=10.0):
    """(h, w) depths of landlab and of ours.

    landlab's outermost nodes are its boundary: a ring around our cells. Closed on all sides; with ``stage`` its western ring
    keeps that level over the bed of the cells beside it.
    """
    height, width = bed.shape
    grid = landlab.RasterModelGrid((height + 2, width + 2), xy_spacing=dx)
    z = np.pad(bed, 1, mode="edge")[::-1]  # landlab's rows begin in the south
    grid.add_field("topographic__elevation", z.flatten().copy(), at="node")
    water = np.pad(depth, 1)[::-1].copy()
    grid.set_closed_boundaries_at_grid_edges(True, True, stage is None, True)
    if stage is not None:
        water[1:-1, 0] = np.maximum(stage - z[1:-1, 0], 0) - FILM
    grid.add_field("surface_water__depth", water.flatten(), at="node")
    theirs = OverlandFlow(grid, mannings_n=n, theta=theta, alpha=alpha, h_init=FILM, steep_slopes=steep)
    domain = Domain.flat(height, width, dx, bed=bed, manning=n)
    edges = Boundaries() if stage is None else Boundaries(west=Side.stage(stage))
    ours = LocalInertial(domain, edges, theta=theta, courant=alpha, steep=steep, gravity=theirs._g)
    state = ours.start(depth=depth + FILM)
    time = 0.0
    while time < seconds:
        dt = min(float(theirs.calc_time_step()), float(ours.time_step(state)), seconds - time)
        theirs.overland_flow(dt)
        state, _ = ours.step(state, torch.tensor(dt, dtype=torch.float64))
        time += dt
    found = grid.at_node["surface_water__depth"].reshape(height + 2, width + 2)[::-1][1:-1, 1:-1]
    return found, state.depth.numpy()


def ground(height=40, width=50):
    y, x = np.meshgrid(np.linspace(0, 3, height), np.linspace(0, 4, width), indexing="ij")
    return 0.6 * np.sin(2 * x + 1) * np.cos(3 * y) + 0.4 * x


@pytest.mark.parametrize(("theta", "n"), [(0.8, 0.03), (1.0, 0.06), (0.9, 0.015)])
def test_a_basin_that_sloshes(theta, n):
    """Over hills, with waves that run to and fro for 300 s: 0.02 mm, and nothing but rounding where theta is 1."""
    bed = ground()
    depth = 2.2 - bed + 0.2 * np.cos(np.linspace(0, 3, 50))
    theirs, mine = both(bed, depth, theta=theta, n=n, seconds=300.0)
    assert np.abs(theirs - mine).max() < (1e-10 if theta == 1 else 1e-3)
    assert np.abs(mine - depth).max() > 0.05


@pytest.mark.parametrize(("theta", "n", "alpha"), [(0.9, 0.06, 0.5), (1.0, 0.06, 0.5), (0.8, 0.1, 0.3)])
def test_a_lake_that_breaks_out(theta, n, alpha):
    """Half of a hilly basin under a level, released over dry ground: every depth within 1 mm (0.03 mm).

    With theta 0.8, n 0.06 and alpha 0.5 depths of landlab fall below 0 and become NaN; ours do not.
    """
    bed = ground()
    depth = np.maximum(1.6 - bed, 0) * (np.arange(50) < 25)
    theirs, mine = both(bed, depth, theta=theta, n=n, seconds=300.0, alpha=alpha)
    assert np.abs(theirs - mine).max() < 1e-3
    assert np.abs(mine - depth).max() > 0.5 and (mine[:, 30:] > 0.1).any()


def test_a_slope_that_floods_from_its_edge():
    """A level on one edge: landlab's fixed ring is our stage."""
    bed = np.linspace(0, 0.5, 50) + 0.05 * ground()
    theirs, mine = both(bed, np.zeros(bed.shape), theta=0.8, n=0.06, seconds=300.0, stage=1.0)
    assert np.abs(theirs - mine).max() < 1e-3
    assert (mine[:, 20:] > 0.05).any()


@pytest.mark.parametrize("fall", [20.0, 60.0])
def test_steep_slopes_are_limited_alike(fall):
    """A slope of 1 in 25 and 1 in 8, half a metre of water on all of it."""
    y, x = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 50), indexing="ij")
    bed = fall * x + 2 * np.sin(6 * y)
    theirs, mine = both(bed, np.full(bed.shape, 0.5), theta=0.8, n=0.03, seconds=60.0, steep=True, alpha=0.4)
    assert np.abs(theirs - mine).max() < 1e-3 and mine.max() > 3
