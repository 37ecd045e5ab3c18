"""Memorisation, precision and recall, reconstruction, bootstrap: constructed cases with known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet, extract
from gensat.metrics.bootstrap import bootstrap
from gensat.metrics.memorisation import memorisation, nearest
from gensat.metrics.precision_recall import covered, precision_recall
from gensat.metrics.reconstruction import psnr, psnr_each, ssim, ssim_each
from gensat.models.features import to_tensor


def gaussian(n, f=16, *, seed=0, shift=0.0):
    return FeatureSet(torch.randn(n, f, generator=torch.Generator().manual_seed(seed)) + shift, "toy@32")


class MeanColour(torch.nn.Module):
    name, num_features = "mean-colour", 3

    def forward(self, images):
        return images.mean((2, 3))

    def pyramid(self, images):
        return [images]


def test_extract_keeps_the_order_of_images_of_many_sizes():
    sizes = [(8, 8), (8, 8), (4, 12), (8, 8), (5, 5)]
    images = [np.full((*s, 3), 10 * i, np.uint8) for i, s in enumerate(sizes)]
    seen = []
    result = extract(MeanColour(), images, batch_size=2, on_batch=seen.append)
    assert result.extractor == "mean-colour"
    assert torch.allclose(result.values[:, 0] * 255, torch.arange(5) * 10.0, atol=1e-4)
    assert seen == [2, 3, 4, 5]


def test_extract_refuses_what_is_no_eight_bit_rgb_image():
    with pytest.raises(InputError, match=r"\(8, 8\) uint8.*RGB"):
        to_tensor([np.zeros((8, 8), np.uint8)])
    with pytest.raises(InputError, match="at least one"):
        extract(MeanColour(), [])


def test_nearest_is_the_euclidean_distance_also_of_near_copies():
    gallery = torch.randn(50, 1280) + 100
    queries = gallery[[7, 33]].clone()
    queries[1, 5] += 1e-3
    distance, index = nearest(queries, gallery, chunk=1)
    assert index.tolist() == [7, 33]
    assert distance[0] == 0 and float(distance[1]) == pytest.approx(1e-3, rel=0.01)


def test_memorisation_is_one_for_new_images_and_small_for_copies():
    train, heldout = gaussian(400, seed=1), gaussian(200, seed=2)
    new = memorisation(gaussian(200, seed=3), train, heldout=heldout, confidence=0.95)
    assert new.interval[0] < 1 < new.interval[1]
    copies = FeatureSet(train.values[:100] + 0.01 * torch.randn(100, 16), "toy@32")
    result = memorisation(copies, train, heldout=heldout)
    assert result.value < 0.05 and result.share_below == 1.0
    assert result.median_generated / result.median_heldout == pytest.approx(result.value)


def test_memorisation_lists_the_closest_pairs_nearest_first():
    train, heldout = gaussian(100, seed=1), gaussian(50, seed=2)
    values = gaussian(30, seed=3).values + 5
    values[11], values[4] = train.values[60], train.values[8] + 0.001
    result = memorisation(FeatureSet(values, "toy@32"), train, heldout=heldout, pairs=20)
    assert len(result.closest) == 20
    assert [pair[:2] for pair in result.closest[:2]] == [(11, 60), (4, 8)]
    distances = [pair[2] for pair in result.closest]
    assert distances == sorted(distances) and distances[0] == 0


def test_memorisation_refuses_a_held_out_set_that_was_trained_on():
    train = gaussian(50)
    with pytest.raises(InputError, match="fix the split"):
        memorisation(gaussian(20, seed=4), train, heldout=train)


def test_precision_and_recall_see_fakes_and_missing_modes():
    real = FeatureSet(
        torch.cat([gaussian(150, 4, seed=1).values, gaussian(150, 4, seed=2, shift=30.0).values]), "toy@32"
    )
    half = precision_recall(real, gaussian(300, 4, seed=3))
    assert half.value > 0.9 and half.recall == pytest.approx(0.5, abs=0.06)
    fakes = precision_recall(real, gaussian(300, 4, seed=4, shift=-40.0), confidence=0.9)
    assert (fakes.value, fakes.recall, fakes.recall_interval) == (0.0, 0.0, (0.0, 0.0))


def test_covered_uses_the_kth_other_neighbour():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    # second-neighbour radii: 3, 2, 3, 6, so the balls reach from -3 to 13
    points = torch.tensor([[-2.9], [-3.1], [12.9], [13.1]])
    assert covered(points, line, neighbours=2).tolist() == [True, False, True, False]


def test_precision_recall_needs_more_images_than_neighbours():
    with pytest.raises(InputError, match="more images or fewer neighbours"):
        precision_recall(gaussian(3), gaussian(10))


def test_psnr_of_a_constant_error_is_known_and_a_copy_is_capped():
    x = torch.full((2, 3, 16, 16), 0.5)
    y = x.clone()
    y[1] += 0.1
    assert psnr_each(y, x).tolist() == pytest.approx([100.0, 20.0], abs=1e-4)
    result = psnr(y, x)
    assert (result.value, result.worst, result.n, result.unit) == (pytest.approx(60.0), pytest.approx(20.0), 2, "dB")


def test_psnr_and_ssim_agree_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    g = torch.Generator().manual_seed(0)
    x = torch.rand(3, 3, 40, 48, generator=g)
    y = (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(0, 1)
    expected = functional.peak_signal_noise_ratio(y, x, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert torch.allclose(psnr_each(y, x), expected, atol=1e-3)
    full = functional.structural_similarity_index_measure(
        y, x, data_range=1.0, reduction="none", return_full_image=True
    )[1]
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # windows that lie in the image, as in the paper; torchmetrics pads
    assert torch.allclose(ssim_each(y, x), inside, atol=1e-4)
    assert ssim(x, x).value == pytest.approx(1.0)


def test_reconstruction_refuses_other_ranges_and_shapes():
    x = torch.rand(1, 3, 16, 16)
    with pytest.raises(InputError, match=r"scale images to \[0, 1\]"):
        psnr(x * 255, x)
    with pytest.raises(InputError, match="differ in shape"):
        psnr(x, x[..., :8])
    with pytest.raises(InputError, match="at least 11 px"):
        ssim(x[..., :8], x[..., :8])


def test_the_bootstrap_of_a_mean_matches_the_normal_interval():
    x = torch.randn(400, generator=torch.Generator().manual_seed(1))
    low, high = bootstrap(lambda s: float(s.mean()), x, resamples=2000, confidence=0.95)
    half = 1.96 * float(x.std()) / 20
    assert (low, high) == (
        pytest.approx(float(x.mean()) - half, abs=0.015),
        pytest.approx(float(x.mean()) + half, abs=0.015),
    )


def test_the_bootstrap_repeats_by_seed_and_keeps_pairs_together():
    a = torch.arange(50.0)
    assert bootstrap(lambda s: float(s.mean()), a, seed=3) == bootstrap(lambda s: float(s.mean()), a, seed=3)
    assert bootstrap(lambda x, y: float((x - y).abs().max()), a, a, paired=True) == (0.0, 0.0)
    assert bootstrap(lambda x, y: float((x - y).abs().max()), a, a)[0] > 0


def test_the_centred_bootstrap_takes_the_bias_out():
    # the largest value of a redrawn sample is never above the sample's own: the percentile interval lies below it
    x = torch.rand(50, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap(lambda s: float(s.max()), x, method="centred")
    assert low < float(x.max()) < high
    assert bootstrap(lambda s: float(s.max()), x)[1] <= float(x.max())


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.98), st.integers(2, 40))
def test_a_bootstrap_interval_is_ordered_and_inside_the_data(confidence, n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(n))
    low, high = bootstrap(lambda s: float(s.mean()), x, resamples=50, confidence=confidence)
    assert float(x.min()) <= low <= high <= float(x.max())


def test_the_bootstrap_refuses_what_it_cannot_do():
    with pytest.raises(InputError, match="at least one row"):
        bootstrap(lambda s: 0.0, torch.zeros(0))
    with pytest.raises(InputError, match=r"confidence 95.0"):
        bootstrap(lambda s: 0.0, torch.zeros(3), confidence=95.0)
    with pytest.raises(InputError, match="same number"):
        bootstrap(lambda a, b: 0.0, torch.zeros(3), torch.zeros(4), paired=True)
    with pytest.raises(InputError, match="not finite"):
        bootstrap(lambda s: math.nan, torch.zeros(3))
