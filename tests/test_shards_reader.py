"""The shard reader: order, the index, and the members of other projects."""

import gzip
import io
import json
import os
import pickle
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_toys import jpeg, npy, shard, write_tar
from torch.utils.data import DataLoader, Dataset

from gensat.errors import InputError
from gensat.geo.legend import LEGENDS, Legend
from gensat.train import tars
from gensat.train.data import read_samples
from gensat.train.shards import ShardReader, find_shards, open_index, stream
from gensat.types import PartialDate, Place


def number(sample) -> int:
    return int(sample.caption.split()[-1])


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    shard(folder / "one-train-000.tar", 7, source="one")
    shard(folder / "two-train-000.tar", 13, first=50, source="two")
    return folder


def test_every_epoch_is_a_permutation_and_epochs_differ(two):
    reader = ShardReader(two, seed=3)
    n = len(reader)
    epochs = [[reader.order(e * n + i) for i in range(n)] for e in range(4)]
    assert n == 20 and all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [ShardReader(two, seed=4).order(i) for i in range(n)] != epochs[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(positions=st.lists(st.integers(0, 10**9), min_size=1, max_size=20), seed=st.integers(-5, 5))
@pytest.mark.parametrize("shares", [None, {"one": 1, "two": 3}])
def test_order_is_a_function_of_seed_and_position_alone(two, positions, seed, shares):
    reader = ShardReader(two, shares=shares, seed=seed)
    forward = {p: reader.order(p) for p in positions}
    other = pickle.loads(pickle.dumps(ShardReader(two, shares=shares, seed=seed)))
    assert {p: other.order(p) for p in reversed(positions)} == forward


@pytest.mark.parametrize(
    "shares", [{"one": 1, "two": 1}, {"one": 0.001, "two": 9}, {"two": 2}, {"one": 3.3, "two": 6.7}]
)
def test_shares_are_exact_in_every_thousand_and_each_source_goes_through_all_its_samples(two, shares):
    reader = ShardReader(two, shares=shares, seed=1)
    drawn = [reader.order(i) for i in range(3000)]
    total = sum(shares.values())
    for start in (0, 1000, 2000):
        counts = Counter(reader.entries[i].source for i in drawn[start : start + 1000])
        assert (
            all(abs(counts[s] - 1000 * share / total) <= 1 for s, share in shares.items())
            and sum(counts.values()) == 1000
        )
        assert min(counts.values()) >= 1
    for source in shares:  # in whole epochs of the source every sample equally often
        own = [i for i in drawn if reader.entries[i].source == source]
        size = reader.sources[source]
        whole = own[: len(own) // size * size]
        assert not whole or set(Counter(whole).values()) == {len(own) // size}


def test_ranks_read_what_one_process_would(two):
    reader = ShardReader(two, seed=5)
    alone = [reader.at(i).key for i in range(60)]
    ranks = [[ShardReader(two, seed=5).at(i).key for i in range(r, 60, 3)] for r in range(3)]
    assert [ranks[i % 3][i // 3] for i in range(60)] == alone


def test_without_shuffling_the_order_is_that_of_the_shards(two):
    reader = ShardReader(two, epoch_shuffle=False)
    assert [number(reader.at(i)) for i in range(21)] == [*range(7), *range(50, 63), 0]
    assert [number(s) for s in reader.samples()] == [*range(7), *range(50, 63)]


def test_what_a_sample_says(two):
    sample = next(ShardReader(two).samples())
    assert (sample.source, sample.key, sample.caption) == ("one", "s0000", "number 0")
    assert sample.place == Place(10.0, 45.0) and sample.acquisition.gsd == 10.0
    assert sample.image.shape == (16, 16, 3) and sample.image.dtype == np.uint8 and sample.layout is None


def test_the_index_is_kept_beside_the_shard_and_follows_the_file(tmp_path, monkeypatch):
    path = shard(tmp_path / "a.tar", 3)
    assert len(open_index(path).entries) == 3 and (tmp_path / ".a.tar.index").is_file()
    monkeypatch.setattr(tars, "scan", lambda path: pytest.fail("scanned again"))
    assert len(open_index(path).entries) == 3
    monkeypatch.undo()
    shard(path, 5)
    assert len(open_index(path).entries) == 5
    (tmp_path / ".a.tar.index").write_text("not json")
    assert len(open_index(path).entries) == 5


def test_the_index_of_a_read_only_folder_goes_to_the_cache(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    path = shard(folder / "a.tar", 3)
    folder.chmod(0o555)
    monkeypatch.setenv("GENSAT_CACHE", str(tmp_path / "cache"))
    assert len(open_index(path).entries) == 3
    folder.chmod(0o755)
    assert [p.name for p in folder.iterdir()] == ["a.tar"]
    assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1


def test_the_split_is_read_from_json_then_from_the_name(tmp_path):
    shard(tmp_path / "x-heldout-000.tar", 2)
    shard(tmp_path / "x-000.tar", 3, first=10)
    shard(tmp_path / "y-000.tar", 4, first=20, split="heldout")
    assert [len(ShardReader(tmp_path, split=s)) for s in ("train", "heldout", None)] == [3, 6, 9]


def test_paths_may_be_files_folders_globs_and_braces(two):
    files = sorted(two.glob("*.tar"))
    assert find_shards(two) == find_shards(f"{two}/*-train-*.tar") == find_shards(files) == files
    assert find_shards(f"{two}/one-train-{{000..000}}.tar") == files[:1]
    assert find_shards([two, *files]) == files
    with pytest.raises(InputError, match="no shard"):
        find_shards(f"{two}/three-*.tar")


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"three": 1}, "no source three; they hold one, two"),
        ({"one": -1, "two": 2}, "no weights"),
        ({"one": 0}, "no weights"),
    ],
)
def test_wrong_shares_are_one_sentence(two, shares, words):
    with pytest.raises(InputError, match=words):
        ShardReader(two, shares=shares)


def test_wrong_split_and_position(two):
    with pytest.raises(InputError, match="split is 'test'"):
        ShardReader(two, split="test")
    with pytest.raises(InputError, match="negative"):
        ShardReader(two).order(-1)


class Positions(Dataset):
    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return self.reader.at(i).image


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_dataloader_read_the_same(two, context):
    reader = ShardReader(two, seed=1)
    assert len(pickle.dumps(reader)) < 2000
    loader = DataLoader(Positions(reader), batch_size=10, num_workers=2, multiprocessing_context=context)
    read = np.concatenate([batch.numpy() for batch in loader])
    assert np.array_equal(read, np.stack([reader.at(i).image for i in range(40)]))


def test_threads_read_the_same(two):
    reader, found = ShardReader(two, seed=1), {}

    def work(start):
        for i in range(start, 60, 4):
            found[i] = reader.at(i).key

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(60)] == [ShardReader(two, seed=1).at(i).key for i in range(60)]


def test_a_pipe_gives_the_same_samples(two):
    path = two / "one-train-000.tar"
    read, write = os.pipe()
    sender = threading.Thread(target=lambda: os.fdopen(write, "wb").write(path.read_bytes()))
    sender.start()
    with os.fdopen(read, "rb") as pipe:
        streamed = list(stream(pipe))
    sender.join()
    assert [s.key for s in streamed] == [s.key for s in ShardReader(path).samples()]
    assert [s.key for s in stream(io.BytesIO(gzip.compress(path.read_bytes())))] == [s.key for s in streamed]


def test_diffusionsat_members(tmp_path):
    fmow = {"gsd": 0.5, "cloud_cover": 25, "timestamp": "2016-05-04T10:00:00Z", "lon": 3.0, "lat": 4.0}
    array = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    path = write_tar(
        tmp_path / "ds.tar",
        {
            "fmow-golf_course-12": {"output.cls": b"5", "input.npy": npy(array), "metadata.json": json.dumps(fmow).encode()},
            "fmow-park-3": {
                **{f"input-{i}.npy": npy(np.full((8, 8, 3), i, np.uint8)) for i in (0, 1, 10)},
                **{f"metadata-{i}.json": json.dumps({**fmow, "cloud_cover": i}).encode() for i in (0, 1, 10)},
            },
            "spacenet-1": {"rgb.npy": npy(array.astype(np.float32) / 255), "metadata.json": b"{}"},
            "satlas-1": {"rgb.npy": npy(np.stack([array, array + 1])), "info.json": b"{}"},
            "xbd-1": {
                "pre-input.npy": npy(array), "pre-metadata.json": json.dumps({**fmow, "gsd": 1.0}).encode(),
                "post-input.npy": npy(array + 1), "post-metadata.json": json.dumps({**fmow, "gsd": 2.0}).encode(),
            },
            "pickle-1": {"rgb.npy": npy(np.array([{}], dtype=object)), "metadata.json": b"{}"},
        },
    )  # fmt: skip
    reader = ShardReader(path)
    found = {s.key: s for s in reader.samples()}
    one = found["fmow-golf_course-12"]
    assert one.klass == "golf_course" and one.place == Place(3.0, 4.0) and np.array_equal(one.image, array)
    assert one.acquisition.cloud_cover == 0.25 and one.acquisition.date == PartialDate(2016, 5, 4)
    assert [found[f"fmow-park-3.{i}"].acquisition.cloud_cover for i in (0, 1, 10)] == [0, 0.01, 0.1]
    assert found["fmow-park-3.10"].image.max() == 10
    assert np.array_equal(found["spacenet-1"].image, array) and np.array_equal(found["satlas-1"].image, array)
    assert found["xbd-1.pre"].acquisition.gsd == 1.0 and found["xbd-1.post"].acquisition.gsd == 2.0
    assert "cannot be decoded" in reader.damaged["ds.tar:pickle-1"]  # a pickle in an array is never run
    assert reader.sources == {"fmow": 4, "pickle": 1, "satlas": 1, "spacenet": 1, "xbd": 2}


@pytest.mark.parametrize("form", ["lines", "list"])
def test_geosynth_lists(tmp_path, form):
    (tmp_path / "sat").mkdir()
    rows = []
    for i in range(3):
        (tmp_path / "sat" / f"{i}.jpg").write_bytes(jpeg((50 * i, 0, 0)))
        rows.append({"source": f"osm/{i}.png", "target": f"sat/{i}.jpg", "prompt": f"number {i}", "class": 2 - i})
    rows.append({"source": "x", "target": "sat/missing.jpg", "prompt": "number 9", "class": 0})
    np.save(tmp_path / "lonlat.npy", np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan]]))
    text = json.dumps(rows) if form == "list" else "\n".join(json.dumps(row) for row in rows)
    path = tmp_path / "prompt.json"
    path.write_text(text)
    reader = ShardReader(path)
    found = list(reader.samples())
    assert [s.caption for s in found] == ["number 0", "number 1", "number 2"]
    assert [s.place for s in found] == [None, Place(3.0, 4.0), Place(1.0, 2.0)]
    assert "missing.jpg cannot be read" in next(iter(reader.damaged.values()))


@pytest.mark.data
def test_the_data_folder_reads_as_its_own_readers_do():
    for source, folder in (
        ("uganda", "buildings"),
        ("sentinel2", "sentinel2"),
        ("landsat", "landsat"),
    ):
        for split in ("train", "heldout"):
            ours = list(ShardReader(DATA / folder, split=split).samples())
            theirs = list(read_samples(DATA, split, sources=[source], screened=False))
            assert [(s.source, s.key, s.caption, s.place, s.acquisition) for s in ours] == [
                (s.source, s.key, s.caption, s.place, s.acquisition) for s in theirs
            ]
            assert all(np.array_equal(a.image, b.image) for a, b in zip(ours, theirs, strict=True))
            assert all(
                np.array_equal(a.layout, b.layout) for a, b in zip(ours, theirs, strict=True) if b.layout is not None
            )


@pytest.mark.data
def test_pre_and_post_of_the_data_folder_are_two_samples():
    reader = ShardReader(DATA / "houston" / "houston-train-000.tar", epoch_shuffle=False)
    pre, post = reader.at(0), reader.at(1)
    assert pre.key.endswith(".pre") and post.key == pre.key.replace(".pre", ".post")
    assert pre.caption != post.caption and pre.place == post.place and pre.acquisition.date.year == 2017


def test_a_legend_reads_bytes_as_it_reads_other_integers():
    codes = np.random.default_rng(0).integers(0, 5, (40, 30))
    for legend in (LEGENDS["landcover.ai"], Legend("part", {1: 3}, default=1)):
        assert np.array_equal(legend.to_classes(codes.astype(np.uint8)), legend.to_classes(codes))
    for kind in (np.uint8, np.int64):
        with pytest.raises(InputError, match="codes 2, 3, 4 that"):
            Legend("part", {0: 1, 1: 3}).to_classes(codes.astype(kind))


def test_all_loops_of_the_benchmark_read_the_same_pictures(tmp_path):
    pytest.importorskip("webdataset")
    from benchmarks.reading import loops, shards_of_pictures, unpack

    shards = shards_of_pictures(tmp_path, 24, 32)
    files, found = unpack(shards, tmp_path)
    assert len(shards) > 1 and found == 24
    read = {name: sorted(one.tobytes() for one in start()) for name, start in loops(shards, files, 0).items()}
    assert len(read["gensat"]) == 24 and read["gensat"] == read["webdataset"] == read["ImageFolder"]
