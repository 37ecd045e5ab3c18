"""The window lattice is fixed to the grid, its weights sum to one, and the halo is exactly as far as errors travel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat.diffusion.windows import Blend, Window, WindowPlan, bounding, taper
from gensat.errors import InputError

PLANS = st.integers(1, 9).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))
CELLS = st.integers(-200, 200)
SIDES = st.integers(1, 14)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, row=CELLS, col=CELLS, height=SIDES, width=SIDES)
def test_windows_lie_on_the_lattice_and_cover_the_canvas(plan, row, col, height, width):
    size, stride = plan
    windows = WindowPlan(size, stride, whole=0).windows(height, width, (row, col))
    covered = torch.zeros(height, width, dtype=torch.int)
    for window in windows:
        assert (window.row + row) % stride == 0 and (window.col + col) % stride == 0
        part = window.clipped(Window(0, 0, height, width))
        assert part.height and part.width, "a window that no cell of the canvas needs"
        rows, cols = part.within(Window(0, 0, height, width))
        covered[rows, cols] += 1
    assert (covered >= 1).all() and len(set(windows)) == len(windows)
    if size % stride == 0:
        assert (covered == (size // stride) ** 2).all()


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, row=CELLS, col=CELLS, shift=st.tuples(st.integers(-20, 20), st.integers(-20, 20)), side=SIDES)
def test_lattice_does_not_move_with_the_request(plan, row, col, shift, side):
    lattice = WindowPlan(*plan, whole=0)

    def over(cell, top, left):  # the windows over a cell of the grid, in grid coordinates and in their order
        windows = lattice.windows(side, side, (top, left))
        moved = [(w.row + top, w.col + left) for w in windows]
        return [m for m in moved if all(m[i] <= cell[i] < m[i] + lattice.size for i in (0, 1))]

    top, left = row + shift[0], col + shift[1]
    shared = (max(row, top), max(col, left))
    if all(s < o + side for s, o in zip(shared * 2, (row, col, top, left), strict=True)):
        assert over(shared, row, col) == over(shared, top, left)


def test_small_canvas_is_one_window():
    plan = WindowPlan(8, 4, whole=16)
    assert plan.windows(16, 10, (3, 5)) == [Window(0, 0, 16, 10)]
    assert len(plan.windows(16, 17, (3, 5))) > 1


@settings(max_examples=50, deadline=None)
@given(half=st.integers(1, 16), row=CELLS, col=CELLS, height=SIDES, width=SIDES)
def test_weights_sum_to_one_at_half_overlap(half, row, col, height, width):
    plan = WindowPlan(2 * half, half, whole=0)
    area = plan.area(height, width, (row, col))
    total = torch.zeros(area.height, area.width)
    for window in plan.windows(height, width, (row, col)):
        rows, cols = window.within(area)
        weight = taper(window.height, window.width)[0, 0]
        assert (weight > 0).all()
        total[rows, cols] += weight
    rows, cols = Window(0, 0, height, width).within(area)
    torch.testing.assert_close(total[rows, cols], torch.ones(height, width), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (8, 3), (5, 5)])
def test_blend_gives_back_what_all_windows_agree_on(size, stride):
    plan = WindowPlan(size, stride, whole=0)
    area = plan.area(13, 11, (2, 7))
    truth = torch.randn(2, 3, area.height, area.width)
    blend = Blend(area)
    for window in plan.windows(13, 11, (2, 7)):
        blend.add(window, truth[(..., *window.within(area))])
    torch.testing.assert_close(blend.result(), truth)


def test_blend_of_a_single_window_is_its_prediction_bit_for_bit():
    blend, value = Blend(Window(0, 0, 7, 9)), torch.randn(1, 4, 7, 9)
    blend.add(Window(0, 0, 7, 9), value)
    assert torch.equal(blend.result(), value)


def wrong_cells(size, stride, length, evaluations):
    """How far NaN from outside comes into a row of cells whose denoiser looks at its whole window, at any place on the lattice."""
    plan, reached = WindowPlan(size, stride, whole=0), 0
    for origin in range(stride):
        windows = [Window(0, w.col, 1, w.width) for w in plan.windows(1, length, (0, origin)) if w.row == 0]
        area = bounding(windows)
        canvas = Window(0, 0, 1, length).within(area)
        x = torch.full((1, 1, 1, area.width), torch.nan)
        x[(..., *canvas)] = 0.0
        for _ in range(evaluations):
            blend = Blend(area)
            for window in windows:
                blend.add(window, x[(..., *window.within(area))].mean().expand(1, 1, 1, size))
            x = blend.result()
        wrong = x[(..., *canvas)].flatten().isnan()
        left, right = int(wrong[: length // 2].sum()), int(wrong[length // 2 :].sum())
        assert wrong[:left].all() and wrong[length - right :].all()
        reached = max(reached, left, right)
    return reached


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (8, 3), (6, 6), (4, 1), (7, 2)])
@pytest.mark.parametrize("evaluations", [1, 2, 5])
def test_halo_is_as_far_as_the_edge_is_felt_and_no_further(size, stride, evaluations):
    assert wrong_cells(size, stride, 100, evaluations) == WindowPlan(size, stride).halo(evaluations)


def test_halo_of_nothing_is_nothing():
    assert WindowPlan(8, 4).halo(0) == 0


def test_circle_of_windows_covers_every_column_alike():
    plan, area = WindowPlan(8, 4, whole=64), Window(0, 0, 8, 24)
    for origin in (0, 3, -9):
        windows = plan.windows(8, 24, (0, origin), wrap=True)
        assert plan.area(8, 24, (0, origin), wrap=True).width == 24
        assert all((w.col + origin) % 4 == 0 for w in windows)
        covered = torch.zeros(24)
        for window in windows:
            covered[window.within(area, wrap=True)[1]] += 1
        assert len(set(covered.tolist())) == 1


def test_blend_goes_round_a_circle():
    plan = WindowPlan(8, 4)
    area = plan.area(8, 24, (0, 2), wrap=True)
    truth = torch.randn(1, 2, area.height, 24)
    blend = Blend(area, wrap=True)
    for window in plan.windows(8, 24, (0, 2), wrap=True):
        blend.add(window, truth[(..., *window.within(area, wrap=True))])
    torch.testing.assert_close(blend.result(), truth)


@pytest.mark.parametrize("width", [4, 26])
def test_circle_that_does_not_close_is_refused(width):
    with pytest.raises(InputError, match="use a multiple of 4 from 8 on"):
        WindowPlan(8, 4).windows(8, width, wrap=True)


@pytest.mark.parametrize("stride", [0, 9, -1])
def test_stride_that_leaves_gaps_is_refused(stride):
    with pytest.raises(InputError, match="stride"):
        WindowPlan(8, stride)


def test_window_algebra():
    window = Window(2, -3, 4, 5)
    assert window.scaled(8) == Window(16, -24, 32, 40)
    assert window.grown(2) == Window(0, -5, 8, 9)
    assert window.clipped(Window(0, 0, 4, 10)) == Window(2, 0, 2, 2)
    assert window.clipped(Window(9, 9, 1, 1)).height == 0
    assert bounding([window, Window(0, 0, 1, 9)]) == Window(0, -3, 6, 12)
