"""Real scenes dressed as streets: walls are invented and say so, what the image shows keeps its colour."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD
from gensat.geo.crs import from_lonlat
from gensat.render.cameras import Camera, OrthographicCamera
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render, surfels_of
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.light import SkyLight, untone
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, ROOF, SKY, TERRAIN, WALL, Hits, Rays
from gensat.render.request import open_light
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.streets.dress import DressedLight, ImageGround, style_of
from gensat.render.streets.facade_styles import COLUMNS, USES

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
    view = look(scene, style="perimeter", seed=3)
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


def town(boxes, tops, frame=None):
    """Prisms on level ground of 200 m."""
    grid = Grid.centred(100, 100, 2.0)
    flat = HeightField(torch.zeros(100, 100), grid)
    blocks = Prisms.of([shapely.box(*box) for box in boxes], tops, [0.0] * len(boxes))
    size = torch.zeros(100, 100, dtype=torch.int64)
    return Scene(frame or SceneFrame(None), torch.zeros(100, 100, 3), flat, blocks, Objects.none(), size, grid)


@pytest.mark.parametrize(
    ("side", "apart", "top", "lon", "style"),
    [
        (12, 8, 6.0, 16.9, "village"), (12, 8, 6.0, -77.0, "suburb"), (12, 0.2, 8.0, -77.0, "terraces"), (20, 5, 6.0, 2.0, "strip"),
        (40, 5, 8.0, 2.0, "industrial"), (15, 3, 14.0, 2.0, "perimeter"), (15, 3, 40.0, 2.0, "downtown"),
    ],
)  # fmt: skip
def test_the_style_follows_from_the_size_of_footprints(side, apart, top, lon, style):
    step = side + apart
    boxes = [
        (k * step - 90, j * step - 90, k * step - 90 + side, j * step - 90 + side) for k in range(4) for j in range(3)
    ]
    zone = CRS.from_epsg(32601 + int((lon + 180) // 6))
    x, y = from_lonlat(zone, lon, 45.0)
    scene = town(boxes, [top] * len(boxes), SceneFrame(zone, (float(x), float(y), 0.0)))
    assert style_of(scene) == style == DressedLight(scene, SUN).style
    with pytest.raises(InputError, match="for footprints"):
        style_of(replace(scene, buildings=Prisms.none()))


def test_shops_stand_only_where_streets_have_them(scene):
    shop = USES.index("shops")
    for style, some in (("suburb", False), ("terraces", False), ("village", False), ("perimeter", True)):
        boxes = [(-90 + 25 * i, -90 + 25 * j, -70 + 25 * i, -70 + 25 * j) for i in range(7) for j in range(7)]
        walls = DressedLight(town(boxes, [11.0] * 49), SUN, style=style).walls
        assert bool((walls.building[:, COLUMNS.index("use")] == shop).any()) == some


def test_ground_texture_keeps_the_mean_of_the_image_and_shows_nothing_twice():
    """A square metre has the colour of the pixel on average, and no two tiles of the photographed texture are alike."""
    bare = town([], [])
    for colour in ((0.30, 0.42, 0.22), (0.55, 0.47, 0.36), (0.4, 0.4, 0.4)):  # grass, gravel, paving
        bare = replace(bare, image=torch.tensor(colour).expand(100, 100, 3).contiguous())
        ground = ImageGround(bare)
        x, y = (
            v.reshape(-1) for v in torch.meshgrid(torch.arange(0, 8, 0.02), torch.arange(0, 8, 0.02), indexing="ij")
        )
        fine = ground.albedo(x, y, torch.full_like(x, 0.005))
        expected = untone(torch.tensor(colour)) * ground.gain
        torch.testing.assert_close(fine.mean(dim=0), expected, rtol=0.12, atol=0)
        assert 0.08 < fine[:, 1].std() / fine[:, 1].mean() < 0.7
        assert fine[:, 1].max() < 3 * fine[:, 1].mean()  # no bright specks
        far = ground.albedo(x, y, torch.full_like(x, 8.0))
        assert far[:, 1].std() < 0.6 * fine[:, 1].std()
        again = ground.albedo(x + 1.6, y, torch.full_like(x, 0.005))
        assert np.corrcoef(fine[:, 1], again[:, 1])[0, 1] < 0.5


def test_nothing_is_shaded_off_the_device_of_the_rays(scene):
    """Tensors that forget their device land on another one under a default device of meta, and cannot be mixed with those that do not."""
    camera = Camera.looking(scene.frame, (0.0, -8.0, 1.7), width=48, height=36, fov=80)
    trees = Objects.ellipsoids(
        torch.tensor([[-8.0, 2.0, 3.0]]), torch.tensor([[2.0, 2.0, 2.0]]), colour=(0.2, 0.3, 0.1), label=0
    )
    wooded = replace(scene, objects=trees)
    light = DressedLight(wooded, SUN, seed=3)
    expected = render(wooded, camera, light=light).rgb
    rays = camera.rays()
    hits = wooded.cast(rays)
    flat, every = rays.flat(), hits.reshape(-1)
    on = torch.nonzero(every.kind != SKY)[:, 0]
    found = Hits(*(getattr(every, name)[on] for name in Hits.__dataclass_fields__))
    surfels = surfels_of(wooded, camera, Rays(flat.origins[on], flat.directions[on]), found)
    assert {TERRAIN, WALL, OBJECT} <= set(surfels.kind.tolist())
    with torch.device("meta"):
        look = light.look(wooded, surfels)
        bumped = light._bumped(surfels, torch.nonzero(surfels.kind == OBJECT)[:, 0])
    assert all(value.device.type == "cpu" for value in (look.albedo, look.gloss, look.glow, bumped))
    torch.testing.assert_close(light.surface(wooded, surfels, surfels.rgb), expected.reshape(-1, 3)[on])


def test_double_precision_shows_the_same(scene):
    camera = Camera.looking(scene.frame, (0.0, -8.0, 1.7), width=64, height=48, fov=80)
    light = DressedLight(scene, SUN, seed=3)
    single, double = (render(scene, camera, light=light, dtype=d) for d in (torch.float32, torch.float64))
    assert ((single.rgb - double.rgb).abs().amax(-1) < 0.02).float().mean() > 0.98


def test_from_what_a_person_types(scene):
    light = open_light(scene, facades="village", seed=1)
    assert isinstance(light, DressedLight) and light.light.sun_direction[2] == pytest.approx(np.sin(np.radians(42)))
    suits = open_light(scene)
    assert isinstance(suits, DressedLight) and suits.style == style_of(scene)
    assert open_light(scene, facades="none") is None
    bare = Scene(scene.frame, scene.image, scene.terrain, Prisms.none(), Objects.none(), scene.classes, scene.grid)
    assert open_light(bare) is None and open_light(bare, facades="none") is None
    with pytest.raises(InputError, match="facades are for footprints"):
        open_light(bare, facades="village")
    with pytest.raises(InputError, match=r"no style 'gothic' of facades; choose one of perimeter.*or none"):
        open_light(scene, facades="gothic")


def test_what_was_invented_is_said_with_the_view_and_the_view_from_above_stays_the_image(scene):
    assert look(scene, style="village", seed=7).provenance["facades"] == "invented, village"
    camera = OrthographicCamera.above((0.0, 0.0, 100.0), 60, 60, 1.0)
    view = render(scene, camera)
    assert torch.equal(view.rgb, scene.image) and "facades" not in view.provenance


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
