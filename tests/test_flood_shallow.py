"""The full shallow-water solver: numba against plain torch, what must hold in any flow, tiles, batches, resuming, bad input."""

import numpy as np
import pytest
import torch
from flood_toys import advance, all_kinds, hills, puddles

from gensat.errors import GensatError, InputError
from gensat.hydro.boundary import OPEN, Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing, Inflow, Rain
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.shallow_kernels import TILE, stage
from gensat.hydro.solver import run

BACKENDS = ["torch", "numba"]  # numba's threads, once awake, spin in the way of torch's


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def moving(solver, depth, seed=2):
    """Water with speeds of up to 2 m/s."""
    state = solver.start(depth=depth)
    draw = torch.Generator().manual_seed(seed)
    for q in (state.x, state.y):
        q += (torch.rand(q.shape, generator=draw, dtype=q.dtype) * 4 - 2) * state.depth
    return state


def same(a, b, **tolerance):
    for name in ("depth", "x", "y", "time"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), **(tolerance or dict(atol=0, rtol=0)))


@pytest.mark.parametrize("shape", [(40, 60), (70, 300), (1, 9), (7, 1)])
def test_the_kernel_is_the_reference(shape):
    """20 steps over rough ground, all kinds of edges, two scenarios; 1e-10 metres and m2/s (measured: 2e-13)."""
    domain = hills(*shape)
    found = []
    for backend in BACKENDS:
        solver = ShallowWater(domain, all_kinds(), backend=backend)
        found.append(advance(solver, moving(solver, puddles(domain, 2)), 20))
    (plain, came_plain), (fast, came_fast) = found
    same(fast, plain, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(came_fast, came_plain, atol=1e-8, rtol=1e-10)


def test_tiles_that_are_left_out_change_nothing():
    """Water in one corner of a grid of many tiles runs over their borders; all cells are those of the plain reference."""
    domain = hills(3 * TILE[0] + 5, 2 * TILE[1] + 7, seed=3)
    depth = np.zeros(domain.shape)
    depth[TILE[0] - 6 : TILE[0] - 1, TILE[1] - 5 : TILE[1] - 2] = 3.0
    depth *= domain.exists
    found = []
    for backend in BACKENDS:
        solver = ShallowWater(domain, Boundaries(east=OPEN), backend=backend)
        state = solver.start(depth=depth)
        state, _ = advance(solver, state, 30)
        cells = torch.tensor([(2 * TILE[0] + 3) * domain.shape[1] + 4])
        state.add(torch.tensor([0.5], dtype=torch.float64), cells)  # far off, as an inflow does
        state, _ = advance(solver, state, 10)
        found.append(state)
    same(*found, atol=1e-10, rtol=1e-10)
    stepped = found[1].work.now | found[1].work.before
    assert 2 <= stepped.sum() < stepped.size - 2
    assert (found[0].depth[TILE[0] : TILE[0] + 5] > 0.01).any()  # it did run on


def test_the_number_of_workers_changes_no_bit():
    domain = hills(70, 300)
    solver = ShallowWater(domain, all_kinds())
    state = moving(solver, puddles(domain))
    arrays = [a.numpy() for a in (state.depth, state.x, state.y)]
    ground = [solver.ground.bed.numpy(), solver.exists.numpy(), solver.manning.numpy()]
    ground.append((np.zeros((1, 1), dtype=bool),) * 2)  # no wall of one cell
    numbers = np.array([solver.gravity, 1.5, 1e-6, solver.dx])
    results = []
    for workers in (1, 2, 5):
        later, wet = [np.empty_like(a) for a in arrays], np.zeros(9, dtype=bool)
        kinds, levels = np.array([1, 2, 2, 0]), np.array([0.0, 6.0, 1.5, 0.0])
        came = stage(np.arange(9), *ground, *arrays, *later, kinds, levels, numbers, 0.05, False, wet, workers)
        results.append([*later, came, wet])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lake_stays_at_rest_over_any_bed(backend):
    """Rough ground with islands, holes and dry hollows behind them, 100 steps: 1e-12 m and m2/s."""
    domain = hills(seed=5)
    solver = ShallowWater(domain, Boundaries(west=Side.stage(3.0)), backend=backend)
    state = solver.start(level=3.0)
    wet = state.depth > 0
    assert 0.2 < wet.double().mean() < 0.8
    before = state.clone()
    state, came = advance(solver, state, 100)
    assert (state.depth - before.depth).abs().max() < 1e-12
    assert max(state.x.abs().max(), state.y.abs().max()) < 1e-12
    assert came.abs().max() < 1e-9


@pytest.mark.parametrize("limiter", [0, 1.5])
def test_no_water_is_lost_and_no_depth_negative(limiter):
    """A thousand wild steps between walls, then as many over edges: the volume is that of the beginning and what came in."""
    domain = hills()
    for edges in (Boundaries(), all_kinds()):
        solver = ShallowWater(domain, edges, limiter=limiter)
        state = moving(solver, puddles(domain))
        volume = state.volume(domain.area)
        came = torch.zeros(4, dtype=torch.float64)
        for _ in range(1000):
            state, over = solver.step(state, solver.time_step(state))
            came += over
            assert state.depth.min() >= 0
        assert float(abs(state.volume(domain.area) - volume - came.sum())) < 1e-11 * float(volume)
        assert (came[3] == 0) and (came[0] <= 0)
    assert torch.isfinite(state.x).all() and not state.depth[~torch.as_tensor(domain.exists)].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scenario_does_not_know_of_its_batch(backend):
    domain = hills()
    solver = ShallowWater(domain, all_kinds(), backend=backend)
    depth = puddles(domain, 3)
    depth[1] *= 3
    together, came = advance(solver, solver.start(depth=depth), 15)
    for i in range(3):
        alone, over = advance(solver, solver.start(depth=depth[i]), 15)
        assert torch.equal(alone.depth, together.depth[i]) and torch.equal(alone.x, together.x[i])
        assert alone.time == together.time[i] and torch.equal(over, came[i])
    assert len(set(together.time.tolist())) > 1
    waiting = solver.step(together.clone(), torch.tensor([0.0, 0.1, 0.0], dtype=torch.float64))[0]
    assert torch.equal(waiting.depth[0], together.depth[0]) and not torch.equal(waiting.depth[1], together.depth[1])


def storm(domain):
    rain = Rain.steady(100.0, 60.0, curve_number=80)
    cells = torch.tensor([10 * domain.shape[1] + 30])
    return Forcing(rain, [Inflow(cells, discharge=_steady(2.0))])


def _steady(value):
    from gensat.hydro.series import Series

    return Series.of(value)


def test_a_run_that_was_interrupted_has_the_bits_of_one_that_was_not(tmp_path):
    domain = hills()
    solver = ShallowWater(domain, all_kinds())
    whole = run(solver, solver.start(), storm(domain), seconds=40, every=10)
    file = tmp_path / "flood.safetensors"

    def stop(flow):
        if float(flow.state.time.min()) >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(solver, solver.start(), storm(domain), seconds=40, every=10, checkpoint=file, on_output=stop)
    resumed = run(solver, solver.start(), storm(domain), seconds=40, every=10, checkpoint=file)
    same(whole.state, resumed.state)
    assert torch.equal(whole.peaks.speed, resumed.peaks.speed) and torch.equal(
        whole.peaks.arrival, resumed.peaks.arrival
    )
    assert float(whole.balance.relative.abs().max()) < 1e-12
    assert float(whole.balance.stored) > 0


def test_the_highest_values_are_those_of_the_states():
    """Fast bookkeeping against the plain one, with momenta at cells."""
    domain = hills()
    found = []
    for backend in BACKENDS:
        solver = ShallowWater(domain, all_kinds(), backend=backend)
        found.append(run(solver, moving(solver, puddles(domain)), seconds=3).peaks)
    for name in ("depth", "speed", "hazard", "arrival", "froude"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name), atol=1e-9, rtol=1e-9)
    assert float(found[0].froude) > 0


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("numba", marks=pytest.mark.slow)]
)  # numba compiles once more
def test_float32_is_float64_to_a_millimetre(backend):
    """A dam break over rough ground 2000 m up, 20 s: depths within 1 mm, momenta within 5 mm of water times 1 m/s."""
    domain = hills()
    high = Domain.flat(*domain.shape, 5.0, bed=domain.bed + 2000, exists=domain.exists, manning=domain.manning)
    depth = np.where(np.arange(60) < 20, 4.0, 0.0) * domain.exists
    states = []
    for dtype in ("float64", "float32"):
        solver = ShallowWater(high, dtype=dtype, backend=backend)
        states.append(run(solver, solver.start(depth=depth), seconds=20.0).state)
    exact, single = states
    assert single.depth.dtype == torch.float32
    assert (exact.depth - single.depth).abs().max() < 1e-3
    assert (exact.x - single.x).abs().max() < 5e-3
    volume = exact.volume(25.0)
    assert abs(single.volume(25.0) - volume) < 2e-6 * volume


def test_a_basin_fills_from_a_stage_outside_to_its_level():
    bed = np.minimum(0.05 * np.arange(60), 1.0) + 0.3 * np.sin(np.arange(30) / 3)[:, None]
    domain = Domain.flat(30, 60, 10.0, bed=bed, manning=0.08)
    solver = ShallowWater(domain, Boundaries(west=Side.stage(2.0)))
    flow = run(solver, solver.start(), seconds=1200)
    level = flow.state.depth + torch.as_tensor(bed)
    assert (level - 2.0).abs().max() < 0.03  # it still swings
    assert float(flow.balance.edges[3]) == pytest.approx(float(flow.state.volume(100.0)), rel=1e-11)
    assert float(flow.state.depth.min()) > 0.3


def test_open_edges_let_a_wave_out_and_nothing_in():
    """A mound in still water: no crest comes back from open edges; as nothing comes in, the trough behind the crest draws the
    water down by up to a sixth of the mound. From walls a quarter of it comes back."""
    x, y = np.meshgrid(np.arange(60) - 29.5, np.arange(60) - 29.5)
    depth = 2 + 0.1 * np.exp(-(x**2 + y**2) / 30)
    domain = Domain.flat(60, 60, 5.0, manning=0.01)
    left = {}
    for name, side in (("open", OPEN), ("closed", Side("closed"))):
        solver = ShallowWater(domain, Boundaries.all(side))
        flow = run(solver, solver.start(depth=depth), seconds=60)
        left[name] = (flow.state.depth - 2) / 0.1
        assert float(flow.balance.edges.max()) <= 0
    assert left["open"].max() < 0.005 < 0.2 < left["closed"].max()
    assert left["open"].min() > -0.16


def test_a_house_is_a_wall():
    """Water that runs against raised ground rises as against a wall of the domain, within 3 percent, and stays out of it."""
    x = np.arange(80)
    bed = np.where(x >= 60, 3.0, 0.0)
    depth = np.where(x < 30, 1.0, 0.0)
    rises = []
    for domain in (
        Domain.flat(3, 80, 1.0, bed=bed, manning=0.01),
        Domain.flat(3, 80, 1.0, exists=np.broadcast_to(x < 60, (3, 80)), manning=0.01),
    ):
        solver = ShallowWater(domain)
        flow = run(solver, solver.start(depth=depth * domain.exists), seconds=12)
        rises.append(float(flow.peaks.depth[1, 59]))
        assert float(flow.state.depth[:, 60:].max()) == 0
    assert rises[0] > 0.3
    assert rises[0] == pytest.approx(rises[1], rel=0.03)


def test_rain_runs_off_a_roof():
    domain = Domain.flat(
        20, 20, 1.0, bed=np.where(np.arange(20) < 8, 3.0, 0.0) + 0.01 * np.arange(20)[:, None], manning=0.02
    )
    solver = ShallowWater(domain)
    flow = run(solver, solver.start(), Forcing(Rain.steady(400.0, 300.0)), seconds=500)
    assert float(flow.state.depth[:, :8].mean()) < 0.002 < 0.03 < float(flow.state.depth[:, 8:].mean())
    assert abs(float(flow.balance.relative)) < 1e-12


@pytest.mark.parametrize(
    "wrong, says",
    [
        (dict(courant=0.6), "Courant"),
        (dict(limiter=0.5), "limiter"),
        (dict(limiter=2.5), "limiter"),
        (dict(dry=0.0), "velocity"),
        (dict(gravity=-1), "gravity"),
        (dict(dtype="float16"), "dtype"),
        (dict(backend="fortran"), "backend"),
    ],
)
def test_settings_that_cannot_be(wrong, says):
    with pytest.raises(InputError, match=says):
        ShallowWater(hills(), **wrong)


@pytest.mark.gpu
def test_a_gpu_computes_the_same():
    domain = hills()
    depth = puddles(domain, 2)
    here = ShallowWater(domain, all_kinds(), backend="torch")
    plain, came = advance(here, here.start(depth=depth), 20)
    for backend, tolerance in (("torch", 1e-10), ("compile", 1e-9)):
        solver = ShallowWater(domain, all_kinds(), device="cuda", backend=backend)
        state = solver.start(depth=depth.cuda())
        total = torch.zeros(2, 4, dtype=torch.float64, device="cuda")
        for _ in range(20):
            state, over = solver.step(state, solver.time_step(state))
            total += over
        torch.testing.assert_close(state.depth.cpu(), plain.depth, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(total.cpu(), came, atol=1e-7, rtol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_water_that_is_not_a_number_stops_a_run(backend):
    """A fast reduction that skips NaN would go on with the time step of a dry domain."""
    solver = ShallowWater(hills(), backend=backend)
    state = solver.start(depth=puddles(solver.domain))
    state.depth[3, 4] = torch.nan
    assert torch.isnan(solver.time_step(state))
    with pytest.raises(GensatError, match="unstable"):
        run(solver, state, seconds=1.0)
