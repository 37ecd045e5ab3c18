"""Philox against published vectors, the noise field's statistics, and that a window's noise is its part of the world's."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gensat.diffusion.noise import GivenNoise, NoiseBatch, NoiseField, philox4x32
from gensat.errors import InputError

# Known answers of Random123 (Salmon et al. 2011), file kat_vectors, lines "philox4x32 10": counter, key, result
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, expected):
    counters = tuple(np.array([word], dtype=np.uint64) for word in words(counter))
    assert [int(word[0]) for word in philox4x32(counters, tuple(words(key)))] == words(expected)


def test_philox_works_element_by_element():
    counters = tuple(np.arange(i, i + 6, dtype=np.uint64).reshape(2, 3) for i in range(4))
    together = philox4x32(counters, (1, 2))
    alone = philox4x32(tuple(c[1:, 2:] for c in counters), (1, 2))
    assert all(int(a[1, 2]) == int(b[0, 0]) for a, b in zip(together, alone, strict=True))


def test_noise_is_standard_normal():
    x = NoiseField(3, "earth/EPSG:32615/4.0000")(-100, 250, 256, 256, 8).double().numpy().ravel()
    n = len(x)
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs(stats.skew(x)) < 4 * (6 / n) ** 0.5
    assert abs(stats.kurtosis(x)) < 4 * (24 / n) ** 0.5
    assert stats.kstest(x[::4], "norm").pvalue > 1e-3
    assert 4.2 < np.abs(x).max() < 6.8


@pytest.mark.parametrize(
    "other",
    [
        NoiseField(8, "g")(0, 0, 128, 128, 4),  # the next seed
        NoiseField(7, "h")(0, 0, 128, 128, 4),  # another grid
        NoiseField(7, "g")(0, 0, 128, 128, 4, 1),  # the next draw
        NoiseField(7, "g")(0, 0, 128, 128, 8)[:, 4:],  # the next channels
        NoiseField(7, "g")(0, 1, 128, 128, 4),  # the neighbour to the east
        NoiseField(7, "g")(1, 0, 128, 128, 4),  # the neighbour to the south
    ],
    ids=["seed", "grid", "draw", "channels", "column", "row"],
)
def test_noise_is_independent_of_what_it_is_not(other):
    x = NoiseField(7, "g")(0, 0, 128, 128, 4)
    for a, b in ((x, other), (x.square(), other.square())):
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 4 / x.numel() ** 0.5


def test_channels_are_independent_and_do_not_depend_on_their_number():
    x = NoiseField(1)(0, 0, 128, 128, 6)
    assert torch.equal(NoiseField(1)(0, 0, 128, 128, 3), x[:, :3])
    correlation = np.corrcoef(x[0].flatten(1).numpy())
    assert np.abs(correlation - np.eye(6)).max() < 4 / 128


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(-(2**31), 2**31 - 64),
    col=st.integers(-(2**31), 2**31 - 64),
    top=st.integers(0, 9),
    left=st.integers(0, 9),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 2**63 - 1),
    draw=st.integers(0, 1000),
)
def test_window_has_the_noise_of_its_part_of_the_canvas(row, col, top, left, height, width, seed, draw):
    field = NoiseField(seed, "earth/EPSG:32633/80.0000")
    canvas = field(row, col, 15, 15, 5, draw)
    window = field(row + top, col + left, height, width, 5, draw)
    assert torch.equal(window, canvas[:, :, top : top + height, left : left + width])


def test_noise_of_a_panorama_goes_round():
    field = NoiseField(5, "panorama", wrap=16)
    once = field(0, 0, 4, 16, 3)
    assert torch.equal(field(0, 16, 4, 16, 3), once)
    assert torch.equal(field(0, -4, 4, 8, 3), torch.cat([once[..., 12:], once[..., :4]], dim=-1))


def test_noise_is_the_same_in_another_process():
    here = NoiseField(11, "earth/EPSG:5041/4.0000")(-3, 7, 4, 5, 4, 2)
    code = (
        "import torch; torch.manual_seed(99); torch.randn(5); from gensat.diffusion.noise import NoiseField;"
        "print(NoiseField(11, 'earth/EPSG:5041/4.0000')(-3, 7, 4, 5, 4, 2).numpy().tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here.numpy().tobytes().hex() == there


def test_noise_does_not_touch_torch_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    NoiseField(1)(0, 0, 8, 8, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_stacks_its_streams():
    batch = NoiseBatch((NoiseField(3), NoiseField(9)))(2, 3, 4, 5, 6, 1)
    assert batch.shape == (2, 6, 4, 5) and batch.dtype == torch.float32
    assert torch.equal(batch[1:], NoiseField(9)(2, 3, 4, 5, 6, 1))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_outside_its_range_is_refused(seed):
    with pytest.raises(InputError, match=f"not {seed}"):
        NoiseField(seed)


def test_given_latents_are_the_initial_noise_of_their_canvas():
    latents = torch.randn(2, 4, 6, 8)
    assert torch.equal(GivenNoise(latents, origin=(5, -3))(5, -3, 6, 8, 4), latents)


def test_given_latents_lie_in_place_in_a_larger_window():
    latents = torch.randn(2, 4, 6, 8)
    x = GivenNoise(latents, origin=(5, -3))(1, -5, 12, 14, 4)
    assert torch.equal(x[:, :, 4:10, 2:10], latents)
    around = x[:, :, :4].flatten()
    assert 0.8 < around.std() < 1.2 and torch.equal(x[0, :, :4], x[1, :, :4])


@pytest.mark.parametrize("cells", [(0, 0, 6, 8, 3), (0, 0, 5, 8, 4), (1, 0, 6, 8, 4), (0, -9, 6, 16, 4)])
def test_given_latents_of_another_shape_or_place_are_refused(cells):
    with pytest.raises(InputError, match=r"latents are \(2, 4, 6, 8\)"):
        GivenNoise(torch.zeros(2, 4, 6, 8))(*cells)


def test_later_draws_come_from_the_generators_one_per_sample():
    def noise():
        generators = tuple(torch.Generator().manual_seed(s) for s in (1, 2))
        return GivenNoise(torch.zeros(2, 4, 6, 8), generators)

    first, again = noise()(0, 0, 6, 8, 4, 1), noise()(0, 0, 6, 8, 4, 1)
    assert torch.equal(first, again) and not torch.equal(first[0], first[1])
    assert torch.equal(first[1:], torch.randn((1, 4, 6, 8), generator=torch.Generator().manual_seed(2)))
    one = GivenNoise(torch.zeros(2, 4, 6, 8), (torch.Generator().manual_seed(3),))(0, 0, 6, 8, 4, 1)
    assert torch.equal(one, torch.randn((2, 4, 6, 8), generator=torch.Generator().manual_seed(3)))
