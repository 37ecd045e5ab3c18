"""The grain of water: of the strength of its exemplars, without seams and repetition, and tied to the Earth."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gensat.errors import InputError
from gensat.models.water_grain import WaterGrain
from gensat.train.flood_pairs import FloodPair
from gensat.train.water_exemplars import water_grain
from gensat.types import Place

GSD = 0.5


def ripples(seed: int, size: int = 64) -> np.ndarray:
    """Grain of two pixels across and one down."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    waves = ndimage.gaussian_filter(noise, (0.6, 1.5))
    return (0.02 * waves / waves.std())[..., None].repeat(3, -1).astype(np.float32)


@pytest.fixture(scope="module")
def grain() -> WaterGrain:
    return WaterGrain.of([ripples(k) for k in range(3)], GSD)


def test_it_has_the_mean_and_the_strength_of_its_exemplars(grain: WaterGrain) -> None:
    made = grain(400, 300, gsd=GSD, seed=3)
    assert made.shape == (3, 400, 300)
    assert abs(float(made.mean())) < 1e-3 and float(made.std()) == pytest.approx(0.02, rel=0.05)
    # Everywhere as strong: at the corners of the lattice as between them.
    local = made[0].numpy().reshape(25, 16, -1).std((0, 2))
    assert local.max() / local.min() < 1.15


def test_its_correlations_are_those_of_its_exemplars(grain: WaterGrain) -> None:
    made = grain(400, 400, gsd=GSD, seed=1)[0].numpy()
    for shift, expected in (((0, 1), 0.89), ((0, 3), 0.36), ((1, 0), 0.5)):
        found = (made * np.roll(made, shift, (0, 1))).mean() / made.var()
        assert found == pytest.approx(expected, abs=0.08), shift
    for far in (16, 32, 48, 64):  # nothing comes again
        assert abs((made * np.roll(made, (0, far), (0, 1))).mean() / made.var()) < 0.06


def test_images_that_meet_share_it_and_seeds_differ(grain: WaterGrain) -> None:
    whole = grain(96, 96, gsd=GSD, seed=5, origin=(-40, 1000))
    part = grain(50, 30, gsd=GSD, seed=5, origin=(-10, 1033))
    assert torch.equal(whole[:, 30:80, 33:63], part)
    assert not torch.equal(whole, grain(96, 96, gsd=GSD, seed=6, origin=(-40, 1000)))


def test_coarse_pixels_mean_it_out_and_alike_ones_leave_it(grain: WaterGrain) -> None:
    strength = [float(grain(200, 200, gsd=gsd, seed=2).std()) for gsd in (0.25, 0.5, 0.55, 2.0, 8.0)]
    assert strength[2] == strength[1] and strength[0] == pytest.approx(strength[1], rel=0.2)
    assert strength[1] > 2 * strength[3] > 4 * strength[4]


def test_exemplars_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="0 exemplars"):
        WaterGrain(0)
    with pytest.raises(InputError, match="of 18 pixels"):
        WaterGrain(2, 18)


def test_exemplars_are_squares_of_nothing_but_water_that_nothing_floats_on() -> None:
    def pair(key: str, seed: int, wide: int, roof: bool = False) -> FloodPair:
        water = np.zeros((128, 128), bool)
        water[:, :wide] = True
        after = (110 + 127.5 * ripples(seed, 128)).round()
        after[~water] = np.random.default_rng(seed).integers(0, 255, (int((~water).sum()), 1))
        if roof:
            after[8::30, 25:33] = 250
        everywhere = np.ones(water.shape, bool)
        return FloodPair(key, after.astype(np.uint8), after.astype(np.uint8), everywhere, water, Place(0.0, 0.0))

    found = water_grain([pair("a", 1, 70), pair("b", 2, 40), pair("c", 3, 60, roof=True)], gsd=GSD, count=4)
    assert found.config.count == 1 and found.config.size == 48  # b is too narrow, a roof stands in c
    assert float(found.exemplars.std()) == pytest.approx(0.02, rel=0.25)
    assert float(found.exemplars.abs().max()) < 0.15
