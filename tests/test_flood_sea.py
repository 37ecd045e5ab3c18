"""A sea that is held at its level: still lakes, shores that fill to the bathtub's depths, channels and dam breaks that it feeds."""

import math

import numpy as np
import pytest
import torch
from flood_toys import all_kinds, hills
from scipy.optimize import brentq

from gensat.errors import InputError
from gensat.hydro.boundary import Boundaries, Side
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing, Inflow
from gensat.hydro.held import Held
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.series import Series
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import GRAVITY, run

SOLVERS = pytest.mark.parametrize("solver", [LocalInertial, ShallowWater])


def at(*values):
    return torch.tensor(values, dtype=torch.float64)


def beach(slope=0.1, cells=36, rows=4, dx=10.0):
    """Ground that rises by ``slope`` a cell from 1 m below the sea, and a mask of what is not above 0."""
    bed = np.broadcast_to(slope * np.arange(cells) - 1.0, (rows, cells)).copy()
    return Domain.flat(rows, cells, dx, bed=bed, manning=0.06), bed <= 0


def corner(domain):
    """A quarter of a disc of cells, so that every kind of shore is in it."""
    return domain.disc(0, 0, 0.6 * min(domain.shape) * domain.dx)


@SOLVERS
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_lake_beside_a_sea_of_its_level_stays_at_rest(solver, backend):
    domain = hills(30, 40)
    made = solver(domain, backend=backend)
    start = made.start(level=4.0)
    held = Held.over(domain, corner(domain), 4.0)
    flow = run(made, start.clone(), Forcing(held=held), seconds=20)
    assert torch.allclose(flow.state.depth, start.depth, atol=1e-12, rtol=0) and int(flow.steps) > 10
    assert float(flow.state.x.abs().max()) < 1e-11 and abs(float(flow.balance.held)) < 1e-9


@SOLVERS
@pytest.mark.parametrize("rise", [0.0, 300.0])
def test_a_beach_fills_to_the_depths_of_a_bathtub(solver, rise):
    """The level less the bed, wherever that is above 0; found to 0.4 mm (swe) and 3 mm (inertial) after half an hour."""
    domain, sea = beach()
    made = solver(domain)
    held = Held.over(domain, sea, 2.0, low=0.0 if rise else None, rise=rise)
    flow = run(made, made.start(level=0.0), Forcing(held=held), seconds=1500)
    wanted = torch.from_numpy(np.maximum(2.0 - domain.bed, 0))
    assert torch.allclose(flow.state.depth, wanted, atol=0.01, rtol=0)
    assert torch.equal(flow.state.depth > 0.05, wanted > 0.05)
    assert abs(float(flow.balance.relative)) < 1e-12 and float(flow.balance.held) > 0
    assert torch.equal(flow.state.depth[:, :5], wanted[:, :5])  # held to the bit
    if rise:  # slow enough not to run up the beach
        assert float(flow.peaks.depth.sub(wanted).max()) < 0.15


def gradually(level, end, length, n, *, advection):
    """Discharge of a flat channel from a still sea to a stage: (h^(10/3) - q^2 h^(1/3) / g) dh = -n^2 q^2 dx (Chow 1959, chapter 9)."""
    if not advection:
        return math.sqrt(3 / 13 * (level ** (13 / 3) - end ** (13 / 3)) / (n * n * length))

    def surplus(q):
        first = brentq(lambda h: h + q * q / (2 * GRAVITY * h * h) - level, (q * q / GRAVITY) ** (1 / 3), level)
        inertia = 3 / 4 * q * q / GRAVITY * (first ** (4 / 3) - end ** (4 / 3))
        return 3 / 13 * (first ** (13 / 3) - end ** (13 / 3)) - inertia - n * n * q * q * length

    return brentq(surplus, 5, 12)


@SOLVERS
def test_a_sea_feeds_a_channel_without_losing_head(solver):
    """The friction of a kilometre decides the discharge: 13.03 m2/s without advection, 10.19 with the head of the velocity."""
    cells, dx = 40, 25.0
    domain = Domain.flat(1, cells + 3, dx, manning=0.03)
    sea = np.arange(cells + 3)[None] < 3
    made = solver(domain, Boundaries(east=Side.stage(4.0)))
    flow = run(
        made,
        made.start(level=np.linspace(4.9, 4.0, cells + 3)[None]),
        Forcing(held=Held.over(domain, sea, 5.0)),
        seconds=1500,
    )
    found = float(flow.state.x[0, 20:].mean())
    full = solver is ShallowWater
    wanted = gradually(5.0, 4.0, cells * dx, 0.03, advection=full)
    assert found == pytest.approx(wanted, rel=0.02 if full else 0.01)  # found: 1.4 and 0.8 percent
    if full:
        depth = flow.state.depth[0, 3]
        head = float(depth + (flow.state.x[0, 3] / depth) ** 2 / (2 * GRAVITY))
        assert head == pytest.approx(5.0, abs=0.02)
    assert float(flow.balance.held) == pytest.approx(-float(flow.balance.edges.sum()), rel=0.05)


def test_a_still_sea_breaks_onto_a_dry_bed_with_the_flow_of_a_weir():
    """Critical at the shore with all of its head: h = 2/3 H there, and (3 c - x / t)^2 / (9 g) beyond, c^2 = 2/3 g H."""
    cells, dx, level, time = 100, 10.0, 5.0, 30.0
    domain = Domain.flat(1, cells + 3, dx, manning=0.005)
    made = ShallowWater(domain)
    held = Held.over(domain, np.arange(cells + 3)[None] < 3, level)
    flow = run(made, made.start(), Forcing(held=held), seconds=time)
    c = math.sqrt(2 / 3 * GRAVITY * level)
    x = (np.arange(cells) + 0.5) * dx
    wanted = np.where(x < 3 * c * time, (3 * c - x / time) ** 2 / (9 * GRAVITY), 0)
    found = flow.state.depth[0, 3:].numpy()
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.12)  # found: 10 percent more, whatever the cells
    assert found[4] == pytest.approx(wanted[4], rel=0.1)
    still = (8 / 27) / (2 / 3) ** 1.5  # of Ritter's reservoir, which is not held: its level falls at the dam
    assert found.sum() > 1.5 * still * wanted.sum()


def together(solver, **options):
    """Rough ground with every kind of edge, a sea that rises with a tide, and an inflow."""
    domain = hills(36, 150)
    made = solver(domain, all_kinds(), **options)
    tide = Series(at(0, 20, 60), torch.tensor([[0.0, 0.0], [0.8, 0.8], [-0.5, 0.2]], dtype=torch.float64))
    area = domain.disc(400, 60, 70)
    level = 2.0 + 0.01 * np.arange(150)[None].repeat(36, 0)
    held = Held.over(domain, area, level, low=level - 1.0, rise=30.0, tide=tide)
    forcing = Forcing(None, [Inflow.over(domain, domain.disc(100, 60, 15), 3.0)], held)
    return domain, made, forcing


def one(forcing, scenario):
    """The forcing of a scenario alone."""
    held = forcing.held
    tide = Series(held.tide.times, held.tide.values[:, scenario])
    alone = Held(held.area, held.bed, held.exists, held.low, held.high, held.rise, tide)
    return Forcing(forcing.rain, forcing.inflows, alone)


@SOLVERS
def test_the_fast_kernels_are_the_plain_reference(solver):
    found = []
    for backend in ("numba", "torch"):
        domain, made, forcing = together(solver, backend=backend)
        state = made.start(depth=0.2, batch=(2,))
        forcing.hold(state, domain, GRAVITY)
        for _ in range(20):
            dt = torch.full((2,), 0.15, dtype=torch.float64)
            forcing.apply(state, domain, dt)
            state, _ = made.step(state, dt)
            forcing.hold(state, domain, GRAVITY)
        found.append(state)
    for name in ("depth", "x", "y"):
        assert torch.allclose(getattr(found[0], name), getattr(found[1], name), rtol=1e-10, atol=1e-10), name


@SOLVERS
def test_everything_at_once_keeps_its_balance_and_its_bits(solver, tmp_path):
    """In a batch and alone, interrupted and not."""
    _, made, forcing = together(solver)
    whole = run(made, made.start(batch=(2,)), forcing, seconds=45, every=15)
    assert float(whole.balance.relative.abs().max()) < 1e-12 and float(whole.state.depth.min()) >= 0
    assert whole.balance.describe()["held"] == whole.balance.held.tolist() and float(whole.balance.held.abs().min()) > 0
    for k in (0, 1):
        alone = run(made, made.start(), one(forcing, k), seconds=45, every=15)
        for name in ("depth", "x", "y"):
            assert torch.equal(getattr(alone.state, name), getattr(whole.state, name)[k]), name

    def stop(flow):
        if float(flow.state.time.min()) >= 30:
            raise KeyboardInterrupt

    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(made, made.start(batch=(2,)), forcing, seconds=45, every=15, checkpoint=file, on_output=stop)
    resumed = run(made, made.start(batch=(2,)), forcing, seconds=45, every=15, checkpoint=file)
    for name, tensor in whole.tensors().items():
        assert name == "wall" or torch.equal(tensor, resumed.tensors()[name]), name
    with pytest.raises(InputError, match="other settings"):
        run(made, made.start(batch=(2,)), Forcing(forcing.rain, forcing.inflows), seconds=45, every=15, checkpoint=file)


@SOLVERS
def test_tiles_around_the_sea_are_stepped_though_all_is_dry(solver):
    """With the bits of stepping everything: bookkeeping that begins anew at every step knows no tile that was dry."""
    domain = Domain.flat(40, 300, 5.0, bed=0.01 * np.arange(300)[None], manning=0.03)
    held = Held.over(domain, domain.disc(1400, 100, 30), 4.0)
    made, found = solver(domain), []
    for forget in (False, True):
        state = made.start()
        held.hold(state, GRAVITY)
        for _ in range(25):
            state, _ = made.step(state, torch.tensor(0.3, dtype=torch.float64))
            held.hold(state, GRAVITY)
            state.work = None if forget else state.work
        found.append(state.depth)
    assert torch.equal(*found) and (found[0] > 0).sum() > 1.5 * held.area.sum()


def test_levels_follow_rise_and_tide():
    domain, sea = beach()
    high = np.full(domain.shape, 2.0) + 0.1 * np.arange(domain.shape[0])[:, None]
    held = Held.over(domain, sea, high, low=0.5, rise=100, tide=Series(at(0, 50), at(0.0, 0.4)))
    row = held.cells // domain.shape[1]
    for time, share, tide in ((0, 0, 0), (25, 0.25, 0.2), (100, 1, 0.4), (900, 1, 0.4)):
        wanted = 0.5 + share * (1.5 + 0.1 * row.double()) + tide
        assert torch.allclose(held.level(at(time)[0]), wanted, atol=1e-12)
    assert held.fastest_rise() == pytest.approx((1.5 + 0.1 * (domain.shape[0] - 1)) / 100 + 0.4 / 50)
    several = Held.over(domain, sea, at(1.0, 3.0))
    assert several.level(at(0, 0)).shape == (2, 1)


def test_a_sea_that_is_dry_at_first_does_not_come_in_jumps():
    """All is dry, so no wave limits the time step: the rising level does."""
    domain = Domain.flat(1, 30, 90.0, bed=np.repeat([0.0, 0.2], 15)[None])
    made = LocalInertial(domain)
    held = Held.over(domain, domain.bed <= 0, 2.0, low=0.0, rise=3600)
    flow = run(made, made.start(), Forcing(held=held), seconds=600)
    longest = ((0.5 * 90) ** 2 / (GRAVITY * 2 / 3600)) ** (1 / 3)
    assert int(flow.steps) > 600 / longest and 0.01 < float(flow.state.depth[0, 15]) < 2 / 6 - 0.2


def test_cells_above_the_level_are_left_out_and_nonsense_is_refused():
    domain, _ = beach()
    everywhere = np.ones(domain.shape, bool)
    held = Held.over(domain, everywhere, 2.0)
    assert (held.area == (domain.bed < 2)).all()
    for values, message in (
        ({"level": -3.0}, "higher level"),
        ({"level": math.nan}, "not finite"),
        ({"level": 1.0, "rise": -1}, "give 0 or more"),
        ({"level": torch.zeros(2, 2)}, "does not fit"),
    ):
        with pytest.raises(InputError, match=message):
            Held.over(domain, everywhere, **values)
