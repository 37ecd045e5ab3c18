"""Running a flood: forcing against sums by hand, balance, what is kept, gauges, interruption and resuming."""

import math

import numpy as np
import pytest
import torch
from flood_toys import all_kinds, hills, puddles, valley
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat.errors import GensatError, InputError
from gensat.hydro.boundary import OPEN, Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing, Inflow, Rain, parse_rate
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.record import ARRIVED, Peaks
from gensat.hydro.series import Series
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import run

DOUBLE = torch.float64


def at(*values):
    return torch.tensor(values, dtype=DOUBLE)


def flooded(**values):
    """A valley with rain, an inflow and a stage: everything at once."""
    domain = valley(24, 30)
    solver = LocalInertial(domain, Boundaries(west=OPEN, east=Side.stage(0.8)), **values)
    inflow = Inflow.over(domain, domain.disc(300, 240, 50), Series(at(0, 300, 900), at(0, 4, 1)))
    rain = Rain.steady("200mm/h", 500, curve_number=80)
    return solver, Forcing(rain, [inflow])


def test_steady_rain_is_what_fell():
    """80 mm/h for half an hour on 12 cells of 2500 square metres: 40 mm each, 1200 cubic metres."""
    domain = Domain.flat(3, 4, 50.0)
    flow = run(LocalInertial(domain), LocalInertial(domain).start(), Forcing(Rain.steady("80mm/h", 1800)), seconds=3600)
    assert torch.allclose(flow.state.depth, at(0.04), rtol=1e-12)
    assert math.isclose(float(flow.balance.rain), 1200.0, rel_tol=1e-12) and float(flow.balance.infiltrated) == 0
    assert abs(float(flow.balance.relative)) < 1e-10


def test_a_hyetograph_falls_in_steps(tmp_path):
    """10 mm/h for 30 minutes, nothing, then 60 mm/h for 10 minutes: 15 mm."""
    file = tmp_path / "rain.csv"
    file.write_text("# storm\ntime_min,mm_h\n0,10\n30,0\n60,60\n70,0\n")
    rain = Rain(Series.read(file, steps=True, hold=False))
    found = rain.fallen(at(0, 1800, 3600, 3900, 4200, 9999))
    assert torch.allclose(found, at(0, 5, 5, 10, 15, 15), rtol=1e-12)


def test_curve_number():
    """CN 75: S = 84.667 mm; of 100 mm run off (100 - 16.933)^2 / (100 + 67.733) = 41.13715 mm; nothing of 15 mm."""
    domain = Domain.flat(2, 2, 200.0)
    solver = LocalInertial(domain)
    flow = run(solver, solver.start(), Forcing(Rain.steady(50, 7200, curve_number=75)), seconds=7200)
    assert abs(float(flow.state.depth[0, 0]) * 1000 - 41.137149) < 1e-5
    assert abs(float(flow.balance.rain - flow.balance.infiltrated) - 0.041137149 * 160_000) < 1e-3
    dry = run(solver, solver.start(), Forcing(Rain.steady(15, 3600, curve_number=75)), seconds=3600)
    assert float(dry.state.depth.max()) == 0 and float(dry.balance.infiltrated) > 0
    assert torch.allclose(Rain.steady(1, 1, curve_number=100).runoff(at(0, 3, 50)), at(0, 3, 50))


def test_rain_by_share_and_soil_of_each_cell():
    domain = Domain.flat(2, 2, 10.0).raised(np.array([[False, True], [False, False]]), 5.0)
    walls = np.zeros((2, 2), dtype=bool)
    share, soil = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[100.0, 100.0], [100.0, 75.0]])
    solver = LocalInertial(domain.without(walls))
    rain = Rain.steady(100, 3600, curve_number=soil, share=share)
    added = Forcing(rain).volumes(domain, at(0)[0], at(3600)[0])
    assert torch.allclose(added, at(40.0, (0.1 - 0.041137149) * 100, 0.0), atol=1e-4)
    state = solver.start()
    Forcing(rain).apply(state, domain, at(3600)[0])
    assert torch.allclose(state.depth, at(0.1, 0.2, 0.0, 0.041137149).reshape(2, 2), atol=1e-7)


def test_no_rain_outside_of_the_domain():
    domain = hills()
    solver = LocalInertial(domain)
    flow = run(solver, solver.start(), Forcing(Rain.steady(30, 60)), seconds=60)
    cells = int(domain.exists.sum())
    assert math.isclose(float(flow.balance.rain), cells * 25 * 0.0005, rel_tol=1e-12)
    assert (flow.state.depth[~torch.from_numpy(domain.exists)] == 0).all() and abs(float(flow.balance.relative)) < 1e-10


def test_a_hydrograph_is_integrated_exactly():
    """A triangle of 6 m3/s at 100 s and 200 s long is 600 m3, whatever the time steps."""
    domain = Domain.flat(10, 10, 5.0)
    solver = LocalInertial(domain)
    flow = run(
        solver,
        solver.start(),
        Forcing(inflows=[Inflow.over(domain, domain.disc(25, 25, 8), Series(at(0, 100, 200), at(0, 6, 0)))]),
        seconds=300,
    )
    assert math.isclose(float(flow.balance.inflow), 600, rel_tol=1e-12)
    assert math.isclose(float(flow.state.volume(25.0)), 600, rel_tol=1e-10)


@given(
    st.lists(st.floats(0.1, 50), min_size=1, max_size=6),
    st.lists(st.floats(0, 9), min_size=7, max_size=7),
    st.booleans(),
    st.booleans(),
    st.floats(-20, 200),
    st.floats(0, 150),
)
@settings(max_examples=25, deadline=None)
def test_the_integral_of_a_series_is_that_of_its_values(gaps, values, steps, hold, start, span):
    times = np.concatenate([[3.0], 3 + np.cumsum(gaps)])
    series = Series(at(*times), at(*values[: len(times)]), steps, hold)
    t = torch.linspace(start, start + span, 8001, dtype=DOUBLE)
    middle = (t[1:] + t[:-1]) / 2
    plain = float(series.at(middle).sum() * (t[1] - t[0]))
    assert abs(float(series.integral(at(start)[0], at(start + span)[0])) - plain) <= 0.4 + 1e-3 * abs(plain)


def test_everything_at_once_keeps_its_balance():
    solver, forcing = flooded()
    flow = run(solver, solver.start(), forcing, seconds=1200, every=300)
    found = flow.balance.describe()
    assert abs(found["relative_error"]) < 1e-10 and found["edges"]["east"] > 0 > found["edges"]["west"]
    assert found["inflow"] > 1000 and 0 < found["infiltrated"] < found["rain"]
    assert float(flow.state.depth.min()) >= 0


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, backend):
    points = {"low": (12, 3), "high": (5, 20)}
    solver, forcing = flooded(backend=backend)
    whole = run(solver, solver.start(), forcing, seconds=400, every=50, gauges=points)
    file = tmp_path / "run.safetensors"
    calls = []

    def stop(flow):
        calls.append(float(flow.state.time))
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(solver, solver.start(), forcing, seconds=400, every=50, gauges=points, checkpoint=file, on_output=stop)
    resumed = run(solver, solver.start(), forcing, seconds=400, every=50, gauges=points, checkpoint=file)
    for name, tensor in whole.tensors().items():
        if name != "wall":
            assert torch.equal(tensor, resumed.tensors()[name]), name
    again = run(solver, solver.start(), forcing, seconds=400, every=50, gauges=points, checkpoint=file)
    assert torch.equal(again.state.depth, whole.state.depth) and again.wall == resumed.wall
    with pytest.raises(InputError, match="other settings"):
        run(solver, solver.start(depth=0.1), forcing, seconds=400, every=50, gauges=points, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        run(solver, solver.start(), forcing, seconds=400, every=50, gauges=points, checkpoint=file)


@pytest.mark.parametrize("solver", [LocalInertial, ShallowWater])
def test_a_storm_in_a_batch_has_the_bits_of_the_storm_alone(solver):
    """Rain and inflow of each scenario: none takes the shorter steps that the heaviest asks for."""
    domain = hills()
    made, cells = solver(domain), torch.tensor([10 * domain.shape[1] + 30])
    rates, inflows = torch.linspace(7.3, 191.1, 9, dtype=DOUBLE), torch.linspace(3.0, 0.2, 9, dtype=DOUBLE)
    share = np.random.default_rng(1).random(domain.shape)

    def storm(rate, inflow):
        rain = Rain.steady(rate, 40, curve_number=90, share=share)
        return Forcing(rain, [Inflow(cells, Series.of(inflow))])

    whole = run(made, made.start(batch=(9,)), storm(rates, inflows), seconds=45, every=15)
    assert len(set(whole.steps.tolist())) > 2 and float(whole.balance.relative.abs().max()) < 1e-12
    for k in (0, 4, 8):
        alone = run(made, made.start(), storm(float(rates[k]), float(inflows[k])), seconds=45, every=15)
        assert alone.steps == whole.steps[k]
        for name in ("depth", "x", "y"):
            assert torch.equal(getattr(alone.state, name), getattr(whole.state, name)[k]), (k, name)
        assert torch.equal(alone.peaks.hazard, whole.peaks.hazard[k])
        assert torch.allclose(alone.balance.stored, whole.balance.stored[k], rtol=1e-13)


def test_outputs_fall_on_their_times_and_gauges_are_read_there():
    solver, forcing = flooded()
    seen = []
    flow = run(
        solver,
        solver.start(batch=(2,)),
        forcing,
        seconds=70,
        every=20,
        gauges=[(12, 3)],
        on_output=lambda f: seen.append(f.state.time.tolist()),
    )
    assert seen == [[20.0, 20.0], [40.0, 40.0], [60.0, 60.0], [70.0, 70.0]]
    assert flow.gauges.times == [0.0, 20.0, 40.0, 60.0, 70.0]
    level = flow.gauges.level[-1][0, 0] - flow.gauges.depth[-1][0, 0]
    assert float(level) == solver.domain.bed[12, 3]


def test_highest_values_are_those_of_every_step():
    """The kernel over wet tiles against maxima of all steps in plain torch."""
    domain = hills(40, 300)
    solver = LocalInertial(domain, all_kinds())
    state = solver.start(depth=puddles(domain))
    plain, fast = Peaks.of(state), Peaks.of(state)
    for _ in range(25):
        state, _ = solver.step(state, solver.time_step(state))
        plain._look(solver, state)
        fast._look_fast(solver, state)
    for name in ("depth", "speed", "hazard", "arrival", "froude", "swift"):
        assert torch.allclose(getattr(plain, name), getattr(fast, name), rtol=1e-9, atol=1e-12), name
    arrived = torch.isfinite(fast.arrival)
    assert torch.equal(arrived, fast.depth >= ARRIVED) and 0 < arrived.double().mean() < 1
    assert (fast.hazard >= 0.5 * fast.depth).all()


def test_a_flood_arrives_later_further_on():
    domain = Domain.flat(1, 80, 20.0)
    solver = LocalInertial(domain, Boundaries(west=Side.stage(1.0)))
    flow = run(solver, solver.start(), seconds=500)
    times = flow.peaks.arrival[0]
    reached = times[torch.isfinite(times)]
    assert 20 < len(reached) < 80 and (reached.diff() >= 0).all() and reached[-1] <= 500


def test_progress_is_told(monkeypatch):
    monkeypatch.setattr("gensat.hydro.stepping._GLANCE", 0.0)
    solver, forcing = flooded()
    said = []
    run(solver, solver.start(), forcing, seconds=50, progress=said.append)
    assert said[-1].time == 50 and said[0].dt > 0 and said[-1].volume > 0 and said[-1].error < 1e-10


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rain.steady(-5, 60),
        lambda: Rain.steady("fast", 60),
        lambda: Rain.steady(1e5, 60),
        lambda: Rain.steady(5, 0),
        lambda: Rain.steady(5, 60, curve_number=0),
        lambda: Rain.steady(5, 60, curve_number=140),
        lambda: Rain.steady(5, 60, share=np.array([[-1.0]])),
        lambda: Inflow(torch.tensor([3]), Series.of(-1.0)),
        lambda: Inflow(torch.tensor([], dtype=torch.int64), Series.of(1.0)),
        lambda: Series(at(0, 0), at(1, 2)),
        lambda: Series(at(0, 1), at(1, math.nan)),
        lambda: Boundaries.parse(["up=open"]),
        lambda: Boundaries.parse(["N=leaky"]),
        lambda: Boundaries.parse(["N=open", "north=closed"]),
        lambda: Boundaries.parse(["N=99999"]),
        lambda: Boundaries.parse(["N=nowhere.csv"]),
        lambda: Side("stage"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(make):
    with pytest.raises(InputError, match=r"give|check") as error:
        make()
    assert "\n" not in str(error.value)


def test_times_that_make_no_sense_are_refused():
    solver, _ = flooded()
    for values in ({"seconds": 0}, {"seconds": math.inf}, {"seconds": 5, "every": 0}, {"seconds": 5e9, "every": 1}):
        with pytest.raises(InputError, match="give"):
            run(solver, solver.start(), **values)


def test_a_run_that_does_not_fit_is_refused_before_it_starts():
    solver, _ = flooded()
    with pytest.raises(InputError, match=r"GiB.*--gsd"):
        solver.start(batch=(10**8,))


def test_water_that_is_not_finite_stops_the_run():
    solver, _ = flooded()
    state = solver.start(level=1.0)
    state.depth[3, 3] = math.nan
    with pytest.raises(GensatError, match="unstable"):
        run(solver, state, seconds=10)


def test_starts_that_make_no_sense_are_refused():
    solver, _ = flooded()
    for values in (
        {"depth": -1.0},
        {"depth": math.nan},
        {"level": math.inf},
        {"depth": 1, "level": 1},
        {"depth": np.ones((3, 3))},
    ):
        with pytest.raises(InputError, match="give"):
            solver.start(**values)


def test_rates_are_read():
    assert parse_rate("80mm/h") == parse_rate(" 80 ") == 80 and math.isclose(parse_rate("2 in/h"), 50.8)


def test_boundaries_are_read(tmp_path):
    (tmp_path / "tide.csv").write_text("hours,level\n0,0.5\n6,1.5\n")
    found = Boundaries.parse(["all=open", "E=2.5", f"s={tmp_path / 'tide.csv'}"])
    assert found.north.kind == found.west.kind == "open" and found.east.level.highest == 2.5
    assert float(found.south.level.at(at(3 * 3600)[0])) == 1.0
