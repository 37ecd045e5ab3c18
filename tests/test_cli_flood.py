"""gensat flood simulate, as typed: the folder, the defaults, what goes on after an interrupt, and what is refused."""

import json

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from gensat import GeoImage
from gensat.cli import run
from gensat.geo.crs import to_lonlat
from gensat.hydro.domain import Domain

UTM = CRS.from_epsg(31985)
GRID = Affine(10, 0, 290_000, 0, -10, 9_120_000)


def lonlat(row, column):
    lon, lat = to_lonlat(UTM, GRID.c + 10 * (column + 0.5), GRID.f - 10 * (row + 0.5))
    return [f"{float(lon):.7f}", f"{float(lat):.7f}"]


@pytest.fixture
def dem(tmp_path, monkeypatch):
    """24 x 30 cells that fall 1 cm a metre to the east."""
    bed = (8 - 0.1 * np.arange(30)[None] + 0.05 * np.abs(np.arange(24)[:, None] - 12)).astype(np.float32)
    GeoImage(bed, ["elevation"], UTM, GRID).save(tmp_path / "dem.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(*words):
    return run(["flood", "simulate", "dem.tif", *map(str, words)])


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_level(dem, capsys):
    assert simulate("--level", 6.0, "--animation", "gif", "-o", "out/", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    files = {file.name for file in (dem / "out").iterdir()}
    static = {"depth.tif", "wse.tif", "extent.tif", "extent.geojson", "preview.png", "run.json"}
    assert files == static | {"animation.gif"} and said["method"] == "bathtub"
    depth = GeoImage.open(dem / "out" / "depth.tif")
    bed = Domain.open("dem.tif").bed
    np.testing.assert_allclose(depth.array[:, :, 0], np.clip(6 - bed, 0, None), atol=1e-6)
    kept = record(dem / "out")
    assert kept["flooded_cells"] == (bed < 6).sum() == said["flooded_cells"]
    assert depth.provenance["method"] == "bathtub" and depth.provenance["level"] == 6.0
    assert "warning" in depth.provenance and any("give --from" in note for note in kept["notes"])
    assert simulate("--level", 6.0, "-o", "out/") == 2 and "--overwrite" in capsys.readouterr().err
    assert simulate("--level", 6.5, "-o", "out/", "--overwrite", "-q") == 0
    assert record(dem / "out")["flooded_cells"] > kept["flooded_cells"]


def test_blocks_make_the_same_files(dem, capsys):
    assert simulate("--level", 6.0, "-o", "whole/", "--from", *lonlat(12, 29)) == 0
    assert simulate("--level", 6.0, "-o", "blocks/", "--block", 7, "--from", *lonlat(12, 29)) == 0
    for name in ("depth.tif", "wse.tif", "extent.tif"):
        whole, parts = (GeoImage.open(dem / folder / name) for folder in ("whole", "blocks"))
        np.testing.assert_array_equal(whole.array, parts.array)
        assert whole.transform == parts.transform and whole.crs == parts.crs
    whole, parts = record(dem / "whole"), record(dem / "blocks")
    for key in ("flooded_cells", "volume_m3", "max_depth_m", "vertical_datum", "sources"):
        assert whole[key] == parts[key]
    assert simulate("--level", 6.0, "-o", "b2/", "--block", 7, "--gsd", 20) == 2
    assert "--gsd is for DEMs that fit into memory" in capsys.readouterr().err


def test_an_ensemble(dem):
    words = ("--ensemble", 20, "--dem-error", 0.3, "--correlation", 50, "--level-error", 0.1, "--seed", 3)
    assert simulate("--level", 6.0, *words, "-o", "one/") == 0
    assert simulate("--level", 6.0, *words, "-o", "two/") == 0
    one, two = (GeoImage.open(dem / folder / "probability.tif").array for folder in ("one", "two"))
    np.testing.assert_array_equal(one, two)
    assert 0 <= one.min() < 0.1 and 0.9 < one.max() <= 1 and ((one > 0.1) & (one < 0.9)).any()
    assert record(dem / "one")["ensemble"]["members"] == 20


MOVING = ("--inflow", *lonlat(12, 1), 5, "--boundary", "E=open", "--hours", 0.05)


def test_an_inflow_moves(dem, capsys):
    assert simulate(*MOVING, "--every", 1, "--animation", "gif", "-o", "out/", "--roughness", 0.05) == 0
    text = capsys.readouterr().out
    assert "by inertial" in text and "balance off by" in text
    files = {file.name for file in (dem / "out").iterdir()}
    assert {"depth.tif", "depth_end.tif", "arrival.tif", "velocity.tif", "hazard.tif", "steps", "animation.gif"} < files
    assert "checkpoint.safetensors" not in files
    assert len(list((dem / "out" / "steps").iterdir())) == 3
    kept = record(dem / "out")
    assert kept["method"] == "inertial" and abs(kept["balance_m3"]["relative_error"]) < 1e-10
    assert kept["balance_m3"]["inflow"] == pytest.approx(5 * 180)
    arrival, depth = (GeoImage.open(dem / "out" / f"{name}.tif") for name in ("arrival", "depth"))
    came = np.isfinite(arrival.physical()[:, :, 0])
    assert came[12, 1] and not came.all()
    assert ((depth.array[:, :, 0] >= 0.01) <= came).all() and depth.valid is None  # dry is 0, not nodata
    times = [GeoImage.open(file).provenance["seconds"] for file in sorted((dem / "out" / "steps").iterdir())]
    assert times == [60.0, 120.0, 180.0]


def test_an_interrupted_run_goes_on_with_the_same_command(dem, monkeypatch, capsys):
    """The same bits as one that was not interrupted."""
    from gensat.hydro import moments as files

    assert simulate(*MOVING, "--every", 1, "-o", "whole/") == 0
    keeper = files.keeper

    def interrupts(*values):
        keep = keeper(*values)

        def then(seconds, depth):
            keep(seconds, depth)
            if seconds >= 120:
                raise KeyboardInterrupt

        return then

    monkeypatch.setattr("gensat.hydro.moments.keeper", interrupts)
    assert simulate(*MOVING, "--every", 1, "-o", "out/") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert (dem / "out" / "checkpoint.safetensors").exists() and not (dem / "out" / "run.json").exists()
    monkeypatch.setattr("gensat.hydro.moments.keeper", keeper)
    assert simulate(*MOVING, "--every", 1, "-o", "out/", "--roughness", 0.1) == 2  # another run
    assert "other settings or inputs" in capsys.readouterr().err
    assert simulate(*MOVING, "--every", 1, "-o", "out/") == 0
    assert not (dem / "out" / "checkpoint.safetensors").exists()
    for name in ("depth.tif", "depth_end.tif", "arrival.tif", "velocity.tif", "hazard.tif"):
        whole, parts = (GeoImage.open(dem / folder / name) for folder in ("whole", "out"))
        np.testing.assert_array_equal(whole.array, parts.array)
    assert len(list((dem / "out" / "steps").iterdir())) == 3


def test_rain_from_a_hyetograph_and_a_hydrograph(dem):
    (dem / "rain.csv").write_text("minutes,mm_h\n0,60\n2,0\n")
    assert simulate("--hyetograph", "rain.csv", "--hours", 0.05, "-o", "rain/") == 0
    balance = record(dem / "rain")["balance_m3"]
    assert balance["rain"] == pytest.approx(0.002 * 24 * 30 * 100, rel=1e-9)  # 60 mm/h for two minutes is 2 mm
    (dem / "river.csv").write_text("minutes,m3_s\n0,0\n1,6\n2,0\n")
    two = ("--inflow", *lonlat(12, 1), 1, "--inflow", *lonlat(3, 1), 2)
    assert simulate(*two, "--hydrograph", "river.csv", "--hours", 0.05, "-o", "river/") == 0
    assert record(dem / "river")["balance_m3"]["inflow"] == pytest.approx(360, rel=1e-9)


def test_gauges_roughness_by_area_and_an_inflow_over_a_disc(dem):
    corners = [[GRID.c + x, GRID.f - y] for x, y in ((0, 0), (150, 0), (150, 240), (0, 240))]
    (dem / "smooth.csv").write_text("\n".join(f"{x},{y}" for x, y in corners))
    (dem / "points.csv").write_text(
        f"x, y, ID\n{GRID.c + 15}, {GRID.f - 125}, upper\n{GRID.c + 205}, {GRID.f - 125}, lower\n"
    )
    words = ("--roughness", 0.05, "--roughness", "smooth.csv=0.02", "--inflow-radius", 15, "--gauges", "points.csv")
    assert simulate(*MOVING, *words, "--every", 1, "-o", "out/") == 0
    rows = np.loadtxt(dem / "out" / "gauges.csv", delimiter=",", skiprows=1)
    assert (dem / "out" / "gauges.csv").read_text().startswith("seconds,upper,lower\n") and rows[:, 0].tolist() == [
        0,
        60,
        120,
        180,
    ]
    bed = Domain.open("dem.tif").bed
    end = GeoImage.open(dem / "out" / "depth_end.tif").array[:, :, 0]
    np.testing.assert_allclose(rows[-1, 1:], [bed[12, 1] + end[12, 1], bed[12, 20] + end[12, 20]], atol=1e-3)
    assert record(dem / "out")["inflow_radius"] == 15
    assert simulate(*MOVING, "-o", "rough/", "--roughness", 0.05) == 0
    depth = [GeoImage.open(dem / folder / "depth_end.tif").array for folder in ("out", "rough")]
    assert not np.array_equal(*depth)
    assert simulate(*MOVING, "--roughness", 0.05, "--roughness", 0.04, "-o", "no/") == 2
    assert simulate(*MOVING, "--roughness", "smooth.csv=high", "-o", "no/") == 2
    (dem / "points.csv").write_text("x,y\n0,0\n")
    assert simulate(*MOVING, "--gauges", "points.csv", "-o", "no/") == 2


def test_the_full_equations_run_too(dem):
    assert simulate(*MOVING, "--method", "swe", "-o", "out/", "--json") == 0
    kept = record(dem / "out")
    assert kept["solver"]["solver"] == "swe" and abs(kept["balance_m3"]["relative_error"]) < 1e-10
    assert simulate(*MOVING, "-o", "inertial/") == 0  # slow water: the two agree
    full, local = (GeoImage.open(dem / folder / "depth.tif").array for folder in ("out", "inertial"))
    assert np.abs(full - local).max() < 0.15 and np.abs(full - local).mean() < 0.02


def test_swift_water_is_sent_to_swe(dem, capsys):
    steep = (np.linspace(40, 0, 30)[None] * np.ones((24, 1))).astype(np.float32)
    GeoImage(steep, ["elevation"], UTM, GRID).save(dem / "dem.tif", overwrite=True)
    assert simulate("--inflow", *lonlat(12, 1), 200, "--hours", 0.02, "--roughness", 0.02, "-o", "out/") == 0
    assert "--method swe is advised" in capsys.readouterr().err
    assert record(dem / "out")["froude_max"] > 0.8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--level", "6", "-o", "out.tif"), "give a folder"),
        (("--level", "6", "-o", "none/out"), "does not exist"),
        (("-o", "out"), "nothing floods the place"),
        (("--rain", "-5mm/h", "--hours", "1", "-o", "out"), "rain"),
        (("--rain", "80 furlongs", "--hours", "1", "-o", "out"), "80mm/h"),
        (("--level", "6", "--every", "5", "-o", "out"), "--every"),
        (("--level", "6", "--animation", "avi", "-o", "out"), "gif or mp4"),
        (("--level", "6", "--dem-error", "1", "-o", "out"), "--ensemble"),
        (("--level", "6", "--from", "0", "0", "-o", "out"), "outside the domain"),
        (("--level", "6", "--from", "0", "95", "-o", "out"), "latitude 95"),
        (("--level", "none.tif", "-o", "out"), "does not exist"),
        (("--inflow", *lonlat(12, 1), "3", "--hours", "1", "--boundary", "Q=open", "-o", "out"), "N, E, S, W"),
        (("--inflow", *lonlat(12, 1), "3", "--hours", "1", "--block", "64", "-o", "out"), "--block is for bathtub"),
        (("--level", "5", "--roughness", "7", "-o", "out"), "Manning"),
        (("--rain", "5", "--hours", "1", "--device", "abacus", "-o", "out"), "no device 'abacus'"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_made(dem, capsys, words, message):
    assert simulate(*words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and len([line for line in said if line.startswith("error")]) == 1
    assert not (dem / "out").exists() or not list((dem / "out").iterdir())


def test_degrees_feet_and_voids_are_said(dem, capsys):
    bed = (np.linspace(8, 5, 30)[None] * np.ones((24, 1)) / 0.3048).astype(np.float32)
    bed[5:7, 5:9] = np.nan
    GeoImage(bed, ["elevation"], 4326, Affine(1e-4, 0, -34.9, 0, -1e-4, -8.0)).save(dem / "dem.tif", overwrite=True)
    assert simulate("--level", 6.0, "--unit", "ft", "-o", "out/") == 0
    said = capsys.readouterr().err
    assert "in ft and was converted" in said and "8 cells of dem.tif" in said and "warped from EPSG:4326" in said
    assert simulate("--level", 6.0, "--unit", "ft", "--voids", 0.001, "-o", "more/") == 2
    assert "voids, more than" in capsys.readouterr().err


def test_walls_keep_a_level_out(dem, capsys):
    west, north = GRID.c, GRID.f
    line = [[west + 252, north + 20], [west + 252, north - 400]]
    feature = {"type": "Feature", "properties": {"top": 6.5}, "geometry": {"type": "LineString", "coordinates": line}}
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{UTM.to_epsg()}"}}
    (dem / "walls.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    start = ("--level", 6.0, "--from", *lonlat(12, 29))
    assert simulate(*start, "-o", "open/") == 0
    assert simulate(*start, "--walls", "walls.geojson", "--wall-crest", "--wall-field", "top", "-o", "walled/") == 0
    assert "1 walls raise 24 cells" in capsys.readouterr().err
    open_, walled = (GeoImage.open(dem / name / "extent.tif").array[:, :, 0] for name in ("open", "walled"))
    assert open_[:, 22:25].any() and not walled[:, :26].any() and (walled[:, 26:] == open_[:, 26:]).all()
    feature["geometry"]["coordinates"] = [[west + 103, north - 97], [west + 203, north - 197]]  # oblique
    (dem / "slant.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    slant = (*start, "--walls", "slant.geojson", "--wall-field", "top")
    assert simulate(*slant, "-o", "still/") == 0
    assert "1 walls raise 21 cells" in capsys.readouterr().err  # neighbours of eight kinds cannot pass
    assert simulate(*slant, "--method", "inertial", "--hours", 0.05, "-o", "moves/") == 0
    assert "1 walls raise 11 cells" in capsys.readouterr().err  # water over edges cannot, and the crest is one cell
    for words, message in (
        (("--walls", "walls.geojson"), "walls.geojson have no height (attributes: top)"),
        (("--wall-height", "2"), "give --walls FILE"),
        (("--walls", "none.gpkg"), "does not exist"),
    ):
        assert simulate(*start, *words, "-o", "none/") == 2 and not (dem / "none").exists()
        assert message in capsys.readouterr().err


def test_a_tide_moves_the_sea(dem):
    (dem / "tide.csv").write_text("minutes,level\n0,5.2\n2,6\n4,5.2\n")
    assert simulate("--tide", "tide.csv", "--from", *lonlat(12, 29), "--every", 1, "-o", "out/") == 0
    kept = record(dem / "out")
    assert kept["method"] == "inertial" and kept["sea"]["cells"] == 1 and kept["tide"] == "tide.csv"
    assert kept["sea"]["highest_level_m"] == [6.0, 6.0] and abs(kept["balance_m3"]["relative_error"]) < 1e-12
    assert kept["seconds"] == 240 and kept["flooded_cells"] > 1
