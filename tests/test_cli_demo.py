"""``gensat demo`` and ``gensat evaluate``: what is wrong is said before a model is loaded, and leaves nothing behind."""

import json
import os

import pytest
from saved_toy import toy_folder

import gensat.hub.load
from gensat import GeoImage
from gensat.cli import demo, run


def snapshot(folder) -> dict:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a file, a folder with results, and a model that fails when it is loaded."""
    (tmp_path / "file.html").write_text("before")
    (tmp_path / "old").mkdir()
    for name in ("houston-2017-07.tif", "figures.json"):
        (tmp_path / "old" / name).write_text("before")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("before")

    def load(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(gensat.hub.load, "load", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = [
    (["-o", "file.html"], "file.html is a file where a folder is needed"),
    (["-o", "old"], "exists; choose another name or overwrite it with --overwrite"),
    (["-o", "page"], "index.html exists"),
    (["-o", "absent/new"], "does not exist; create it first"),
    (["-o", "new", "--seed", "-1"], "-1"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), [*WRONG, (["-o", "new", "--model", "nobody"], "nobody")], ids=lambda x: " ".join(x)
)
def test_a_wrong_demo_is_exit_2_and_leaves_nothing(folder, capsys, arguments, words):
    before = snapshot(folder)
    model = [] if "--model" in arguments else ["--model", str(toy_folder())]
    assert run(["demo", *arguments, *model]) == 2
    assert words in capsys.readouterr().err and snapshot(folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *WRONG,
        (["-o", "new", "--parts", "place,bogus"], "no part of the evaluation is called 'bogus'"),
        (["-o", "new", "--parts", ","], "no part is named"),
        (["-o", "new", "--steps", "0"], "0 steps"),
        (["-o", "new", "--data", "absent"], "--data absent does not exist"),
        (["nobody", "-o", "new"], "nobody"),
    ],
    ids=lambda x: " ".join(x),
)
def test_a_wrong_evaluation_is_exit_2_and_leaves_nothing(folder, capsys, arguments, words):
    before = snapshot(folder)
    model = [] if arguments[0] == "nobody" else [str(toy_folder())]
    assert run(["evaluate", *model, *arguments]) == 2
    assert words in capsys.readouterr().err and snapshot(folder) == before


def test_a_device_that_is_not_here_leaves_no_folder(tmp_path, capsys):
    assert run(["demo", "-o", str(tmp_path / "new"), "--model", str(toy_folder()), "--device", "meta"]) == 2
    assert "no device 'meta' here" in capsys.readouterr().err and not os.listdir(tmp_path)


def test_the_demo_makes_what_its_page_shows_and_replaces_it_only_when_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "SIDE", 32)
    arguments = ["demo", "-o", str(tmp_path / "new"), "--model", str(toy_folder()), "--json", "--quiet"]
    assert run(arguments) == 0
    made = json.loads(capsys.readouterr().out)
    page = (tmp_path / "new" / "index.html").read_text()
    assert len(made["images"]) == 11 and all(f'src="{name}"' in page for name in made["images"])
    flooded = GeoImage.open(tmp_path / "new" / "houston-2017-08-31.tif")
    assert flooded.place.lat == pytest.approx(29.76, abs=1e-6) and flooded.provenance["layout"] is None
    assert GeoImage.open(tmp_path / "new" / "village.tif").provenance["layout"]
    assert run(arguments) == 2
    assert run([*arguments, "--overwrite"]) == 0
    assert not [name for name in os.listdir(tmp_path / "new") if name.startswith(".")]
