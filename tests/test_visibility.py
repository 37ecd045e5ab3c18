"""Shadows and sky shares, against lengths and angles worked out by hand."""

import math

import pytest
import torch

from gensat.errors import InputError
from gensat.geo.sun import SunPosition, sun_position
from gensat.render.grid import Grid
from gensat.render.sky import SUN_RADIUS
from gensat.render.visibility import SkyView, disc_samples, sky_view_factor, sun_visibility
from gensat.types import Place


class Wall:
    """A wall along y at x = 0, of a height in metres and no thickness: what the scene's interface asks for, by hand."""

    def __init__(self, height):
        self.height = height

    def occluded(self, rays, far):
        t = -rays.origins[..., 0] / rays.directions[..., 0]
        z = rays.origins[..., 2] + t * rays.directions[..., 2]
        return (t > 0) & (t < far) & (z < self.height) & (z > 0)


def ground(points):
    flat = torch.stack([points, torch.zeros_like(points), torch.zeros_like(points)], dim=-1)
    return flat, torch.tensor([0.0, 0.0, 1.0]).expand_as(flat)


@pytest.mark.parametrize(("time", "place"), [("2024-06-21T12:00Z", Place(0, 40)), ("2024-06-21T06:30Z", Place(0, 40))])
def test_a_shadow_is_as_long_as_the_sun_is_low(time, place):
    """A 10 m wall that runs north and south throws a shadow of 10 x |sin(azimuth)| / tan(elevation) metres to the west in the morning."""
    pytest.importorskip("pvlib")
    sun = sun_position(place, time)
    length = 10 * abs(math.sin(math.radians(sun.azimuth))) / math.tan(math.radians(sun.elevation))
    x = torch.linspace(-60, 60, 12001)
    lit = sun_visibility(Wall(10.0), *ground(x), sun.direction())
    dark = x[lit == 0]
    assert float(dark.max() - dark.min()) == pytest.approx(length, abs=0.05)
    assert (dark.mean() < 0) == (sun.azimuth < 180)


def test_penumbra_is_as_wide_as_the_disc():
    """Behind a 10 m wall and a sun at 45 degrees the half shadow is about 2 x 0.2666 degrees x slant / sin: 0.186 m."""
    sun = SunPosition(90, 45).direction()
    x = torch.linspace(-11, -9, 4001)
    share = sun_visibility(Wall(10.0), *ground(x), sun, samples=256)
    edge = x[(share > 0) & (share < 1)]
    slant = 10 * math.sqrt(2)
    assert float(edge.max() - edge.min()) == pytest.approx(2 * SUN_RADIUS * slant / math.sin(math.pi / 4), rel=0.1)
    assert float(x[(share - 0.5).abs().argmin()]) == pytest.approx(-10, abs=0.03)


def test_what_faces_away_or_a_sun_that_has_set_is_dark():
    points, up = ground(torch.tensor([5.0]))
    assert sun_visibility(Wall(1.0), points, -up, SunPosition(90, 45).direction()) == 0
    assert sun_visibility(Wall(1.0), points, up, SunPosition(90, -5).direction()) == 0
    wanted = torch.tensor([False])
    assert sun_visibility(Wall(1.0), points, up, SunPosition(90, 45).direction(), wanted=wanted) == 0


def test_disc_samples_lie_on_the_disc():
    direction = SunPosition(200, 3).direction()
    rays = disc_samples(direction, 64)
    assert torch.allclose(rays.norm(dim=-1), torch.ones(64)) and torch.allclose(
        disc_samples(direction, 1)[0], torch.tensor(direction)
    )
    angle = torch.acos((rays.double() @ torch.tensor(direction).double()).clamp(max=1))
    assert angle.max() < SUN_RADIUS * 1.01 and angle.mean() == pytest.approx(SUN_RADIUS * 2 / 3, rel=0.03)
    with pytest.raises(InputError, match="1 or more"):
        disc_samples(direction, 0)


def test_sky_share_of_a_street_between_walls():
    """The closed form for a long street: cos(atan(2 H / W)) in its middle."""
    heights = torch.zeros(401, 101)
    heights[:, :29], heights[:, 72:] = 12.0, 12.0  # 43 cells of 0.5 m
    got = float(sky_view_factor(heights, 0.5, directions=64, reach=150)[200, 50])
    assert got == pytest.approx(math.cos(math.atan(24 / 21.5)), abs=0.03)
    assert sky_view_factor(heights, 1.0)[200, 10] == 1 and sky_view_factor(torch.zeros(8, 8), 0.5).min() == 1


def test_sky_share_grows_with_height_and_away_from_walls():
    heights = torch.zeros(64, 64)
    heights[:, 32:] = 15.0
    view = SkyView(heights, torch.zeros(64, 64), Grid.centred(64, 64, 1.0))
    west = torch.tensor([-1.0, 0.0, 0.0])
    wall = torch.tensor([[-0.1, 0.0, z] for z in (0.5, 6.0, 14.5)])
    shares = view.at(wall, west.expand_as(wall))
    assert shares[0] < shares[1] < shares[2] and 0.4 < shares[0] < 0.75
    ground_points = torch.tensor([[-2.0, 0.0, 0.0], [-20.0, 0.0, 0.0]])
    near, far = view.at(ground_points, torch.tensor([0.0, 0.0, 1.0]).expand(2, 3))
    assert near < far
    exact = sky_view_factor(heights, 1.0, above=torch.full((64, 64), 0.1), directions=12)
    assert float(view.at(torch.tensor([[-19.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))) == pytest.approx(
        float(exact[31, 12]), abs=1e-3
    )
