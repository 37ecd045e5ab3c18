"""The exact height field against a plain ray caster, closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch
from ray_reference import columns_hit, patches_hit

from gensat.errors import InputError
from gensat.render.cameras import Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.rays import SKY, TERRAIN, WALL, Rays

D = torch.float64


def some_rays(count, seed, low=-20.0, high=40.0, spread=30.0, dtype=D):
    """Origins in a box above the ground, directions all around."""
    draw = np.random.default_rng(seed)
    origins = np.column_stack([draw.uniform(-spread, spread, (count, 2)), draw.uniform(low, high, count)])
    directions = draw.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(torch.tensor(origins, dtype=dtype), torch.tensor(directions, dtype=dtype))


def rough(rows, columns, seed, scale=6.0):
    return np.random.default_rng(seed).uniform(0, scale, (rows, columns))


@pytest.mark.parametrize("beyond", ["edge", 1.5, None])
def test_columns_equal_brute_force(beyond):
    heights = rough(11, 14, 1)
    grid = Grid(-13.0, 12.0, 2.0, 11, 14)
    field = HeightField(torch.tensor(heights), grid, "columns", beyond)
    rays = some_rays(800, 2, low=6.1, high=12, spread=14)

    def ring(values):
        if beyond == "edge":
            return np.pad(values, 1, mode="edge")
        return np.pad(values, 1, constant_values=np.nan if beyond is None else beyond)

    expected = [
        columns_hit(heights, grid.left, grid.top, grid.step, ring, o, d)
        for o, d in zip(rays.origins.numpy(), rays.directions.numpy(), strict=True)
    ]
    hits = field.cast(rays)
    assert np.isfinite(expected).mean() > 0.15
    np.testing.assert_allclose(hits.t.numpy(), expected, atol=1e-7, rtol=1e-7)
    on = hits.hit
    at = rays.at(hits.t)[on]
    assert ((hits.normal[on] * rays.directions[on]).sum(-1) < 0).all()
    tops = field.height_at(at[:, 0], at[:, 1])
    flat = hits.kind[on] == TERRAIN
    assert (at[flat, 2] - tops[flat]).abs().max() < 1e-7  # on top
    assert set(hits.kind.unique().tolist()) == {SKY, TERRAIN, WALL}


def test_patches_equal_brute_force():
    heights = rough(6, 7, 3)
    grid = Grid(-13.0, 12.0, 4.0, 6, 7)
    rays = some_rays(250, 4, low=6.5, high=20)
    expected = [
        patches_hit(heights, grid.left, grid.top, grid.step, o, d)
        for o, d in zip(rays.origins.numpy(), rays.directions.numpy(), strict=True)
    ]
    hits = HeightField(torch.tensor(heights), grid).cast(rays)
    near = np.asarray(expected) < 1000  # beyond, the reference fits a quadratic to endless cells
    assert near.mean() > 0.3
    np.testing.assert_allclose(hits.t.numpy()[near], np.asarray(expected)[near], atol=1e-5)
    assert (hits.kind[torch.as_tensor(near)] == TERRAIN).all()


@pytest.mark.parametrize("surface", ["columns", "bilinear"])
def test_float32_agrees_with_float64(surface):
    heights = torch.tensor(rough(200, 200, 5))
    grid = Grid.centred(200, 200, 2.0)
    rays = some_rays(20_000, 6, low=6.5, high=60, spread=150)
    exact = HeightField(heights, grid, surface).cast(rays)
    single = HeightField(heights.float(), grid, surface).cast(rays.to(dtype=torch.float32))
    both = (exact.hit & single.hit).numpy()
    apart = (exact.t - single.t).abs().numpy()[both]
    assert (exact.hit == single.hit).double().mean() > 0.9999
    assert (apart < 0.01).mean() > 0.999  # others pass an edge on the other side


@pytest.mark.parametrize("surface", ["columns", "bilinear"])
def test_the_pyramid_leaves_nothing_out(surface):
    """A needle in a large plain is found by every ray that points at it."""
    heights = torch.zeros(257, 130)
    heights[200, 77] = 30.0
    grid = Grid.centred(257, 130, 1.0)
    x, y = (float(v[200, 77]) for v in grid.centres())
    origins = some_rays(500, 8, low=0.5, high=40, spread=60, dtype=torch.float32).origins
    towards = torch.tensor([x, y, 10.0]) - origins
    rays = Rays(origins, torch.nn.functional.normalize(towards, dim=1))
    t = HeightField(heights, grid, surface).cast(rays).t
    apart = towards.norm(dim=1) - t
    outside = towards[:, :2].norm(dim=1) > 2
    assert (apart[outside] > -1e-3).all() and (apart[outside] < 60).all()


def test_plane_and_horizon_are_exact():
    """On a level plane the distance is height / sine, and the horizon lies in elevation 0, between two rows."""
    field = HeightField(torch.full((5, 5), 3.0), Grid.centred(5, 5, 100.0))
    pano = Panorama(256, 128, np.array([0.0, 0.0, 4.7]))
    hits = field.cast(pano.rays().flat()).reshape(128, 256)
    assert not hits.hit[:64].any() and hits.hit[64:].all()
    elevation = torch.deg2rad((torch.arange(64) + 0.5) / 128 * 180).to(D)
    expected = 1.7 / torch.sin(elevation)
    assert (hits.t[64:] / expected[:, None] - 1).abs().max() < 1e-5
    narrow = Panorama(16, 200, np.array([0.0, 0.0, 4.7]), 0.0, 0.01, -0.01)  # 0.0001 degrees a row
    rows = field.cast(narrow.rays(dtype=D).flat()).hit.reshape(200, 16)
    assert not rows[:100].any() and rows[100:].all()


def test_slope_to_a_centimetre_at_50_metres():
    """A slope of 20 percent to the north, seen from its foot: the surface is a plane, and so is every buffer."""
    grid = Grid.centred(120, 60, 2.0)
    _, y = grid.centres()
    field = HeightField((0.2 * y).float(), grid)
    camera = Camera.looking(SceneFrame(None), (0.0, -60.0, -12 + 1.7), pitch=5, fov=60, width=80, height=60)
    rays = camera.rays().flat()
    hits = field.cast(rays)
    o, d = rays.origins.double(), rays.directions.double()
    expected = (0.2 * o[:, 1] - o[:, 2]) / (d[:, 2] - 0.2 * d[:, 1])
    inner = (expected > 0) & (o + expected[:, None] * d)[:, :2].abs().le(59).all(dim=1)  # where no edge is flat
    assert inner.sum() > 1000 and expected[inner].max() > 50
    assert (hits.t[inner] - expected[inner]).abs().max() < 0.01
    normal = torch.tensor([0.0, -0.2, 1.0]) / math.hypot(0.2, 1)
    assert (hits.normal[inner] - normal).abs().max() < 1e-4


@pytest.mark.parametrize("surface", ["columns", "bilinear"])
def test_the_gradient_of_distance_is_that_of_finite_differences(surface):
    grid = Grid(-8.0, 8.0, 2.0, 8, 8)
    heights = torch.tensor(rough(8, 8, 9, 2.0), requires_grad=True)
    rays = some_rays(60, 10, low=5, high=9, spread=6)
    rays = Rays(rays.origins, rays.directions * torch.tensor([1.0, 1.0, -1.0]) * rays.directions[:, 2:].sign())
    down = Rays(rays.origins, torch.nn.functional.normalize(rays.directions + torch.tensor([0, 0, -1.0]), dim=1))
    weights = torch.tensor(np.random.default_rng(0).normal(size=60))

    def total(h):
        return (HeightField(h, grid, surface).cast(down).t * weights).sum()

    total(heights).backward()
    step = 1e-6
    numeric = torch.zeros_like(heights)
    for i in range(64):
        bump = torch.zeros(64, dtype=D)
        bump[i] = step
        ahead, behind = (total(heights.detach() + s * bump.reshape(8, 8)) for s in (1, -1))
        numeric.view(-1)[i] = (ahead - behind) / (2 * step)
    assert numeric.abs().max() > 0.1
    torch.testing.assert_close(heights.grad, numeric, atol=1e-5, rtol=1e-4)


def test_the_gradient_reaches_the_rays():
    field = HeightField(torch.tensor(rough(8, 8, 11)), Grid.centred(8, 8, 2.0))
    origin = torch.tensor([[0.3, 0.7, 12.0]], dtype=D, requires_grad=True)
    direction = torch.nn.functional.normalize(torch.tensor([[0.2, 0.1, -1.0]], dtype=D), dim=1)
    assert torch.autograd.gradcheck(lambda o: field.cast(Rays(o, direction)).t, (origin,), atol=1e-5)


def test_heights_changed_in_place_are_seen():
    heights = torch.zeros(4, 4)
    field = HeightField(heights, Grid.centred(4, 4, 1.0), "columns")
    down = Rays(torch.tensor([[0.2, 0.2, 9.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    assert field.cast(down).t.item() == 9
    heights += 4
    assert field.cast(down).t.item() == 5


def test_holes_are_not_hit():
    heights = torch.zeros(5, 5)
    heights[2, 2] = torch.nan
    down = Rays(torch.tensor([[0.0, 0, 9], [1.0, 0, 9]]), torch.tensor([[0.0, 0, -1]] * 2))
    hits = HeightField(heights, Grid.centred(5, 5, 1.0), "columns").cast(down)
    assert hits.kind.tolist() == [SKY, TERRAIN]
    assert torch.isnan(HeightField(heights, Grid.centred(5, 5, 1.0)).height_at(torch.zeros(1), torch.zeros(1))).all()


@pytest.mark.parametrize("surface", ["columns", "bilinear"])
def test_height_at_is_where_a_plumb_line_hits(surface):
    grid = Grid(-7.0, 9.0, 2.0, 9, 7)
    field = HeightField(torch.tensor(rough(9, 7, 12)), grid, surface, beyond=2.0)
    x, y = torch.tensor(np.random.default_rng(1).uniform(-12, 12, (2, 400)))
    down = Rays(
        torch.stack([x, y, torch.full_like(x, 50)], dim=1), torch.tensor([[0.0, 0, -1]], dtype=D).expand(400, 3)
    )
    torch.testing.assert_close(50 - field.cast(down).t, field.height_at(x, y), atol=1e-9, rtol=0)


def test_the_order_and_company_of_rays_change_nothing():
    field = HeightField(torch.tensor(rough(50, 50, 13)).float(), Grid.centred(50, 50, 2.0))
    rays = some_rays(5000, 14, low=6, high=30, dtype=torch.float32)
    whole = field.cast(rays)
    turned = torch.randperm(5000, generator=torch.Generator().manual_seed(0))[:700]
    part = field.cast(Rays(rays.origins[turned], rays.directions[turned]))
    assert torch.equal(whole.t[turned], part.t) and torch.equal(whole.normal[turned], part.normal)


def test_bad_heights():
    with pytest.raises(InputError, match="are not 3 x 4"):
        HeightField(torch.zeros(4, 3), Grid.centred(3, 4, 1.0))
    with pytest.raises(InputError, match="empty"):
        Grid.centred(0, 4, 1.0)
