"""What is kept out of training: copies found however they were turned, flaws told from calm pictures, the kept list."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gensat.errors import InputError
from gensat.train import look
from gensat.train.data import read_samples
from gensat.train.duplicates import Pair, duplicates, groups, overlaps, symmetry
from gensat.train.flaws import flaw
from gensat.train.screening import main as screening
from gensat.train.screening import screen
from gensat.train.screening_list import kept_list, left_out
from gensat.train.sources import Sample


def ground(seed: int, size: int = 256) -> np.ndarray:
    """Something with large and small forms, as land has."""
    rng = np.random.default_rng(seed)
    total = sum(
        w * n / n.std() for w, n in ((g, ndimage.gaussian_filter(rng.normal(size=(size, size)), g)) for g in (1, 4, 16))
    )
    grey = 120 + 35 * total / total.std()
    return np.stack([grey, grey + 5, grey - 8], -1).clip(0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("k", range(8))
def test_copies_are_found_turned_jpegged_and_moved(k):
    whole = ground(k, 262)
    first = whole[3:259, 3:259]
    again = np.ascontiguousarray(symmetry(jpeg(whole[5:261, 2:258], 70), k))
    images = [first, ground(50), again, ground(51)]
    (found,) = duplicates(images)
    assert (found.first, found.second) == (0, 2) and found.alike > 0.8


def test_what_only_looks_alike_is_no_copy():
    lines = np.tile(np.repeat([40, 200, 90, 90], 16), 4)[None, :, None]  # the same furrows, other soil
    furrows = [(0.7 * lines + 0.3 * ground(seed)).astype(np.uint8) for seed in (1, 2)]
    assert list(duplicates([*furrows, *(ground(s) for s in range(3, 9))])) == []
    assert list(duplicates([])) == []
    assert list(duplicates([ground(1, 76)[:75], ground(2, 76), ground(3, 80)])) == []  # each of a size of its own


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_parts_of_one_larger_image_are_found_where_they_overlap(seed):
    whole = ground(seed, 400)
    images = [whole[:256, :256], whole[60:316, 80:336], ground(20), whole[100:356, 100:356], whole[140:396, 140:396]]
    found = list(overlaps(images, [0], [1, 2, 3, 4]))
    assert [(p.first, p.second) for p in found] == [(0, 1), (0, 3)]  # a fifth in common is too little
    assert found[0].share == pytest.approx((196 / 256) * (176 / 256), abs=0.03)


def test_pairs_that_hang_together_are_one_group():
    assert groups([Pair(4, 7, 1.0), Pair(1, 2, 1.0), Pair(2, 7, 1.0), Pair(8, 9, 1.0)]) == [[1, 2, 4, 7], [8, 9]]


def test_flaws_are_told_from_calm_pictures():
    land = ground(3, 128)
    framed = land.copy()
    framed[:, -1] = 0
    hole = land.copy()
    hole[40:80, 40:80] = 255  # a bright roof in the middle
    sea = np.clip(60 + np.random.default_rng(0).normal(0, 5, (128, 128, 3)), 0, 255).astype(np.uint8)
    haze = np.asarray(Image.fromarray(land).resize((2, 2)).resize((128, 128), Image.Resampling.BICUBIC)) // 2 + 60
    flat = np.full((64, 64, 3), 93, np.uint8)
    assert [flaw(x) for x in (land, framed, hole, sea, haze, flat)] == [None, "framed", None, None, "blurred", "blank"]


def _sample(key: str, image: np.ndarray) -> Sample:
    return Sample("ucmerced", key, image, "")


def test_the_training_picture_goes_and_the_held_out_one_stays():
    whole = ground(11, 300)
    heldout = [_sample("h1", whole[:256, :256]), _sample("h2", ground(12))]
    dark = np.zeros((256, 256, 3), np.uint8)
    train = [
        _sample("a", ground(13)),
        _sample("b", np.ascontiguousarray(ground(13)[::-1])),
        _sample("c", np.ascontiguousarray(np.rot90(ground(12)))),
        _sample("d", whole[44:, 44:]),
        _sample("e", dark),
        _sample("f", ground(14)),
    ]
    by_number = screen(train, heldout, placed=False)
    assert set(by_number) == {"b", "c", "d", "e"}
    assert by_number["b"] == "same as a" and by_number["c"].startswith("shows 100% of held-out h2")
    assert by_number["d"].startswith("shows 6") and by_number["d"].endswith("h1") and by_number["e"] == "framed"
    assert set(screen(train, heldout)) == {"b", "c", "e"}
    assert list(screen([train[0], train[5]], [])) == []


def test_the_kept_list_gives_a_reason_for_everything():
    listed = kept_list()
    for part in ("found", "seen"):
        for source, keys in listed[part].items():
            assert keys == {} or all(isinstance(why, str) and why for why in keys.values()), source
    key = next(iter(listed["seen"]["sentinel2"]))
    assert left_out("sentinel2", key) == listed["seen"]["sentinel2"][key] and left_out("sentinel2", "s2-0") is None


def test_bad_options_are_one_sentence(tmp_path):
    for run, words in ((screening, ["seed=3"]), (look.main, []), (look.main, [str(tmp_path), "colour=red"])):
        with pytest.raises(InputError, match=r"it takes|give the folder"):
            run(words)
    with pytest.raises(InputError, match="whole number"):
        look.main([str(tmp_path), "count=none"])
    assert [s.key for s in look.spread([_sample(str(k), ground(0, 16)) for k in range(10)], 4)] == ["0", "2", "5", "7"]


@pytest.mark.data
@pytest.mark.parametrize("source", ["landsat", "sentinel2", "uganda"])
def test_the_kept_list_is_what_the_command_finds(source, tmp_path, capsys):
    train, heldout = (
        list(read_samples(None, split, sources=[source], screened=False)) for split in ("train", "heldout")
    )
    assert screen(train, heldout) == kept_list()["found"][source]
    gone = {s.key for s in train} - {s.key for s in read_samples(None, "train", sources=[source])}
    assert gone == {s.key for s in train if left_out(source, s.key)} and (gone or source == "uganda")
    look.main([str(tmp_path), f"sources={source}", "count=5"])
    assert Image.open(tmp_path / f"{source}.jpg").width > 500
    assert f"5 of {len(train) - len(gone)}" in capsys.readouterr().out
