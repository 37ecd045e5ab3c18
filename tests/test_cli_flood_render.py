"""gensat flood render, and its node: the picture of a computed flood."""

import json

import numpy as np
import pytest
from test_flood_pipeline import pipe, scene, water  # noqa: F401

from gensat import GeoImage
from gensat.cli import run
from gensat.comfy.flood_render_nodes import GensatFloodRender
from gensat.comfy.values import Geo
from gensat.geo.canvas import Canvas


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):  # noqa: F811
    made = tmp_path_factory.mktemp("flood")
    pipe.save_pretrained(made / "model")
    scene().save(made / "image.tif")
    canvas = Canvas.like(scene())
    canvas.image(water()[..., None], bands=["depth"]).save(made / "depth.tif")
    height = np.zeros((64, 64), np.float32)
    height[20:30, 20:30] = 9.0
    canvas.image(height[..., None], bands=["heights"]).save(made / "heights.tif")
    return made


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def check(name: str, style: str) -> GeoImage:
    before, after = GeoImage.open("image.tif"), GeoImage.open(name)
    dry = water() == 0
    dry[20:30, 20:30] = True
    assert np.array_equal(after.array[dry], before.array[dry])
    assert (after.array != before.array).any(-1)[~dry].mean() > 0.8
    assert after.crs == before.crs and after.provenance["flood"] == style and after.provenance["synthetic"]
    assert (after.provenance["image"], after.provenance["depth"]) == ("image.tif", "depth.tif")
    return after


def test_optics_from_the_command_line(folder, capsys):
    words = ["--heights", "heights.tif", "--water", "mud", "--wind", "4", "--seed", "2", "--json"]
    assert (
        run(["flood", "render", "image.tif", "--depth", "depth.tif", "--style", "optical", *words, "-o", "a.tif"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    check("a.tif", "optical")
    assert said["style"] == "optical" and 0.2 < said["water_share"] < 0.5 and said["depth_max"] == 1.5
    assert run(["flood", "render", "image.tif", "--depth", "depth.tif", "--style", "optical", "-o", "a.tif"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_network_from_the_command_line(folder, capsys):
    words = ["--heights", "heights.tif", "--model", "model", "--seed", "3", "--steps", "2", "-q"]
    assert (
        run(["flood", "render", "image.tif", "--depth", "depth.tif", "--style", "diffusion", *words, "-o", "b.tif"])
        == 0
    )
    made = check("b.tif", "diffusion")
    assert made.provenance["seed"] == 3 and made.provenance["steps"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--style", "optical", "--prompt", "a lake"], "no option --prompt"),
        (["--style", "diffusion", "--wind", "3"], "no option --wind"),
        (["--style", "pix2pixhd"], "no pix2pixHD weights"),
        (["--style", "pix2pixhd", "--model", "model"], "no model for the style"),
        (["--style", "optical", "--water", "beer"], "no water 'beer'"),
        (["--style", "optical", "--heights", "heights.tif", "--buildings", "heights.tif"], "give one of them"),
        (["--style", "optical", "--cloud", "40"], "0 to 1"),
        (["--style", "optical", "--gsd", "1"], "leave it out"),
    ],
)
def test_what_is_wrong_is_one_sentence(folder, capsys, words, message):
    assert run(["flood", "render", "image.tif", "--depth", "depth.tif", *words, "-o", "wrong.tif"]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) <= 3
    assert not (folder / "wrong.tif").exists()


def test_the_node_makes_what_the_command_makes(folder):
    assert (
        run(
            [
                "flood",
                "render",
                "image.tif",
                "--depth",
                "depth.tif",
                "--style",
                "optical",
                "--seed",
                "1",
                "-q",
                "-o",
                "c.tif",
            ]
        )
        == 0
    )
    picture, geo, mask = GensatFloodRender().render(
        "depth.tif", "optical", "silt", 5.0, "", 2.0, 1, geo=Geo((GeoImage.open("image.tif"),))
    )
    assert np.array_equal(geo.scenes[0].array, GeoImage.open("c.tif").array)
    assert picture.shape == (1, 64, 64, 3) and np.array_equal(mask[0].numpy() == 1, water() > 0)


def test_the_node_paints_with_a_model(folder, pipe):  # noqa: F811
    _, geo, _ = GensatFloodRender().render(
        "depth.tif", "diffusion", "silt", 1.5, "a flood", 2.0, 1, file="image.tif", model=pipe, heights="heights.tif"
    )
    assert geo.scenes[0].provenance["prompt"] == "a flood" and geo.scenes[0].provenance["objects"] == "heights"
