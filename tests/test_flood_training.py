"""Pairs of before and after: brought onto each other, read for water, drawn for training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import ndimage
from toys import toy_vae

from gensat.conditioning.flood import FLOOD_CHANNELS
from gensat.diffusion.codec import Codec
from gensat.geo.legend import OTHER_GROUND, UNKNOWN, WATER
from gensat.models.perceptual import Elpd
from gensat.train import water_masks
from gensat.train.flood import FloodBank, guessed_depth
from gensat.train.flood_pairs import FARTHEST, FloodPair, correlation, find_shifts, shifted
from gensat.train.flood_report import chosen, cut, laid, measure, table
from gensat.train.water import WaterJudge, shown
from gensat.train.water_cheats import PAINT, painted
from gensat.train.water_masks import (
    SMALLEST,
    LabelledTile,
    cleaned,
    crossvalidate,
    fit_reader,
    judged,
    labelled_tiles,
    pair_features,
    scores,
)
from gensat.types import Place


def ground(seed: int, size: int = 128) -> np.ndarray:
    """Blocks of many greys: something to hold on to."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(40, 220, (size // 8, size // 8)), np.ones((8, 8)))
    rgb = np.stack([ndimage.gaussian_filter(blocks + rng.normal(0, 4, blocks.shape), 0.7)] * 3, -1)
    return (rgb + rng.normal(0, 2, rgb.shape)).clip(0, 255).astype(np.uint8)


def moved(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """What was at p lies at p + (row, column)."""
    return np.roll(image, (row, column), (0, 1))


def pair(seed: int, shift: tuple[int, int] = (0, 0)) -> FloodPair:
    before = ground(seed)
    water = np.zeros(before.shape[:2], bool)
    water[:, 70:] = True
    after = before.copy()
    after[water] = (110, 100, 80)
    after, valid = shifted(moved(after, *shift), shift)
    return FloodPair(f"houston-{seed}", before, after, valid, water, Place(lon=-95.5, lat=29.8))


def test_a_displacement_is_found_by_one_pair() -> None:
    before = ground(1)
    after = moved(before, -8, 5)
    row, column = np.unravel_index(correlation(before, after).argmax(), (2 * FARTHEST + 1,) * 2)
    assert (row - FARTHEST, column - FARTHEST) == (-8, 5)


def test_neighbours_say_what_one_pair_alone_cannot() -> None:
    rng = np.random.default_rng(2)
    maps, metres = [], []
    for k in range(24):
        shift = (-7, 3) if k < 12 else (2, 12)  # two strips, far apart
        before, after = ground(10 + k), moved(ground(10 + k), *shift)
        after = (0.3 * after + 0.7 * ground(100 + k)).astype(np.uint8)  # most of it has changed
        maps.append(correlation(before, after) + rng.normal(0, 1, (2 * FARTHEST + 1,) * 2).astype(np.float32))
        metres.append((k % 12 * 30.0, 0.0 if k < 12 else 9000.0))
    found = find_shifts(np.stack(maps), np.array(metres))
    assert np.abs(found[:12] - (-7, 3)).max() <= 1 and np.abs(found[12:] - (2, 12)).max() <= 1


def test_shifted_undoes_the_displacement_and_says_where_it_knows() -> None:
    image = ground(3)
    back, valid = shifted(moved(image, -6, 9), (-6, 9))
    assert valid.sum() == (128 - 6) * (128 - 9)
    assert np.array_equal(back[valid], image[valid])
    rows, columns = pair(3, (-6, 9)).window()
    assert (rows.start, rows.stop, columns.start, columns.stop) == (6, 128, 0, 119)


def test_features_of_a_flat_pair_say_that_nothing_changed() -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    made = pair_features(flat, flat)
    assert made.shape == (32, 32, 24) and torch.isfinite(made).all()
    assert float(made[..., -3:].abs().max()) < 1e-5
    same, other = (pair_features(ground(4), ground(n))[..., 20].mean() for n in (4, 5))
    assert same > 1.9 and abs(float(other)) < 0.5


def labelled(seed: int) -> LabelledTile:
    """A tile half of which is wet, which one of its features says, not quite surely."""
    made = torch.Generator().manual_seed(seed)
    wet = torch.zeros(32, 32, dtype=torch.bool)
    wet[:, 12 + seed % 9 :] = True
    features = torch.randn(32, 32, 24, generator=made)
    features[..., 3] += 2.0 * wet
    after = np.where(wet[..., None], np.uint8([120, 100, 80]), np.uint8([60, 120, 60]))
    rows, columns = (v.flatten() for v in torch.meshgrid(torch.arange(2, 32, 5), torch.arange(2, 32, 5), indexing="ij"))
    return LabelledTile(features, after, rows, columns, wet[rows, columns])


def test_water_is_learned_from_points_and_checked_on_tiles_left_out() -> None:
    torch.manual_seed(0)
    tiles = [labelled(seed) for seed in range(4)]
    figures = crossvalidate(tiles, folds=2)
    assert figures["points"] == 144 and figures["accuracy"] > 0.9
    one, again = fit_reader(tiles[:2]), fit_reader(tiles[:2])
    assert torch.equal(*(r(tiles[3].features, tiles[3].after) for r in (one, again)))
    alone = torch.stack([m(one._normalised(tiles[3].points))[:, 0] for m in one.members]).mean(0) > 0
    assert judged(one, tiles[3:])["accuracy"] > scores(alone, tiles[3].wet)["accuracy"]  # its surroundings tell more
    shuffled = [replace(t, wet=t.wet[torch.randperm(len(t.wet))]) for t in tiles]
    assert crossvalidate(shuffled, folds=2)["accuracy"] < 0.8


def test_labels_go_with_the_image_that_was_looked_at(monkeypatch) -> None:
    labels = {"rows": [9, 40], "columns": [9, 40], "shown": {"a": [2, -3]}, "train": {"a": "W? TW"}, "held_out": {}}
    monkeypatch.setattr(water_masks, "read_labels", lambda: labels)
    image = ground(3, 64)
    valid = np.ones((64, 64), bool)
    valid[:10] = False
    (tile,) = labelled_tiles({"a": (image, image, valid, (2, -3))}, held_out=False)
    assert list(zip(tile.rows.tolist(), tile.columns.tolist(), tile.wet.tolist(), strict=True)) == [
        (40, 9, False), (40, 40, True),
    ]  # fmt: skip
    (tile,) = labelled_tiles({"a": (image, image, valid, (0, 0))}, held_out=False)
    assert list(zip(tile.rows.tolist(), tile.columns.tolist(), strict=True)) == [(11, 6), (42, 6), (42, 37)]
    assert labelled_tiles({}, held_out=True) == []


def test_scores_of_a_mask() -> None:
    said, true = torch.tensor([1, 1, 0, 0, 1]).bool(), torch.tensor([1, 0, 1, 0, 1]).bool()
    assert scores(said, true) == pytest.approx(
        {"points": 5, "accuracy": 0.6, "iou": 0.5, "precision": 2 / 3, "recall": 2 / 3}
    )


def test_small_patches_and_holes_are_left_out() -> None:
    water = np.zeros((40, 40), bool)
    water[5:25, 5:25] = True
    water[10:12, 10:12] = False
    water[30:33, 30:33] = True
    made = cleaned(water)
    assert made[10:12, 10:12].all() and not made[30:33, 30:33].any() and made.sum() == 400
    assert SMALLEST > 9


def test_the_depth_that_stands_in_grows_from_the_shore() -> None:
    water = np.zeros((20, 30), bool)
    water[:, 10:] = True
    depth = guessed_depth(water, slope=0.05, gsd=0.5)
    assert (depth[~water] == 0).all() and depth[5, 10] == pytest.approx(0.1 + 1 * 0.5 * 0.05)
    assert (np.diff(depth[5, 10:]) > 0).all() and depth[5, 29] == pytest.approx(0.1 + 20 * 0.5 * 0.05)
    assert guessed_depth(np.ones((4, 4), bool), 0.05).min() > 0.1


def test_images_for_the_judge() -> None:
    made = pair(5)
    after, codes = shown(made, "after")
    assert np.array_equal(after, made.after) and set(np.unique(codes)) == {WATER, OTHER_GROUND}
    before, codes = shown(made, "before")
    assert np.array_equal(before, made.before) and WATER not in codes
    pasted, codes = shown(made, "pasted")
    assert np.array_equal(pasted[~made.water], made.before[~made.water])
    assert np.array_equal(pasted[:, 80:], made.after[:, 80:]) and (codes[made.water] == WATER).all()
    brown = painted(made.before, made.water)
    assert (brown[made.water] == PAINT).all() and np.array_equal(brown[~made.water], made.before[~made.water])
    pool = made.before.copy()
    pool[:20, :20] = (40, 120, 200)
    codes = shown(FloodPair("p", pool, made.after, made.valid, made.water, made.place), "before")[1]
    assert (codes[:20, :20] == UNKNOWN).all()


def test_batches_show_the_same_ground_in_every_part() -> None:
    bank = FloodBank([pair(6, (-5, 7)), pair(7, (3, -9)), pair(8, (0, 30))], Codec(toy_vae()), crop=96)
    assert len(bank.pairs) == 2  # of the third too little is known
    entries, made = bank.draw(np.random.default_rng(1), 5)
    assert made["after"].shape == (5, 4, 12, 12) and made["image"].shape == (5, len(FLOOD_CHANNELS), 96, 96)
    assert made["wet"].shape == (5, 1, 12, 12) and 0 < float(made["wet"].mean()) < 1
    wet = made["image"][:, 3] > 0
    assert torch.equal(wet, made["image"][:, 4] > 0)
    again = bank.draw(np.random.default_rng(1), 5)[1]
    assert all(torch.equal(v, again[name]) for name, v in made.items())
    assert all("flooded" in " ".join(e.captions) for e in entries)


def test_the_report_takes_the_middle_and_lays_exactly_the_mask() -> None:
    one = pair(9, (-6, 9))
    recipe = OmegaConf.create({"size": 96, "share": [0.03, 0.97], "count": None})
    assert chosen([one, pair(8, (0, 40))], recipe) == [one]  # of the other too little is known
    assert chosen([one], OmegaConf.create({"size": 96, "share": [0.6, 0.97], "count": None})) == []
    flood = laid(one, 96)
    assert np.array_equal(flood.seen, cut(one.water, one, 96)) and flood.image.array.shape == (96, 96, 3)
    assert np.array_equal(flood.image.array, cut(one.before, one, 96)) and not flood.notes
    assert (flood.depth[flood.seen] >= 0.1).all()


def test_the_table_says_each_renderer_with_its_intervals() -> None:
    one = {"value": 0.5, "interval": [0.4, 0.6]}
    made = table({"optical": {name: one for name in ("IoU", "ELPD", "FVPS(ELPD)", "over paint", "Frechet-64")}})
    assert made.splitlines()[0].startswith("| | IoU |") and "| optical | 0.500 [0.400, 0.600] |" in made
    assert "0.5 [0.4, 0.6] |" in made.splitlines()[-1]


def test_differences_from_paint_are_taken_image_by_image() -> None:
    class Dark(WaterJudge):
        """Sees water in all that is dark."""

        name = "dark"  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

        def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
            return [image.mean(-1) < 60 for image in images]

    wet = [np.tri(32, dtype=bool), np.tri(32, k=-12, dtype=bool)]
    real = [np.where(w[..., None], 30, 200).astype(np.uint8).repeat(3, -1) for w in wet]
    worse = [np.full((32, 32, 3), 200, np.uint8), real[1]]
    made = measure({"hand-painted": worse, "as it was": real}, real, wet, Dark(), Elpd.from_assets())
    assert made["hand-painted"]["over paint"]["value"] == 0
    ours, theirs = (made[name]["FVPS(ELPD)"]["value"] for name in ("as it was", "hand-painted"))
    assert made["as it was"]["over paint"]["value"] == pytest.approx(ours - theirs) and ours == pytest.approx(1)
    assert theirs == pytest.approx(0.5)  # one right, and one without any water


@pytest.mark.slow
@pytest.mark.data
def test_pairs_masks_renderer_and_judge_are_trained_from_the_data(tmp_path) -> None:
    import gensat
    from gensat.train.flood import train as train_flood
    from gensat.train.recipe import load_recipe
    from gensat.train.water import train as train_water

    shared = [f"data.cache={tmp_path / 'cache'}", "steps=2", "minutes=null", "batch=2", "warmup=1", "precision=no"]
    made = train_flood(load_recipe("flood", [*shared, f"out={tmp_path / 'flood'}"]))
    pipe = gensat.load(made.weights)
    assert pipe.spec.shared["unet"] == "gensat-small" and not (made.weights / "unet").exists()
    judge = train_water(load_recipe("water", [*shared, "count=6", f"out={tmp_path / 'water'}"]))
    assert (judge.weights / "report.json").is_file()
