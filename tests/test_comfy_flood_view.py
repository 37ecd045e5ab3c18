"""The Flood View node shows what the command shows."""

import numpy as np
import pytest
from test_flood_street import place  # noqa: F401  # a fixture

from gensat import GeoImage
from gensat.cli import run
from gensat.comfy.flood_view_nodes import GensatFloodView
from gensat.comfy.ground_nodes import GensatGroundView, GensatScene
from gensat.errors import InputError
from gensat.geo.classes import WATER

LOOK = {"heading": 0.0, "pitch": -5.0, "fov": 90.0, "panorama": False, "width": 48, "height": 32, "eye": 1.7}
WATERS = {"water": "silt", "wind": 1.5, "staff": 0.0, "samples": 1, "seed": 0}


@pytest.fixture
def inside(place, monkeypatch):  # noqa: F811
    folder, at = place
    monkeypatch.chdir(folder)
    (scene,) = GensatScene().make("", "", "dtm.tif", 0.0, file="a.tif")
    return scene, at, {"lon": float(at[1]), "lat": float(at[2]), **LOOK}


def test_it_is_what_the_command_makes(inside, tmp_path):
    scene, at, look = inside
    marked = {**WATERS, "staff": 2.5, "staff_lon": look["lon"], "staff_lat": look["lat"] + 6e-5}
    image, before, water = GensatFloodView().look(scene, "depth.tif", "", **look, **marked)
    words = ["--depth", "depth.tif", "--terrain", "dtm.tif", *at, "--heading", "0", "--pitch", "-5"]
    gauge = ["--gauge", at[1], f"{marked['staff_lat']:.7f}", "--staff", "2.5"]
    size = ["--width", "48", "--height", "32", "--samples", "1", "-q"]
    assert run(["flood", "view", "a.tif", *words, *gauge, *size, "-o", f"{tmp_path}/street/"]) == 0
    made = {name: GeoImage.open(tmp_path / "street" / f"{name}.png").array for name in ("view", "before")}
    apart = np.abs(image[0].numpy() * 255 - made["view"]).max(-1)
    assert (apart > 1.5).mean() < 0.01 and image.shape == (1, 32, 48, 3)  # the place is rounded to a centimetre
    np.testing.assert_allclose(before[0].numpy() * 255, made["before"], atol=1.5)
    buffers = np.load(tmp_path / "street" / "view.npz")
    assert ((water[0].numpy() == 1) != (buffers["classes"] == WATER)).mean() < 0.01 and 0.2 < water.mean() < 0.8
    dry = GensatGroundView().look(scene, **look, samples=1)[0]
    assert np.allclose(before, dry, atol=0.5 / 255 + 1e-6)  # the same camera as the other node's


def test_a_level_and_the_moments_of_a_folder(inside, tmp_path):
    scene, _, look = inside
    _, _, water = GensatFloodView().look(scene, "", "5.0", **look, **WATERS)
    depth, _, wet = GensatFloodView().look(scene, "depth.tif", "", **look, **WATERS)
    assert (water != wet).float().mean() < 0.02  # the depth is that of level 5
    full = GeoImage.open("depth.tif")
    moments = tmp_path / "flood"
    moments.mkdir()
    for seconds, share in ((60, 0.0), (120, 1.0), (180, 0.5)):
        GeoImage(full.array * share, crs=full.crs, transform=full.transform).save(moments / f"depth_{seconds:04d}s.tif")
    deepest = GensatFloodView().look(scene, str(moments), "", **look, **WATERS)
    assert np.array_equal(deepest[0], depth)
    early = GensatFloodView().look(scene, str(moments), "", **look, **WATERS, minute=1.5)
    assert early[2].sum() < deepest[2].sum()
    first = GensatFloodView.IS_CHANGED(str(moments))
    assert first == GensatFloodView.IS_CHANGED(str(moments))
    (moments / "depth_0180s.tif").unlink()
    assert first != GensatFloodView.IS_CHANGED(str(moments))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "one of them"),
        ({"depth": "depth.tif", "level": "5"}, "one of them"),
        ({"level": "high"}, "level 'high' is no number"),
        ({"level": "2"}, "below all open ground"),
        ({"level": "5", "water": "beer"}, "no water 'beer'"),
        ({"level": "5", "water": "-3"}, "sediment of water is -3"),
        ({"level": "5", "eye": 0.3}, "under water"),
        ({"level": "5", "minute": 3.0}, "a minute is one of the moments"),
        ({"depth": "none.tif"}, "does not exist"),
        ({"level": "5", "lon": 3.0}, "outside the image"),
    ],
)
def test_what_is_wrong_is_said(inside, more, told):
    scene, _, look = inside
    with pytest.raises(InputError, match=told):
        GensatFloodView().look(scene, **{"depth": "", "level": "", **look, **WATERS, **more})
