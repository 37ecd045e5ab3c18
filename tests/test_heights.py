"""Heights of an image from end to end: what goes in, what comes out and where it lies, the sources, and what is refused."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from published_toys import plain_model

from gensat import GeoImage, load
from gensat.cli import run
from gensat.comfy import NODE_CLASS_MAPPINGS
from gensat.comfy.values import Geo
from gensat.errors import InputError, ModelError
from gensat.geo.crs import to_lonlat
from gensat.geo.elevation import HeightMap
from gensat.geo.sun import SunPosition
from gensat.geo.warp import on_metric_grid
from gensat.hub.resolve import shipped
from gensat.hub.spec import ModelSpec
from gensat.models.height import HeightModel
from gensat.pipelines.density import DensityGroundPipeline
from gensat.pipelines.height_sources import density_heights, height_request
from gensat.pipelines.heights import HeightPipeline, constants, estimate_heights
from gensat.render.scene import Scene
from gensat.train.height_figures import measure
from gensat.train.height_pairs import make_pair
from gensat.train.heights import save_model
from gensat.types import Acquisition

CRS, LEFT, TOP = "EPSG:32633", 700_000.0, 5_500_000.0  # east in its zone: grid north is 2 degrees off
SUN = SunPosition(150, 40)


def picture(height=48, width=64, gsd=0.5, *, crs=CRS, **more):
    """Smooth colours, so that resampling changes little."""
    y, x = np.mgrid[0:height, 0:width] * (gsd / 0.5)
    waves = [0.5 + 0.4 * np.sin(x / a) * np.cos(y / b) for a, b in ((9, 7), (13, 11), (6, 15))]
    array = (np.stack(waves, axis=2) * 255).astype(np.uint8)
    transform = Affine(gsd, 0, LEFT, 0, -gsd, TOP) if crs else None
    return GeoImage(array, crs=crs, transform=transform, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network as it is saved."""
    torch.manual_seed(1)
    net = HeightModel(channels=(8, 12), blocks=(1, 1), sun_width=6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.3 if parameter.ndim == 1 else 0.8 / np.sqrt(parameter[0].numel()))
        net.head[-1].bias[:16] = 1.5
    path = tmp_path_factory.mktemp("models") / "toy-heights"
    save_model(net, path, "mean absolute error 9.9 m")
    return path


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder, device="cpu", dtype="float32")


def test_a_saved_model_loads_as_what_it_is(folder, pipe):
    assert isinstance(pipe, HeightPipeline) and pipe.spec.licence == "Apache-2.0"
    assert next(pipe.model.parameters()).dtype == torch.float32 and (folder / "LICENSE").is_file()
    with pytest.raises(ModelError, match="restore"):
        broken = folder.parent / "broken"
        broken.mkdir()
        for file in ("model_index.json", "gensat.json"):
            (broken / file).write_text((folder / file).read_text())
        load(broken, device="cpu")


def test_heights_lie_where_the_image_lies(pipe, tmp_path):
    image = picture()
    found = pipe(image, sun=SUN)
    assert found.heights.crs == image.crs and found.heights.transform == image.transform
    assert found.above.shape == (48, 64) == found.spread.shape and (found.above >= 0).all() and found.above.std() > 0.05
    assert found.spread.min() > 0 and np.array_equal(found.heights.heights, found.above)
    found.save(tmp_path / "h.tif")
    with rasterio.open(tmp_path / "h.tif") as file:
        tags = file.tags()
        assert file.descriptions == ("height",) and file.units == ("m",) and file.crs.to_epsg() == 32633
        assert tags["GENSAT_ESTIMATE"] == "yes" and "9.9 m" in tags["GENSAT_ACCURACY"]
        assert json.loads(tags["GENSAT_SUN"]) == [150, 40]
        np.testing.assert_array_equal(file.read(1), found.above)
    scene = Scene.from_dsm(image, HeightMap.open(tmp_path / "h.tif"))
    assert scene.frame.origin[2] + scene.ceiling == pytest.approx(float(found.above.max()), abs=1e-3)


def test_the_result_does_not_depend_on_tiles(pipe):
    image = picture(150, 170)
    whole, tiled = (pipe(image, sun=SUN, tile=tile).above for tile in (None, 64))
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


def test_terrain_lies_under_the_heights(pipe):
    image = picture()
    slope = np.linspace(100, 110, 64, dtype=np.float32)[None].repeat(48, 0)
    ground = HeightMap(slope, image.crs, image.transform, "NAVD88 height")
    bare, raised, level = (pipe(image, terrain=t) for t in (None, ground, 50.0))
    np.testing.assert_allclose(raised.heights.heights - slope, bare.above, atol=1e-4)
    np.testing.assert_allclose(level.heights.heights, bare.above + 50, atol=1e-4)
    assert raised.heights.datum == "NAVD88 height" and any("level at 0" in note for note in bare.notes)
    assert not any("level at 0" in note for note in raised.notes)


def test_another_gsd_is_brought_to_the_models_and_back(pipe):
    fine, own = picture(192, 256, 0.125), picture(48, 64)
    a, b = pipe(fine), pipe(own)
    assert a.above.shape == (192, 256)
    coarse = a.above.reshape(48, 4, 64, 4).mean((1, 3))
    assert np.corrcoef(coarse[4:-4, 4:-4].ravel(), b.above[4:-4, 4:-4].ravel())[0, 1] > 0.9
    with pytest.raises(InputError, match=r"5 m per pixel; heights can be estimated from 0.1 to 2 m"):
        pipe(picture(gsd=5.0))
    with pytest.raises(InputError, match="coarsen it"):
        pipe(picture(gsd=0.05))


def test_pixels_without_a_value_get_no_height(pipe):
    image = picture()
    valid = np.ones((48, 64), bool)
    valid[10:20, 30:40] = False
    found = pipe(GeoImage(image.array, crs=image.crs, transform=image.transform, valid=valid))
    assert np.array_equal(np.isnan(found.heights.heights), ~valid) and np.array_equal(np.isnan(found.spread), ~valid)
    assert any("100 pixels" in note for note in found.notes)
    values = np.full((8, 8, 3), np.nan, np.float32)
    with pytest.raises(InputError, match="no pixel with a value"):
        pipe(GeoImage(values, crs=image.crs, transform=image.transform))


def test_an_image_in_degrees_is_warped_to_utm(pipe):
    image = picture(200, 200)
    lon, lat = to_lonlat(image.crs, LEFT + 50, TOP - 50)
    step = 0.5 / 111_320
    transform = Affine(step / np.cos(np.radians(lat)), 0, lon, 0, -step, lat)
    degrees = GeoImage(image.array[:80, :100], crs="EPSG:4326", transform=transform)
    found = pipe(degrees)
    assert found.heights.crs.to_epsg() == 32633 and "warped from EPSG:4326 to EPSG:32633" in found.notes[0]
    assert found.image.gsd == pytest.approx(0.5, rel=0.01)
    x, y = found.image.place.lon, found.image.place.lat
    assert abs(x - degrees.place.lon) < 2e-5 and abs(y - degrees.place.lat) < 2e-5
    middle = found.image.array[found.image.height // 2 - 5 :][:10, found.image.width // 2 - 5 :][:, :10].mean()
    assert middle == pytest.approx(degrees.array[35:45, 45:55].mean(), abs=4)
    kept, note = on_metric_grid(image)
    assert kept is image and note is None


def test_without_a_georeference_the_gsd_must_be_known(pipe):
    with pytest.raises(InputError, match="--gsd"):
        pipe(picture(crs=None))
    found = pipe(picture(crs=None), gsd=0.5)
    np.testing.assert_allclose(found.above, pipe(picture()).above, atol=1e-5)
    assert found.heights.crs is None and found.image.gsd == 0.5
    assert pipe(picture(crs=None, acquisition=Acquisition(gsd=0.5))).image.gsd == 0.5
    with pytest.raises(InputError, match="leave --gsd out"):
        pipe(picture(), gsd=1.0)
    with pytest.raises(InputError, match="no georeference, so a time"):
        pipe(picture(crs=None), gsd=0.5, time="2024-06-21T10:00Z")


def test_the_sun_is_turned_to_grid_north():
    request = height_request(picture(), sun=SUN)
    assert 1.5 < 150 - request.sun.azimuth < 3.5
    by_time = height_request(picture(), time="2024-06-21T11:00Z")
    assert 55 < by_time.sun.elevation < 66 and by_time.sun.azimuth == pytest.approx(184, abs=4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sun": SunPosition(10, -5)}, "5.0 degrees below the horizon"),
        ({"time": "2024-06-21T00:30Z"}, "below the horizon"),
        ({"time": "2024-06-21T10:00Z", "sun": SUN}, "give one of them"),
        ({"time": "2024-06-21"}, "no time of day"),
        ({"method": "lidar"}, "model, shadow, constant"),
        ({"method": "shadow"}, "need the sun"),
        ({"terrain": float("nan")}, "not finite"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        estimate_heights(picture(), **options)


def test_one_band_is_not_enough():
    grey = GeoImage(picture().array[:, :, 0], crs=CRS, transform=picture().transform)
    with pytest.raises(InputError, match="1 band; heights are read from red, green and blue"):
        estimate_heights(grey)


def test_a_density_field_is_seen_from_above(monkeypatch):
    model = plain_model()
    levels = torch.zeros(1, 8, 256, 256)
    levels[:, :5] = 500.0  # solid up to the fifth of eight levels
    monkeypatch.setattr(model, "density", lambda tile: levels)
    pipe = DensityGroundPipeline(model)
    request = height_request(picture(150, 190))
    heights = density_heights(pipe, request)
    alone = pipe.ground.above(pipe.read(picture(60, 60, crs=None))).heights
    assert heights.shape == (150, 190)
    np.testing.assert_allclose(heights[20:-20, 20:-20], float(alone[128, 128]), rtol=0.02)
    assert float(alone[128, 128]) > 1
    with pytest.raises(InputError, match="30 m wide"):
        density_heights(pipe, height_request(picture(40, 40)))


def test_the_command_writes_heights_and_their_spread(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture().save("in.tif")
    command = ["heights", "in.tif", "--model", str(folder), "-o", "h.tif", "--spread", "s.tif", "--sun", "150", "40"]
    assert run([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["method"] == "model" and data["sun"] == [150, 40] and data["width"] == 64
    heights, spread = HeightMap.open("h.tif"), HeightMap.open("s.tif")
    assert data["highest"] == pytest.approx(float(heights.heights.max())) and (spread.heights > 0).all()
    assert run(command) == 2 and "exists" in capsys.readouterr().err
    assert run([*command, "--overwrite"]) == 0
    assert "9.9 m" in GeoImage.open("s.tif").provenance["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in.tif", "-o", "h.png"], "end it with .tif"),
        (["in.tif", "-o", "h.tif", "--method", "shadow"], "need the sun"),
        (
            ["in.tif", "-o", "h.tif", "--spread", "s.tif", "--method", "shadow", "--sun", "1", "40"],
            "leave --spread out",
        ),
        (["in.tif", "-o", "h.tif", "--spread", "h.tif"], "same name"),
        (["none.tif", "-o", "h.tif"], "does not exist"),
        (["in.tif", "-o", "h.tif", "--model", "nothing-here"], "no model is called"),
        (["in.tif", "-o", "h.tif", "--model", "gensat-small"], "says nothing of heights"),
        (["in.tif", "-o", "h.tif", "--terrain", "dtm.tif"], "dtm.tif does not exist"),
        (["in.tif", "-o", "h.tif", "--sun", "150", "95"], "no direction"),
    ],
)
def test_the_command_refuses_in_a_sentence(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture().save("in.tif")
    assert run(["heights", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and len(said.splitlines()) <= 3 and not (tmp_path / "h.tif").exists()


def test_the_node_makes_what_the_function_makes(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = NODE_CLASS_MAPPINGS["GensatHeights"]()
    options = {
        "time": "",
        "sun_azimuth": 150.0,
        "sun_elevation": 40.0,
        "terrain": "12.5",
        "gsd": 0.0,
        "brightest": 20.0,
    }
    path, heights, spread = node.estimate("model", str(folder), geo=Geo((picture(),)), **options)
    own = estimate_heights(picture(), model=folder, sun=SUN, terrain=12.5)
    np.testing.assert_allclose(HeightMap.open(path).heights, own.heights.heights, atol=1e-5)
    expected = torch.from_numpy(own.above / 20).clamp(0, 1)
    torch.testing.assert_close(heights[0, :, :, 0], expected, atol=1e-5, rtol=0)
    assert heights.shape == (1, 48, 64, 3) == spread.shape and spread.max() > 0
    with pytest.raises(InputError, match="connect geo, or name a file"):
        node.estimate("model", str(folder), **options)


def test_the_documented_commands_and_python_run(tmp_path, monkeypatch, capsys):
    root = Path(__file__).resolve().parents[1]
    text = (root / "docs" / "heights.md").read_text()
    lines = re.findall(r"^(gensat heights .*)$", text, re.MULTILINE)
    (tmp_path / "assets").symlink_to(root / "assets")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert len(lines) == 2 and {p.name for p in tmp_path.glob("*.tif")} == {"heights.tif", "spread.tif", "shadows.tif"}
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["scene"].provenance["geometry"] == "surface model" and names["found"].spread.shape == (256, 256)


def test_the_shipped_model_is_small_and_says_how_good_it_is():
    folder = shipped()["gensat-heights"]
    assert sum(p.stat().st_size for p in (folder / "model").iterdir()) < 1_050_000
    spec = ModelSpec.load(folder)
    assert re.search(r"mean absolute error [0-9.]+ m over buildings", spec.description)
    report = json.loads((folder / "report.json").read_text())
    assert report["heldout"]["model"]["building"]["streets"] >= 10
    assert 0 < constants()["ground"] < constants()["all"] < constants()["building"]
    assert estimate_heights(picture(), method="constant").above[0, 0] == pytest.approx(constants()["all"])


@pytest.mark.slow
def test_the_shipped_model_beats_one_height_for_all_on_new_streets():
    pairs = [make_pair("estate", 987_654), make_pair("waterfront", 987_655)]
    pipe = load("gensat-heights", device="cpu", dtype="float32")
    figures = measure(pipe.model, pairs, constants())
    for other, group in (("constant", "ground"), ("constant", "building"), ("flat", "building")):  # over all: not yet
        assert figures["model"][group]["mae"]["value"] < figures[other][group]["mae"]["value"]
