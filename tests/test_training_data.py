"""What is trained on: split by place, captions, clouds, latents kept and cut, batches drawn by (seed, step)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from toys import toy_text, toy_vae

from gensat.conditioning.layout import encode_layout
from gensat.diffusion.codec import Codec
from gensat.train.autoencoder import random_crops, source_weights, turn
from gensat.train.cache import cached
from gensat.train.captions import CLASSES, all_captions, draw
from gensat.train.clouds import add_clouds
from gensat.train.controls import cell_weights, class_weights, controls
from gensat.train.data import load_samples
from gensat.train.dropout import Dropout, conditions, make_dropout
from gensat.train.latents import Bank, Entry, TextBank, crop, encode_samples, variants
from gensat.train.mosaics import PER_DEGREE, mosaics, stitch
from gensat.train.objective import flow, loss
from gensat.train.sources import Sample
from gensat.train.splits import held_out, held_out_boxes
from gensat.types import Acquisition, PartialDate, Place


def sample(source="ucmerced", size=64, seed=0, **changes) -> Sample:
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    values = {"caption": "an aerial image of a harbor", "klass": "harbor", "acquisition": Acquisition(gsd=0.3)}
    return Sample(source, f"{source}-{seed}", image, **{**values, **changes})


def test_the_split_is_by_place_and_by_number():
    assert held_out("houston", lon=-95.19) and held_out("houston", lon=-95.2005)
    assert not held_out("houston", lon=-95.21)
    assert held_out("ucmerced", number=70) and not held_out("ucmerced", number=69)
    assert held_out_boxes("north_dakota") and not held_out_boxes("sanfrancisco")


def test_turning_is_the_symmetry_group_of_the_square():
    x = torch.randn(1, 2, 4, 4)
    assert len({tuple(turn(x, k).flatten().tolist()) for k in range(8)}) == 8


def test_crops_are_drawn_by_the_generator_alone():
    samples = [sample(size=48, seed=i) for i in range(3)] + [sample("landsat", 20, 9)]
    weights = source_weights(samples)
    a, b = (random_crops(samples, weights, np.random.default_rng(3), batch=4, crop=32) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (4, 3, 32, 32) and -1 <= a.min() < a.max() <= 1
    assert weights.sum() == pytest.approx(1)
    assert weights[3] > 20**2 / (3 * 48**2 + 20**2)  # the small source weighs more than its pixels


def test_every_class_has_several_wordings_and_the_given_caption_comes_first():
    for klass in CLASSES:
        captions = all_captions(sample(klass=klass, caption="as given"))
        assert captions[0] == "as given" and len(set(captions)) == len(captions) > 8
    rng = np.random.default_rng(0)
    drawn = [draw(["given", "other", "third"], rng) for _ in range(3000)]
    assert 0.5 < drawn.count("given") / 3000 < 0.62  # a third, and a third of the rest


@pytest.mark.parametrize("cover", [0.1, 0.5, 0.9])
def test_clouds_cover_about_what_was_asked(cover):
    dark = np.full((96, 96, 3), 40, np.uint8)
    shares = []
    for seed in range(8):
        out = add_clouds(dark, cover, 10.0, np.random.default_rng(seed))
        shares.append((out.mean(axis=2) > 130).mean())
    assert abs(np.mean(shares) - cover) < 0.12


def test_variants_keep_ground_size_and_label_clouds():
    big = sample(size=256)
    made = variants(big, np.random.default_rng(0), clouds=1.0)
    assert [v.image.shape[0] for v in made] == [256, 128, 256]
    assert [v.acquisition.gsd for v in made[:2]] == [0.3, 0.6]
    assert 0 < made[2].acquisition.cloud_cover < 1 and made[2].layout is None


def bank():
    layout = np.zeros((128, 128), np.uint8)
    layout[:64] = 4
    samples = [
        sample(size=256, seed=1),
        sample("poland", 128, 2, layout=layout, klass=None, caption="rural Poland with water"),
    ]
    samples.append(
        sample("houston", 128, 3, klass=None, place=Place(-95.3, 29.7), acquisition=Acquisition(0.47, "2017"))
    )
    entries = encode_samples(samples, Codec(toy_vae()), seed=0, clouds=0.0)
    text = TextBank.encode((c for e in entries for c in e.captions), toy_text(), max_tokens=12)
    return Bank(entries, {"ucmerced": 1.0, "poland": 1.0, "houston": 1.0}, text)


def test_batches_are_pure_functions_of_seed_and_step():
    b = bank()
    draws = []
    for _ in range(2):
        rng = np.random.default_rng([1, 7])
        entries = b.pick(rng, 16, 6)
        draws.append(
            (
                [e.source for e in entries],
                conditions(entries, rng, Dropout()),
                b.text([e.captions[0] for e in entries])[0],
            )
        )
    assert draws[0][:2] == draws[1][:2] and torch.equal(draws[0][2], draws[1][2])
    assert {e.latent.shape for e in b.entries} == {(4, 32, 32), (4, 16, 16)}


def test_undated_houston_images_get_a_day_before_the_storm_and_dropout_hides_each_signal_on_its_own():
    b = bank()
    houston = [e for e in b.entries if e.source == "houston"] * 400
    none = make_dropout(dict.fromkeys(vars(Dropout()), 0.0))
    _, _, known = conditions(houston, np.random.default_rng(0), none)
    dates = {str(a.date) for a in known}
    assert len(dates) > 100 and min(dates) >= "2017-01-01" and max(dates) <= "2017-08-24"
    captions, places, acquisitions = conditions(houston, np.random.default_rng(0), Dropout())
    assert 0 < sum(p is None for p in places) < 400 and 0 < sum(c == "" for c in captions) < 400
    assert any(a.date.month and not a.date.year for a in acquisitions)
    assert any(a.date.year and not a.date.month for a in acquisitions)


def test_now_and_then_one_signal_is_all_that_is_told():
    alone = make_dropout(dict.fromkeys(vars(Dropout()), 0.0) | {"alone": 1.0})
    houston = [e for e in bank().entries if e.source == "houston"] * 60
    captions, places, acquisitions = conditions(houston, np.random.default_rng(0), alone)
    told = [(c != "", p is not None, a.gsd is not None) for c, p, a in zip(captions, places, acquisitions, strict=True)]
    assert {sum(t) for t in told} == {1} and len(set(told)) == 3
    assert all(a.date == PartialDate() and a.sensor is None and a.cloud_cover is None for a in acquisitions)
    silent = [replace(e, captions=[], place=None, acquisition=replace(e.acquisition, gsd=None)) for e in houston[:4]]
    captions, places, acquisitions = conditions(silent, np.random.default_rng(0), alone)
    assert captions == [""] * 4 and places == [None] * 4 and acquisitions == [Acquisition()] * 4


def test_controls_carry_the_map_or_the_edges():
    entries = [e for e in bank().entries if e.source == "poland"] * 12
    out = controls(entries, np.random.default_rng(0))
    assert out.shape == (12, 13, 128, 128)
    water, known, edges_known = out[:, 3].mean((1, 2)), out[:, 10].mean((1, 2)), out[:, 12].mean((1, 2))
    assert ((water == 0.5) == (known == 0.5)).all() and (known == 0.5).any()
    assert set(edges_known.tolist()) == {0.0, 1.0}
    assert ((known > 0) | (edges_known > 0)).all()


def test_a_controlnet_learns_what_nothing_means():
    entries = [e for e in bank().entries if e.source == "poland"] * 40
    out = controls(entries, np.random.default_rng(0), none=0.25)
    empty = (out == 0).all(dim=(1, 2, 3))
    assert 3 <= int(empty.sum()) <= 20
    assert not (controls(entries, np.random.default_rng(0)) == 0).all(dim=(1, 2, 3)).any()


def test_rare_classes_weigh_more_and_the_mean_stays_one():
    plan = np.zeros((16, 16), np.uint8)
    plan[:, :8] = 5
    plan[:4, :2] = 2  # a sixteenth of what is known
    weights = class_weights([plan], 0.5)
    assert weights[2] / weights[5] == pytest.approx(15**0.5 / 1)
    known = torch.tensor([weights[c] for c in plan[plan > 0].tolist()])
    assert known.mean() == pytest.approx(1.0, abs=1e-6) and weights[4] == 1  # water is not there
    assert torch.equal(class_weights([plan], 0.0), torch.ones(11)) and torch.equal(
        class_weights([], 0.5), torch.ones(11)
    )
    cells = cell_weights(encode_layout(torch.from_numpy(plan).long()), weights, 8)
    assert cells.shape == (1, 1, 8, 8) and cells[0, 0, 0, 0] == pytest.approx(float(weights[2]))
    assert (cells[0, 0, :, 4:] == 1).all()  # of unknown ground nothing is said
    target = torch.randn(1, 3, 8, 8)
    by_hand = (target**2 * cells).sum() / target.numel()
    assert loss(torch.zeros_like(target), {"target": target, "weight": cells}) == pytest.approx(float(by_hand))


def test_caption_states_survive_a_file(tmp_path):
    text = TextBank.encode(["a harbor", "a beach"], toy_text(), max_tokens=8)
    text.save(tmp_path / "states.safetensors")
    back = TextBank.load(tmp_path / "states.safetensors")
    for a, b in zip(text.states(["a beach", ""]), back.states(["a beach", ""]), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=2e-3)


def test_flow_targets_lead_from_noise_to_data():
    latents = torch.randn(5, 2, 4, 4)
    x, t, target = flow(latents, np.random.default_rng(0)).values()
    s = (t / 1000)[:, None, None, None]
    assert torch.allclose(x - s * target, latents, atol=1e-5)  # x_s - s (n - x) = x
    assert ((t > 0) & (t < 1000)).all()


def _tiles(ground: np.ndarray, rng: np.random.Generator) -> list[Sample]:
    """Tiles of 128 pixels as Houston's are: placed in degrees, to a rounded pixel."""
    tiles = []
    for row in range(0, 273, 56):
        for col in range(0, 273, 56):
            lon, lat = (np.array((col + 64, -(row + 64))) + rng.uniform(-0.4, 0.4, 2)) / PER_DEGREE + [-95.5, 29.7]
            image = ground[row : row + 128, col : col + 128]
            acquisition = Acquisition(gsd=0.4673)
            tiles.append(
                Sample("houston", f"{row}-{col}.pre", image, "", place=Place(lon, lat), acquisition=acquisition)
            )
    return tiles


def _smooth_ground(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(400, 400, 3)), (3, 3, 0))
    return (128 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def test_neighbouring_tiles_are_stitched_where_they_belong():
    ground = _smooth_ground(0)
    tiles = _tiles(ground, np.random.default_rng(1))
    places, images = [t.place for t in tiles], [t.image for t in tiles]
    found = list(mosaics(places, images, size=192))
    assert found
    for one in found:
        row, col = (int(n) for n in tiles[one.centre].key.removesuffix(".pre").split("-"))
        wide = one.tile.shape[1]
        assert wide == round(192 / np.cos(np.radians(29.7)))
        top, left = row + 64 - 96, col + 64 - round(wide / 2)
        squeezed = np.asarray(Image.fromarray(ground[top : top + 192, left : left + wide]).resize((192, 192), 1))
        made = one.take(images)
        assert made.shape == (192, 192, 3) and one.gsd == pytest.approx(0.4976, abs=1e-3)
        # An odd width leaves half a pixel to where the middle is; a seam off by one would show all over.
        apart = [np.abs(np.roll(squeezed, s, 1).astype(int) - made)[:, 3:-3].mean() for s in (-1, 0, 1)]
        assert min(apart) < 1.0
        mask = one.take([image[..., 0] > 128 for image in images])
        assert mask.dtype == bool and (mask == (made[..., 0] > 128)).mean() > 0.95
    assert [s.key for s in stitch(tiles, size=192)] == [f"{tiles[m.centre].key}.mosaic" for m in found]


def test_a_tile_that_shows_another_place_is_left_out():
    ground = _smooth_ground(2)
    tiles = _tiles(ground, np.random.default_rng(3))
    whole = len(list(stitch(tiles, size=192)))
    wrong = next(i for i, t in enumerate(tiles) if t.key == "112-112.pre")
    tiles[wrong].image = _smooth_ground(9)[:128, :128]
    found = list(mosaics([t.place for t in tiles], [t.image for t in tiles], size=192))
    assert 0 < len(found) <= whole
    assert all(one.centre == wrong or wrong not in one.tile for one in found)
    assert list(stitch(tiles[:3], size=192)) == [] and list(stitch([])) == []


@pytest.mark.data
@pytest.mark.slow
def test_no_held_out_tile_overlaps_a_training_tile():
    train, heldout = (load_samples(None, split) for split in ("train", "heldout"))
    assert len(train) > 15000 and len(heldout) > 1300
    assert not {s.key for s in train} & {s.key for s in heldout}
    for source in ("houston", "uganda"):
        a = np.array([(s.place.lon, s.place.lat) for s in train if s.source == source])
        b = np.array([(s.place.lon, s.place.lat) for s in heldout if s.source == source])
        gap = np.abs(a[:, None] - b[None]) * np.array([96486.0 if source == "houston" else 111319.0, 110850.0])
        size = {"houston": 128 * 0.4690, "uganda": 256 * 0.0746}[source]
        assert (gap.max(axis=2).min(axis=0) >= 0.99 * size).all()


def test_cached_entries_come_back_whole_and_another_key_encodes_again(tmp_path):
    plan = np.random.default_rng(3).integers(0, 5, (300, 300), dtype=np.uint8)
    samples = [
        sample(size=128),
        sample("poland", 300, 1, layout=plan, place=Place(16.9, 52.3)),
        sample("houston", 300, 2, acquisition=Acquisition(0.5, "2017-08-31", 0.25, "vhr"), klass=None),
        sample("landsat", 300, 4, acquisition=Acquisition(), place=Place(-112.0, 33.4)),
    ]
    calls = []

    def encode():
        calls.append(1)
        return encode_samples(samples, Codec(toy_vae()), seed=0, clouds=0.5)

    made, read = cached(tmp_path / "bank", "one", encode), cached(tmp_path / "bank", "one", encode)
    assert len(calls) == 1 and len(made) == len(read)
    assert any(e.layout is not None for e in read) and any(e.layout is None for e in read)
    for a, b in zip(sorted(made, key=lambda e: e.image.shape[0]), read, strict=True):
        assert (a.source, a.captions, a.place, a.acquisition) == (b.source, b.captions, b.place, b.acquisition)
        assert np.array_equal(a.latent, b.latent) and np.array_equal(a.image, b.image)
        assert (a.layout is None and b.layout is None) or np.array_equal(a.layout, b.layout)
    cached(tmp_path / "bank", "two", encode)
    assert len(calls) == 2
    assert not [p for p in (tmp_path / "bank").iterdir() if p.name.startswith(".")]
    assert len(cached(None, "one", encode)) == len(made)


def test_a_crop_is_a_window_of_latent_image_and_layout_together():
    image = np.arange(256 * 256 * 3, dtype=np.uint32).reshape(256, 256, 3).astype(np.uint8)
    plan = np.repeat(np.repeat(np.arange(1024, dtype=np.uint16).reshape(32, 32), 8, 0), 8, 1)
    latent = np.broadcast_to(plan[None, ::8, ::8], (4, 32, 32))
    entry = Entry("poland", latent, ["words"], Place(16.9, 52.3), Acquisition(0.5), image, plan)
    seen = set()
    for seed in range(40):
        cut = crop(entry, 16, np.random.default_rng(seed))
        assert cut.latent.shape == (4, 16, 16) and cut.image.shape == (128, 128, 3)
        assert np.array_equal(cut.layout[::8, ::8], cut.latent[0])
        row, col = divmod(int(cut.latent[0, 0, 0]), 32)
        assert np.array_equal(cut.image, image[row * 8 : row * 8 + 128, col * 8 : col * 8 + 128])
        assert cut.acquisition == entry.acquisition
        seen |= {row, col}
    assert min(seen) == 0 and max(seen) == 16


def test_batches_are_large_or_small_and_small_ones_hold_their_share_of_crops():
    entries = encode_samples(
        [sample(size=64), sample(size=300, seed=1, acquisition=Acquisition(0.3))], Codec(toy_vae()), seed=0, clouds=0.0
    )
    bank = Bank(entries, {"ucmerced": 1.0}, TextBank(["x"], torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)))
    small, large = min(bank.by_size), max(bank.by_size)
    rng = np.random.default_rng(0)
    batches = [bank.batch(rng, small=12, large=4, share=0.25, crops=0.5) for _ in range(80)]
    sides = [{e.latent.shape[-1] for e in batch} for batch in batches]
    assert all(side in ({small}, {large}) for side in sides)
    assert 10 <= sides.count({large}) <= 32 and {len(b) for b in batches} == {12, 4}
    fine = max(e.acquisition.gsd for e in entries if e.latent.shape[-1] == large)
    cuts = [sum(e.acquisition.gsd == fine for e in b) for b, s in zip(batches, sides, strict=True) if s == {small}]
    assert 4 < np.mean(cuts) < 8
    assert all(e.acquisition.gsd != fine for e in bank.batch(rng, small=12, large=4, share=0.0, crops=0.0))


def test_latents_of_a_run_killed_between_two_files_are_encoded_again(tmp_path):
    made = bank().entries
    asked = []

    def encode():
        asked.append(1)
        return made

    first = cached(tmp_path, "a", encode)
    assert cached(tmp_path, "a", encode)[0].key == first[0].key and len(asked) == 1
    files = sorted(tmp_path.glob("size-*.safetensors"))
    assert len(files) == 2
    files[1].unlink()  # as if it had not been written yet
    assert len(cached(tmp_path, "a", encode)) == len(made) and len(asked) == 2
    assert len(cached(tmp_path, "a", encode)) == len(made) and len(asked) == 2
    cached(tmp_path, "b", encode)
    assert len(asked) == 3, "another key"
