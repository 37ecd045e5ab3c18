"""HAND: against a plain priority-flood and D8, against pysheds' where there are no flats, and rating curves by hand."""

import heapq
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.hand import Drainage, discharge_depth, reaches_along, stage_depth

pytest.importorskip("pyflwdir")
STEPS = {1: (0, 1), 2: (1, 1), 4: (1, 0), 8: (1, -1), 16: (0, -1), 32: (-1, -1), 64: (-1, 0), 128: (-1, 1)}


def terrain(seed, height=28, width=33, sigma=2.0, holes=True):
    rng = np.random.default_rng(seed)
    bed = gaussian_filter(rng.normal(size=(height, width)), sigma) * 20 + np.linspace(0, 10, width)[None]
    bed = bed.astype(np.float32).astype(np.float64)
    exists = np.ones(bed.shape, bool)
    if holes:
        exists[:5, :7] = False
    return replace(Domain.flat(height, width, 10.0, bed=bed), exists=exists)


def fill_plainly(domain):
    """The lowest level to which water stands in each cell before it runs off the edge (priority-flood, Barnes et al. 2014)."""
    bed, exists = domain.bed, domain.exists
    height, width = bed.shape
    filled, heap = np.full(bed.shape, np.nan), []
    for r in range(height):
        for c in range(width):
            around = [(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            if exists[r, c] and any(not (0 <= y < height and 0 <= x < width and exists[y, x]) for y, x in around):
                filled[r, c] = bed[r, c]
                heapq.heappush(heap, (bed[r, c], r, c))
    while heap:
        z, r, c = heapq.heappop(heap)
        for i, j in STEPS.values():
            y, x = r + i, c + j
            if 0 <= y < height and 0 <= x < width and exists[y, x] and np.isnan(filled[y, x]):
                filled[y, x] = max(z, bed[y, x])
                heapq.heappush(heap, (filled[y, x], y, x))
    return filled


def drain_plainly(domain, down, channel):
    """Area and HAND by walking down from every cell."""
    filled = fill_plainly(domain)
    cells = np.zeros(domain.shape)
    hand = np.full(domain.shape, np.nan)
    for r, c in zip(*np.nonzero(domain.exists), strict=True):
        y, x, steps = r, c, 0
        while True:
            cells[y, x] += 1
            if channel[y, x] and np.isnan(hand[r, c]):
                hand[r, c] = filled[r, c] - filled[y, x]
            after = divmod(int(down[y * domain.shape[1] + x]), domain.shape[1])
            if after == (y, x):
                break
            y, x = after
            steps += 1
            assert steps < domain.bed.size, "water runs in a circle"
    return cells, hand


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.7, 2.0]))
def test_it_is_the_definition(seed, sigma):
    domain = terrain(seed, sigma=sigma)
    drainage = Drainage.of(domain)
    filled = fill_plainly(domain)
    np.testing.assert_array_equal(drainage.filled, filled)
    width = domain.shape[1]
    for r, c in zip(*np.nonzero(domain.exists), strict=True):  # the steepest way down, where there is one
        y, x = divmod(int(drainage.downstream[r * width + c]), width)
        lower = [
            (filled[r, c] - filled[r + i, c + j]) / np.hypot(i, j)
            for i, j in STEPS.values()
            if 0 <= r + i < domain.shape[0] and 0 <= c + j < width and domain.exists[r + i, c + j]
        ]
        if max(lower) > 0:
            assert (filled[r, c] - filled[y, x]) / np.hypot(y - r, x - c) == max(lower)
        else:
            assert filled[y, x] == filled[r, c]
    channel = drainage.channels(0.004)
    cells, hand = drain_plainly(domain, drainage.downstream, channel)
    np.testing.assert_array_equal(np.nan_to_num(drainage.area / 100), cells)
    np.testing.assert_allclose(drainage.hand(channel), hand, atol=1e-9)
    known = np.isfinite(hand)
    assert (hand[known] >= 0).all() and (hand[channel] == 0).all() and known.any()


def test_it_agrees_with_pysheds_where_nothing_is_flat(monkeypatch):
    """Another program, whose own directions and areas are taken to the same HAND (tilted ground without depressions)."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # pysheds 0.5 still asks numpy for it
    pysheds = pytest.importorskip("pysheds.grid")
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:60, :50]
    bed = (
        0.5 * columns
        + 6 * np.abs(rows - 30 - 6 * np.sin(columns / 9)) / 10
        + gaussian_filter(rng.normal(size=(60, 50)), 3)
    )
    domain = Domain.flat(60, 50, 10.0, bed=bed.astype(np.float32))
    drainage = Drainage.of(domain)
    lifted = drainage.filled != domain.bed
    from pysheds.sview import Raster, ViewFinder

    view = ViewFinder(shape=bed.shape, nodata=np.float64(-9999))
    grid = pysheds.Grid(viewfinder=view)
    dem = Raster(drainage.filled.copy(), viewfinder=view)
    directions = grid.flowdir(dem)
    area = np.asarray(grid.accumulation(directions))
    channel = drainage.channels(0.02)
    theirs = np.asarray(
        grid.compute_hand(directions, dem, Raster(channel, viewfinder=ViewFinder(shape=bed.shape, nodata=False)))
    )
    ours = drainage.hand(channel)
    inner = np.zeros_like(channel)
    inner[2:-2, 2:-2] = True  # the two let water leave differently at the edge
    both = inner & np.isfinite(ours) & np.isfinite(theirs) & (theirs >= 0)
    assert lifted.mean() < 0.02 and both.sum() > 0.6 * inner.sum()
    close = np.abs(ours - theirs)[both] < 1e-4
    assert close.mean() > 0.97, close.mean()
    assert np.corrcoef(np.log(area[inner]), np.log(drainage.area[inner]))[0, 1] > 0.97


def test_stages_cover_what_is_lower():
    domain = terrain(1, holes=False)
    drainage = Drainage.of(domain)
    hand = drainage.hand(drainage.channels(0.004))
    low, high = stage_depth(hand, 0.5), stage_depth(hand, 1.5)
    np.testing.assert_allclose((high - low)[low > 0], 1.0, atol=1e-6)
    assert ((high > 0) == (hand < 1.5)).all() and (low[np.isnan(hand)] == 0).all()
    halves = np.concatenate([stage_depth(hand[:13], 0.5), stage_depth(hand[13:], 0.5)])
    np.testing.assert_array_equal(halves, low)


def canyon(slope=0.002, length=200, n=0.03):
    """A shallow V of 5 cells between walls of 50 m that falls eastward."""
    bed = np.full((9, length), 100.0)
    bed[2:-2] = 50 - slope * 10 * np.arange(length)[None] + 0.1 * np.abs(np.arange(-2, 3))[:, None]
    return Domain.flat(*bed.shape, 10.0, bed=bed, manning=n)


def test_a_rating_curve_is_manning_in_a_canyon():
    """By hand: Q = A (A / P)^(2/3) S^(1/2) / n of the cross-section."""
    domain = canyon()
    drainage = Drainage.of(domain)
    cells = drainage.path(4, 0)
    assert len(cells) == 200
    reaches, drains_to = reaches_along(drainage, cells, longest=500)
    assert len(reaches) == 4 and np.nanmax(drains_to) == 3
    middle = reaches[1]
    assert middle.length == pytest.approx(500) and middle.slope == pytest.approx(0.002, rel=1e-3)
    offsets = np.array([0.2, 0.1, 0.0, 0.1, 0.2])
    for depth in (0.15, 0.5, 2.0, 6.0):
        wet = offsets < depth
        area = 10 * (depth - offsets[wet]).sum()
        edge = 10 * wet.sum() * np.sqrt(1 + 0.01**2)
        expected = area * (area / edge) ** (2 / 3) * np.sqrt(0.002) / 0.03
        assert np.interp(depth, middle.stages, middle.discharges) == pytest.approx(expected, rel=0.01)
    # on a plane, rows drain side by side and the curve is Manning's for one row of cells
    plane = Drainage.of(Domain.flat(5, 200, 10.0, bed=50 - 0.02 * np.arange(200)[None], manning=0.03))
    straight, _ = reaches_along(plane, plane.path(2, 0), longest=500)
    for depth in (0.5, 2.0, 6.0):
        expected = 10 * depth ** (5 / 3) * np.sqrt(0.002) / 0.03
        assert np.interp(depth, straight[1].stages, straight[1].discharges) == pytest.approx(expected, rel=0.01)
        assert straight[1].stage(expected) == pytest.approx(depth, rel=0.01)


def test_a_discharge_becomes_depths():
    domain = canyon()
    drainage = Drainage.of(domain)
    depth, said = discharge_depth(drainage, [(4, 0, 60.0)], longest=500)
    more, _ = discharge_depth(drainage, [(4, 0, 200.0)], longest=500)
    assert len(said) == 4 and said[1]["discharge_m3_s"] == 60
    assert (depth[[0, 1, -1, -2]] == 0).all() and (depth[2:-2, 1:-1] > 0).all() and (more >= depth).all()
    with pytest.raises(InputError, match="give a smaller one"):
        discharge_depth(drainage, [(4, 0, 1e9)])


def test_what_is_wrong_is_said():
    drainage = Drainage.of(terrain(2))
    with pytest.raises(InputError, match="at most"):
        drainage.channels(50)
    with pytest.raises(InputError, match="above 0"):
        drainage.channels(0)


@pytest.mark.parametrize("inflow", [False, True])
def test_what_does_not_fit_into_memory_is_refused_before_it_starts(monkeypatch, inflow):
    import psutil

    from gensat.hydro.scenario import Scenario
    from gensat.hydro.simulate import simulate

    domain = Domain.flat(50, 40, 30.0, bed=np.arange(40)[None])
    free = 50 * 40 * (120 if inflow else 50)  # enough for a stage, not for rating curves
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr("pyflwdir.dem.fill_depressions", lambda *_, **__: pytest.fail("it was begun"))
    water = {"inflows": [(-34.9, -8.0, 5.0)]} if inflow else {"level": 2.0}
    with pytest.raises(InputError, match=r"40 x 50 cells need .* give --gsd 3[0-9] or more or a smaller DEM"):
        simulate(domain, Scenario(method="hand", **water))
    if not inflow:
        with pytest.raises(InputError, match="GB are free"):
            Drainage.of(domain)
