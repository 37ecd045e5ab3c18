"""The flood node makes what the command line makes."""

import json

import numpy as np
import pytest

from gensat import GeoImage
from gensat.cli import run
from gensat.comfy.flood_nodes import GensatFloodSimulate
from gensat.errors import InputError

REST = {"rain": "", "inflow": "", "hours": 0.0, "water_from": "", "boundary": ""}


@pytest.fixture
def dem(tmp_path, monkeypatch):
    from test_cli_flood import GRID, UTM

    bed = (8 - 0.1 * np.arange(30)[None] + 0.05 * np.abs(np.arange(24)[:, None] - 12)).astype(np.float32)
    GeoImage(bed, ["elevation"], UTM, GRID).save(tmp_path / "dem.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_what_the_command_makes(dem):
    from test_cli_flood import lonlat

    place = " ".join(lonlat(12, 29))
    path, depth, preview, extent = GensatFloodSimulate().simulate(
        "dem.tif", "auto", "6.0", **{**REST, "water_from": place}
    )
    assert run(["flood", "simulate", "dem.tif", "--level", "6.0", "--from", *lonlat(12, 29), "-o", "out", "-q"]) == 0
    np.testing.assert_array_equal(GeoImage.open(depth).array, GeoImage.open("out/depth.tif").array)
    assert preview.shape[0] == 1 and preview.shape[-1] == 3 and 0 <= preview.min() and preview.max() <= 1
    assert extent.shape == (1, 24, 30)
    np.testing.assert_array_equal(extent[0].numpy() == 1, GeoImage.open("out/extent.tif").array[:, :, 0] == 1)
    again, *_ = GensatFloodSimulate().simulate("dem.tif", "auto", "6.0", **{**REST, "water_from": place})
    assert again != path and (dem / again / "run.json").exists()


@pytest.mark.parametrize(("method", "hours"), [("bathtub", 0.0), ("inertial", 0.05)])
def test_oblique_walls_are_those_of_the_command(dem, method, hours):
    from test_cli_flood import GRID, UTM, lonlat

    line = [[GRID.c + 223, GRID.f - 17], [GRID.c + 293, GRID.f - 87]]
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{UTM.to_epsg()}"}}
    feature = {
        "type": "Feature",
        "properties": {"height": 2.0},
        "geometry": {"type": "LineString", "coordinates": line},
    }
    (dem / "walls.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    given = {**REST, "hours": hours, "water_from": " ".join(lonlat(12, 29)), "walls": "walls.geojson"} | (
        {"rise": 0.02} if hours else {}
    )
    _, depth, *_ = GensatFloodSimulate().simulate("dem.tif", method, "6.0", **given)
    words = ["--level", "6.0", "--method", method, "--from", *lonlat(12, 29), "--walls", "walls.geojson"]
    words += ["--hours", str(hours), "--rise", "0.02"] if hours else []
    assert run(["flood", "simulate", "dem.tif", *words, "-o", "out", "-q"]) == 0
    np.testing.assert_array_equal(GeoImage.open(depth).array, GeoImage.open("out/depth.tif").array)
    at = words.index("--walls")
    assert run(["flood", "simulate", "dem.tif", *words[:at], *words[at + 2 :], "-o", "open", "-q"]) == 0
    assert (GeoImage.open("open/depth.tif").array != GeoImage.open("out/depth.tif").array).any()


def test_an_inflow_moves_the_bar(dem, monkeypatch):
    from test_cli_flood import lonlat

    from gensat.comfy import host

    seen = []
    monkeypatch.setattr(host, "on_step", lambda steps: lambda pipe, step, time, values: seen.append(step) or {})
    monkeypatch.setattr("gensat.hydro.stepping._GLANCE", 0.0)
    words = {**REST, "inflow": " ".join([*lonlat(12, 1), "5"]), "hours": 0.02, "boundary": "E=open N=closed"}
    path, *_ = GensatFloodSimulate().simulate("dem.tif", "auto", "", **words)
    said = json.loads((dem / path / "run.json").read_text())
    assert said["method"] == "inertial" and said["boundaries"]["east"] == "open"
    assert seen == sorted(seen) and seen[-1] > 80


def test_a_sea_that_rises_leaves_its_moments(dem):
    """As the command does, in the folder that the node Flood View takes."""
    from test_cli_flood import lonlat

    from gensat.render.flood_steps import FloodSteps

    given = {**REST, "hours": 0.05, "water_from": " ".join(lonlat(12, 29)), "rise": 0.02, "every": 1.0}
    path, *_ = GensatFloodSimulate().simulate("dem.tif", "inertial", "6.0", **given)
    words = ["--level", "6.0", "--method", "inertial", "--hours", "0.05", "--from", *lonlat(12, 29), "--rise", "0.02", "--every", "1"]  # fmt: skip
    assert run(["flood", "simulate", "dem.tif", *words, "-o", "out", "-q"]) == 0
    for name in ("depth.tif", "arrival.tif", "steps/depth_0000060.0s.tif", "steps/depth_0000180.0s.tif"):
        np.testing.assert_array_equal(GeoImage.open(dem / path / name).array, GeoImage.open(f"out/{name}").array)
    assert len(FloodSteps.open(path)) == len(FloodSteps.open("out")) == 3
    assert json.loads((dem / path / "run.json").read_text())["rise"] == 0.02


def test_storms_and_hydrographs_from_files(dem):
    from test_cli_flood import lonlat

    (dem / "storm.csv").write_text("min,mm_h\n0,1200\n1,0\n")
    (dem / "river.csv").write_text("min,m3_s\n0,0\n1,4\n2,0\n")
    given = {"hyetograph": "storm.csv", "hydrograph": "river.csv", "curve_number": 90.0, "hours": 0.04}
    path, *_ = GensatFloodSimulate().simulate(
        "dem.tif", "auto", "", **{**REST, "inflow": " ".join([*lonlat(12, 1), "1"]), **given}
    )
    balance = json.loads((dem / path / "run.json").read_text())["balance_m3"]
    assert balance["inflow"] == pytest.approx(240.0) and 0 < balance["infiltrated"] < balance["rain"]
    first = GensatFloodSimulate.IS_CHANGED("dem.tif", "", hydrograph="river.csv")
    (dem / "river.csv").write_text("")
    assert first != GensatFloodSimulate.IS_CHANGED("dem.tif", "", hydrograph="river.csv")


def test_what_is_wrong_is_said(dem):
    for values, message in (
        ({"level": ""}, "nothing floods"),
        ({"inflow": "1 2", "level": ""}, "inflow '1 2' is not understood"),
        ({"water_from": "a b"}, "not understood"),
        ({"every": 1.0}, "set every to 0"),
        ({"rise": 1.0}, "--rise is the time"),
        ({"dem": ""}, "name a DEM"),
        ({"dem": "none.tif"}, "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            GensatFloodSimulate().simulate(**{"dem": "dem.tif", "method": "auto", "level": "6", **REST, **values})


def test_a_file_saved_again_is_read_again(dem):
    first = GensatFloodSimulate.IS_CHANGED("dem.tif", "6")
    assert first == GensatFloodSimulate.IS_CHANGED("dem.tif", "6")
    (dem / "dem.tif").write_bytes(b"")
    assert first != GensatFloodSimulate.IS_CHANGED("dem.tif", "6")
