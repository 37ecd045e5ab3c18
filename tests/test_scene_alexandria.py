"""Alexandria, Virginia: 2 m surface model, terrain, footprints with heights. Needs the full data set."""

import numpy as np
import pytest
import torch
from conftest import DATA
from ray_reference import columns_hit, patches_hit, prisms_hit

from gensat.geo.display import to_rgb
from gensat.render.cameras import Camera, OrthographicCamera, Panorama
from gensat.render.gbuffers import render
from gensat.render.rays import Rays
from gensat.render.scene import Scene
from gensat.types import GeoImage

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def folder():
    return DATA / "rasters" / "urban_heights"


@pytest.fixture(scope="module")
def image(folder):
    """The height above ground, coloured and with noise: a picture in which every pixel differs."""
    source = GeoImage.open(folder / "hag.tif")
    height = np.nan_to_num(source.physical()[:, :, 0]).clip(0, 30)[:, :, None]
    noise = np.random.default_rng(0).uniform(0, 60, (*height.shape[:2], 3))
    rgb = (noise + height * (6, 2, 4) + 20).clip(0, 255).astype(np.uint8)
    return GeoImage(rgb, crs=source.crs, transform=source.transform)


@pytest.fixture(scope="module")
def dsm(folder, image):
    return Scene.from_dsm(image, folder / "dsm.tif")


@pytest.fixture(scope="module")
def town(folder, image):
    return Scene.from_buildings(image, folder / "buildings.geojson", folder / "dtm.tif")


def street_points(scene, count, seed):
    """Points in the open, by rejection."""
    left, bottom, right, top = scene.grid.bounds
    draw = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        x, y = draw.uniform(left + 60, right - 60), draw.uniform(bottom + 60, top - 60)
        if int(scene.buildings.over(torch.tensor(x), torch.tensor(y))) < 0:
            found.append(scene.stand((x, y)))
    return found


def directions(azimuth, elevations):
    a, e = np.broadcast_arrays(np.radians(azimuth), np.radians(elevations))
    return np.stack([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)], axis=-1)


def test_skylines_of_the_surface_model(dsm):
    """From 20 street points, 8 azimuths each: our skyline, in steps of 0.05 degrees, is where brute force has it.

    A ray just under it meets something, a ray one step above it nothing.
    """
    heights, grid = dsm.terrain.heights.double().numpy(), dsm.grid
    ring = lambda values: np.pad(values, 1, constant_values=dsm.terrain.beyond)  # noqa: E731
    elevations = np.arange(-3, 89, 0.05)
    draw = np.random.default_rng(1)
    left, bottom, right, top = grid.bounds
    for _ in range(20):
        x, y = draw.uniform(left + 60, right - 60), draw.uniform(bottom + 60, top - 60)
        eye = np.array(dsm.stand(dsm._nearest_open(x, y) or (x, y)))
        azimuths = draw.uniform(0, 360, 8)
        towards = torch.tensor(directions(azimuths[:, None], elevations), dtype=torch.float32)
        hit = dsm.cast(Rays(torch.tensor(eye, dtype=torch.float32).expand_as(towards), towards)).hit.numpy()
        for azimuth, column in zip(azimuths, hit, strict=True):
            ours = elevations[column].max()
            under, over = (
                columns_hit(heights, grid.left, grid.top, grid.step, ring, eye, directions(azimuth, e))
                for e in (ours - 1e-3, ours + 0.051)
            )
            assert np.isfinite(under) and np.isinf(over)
            assert column[: column.sum()].all()  # a height field has one skyline: below it everything is hit


def test_distances_of_town_and_terrain(town):
    """From 20 street points: exact distances to buildings and ground, by overlay and by every patch along the ray."""
    draw = np.random.default_rng(2)
    footprints, tops = town.buildings.footprints, town.buildings.top.double().numpy()
    heights, grid = town.terrain.heights.double().numpy(), town.grid
    kinds = set()
    for eye in street_points(town, 20, 3):
        rays = directions(draw.uniform(0, 360, 15), draw.uniform(-8, 12, 15))
        hits = town.cast(Rays(torch.tensor(eye, dtype=torch.float64).expand(15, 3), torch.tensor(rays)))
        expected = np.array([prisms_hit(footprints, tops, np.array(eye), ray) for ray in rays])
        for i, ray in enumerate(rays[:2]):  # the ground by brute force is slow
            r, c = int((grid.top - eye[1]) / grid.step), int((eye[0] - grid.left) / grid.step)
            part = slice(max(r - 20, 0), r + 20), slice(max(c - 20, 0), c + 20)  # 80 m around
            ground = patches_hit(
                heights[part], grid.left + part[1].start * 2, grid.top - part[0].start * 2, 2.0, np.array(eye), ray
            )
            if min(ground, expected[i]) < 35:
                assert float(hits.t[i]) == pytest.approx(min(ground, expected[i]), abs=1e-4)
        built = (hits.index >= 0).numpy()
        kinds |= set(hits.kind.tolist())
        np.testing.assert_allclose(hits.t.numpy()[built], expected[built], atol=1e-3)
        assert (hits.t.numpy() <= expected + 1e-3).all()  # ground may be nearer, nothing may be farther
    assert {0, 1, 3} <= kinds


def test_the_view_from_above_is_the_image(dsm, town, image):
    for scene in (dsm, town):
        grid = scene.grid
        above = OrthographicCamera.above((0, 0, scene.ceiling + 10), grid.columns, grid.rows, grid.step)
        view = render(scene, above)
        seen = view.seen.numpy()
        assert seen.mean() > 0.999
        shown = (view.rgb.numpy() * 255).round().astype(int)
        error = (shown - to_rgb(image))[seen]
        assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) > 40  # in fact every pixel is the same
        assert not error.any()


def test_panorama_and_perspective_agree(town):
    eye = street_points(town, 1, 5)[0]
    pano = render(town, Panorama.looking(town.frame, eye, width=720, height=360))
    camera = Camera.looking(town.frame, eye, heading=123, pitch=4, fov=60, width=120, height=90)
    view = render(town, camera)
    rays = camera.rays(dtype=torch.float64)
    column, row = pano.camera.project(rays.at(torch.ones(rays.shape, dtype=torch.float64)))[0].floor().long().unbind(-1)
    assert (pano.kind[row, column] == view.kind).float().mean() > 0.95
    same = (pano.kind[row, column] == view.kind) & ~view.sky
    apart = (pano.distance[row, column] / view.distance - 1).abs()[same]
    assert apart.median() < 0.03


def test_buildings_have_the_heights_of_their_file(town):
    assert len(town.buildings) >= 84
    tall = (town.buildings.top - town.buildings.base).numpy()
    said = np.array(
        [a["HEIGHT"] if a["HEIGHT"] is not None else np.nan for a in town.buildings.attributes], dtype=float
    )
    known = said > 0
    assert known.sum() > 75 and np.abs(tall[known] - said[known]).max() < 1e-3
    assert 276 == int(next(n for n in town.provenance["notes"] if "were holes" in n).split()[0])
