"""Real scenes dressed as streets: walls are invented and say so, what the image shows keeps its colour."""

import numpy as np
import pytest
import shapely
import torch

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD
from gensat.render.cameras import Camera, OrthographicCamera
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.light import SkyLight
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import ROOF, TERRAIN, WALL
from gensat.render.request import open_light
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.streets.dress import DressedLight

SUN = SkyLight(Sky((0.2, -0.5, 0.8)))


@pytest.fixture(scope="module")
def scene():
    """Level ground of 60 m, west red and east blue, with a block of 9 m north of a road; the block is 20 m long."""
    grid = Grid.centred(60, 60, 1.0)
    image = torch.zeros(60, 60, 3)
    image[:, :30], image[:, 30:] = torch.tensor([0.5, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.5])
    classes = torch.ones(60, 60, dtype=torch.int64)
    classes[30:36], classes[12:20, 20:40] = ROAD, BUILDING
    block = Prisms.of([shapely.box(-10, 10, 10, 18)], [9.0], [0.0])
    ground = HeightField(torch.zeros(60, 60), grid)
    return Scene(SceneFrame(None), image, ground, block, Objects.none(), classes, grid)


def look(scene, **options):
    camera = Camera.looking(scene.frame, (0.0, -8.0, 1.7), width=96, height=72, fov=80)
    return render(scene, camera, light=DressedLight(scene, SUN, **options))


def test_walls_have_windows_and_stay_marked_as_invented(scene):
    view = look(scene, seed=3)
    wall = view.kind == WALL
    assert wall.any() and not view.seen[wall].any() and view.seen[(view.kind == TERRAIN) & (view.distance < 20)].all()
    shades = view.rgb[wall].mean(dim=1)
    assert shades.std() > 0.04  # glass is darker than what is around it
    plain = render(scene, view.camera)
    torch.testing.assert_close(view.distance, plain.distance)  # geometry decides, looks do not


def test_the_same_seed_is_the_same_street_and_another_is_not(scene):
    first, again, other = (look(scene, seed=seed).rgb for seed in (3, 3, 4))
    assert torch.equal(first, again) and (first - other).abs().mean() > 0.005


def test_styles_differ_and_an_unknown_one_is_refused(scene):
    assert (look(scene, style="terraces").rgb - look(scene, style="downtown").rgb).abs().mean() > 0.005
    with pytest.raises(InputError, match=r"no style 'gothic' of facades; choose one of perimeter"):
        DressedLight(scene, SUN, style="gothic")


def test_ground_and_roofs_keep_the_colours_of_the_image(scene):
    camera = OrthographicCamera.above((0.0, 0.0, 100.0), 60, 60, 1.0)
    view = render(scene, camera, light=DressedLight(scene, SUN))
    red, blue = view.rgb[45:, :25].mean(dim=(0, 1)), view.rgb[45:, 35:].mean(dim=(0, 1))
    assert red[0] > 1.5 * red[2] and blue[2] > 1.5 * blue[0]
    roof = view.kind == ROOF
    left = torch.arange(60)[None].expand(60, 60) < 30
    assert view.rgb[roof & left].mean(dim=0)[0] > view.rgb[roof & ~left].mean(dim=0)[0] + 0.1


def test_from_what_a_person_types(scene):
    light = open_light(scene, facades="village", seed=1)
    assert isinstance(light, DressedLight) and light.light.sun_direction[2] == pytest.approx(np.sin(np.radians(42)))
    bare = Scene(scene.frame, scene.image, scene.terrain, Prisms.none(), Objects.none(), scene.classes, scene.grid)
    with pytest.raises(InputError, match="facades are for footprints"):
        open_light(bare, facades="village")


def test_crowns_are_as_bright_as_the_image_has_them():
    """The gaps between drawn leaves darken a crown; its albedo makes up for that on average."""
    from gensat.render.streets.dress import _LEAVES
    from gensat.render.streets.look import StreetLight

    draw = torch.Generator().manual_seed(0)
    points = torch.rand(20_000, 3, generator=draw) * torch.tensor([40.0, 40.0, 10.0])
    unit = torch.nn.functional.normalize(torch.randn(20_000, 3, generator=draw), dim=1)
    seed = torch.randint(0, 999, (20_000,), generator=draw)
    colour = torch.full((20_000, 3), 0.1)
    drawn = StreetLight._leaves(None, points, colour, torch.full((20_000,), 0.05), seed, unit, torch.zeros_like(seed))
    assert float(drawn.mean()) == pytest.approx(0.1 * _LEAVES, rel=0.05)
