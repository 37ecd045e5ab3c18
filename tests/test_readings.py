"""What is read off training images: said only where it is sure and believed, kept apart from maps, and gone where no recipe asks for it."""

import json

import numpy as np
import pytest
import torch
from toys import toy_vae

from gensat.diffusion.codec import Codec
from gensat.errors import InputError
from gensat.geo.legend import BUILDING, OTHER_GROUND, ROAD, UNKNOWN, WATER, WOODLAND
from gensat.models.features import EfficientNetLite0
from gensat.models.probe import SceneProbe
from gensat.models.segmenter import LayoutSegmenter
from gensat.train import cache, feed, read, sure_words
from gensat.train.captions import all_captions
from gensat.train.controls import cell_weights, class_weights, controls
from gensat.train.latents import encode_samples, variants
from gensat.train.pack import captions_of
from gensat.train.readings import Readings, write_json, write_layouts
from gensat.train.recipe import load_recipe
from gensat.train.sources import Sample
from gensat.train.sure_layouts import ALLOWED, LayoutReader, choose, kind, long_roads, precision_rows, sure
from gensat.types import Acquisition, Place

CLASSES = (OTHER_GROUND, BUILDING, ROAD, WATER, WOODLAND)


def sample(key="houston-1.pre", source="houston", side=16, seed=0, **changes) -> Sample:
    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Sample(source, key, image, **{"caption": "houses in Houston, Texas", **changes})


def certain(code, p, shape=(4, 4)):
    """Probabilities (k, h, w) that are ``p`` for one class and even for the others."""
    each = np.full((5, *shape), (1 - p) / 4, np.float32)
    each[CLASSES.index(code)] = p
    return each


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return EfficientNetLite0(None).eval(), LayoutSegmenter(widths=[8] * 5).eval(), SceneProbe(["buildings", "river"])


def folder(path, samples=(), maps=(), words=None):
    path.mkdir(exist_ok=True)
    write_layouts(path, "houston", samples, maps)
    write_json(path / "words.json", {"houston": words or {}})
    write_json(path / "about.json", {"fingerprint": "0", "counts": {"houston": {"read": len(samples)}}})
    return Readings(path)


def test_only_what_reaches_its_bar_and_is_believed_is_said():
    bars = {BUILDING: 0.8, WATER: 0.9}
    assert (sure(certain(BUILDING, 0.8), CLASSES, bars) == BUILDING).all()
    assert (sure(certain(BUILDING, 0.79), CLASSES, bars) == UNKNOWN).all()
    assert (sure(certain(WATER, 0.89), CLASSES, bars) == UNKNOWN).all()
    assert (sure(certain(WOODLAND, 0.99), CLASSES, bars) == UNKNOWN).all()
    half = np.concatenate([certain(BUILDING, 0.9), certain(WATER, 0.95)], axis=2)
    assert (sure(half, CLASSES, bars) == np.repeat([BUILDING, WATER], 4)).all()


def test_a_short_road_is_none():
    plan = np.full((64, 64), BUILDING, np.uint8)
    plan[10:14] = ROAD  # 64 pixels long
    plan[30:40, 5:15] = ROAD  # 10 pixels
    kept = long_roads(plan, 0.5)
    assert (kept[10:14] == ROAD).all() and (kept[30:40, 5:15] == UNKNOWN).all()
    assert ((kept == BUILDING) == (plan == BUILDING)).all()
    assert np.array_equal(long_roads(plan, 2.0), plan) and np.array_equal(long_roads(plan, None), plan)
    assert not (long_roads(plan, 0.3) == ROAD).any()


def test_what_a_picture_is_known_to_show_decides_what_is_believed():
    assert kind(sample("a.pre.mosaic")) == "houston pre" and kind(sample("a.post")) == "houston post"
    assert kind(sample("x", "ucmerced", klass="runway")) == "runway"
    assert not ALLOWED.get("runway") and not ALLOWED.get("sentinel2")
    assert BUILDING not in ALLOWED["agricultural"] and not {OTHER_GROUND, WATER} & ALLOWED["houston post"]
    assert all(codes <= set(CLASSES) for codes in ALLOWED.values())


def test_turning_an_image_turns_what_is_read_and_a_batch_reads_as_one_by_one(networks):
    backbone, segmenter, _ = networks
    reader = LayoutReader(segmenter, backbone, dict.fromkeys(CLASSES, 0.25))
    samples = [sample(seed=i, side=64) for i in range(3)]
    together = reader.probabilities([s.image for s in samples])
    assert torch.allclose(together.sum(1), torch.ones(3, 64, 64), atol=1e-5)
    turned = reader.probabilities([np.ascontiguousarray(np.rot90(samples[1].image))])
    assert torch.allclose(torch.rot90(together[1:2], 1, (-2, -1)), turned, atol=1e-4)
    maps = list(reader.read(samples, batch=2))
    alone = [next(reader.read([s])) for s in samples]
    assert all((a == b).mean() > 0.999 for a, b in zip(maps, alone, strict=True))
    mixed = [sample(seed=7, side=64), sample(seed=8, side=96)]
    assert [m.shape for m in reader.read(mixed)] == [(64, 64), (96, 96)]
    runway = sample("r", "ucmerced", side=64, klass="runway")
    assert not next(reader.read([runway])).any()


def test_precision_counts_what_is_said_and_thresholds_follow_it():
    """A stripe of 60 columns is read as houses with 0.95, one of 40 with 0.85; of the second half is ground."""
    first, second = certain(BUILDING, 0.95, (50, 60)), certain(BUILDING, 0.85, (50, 40))
    truth = np.full((50, 100), BUILDING, np.uint8)
    truth[:, 80:] = OTHER_GROUND
    truth[:5] = UNKNOWN  # says nothing
    one = sample(source="poland", layout=truth)
    rows = {(r.code, r.threshold): r for r in precision_rows([np.concatenate([first, second], 2)], [one], CLASSES)}
    assert rows[BUILDING, 0.8].precision == pytest.approx(0.8) and rows[BUILDING, 0.8].kept == 1
    assert rows[BUILDING, 0.9].precision == 1 and rows[BUILDING, 0.9].kept == pytest.approx(0.75)
    assert rows[OTHER_GROUND, 0.8].pixels == 0
    assert choose(list(rows.values())) == {BUILDING: 0.9}
    assert choose(list(rows.values()), wanted=0.75, least=0.75) == {BUILDING: 0.8}
    # none good enough: the best, if it is good at all
    eight = [r for r in rows.values() if r.threshold <= 0.85]
    assert choose(eight) == {} and choose(eight, least=0.8) == {BUILDING: 0.8}


def test_the_worse_of_two_sources_decides_and_footprints_speak_of_buildings_only():
    good, bad = certain(BUILDING, 0.95, (50, 60)), certain(BUILDING, 0.95, (50, 60))
    truth = np.full((50, 60), BUILDING, np.uint8)
    wrong = truth.copy()
    wrong[:, :30] = UNKNOWN  # of a footprint map: looked at, and no building
    rows = precision_rows(
        [good, bad], [sample(source="poland", layout=truth), sample(source="uganda", layout=wrong)], CLASSES
    )
    assert {r.code for r in rows if r.source == "uganda"} == {BUILDING}
    assert {r.source: r.precision for r in rows if r.code == BUILDING and r.threshold == 0.9} == {
        "poland": 1.0,
        "uganda": 0.5,
    }
    assert choose(rows) == {}


def test_a_map_is_never_replaced_and_a_reading_says_what_it_is(tmp_path):
    plan = np.full((16, 16), WATER, np.uint8)
    mine = np.full((16, 16), BUILDING, np.uint8)
    keys = ["houston-1.pre", "houston-2.pre", "houston-3.pre"]
    samples = [sample(keys[0]), sample(keys[1], layout=mine), sample(keys[2], side=8)]
    found = folder(tmp_path / "r", [sample(k) for k in keys], [plan] * 3, {keys[0]: "buildings"})
    told = [found.told(s) for s in samples]
    assert [s.layout_origin for s in told] == ["read", "map", "map"]
    assert np.array_equal(told[0].layout, plan) and np.array_equal(told[1].layout, mine)
    assert told[2].layout is None, "another size is another picture"
    assert told[0].seen == "buildings" and told[1].seen is None
    assert found.told(sample(keys[0], klass="harbor")).seen is None
    assert found.told(sample("houston-9.pre")) is not None


def test_captions_use_sure_words_and_no_shares_of_a_layout_that_was_read(tmp_path):
    plan = np.full((16, 16), WATER, np.uint8)
    found = folder(tmp_path / "r", [sample()], [plan], {"houston-1.pre": "storagetanks", "houston-1.post": "buildings"})
    told, plain = all_captions(found.told(sample())), all_captions(sample())
    assert told[0] == plain[0] == "houses in Houston, Texas"
    assert any("tank" in c for c in told) and any("tank" not in c for c in told[1:])
    assert not any("water" in c for c in told)
    flooded = found.told(sample("houston-1.post"))
    assert not any("office" in c or "commercial" in c for c in all_captions(flooded))


def test_a_pack_holds_every_caption_of_whatever_is_encoded(tmp_path):
    plan = np.full((256, 256), OTHER_GROUND, np.uint8)
    plan[::4] = WOODLAND  # 25 %: at half the size it is none or half
    samples = [
        sample("u-1", "ucmerced", side=256, klass="harbor", acquisition=Acquisition(gsd=0.3, sensor="aerial")),
        sample("p-1", "poland", side=256, layout=plan, caption="rural Poland"),
        sample("houston-1.pre", side=128, place=Place(-95.5, 29.7), acquisition=Acquisition(0.467, "2017", 0.0, "vhr")),
    ]
    found = folder(tmp_path / "r", words={"houston-1.pre": "mobilehomepark"})
    entries = encode_samples(map(found.told, samples), Codec(toy_vae()), seed=0, clouds=1.0)
    used = {c for e in entries for c in e.captions}
    assert used <= captions_of(samples)
    assert any("trailer" in c for c in used) and any("60 cm" in c for c in used)
    assert not used <= {c for s in samples for c in all_captions(s)}, "captions of the samples alone are too few"


def test_a_reading_goes_through_variants_latents_and_their_file(tmp_path):
    plan = np.zeros((256, 256), np.uint8)
    plan[:128] = WOODLAND
    found = folder(tmp_path / "r", [sample(side=256)], [plan])
    made = variants(found.told(sample(side=256)), np.random.default_rng(0), clouds=1.0)
    assert [(v.layout is not None, v.layout_origin) for v in made] == [(True, "read")] * 2 + [(False, "map")]

    def encode():
        samples = [found.told(sample(side=256)), sample("p", "poland", side=256, layout=plan)]
        return encode_samples(samples, Codec(toy_vae()), seed=0, clouds=0.0)

    cache.cached(tmp_path / "bank", "k", encode)
    kept = cache.cached(tmp_path / "bank", "k", encode)
    assert sorted((e.source, e.layout_origin) for e in kept) == [("houston", "read")] * 2 + [("poland", "map")] * 2


def test_what_was_read_weighs_less_than_what_was_mapped():
    plan = np.full((128, 128), OTHER_GROUND, np.uint8)
    plan[:8] = BUILDING
    codec = Codec(toy_vae())
    entries = encode_samples([sample(side=128, layout=plan)], codec, seed=0, clouds=0.0) * 2
    weights = class_weights([plan], 0.5)
    image = controls(entries, np.random.default_rng(2))
    image[1] = image[0]
    for trust in (0.0, 0.5, 1.0):
        mapped, believed = cell_weights(image, weights, 16, torch.tensor([1.0, trust]))
        assert torch.allclose(believed - 1, trust * (mapped - 1), atol=1e-6)
    assert torch.equal(cell_weights(image, weights, 16), cell_weights(image, weights, 16, torch.ones(2)))


def test_readings_are_off_by_default_and_change_what_is_kept(tmp_path):
    for name in ("denoiser", "controlnet"):
        assert load_recipe(name).data.readings is None
    with pytest.raises(InputError, match=r"gensat\.train\.read"):
        Readings(tmp_path / "nothing")
    plain = load_recipe("denoiser", ["data.root=x"]).data
    found = folder(tmp_path / "r", [sample()], [np.zeros((16, 16), np.uint8)])
    with_them = load_recipe("denoiser", ["data.root=x", f"data.readings={tmp_path / 'r'}"]).data
    before = feed.identity(with_them)
    assert feed.identity(plain) != before
    write_json(found.folder / "about.json", {**found.about, "fingerprint": "1"})
    assert feed.identity(with_them) != before


def test_a_threshold_of_words_is_the_lowest_that_is_right_often_enough():
    best = torch.tensor([0.55, 0.86, 0.91, 0.92, 0.96])
    right = torch.tensor([False, False, True, True, True])
    assert sure_words.choose(best, right) == 0.9
    assert sure_words.choose(best, right, wanted=0.7) == 0.85, "never below"
    assert sure_words.choose(best, ~right) > 1


def test_words_are_only_asked_of_what_has_none_and_only_believed_ones_are_said(networks):
    backbone, _, probe = networks
    with torch.no_grad():
        probe.linear.weight.zero_()
        probe.linear.bias.copy_(torch.tensor([5.0, 0.0]))
    reader = sure_words.WordReader(probe, backbone, 0.9)
    samples = [sample("a.pre"), sample("b.post"), sample("c.pre.mosaic"), sample("d.pre", klass="harbor")]
    assert reader.read(samples) == {"a.pre": "buildings"}
    assert sure_words.WordReader(probe, backbone, 0.999).read(samples) == {}
    with torch.no_grad():
        probe.linear.bias.copy_(torch.tensor([0.0, 5.0]))
    assert reader.read(samples) == {}, "rivers are not believed"


def test_one_in_every_few_is_drawn_at_random_and_the_same_each_time():
    samples = [sample(f"{i}.{'post' if i % 2 else 'pre'}") for i in range(400)]
    drawn = read.some(samples, 8)
    assert len(drawn) == 50 and [s.key for s in read.some(samples, 8)] == [s.key for s in drawn]
    assert 10 < sum(".post" in s.key for s in drawn) < 40
    assert [int(s.key.split(".")[0]) for s in drawn] == sorted(int(s.key.split(".")[0]) for s in drawn)
    assert [s.key for s in read.some(samples, 1)] == [s.key for s in samples]


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "give the folder"), (["out", "evry=2"], "there is no evry="), (["out", "every=0"], "every is '0'")],
)
def test_the_command_refuses_what_it_does_not_know(words, message):
    with pytest.raises(InputError, match=message):
        read.main(words)


@pytest.mark.slow
@pytest.mark.data
def test_the_command_reads_calibrates_and_does_not_read_twice(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    found = read.read(out, root=None, sources=["ucmerced"], every=160, sheet=4)
    said = capsys.readouterr().out
    table = [line for line in said.splitlines() if line.startswith(("| poland", "| uganda"))]
    precisions = {tuple(line.split(" | ")[:2]): float(line.split(" | ")[3]) for line in table}
    assert len(precisions) >= 5 and min(precisions.values()) >= 0.85
    assert found.about["counts"]["ucmerced"]["read"] == 7 and len(found.layouts) == 7
    assert (out / "layouts-ucmerced.jpg").is_file()
    monkeypatch.setattr(read, "load_samples", None)
    assert read.read(out, root=None, sources=["ucmerced"], every=160).identity == found.identity
    assert json.loads((out / "words.json").read_text()) == {"ucmerced": {}}
