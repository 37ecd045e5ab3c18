"""Packing pictures and tables: what is known of each is kept, what is wrong is said by name."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from shard_toys import facts, jpeg, members, options, pack, picture_folder, png, rows_and_columns, scene

from gensat.errors import InputError
from gensat.train.shards import ShardReader
from gensat.train.shards.check import check
from gensat.train.shards.plan import plan
from gensat.types import Acquisition, GeoImage


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
