"""Scenes: what is hit, what was seen from above, where one may stand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from pyproj import CRS, Proj

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD, WATER, WOODLAND
from gensat.render.cameras import Camera, OrthographicCamera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, ROOF, SKY, TERRAIN, WALL, Rays
from gensat.render.scene import Scene
from gensat.render.view import View
from gensat.types import GeoImage, Place

LON, LAT = -77.05, 38.8
CRS18 = CRS.from_epsg(32618)
FRAME = SceneFrame(CRS18, (*Proj(CRS18)(LON, LAT), 12.0))


def village(rows=50, columns=60, step=2.0, **changes):
    """Rolling ground with a courtyard house, a shed, a tree and a pond."""
    draw = np.random.default_rng(5)
    grid = Grid.centred(rows, columns, step)
    x, y = grid.centres()
    ground = (2 * torch.sin(x / 20) + 0.02 * y).float()
    classes = torch.full((rows, columns), ROAD)
    classes[:, : columns // 2] = WOODLAND
    water = torch.full((rows, columns), torch.nan)
    water[35:45, 40:55] = ground[35:45, 40:55] + 0.5
    footprints = [
        shapely.Polygon([(-20, -20), (0, -20), (0, 0), (-20, 0)], [[(-15, -15), (-5, -15), (-5, -5), (-15, -5)]]),
        shapely.box(15, 5, 24, 12),
    ]
    tree = Objects.ellipsoids(
        torch.tensor([[-30.0, 30, 6]]), torch.tensor([[4.0, 4, 3]]), classes=WOODLAND, colour=[torch.nan] * 3
    )
    lamp = Objects.cones(
        torch.tensor([[10.0, -30, 3]]), torch.tensor([[0.2, 0.2, 3]]), classes=ROAD, colour=[0.1, 0.1, 0.1]
    )
    scene = Scene(
        FRAME,
        torch.tensor(draw.uniform(0, 1, (rows, columns, 3)), dtype=torch.float32),
        HeightField(ground, grid),
        Prisms.of(footprints, [12.0, 7.0], [-2.0, 0.0]),
        tree + lamp,
        classes,
        grid,
        water,
    )
    return replace(scene, **changes)


def above(scene):
    return OrthographicCamera.above((0, 0, scene.ceiling + 5), scene.grid.columns, scene.grid.rows, scene.grid.step)


def test_the_view_from_above_is_the_image():
    scene = village()
    view = render(scene, above(scene))
    assert view.rgb.shape == scene.image.shape and not view.sky.any()
    assert view.seen.float().mean() > 0.99  # all but the lamp, which has a colour of its own
    assert torch.equal(view.rgb[view.seen], scene.image[view.seen])
    x, y = (v.float() for v in scene.grid.centres())
    torch.testing.assert_close(scene.ceiling + 5 - view.distance, scene.surface_at(x, y), atol=1e-4, rtol=0)
    assert torch.equal(view.depth, view.distance)
    assert set(view.kind.unique().tolist()) == {TERRAIN, ROOF, OBJECT}
    assert (view.classes[view.kind == ROOF] == BUILDING).all() and (view.index[view.kind == ROOF] >= 0).all()
    wet = ~torch.isnan(scene.water)
    assert (view.classes[wet & (view.kind == TERRAIN)] == WATER).all()
    dry = (view.kind == TERRAIN) & ~wet
    assert torch.equal(view.classes[dry], scene.classes[dry])


def test_walls_are_invented_and_the_ground_under_a_crown_too():
    scene = village()
    view = render(scene, Camera.looking(FRAME, (-10.0, -40.0, 3.0), heading=0, fov=70, width=96, height=72))
    wall = view.kind == WALL
    assert wall.sum() > 500 and not view.seen[wall].any() and (view.classes[wall] == BUILDING).all()
    assert not view.seen[view.sky].any() and (view.classes[view.sky] == 0).all() and (view.normals[view.sky] == 0).all()
    ground = (view.kind == TERRAIN) & (view.distance < 30)
    assert view.seen[ground].all()
    under = render(scene, Camera.looking(FRAME, (-30.0, 22.0, 1.7), heading=0, pitch=-20, fov=50, width=40, height=40))
    at = Rays(*[v for v in (under.camera.rays().origins, under.camera.rays().directions)]).at(under.distance)
    covered = (torch.hypot(at[..., 0] + 30, at[..., 1] - 30) < 3.5) & (under.kind == TERRAIN)
    assert covered.any() and not under.seen[covered].any()


def test_a_panorama_and_a_perspective_view_of_one_place_agree():
    scene = village()
    eye = scene.stand((6.0, -28.0))
    pano = render(scene, Panorama.looking(FRAME, eye, heading=300, width=720, height=360))
    cam = Camera.looking(FRAME, eye, heading=20, pitch=5, fov=70, width=160, height=120)
    view = render(scene, cam)
    rays = cam.rays(dtype=torch.float64)
    pixels, _, inside = pano.camera.project(rays.at(torch.ones(rays.shape, dtype=torch.float64)))
    column, row = pixels.floor().long().unbind(-1)
    same = pano.kind[row, column] == view.kind
    assert inside.all() and same.float().mean() > 0.96  # others lie on an outline, within a pixel of the panorama
    near = same & ~view.sky & (view.kind == WALL)
    apart = (pano.distance[row, column] - view.distance).abs() / view.distance
    assert apart[near].median() < 4e-3 and (pano.index[row, column] == view.index)[same].all()
    sky = view.sky & pano.sky[row, column]
    assert (pano.rgb[row, column] - view.rgb)[sky].abs().max() < 0.02


def test_occluded_is_what_cast_says():
    scene = village()
    draw = np.random.default_rng(0)
    origins = torch.tensor(
        np.column_stack([draw.uniform(-50, 50, (600, 2)), draw.uniform(3, 20, 600)]), dtype=torch.float32
    )
    rays = Rays(
        origins, torch.nn.functional.normalize(torch.tensor(draw.normal(size=(600, 3)), dtype=torch.float32), dim=1)
    )
    hits = scene.cast(rays)
    assert torch.equal(scene.occluded(rays), hits.hit)
    far = torch.tensor(draw.uniform(0, 60, 600), dtype=torch.float32)
    assert torch.equal(scene.occluded(rays, far), hits.t <= far)
    assert torch.equal(scene.occluded(rays, 25), hits.t <= 25)
    shaped = Rays(rays.origins.reshape(20, 30, 3), rays.directions.reshape(20, 30, 3))
    assert torch.equal(scene.cast(shaped).t.reshape(-1), hits.t) and scene.occluded(shaped).shape == (20, 30)


def test_shader_and_light():
    scene = village()
    asked = []

    def red_walls(surfels):
        asked.append(surfels)
        return torch.where((surfels.kind == WALL)[:, None], torch.tensor([1.0, 0, 0]), surfels.rgb)

    class Half:
        def surface(self, scene, surfels, rgb):
            return rgb / 2

        def sky(self, directions):
            return directions.new_tensor([0.0, 0, 1]).expand_as(directions)

    camera = Camera.looking(FRAME, (-10.0, -40.0, 3.0), fov=70, width=48, height=36)
    plain, view = render(scene, camera), render(scene, camera, shader=red_walls, light=Half())
    wall = view.kind == WALL
    assert (view.rgb[wall] == torch.tensor([0.5, 0, 0])).all() and (
        view.rgb[view.sky] == torch.tensor([0.0, 0, 1])
    ).all()
    assert torch.equal(view.rgb[plain.seen], plain.rgb[plain.seen] / 2) and torch.equal(view.seen, plain.seen)
    on = asked[0]
    side = on.kind == WALL
    assert (on.uv[side, 1] >= 0).all() and (on.uv[side, 1] <= 14.001).all()  # from the foot at -2 to the roof at 12
    # u is the way along the outline: two points of one wall are as far apart in u as on the map
    edge = on.edge[side] == on.edge[side].mode().values
    u, xy = on.uv[side][edge, 0], on.points[side][edge, :2]
    torch.testing.assert_close((u - u[0]).abs(), (xy - xy[0]).norm(dim=1), atol=2e-3, rtol=0)
    assert (on.spread > 0).all()


def test_supersampling_averages_colours_only():
    scene = village()
    camera = Camera.looking(FRAME, (-10.0, -40.0, 3.0), fov=70, width=48, height=36)
    one, four = render(scene, camera), render(scene, camera, samples=4)
    for name in ("distance", "kind", "classes", "index", "seen", "normals"):
        assert torch.equal(getattr(one, name), getattr(four, name))
    mixed = (four.opacity > 0) & (four.opacity < 1)
    assert mixed.any() and set(one.opacity.unique().tolist()) == {0, 1}
    fine = render(scene, replace(camera, width=192, height=144, fx=camera.fx * 4, fy=camera.fy * 4, cx=96, cy=72))
    pooled = fine.rgb.reshape(36, 4, 48, 4, 3).mean(dim=(1, 3))
    torch.testing.assert_close(four.rgb, pooled, atol=2e-2, rtol=0)
    assert (four.rgb - pooled).abs().mean() < 1e-4


def test_colours_and_distances_are_differentiable():
    image = torch.rand(50, 60, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scene = village(image=image)
    heights = scene.terrain.heights.clone().requires_grad_()
    scene = replace(scene, terrain=replace(scene.terrain, heights=heights))
    view = render(scene, above(scene))
    (view.rgb[view.seen].sum() + view.distance.sum()).backward()
    assert torch.equal(image.grad[view.seen], torch.ones_like(image.grad[view.seen]))
    ground = (view.kind == TERRAIN) & torch.isnan(scene.water)
    torch.testing.assert_close(heights.grad[ground], -torch.ones_like(heights.grad[ground]))


def test_standing():
    scene = village()
    x, y, z = scene.stand((6.0, -28.0), eye=2.0)
    assert z == pytest.approx(float(scene.height_at(torch.tensor(6.0), torch.tensor(-28.0))) + 2, abs=1e-5)
    place = FRAME.place(6.0, -28.0)
    assert scene.stand(place, 2.0) == pytest.approx((x, y, z), abs=1e-4)
    scene.stand((-10.0, -10.0))  # the courtyard is open
    with pytest.raises(
        InputError, match=r"inside a building; the nearest open ground is lon=-77\.0499\d\d lat=38\.79991\d"
    ) as error:
        scene.stand(FRAME.place(-2.0, -10.0))
    told = [float(part.split("=")[1].rstrip(",")) for part in str(error.value).split("open ground is ")[1].split()[:2]]
    x, y, _ = scene.stand(Place(*told))  # what the message says is true
    assert math.hypot(x + 2, y + 10) == pytest.approx(3.0, abs=0.2)  # two metres to the wall, one more from it
    with pytest.raises(InputError, match="outside the image, whose south-west corner is lon="):
        scene.stand(FRAME.place(100.0, 0.0))
    with pytest.raises(InputError, match="eye height -1"):
        scene.stand((0.0, 10.0), -1)
    with pytest.raises(InputError, match="latitude 95"):
        scene.stand(Place(0, 95))
    hole = scene.terrain.heights.clone()
    hole[20, 50] = torch.nan
    broken = replace(scene, terrain=replace(scene.terrain, heights=hole))
    cx, cy = (float(v[20, 50]) for v in scene.grid.centres())
    with pytest.raises(InputError, match="not known"):
        broken.stand((cx, cy))


def test_standing_on_a_surface_model_with_classes():
    scene = village()
    classes = scene.classes.clone()
    classes[20:30, 20:30] = BUILDING
    model = replace(
        scene,
        buildings=Prisms.none(),
        classes=classes,
        terrain=replace(scene.terrain, surface="columns"),
        frame=SceneFrame(None),
    )
    x, y = (float(v[24, 22]) for v in scene.grid.centres())
    with pytest.raises(InputError, match=r"inside a building; the nearest open ground is x=-?\d+\.\d\d y="):
        model.stand((x, y))
    view = render(model, above(model))
    assert (view.kind[20:30, 20:30] == ROOF).all() and (view.index[20:30, 20:30] == -1).all()


def test_standing_on_a_surface_model_without_classes():
    """A block of 20 m is no place to stand, a slope of 20 percent is; nor is the bed of a pond."""
    grid = Grid.centred(80, 90, 2.0)
    _, y = grid.centres()
    heights = (0.2 * y).float()
    heights[40:50, 20:32] += 20
    dry = torch.full((80, 90), torch.nan)
    dry[60:70, 60:70] = heights[60:70, 60:70].max() + 1
    scene = village(80, 90, buildings=Prisms.none(), terrain=HeightField(heights, grid, "columns"), water=None)
    scene = replace(scene, provenance={"geometry": "surface model"}, water=dry)
    cx, cy = grid.centres()
    for row, column in ((10, 10), (5, 60), (39, 25), (70, 5)):
        scene.stand((float(cx[row, column]), float(cy[row, column])))
    with pytest.raises(InputError, match="on or in a building or tree; the nearest open ground is lon=") as error:
        scene.stand((float(cx[45, 24]), float(cy[45, 24])))
    assert ", 10.0 m away" in str(error.value)  # five cells to the west
    wet = scene.stand((float(cx[65, 65]), float(cy[65, 65])), 1.0)
    assert wet[2] == pytest.approx(float(dry[65, 65]) + 1)


def test_views_are_saved_with_their_place(tmp_path):
    scene = village()
    view = render(scene, Panorama.looking(FRAME, scene.stand((6.0, -28.0)), heading=33, width=64, height=32))
    view.save(tmp_path / "a.png")
    read = GeoImage.open(tmp_path / "a.png")
    assert read.provenance["synthetic"] is True and read.provenance["heading"] == pytest.approx(33)
    place = FRAME.place(6.0, -28.0)
    assert read.provenance["camera_lon"] == pytest.approx(place.lon) and read.provenance["camera"] == "panorama"
    assert np.abs(read.array / 255 - view.rgb.numpy()).max() < 0.003
    view.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as buffers:
        assert np.array_equal(buffers["distance"], view.distance.numpy()) and "seen" in buffers
    with pytest.raises(InputError, match="exists"):
        view.save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no name for a view"):
        view.save(tmp_path / "a.exr")
    assert isinstance(view, View) and sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.png"]


def test_half_precision_rays_are_cast_in_single():
    scene = village()
    camera = Camera.looking(FRAME, (-10.0, -40.0, 3.0), fov=70, width=24, height=18)
    half = scene.cast(camera.rays(dtype=torch.float16))
    assert half.t.dtype == torch.float32 and (half.kind == SKY).any() and (half.kind == WALL).any()


@pytest.mark.gpu
def test_a_gpu_gives_the_same_view():
    scene = village()
    eye = scene.stand((6.0, -28.0))
    camera = Panorama.looking(FRAME, eye, heading=300, width=256, height=128)
    here, there = render(scene, camera), render(scene.to("cuda"), camera)
    assert scene.to("cuda").stand((6.0, -28.0)) == pytest.approx(eye)
    assert (here.kind == there.kind.cpu()).float().mean() > 0.999
    near = ~here.sky & (here.kind == there.kind.cpu())
    assert ((here.distance - there.distance.cpu()).abs()[near] < 0.01).float().mean() > 0.999
    assert (here.rgb - there.rgb.cpu()).abs()[near].median() < 1e-4


def test_bad_scenes():
    scene = village()
    with pytest.raises(InputError, match="are not on"):
        replace(scene, image=scene.image[:-1], classes=scene.classes[:-1], water=None)
    with pytest.raises(InputError, match="0 samples"):
        render(scene, above(scene), samples=0)


def test_scenes_work_in_inference_mode():
    """ComfyUI runs its nodes so; what was made inside can be seen from outside, and the other way round."""
    with torch.inference_mode():
        inside = village()
        camera = Camera.looking(FRAME, inside.stand((6.0, -12.0)), heading=330, width=24, height=16)
        first = render(inside, camera)
    outside = village()
    with torch.inference_mode():
        second = render(outside, camera)
    for view in (second, render(inside, camera), render(outside, camera)):
        assert torch.equal(view.distance, first.distance) and torch.equal(view.rgb, first.rgb)
