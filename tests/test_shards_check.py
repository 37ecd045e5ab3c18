"""What a check reports: every damage by name, repeated keys, duplicates, overlaps; and its pictures."""

import json
import os

import numpy as np
import pytest
from shard_toys import about, colour, jpeg, png, shard, write_tar
from test_shards_damage import REASONS, broken  # noqa: F401 (a fixture)

from gensat.errors import InputError
from gensat.train.shards import open_index
from gensat.train.shards.check import check, count_samples
from gensat.train.shards.map import COLOURS, draw_map
from gensat.train.shards.report import FILES, lines, page, write


def test_a_clean_shard(tmp_path):
    shard(tmp_path / "a-000.tar", 12, date="2019-03-09", **{"class": "park"})
    found = check([tmp_path])
    told = found.describe()
    assert found.clean and found.samples == 12 == count_samples([tmp_path]) and told["shards"] == {"a-000.tar": 12}
    assert told["counts"]["class"] == {"park": 12} and told["counts"]["gsd"] == {"10 to 20 m": 12}
    assert told["counts"]["year"] == {"2019": 12} and told["counts"]["size"] == {"16 x 16": 12}
    assert told["counts"]["place"] == {"40 N 10 E": 12} and len(found.thumbs) == 12
    assert "12 samples in 1 shards: clean" in lines(found)


def test_every_broken_sample_is_named_with_its_reason(broken):  # noqa: F811
    found = check([broken])
    assert not found.clean and found.samples == 10
    assert set(found.broken) == {f"broken-000.tar:{key}" for key in REASONS}
    text, html = lines(found), page(found)
    for key, words in REASONS.items():
        assert words in found.broken[f"broken-000.tar:{key}"]
        assert f"broken-000.tar:{key}: " in text and f"broken-000.tar:{key}: " in html
    assert f"broken: {len(REASONS)}" in text


def test_a_cut_and_a_compressed_shard_are_named_and_the_others_are_read(tmp_path):
    shard(tmp_path / "a-000.tar", 3)
    cut = shard(tmp_path / "b-000.tar", 5, first=20)
    os.truncate(cut, open_index(cut).entries[-1].parts["jpg"][0] + 10)
    (tmp_path / "c-000.tar").write_bytes(b"\x1f\x8b" + bytes(100))
    found = check([tmp_path])
    assert found.samples == 7 and set(found.broken) == {"b-000.tar", "b-000.tar:s0024", "c-000.tar"}
    assert "cut off" in found.broken["b-000.tar"] and "compressed" in found.broken["c-000.tar"]


def test_bounds_that_are_no_box_are_broken(tmp_path):
    samples = {
        "a": {"jpg": jpeg((1, 0, 0)), "json": about(1, bounds=[5, 50, 4, 51])},
        "b": {"jpg": jpeg((2, 0, 0)), "json": about(2, bounds="x")},
        "c": {"jpg": jpeg((3, 0, 0)), "json": about(3, crs="EPSG:32633", transform=[1, 2])},
        "d": {"jpg": jpeg((4, 0, 0)), "json": about(4, bounds=[5, 50, 5.1, 50.1])},
    }
    found = check([write_tar(tmp_path / "a.tar", samples)])
    assert set(found.broken) == {"a.tar:a", "a.tar:b", "a.tar:c"} and found.samples == 1


def test_repeated_keys_duplicates_and_overlaps(tmp_path):
    shard(tmp_path / "a-000.tar", 3)
    with (tmp_path / "a-000.tar").open("rb") as file:
        data = file.read()
    samples = {
        "near": {
            "jpg": jpeg((200, 0, 0)),
            "json": about(0, lon=10.001, split="heldout"),
        },  # 16 px of 10 m around 10.0 E
        "away": {"jpg": jpeg((20, 200, 0)), "json": about(0, lon=10.05, split="heldout")},
        "same": {"jpg": jpeg(colour(2)), "json": about(0, lon=99.0, split="heldout")},
    }
    write_tar(tmp_path / "b-000.tar", samples)
    found = check([tmp_path])
    assert set(found.overlaps) == {("a-000.tar:s0000", "b-000.tar:near"), ("a-000.tar:s0002", "b-000.tar:same")}
    assert found.duplicates == [["a-000.tar:s0002", "b-000.tar:same"]] and not found.clean and not found.broken
    twice = tmp_path / "twice.tar"
    twice.write_bytes(data[: data.rindex(b"s0002.json") + 1024] + data)  # the three samples, and again
    again = check([twice])
    assert again.repeated_keys == [f"twice.tar:s000{i}" for i in range(3)] and not again.clean


def test_samples_without_an_extent_are_counted_as_unchecked(tmp_path):
    samples = {
        f"s{i}": {"jpg": jpeg(colour(i)), "json": json.dumps({"split": s}).encode()}
        for i, s in enumerate(("train", "heldout"))
    }
    found = check([write_tar(tmp_path / "a.tar", samples)])
    assert found.clean and found.uncheckable == 2 and "2 samples have no known extent" in lines(found)


def test_layouts_are_counted_by_class_and_laid_over_their_picture(tmp_path):
    layout = np.zeros((16, 16), np.uint8)
    layout[:4] = 4
    write_tar(tmp_path / "a.tar", {"a": {"jpg": jpeg((100, 100, 100)), "layout.png": png(layout), "json": about(0)}})
    found = check([tmp_path / "a.tar"])
    assert found.layouts == {0: 192, 4: 64} and "water 25 %" in lines(found)
    ((_, mixed),) = found.maps
    assert mixed[8, 8].tolist() == [100, 100, 100] and np.abs(mixed[1, 1].astype(int) - [71, 106, 150]).max() <= 1


def test_the_report_is_written_whole_and_not_over_another(tmp_path):
    shard(tmp_path / "a-000.tar", 5)
    out = tmp_path / "out"
    out.mkdir()
    found = check([tmp_path / "a-000.tar"])
    write(found, out)
    assert {p.name for p in out.iterdir()} == set(FILES) - {"layouts.png"}
    assert json.loads((out / "findings.json").read_text())["samples"] == 5
    html = (out / "index.html").read_text()
    assert "contact_sheet.png" in html and "map.png" in html and "clean" in html
    with pytest.raises(InputError, match="exists"):
        write(found, out)


def dots(picture, split) -> np.ndarray:
    """Centres (x, y) of the dots of a colour below the key of the map."""
    hit = (np.asarray(picture) == COLOURS[split]).all(axis=2)
    hit[:40] = False
    ys, xs = np.nonzero(hit)
    return np.array([xs.mean(), ys.mean()]) if len(xs) else np.zeros(2)


def test_dots_lie_where_the_places_are():
    west, east = [(10.0, 50.0, "train"), (12.0, 51.0, "heldout")], [(10.0, 50.0, "heldout"), (12.0, 51.0, "train")]
    a, b = draw_map(west), draw_map(east)
    assert np.allclose(dots(a, "train"), dots(b, "heldout"), atol=0.6) and np.allclose(
        dots(a, "heldout"), dots(b, "train"), atol=0.6
    )
    (x0, y0), (x1, y1) = dots(a, "train"), dots(a, "heldout")
    assert x1 > x0 and y1 < y0  # east is right, north is up
    assert (x1 - x0) / (y0 - y1) == pytest.approx(2 * np.cos(np.radians(50.5)), rel=0.03)  # degrees drawn in proportion


def test_the_land_mask_knows_land_from_sea():
    from gensat.train.shards.map import _land

    def land(lon, lat):
        return bool(_land()[int((90 - lat) * 4), int((lon + 180) * 4)])

    assert land(2.35, 48.86) and land(-99, 47) and land(134, -25) and not land(-40, 30) and not land(80, -40)


@pytest.mark.parametrize("places", [[], [(0.0, 90.0, "train")], [(180.0, -90.0, "train"), (-180.0, 89.0, "heldout")]])
def test_maps_of_extremes_are_drawn(places):
    assert draw_map(places).width > 900
