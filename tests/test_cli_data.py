"""``gensat data``: exit codes, one-sentence errors, JSON, and the commands of docs/data.md."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from shard_toys import jpeg, rows_and_columns, scene, shard, write_tar

from gensat.cli import run
from gensat.train.shards import ShardReader

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "data.md").read_text()
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("gensat data")
]


def cli(*arguments: object) -> int:
    return run(["data", *map(str, arguments)])


@pytest.fixture
def image(tmp_path) -> Path:
    return scene(tmp_path / "x_20180716.tif", rows_and_columns(64, 64))


def test_pack_and_check_by_command(tmp_path, image, capsys):
    assert (
        cli(
            "pack",
            image,
            "-o",
            tmp_path / "out",
            "--size",
            32,
            "--class",
            "park",
            "--cloud",
            0.1,
            "--sensor",
            "Aerial",
            "--json",
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == {"train": 4, "heldout": 0} and found["shards"] == {"out-train-000.tar": 4}
    sample = next(ShardReader(tmp_path / "out").samples())
    assert (
        sample.klass == "park"
        and str(sample.acquisition.date) == "2018-07-16"
        and sample.acquisition.sensor == "aerial"
    )
    assert cli("check", tmp_path / "out", "-o", tmp_path / "report", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clean"] and told["samples"] == 4 and (tmp_path / "report" / "index.html").is_file()
    assert cli("check", tmp_path / "out", "-o", tmp_path / "report") == 2
    assert "exists" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path, image, capsys):
    assert (
        cli("pack", image, "-o", tmp_path / "out", "--size", 32, "--heldout-share", 0.5, "--block-km", 0.3, "--dry-run")
        == 0
    )
    assert "would be packed" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_check_exits_1_when_a_sample_is_broken(tmp_path, capsys):
    path = write_tar(tmp_path / "a.tar", {"a": {"jpg": jpeg((1, 2, 3)), "json": b'{"lat": 95, "lon": 1}'}})
    assert cli("check", path) == 1
    out, err = capsys.readouterr()
    assert "a.tar:a: latitude 95" in out and err == ""
    assert cli("check", path, "--json") == 1 and json.loads(capsys.readouterr().out)["broken"]
    shard(tmp_path / "b.tar", 3)
    assert cli("check", tmp_path / "b.tar", "--quiet") == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heldout", "1 2 3"], "is no box"), (["--heldout", "1 95 2 96"], "latitude 95"), (["--heldout-numbers", "9-1"], "no range"),
        (["--scale", "5,1"], "no range"), (["--column", "caption"], "names no column"), (["--cloud", "40"], "40 percent is 0.4"),
        (["--date", "2018-13-01"], "month 13"), (["--gsd", "-1"], "gsd -1"), (["--crs", "EPSG:99999"], "not known"),
        (["--crs", "EPSG:4326"], "not a projected system"), (["--legend", "nothing", "--layout", "{folder}/x.tif"], "does not exist"),
        (["--size", "4"], "8 or more"), (["--layout", "none.geojson"], "does not exist"), (["--bands", "swir"], "no band 'swir'"),
        (["--name", ""], ""), (["--scheme", "coco"], "gensat, diffusionsat, geosynth"), (["--picture-gsd", "0"], "gsd 0"),
        (["--date-pattern", "("], "regular expression"), (["--straddle", "keep"], "straddle"), (["--format", "gif"], "format 'gif'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(tmp_path, image, capsys, options, words):
    code = cli("pack", image, "-o", tmp_path / "out", "--size", 32, *options)
    out, err = capsys.readouterr()
    if words:
        assert (
            code == 2
            and words in err
            and len(err.strip().splitlines()) <= 3
            and err.startswith("error: ")
            and out == ""
        )
        assert not list(tmp_path.glob("out/*.tar"))


@pytest.mark.parametrize(("argument", "words"), [("none.tar", "no shard"), ("none-{000..002}.tar", "no shard")])
def test_shards_that_are_not_there(tmp_path, monkeypatch, capsys, argument, words):
    monkeypatch.chdir(tmp_path)
    assert cli("check", argument) == 2 and words in capsys.readouterr().err


def test_an_unwritable_place_is_one_sentence(tmp_path, image, capsys):
    assert cli("pack", image, "-o", tmp_path / "a" / "b", "--size", 32) == 2
    assert "create it first" in capsys.readouterr().err
    assert cli("pack", image, "-o", image, "--size", 32) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_scene_that_is_damaged_in_its_middle_is_one_sentence(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 256, 256), dtype=np.uint8)
    path = scene(tmp_path / "a.tif", pixels, compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(20_000))
    assert cli("pack", path, "-o", tmp_path / "out", "--size", 64) == 2
    err = capsys.readouterr().err
    assert "cannot be read as a raster" in err and len(err.strip().splitlines()) <= 3
    assert cli("pack", path, "-o", tmp_path / "out", "--size", 64, "--skip-bad", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"]["train"] and "a.tif" in found["bad"]


@pytest.mark.data
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("-o ")[-1].split()[0])
def test_a_documented_command_runs(line, tmp_path_factory, monkeypatch, capsys):
    """In one folder, in the order of the page: later commands read what earlier ones wrote."""
    folder = tmp_path_factory.getbasetemp() / "docs-data"
    folder.mkdir(exist_ok=True)
    for name in ("assets", "rasters"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name if name == "assets" else DATA / "rasters")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GENSAT_DATA", str(DATA))
    code = run(shlex.split(os.path.expandvars(line))[1:] + (["--overwrite"] if "-o " in line else []))
    assert code == 0, capsys.readouterr().err


def test_the_documented_options_exist(capsys):
    for command in ("pack", "check"):
        assert cli(command, "--help") == 0
    shown = capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert named and not [option for option in named if option[:16] not in shown]
