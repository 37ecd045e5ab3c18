"""A flood in a scene: where the waterline is, what the water mirrors and hides, and what is said of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from pyproj import CRS

from gensat.cli import run
from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD, WATER
from gensat.render.cameras import Camera, Panorama
from gensat.render.flood_scene import Staff, canvas_of, depth_at, filled, flooded, receded, require_above
from gensat.render.flood_view import read_staff, rising
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.light import SkyLight, untone
from gensat.render.lighting import SceneLight
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, SKY, WALL
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.water import WaterLight, _fresnel
from gensat.render.water_optics import fresnel
from gensat.types import GeoImage

FRAME = SceneFrame(CRS.from_epsg(32618), (322000.5, 4296000.25, 12.5))
HALF, WIDTH, DEPTH = (
    30.0,
    11.8,
    1.25,
)  # metres of the scene, of the canyon (its walls are on no cell edge), of the water
EYE = 1.9


def canyon(slope=0.0, step=1.0):
    """A street between two long walls, grey ground, rising by ``slope`` to the north."""
    size = int(2 * HALF / step)
    grid = Grid.centred(size, size, step)
    x, y = grid.centres()
    image = torch.full((size, size, 3), 0.5)
    classes = torch.where(x.abs() < WIDTH / 2, ROAD, BUILDING)
    walls = [shapely.box(WIDTH / 2, -60, 22, 60), shapely.box(-22, -60, -WIDTH / 2, 60)]
    terrain = HeightField((slope * y).float(), grid, "bilinear", "edge")
    return Scene(
        FRAME,
        image,
        terrain,
        Prisms.of(walls, [9.0, 6.0], [-3.0, -3.0]),
        Objects.none(),
        classes,
        grid,
        None,
        {"notes": []},
    )


def depths(scene, level):
    """A depth raster of a level surface, dry in buildings as solvers leave it."""
    x, y = scene.grid.centres()
    metres = (level - scene.height_at(x, y)).clamp(min=0)
    metres = torch.where(scene.classes == BUILDING, 0.0, metres)
    canvas = canvas_of(scene)
    return GeoImage(metres.numpy().astype(np.float32), crs=canvas.crs, transform=canvas.transform)


def wet_canyon(slope=0.0, level=DEPTH):
    scene = canyon(slope)
    return flooded(scene, depths(scene, level))


def north(width=48, height=64, pitch=-8.0, x=0.5, y=-20.0, z=EYE):
    return Camera.looking(FRAME, (x, y, z), heading=FRAME.heading(0.0), pitch=pitch, fov=70, width=width, height=height)


def row_of(camera, point):
    return float(camera.project(torch.tensor([point], dtype=torch.float64))[0][0, 1])


def test_the_waterline_on_a_wall_is_where_it_is_computed():
    """In every column that sees a wall, the wall ends at the row of its foot at the water's level, to half a pixel."""
    scene, camera = wet_canyon(), north(64, 96)
    view = render(scene, camera)
    checked = 0
    for column in range(camera.width):
        wall = np.flatnonzero((view.kind[:, column] == WALL).numpy())
        if not len(wall) or wall[-1] == camera.height - 1:
            continue
        ray = camera.rays_at(
            torch.tensor([[column + 0.5]], dtype=torch.float64),
            torch.tensor([[48.5]], dtype=torch.float64),
            dtype=torch.float64,
        )
        across = float(ray.directions[0, 0, 0] / ray.directions[0, 0, 1])
        side = math.copysign(WIDTH / 2, across)
        ahead = (side - 0.5) / across  # metres north at which this column meets the wall
        if not 0 < ahead < 40:
            continue
        line = row_of(camera, [side, -20.0 + ahead, DEPTH])
        if 0 < line < camera.height:
            assert abs(wall[-1] + 1 - line) <= 0.51, column  # float32 rays: a millimetre at 20 m
            assert int(view.classes[wall[-1] + 1, column]) == WATER
            checked += 1
    assert checked > 40


def test_the_shore_of_rising_ground_is_where_the_level_meets_it():
    scene, camera = wet_canyon(slope=0.05, level=0.6), north(9, 400, pitch=-10, z=3.5)
    view = render(scene, camera)
    middle = view.classes[:, 4].numpy()
    shore = row_of(camera, [0.5, 0.6 / 0.05, 0.6])
    first = np.flatnonzero(middle == WATER)[0]
    # the last 2 mm of water count as ground: 4 cm on this slope
    assert abs(first - shore) <= 1.0


def test_depth_is_that_of_the_raster_everywhere_and_stays_out_of_dry_ground():
    scene = canyon(slope=0.05)
    raster = depths(scene, 0.3)
    raster.array[:10] = 0  # north of something the flood did not pass
    wet = flooded(scene, raster)
    for y, expected in ((-15.0, 1.05), (-5.0, 0.55), (5.0, 0.05), (10.0, 0.0), (25.0, 0.0)):
        assert depth_at(wet, 0.0, y) == pytest.approx(expected, abs=1e-4)
    low = canyon(slope=-0.05)  # now the part in the north is low, and dry all the same
    raster = depths(low, 0.3)
    raster.array[:25] = 0
    behind = flooded(low, raster)
    assert depth_at(behind, 0.0, 20.0) == 0 and depth_at(behind, 0.0, 0.0) == pytest.approx(0.3, abs=1e-4)
    assert depth_at(receded(behind, 0.1), 0.0, 0.0) == pytest.approx(0.2, abs=1e-4)


def test_a_depth_raster_of_another_grid_and_crs_floods_the_same_place():
    scene = canyon()
    lon, lat = (float(v) for v in FRAME.lonlat(0.0, 0.0))
    coarse = GeoImage(
        np.full((20, 20), DEPTH, np.float32),
        crs="EPSG:4326",
        transform=Affine(5e-5, 0, lon - 5e-4, 0, -5e-5, lat + 5e-4),
    )
    assert depth_at(flooded(scene, coarse), 0.0, 0.0) == pytest.approx(DEPTH, abs=1e-4)
    elsewhere = GeoImage(coarse.array, crs="EPSG:4326", transform=Affine(5e-5, 0, lon + 1, 0, -5e-5, lat))
    with pytest.raises(InputError, match="does not overlap"):
        flooded(scene, elsewhere)
    with pytest.raises(InputError, match="no open ground"):
        flooded(scene, GeoImage(np.zeros_like(coarse.array), crs="EPSG:4326", transform=coarse.transform))


def test_level_water_is_in_the_heights_of_the_terrain():
    scene = canyon(slope=0.05)  # local z of 0 is 12.5 m above the datum
    wet = filled(scene, 12.7)
    for y in (-15.0, 0.0, 3.0):
        assert depth_at(wet, 0.0, y) == pytest.approx(max(0.0, 0.2 - 0.05 * y), abs=1e-4)
    assert depth_at(wet, 0.0, 10.0) == 0
    with pytest.raises(InputError, match=r"below all open ground, which begins at 11\.0"):
        filled(scene, 5)


def test_a_mirror_shows_what_stands_above_it():
    """Black water without wind: each pixel is Fresnel's share of what the mirrored ray sees, nothing else."""
    scene, camera = wet_canyon(), north(24, 32, pitch=-20)
    ink = WaterLight(scene, None, water=0.0, wind=0)
    ink.__dict__["deep"] = np.zeros(3)  # neither colour of its own
    ink.__dict__["_clouding"] = np.full(3, 1e6)  # nor any bottom
    view = render(scene, camera, light=ink)
    wet = view.classes == WATER
    rays = camera.rays()
    points = rays.origins + view.distance[..., None].nan_to_num(posinf=0) * rays.directions
    mirrored = rays.directions * torch.tensor([1.0, 1.0, -1.0])
    hits = scene.cast(type(rays)(points + torch.tensor([0.0, 0.0, 1e-3]), mirrored))
    share = _fresnel(-rays.directions[..., 2])
    above = ink.sky(mirrored[wet & (hits.kind == SKY)])
    found = untone(view.rgb[wet & (hits.kind == SKY)])
    assert len(found) > 20
    assert torch.allclose(found, share[wet & (hits.kind == SKY)][:, None] * untone(above), atol=3e-3)
    assert float(fresnel(0.3)) == pytest.approx(float(_fresnel(torch.tensor(0.3))), abs=1e-6)
    walls = wet & (hits.kind == WALL)
    assert bool(walls.any()) and float(untone(view.rgb[walls]).mean()) < float(found.mean())


def test_the_bottom_fades_with_depth_and_sediment():
    """Bright ground under shallow clear water is seen; under mud only the mud is."""
    scene, camera = wet_canyon(slope=0.04, level=0.8), north(16, 24, pitch=-35, y=-2.0, z=3.0)
    bright = replace(scene, image=scene.image * 0 + torch.tensor([0.9, 0.2, 0.9]))
    look = lambda s, water: render(s, camera, light=WaterLight(s, None, water=water, wind=0))  # noqa: E731
    wet = look(scene, "clear").classes == WATER
    assert bool(wet.any())
    apart = {}
    for water in ("clear", "mud"):
        gain = WaterLight(scene, None, water=water)
        other = WaterLight(bright, None, water=water)
        other.__dict__["_gain"] = gain._gain  # the same exposure of both
        one = render(scene, camera, light=WaterLight(scene, None, water=water, wind=0))
        two = render(bright, camera, light=replace_wind(other))
        apart[water] = float((one.rgb - two.rgb)[wet].abs().mean())
    assert apart["clear"] > 20 * apart["mud"] and apart["mud"] < 0.01


def replace_wind(light):
    from gensat.render.waves import Waves

    light.waves = Waves(0)
    return light


@pytest.mark.parametrize("kind", ["camera", "panorama"])
def test_all_cameras_and_lights_and_what_is_invented(kind):
    scene = wet_canyon()
    camera = (
        north(20, 20)
        if kind == "camera"
        else Panorama.looking(FRAME, (0.5, -20.0, EYE), heading=0, width=40, height=20)
    )
    light = SceneLight(SkyLight(Sky((0.3, -0.5, 0.6))))
    wet = WaterLight(scene, light, wind=2)
    view = render(scene, camera, light=wet, shader=wet.shader)
    water = view.classes == WATER
    assert bool(torch.isfinite(view.rgb).all()) and float(view.rgb.min()) >= 0 and float(view.rgb.max()) <= 1
    assert bool(water.any()) and not bool(view.seen[water].any())  # the image shows none of the water
    assert view.provenance["flood"] == "physical surface" and view.provenance["wind"] == 2.0
    dry = render(replace(scene, water=None), camera, light=light)
    above = (view.kind == dry.kind) & ~water & (view.distance == dry.distance)
    assert bool(above.any()) and torch.allclose(view.rgb[above], dry.rgb[above], atol=1e-4)  # nothing else changed
    assert torch.equal(render(scene, camera, light=wet, shader=wet.shader).rgb, view.rgb)


def test_ripples_are_those_of_the_place():
    """Another frame over the same ground: the same water, to rounding."""
    scene = wet_canyon()
    moved = SceneFrame(FRAME.crs, (FRAME.origin[0] - 7.0, FRAME.origin[1] + 3.0, FRAME.origin[2]))
    one, two = (WaterLight(replace(scene, frame=f), None, wind=3) for f in (FRAME, moved))
    x, y = torch.rand(2, 50, dtype=torch.float64).unbind()
    fine = torch.full_like(x, 1e-3)
    assert torch.allclose(one.waves.slopes(x, y, fine)[0], two.waves.slopes(x + 7.0, y - 3.0, fine)[0], atol=1e-6)
    assert not torch.equal(one.waves.slopes(x, y, fine, 0.0)[0], one.waves.slopes(x, y, fine, 0.2)[0])


def test_a_staff_says_the_depth():
    scene = wet_canyon(slope=0.02)
    staff = Staff(0.5, -14.0, 2.5)
    camera = north(160, 120, pitch=-5)
    marked = staff.into(scene)
    view = render(marked, camera)
    on = view.kind == OBJECT
    rows = np.flatnonzero(on.any(1).numpy())
    foot = row_of(camera, [0.5, -14.08, DEPTH])  # the front of the staff at the water
    assert abs(rows[-1] + 1 - foot) <= 1.0
    assert depth_at(marked, 0.5, -14.0) == pytest.approx(DEPTH + 0.28, abs=1e-3)
    bands = len(marked.objects)
    assert bands == 25 and float(marked.objects.half[0, 2]) == pytest.approx(0.05)
    plain, read = view.image().array, read_staff(view, marked, staff)
    assert read.shape == plain.shape and 20 < (read != plain).any(-1).sum() < 0.2 * plain[..., 0].size
    behind = Staff(-15.0, 0.0, 2.0)  # inside a building: no figures over the wall
    assert np.array_equal(read_staff(view, marked, behind), plain)
    with pytest.raises(InputError, match="height of the staff"):
        Staff(0, 0, -1.0)


def test_rising_water_starts_dry_and_ends_full():
    scene, camera = wet_canyon(), north(16, 16)
    light = WaterLight(scene, None, wind=1)
    shares = [int((view.classes == WATER).sum()) for view, _ in rising(scene, camera, light, frames=4)]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] > 40
    with pytest.raises(InputError, match="2 or more"):
        next(rising(scene, camera, light, frames=1))


def test_a_camera_under_water_is_refused():
    scene = wet_canyon()
    with pytest.raises(InputError, match=r"0\.25 m under water, which is 1\.25 m deep"):
        require_above(scene, north(z=1.0))
    require_above(scene, north(z=1.3))
    with pytest.raises(InputError, match="no water"):
        WaterLight(canyon())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small image, its ground and a depth raster as files."""
    folder = tmp_path_factory.mktemp("place")
    rng, where = np.random.default_rng(0), Affine(1, 0, 322_000, 0, -1, 4_296_000)
    GeoImage(rng.integers(90, 160, (40, 40, 3), dtype=np.uint8), crs="EPSG:32618", transform=where).save(
        folder / "a.tif"
    )
    ground = np.repeat(np.linspace(6, 4, 40, dtype=np.float32)[:, None], 40, 1)
    GeoImage(ground, crs="EPSG:32618", transform=where).save(folder / "dtm.tif")
    GeoImage((5.0 - ground).clip(0), crs="EPSG:32618", transform=where).save(folder / "depth.tif")
    lon, lat = SceneFrame(CRS.from_epsg(32618)).lonlat(322_020.0, 4_295_968.0)
    return folder, ["--at", f"{float(lon):.7f}", f"{float(lat):.7f}"]


def test_the_command_makes_a_folder(place, capsys):
    folder, at = place
    given = [
        "flood",
        "view",
        str(folder / "a.tif"),
        "--depth",
        str(folder / "depth.tif"),
        "--terrain",
        str(folder / "dtm.tif"),
        *at,
    ]
    small = ["--width", "32", "--height", "24", "--samples", "1", "--json"]
    gauge = ["--gauge", *at[1:], "--staff", "2.5"]
    assert run([*given, *small, *gauge, "--frames", "2", "--heading", "0", "-o", str(folder / "out/")]) == 0
    said = json.loads(capsys.readouterr().out)
    made = {path.name for path in (folder / "out").iterdir()}
    assert made == {"before.png", "view.png", "view.npz", "beside.png", "rising.mp4", "run.json"}
    assert 0.55 < said["depth_here"] < 0.65 and said["depth_gauge"] == pytest.approx(said["depth_here"], abs=0.01)
    assert json.loads((folder / "out" / "run.json").read_text())["asked"]["water"] == "silt"
    view = np.load(folder / "out" / "view.npz")
    assert (view["classes"] == WATER).any()
    assert run([*given, *small, "-o", str(folder / "one.png")]) == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--eye", "0.3"], "under water"),
        (["--water", "beer"], "no water 'beer'"),
        (["--wind", "80"], "wind"),
        (["--staff", "2"], "--gauge"),
        (["--level", "2"], "--depth FILE of a computed flood, or --level"),
        (["--samples", "20"], "--samples"),
        (["--frames", "1"], "--frames"),
        (["-o", "x.tif"], "end it with .png"),
    ],
)
def test_the_command_says_what_is_wrong(place, capsys, more, told):
    folder, at = place
    given = [
        "flood",
        "view",
        str(folder / "a.tif"),
        "--depth",
        str(folder / "depth.tif"),
        "--terrain",
        str(folder / "dtm.tif"),
        *at,
    ]
    assert run([*given, "--width", "16", "-o", str(folder / "bad.png"), *more]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) <= 3
    assert not (folder / "bad.png").exists()
