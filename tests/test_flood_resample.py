"""Depths on an image's grid: nearest mask, bilinear inside it, no water across dry cells."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat import Canvas, GeoImage
from gensat.errors import InputError
from gensat.hydro.resample import depth_on

CRS = "EPSG:31985"


def grid(step, left=0.0, top=0.0):
    return Affine(step, 0, 290_000 + left, 0, -step, 9_120_000 + top)


def image(depth, step=4.0, **place):
    return GeoImage(np.asarray(depth, np.float32), ["depth"], CRS, grid(step, **place))


def canvas(height, width, step, **place):
    return Canvas.like(GeoImage(np.zeros((height, width), np.uint8), crs=CRS, transform=grid(step, **place)))


def plain(depth, rows, columns):
    """The rule, one pixel at a time: rows and columns in cells of the depth, centres at +0.5."""
    out = np.full(rows.shape, np.nan)
    height, width = depth.shape
    for i, (r, c) in enumerate(zip(rows.ravel(), columns.ravel(), strict=True)):
        if not (0 <= r < height and 0 <= c < width) or np.isnan(depth[int(r), int(c)]):
            continue
        out.flat[i] = 0
        if depth[int(r), int(c)] <= 0:
            continue
        r0, c0 = int(np.floor(r - 0.5)), int(np.floor(c - 0.5))
        total = weight = 0.0
        for rr, wr in ((r0, 1 - (r - 0.5 - r0)), (r0 + 1, r - 0.5 - r0)):
            for cc, wc in ((c0, 1 - (c - 0.5 - c0)), (c0 + 1, c - 0.5 - c0)):
                if 0 <= rr < height and 0 <= cc < width and depth[rr, cc] > 0:
                    total, weight = total + wr * wc * depth[rr, cc], weight + wr * wc
        out.flat[i] = total / weight
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_is_the_rule(seed):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.1, 3, (7, 9)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.4] = 0
    depth[rng.random(depth.shape) < 0.1] = np.nan
    left, top = rng.uniform(-5, 5, 2)
    to = canvas(31, 37, 0.9, left=left, top=top)
    rows, columns = np.meshgrid(np.arange(31) + 0.5, np.arange(37) + 0.5, indexing="ij")
    rows, columns = (rows * 0.9 - top) / 4, (columns * 0.9 + left) / 4
    if not (np.isfinite(plain(depth, rows, columns))).any():
        return
    laid, wet = depth_on(image(depth), to)
    np.testing.assert_allclose(laid, plain(depth, rows, columns), rtol=2e-5)
    assert np.array_equal(wet, np.nan_to_num(laid) > 0)


def test_a_wall_stays_dry_and_water_beside_it_deep():
    depth = np.full((6, 9), 2.0, np.float32)
    depth[:, 4] = 0
    laid, wet = depth_on(image(depth), canvas(24, 36, 1.0))
    assert not wet[:, 16:20].any() and (laid[:, 16:20] == 0).all()
    assert wet[:, :16].all() and np.allclose(laid[wet], 2.0)  # not shallower towards the wall


def test_the_same_grid_is_the_identity():
    depth = np.random.default_rng(1).uniform(0, 2, (12, 10)).astype(np.float32)
    depth[depth < 0.8] = 0
    depth[0, 0] = np.nan
    laid, _ = depth_on(image(depth, 1.0), canvas(12, 10, 1.0))
    np.testing.assert_array_equal(laid, depth)


def test_without_a_place_sizes_have_to_agree():
    depth = GeoImage(np.ones((4, 5), np.float32))
    laid, wet = depth_on(depth, Canvas.local(5, 4))
    assert laid.shape == (4, 5) and wet.all()
    with pytest.raises(InputError, match="give the same size"):
        depth_on(depth, Canvas.local(6, 4))


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (GeoImage(np.zeros((4, 4, 2), np.float32), crs=CRS, transform=grid(1.0)), "2 bands"),
        (image(-np.ones((4, 4))), "below 0"),
        (GeoImage(np.zeros((4, 4), np.float32)), "has no CRS"),
        (image(np.ones((4, 4)), left=9000.0), "does not overlap the image"),
    ],
)
def test_what_is_wrong_is_said(depth, message):
    with pytest.raises(InputError, match=message):
        depth_on(depth, canvas(8, 8, 1.0))
