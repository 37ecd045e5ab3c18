"""Water over walls of one cell: the formula of the weir, rest, balance, and the fast kernels beside plain torch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch

from gensat.hydro.boundary import OPEN, Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import run
from gensat.hydro.walls import burn
from gensat.hydro.weirs import FACTOR, SHARE, normals, weir, weir_faces

SOLVERS = [LocalInertial, ShallowWater]
WALL, AT, LONG = 2.0, 8, 16


def channel(wall=WALL, dx=5.0):
    """Three cells wide, a wall across it."""
    walls = np.zeros((3, LONG), bool)
    walls[:, AT] = True
    return replace(Domain.flat(3, LONG, dx, bed=np.where(walls, wall, 0.0), manning=0.03), walls=walls)


def flow_over(solver, head, behind=None, wall=WALL, seconds=75.0):
    """Levels above the crest before and behind a wall, and what passes, when a level is held on one side, and on both with ``behind``."""
    domain = channel(wall)
    edges = Boundaries(west=Side.stage(wall + head), east=OPEN if behind is None else Side.stage(wall + behind))
    level = np.where(np.arange(LONG) < AT, wall + head, -1.0 if behind is None else wall + behind)
    made = solver(domain, edges)
    flow = run(made, made.start(level=level[None].repeat(3, 0)), seconds=seconds, peaks=False)
    depth, x = flow.state.depth[1], flow.state.x[1]
    q = x[AT : AT + 2].mean() if flow.state.staggered else x[[AT - 2, AT + 2]].mean()
    assert abs(float(flow.balance.relative)) < 1e-12
    return float(depth[AT - 1]) - wall, max(float(depth[AT + 1]) - wall, 0.0), float(q)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("head", [0.2, 0.5, 1.0])
def test_a_wall_that_is_overtopped_lets_pass_what_a_broad_crest_does(solver, head):
    before, _, q = flow_over(solver, head)
    assert before == pytest.approx(head, rel=0.02)
    assert q == pytest.approx(1.70 * before**1.5, rel=0.03)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("tail", [0.4])
def test_water_behind_the_wall_holds_the_flow_back_as_villemonte_found(solver, tail):
    before, behind, q = flow_over(solver, 0.5, tail)
    assert behind > 0.2
    assert q == pytest.approx(1.70 * before**1.5 * (1 - (behind / before) ** 1.5) ** 0.385, rel=0.15)


def test_two_faces_make_one_weir():
    assert (1 - SHARE) ** 0.385 == pytest.approx(SHARE, rel=1e-12)
    g, head = 9.81, torch.tensor(0.7, dtype=torch.float64)
    assert FACTOR * g**0.5 * SHARE == pytest.approx(1.705, abs=1e-3)
    crest = head * SHARE ** (2 / 3)  # the level on the crest with which as much goes as comes
    assert float(weir(head, crest, g)) == pytest.approx(float(weir(crest, crest * 0 - 1, g)), rel=1e-12)
    assert float(weir(head, crest, g)) == pytest.approx(1.705 * 0.7**1.5, rel=1e-3)
    assert float(weir(head, head, g)) == 0 and float(weir(-head, -2 * head, g)) == 0
    assert torch.equal(weir(head, crest, g), weir(crest, head, g))


def test_weirs_are_the_faces_where_a_wall_stands_above_other_ground():
    domain = channel()
    bed = domain.bed.copy()
    bed[1, AT - 1] = 3.0  # ground that is higher than the wall
    across, down = weir_faces(replace(domain, bed=bed))
    expected = np.zeros((3, LONG + 1))
    expected[:, AT : AT + 2] = 1
    expected[1, AT] = 0
    np.testing.assert_allclose(across.numpy(), expected, atol=1e-9)
    assert not down.any()  # from wall to wall
    assert weir_faces(replace(domain, walls=None)) is None


def oblique(angle, rows=24, dx=5.0, wall=WALL, drop=3.0):
    """A wall at an angle to the rows' normal across a channel, lower ground behind it: the domain, and which cells lie before it."""
    slope = math.tan(math.radians(angle))
    plain = Domain.flat(rows, int(20 + rows * slope), dx, manning=0.03)
    foot = 10.3 * dx
    line = shapely.LineString([(foot - 50 * slope, -50), (foot + (rows * dx + 50) * slope, rows * dx + 50)])
    walls = np.isfinite(burn([line], [wall], plain, corners=False))
    row, column = np.indices(plain.shape)
    before = (column + 0.5) * dx < foot + (rows - 0.5 - row) * dx * slope
    return replace(plain, bed=np.where(walls, wall, np.where(before, 0.0, -drop)), walls=walls), before & ~walls


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("angle", [14.04, 26.57, 45.0])
def test_what_comes_over_an_oblique_wall_is_that_of_its_length(solver, angle):
    head, rows, dx = 0.5, 24, 5.0
    domain, before = oblique(angle, rows, dx)
    made = solver(domain, Boundaries(west=Side.stage(WALL + head), east=OPEN))
    began = made.start(level=np.where(before | domain.walls, WALL + head, -99.0))
    state = run(made, began, seconds=200, peaks=False).state
    flow = float(state.x[:, 0 if state.staggered else 1].sum()) * dx
    length = rows * dx / math.cos(math.radians(angle))
    row, column = np.indices(domain.shape)
    near = before & (np.abs(column - 10 - (rows - row) * math.tan(math.radians(angle))) < 4)
    level = float(state.depth[torch.from_numpy(near)].mean()) - WALL
    assert level == pytest.approx(head, rel=0.03)
    assert flow == pytest.approx(1.70 * level**1.5 * length, rel=0.05)


@pytest.mark.parametrize("angle", [0, 10, 30, 45, 60, 90])
def test_the_normal_of_a_wall_comes_from_its_cells(angle):
    size = 80
    a, b = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle, far = 5.0 * size / 2, 5.0 * size
    ends = [(middle - s * b * far, middle + s * a * far) for s in (-1, 1)]
    walls = np.isfinite(burn([shapely.LineString(ends)], [1.0], Domain.flat(size, size, 5.0), corners=False))
    east, south = normals(walls)
    inner = walls & np.pad(np.ones((size - 20, size - 20), bool), 10)
    np.testing.assert_allclose(east[inner] ** 2 + south[inner] ** 2, 1, atol=1e-9)
    assert east[inner].mean() == pytest.approx(a, abs=0.04) and south[inner].mean() == pytest.approx(b, abs=0.04)
    apart = np.zeros((40, 40), bool)
    apart[10] = True
    assert normals(apart)[0][30:].max() == normals(apart)[1][30:].max() == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_lake_over_a_wall_stays_at_rest(solver):
    domain = channel()
    made = solver(domain)
    began = made.start(level=2.7)
    first = began.depth.clone()
    flow = run(made, began, seconds=120)
    assert float((flow.state.depth - first).abs().max()) < 1e-12
    assert max(float(flow.state.x.abs().max()), float(flow.state.y.abs().max())) < 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
def test_kernels_and_torch_agree_over_walls_that_cross(solver):
    rng = np.random.default_rng(4)
    ground = Domain.flat(40, 150, 5.0, bed=rng.uniform(0, 0.6, (40, 150)), manning=0.03)
    walls = np.zeros(ground.shape, bool)
    walls[:, 70], walls[20], walls[5:15, 130] = True, True, True
    walls[np.arange(40), 90 + np.arange(40)] = True
    domain = replace(ground, bed=np.where(walls, 1.4, ground.bed), walls=walls)
    level = np.where(np.arange(150) < 70, 2.0, 0.8)[None].repeat(40, 0)
    level[25:, 100:] = 1.7
    ends = []
    for backend in ("numba", "torch"):
        made = solver(domain, Boundaries(east=OPEN), backend=backend)
        state = made.start(level=level)
        for _ in range(25):
            state, _ = made.step(state, made.time_step(state))
        ends.append(state)
    for one, other in zip(*((s.depth, s.x, s.y) for s in ends), strict=True):
        assert float((one - other).abs().max()) < 1e-10
    assert float(ends[0].depth[:20, 71:75].max()) > 0.9  # it ran over


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_float32_stays_float32_over_walls(solver, backend):
    made = solver(channel(), backend=backend, dtype="float32")
    state, _ = made.step(began := made.start(level=2.7), made.time_step(began))
    assert {a.dtype for a in (state.depth, state.x, state.y)} == {torch.float32}
    assert float((state.depth - began.depth).abs().max()) < 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_wall_deep_under_water_hardly_matters(solver):
    """Two metres over a wall of 20 cm, 10 cm higher on one side: what has passed in ten seconds is that of a step of the bed."""
    through = []
    for walls in (True, False):
        domain = channel(0.2)
        domain = domain if walls else replace(domain, walls=None)
        made = solver(domain)
        level = np.where(np.arange(LONG) < AT, 2.3, 2.2)[None].repeat(3, 0)
        began = made.start(level=level)
        before = float(began.depth[:, :AT].sum())
        through.append(before - float(run(made, began, seconds=5).state.depth[:, :AT].sum()))
    assert through[0] == pytest.approx(through[1], rel=0.1) and through[1] > 0.1
