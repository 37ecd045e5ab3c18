"""Facades of footprints on the command line: there unless one says no, told in tags, records and files."""

import json

import numpy as np
import pygltflib
import pytest
import trimesh
from test_cli_ground import LEFT, TOP, at, ground, place  # noqa: F401  # place is a fixture

from gensat.cli import run
from gensat.types import GeoImage


def known(place):  # noqa: F811
    files = ["image.tif", "--buildings", "blocks.geojson", "--terrain", "dtm.tif"]
    return [str(place / name) if "." in name else name for name in files]


def test_footprints_get_facades_unless_one_says_none(place, capsys):  # noqa: F811
    asked = [*known(place), "--at", *at(LEFT + 32, TOP - 30), "--width", 64, "--samples", 1]
    for name, more in (("suits", []), ("again", ["--facades", "village"]), ("plain", ["--facades", "none"])):
        assert ground(*asked, *more, "-o", place / f"{name}.png") == 0
        words = capsys.readouterr().err
        assert ("walls are invented, as of a village" in words) == (name == "suits")
    suits, again, plain = (GeoImage.open(place / f"{name}.png") for name in ("suits", "again", "plain"))
    assert suits.provenance["facades"] == "invented, village" and "facades" not in plain.provenance
    np.testing.assert_array_equal(suits.array, again.array)  # two blocks in Europe: what suits them is a village
    wall = np.s_[18:23, 20:44]  # in the north, 16 m away
    own, bare = (picture.array[wall].std(axis=(0, 1)).max() for picture in (suits, plain))
    assert own > 10 and own > 2 * bare
    surface = [place / "image.tif", "--heights", place / "dsm.tif", "--at", *at(LEFT + 32, TOP - 30), "--width", 64]
    assert ground(*surface, "-o", place / "bare.png") == 0
    assert "facades" not in GeoImage.open(place / "bare.png").provenance


def test_facades_that_cannot_be_are_one_sentence(place, capsys):  # noqa: F811
    asked = ["--at", *at(LEFT + 32, TOP - 30), "-o", place / "view.png"]
    assert ground(*known(place), *asked, "--facades", "gothic") == 2
    assert "no style 'gothic' of facades" in capsys.readouterr().err
    assert ground(place / "image.tif", "--heights", place / "dsm.tif", *asked, "--facades", "village") == 2
    assert "facades are for footprints" in capsys.readouterr().err
    assert run(["scene", "export", *known(place), "--facades", "village", "-o", str(place / "a.las")]) == 2
    assert "facades are drawn on meshes" in capsys.readouterr().err
    assert not any((place / name).exists() for name in ("view.png", "a.las"))


def test_the_record_of_a_tour_and_its_gltf_say_the_style(place, capsys):  # noqa: F811
    asked = [*known(place), "--at", *at(LEFT + 32, TOP - 30), "--width", 32, "--samples", 1]
    assert ground(*asked, "-o", f"{place}/tour/") == 0
    assert json.loads((place / "tour" / "run.json").read_text())["facades"] == "village"
    facts = (
        pygltflib.GLTF2().load(str(place / "tour" / "scene.glb")).scenes[0].extras["gensat"]["provenance"]["facades"]
    )
    assert facts["style"] == "village" and facts["texels_per_metre"] == 8.0


@pytest.mark.parametrize("name", ["a.glb", "a.obj"])
def test_an_export_has_facades_or_none(place, capsys, name):  # noqa: F811
    for style, some in ((None, True), ("none", False)):
        words = [] if style is None else ["--facades", style]
        out = ["-o", str(place / f"{style}{name}"), "--json"]
        assert run(["scene", "export", *known(place), *words, *out]) == 0
        assert json.loads(capsys.readouterr().out)["facades"] == ("village" if some else None)
        parts = trimesh.load(place / f"{style}{name}").geometry.values()
        assert any("facades" in part.visual.material.name for part in parts) == some
