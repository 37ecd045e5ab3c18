"""Generated streets as scenes: classes, doors, satellite image and views agree with the geometry; a seed gives the same bytes."""

import hashlib

import numpy as np
import pytest
import shapely
import torch

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD, WATER, WOODLAND
from gensat.render.cameras import OrthographicCamera
from gensat.render.environment import PanoramaLight
from gensat.render.equirect import equirect_directions
from gensat.render.gbuffers import render
from gensat.render.rays import OBJECT, ROOF, TERRAIN, WALL
from gensat.render.streets.facade_styles import COLUMNS
from gensat.render.streets.materials import MATERIALS, NAMES
from gensat.render.streets.scenes import GSD, SIZE, Street, StreetScenes
from gensat.render.streets.things import PARTS, part_of

HALF, PIXELS = 72.0, 176  # a smaller street than usual, for speed: 88 m of image

pytest.importorskip("pvlib", reason="the generator places the sun by pvlib (extra ground)")


@pytest.fixture(scope="module", params=["perimeter", "village", "waterfront"])
def street(request):
    return Street.make(request.param, 3, weather="clear", samples=1, half=HALF)


@pytest.fixture(scope="module")
def view(street):
    return street.view(street.cameras(1, width=96, height=96)[0])


def test_every_building_has_a_door_at_ground_level(street):
    walls, prisms = street.light.walls, street.scene.buildings
    doors = torch.nonzero(walls.edge[:, 2] >= 0)[:, 0]
    assert sorted(walls.owner[doors].tolist()) == list(range(len(prisms)))
    count, bay = walls.bays(doors)
    assert (walls.edge[doors, 2] < count).all()
    start, end = prisms.edges[doors, :2], prisms.edges[doors, 2:]
    along = ((walls.edge[doors, 2] + 0.5) * bay)[:, None] / torch.linalg.vector_norm(end - start, dim=1, keepdim=True)
    at = start + along * (end - start)
    ground = street.scene.height_at(at[:, 0].contiguous(), at[:, 1].contiguous())
    entrance = walls.building[walls.owner[doors], COLUMNS.index("entrance")]
    assert torch.allclose(prisms.base[walls.owner[doors]] + entrance, ground, atol=1e-3)
    assert (entrance > -1e-3).all()  # never below the foot of the building


def test_classes_agree_with_the_geometry(street, view):
    assert (view.classes[(view.kind == ROOF) | (view.kind == WALL)] == BUILDING).all() and (
        view.classes[view.sky] == 0
    ).all()
    part = part_of(street.scene.objects.label[view.index.clamp(min=0)])[0]
    trunk = (view.kind == OBJECT) & (part == PARTS.index("bark"))
    assert (view.classes[trunk] == WOODLAND).all()
    ground = view.kind == TERRAIN
    points = view.camera.rays().at(view.distance)[ground]
    inside = street.scene.grid.inside(points[:, 0], points[:, 1])
    material = street.light.ground.material(points[:, 0].contiguous(), points[:, 1].contiguous())
    lands = torch.tensor([MATERIALS[name].land for name in NAMES])[material]
    assert (lands == view.classes[ground])[
        inside
    ].float().mean() > 0.85  # classes are on cells of 0.5 m, edges fall in between
    assert (view.classes[ground] == ROAD).any()


def test_the_satellite_shows_buildings_and_roads_where_they_are(street):
    classes = street.classes(PIXELS)
    assert classes.shape == (PIXELS, PIXELS) and classes.min() >= 1
    image = street.satellite(PIXELS)
    to_pixel = ~image.transform
    x0, y0, _ = street.scene.frame.origin
    hits = []
    for building in street.plan.buildings:
        point = shapely.point_on_surface(building.footprint)
        column, row = to_pixel @ (point.x + x0, point.y + y0)
        if 0 <= row < PIXELS and 0 <= column < PIXELS:
            hits.append(classes[int(row), int(column)])
    assert (
        len(hits) > 4
        and np.mean(np.isin(hits, (BUILDING, WOODLAND))) == 1.0
        and np.mean(np.array(hits) == BUILDING) > 0.9
    )
    footprints = sum(b.footprint.intersection(shapely.box(-44, -44, 44, 44)).area for b in street.plan.buildings)
    assert (classes == BUILDING).mean() == pytest.approx(
        footprints / 88**2, abs=0.05
    )  # less what crowns cover, more what roofs jut out
    assert image.gsd == pytest.approx(GSD, rel=1e-3) and image.place.lat == pytest.approx(street.place.lat, abs=1e-4)
    assert (classes == WATER).any() == street.plan.kind.water


def test_the_scene_seen_from_above_is_its_image(street):
    """The raw renderer, which knows only the image, returns it where it was seen; a crown's colour is its own."""
    grid = street.scene.grid
    camera = OrthographicCamera.above((0.0, 0.0, street.scene.ceiling + 10), grid.columns, grid.rows, grid.step)
    again = render(street.scene, camera)
    same = again.seen & (again.kind != OBJECT)
    error = ((again.rgb - street.scene.image)[same] ** 2).mean()
    assert -10 * float(torch.log10(error)) > 40 and same.float().mean() > 0.5


def test_depth_is_that_of_the_geometry(street, view):
    hits = street.scene.cast(view.camera.rays())
    assert torch.equal(hits.t, view.distance) and torch.equal(hits.index, view.index)
    points = view.camera.rays().at(view.distance)[view.kind == TERRAIN]
    ground = street.scene.height_at(points[:, 0].contiguous(), points[:, 1].contiguous())
    assert torch.allclose(points[:, 2], ground, atol=5e-3)
    assert torch.isfinite(view.rgb).all() and 0 <= view.rgb.min() and view.rgb.max() <= 1


def test_one_looks_the_same_from_two_places(street):
    """Materials belong to places: the albedo of points is the same in another camera's picture."""
    first, second = street.cameras(2, width=48, height=48, panorama=True)
    from gensat.render.gbuffers import Rays, surfels_of

    rays = first.rays().flat()
    hits = street.scene.cast(rays)
    on = torch.nonzero(hits.kind > 0)[:, 0]
    found = type(hits)(*(getattr(hits, name)[on] for name in type(hits).__dataclass_fields__))
    one = surfels_of(street.scene, first, Rays(rays.origins[on], rays.directions[on]), found)
    other = type(one)(**{**one.__dict__, "directions": -one.normals})
    straight = type(one)(**{**one.__dict__, "directions": -one.normals, "distance": one.distance * 0 + 3})
    assert torch.equal(street.light.look(street.scene, other).albedo, street.light.look(street.scene, straight).albedo)
    assert second.width == 48


def test_a_street_in_the_light_of_a_panorama(street, view):
    """A bright band in the west lights western walls more than eastern ones; depth does not change."""
    x, _, z = equirect_directions(32, 64).unbind(-1)
    west = PanoramaLight((0.2 + 3 * ((x < -0.8) & (z > 0)).float())[..., None].expand(-1, -1, 3))
    lit = street.lit_by(west, key=1.0).view(view.camera)
    assert (
        torch.equal(lit.distance, view.distance)
        and torch.isfinite(lit.rgb).all()
        and not torch.equal(lit.rgb, view.rgb)
    )
    ambient = west.ambient(torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert ambient[0, 0] > 1.5 * ambient[1, 0]
    assert west.sun_direction is None


def test_a_seed_gives_the_same_bytes():
    def digest(street):
        seen = street.view(street.cameras(1, width=32, height=32)[0])
        parts = [street.satellite(PIXELS).array.tobytes(), *(v.tobytes() for v in seen.buffers().values())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    made = [Street.make("strip", seed, samples=1, half=HALF) for seed in (11, 11, 12)]
    assert digest(made[0]) == digest(made[1]) != digest(made[2])
    assert made[0].time == made[1].time and made[0].weather == made[1].weather


@pytest.mark.slow
def test_pairs_are_a_function_of_seed_and_index():
    scenes = StreetScenes(seed=5, types=["village"], views=1, width=32, height=16, panorama=True)
    image, views = scenes[2]
    again, more = scenes[2]
    assert np.array_equal(image.array, again.array) and torch.equal(views[0].rgb, more[0].rgb)
    assert (
        image.array.shape == (SIZE, SIZE, 3)
        and views[0].rgb.shape == (16, 32, 3)
        and image.provenance["synthetic"] is True
    )
    with pytest.raises(IndexError, match="0 or more"):
        scenes[-1]


def test_weather_changes_the_ground():
    made = {
        w: Street.make("informal", 2, weather=w, time="2024-03-20T10:00Z", samples=1, half=HALF)
        for w in ("clear", "rain", "snow")
    }
    camera = made["clear"].cameras(1, width=40, height=40)[0]
    from gensat.render.gbuffers import Rays, surfels_of

    looks = {}
    for name, street in made.items():
        rays = camera.rays().flat()
        hits = street.scene.cast(rays)
        on = torch.nonzero(hits.kind == TERRAIN)[:, 0]
        found = type(hits)(*(getattr(hits, f)[on] for f in type(hits).__dataclass_fields__))
        looks[name] = street.light.look(
            street.scene, surfels_of(street.scene, camera, Rays(rays.origins[on], rays.directions[on]), found)
        )
    assert (
        looks["rain"].albedo.mean() < 0.9 * looks["clear"].albedo.mean()
        and looks["rain"].gloss.max() > 0.02 > looks["clear"].gloss.max()
    )
    assert looks["snow"].albedo.mean() > 1.5 * looks["clear"].albedo.mean()


def test_a_street_without_buildings_is_a_street():
    street = Street.make("strip", 308, samples=1, half=HALF)
    view = street.view(street.cameras(1, width=24, height=24)[0])
    assert not street.plan.buildings and torch.isfinite(view.rgb).all() and (view.classes != BUILDING).all()


def test_what_cannot_be_made():
    with pytest.raises(InputError, match="weather"):
        Street.make("village", 1, weather="hail")
    with pytest.raises(InputError, match="no street type"):
        Street.make("moon base")
    with pytest.raises(InputError, match="2024-06-21"):
        Street.make("village", 1, time="noon")
    with pytest.raises(InputError, match="half"):
        Street.make("village", 1, half=10)
