"""What a reader of flood water is taught: fills that are none, real water elsewhere, and labels that go with them."""

import numpy as np
import pytest
from scipy import ndimage

from gensat.errors import InputError
from gensat.geo.legend import OTHER_GROUND, WATER
from gensat.train.flood_pairs import FloodPair
from gensat.train.water import Lessons, WaterJudge, report
from gensat.train.water_cheats import (
    HELD_OUT,
    PAINT,
    TRAINED,
    blob,
    cheated,
    laid_in,
    mean_colours,
    painted,
    real_grain,
    recompressed,
    transplanted,
)
from gensat.types import Place

BROWN = np.array([120.0, 105.0, 80.0])


def ground(seed: int, size: int = 96) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    return (90 + 300 * ndimage.gaussian_filter(noise, (2, 2, 0))).clip(50, 200).astype(np.uint8)


def pair(seed: int, share: float = 0.5) -> FloodPair:
    before, rng = ground(seed), np.random.default_rng(seed)
    water = np.zeros(before.shape[:2], bool)
    water[:, int(96 * (1 - share)) :] = True
    wet = BROWN + ndimage.gaussian_filter(rng.normal(size=(96, 96, 1)), (0.7, 0.7, 0)) * 8
    after = np.where(water[..., None], wet, before).astype(np.uint8)
    return FloodPair(f"p{seed}", before, after, np.ones(water.shape, bool), water, Place(0.0, 0.0))


@pytest.mark.parametrize("kind", [*TRAINED, *HELD_OUT])
def test_a_fill_stays_inside_and_has_the_colour_on_average(kind) -> None:
    image, where = ground(1), np.zeros((96, 96), bool)
    where[20:80, 30:] = True
    for seed in range(4):
        made = cheated(kind, image, where, BROWN, np.random.default_rng(seed))
        assert made.dtype == np.uint8 and np.array_equal(made[~where], image[~where])
        inner = made[26:74, 40:]
        off = np.abs(inner.reshape(-1, 3).mean(0) - BROWN).max()
        assert off < (45 if kind in ("washed ground", "gradient", "gradient with grain") else 12), off
        assert (made[where] != image[where]).any(1).mean() > 0.8
    again = cheated(kind, image, where, BROWN, np.random.default_rng(3))
    assert np.array_equal(made, again)


def test_edges_are_hard_or_soft_within_the_fill() -> None:
    image, where = np.full((40, 40, 3), 200, np.uint8), np.zeros((40, 40), bool)
    where[10:30, 10:30] = True
    soft, hard = (laid_in(image, np.zeros((40, 40, 3)), where, e) for e in (4.0, 0.0))
    assert set(np.unique(hard)) == {0, 200} and len(np.unique(soft)) > 3
    assert (soft[~where] == 200).all() and soft[20, 20, 0] == 0
    assert np.array_equal(painted(image, where)[where], np.tile(np.uint8(PAINT), (400, 1)))


def test_real_water_of_another_place_is_water_where_it_lies() -> None:
    image, donor, where = ground(2), pair(3), np.zeros((96, 96), bool)
    where[30:60, 10:90] = True
    for seed in range(6):
        made, inside = transplanted(image, where, donor.after, donor.water, np.random.default_rng(seed))
        assert np.array_equal(made[~inside], image[~inside]) and not (inside & ~where).any()
        assert 0.2 < inside.sum() / where.sum() < 0.8  # half of the donor is water, whichever way it is turned
        middle = ndimage.binary_erosion(inside, iterations=5)
        assert np.abs(made[middle].mean(0) - BROWN).max() < 4


def test_paint_with_real_grain_has_its_shapes_and_with_other_phases_its_spectrum_alone() -> None:
    one = pair(4, share=1.0)
    low = ndimage.gaussian_filter(one.after.astype(float), (2, 2, 0))
    grain = (one.after - low)[..., 0]
    found, noise = (
        real_grain(one.before, one.after, one.water, phases=p)[..., 0] - float(PAINT[0])
        for p in (None, np.random.default_rng(1))
    )
    assert np.corrcoef(found.ravel(), grain.ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(noise.ravel(), grain.ravel())[0, 1]) < 0.1
    spectra = [ndimage.gaussian_filter(np.abs(np.fft.fft2(a)), 3, mode="wrap").ravel()[10:] for a in (noise, grain)]
    assert np.corrcoef(*spectra)[0, 1] > 0.95 and noise.std() == pytest.approx(grain.std(), rel=0.1)


def test_blobs_and_jpeg_and_colours() -> None:
    rng = np.random.default_rng(0)
    shares = [blob((96, 80), rng).mean() for _ in range(12)]
    assert min(shares) > 0.1 and max(shares) < 0.65 and np.ptp(shares) > 0.1
    image = ground(5)
    poor, good = (np.abs(recompressed(image, q).astype(int) - image).mean() for q in (20, 95))
    assert poor > 2 * good > 0
    one, dry = pair(6), pair(7, share=0.0)
    colours = mean_colours([one.after, dry.after], [one.water, dry.water])
    assert colours.shape == (1, 3) and np.abs(colours[0] - BROWN).max() < 2


def test_lessons_label_water_as_water_and_fills_as_ground() -> None:
    pairs = [pair(k, share) for k, share in enumerate((0.3, 0.5, 0.9))]
    whole = {"after": 1, "before": 1, "pasted": 1, "transplanted": 2, "cheated": 3}
    lessons = Lessons(pairs, whole)
    assert lessons.donors == pairs[2:]
    rng, kinds = np.random.default_rng(1), {}
    for kind in whole:
        only = Lessons(pairs, {kind: 1.0})
        drawn = [only.draw(rng) for _ in range(8)]
        assert all(i.shape == (96, 96, 3) and c.shape == (96, 96) for i, c in drawn)
        kinds[kind] = np.mean([(c == WATER).mean() for _, c in drawn])
    assert kinds["before"] == 0 and kinds["after"] > 0.4 and kinds["pasted"] > 0.4 and kinds["transplanted"] > 0.15
    cheats = Lessons(pairs, {"cheated": 1.0})
    for seed in range(12):
        image, codes = cheats.draw(np.random.default_rng(seed))
        again = cheats.draw(np.random.default_rng(seed))
        assert np.array_equal(image, again[0]) and (codes == OTHER_GROUND).any()
        if (codes == WATER).any():  # beside a fill in an image after: what is water there is real
            assert np.abs(image[codes == WATER].mean(0) - BROWN).max() < 25
    with pytest.raises(InputError, match="kinds names"):
        Lessons(pairs, {"painted": 1.0})


def test_the_report_tells_a_reader_of_grain_from_one_of_colour() -> None:
    class Reader(WaterJudge):
        def __init__(self, grain: bool):
            self.grain, self.name = grain, "toy"

        def __call__(self, images):
            found = []
            for image in images:
                grey = image.astype(float).mean(-1)
                near = np.abs(ndimage.gaussian_filter(image.astype(float), (3, 3, 0)) - BROWN).max(-1) < 40
                rough = ndimage.gaussian_filter((grey - ndimage.gaussian_filter(grey, 2)) ** 2, 3) > 1
                found.append(near & rough if self.grain else near)
            return found

    pairs = [pair(k, 0.5) for k in range(3)]
    colour, grain = (report(Reader(g), pairs) for g in (False, True))
    assert colour["brown paint"]["read as water"] > 0.9 and grain["brown paint"]["read as water"] < 0.2
    for figures in (colour, grain):
        assert figures["real images after the flood"]["read as water"] > 0.8
        assert figures["brown paint with their grain"]["read as water"] > 0.6
        assert set(figures) >= {f"{k}, not trained on" for k in HELD_OUT} | {f"{k}, trained on" for k in TRAINED}
