"""The nodes that go down to the ground make what a Python user gets."""

import json

import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from refiner_toys import toy_refiner

from gensat import GeoImage, Place
from gensat.comfy.ground_nodes import GensatExportScene, GensatGroundView, GensatScene
from gensat.comfy.values import Geo
from gensat.errors import InputError
from gensat.geo.crs import to_lonlat
from gensat.render.cameras import Camera
from gensat.render.gbuffers import render
from gensat.render.request import open_light
from gensat.render.scene import Scene
from gensat.render.streets.dress import DressedLight

LEFT, TOP = 500_000.0, 5_500_000.0
LOOK = {"heading": 0.0, "pitch": 0.0, "fov": 90.0, "panorama": False, "width": 32, "height": 24, "eye": 1.7}


@pytest.fixture
def block(tmp_path, monkeypatch):
    """A green image of 64 m with a block of 10 m in its north; (image, footprints, a place south of it)."""
    image = GeoImage(
        np.full((64, 64, 3), (60, 120, 60), np.uint8), crs="EPSG:32633", transform=Affine(1, 0, LEFT, 0, -1, TOP)
    )
    shape = json.loads(shapely.to_geojson(shapely.box(LEFT + 20, TOP - 14, LEFT + 44, TOP - 4)))
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    feature = {"type": "Feature", "properties": {"height": 10}, "geometry": shape}
    (tmp_path / "block.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})
    )
    monkeypatch.chdir(tmp_path)
    lon, lat = to_lonlat(image.crs, LEFT + 32, TOP - 32)
    return image, "block.geojson", Place(float(lon), float(lat))


def test_a_view_is_what_the_renderer_gives(block):
    image, footprints, place = block
    (scene,) = GensatScene().make("", footprints, "0", 0.0, geo=Geo((image,)))
    plain = {**LOOK, "samples": 1, "facades": "none"}
    picture, depth, invented = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **plain)
    own = Scene.from_buildings(image, footprints, 0.0)
    camera = Camera.looking(own.frame, own.stand(place), heading=0.0, fov=90.0, width=32, height=24)
    view = render(own, camera)
    torch.testing.assert_close(picture[0], view.rgb)
    assert picture.shape == (1, 24, 32, 3) and depth.shape == picture.shape and invented.shape == (1, 24, 32)
    assert invented[0][view.kind == 3].all() and not invented[0][view.seen].any()
    assert depth.max() == 1 and depth[0][view.sky].max() == 0
    dressed, _, still = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **LOOK, samples=1, seed=2)
    light = open_light(own, seed=2)
    assert isinstance(light, DressedLight)
    torch.testing.assert_close(dressed[0], render(own, camera, light=light).rgb)
    assert torch.equal(still, invented) and not torch.equal(dressed, picture)
    around, _, _ = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **{**LOOK, "panorama": True})
    assert around.shape == (1, 24, 32, 3)


def test_a_refiner_paints_the_view(block):
    image, footprints, place = block
    (scene,) = GensatScene().make("", footprints, "0", 0.0, geo=Geo((image,)))
    asked = {**LOOK, "width": 96, "height": 64, "samples": 1, "facades": "none"}
    raw, _, _ = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **asked)
    painter = {"refiner": toy_refiner(), "prompt": "red houses", "seed": 3}
    made, _, invented = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **asked, **painter)
    again, _, _ = GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **asked, **painter)
    suits = {**asked, "facades": "what suits"}  # which the refiner is shown
    assert not torch.equal(made, GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **suits, **painter)[0])
    assert torch.equal(made, again) and not torch.equal(made, raw)
    assert torch.equal((made != raw).any(-1) & (invented == 0), torch.zeros_like(invented, dtype=torch.bool))  # the sky
    with pytest.raises(InputError, match="from above"):
        GensatGroundView().look(scene, lon=place.lon, lat=place.lat, **asked, refiner=object())


def test_a_scene_is_written_under_a_new_name_each_time(block):
    image, footprints, _ = block
    (scene,) = GensatScene().make("", footprints, "0", 0.0, geo=Geo((image,)))
    paths = [GensatExportScene().save(scene, ".glb", "scenes/block")["result"][0] for _ in range(2)]
    assert [p.rsplit("/", 1)[1] for p in paths] == ["block_00001_.glb", "block_00002_.glb"]
    with pytest.raises(InputError, match="outside the output folder"):
        GensatExportScene().save(scene, ".glb", "../block")


def test_what_is_wrong_is_said(block):
    image, footprints, place = block
    with pytest.raises(InputError, match="connect geo, or name a file"):
        GensatScene().make("", footprints, "0", 0.0)
    with pytest.raises(InputError, match="nothing is known of heights"):
        GensatScene().make("", "", "", 0.0, geo=Geo((image,)))
    with pytest.raises(InputError, match="does not exist"):
        GensatScene().make("", "", "dtm.tif", 0.0, geo=Geo((image,)))
    (scene,) = GensatScene().make("", footprints, "0", 0.0, geo=Geo((image,)))
    with pytest.raises(InputError, match="outside the image"):
        GensatGroundView().look(scene, lon=place.lon + 1, lat=place.lat, **LOOK)


def test_a_file_saved_again_is_read_again(block, tmp_path):
    first = GensatScene.IS_CHANGED("", "block.geojson", "0")
    assert first == GensatScene.IS_CHANGED("", "block.geojson", "0")
    (tmp_path / "block.geojson").write_text("{}")
    assert first != GensatScene.IS_CHANGED("", "block.geojson", "0")


@pytest.mark.parametrize("panorama", [True, False])
def test_a_published_model_sees_what_its_pipeline_sees(panorama, tmp_path):
    from published_toys import plain_model

    from gensat.comfy.density_nodes import GensatPublishedView
    from gensat.pipelines.density import DensityGroundPipeline

    draw = np.random.default_rng(2)
    pixels = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = GeoImage(pixels, crs="EPSG:32633", transform=Affine(1, 0, LEFT, 0, -1, TOP))
    pipe, place = DensityGroundPipeline(plain_model()), image.place
    light, sky = torch.full((1, 64, 128, 3), 0.6), torch.zeros(1, 64, 128)
    sky[:, :30] = 1
    look = {"heading": 40.0, "pitch": 0.0, "fov": 60.0, "panorama": panorama, "size": 64, "geo": Geo((image,))}
    picture, depth, invented = GensatPublishedView().look(pipe, place.lon, place.lat, **look, light=light, sky=sky)
    shape = {} if panorama else {"fov": 60.0, "size": (64, 64)}
    own = pipe(image, place, heading=40.0, light=light[0].numpy(), sky=sky[0].numpy(), **shape).views[0]
    torch.testing.assert_close(picture[0], own.rgb, atol=1e-4, rtol=0)
    assert picture.shape == depth.shape == (1, *own.sky.shape, 3) and depth.max() == 1
    assert torch.equal(invented[0] == 0, own.sky)
    found = GensatPublishedView().look(pipe, place.lon, place.lat, **look, light=light)[0]
    assert found.shape == picture.shape  # its sky is looked for
    np.save(tmp_path / "numbers.npy", np.ones(270))
    numbers = str(tmp_path / "numbers.npy")
    assert GensatPublishedView().look(pipe, place.lon, place.lat, **look, histogram=numbers)[0].shape == picture.shape
    assert GensatPublishedView.IS_CHANGED(histogram=numbers) != GensatPublishedView.IS_CHANGED()
    for wrong, words in (
        ({"light": light.expand(2, -1, -1, -1)}, "connect one panorama"),
        ({}, "no light was given"),
        ({"light": light, "histogram": numbers}, "both a histogram and a panorama"),
        ({"light": light, "geo": None}, "connect geo, or name a file"),
    ):
        with pytest.raises(InputError, match=words):
            GensatPublishedView().look(pipe, place.lon, place.lat, **{**look, **wrong})
    with pytest.raises(InputError, match="no published ground-view model"):
        GensatPublishedView().look(toy_refiner(), place.lon, place.lat, **look, light=light)
