"""Packing scenes: tiles tell the truth about where they lie, their bands, their dates and their layouts."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from pyproj import Geod, Transformer
from shard_toys import facts, members, options, pack, polygon, rows_and_columns, scene

from gensat.errors import InputError
from gensat.geo.classes import WATER
from gensat.train.shards import ShardReader
from gensat.train.shards.pack import run
from gensat.train.shards.plan import plan
from gensat.train.shards.record import date_in
from gensat.train.shards.scenes import Cut
from gensat.types import Acquisition, PartialDate


def test_tiles_hold_the_pixels_of_where_they_say_they_lie(tmp_path):
    scene(tmp_path / "a.tif", rows_and_columns(100, 140))
    result = pack(tmp_path / "a.tif", tmp_path / "out", Cut(size=32, stride=24), form="png")
    rows, columns = range(0, 69, 24), range(0, 109, 24)
    assert result["samples"] == {"train": len(rows) * len(columns), "heldout": 0}
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    for key, parts in members(tmp_path / "out").items():
        row, column = map(int, key.split("-")[1:])
        image, known = np.asarray(Image.open(io.BytesIO(parts["png"]))), json.loads(parts["json"])
        assert image[0, 0].tolist() == [1 + row // 2, 1 + column // 2, 128]
        assert image[-1, -1].tolist() == [1 + (row + 31) // 2, 1 + (column + 31) // 2, 128]
        x, y = 500_000 + 10 * (column + 16), 5_000_000 - 10 * (row + 16)
        assert (known["lon"], known["lat"]) == pytest.approx(to_lonlat.transform(x, y), abs=1e-7)
        assert known["transform"] == [10, 0, 500_000 + 10 * column, 0, -10, 5_000_000 - 10 * row]
        assert known["crs"] == "EPSG:32633" and known["gsd_m"] == 10 and known["split"] == "train"


def test_a_south_up_scene_gives_the_same_tiles(tmp_path):
    pixels = rows_and_columns(96, 64)
    scene(tmp_path / "a.tif", pixels)
    scene(tmp_path / "b.tif", pixels[:, ::-1], Affine(10, 0, 500_000, 0, 10, 5_000_000 - 960))
    results = [pack(tmp_path / f"{n}.tif", tmp_path / n, form="png") for n in "ab"]
    assert any("south-up" in note for note in results[1]["notes"])
    up, down = (members(tmp_path / n) for n in "ab")
    assert [m["png"] for m in up.values()] == [m["png"] for m in down.values()]
    assert [json.loads(m["json"])["transform"] for m in up.values()] == [
        json.loads(m["json"])["transform"] for m in down.values()
    ]


def test_a_wanted_gsd_averages_the_pixels(tmp_path):
    ramp = np.add.outer(np.arange(128), np.arange(128))[None].astype(np.uint8) // 2 * 1
    scene(tmp_path / "a.tif", np.repeat(ramp, 3, axis=0))
    result = pack(tmp_path / "a.tif", tmp_path / "out", Cut(size=32, gsd=20), form="png")
    assert result["samples"]["train"] == 4 and "resampled from 10 to 20 m" in result["notes"][0]
    found = members(tmp_path / "out")
    blocks = ramp[0].reshape(64, 2, 64, 2).astype(float).mean(axis=(1, 3))
    for key, parts in found.items():
        row, column = map(int, key.split("-")[1:])
        image = np.asarray(Image.open(io.BytesIO(parts["png"])))[:, :, 0]
        assert np.abs(image - blocks[row : row + 32, column : column + 32]).max() <= 0.5
        assert json.loads(parts["json"])["gsd_m"] == 20


@pytest.mark.parametrize("lat", [0.5, 37.0, 60.0])
def test_gsd_is_that_of_the_ground_in_web_mercator(tmp_path, lat):
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(15.0, lat)
    scene(tmp_path / "a.tif", rows_and_columns(64, 64), Affine(10, 0, x, 0, -10, y), "EPSG:3857")
    pack(tmp_path / "a.tif", tmp_path / "out")
    for known in facts(tmp_path / "out").values():
        left, top = known["transform"][2], known["transform"][5]
        back = Transformer.from_crs(3857, 4326, always_xy=True)
        (a, b), (c, d) = back.transform(left, top - 160), back.transform(left + 320, top - 160)
        metres = Geod(ellps="WGS84").inv(a, b, c, d)[2] / 32
        assert known["gsd_m"] == pytest.approx(
            metres, rel=4e-3
        )  # Web Mercator is a sphere: its pixels are not quite square
        assert known["gsd_m"] == pytest.approx(10 * math.cos(math.radians(lat)), rel=8e-3)


def test_a_scene_in_degrees_is_warped_to_metres_and_stays_in_place(tmp_path):
    step = 1e-4
    lon, lat = np.meshgrid(16.0 + step * (np.arange(160) + 0.5), 52.0 - step * (np.arange(160) + 0.5))
    pixels = np.stack([1 + (lon - 16) * 1e4, 1 + (52 - lat) * 1e4, 0 * lon + 99]).astype(np.uint8)
    scene(tmp_path / "a.tif", pixels, Affine(step, 0, 16, 0, -step, 52), "EPSG:4326")
    result = pack(tmp_path / "a.tif", tmp_path / "out", form="png")
    assert "warped to EPSG:32633" in result["notes"][0] and result["samples"]["train"] >= 6
    for key, parts in members(tmp_path / "out").items():
        known, image = json.loads(parts["json"]), np.asarray(Image.open(io.BytesIO(parts["png"]))).astype(float)
        assert known["crs"] == "EPSG:32633"
        assert known["gsd_m"] == pytest.approx(math.sqrt(step * 111_250 * step * 68_600), rel=0.01)
        centre = image[15:17, 15:17].mean(axis=(0, 1))
        assert centre[0] == pytest.approx(0.5 + (known["lon"] - 16) * 1e4, abs=1.5), key
        assert centre[1] == pytest.approx(0.5 + (52 - known["lat"]) * 1e4, abs=1.5), key


def test_bands_by_name_number_and_default(tmp_path):
    pixels = np.stack([np.full((32, 32), 10 * (i + 1), np.uint8) for i in range(4)])
    scene(tmp_path / "a.tif", pixels, names=["nir", "red", "green", "blue"], photometric="MINISBLACK")
    for number, (bands, first) in enumerate(((("3", "nir", "BLUE"), [30, 10, 40]), ((), [20, 30, 40]))):
        pack(tmp_path / "a.tif", tmp_path / str(number), Cut(size=32, bands=bands), form="png")
        (parts,) = members(tmp_path / str(number)).values()
        assert np.asarray(Image.open(io.BytesIO(parts["png"])))[0, 0].tolist() == first
    for bands, words in ((("5",), "no band 5"), (("swir",), "it has nir, red, green, blue"), (("1", "nir"), "twice")):
        with pytest.raises(InputError, match=words):
            pack(tmp_path / "a.tif", tmp_path / "x", Cut(size=32, bands=bands))


def test_a_fourth_band_that_is_marked_as_alpha_is_left_out_unless_asked_for(tmp_path):
    pixels = np.stack([np.full((32, 32), 10 * (i + 1), np.uint8) for i in range(4)])
    pixels[3, :16] = 0
    scene(tmp_path / "a.tif", pixels)  # GDAL marks the fourth band of bytes as alpha
    assert pack(tmp_path / "a.tif", tmp_path / "a", max_empty=0.6)["samples"]["train"] == 1
    with pytest.raises(InputError, match="1 empty"):
        pack(tmp_path / "a.tif", tmp_path / "b")
    pack(tmp_path / "a.tif", tmp_path / "c", Cut(size=32, bands=("1", "4", "3")), form="png")
    (parts,) = members(tmp_path / "c").values()
    assert np.asarray(Image.open(io.BytesIO(parts["png"])))[[0, 31], 0].tolist() == [[10, 0, 30], [10, 40, 30]]


def test_deep_bands_stay_as_they_are_and_are_shown_in_the_range_of_their_scene(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(200, 4000, (6, 64, 64)).astype(np.int16)
    scene(tmp_path / "a.tif", pixels, names=["B2", "B3", "B4", "B8", "B11", "B12"])
    pack(tmp_path / "a.tif", tmp_path / "out")
    low, high = np.percentile(pixels[:3], (2, 98))
    for sample in ShardReader(tmp_path / "out").samples():
        row, column = map(int, sample.key.split("-")[1:])
        stored = np.moveaxis(pixels[:, row : row + 32, column : column + 32], 0, 2)
        assert sample.raster.array.dtype == np.uint16 and np.array_equal(sample.raster.array, stored)
        assert [band.name for band in sample.raster.bands] == ["B2", "B3", "B4", "B8", "B11", "B12"]
        shown = np.clip((stored[:, :, :3] - low) / (high - low), 0, 1) * 255
        assert np.abs(sample.image - shown).max() <= 0.51
        assert sample.raster.place.lon == pytest.approx(sample.place.lon, abs=1e-7)


def test_a_stated_range_becomes_bytes(tmp_path):
    pixels = np.repeat(np.linspace(-100, 4000, 32 * 32).reshape(1, 32, 32), 3, axis=0).astype(np.float32)
    pixels[:, 0, 0] = np.nan
    scene(tmp_path / "a.tif", pixels)
    pack(tmp_path / "a.tif", tmp_path / "out", Cut(size=32, scale=(0.0, 3000.0)), form="png")
    (parts,) = members(tmp_path / "out").values()
    image = np.asarray(Image.open(io.BytesIO(parts["png"]))).astype(float)[:, :, 0]
    expected = np.clip(np.nan_to_num(pixels[0]) / 3000, 0, 1) * 255
    assert np.abs(image - expected).max() <= 0.51 and image[0, 0] == 0
    with pytest.raises(InputError, match=r"jpg cannot hold 3 bands of float32; .*--scale"):
        pack(tmp_path / "a.tif", tmp_path / "x", form="jpg")


@pytest.mark.parametrize("nodata", [0, 7, None])
def test_empty_tiles_are_left_out_by_their_share(tmp_path, nodata):
    pixels = rows_and_columns(64, 64)
    hole = 0 if nodata is None else nodata
    pixels[:, :32, :32] = hole  # the first tile: all
    pixels[:, 32, :32] = hole  # the third: one row of 32
    scene(tmp_path / "a.tif", pixels, nodata=nodata)
    assert pack(tmp_path / "a.tif", tmp_path / "a")["left_out"] == {"empty": 1}
    strict = pack(tmp_path / "a.tif", tmp_path / "b", max_empty=0.03)
    assert strict["left_out"] == {"empty": 2} and strict["samples"]["train"] == 2
    with pytest.raises(InputError, match=r"none of 1 samples is left \(1 empty\)"):
        scene(tmp_path / "b.tif", np.zeros((3, 32, 32), np.uint8))
        pack(tmp_path / "b.tif", tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "tags", "pattern", "date"),
    [
        ("naip_20180716", {}, None, "2018-07-16"),
        ("S2_2019-03-09_x", {"TIFFTAG_DATETIME": "2001:01:01 00:00:00"}, None, "2019-03-09"),
        ("scene", {"TIFFTAG_DATETIME": "2001:02:03 00:00:00"}, None, "2001-02-03"),
        ("scene", {"TIFFTAG_DATETIME": "nonsense"}, None, ""),
        ("scene_20181399", {}, None, ""),
        ("20180716", {"ACQUISITION_DATE": "2017-08"}, None, "2017-08"),
        ("x_160718_2011", {}, r"_(?P<day>\d\d)(?P<month>\d\d)\d\d_(?P<year>\d{4})", "2011-07-16"),
    ],
)
def test_where_the_date_comes_from(tmp_path, name, tags, pattern, date):
    scene(tmp_path / f"{name}.tif", rows_and_columns(32, 32), tags=tags)
    planned = plan([tmp_path / f"{name}.tif"], options(Cut(size=32, date_pattern=pattern)))
    assert str(planned.records[0].acquisition.date) == date
    given = options(base={"acquisition": Acquisition(date="2020")})
    assert str(plan([tmp_path / f"{name}.tif"], given).records[0].acquisition.date) == "2020"


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "no regular expression"), ("scene", "no groups"), (r"(\d)(\d)(\d)", "year 2")]
)
def test_date_patterns_that_are_wrong(pattern, words):
    with pytest.raises(InputError, match=words):
        date_in("scene 2018", pattern)
    assert date_in("nothing", r"(\d{4})") == PartialDate()


def test_aligned_scenes_have_tiles_on_the_same_ground(tmp_path):
    pixels = rows_and_columns(96, 96)
    for name, (dx, dy) in {"a": (0, 0), "b": (20, -30), "c": (3, 4)}.items():
        scene(tmp_path / f"{name}.tif", pixels, Affine(10, 0, 500_000 + dx, 0, -10, 5_000_000 + dy))
    loose = [r.transform for r in plan([tmp_path], options()).records]
    planned = plan([tmp_path], options(Cut(size=32, align=True)))
    tight = {r.transform for r in planned.records}
    assert len({(t.c % 320, t.f % 320) for t in loose}) == 3 and {(t.c % 320, t.f % 320) for t in tight} == {(0.0, 0.0)}
    assert [note for note in planned.notes if "part of a pixel" in note] == [
        "c.tif was resampled by part of a pixel to lie on the common lattice"
    ]
    run(planned, tmp_path / "out")
    for sample in ShardReader(tmp_path / "out").samples():  # what is at a place is what the scene shows there
        known = facts(tmp_path / "out")[sample.key]
        dx, dy = {"a": (0, 0), "b": (20, -30), "c": (3, 4)}[sample.key[0]]
        row = (5_000_000 + dy - known["transform"][5]) / 10 + 16
        column = (known["transform"][2] - 500_000 - dx) / 10 + 16
        assert sample.image[15:17, 15:17, 0].mean() == pytest.approx(0.75 + row / 2, abs=1.5)
        assert sample.image[15:17, 15:17, 1].mean() == pytest.approx(0.75 + column / 2, abs=1.5)


def test_layouts_are_drawn_where_the_polygon_lies(tmp_path):
    scene(tmp_path / "a.tif", rows_and_columns(64, 64))
    lake = polygon(
        tmp_path / "map.geojson", 500_000 + 200, 5_000_000 - 250, 500_000 + 400, 5_000_000 - 50, natural="water"
    )
    result = pack(tmp_path / "a.tif", tmp_path / "out", layout=lake)
    expected = np.zeros((64, 64), np.uint8)
    expected[5:25, 20:40] = WATER
    assert result["layouts"] == 2 and result["samples"]["train"] == 4
    for sample in ShardReader(tmp_path / "out").samples():
        row, column = map(int, sample.key.split("-")[1:])
        wanted = expected[row : row + 32, column : column + 32]
        assert (sample.layout is None and not wanted.any()) or np.array_equal(sample.layout, wanted)
    assert pack(tmp_path / "a.tif", tmp_path / "b", layout=lake, layout_share=0.2)["layouts"] == 1


def test_a_raster_beside_each_scene_is_its_layout(tmp_path):
    for name, code in (("one", 1), ("two", 3)):
        (tmp_path / name).mkdir()
        scene(tmp_path / name / "rgb.tif", rows_and_columns(32, 32))
        scene(tmp_path / name / "cover.tif", np.full((1, 32, 32), code, np.uint8))
    sources = [tmp_path / name / "rgb.tif" for name in ("one", "two")]
    pack(sources, tmp_path / "out", layout=Path("{folder}/cover.tif"), legend="landcover.ai")
    found = {s.key: s.layout for s in ShardReader(tmp_path / "out").samples()}
    assert {k: np.unique(v).tolist() for k, v in found.items()} == {
        "one-rgb-00000-00000": [2],
        "two-rgb-00000-00000": [4],
    }
    with pytest.raises(InputError, match="does not exist; check the pattern"):
        plan(sources, options(layout=Path("{folder}/{stem}_map.tif")))


def test_a_map_of_elsewhere_or_without_classes_is_said_at_the_end_of_nothing(tmp_path):
    scene(tmp_path / "a.tif", rows_and_columns(32, 32))
    far = polygon(tmp_path / "far.geojson", 600_000, 5_000_000, 600_100, 5_000_100, natural="water")
    with pytest.raises(InputError, match=r"no sample has a layout: .*does not overlap"):
        pack(tmp_path / "a.tif", tmp_path / "out", layout=far)
    plain = polygon(tmp_path / "plain.geojson", 500_000, 4_999_000, 500_900, 5_000_000, note="x")
    with pytest.raises(InputError, match="no feature of plain"):
        pack(tmp_path / "a.tif", tmp_path / "out2", layout=plain)
