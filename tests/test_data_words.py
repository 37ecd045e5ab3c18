"""Captions say what is known of a sample and nothing else, in several ways; what is known decides how a picture may be turned."""

import numpy as np
import pytest
import torch

from gensat.conditioning.text import load_minilm
from gensat.geo.classes import BUILDING, UNKNOWN, WATER, WOODLAND
from gensat.train.captions import CLASSES, LONGEST, MOST, all_captions, facts
from gensat.train.latents import Bank, Entry, TextBank, turn_each, turns
from gensat.train.sources import Sample
from gensat.train.words import cover, kilometres, resolution, season, whereabouts
from gensat.types import Acquisition, PartialDate, Place

KAMPALA, CAIRNS = Place(32.59, 0.33), Place(145.77, -16.9)
SEASONS = ("winter", "spring", "summer", "autumn")


def _sample(source: str, **changes) -> Sample:
    values = {"key": f"{source}-1", "image": np.zeros((8, 8, 3), np.uint8), "caption": f"an aerial image of {source}"}
    return Sample(source, **{**values, **changes})


SAMPLES = [
    _sample("ucmerced", klass="harbor", acquisition=Acquisition(gsd=0.3048, sensor="aerial")),
    _sample("uganda", place=KAMPALA, acquisition=Acquisition(gsd=0.0746, sensor="drone")),
    _sample("poland", layout=np.array([[WOODLAND] * 7, [WATER] * 7, [WOODLAND] * 7], np.uint8)),
    _sample("houston", key="houston-1.post", acquisition=Acquisition(gsd=0.467, date="2017-08-31", sensor="vhr")),
    _sample("sentinel2", place=Place(7.62, 47.06), acquisition=Acquisition(10.0, "2021-07-03", sensor="sentinel-2")),
    _sample("landsat", key="plant-ls8_1_AZ_SUN", place=Place(-112.07, 33.45), acquisition=Acquisition(15.0)),
    _sample("rasters", place=Place(24.4, -33.7), acquisition=Acquisition(10.0, "2020-07-01", sensor="sentinel-2")),
]


def test_seasons_follow_the_hemisphere_and_there_is_none_in_the_tropics_or_without_a_month():
    north, south = Place(10, 50), Place(24, -33)
    assert [season(PartialDate(2020, m), north) for m in (1, 4, 7, 10, 12)] == [*SEASONS, "winter"]
    assert [season(PartialDate(2020, m), south) for m in (7, 10, 1, 4, 6)] == [*SEASONS, "winter"]
    assert season(PartialDate(2020), north) is None and season(PartialDate(2020, 1), None) is None
    assert season(PartialDate(2020, 1), KAMPALA) is None and season(PartialDate(2020, 1), CAIRNS) is None


def test_resolutions_are_named_within_a_tenth():
    assert [resolution(g) for g in (0.0746, 0.3048, 0.467, 0.61, 10.0, 28.5, 30.0)] == [
        "7 cm",
        "30 cm",
        "half-metre",
        "60 cm",
        "10 m",
        "30 m",
        "30 m",
    ]
    assert resolution(None) is None and resolution(2.3) is None and resolution(300.0) is None


def test_places_are_named_by_what_is_near():
    assert whereabouts(KAMPALA) == "in Kampala, Uganda"
    assert whereabouts(None) is None and whereabouts(Place(-140.0, 0.0)) is None  # the ocean
    assert whereabouts(Place(32.8, 0.32)) == "near Kampala, Uganda" and whereabouts(Place(33.05, 0.32)) == "in Uganda"
    assert kilometres(Place(0, 0), Place(90, 0)) == pytest.approx(6371 * np.pi / 2)
    assert kilometres(Place(10, 60), Place(11, 60)) == pytest.approx(55.6, abs=0.1)


def test_cover_names_the_greatest_kinds_of_ground():
    plan = np.full((10, 10), WOODLAND, np.uint8)
    plan[:2], plan[2, :3] = WATER, BUILDING
    assert cover(plan) == "mostly woodland, some water"  # three hundredths of buildings are not named
    plan[2:6] = BUILDING
    assert cover(plan) == "buildings, woodland, some water"
    plan[:6] = UNKNOWN
    assert cover(plan) is None and cover(None) is None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.source)
def test_captions_say_what_is_known_and_nothing_else(sample):
    made, known = all_captions(sample), facts(sample)
    assert made[0] == sample.caption and made == all_captions(sample)
    assert 5 <= len(set(made)) == len(made) <= MOST[sample.source] and max(map(len, made)) <= LONGEST
    text = " | ".join(made[1:])
    for name, words in (("where", "near "), ("when", "summer"), ("cover", "mostly"), ("gsd", "resolution")):
        if name not in known:
            assert words not in text.replace("very high resolution", "")
        else:
            assert known[name].removeprefix("in ").removesuffix(" resolution") in text
    said = {s for s in SEASONS if s in text}
    assert said == ({known["when"].removeprefix("in ")} if "when" in known else set())
    others = {"Sentinel": "sentinel-2", "drone": "drone", "aerial": None}
    for word, sensor in others.items():
        if sample.acquisition.sensor not in (sensor, "aerial", "drone"):
            assert word not in text, (word, text)
    assert ("flood" in text) == (sample.source == "houston")


def test_what_is_not_known_is_not_said():
    bare = _sample("sentinel2", acquisition=Acquisition(sensor="sentinel-2"))
    assert facts(bare) == {} and not any(w in " ".join(all_captions(bare)) for w in (*SEASONS, "near", "resolution"))
    assert "solar" in " ".join(all_captions(SAMPLES[5])) and "wind" not in " ".join(all_captions(SAMPLES[5]))
    other = _sample("landsat", key="plant-ls8_316_AZ_", place=Place(-112.07, 33.45))
    assert "power plant" in " ".join(all_captions(other)) and "solar" not in " ".join(all_captions(other))
    assert all_captions(_sample("mine", caption="as given")) == ["as given"]


def test_samples_with_the_same_facts_share_their_captions_and_others_do_not():
    one, two = (_sample("ucmerced", key=k, klass="beach", acquisition=Acquisition(0.3)) for k in "ab")
    assert all_captions(one) == all_captions(two)
    far = _sample("ucmerced", klass="beach", acquisition=Acquisition(0.6))
    assert 0 < len(set(all_captions(one)) & set(all_captions(far))) < len(all_captions(one))
    counted = {c for k in CLASSES for c in all_captions(_sample("ucmerced", klass=k, acquisition=Acquisition(0.3)))}
    assert len(counted) > 15 * len(CLASSES)


def test_no_caption_is_longer_than_what_a_bank_keeps():
    tokenizer = load_minilm()[1]
    rng = np.random.default_rng(0)
    plans = [rng.choice([2, 3, 4, 5], size=(6, 6), p=rng.dirichlet([1] * 4)).astype(np.uint8) for _ in range(40)]
    samples = SAMPLES + [_sample("poland", layout=plan, acquisition=Acquisition(sensor="aerial")) for plan in plans]
    lengths = [len(ids) for ids in tokenizer([c for s in samples for c in all_captions(s)])["input_ids"]]
    assert max(lengths) <= 24


def test_a_text_bank_keeps_only_the_tokens_there_are(tmp_path):
    tokens, mask = torch.randn(3, 6, 4), torch.zeros(3, 6, dtype=torch.bool)
    for row, length in enumerate((2, 6, 1)):
        mask[row, :length] = True
    tokens[~mask] = 0
    TextBank(["a", "b", ""], tokens, mask).save(tmp_path / "t.safetensors")
    back, its = TextBank.load(tmp_path / "t.safetensors").states(["b", "", "a"])
    assert torch.equal(its, mask[[1, 2, 0]]) and torch.allclose(back, tokens[[1, 2, 0]], atol=2e-3)
    assert (tmp_path / "t.safetensors").stat().st_size < 9 * 4 * 2 + 400


def _entry(source: str, cells: int, caption: str = "x", **known) -> Entry:
    picture = np.zeros((8 * cells, 8 * cells, 3), np.uint8)
    latent = np.zeros((1, cells, cells), np.float16)
    return Entry(source, latent, [caption], known.get("place"), known.get("acquisition", Acquisition()), picture, None)


def test_a_picture_whose_sun_is_known_is_only_mirrored_east_to_west():
    dated = Acquisition(gsd=0.5, date="2017-08-31")
    here = Place(-95.4, 29.8)
    free = [
        _entry("mine", 2, acquisition=dated),
        _entry("mine", 2, place=here),
        _entry("mine", 2, place=here, acquisition=Acquisition(10.0, "2017-08-31")),
        _entry("mine", 2, place=here, acquisition=Acquisition(0.5, "2017")),
    ]
    bound = [
        _entry("mine", 2, place=here, acquisition=dated),
        _entry("houston", 2, place=here, acquisition=Acquisition(0.5, "2017")),  # a day is drawn for it
    ]
    for k in range(8):
        assert turns(free + bound, k) == [k] * 4 + [k // 4 * 4] * 2
    x = torch.arange(8.0).reshape(2, 1, 2, 2)
    assert torch.equal(turn_each(x, [0, 4]), torch.stack([x[0], x[1].flip(-1)]))  # north stays up


def test_batches_hold_each_source_by_its_share_over_large_and_small_together():
    entries = [_entry("a", 32, f"kind {k % 5 > 0}") for k in range(40)] + [_entry("a", 16) for _ in range(40)]
    entries += [_entry("b", 16) for _ in range(3)]
    bank = Bank(entries, {"a": 0.9, "b": 0.1}, TextBank(["x"], torch.zeros(1, 2, 3), torch.ones(1, 2).bool()))
    how = {"share": 0.75, "crops": 0.5}
    drawn = bank.drawn(small=12, large=4, **how)
    assert drawn["a"] == pytest.approx(0.9) and drawn["b"] == pytest.approx(0.1)
    assert drawn["a: kind True"] / drawn["a: kind False"] == pytest.approx(2.0)  # four times as many
    rng = np.random.default_rng(0)
    found = [e.source for _ in range(900) for e in bank.batch(rng, small=12, large=4, **how)]
    assert found.count("b") / len(found) == pytest.approx(0.1, abs=0.02)
