"""The shard reader and damage: what is left out, what stands in for it, what is said."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from shard_toys import about, jpeg, png, shard, write_tar

from gensat.errors import InputError
from gensat.train import tars
from gensat.train.shards import ShardReader, open_index, stream


def number(sample) -> int:
    return int(sample.caption.split()[-1])


@pytest.fixture
def broken(tmp_path) -> Path:
    """Ten good samples and one of each damage."""
    good = {f"s{i:04d}": {"jpg": jpeg((i, 0, 0)), "json": about(i)} for i in range(10)}
    half = jpeg((9, 9, 9), (64, 64))
    samples = {
        **good,
        "cut": {"jpg": half[: len(half) // 2], "json": about(20)},
        "text": {"jpg": b"no image at all", "json": about(20)},
        "parse": {"jpg": jpeg((1, 1, 1)), "json": b'{"lon": 1,'},
        "list": {"jpg": jpeg((1, 1, 1)), "json": b"[1]"},
        "north": {"jpg": jpeg((1, 1, 1)), "json": about(20, lat=95)},
        "nan": {"jpg": jpeg((1, 1, 1)), "json": about(20, lon=float("nan"))},
        "percent": {"jpg": jpeg((1, 1, 1)), "json": about(20, cloud_cover=40)},
        "word": {"jpg": jpeg((1, 1, 1)), "json": about(20, gsd_m="ten")},
        "half": {"jpg": jpeg((1, 1, 1)), "json": about(20, lat=None)},
        "size": {"jpg": jpeg((1, 1, 1)), "layout.png": png(np.zeros((8, 16), np.uint8)), "json": about(20)},
        "code": {"jpg": jpeg((1, 1, 1)), "layout.png": png(np.full((16, 16), 77, np.uint8)), "json": about(20)},
        "date": {"jpg": jpeg((1, 1, 1)), "json": about(20, date="2017-13-01")},
        "alone": {"json": about(20)},
    }
    return write_tar(tmp_path / "broken-000.tar", samples)


REASONS = {
    "cut": "cannot be decoded",
    "text": "cannot be decoded",
    "parse": "json does not parse",
    "list": "no JSON object",
    "north": "latitude 95",
    "nan": "lon is nan",
    "percent": "cloud cover 40",
    "word": "'ten'",
    "half": "one of lon and lat",
    "size": "layout.png is 16 x 8 pixels, the image 16 x 16",
    "code": "codes 77",
    "date": "month 13",
    "alone": "no image",
}


def test_damaged_samples_are_left_out_and_named(broken):
    reader = ShardReader(broken)
    assert [number(s) for s in reader.samples()] == list(range(10))
    assert set(reader.damaged) == {f"broken-000.tar:{key}" for key in REASONS}
    for key, words in REASONS.items():
        assert words in reader.damaged[f"broken-000.tar:{key}"], key


def test_a_damaged_sample_is_replaced_by_the_same_one_always(broken):
    forward, backward = ShardReader(broken, seed=2), ShardReader(broken, seed=2)
    n = len(forward)
    first = [number(forward.at(i)) for i in range(3 * n)]
    second = [number(backward.at(i)) for i in reversed(range(3 * n))][::-1]
    assert first == second and set(first) <= set(range(10))
    undamaged = [i for i in range(3 * n) if forward.entries[forward.order(i)].name not in forward.damaged]
    assert [first[i] for i in undamaged] == [number(forward.read(forward.order(i))) for i in undamaged]
    assert len(forward.damaged) == len(REASONS)


def test_nothing_but_damage_is_an_error_and_not_a_loop(tmp_path):
    path = write_tar(tmp_path / "bad.tar", {f"s{i}": {"jpg": b"x", "json": about(i)} for i in range(3)})
    with pytest.raises(InputError, match=r"damaged .*gensat data check"):
        ShardReader(path).at(0)


def test_a_truncated_tar_gives_what_is_whole(tmp_path):
    path = shard(tmp_path / "cut.tar", 10)
    last = open_index(path).entries[-1]
    os.truncate(path, last.parts["jpg"][0] + 100)
    index = open_index(path)
    assert [e.key for e in index.entries] == [f"s{i:04d}" for i in range(9)]
    assert "cut off" in index.damaged["s0009"] and "cut off" in index.problems[0]
    assert len(list(ShardReader(path).samples())) == 9


def test_a_tar_cut_between_samples_is_noticed(tmp_path):
    path = shard(tmp_path / "cut.tar", 10)
    offset, size = open_index(path).entries[4].parts["json"]
    os.truncate(path, offset + -(-size // 512) * 512)
    index = open_index(path)
    assert len(index.entries) == 5 and not index.damaged and "no end mark" in index.problems[0]


def test_after_a_damaged_header_the_rest_is_read(tmp_path):
    path = shard(tmp_path / "hole.tar", 10)
    entries = open_index(path).entries
    with path.open("r+b") as file:  # both headers of sample 4
        for part in ("jpg", "json"):
            file.seek(entries[4].parts[part][0] - 512)
            file.write(b"\xaa" * 512)
    contents = tars.scan(path)
    assert [g.key for g in contents.groups] == [f"s{i:04d}" for i in range(10) if i != 4]
    assert any("no tar header" in problem for problem in contents.problems)


@pytest.mark.parametrize(
    ("content", "words"),
    [(gzip.compress(b"x" * 2000, mtime=0), "compressed"), (None, "does not exist|no shard")],
)
def test_what_is_no_plain_tar_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "x.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        ShardReader(path)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 200])
def test_a_file_that_is_no_tar_holds_nothing_and_says_so(tmp_path, content):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    assert open_index(path).problems
    with pytest.raises(InputError, match="hold no samples"):
        ShardReader(path)


def test_a_pipe_leaves_out_the_same_samples(broken):
    damaged: dict[str, str] = {}
    assert len(list(stream(broken, damaged=damaged))) == 10 and set(damaged) == set(REASONS) - {"alone"}
