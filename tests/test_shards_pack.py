"""Packs are the same bytes however often they were interrupted, and other programs read them."""

import io
import json
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from saved_toy import FOUND
from shard_toys import digests, members, options, pack, picture_folder, polygon, rows_and_columns, scene, shards

from gensat.errors import InputError
from gensat.geo.classes import WATER
from gensat.train.shards import ShardReader
from gensat.train.shards.pack import RECEIPT, SPLIT, STATE, run
from gensat.train.shards.places import Holdout
from gensat.train.shards.plan import plan
from gensat.train.shards.scenes import Cut
from gensat.types import Acquisition


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
