"""Packing: tiles tell the truth about where they lie, packs are the same bytes however often they were interrupted."""

import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Geod, Transformer
from saved_toy import FOUND
from shard_toys import jpeg, png, rows_and_columns, scene

from gensat.errors import InputError
from gensat.geo.classes import WATER
from gensat.train.shards import ShardReader
from gensat.train.shards.check import check
from gensat.train.shards.pack import RECEIPT, SPLIT, STATE, run
from gensat.train.shards.places import Holdout
from gensat.train.shards.plan import Options, plan
from gensat.train.shards.record import Record, date_in
from gensat.train.shards.scenes import Cut
from gensat.train.shards.tables import Reading
from gensat.types import Acquisition, GeoImage, PartialDate


def options(
    cut=None, *, columns=None, cloud_percent=False, date_pattern=None, folders=False, base=None, **more
) -> Options:
    known = Record("", Path(), "toy", **(base or {}))
    reading = Reading(known, columns or {}, cloud_percent, date_pattern, folders)
    return Options(reading, cut or Cut(size=32), name="toy", **more)


def pack(source, out, cut=None, *, overwrite=False, **more):
    sources = [source] if isinstance(source, Path) else source
    return run(plan(sources, options(cut, **more)), out, overwrite=overwrite).describe()


def members(folder: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for item in tar:
                key, _, extension = item.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(item).read()
    return found


def facts(folder: Path) -> dict[str, dict]:
    return {key: json.loads(parts["json"]) for key, parts in members(folder).items()}


def shards(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.tar") if not p.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in shards(folder)}


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


def polygon(path: Path, left, bottom, right, top, **properties) -> Path:
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    ring = [
        to_lonlat.transform(x, y)
        for x, y in ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ]
    feature = {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


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


def picture_folder(folder: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("water" if i % 3 else "park") / f"p {i}.v1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path, quality=90)
        path.with_suffix(".json").write_text(
            json.dumps({"lon": 10 + i, "lat": 40, "gsd_m": 10, "split": "test" if i == 5 else "train"})
        )
        path.with_suffix(".txt").write_text(f"number {i}\n")
    return folder


def test_pictures_keep_their_bytes_and_their_sidecars_facts(tmp_path):
    folder = picture_folder(tmp_path / "pics")
    result = pack(folder, tmp_path / "out", folders=True)
    assert result["samples"] == {"train": 11, "heldout": 1}
    found = members(tmp_path / "out")
    assert found["park-p_3_v1"]["jpg"] == (folder / "park" / "p 3.v1.jpg").read_bytes()
    samples = {s.key: s for s in ShardReader(tmp_path / "out", split=None).samples()}
    one = samples["park-p_3_v1"]
    assert (one.caption, one.klass, one.place.lon, one.acquisition.gsd) == ("number 3", "park", 13, 10)
    assert [s.caption for s in ShardReader(tmp_path / "out", split="heldout").samples()] == ["number 5"]


@pytest.mark.parametrize("limit", [0.012, 0.05, 10])
def test_shards_are_no_larger_than_asked_and_hold_the_same(tmp_path, limit):
    folder = picture_folder(tmp_path / "pics")
    result = pack(folder, tmp_path / "out", max_shard_mb=limit)
    sizes = [p.stat().st_size for p in (tmp_path / "out").glob("*.tar")]
    assert all(size <= max(limit * 2**20, 10240) + 10240 for size in sizes)  # a tar is padded to 10 KiB
    assert sum(result["shards"].values()) == 12 and len(sizes) == len(result["shards"])
    assert sorted(s.caption for s in ShardReader(tmp_path / "out", split=None).samples()) == sorted(
        f"number {i}" for i in range(12)
    )


def test_the_same_input_gives_the_same_bytes(tmp_path):
    folder = picture_folder(tmp_path / "pics")
    for name in "ab":
        pack(folder, tmp_path / name, max_shard_mb=0.02)
    assert digests(tmp_path / "a") == digests(tmp_path / "b") and len(digests(tmp_path / "a")) > 2


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4, 7, 10, 12])
def test_a_stopped_pack_goes_on_and_ends_with_the_same_bytes(tmp_path, after):
    folder = picture_folder(tmp_path / "pics")
    cut = folder / "water" / "p 4.v1.jpg"
    cut.write_bytes(cut.read_bytes()[:900])
    wanted = options(max_shard_mb=0.03, skip_bad=True)
    expected = run(plan([folder], wanted), tmp_path / "whole").describe()

    def stopping(count):
        calls = iter(range(count))

        def tick():
            if next(calls, None) is None:
                raise Stop

        return tick

    out = tmp_path / "out"
    with pytest.raises(Stop):
        run(plan([folder], wanted), out, tick=stopping(after - 1))
    assert not (out / RECEIPT).exists() and not list(out.glob(".*.part*"))
    names = [p.name for p in out.glob("*.tar")]
    assert all(tarfile.open(out / name).getmembers() for name in names)  # never half a shard under a final name
    result = run(plan([folder], wanted), out).describe()
    assert result == expected and digests(out) == digests(tmp_path / "whole")
    assert not (out / STATE).exists() and (out / SPLIT).is_file()


def test_kill_9_leaves_whole_shards_and_the_next_run_completes_them(tmp_path):
    folder = picture_folder(tmp_path / "pics", 60)
    arguments = ["data", "pack", str(folder), "--name", "toy", "--max-shard-mb", "0.03", "--quiet"]
    code = (
        "import sys, time\n"
        "import gensat.train.shards.pack as p\n"
        "real = p._make\n"
        "def slow(*a):\n    time.sleep(0.05)\n    return real(*a)\n"
        "p._make = slow\n"
        "from gensat.cli import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments, "-o", str(out)], env=FOUND)
    deadline = time.monotonic() + 120
    while len(shards(out)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = digests(out)
    assert 2 <= len(left) < 20
    done = subprocess.run(
        [sys.executable, "-m", "gensat", *arguments, "-o", str(out)], env=FOUND, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "gensat", *arguments, "-o", str(tmp_path / "whole")], env=FOUND, check=True)
    assert digests(out) == digests(tmp_path / "whole") and left.items() <= digests(out).items()
    assert not [p for p in out.iterdir() if ".part" in p.name]


def test_another_pack_is_not_written_over_unasked(tmp_path):
    folder, out = picture_folder(tmp_path / "pics"), tmp_path / "out"
    pack(folder, out, max_shard_mb=0.03)
    many = len(digests(out))
    with pytest.raises(InputError, match=r"finished pack.*--overwrite"):
        pack(folder, out)
    assert len(digests(out)) == many
    pack(folder, out, overwrite=True)
    assert len(digests(out)) == 2 < many
    with pytest.raises(InputError, match="not packed here"):
        other = tmp_path / "other"
        other.mkdir()
        (other / "mine.tar").write_bytes(b"x")
        pack(folder, other, overwrite=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / STATE).write_text(json.dumps({"fingerprint": "x", "tallies": {}}))
    with pytest.raises(InputError, match="unfinished pack of other data"):
        pack(folder, tmp_path / "half")


def noise_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def table_text(folder: Path) -> str:
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(jpeg((9, 9, 9), (64, 64)))
    (folder / "cut.jpg").write_bytes(noise_jpeg()[:2000])
    return (
        "file;Longitude;LAT;gsd_m;date;label;eo:cloud_cover\n"
        "a.jpg;9.1;39.2;10;2019-03-09;park;12\n"
        "b.jpg;9.1;95;10;2019-03-09;;\n"
        "b.jpg;9.1;45;10;2019-03-09;;4000\n"
        "missing.jpg;9.1;45;10;;;\n"
        "cut.jpg;9.1;45;10;;;\n"
        "b.jpg;9.1;;10;;;\n"
        "b.jpg;9.1;45;0;;;\n"
        "b.jpg;nan;45;1;;;\n"
        ";9.1;45;1;;;\n"
        "b.jpg;9.1;45;1;9 March;;\n"
    )


def test_wrong_rows_stop_the_pack_before_it_begins_or_are_counted(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(table_text(tmp_path))
    with pytest.raises(InputError, match=r"row 2 \(b.jpg\): latitude 95 .* \(8 are wrong in all\); .*--skip-bad"):
        pack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = pack(path, tmp_path / "out", skip_bad=True)
    words = {
        "row 2 (b.jpg)": "latitude 95", "row 3 (b.jpg)": "cloud cover 40", "row 4 (missing.jpg)": "does not exist",
        "cut.jpg": "truncated", "row 6 (b.jpg)": "only one of lon and lat", "row 7 (b.jpg)": "gsd 0",
        "row 8 (b.jpg)": "not finite", "row 9": "names no file", "row 10 (b.jpg)": "'9 March' is not understood",
    }  # fmt: skip
    assert set(result["bad"]) == set(words) and all(words[who] in why for who, why in result["bad"].items())
    (sample,) = ShardReader(tmp_path / "out").samples()
    assert sample.acquisition == Acquisition(10, "2019-03-09", 0.12) and sample.klass == "park"


def test_a_damaged_picture_stops_the_pack_by_name(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "cut.jpg").write_bytes(noise_jpeg()[:2000])
    with pytest.raises(InputError, match=r"cut.jpg: image cannot be decoded .*truncated.*--skip-bad"):
        pack(tmp_path / "pics", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_columns_can_be_chosen(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg((1, 2, 3)))
    path = tmp_path / "t.csv"
    path.write_text("picture,words,x,y,clouds,part\na.jpg,hello,1,2,30,val\n")
    columns = {"path": "picture", "caption": "words", "lon": "x", "lat": "y", "cloud_cover": "clouds", "split": "part"}
    pack(path, tmp_path / "out", columns=columns, cloud_percent=True)
    (sample,) = ShardReader(tmp_path / "out", split="heldout").samples()
    assert (sample.caption, sample.place.lat, sample.acquisition.cloud_cover) == ("hello", 2, 0.3)
    for columns, words in (
        ({"path": "nope"}, "no column 'nope'"),
        ({"colour": "x"}, "'colour' is not read"),
        ({}, "no column of file names"),
    ):
        with pytest.raises(InputError, match=words):
            pack(path, tmp_path / "x", columns=columns)


@pytest.mark.parametrize("kind", ["geojson", "parquet"])
def test_an_index_of_polygons(tmp_path, kind):
    (tmp_path / "a.jpg").write_bytes(jpeg((1, 2, 3), (100, 50)))
    ring = [[5.0, 50.0], [5.02, 50.0], [5.02, 50.01], [5.0, 50.01], [5.0, 50.0]]
    path = tmp_path / f"index.{kind}"
    if kind == "geojson":
        feature = {"type": "Feature", "properties": {"path": "a.jpg", "caption": "c", "date": "2020-05-06"}}
        feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        import shapely

        columns = {
            "path": ["a.jpg"],
            "caption": ["c"],
            "date": ["2020-05-06"],
            "geom": [shapely.to_wkb(shapely.Polygon(ring))],
        }
        geo = {
            "version": "1.1.0",
            "primary_column": "geom",
            "columns": {"geom": {"encoding": "WKB", "geometry_types": []}},
        }
        pq.write_table(pa.table(columns).replace_schema_metadata({"geo": json.dumps(geo)}), path)
    pack(path, tmp_path / "out")
    (known,) = facts(tmp_path / "out").values()
    assert known["bounds"] == [5.0, 50.0, 5.02, 50.01] and known["date"] == "2020-05-06"
    assert (known["lon"], known["lat"]) == pytest.approx((5.01, 50.005)) and known["caption"] == "c"


def test_diffusionsat_scheme_reads_back(tmp_path):
    scene(tmp_path / "x_20180716.tif", rows_and_columns(64, 64))
    base = {"klass": "golf course", "acquisition": Acquisition(cloud_cover=0.25)}
    pack(tmp_path / "x_20180716.tif", tmp_path / "out", scheme="diffusionsat", base=base)
    found = members(tmp_path / "out")
    assert set(found) == {f"fmow-golf_course-{i:06d}" for i in range(4)}
    parts = found["fmow-golf_course-000003"]
    known = json.loads(parts["metadata.json"])
    assert known["cloud_cover"] == 25 and known["timestamp"] == "2018-07-16T00:00:00Z" and known["gsd"] == 10
    assert parts["output.cls"] == b"0" and np.load(io.BytesIO(parts["input.npy"])).shape == (32, 32, 3)
    sample = ShardReader(tmp_path / "out").read(3)
    assert np.array_equal(np.moveaxis(sample.image, 2, 0), rows_and_columns(64, 64)[:, 32:, 32:])
    assert sample.acquisition == Acquisition(10, "2018-07-16", 0.25) and sample.klass == "golf course"
    with pytest.raises(InputError, match="give --class"):
        pack(tmp_path / "x_20180716.tif", tmp_path / "y", scheme="diffusionsat")


def test_geosynth_scheme_reads_back(tmp_path):
    scene(tmp_path / "a.tif", rows_and_columns(64, 64))
    lake = polygon(tmp_path / "map.geojson", 500_000, 4_999_680, 500_320, 5_000_000, natural="water")
    pack(tmp_path / "a.tif", tmp_path / "out", scheme="geosynth", layout=lake, base={"caption": "a lake"})
    lines = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert len(lines) == 4 and all({"source", "target", "prompt", "class"} <= set(line) for line in lines)
    table = np.load(tmp_path / "out" / "lonlat.npy")
    reader = ShardReader(tmp_path / "out")
    for line, sample in zip(lines, reader.samples(), strict=True):
        assert table[line["class"]].tolist() == pytest.approx([sample.place.lon, sample.place.lat], abs=1e-7)
        assert sample.caption == "a lake" and sample.acquisition.gsd == 10
    mapped = lines[0]
    assert np.asarray(Image.open(tmp_path / "out" / mapped["source"]).convert("RGB"))[5, 5].tolist() == [43, 112, 201]
    assert (reader.read(0).layout == WATER).all() and reader.read(1).layout is None


def test_webdataset_reads_what_we_write(tmp_path):
    wds = pytest.importorskip("webdataset")
    folder = picture_folder(tmp_path / "pics")
    scene(tmp_path / "s.tif", rows_and_columns(64, 64))
    pack(folder, tmp_path / "a", max_shard_mb=0.03)
    urls = [str(p) for p in sorted((tmp_path / "a").glob("*-train-*.tar"))]
    theirs = list(wds.WebDataset(urls, shardshuffle=False).decode("pil"))
    ours = list(ShardReader(tmp_path / "a").samples())
    assert [s["__key__"] for s in theirs] == [s.key for s in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert np.array_equal(np.asarray(a["jpg"]), b.image) and a["json"]["lon"] == b.place.lon
    pack(tmp_path / "s.tif", tmp_path / "d", scheme="diffusionsat", base={"klass": "park"})
    (tar,) = (tmp_path / "d").glob("*.tar")
    first = next(iter(wds.WebDataset(str(tar), shardshuffle=False).decode()))
    assert first["input.npy"].shape == (32, 32, 3) and first["output.cls"] == 0 and first["metadata.json"]["gsd"] == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "video"}, "kind 'video'"), ({"scheme": "x"}, "scheme 'x'"), ({"form": "bmp"}, "format 'bmp'"),
        ({"max_empty": 2.0}, "0 to 1"), ({"max_shard_mb": 0.0}, "above 0"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(changes, words):
    with pytest.raises(InputError, match=words):
        options(**changes)


def test_sources_that_make_no_sense(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tif").write_bytes(b"no raster")
    (tmp_path / "bad.geojson").write_text("{")
    (tmp_path / "bad.parquet").write_text("{")
    (tmp_path / "x.xyz").write_text("{")
    small = scene(tmp_path / "small.tif", rows_and_columns(16, 16))
    bare = tmp_path / "bare.tif"
    with rasterio.open(bare, "w", driver="GTiff", height=32, width=32, count=3, dtype="uint8") as target:
        target.write(rows_and_columns(32, 32))
    for source, cut, words in (
        (tmp_path / "none", None, "does not exist"), (tmp_path / "empty", None, "nothing to pack in empty"),
        (tmp_path / "bad.tif", None, "cannot be read as a raster"), (tmp_path / "x.xyz", None, "is no source"),
        (tmp_path / "bad.geojson", None, "cannot be read as a vector"), (tmp_path / "bad.parquet", None, "as Parquet"),
        (small, None, "less than a tile"), (bare, Cut(size=32, gsd=5), "has no CRS"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            plan([source], options(cut))
    planned = plan([bare], options())
    assert planned.records[0].place is None and "no CRS" in planned.notes[0]


def test_captions_are_filled_in(tmp_path):
    scene(tmp_path / "a_20180716.tif", rows_and_columns(32, 32))
    base = {
        "caption": "{class} in {year} by {sensor}",
        "klass": "wet_land",
        "acquisition": Acquisition(sensor="aerial"),
    }
    planned = plan([tmp_path / "a_20180716.tif"], options(base=base))
    assert planned.records[0].caption == "wet land in 2018 by aerial"
    with pytest.raises(InputError, match="field that is not known"):
        plan([tmp_path / "a_20180716.tif"], options(base={"caption": "{colour}"}))


def test_the_record_of_the_split_lies_beside_the_shards(tmp_path):
    scene(tmp_path / "a.tif", rows_and_columns(96, 96))
    centre = Transformer.from_crs(32633, 4326, always_xy=True)
    west, south = centre.transform(500_000 - 1, 5_000_000 - 321)
    east, north = centre.transform(500_000 + 321, 5_000_000 + 1)
    pack(
        tmp_path / "a.tif",
        tmp_path / "out",
        Cut(size=32, stride=16),
        holdout=Holdout(boxes=((west, south, east, north),)),
    )
    known = json.loads((tmp_path / "out" / SPLIT).read_text())
    # 5 x 5 tiles: one inside; those that begin within it, its last tenth of a pixel included, are across its edge
    assert known["samples"] == {"train": 16, "heldout": 1}
    assert known["left_out"] == {"across the edge of a held-out box": 8}
    assert known["check"]["overlapping_pairs"] == 0 and known["rule"]["boxes"] == [[west, south, east, north]]


def test_png_and_mask_folders(tmp_path):
    for i in range(2):
        for folder, data in (("img", jpeg((i, 0, 0))), ("mask", png(np.full((16, 16), i + 1, np.uint8)))):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{i}.{'jpg' if folder == 'img' else 'png'}").write_bytes(data)
    result = pack(tmp_path / "img", tmp_path / "out", layout=tmp_path / "mask")
    assert result["layouts"] == 2
    assert [np.unique(s.layout).tolist() for s in ShardReader(tmp_path / "out").samples()] == [[1], [2]]
    os.remove(tmp_path / "mask" / "1.png")
    assert pack(tmp_path / "img", tmp_path / "out2", layout=tmp_path / "mask")["layouts"] == 1


def test_images_of_our_own_keep_what_they_know_and_that_they_are_synthetic(tmp_path):
    made = {"synthetic": True, "prompt": "a harbor", "place": {"lon": 15.0, "lat": 45.0}}
    (tmp_path / "made").mkdir()
    for suffix in ("png", "jpg", "tif"):
        image = GeoImage(
            np.full((32, 32, 3), 99, np.uint8),
            crs="EPSG:32633",
            transform=Affine(2, 0, 500_000, 0, -2, 5_000_000),
            acquisition=Acquisition(2.0, "2017-08", 0.5, "aerial"),
            provenance=made,
        )
        image.save(tmp_path / "made" / f"{suffix}.{suffix}")
    Image.new("RGB", (8, 8)).save(tmp_path / "made" / "contact_sheet.png")
    pack(tmp_path / "made", tmp_path / "out", kind="pictures")
    found = facts(tmp_path / "out")
    assert set(found) == {"png", "jpg", "tif"}
    for known in found.values():
        assert known["synthetic"] is True and known["caption"] == "a harbor" and known["gsd_m"] == 2
        assert known["crs"] == "EPSG:32633" and known["date"] == "2017-08" and known["cloud_cover"] == 0.5
        assert known["lon"] == pytest.approx(15.0004, abs=1e-4)


def test_captions_may_hold_line_breaks_and_commas(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg((1, 2, 3)))
    (tmp_path / "t.csv").write_text('file,caption\na.jpg,"two lines,\nand a comma"\n')
    pack(tmp_path / "t.csv", tmp_path / "out")
    assert [known["caption"] for known in facts(tmp_path / "out").values()] == ["two lines,\nand a comma"]


def test_bounds_cross_the_antimeridian_as_in_geojson(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(jpeg((1, 2, 3) if name == "a" else (200, 9, 9), (64, 64)))
    (tmp_path / "t.csv").write_text("file,lon,lat,gsd,split\na.jpg,179.9999,0,10,train\nb.jpg,-179.99,0,10,test\n")
    pack(tmp_path / "t.csv", tmp_path / "out")
    west, south, east, north = facts(tmp_path / "out")["a"]["bounds"]
    assert 179.99 < west < 180 and -180 < east < -179.99 and -0.01 < south < 0 < north < 0.01
    assert check([tmp_path / "out"]).clean
    (tmp_path / "t.csv").write_text("file,lon,lat,gsd,split\na.jpg,179.9999,0,10,train\nb.jpg,-179.9999,0,10,test\n")
    assert pack(tmp_path / "t.csv", tmp_path / "out2")["left_out"] == {"overlaps a held-out tile": 1}
