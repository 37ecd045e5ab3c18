"""A box of densities: the fast gathering against looking up every sample, a slab in closed form, heights there and back."""

import math

import pytest
import torch
from solid_toys import village

from gensat.errors import InputError
from gensat.render.density import (
    DensityVolume,
    density_from_heights,
    gather_plain,
    heights_from_density,
    scene_volume,
)
from gensat.render.rays import Rays

BOX = (-10.0, -6.0, 0.0, 10.0, 6.0, 8.0)


def toy(sparse: bool = True) -> DensityVolume:
    draw = torch.Generator().manual_seed(5)
    density = torch.rand(9, 24, 40, generator=draw) * 2
    if sparse:
        density = density * (torch.rand(density.shape, generator=draw) > 0.9)
    density[0] = 60.0
    return DensityVolume(density, BOX, torch.rand(3, 24, 40, generator=draw))


def around(count: int = 300) -> torch.Tensor:
    way = torch.randn(count, 3, generator=torch.Generator().manual_seed(6))
    way[:3] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # along the axes
    return way / way.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("origin", [(0.3, 1.0, 2.0), (-9.9, 5.9, 7.9), (30.0, -2.0, 3.0), (0.0, 0.0, 40.0)])
def test_gathering_equals_looking_up_every_sample(sparse, origin):
    volume, way = toy(sparse), around()
    eye = torch.tensor(origin)
    fast, plain = volume.gather(eye, way, 25.0, 110), gather_plain(volume, eye, way, 25.0, 110)
    for name in ("opacity", "distance", "values"):
        assert torch.allclose(getattr(fast, name), getattr(plain, name), atol=5e-5 * (25 if name == "distance" else 1))


def test_rays_in_any_shape_and_blocks(monkeypatch):
    volume, way = toy(), around(300).reshape(20, 15, 3)
    eye = torch.tensor([1.0, 0.0, 3.0])
    whole = volume.gather(eye, way, 20.0, 50)
    monkeypatch.setattr("gensat.render.density._RAYS", 7)
    parts = volume.gather(eye.expand(way.shape), way, 20.0, 50)
    assert whole.opacity.shape == (20, 15) and whole.values.shape == (20, 15, 3)
    assert torch.allclose(whole.values, parts.values, atol=1e-6)


def test_a_slab_lets_through_what_its_thickness_says():
    volume = DensityVolume(torch.full((8, 8, 8), 0.4), (0.0, 0.0, 0.0, 8.0, 8.0, 8.0), torch.ones(1, 8, 8))
    eye = torch.tensor([4.0, 4.0, 6.0])
    for way, length in (((0.0, 0.0, -1.0), 4.0), ((1.0, 0.0, 0.0), 3.0), ((0.6, 0.0, -0.8), 2.5)):
        found = volume.gather(eye, torch.tensor([way]), length, 400)
        assert float(found.opacity) == pytest.approx(1 - math.exp(-0.4 * length), abs=1e-5)
        assert float(found.values) == pytest.approx(1 - math.exp(-0.4 * length), abs=1e-4)


def test_north_east_and_up_are_where_they_should_be():
    density = torch.zeros(4, 4, 4)
    density[3, 0, 3] = 5.0  # the highest level, the northernmost row, the easternmost column
    volume = DensityVolume(density, (0.0, 0.0, 0.0, 4.0, 4.0, 4.0))
    assert float(volume.sample(torch.tensor([3.5, 3.5, 3.5]))) == pytest.approx(5.0)
    assert float(volume.sample(torch.tensor([3.5, 0.5, 3.5]))) == 0.0
    assert float(volume.sample(torch.tensor([3.5, 3.5, 4.25]))) == pytest.approx(1.25)  # fading outside
    assert volume.gather(torch.zeros(3), around(9), 5.0, 10).values is None


def test_gradients_reach_densities_and_colours():
    draw = torch.Generator().manual_seed(1)
    density = (torch.rand(3, 4, 5, generator=draw, dtype=torch.float64) + 0.1).requires_grad_()
    colours = torch.rand(2, 4, 5, generator=draw, dtype=torch.float64).requires_grad_()
    way = torch.tensor([[0.48, 0.6, 0.64], [-0.6, 0.0, -0.8]], dtype=torch.float64)

    def seen(density, colours):
        volume = DensityVolume(density, (-2.0, -2.0, 0.0, 2.0, 2.0, 3.0), colours)
        found = volume.gather(torch.tensor([0.1, 0.2, 1.4], dtype=torch.float64), way, 3.0, 13)
        return found.opacity, found.distance, found.values

    assert torch.autograd.gradcheck(seen, (density, colours))


@pytest.mark.parametrize("levels", [16, 64])
def test_heights_become_densities_and_come_back(levels):
    heights = torch.rand(30, 20, generator=torch.Generator().manual_seed(2)) * 9 + 0.5
    back = heights_from_density(density_from_heights(heights, levels, 0.0, 10.0), 0.0, 10.0)
    assert float((back - heights).abs().max()) < 10 / levels  # within a level, and on average better:
    assert float((back - heights).abs().mean()) < 0.5 * 10 / levels
    assert torch.equal(heights_from_density(torch.zeros(4, 2, 2), 1.0, 5.0), torch.ones(2, 2))


def test_soft_heights_have_gradients_that_move_the_surface():
    height = torch.full((1, 1), 3.0, requires_grad=True)
    found = heights_from_density(density_from_heights(height, 200, 0.0, 10.0, softness=0.3), 0.0, 10.0)
    found.sum().backward()
    assert float(height.grad) == pytest.approx(1.0, abs=0.1)


def test_the_density_of_a_scene_is_seen_where_the_scene_is():
    scene = village()
    volume = scene_volume(scene, 0.25)
    x, y = scene.grid.centres()
    surface = scene.surface_at(x.float(), y.float())
    back = heights_from_density(volume.density, volume.bounds[2], volume.bounds[5])
    assert float((back - surface).abs().max()) < 0.25
    eye = torch.tensor([*scene.stand((-13.0, -13.0))])
    way = torch.randn(500, 3, generator=torch.Generator().manual_seed(3))
    way = way / way.norm(dim=-1, keepdim=True)
    exact = scene.cast(Rays(eye.expand(way.shape), way))
    found = volume.gather(eye, way, 45.0, 900)
    point = exact.t[:, None] * way + eye
    inside = torch.isfinite(exact.t) & (point[:, :2].abs().amax(-1) < 15) & (exact.t < 40)
    assert int(inside.sum()) > 100
    apart = (found.mean_distance() - exact.t)[inside].abs()
    # a step is 5 cm, a cell 1 m and a level 25 cm: grazing rays meet the steps of the columns early or late
    assert float(apart.median()) < 0.25 and float(apart.quantile(0.9)) < 1.5
    up = way[:, 2] > 0.9
    assert bool(found.sky()[up].all())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: DensityVolume(torch.zeros(2, 2, 2), (0.0, 0.0, 5.0, 1.0, 1.0, 5.0)), "empty"),
        (lambda: DensityVolume(torch.zeros(2, 2, 2), BOX, torch.zeros(3, 2, 3)), "resample"),
        (lambda: density_from_heights(torch.tensor([[float("nan")]]), 4, 0.0, 8.0), "fill"),
        (lambda: density_from_heights(torch.zeros(1, 1), 0, 0.0, 8.0), "1 or more"),
        (lambda: toy().__class__(torch.zeros(2, 2, 2), BOX).sample_colours(torch.zeros(3)), "no colours"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(InputError, match=words):
        call()
