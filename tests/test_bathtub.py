"""Bathtub floods: against a plain queue, against another algorithm, and by blocks against the whole."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from gensat.errors import InputError
from gensat.hydro.bathtub import bathtub, edge_of, find_sources, reached, spill_level
from gensat.hydro.blocks import Blocks, reached_by_blocks

STEPS = {4: [(-1, 0), (1, 0), (0, -1), (0, 1)], 8: [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]}


def by_queue(bed, level, sources, neighbours):
    """The definition, cell by cell."""
    height, width = bed.shape
    level = np.broadcast_to(level, bed.shape)
    depth = np.where(np.isnan(bed), np.nan, 0.0)
    queue, seen = deque(zip(*np.nonzero(sources), strict=True)), sources.copy()
    while queue:
        r, c = queue.popleft()
        if bed[r, c] < level[r, c]:
            depth[r, c] = level[r, c] - bed[r, c]
        for i, j in STEPS[neighbours]:
            y, x = r + i, c + j
            if 0 <= y < height and 0 <= x < width and not seen[y, x] and bed[y, x] < level[y, x]:
                seen[y, x] = True
                queue.append((y, x))
    return depth


def terrain(seed, height=40, width=50, holes=True):
    rng = np.random.default_rng(seed)
    bed = gaussian_filter(rng.normal(size=(height, width)), 1.5) * 6 + rng.normal(size=(height, width)) * 0.3
    if holes:
        bed[rng.random(bed.shape) < 0.05] = np.nan
    return bed, rng


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([4, 8]), st.booleans())
def test_it_is_the_definition(seed, neighbours, varies):
    bed, rng = terrain(seed)
    level = rng.uniform(-1, 2) + (np.linspace(-0.5, 0.5, 50)[None] * np.ones((40, 1)) if varies else 0)
    sources = rng.random(bed.shape) < 0.01  # some on nodata, some above the level: water passes them
    made = bathtub(bed, level, sources, neighbours=neighbours)
    np.testing.assert_allclose(made, by_queue(bed, level, sources, neighbours), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([4, 8]))
def test_the_level_that_a_cell_needs_says_every_level(seed, neighbours):
    bed, rng = terrain(seed)
    sources = (rng.random(bed.shape) < 0.05) & ~(bed >= -1)  # nodata, or below every level that is asked for
    spill = spill_level(bed, sources, neighbours=neighbours)
    for level in (-1.0, 0.0, 0.7, 3.0):
        np.testing.assert_array_equal(bathtub(bed, level, sources, neighbours=neighbours) > 0, spill < level)


def test_a_dike_holds_until_the_water_passes_it():
    bed = np.zeros((20, 30))
    bed[:, 12] = 2.0  # the dike; behind it a polder at -1 m
    bed[:, 13:] = -1.0
    bed[7, 12] = 1.5  # its low spot
    sources = np.zeros_like(bed, bool)
    sources[:, 0] = True
    depths = bathtub(bed, np.array([1.0, 1.5, 1.6]), sources)
    assert depths.shape == (3, 20, 30)
    assert (depths[0, :, 13:] == 0).all() and (depths[1, :, 13:] == 0).all()  # at its height, nothing flows over
    np.testing.assert_allclose(depths[2, :, 13:], 2.6, rtol=1e-6)
    assert (spill_level(bed, sources)[:, 13:] == 1.5).all()


def test_only_eight_neighbours_leak_through_a_wall_of_one_cell_aslant():
    bed = np.zeros((12, 12))
    bed[np.arange(12), np.arange(12)] = 5.0
    sources = np.zeros_like(bed, bool)
    sources[11, 0] = True
    above = np.triu(np.ones_like(bed, bool), 1)
    assert (bathtub(bed, 1.0, sources)[above] == 0).all()
    assert (bathtub(bed, 1.0, sources, neighbours=8)[above] == 1).all()
    with pytest.raises(InputError, match="6 neighbours"):
        bathtub(bed, 1.0, sources, neighbours=6)


def test_where_the_water_comes_from():
    bed = np.full((10, 10), 3.0)
    bed[4:6, 4:6] = -2.0
    with pytest.raises(InputError, match="no cell at the edge"):
        find_sources(bed, 1.0)
    found = find_sources(bed, 4.0)
    assert np.array_equal(found.cells, edge_of(np.ones_like(bed, bool))) and "give --from" in found.notes[0]
    bed[:, 0] = 0.0
    found = find_sources(bed, 4.0)
    assert found.cells.sum() == 10 and found.cells[:, 0].all() and not found.notes
    found = find_sources(bed, 1.0, points=[(4, 4)])
    assert found.cells.sum() == 1 and (bathtub(bed, 1.0, found.cells) > 0).sum() == 4
    sea = np.zeros_like(bed, bool)
    sea[:, -1] = True
    bed[:, -1], bed[3, -2] = np.nan, 0.5  # a sea without heights, and one low cell beside it
    found = find_sources(bed, 1.0, sea=sea)
    assert (bathtub(bed, 1.0, found.cells) > 0).sum() == 1 and bathtub(bed, 1.0, found.cells)[3, -2] == 0.5
    for points, message in (
        ([(0, 5)], "3.00 m, not below the level"),
        ([(0, 9)], "outside the DEM"),
        ([(0, 10)], "outside"),
    ):
        with pytest.raises(InputError, match=message):
            find_sources(bed, 1.0, points=points)
    with pytest.raises(InputError, match="no cells on the DEM"):
        find_sources(bed, 1.0, sea=np.zeros_like(sea))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([4, 8]), st.integers(2, 23), st.floats(0.35, 0.65))
def test_blocks_are_the_whole(seed, neighbours, side, share):
    rng = np.random.default_rng(seed)
    open_ = rng.random((37, 52)) < share  # near the percolation threshold, where paths are long and wind
    sources = rng.random(open_.shape) < 0.004
    blocks = Blocks(*open_.shape, side)

    def cells(at):
        window = blocks.window(*at).toslices()
        return open_[window], sources[window]

    counted = []
    found = reached_by_blocks(blocks, cells, neighbours=neighbours, on_block=lambda: counted.append(1))
    whole = reached(open_, sources, neighbours=neighbours)
    assert len(counted) == len(blocks) == len(list(blocks))
    for at in blocks:
        np.testing.assert_array_equal(found.block(at), whole[blocks.window(*at).toslices()])


def test_a_spiral_is_followed_through_all_blocks():
    """One path of thousands of cells that enters every block many times."""
    side = 61
    open_ = np.zeros((side, side), bool)
    r = c = 0
    open_[0, 0] = True
    top, left, bottom, right = 0, 0, side - 1, side - 1
    while bottom - top > 3:
        open_[top, left : right + 1] = open_[top : bottom + 1, right] = open_[bottom, left : right + 1] = True
        open_[top + 2 : bottom + 1, left] = True
        open_[top + 2, left : left + 3] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
        open_[top - 1, left - 1] = False
    sources = np.zeros_like(open_)
    sources[r, c] = True
    blocks = Blocks(side, side, 8)
    found = reached_by_blocks(blocks, lambda at: (open_[(w := blocks.window(*at).toslices())], sources[w]))
    whole = reached(open_, sources)
    assert whole.sum() > 1000
    for at in blocks:
        np.testing.assert_array_equal(found.block(at), whole[blocks.window(*at).toslices()])
