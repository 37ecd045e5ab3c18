"""The local inertial solver against its plain reference, exact solutions, and what water must do."""

import math

import numpy as np
import pytest
import torch
from flood_toys import advance, all_kinds, hills, puddles, valley

from gensat.errors import InputError
from gensat.hydro.boundary import OPEN, Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.series import Series
from gensat.hydro.solver import run

OPTIONS = [{}, {"theta": 1.0, "froude": 0.8}, {"steep": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_fast_kernel_is_the_plain_reference(options):
    """Over several tiles in both directions, with walls and all kinds of edges."""
    domain = hills(40, 300)
    depth = puddles(domain)
    fast, plain = (LocalInertial(domain, all_kinds(), backend=b, **options) for b in ("numba", "torch"))
    a, edges_a = advance(fast, fast.start(depth=depth), 80)
    b, edges_b = advance(plain, plain.start(depth=depth), 80)
    for one, other in ((a.depth, b.depth), (a.x, b.x), (a.y, b.y), (edges_a, edges_b), (a.time, b.time)):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)
    assert a.depth.max() > 0.5 and a.x.abs().max() > 0.1
    for one, other in zip(fast.speed(a), plain.speed(b), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9)


def test_the_number_of_threads_changes_nothing():
    import numba

    domain = hills(64, 600)
    solver = LocalInertial(domain, all_kinds())
    depth = puddles(domain)
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        found.append(advance(solver, solver.start(depth=depth), 20)[0])
    assert torch.equal(found[0].depth, found[1].depth) and torch.equal(found[0].x, found[1].x)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_lake_with_islands_stays_at_rest(backend):
    domain = hills()
    solver = LocalInertial(domain, Boundaries(west=Side.stage(3.0), south=OPEN), backend=backend)
    state = solver.start(level=3.0)
    before = state.depth.clone()
    assert (before[torch.from_numpy(domain.exists)] == 0).any() and before.max() > 2
    state, _ = advance(solver, state, 50)
    assert torch.equal(state.depth, before)
    assert max(state.x.abs().max(), state.y.abs().max()) <= 1e-12


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_water_is_neither_made_nor_lost_nor_negative(backend, options):
    domain = hills()
    solver = LocalInertial(domain, all_kinds(), backend=backend, **options)
    state = solver.start(depth=puddles(domain))
    start = float(state.volume(domain.area))
    for _ in range(150):
        state, edges = solver.step(state, solver.time_step(state))
        start += float(edges.sum())
        assert float(state.depth.min()) >= 0
    assert math.isclose(float(state.volume(domain.area)), start, rel_tol=1e-12)
    assert (state.depth[~torch.from_numpy(domain.exists)] == 0).all()


def test_scenarios_of_a_batch_do_not_know_of_each_other():
    domain = hills()
    solver = LocalInertial(domain, Boundaries(west=Side.stage(torch.tensor([2.0, 4.0, 6.0], dtype=torch.float64))))
    depth = puddles(domain, 3)
    together = run(solver, solver.start(depth=depth), seconds=60, every=20)
    assert len(set(together.steps.tolist())) > 1  # each its own time steps
    for k, level in enumerate((2.0, 4.0, 6.0)):
        single = LocalInertial(domain, Boundaries(west=Side.stage(level)))
        alone = run(single, single.start(depth=depth[k]), seconds=60, every=20)
        assert torch.equal(alone.state.depth, together.state.depth[k])
        assert torch.equal(alone.peaks.hazard, together.peaks.hazard[k])
        assert alone.steps == together.steps[k]


def test_tiles_give_what_the_whole_gives():
    """A dam in one corner of many tiles: few are stepped at first, and each cell has the bits of stepping all."""
    draw = np.random.default_rng(3)
    domain = Domain.flat(160, 1100, 2.0, bed=0.3 * draw.random((160, 1100)))
    solver = LocalInertial(domain)
    depth = np.zeros(domain.shape)
    depth[70:90, 520:540] = 2.0
    some, whole = solver.start(depth=depth), solver.start(depth=depth)
    shares = []
    for _ in range(70):
        some, _ = solver.step(some, solver.time_step(some))
        if whole.work is not None:
            whole.work.touch(None)
        whole, _ = solver.step(whole, solver.time_step(whole))
        shares.append(some.work.now.mean())
    assert torch.equal(some.depth, whole.depth) and torch.equal(some.x, whole.x) and torch.equal(some.y, whole.y)
    assert shares[0] < shares[-1] < 0.7


def test_tiles_that_dry_up_leave_nothing_behind():
    """Water runs down a slope into a pit, out of the tiles where it was; both kernels see it go."""
    bed = np.broadcast_to(np.linspace(600, 0, 530), (4, 530)).copy()
    bed[:, -15:] = -5
    domain = Domain.flat(4, 530, 5.0, bed=bed, manning=0.02)
    fast, plain = (LocalInertial(domain, courant=0.7, theta=1.0, thin=0.02, backend=b) for b in ("numba", "torch"))
    depth = np.zeros(domain.shape)
    depth[:, :40] = 0.5
    a, _ = advance(fast, fast.start(depth=depth), 400)
    b, _ = advance(plain, plain.start(depth=depth), 400)
    assert torch.allclose(a.depth, b.depth, rtol=0, atol=1e-10) and torch.allclose(a.x, b.x, rtol=0, atol=1e-10)
    assert a.work.now.tolist() == [[[False, True, False]]]
    assert not a.depth[:, :256].any() and not a.x[:, :256].any() and a.depth[:, 256:].max() > 0.1


@pytest.mark.parametrize("theta", [1.0, 0.9, 0.8])
def test_seiche(theta):
    """Period 2 L / sqrt(g h) of standing water in a closed basin, and what theta takes of its height in three periods.

    A step takes (1 - theta) (1 - cos(pi / N)) of the discharge, which is half of the energy.
    """
    n, length, h0, a = 200, 1000.0, 5.0, 0.01
    dx = length / n
    domain = Domain.flat(1, n, dx, manning=0.005)
    solver = LocalInertial(domain, theta=theta, courant=0.7)
    solver.rows_of_n = solver.manning = torch.zeros(1, n, dtype=torch.float64)  # no friction: not a ground
    x = (np.arange(n) + 0.5) * dx
    shape = np.cos(math.pi * x / length)
    state = solver.start(depth=(h0 + a * shape)[None])
    period = 2 * length / math.sqrt(solver.gravity * h0)
    times, heights = [], []
    while float(state.time) < 3.2 * period:
        state, _ = solver.step(state, solver.time_step(state))
        times.append(float(state.time))
        heights.append(float((state.depth[0] - h0) @ torch.from_numpy(shape)) * 2 / n)
    times, heights = np.array(times), np.array(heights)
    down = np.flatnonzero((heights[:-1] > 0) & (heights[1:] <= 0))
    zeros = times[down] + heights[down] / (heights[down] - heights[down + 1]) * (times[down + 1] - times[down])
    assert abs((zeros[2] - zeros[0]) / 2 / period - 1) < 6e-5
    around = np.abs(times - 3 * period) < 0.1 * period
    steps = np.searchsorted(times, 3 * period)
    kept = math.exp(-steps * (1 - theta) * (1 - math.cos(math.pi / n)) / 2)
    assert abs(heights[around].max() / a - kept) < 3e-4


def test_uniform_flow():
    """h = (q n / sqrt(S))^(3/5) to 1e-12, where as much leaves by the open edge as comes in."""
    slope, n, q, dx = 0.001, 0.03, 1.0, 20.0
    bed = (100 - np.arange(30)) * dx * slope
    domain = Domain.flat(1, 30, dx, bed=bed[None], manning=n)
    solver = LocalInertial(domain, Boundaries(east=OPEN), theta=1.0, courant=0.7)
    depth = (q * n / math.sqrt(slope)) ** 0.6
    state = solver.start(depth=0.5)
    for _ in range(2000):
        dt = solver.time_step(state)
        state.add((q * dt / dx)[..., None], torch.tensor([0]))
        state, _ = solver.step(state, dt)
    assert abs(depth - 0.968886) < 1e-6
    assert torch.allclose(state.depth[0, 5:], torch.tensor(depth, dtype=torch.float64), rtol=1e-12, atol=0)
    assert abs(float(solver.speed(state)[0][0, 20]) * depth - q) < 1e-12


@pytest.mark.parametrize(
    ("u", "n", "dx", "theta", "rmse", "share"),
    [(0.4, 0.01, 25.0, 1.0, 0.0045, 0.017), (1.0, 0.03, 50.0, 1.0, 0.040, 0.020), (1.0, 0.03, 50.0, 0.9, 0.07, 0.045)],
)
def test_wave_on_a_flat_bed(u, n, dx, theta, rmse, share):
    """Hunter et al. (2005): a front at u t behind which h = (7/3 n^2 u^2 (u t - x))^(3/7)."""
    end = 3600.0
    cells = math.ceil(u * end / dx * 1.3)

    def depth_at(x, t):
        return (7 / 3 * n**2 * u**2 * np.maximum(u * t - x, 0)) ** (3 / 7)

    times = np.linspace(0, end, 2000)
    # The level is that half a cell outside, where the solver has it.
    stage = Series(torch.from_numpy(times), torch.from_numpy(depth_at(-dx / 2, times)))
    solver = LocalInertial(Domain.flat(1, cells, dx, manning=n), Boundaries(west=Side.stage(stage)), theta=theta)
    found = run(solver, solver.start(), seconds=end, every=60).state.depth[0].numpy()
    exact = depth_at((np.arange(cells) + 0.5) * dx, end)
    assert math.sqrt(np.mean((found - exact) ** 2)) < rmse
    assert np.abs(found - exact).sum() / exact.sum() < share


def test_a_symmetric_flood_stays_symmetric():
    domain = Domain.flat(41, 41, 10.0)
    depth = np.zeros((41, 41))
    depth[18:23, 18:23] = 1.0
    state, _ = advance(solver := LocalInertial(domain), solver.start(depth=depth), 40)
    for turned in (state.depth.flip(0), state.depth.flip(1), state.depth.mT):
        assert torch.allclose(state.depth, turned, rtol=0, atol=1e-14)
    assert torch.allclose(state.x.mT, state.y, rtol=0, atol=1e-14)


def test_walls_hold():
    """A wall of missing cells, a house, and the closed edges: not a drop behind them."""
    domain = Domain.flat(30, 30, 5.0)
    wall = np.zeros((30, 30), dtype=bool)
    wall[:, 15] = True
    depth = np.zeros((30, 30))
    depth[:, :10] = 2.0
    for closed in (domain.without(wall), domain.raised(wall, 3.0)):
        state, edges = advance(solver := LocalInertial(closed), solver.start(depth=depth), 200)
        assert (state.depth[:, 15:] == 0).all() and (state.depth[:, 14] > 1).all() and not edges.any()
    low, _ = advance(solver := LocalInertial(domain.raised(wall, 0.5)), solver.start(depth=depth), 200)
    assert (low.depth[:, 16:] > 0).any()


def test_a_stage_fills_a_basin_to_its_level_and_drains_it():
    domain = Domain.flat(2, 12, 50.0, bed=np.linspace(0, 1, 12))
    level = Series(torch.tensor([0.0, 3e3, 4e3, 9e3]).double(), torch.tensor([2.0, 2.0, 0.5, 0.5]).double())
    solver = LocalInertial(domain, Boundaries(west=Side.stage(level)), theta=0.7)
    found = []
    flow = run(
        solver, solver.start(), seconds=9e3, every=3e3, on_output=lambda r: found.append(r.state.depth + solver.bed)
    )
    assert torch.allclose(found[0], torch.tensor(2.0).double(), atol=0.05)  # it still sloshes
    wet = flow.state.depth > 0.01
    assert torch.allclose((flow.state.depth + solver.bed)[wet], torch.tensor(0.5).double(), atol=0.02)
    assert abs(float(flow.balance.relative)) < 1e-12 and float(flow.balance.edges[3]) > 0


def test_float32_follows_float64():
    """Within 0.1 mm of it (0.003 mm) after ten minutes, on a bed 2000 m up."""
    domain = valley()
    high = domain.raised(np.ones(domain.shape, dtype=bool), 2000.0)
    edges = Boundaries(west=OPEN, east=Side.stage(2001.2))
    double = LocalInertial(high, edges)
    a = run(double, double.start(level=2000.3), seconds=600)
    for backend in ("numba", "torch"):
        single = LocalInertial(high, edges, dtype="float32", backend=backend)
        b = run(single, single.start(level=2000.3), seconds=600)
        assert b.state.depth.dtype == torch.float32
        assert (a.state.depth - b.state.depth).abs().max() < 1e-4 and a.state.depth.max() > 0.7
        assert abs(float(b.balance.relative)) < 1e-5


def test_the_default_time_step_does_not_let_ripples_grow():
    """At 0.7 a level of 1.2 m on an edge makes waves of one cell, and 1e-7 of noise becomes 7 cm; not at the default."""
    domain = valley()
    found = []
    for noise in (0.0, 1e-7):
        solver = LocalInertial(domain, Boundaries(east=Side.stage(1.2)))
        state = solver.start(level=0.3)
        draw = torch.from_numpy(np.random.default_rng(0).random(domain.shape))
        state.depth *= 1 + noise * draw
        found.append(run(solver, state, seconds=600).state.depth)
    assert (found[0] - found[1]).abs().max() < 1e-6 and found[0].max() > 0.7


def test_what_is_not_stable_is_refused():
    domain = Domain.flat(4, 4, 1.0)
    for values in (
        {"courant": 0.9},
        {"courant": 0.0},
        {"theta": 0.0},
        {"theta": 1.5},
        {"froude": -1.0},
        {"thin": 0.0},
        {"dtype": "float16"},
        {"backend": "magic"},
        {"gravity": 0.0},
    ):
        with pytest.raises(InputError, match=r"give|choose"):
            LocalInertial(domain, **values)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "compile"])
def test_gpu(backend):
    domain = hills()
    depth = puddles(domain)
    here = LocalInertial(domain, all_kinds(), backend="torch")
    there = LocalInertial(domain, all_kinds(), backend=backend, device="cuda")
    a = run(here, here.start(depth=depth), seconds=60)
    b = run(there, there.start(depth=depth), seconds=60)
    assert torch.allclose(a.state.depth, b.state.depth.cpu(), rtol=0, atol=1e-9)
    assert torch.allclose(a.peaks.speed, b.peaks.speed.cpu(), rtol=0, atol=1e-7)
