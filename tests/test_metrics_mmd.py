"""CMMD-style distance, CLIP score with its null, great circles, per-region figures: against independent values."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist

from gensat.errors import InputError
from gensat.metrics.alignment import clip_score
from gensat.metrics.base import FeatureSet, Measurement
from gensat.metrics.geolocation import geolocation, great_circle_km
from gensat.metrics.mmd import gaussian_kernel, gaussian_mmd
from gensat.metrics.regions import by_region, cell_name


def features(n, f=32, *, seed=0, shift=0.0, name="clip-toy@32"):
    x = torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return FeatureSet(x + shift, name)


# -- maximum mean discrepancy -----------------------------------------------------------------------------------------


def test_mmd_equals_scipys_kernel_summed_over_all_pairs():
    a, b = features(23, seed=1), features(31, seed=2, shift=0.3)
    x, y = (F.normalize(s.values, dim=1).numpy() for s in (a, b))

    def k(p, q):
        return np.exp(-cdist(p, q, "sqeuclidean") / 200)

    expected = 1000 * (k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean())
    result = gaussian_mmd(a, b)
    assert result.value == pytest.approx(expected, rel=1e-9)
    off = ~np.eye(23, dtype=bool), ~np.eye(31, dtype=bool)
    unbiased = 1000 * (k(x, x)[off[0]].mean() + k(y, y)[off[1]].mean() - 2 * k(x, y).mean())
    assert result.unbiased == pytest.approx(unbiased, rel=1e-9)


def test_mmd_of_two_points_has_the_closed_form():
    a = FeatureSet(torch.tensor([[1.0, 0.0]] * 3), "clip-toy@32")
    b = FeatureSet(torch.tensor([[0.0, 5.0]] * 4), "clip-toy@32")  # length does not matter, direction does
    assert gaussian_mmd(a, b).value == pytest.approx(1000 * (2 - 2 * math.exp(-2 / 200)), rel=1e-9)
    assert gaussian_mmd(a, a).value == pytest.approx(0, abs=1e-9)
    assert gaussian_kernel(a.values, b.values * 0.2, sigma=1)[0, 0] == pytest.approx(math.exp(-1))


def test_mmd_has_its_published_name_on_clip_alone_and_refuses_unlike_networks():
    assert gaussian_mmd(features(9), features(9, seed=1)).metric == "cmmd"
    other = [features(9, seed=i, name="efficientnet-lite0@224") for i in range(2)]
    assert gaussian_mmd(*other).metric == "gaussian_mmd"
    assert gaussian_mmd(features(9), features(9, seed=1), sigma=5).metric == "gaussian_mmd"
    with pytest.raises(InputError, match="same network"):
        gaussian_mmd(features(9), other[0])
    with pytest.raises(InputError, match="at least 3 images"):
        gaussian_mmd(features(2), features(9))


def test_mmd_interval_holds_the_truth_as_often_as_it_says():
    inside = 0
    truth = gaussian_mmd(features(4000, 6, seed=98), features(4000, 6, seed=99, shift=0.8)).unbiased
    for i in range(60):
        m = gaussian_mmd(features(60, 6, seed=2 * i), features(60, 6, seed=2 * i + 1, shift=0.8), confidence=0.9)
        half = (m.interval[1] - m.interval[0]) / 2
        inside += abs(m.unbiased - truth) < half
    assert 47 <= inside <= 60


# -- CLIP score ---------------------------------------------------------------------------------------------------------


def test_clip_score_and_its_null_by_hand():
    images = FeatureSet(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), "clip-toy@32")
    texts = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    result = clip_score(images, texts, ["a lake", "a road", "a road"])
    half = 100 / math.sqrt(2)
    assert result.value == pytest.approx((100 + 100 + half) / 3)
    # the captions that read otherwise: image 0 sees "a road" (0), images 1 and 2 see "a lake" (0 and 70.7)
    assert result.null == pytest.approx(half / 3)
    assert result.gain == pytest.approx(result.value - result.null)
    assert result.preferred == pytest.approx((1 + 1 + 0.5) / 3)


def test_clip_score_of_unrelated_texts_is_its_null():
    x, texts = features(400, 64, seed=1), features(400, 64, seed=2).values
    captions = [f"caption {i}" for i in range(400)]
    random = clip_score(x, texts, captions, confidence=0.95)
    assert random.gain_interval[0] < 0 < random.gain_interval[1]
    assert random.preferred == pytest.approx(0.5, abs=0.04)
    right = clip_score(x, x.values + 0.5 * texts, captions, confidence=0.95)
    assert right.gain_interval[0] > 10 and right.preferred > 0.99


def test_clip_score_refuses_what_has_no_null():
    x, texts = features(3, 8), features(3, 8, seed=1).values
    with pytest.raises(InputError, match="1 of 3 images have no caption"):
        clip_score(x, texts, ["a", " ", "b"])
    with pytest.raises(InputError, match="all captions are the same"):
        clip_score(x, texts, ["a"] * 3)
    with pytest.raises(InputError, match="one caption per image"):
        clip_score(x, texts[:2], ["a", "b"])


# -- places -------------------------------------------------------------------------------------------------------------


def test_great_circles_agree_with_geodesy():
    pyproj = pytest.importorskip("pyproj")
    rng = np.random.default_rng(0)
    a, b = (np.stack([rng.uniform(-180, 180, 50), rng.uniform(-89, 89, 50)], 1) for _ in range(2))
    sphere = pyproj.Geod(a=6371008.8, b=6371008.8)
    expected = sphere.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2] / 1000
    assert np.allclose(great_circle_km(torch.tensor(a), torch.tensor(b)).numpy(), expected, atol=1e-6)


def test_geolocation_counts_levels_and_what_other_places_would_give():
    asked = torch.tensor([[0.0, 0.0], [90.0, 0.0]])
    degree = 111.195  # km along the equator
    near = torch.tensor([[0.1, 0.0], [92.0, 0.0]])
    result = geolocation(near, asked, extractor="toy", confidence=0.9)
    assert result.value == pytest.approx((0.1 + 2) / 2 * degree, rel=1e-3)
    assert result.within == {"1 km": 0.0, "25 km": 0.5, "200 km": 0.5, "750 km": 1.0, "2500 km": 1.0}
    assert result.null > 80 * degree
    with pytest.raises(InputError, match="same place"):
        geolocation(near, asked[:1].expand(2, 2).contiguous(), extractor="toy")
    with pytest.raises(InputError, match="beyond a pole"):
        geolocation(near, torch.tensor([[0.0, 95.0], [1.0, 0.0]]), extractor="toy")


def test_every_region_has_its_own_figure_and_n():
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 100.0, 2.0, 2.0, 2.0])
    regions = ["east", "east", "west", "west", "tiny", None, "east", "west"]

    def mean(rows):
        return Measurement("mean", float(values[rows].mean()), len(rows), "toy")

    result = by_region(mean, regions, fewest=3)
    assert {k: (v["value"], v["n"]) for k, v in result.per_region.items()} == {
        "east": (2.0, 3),
        "west": (pytest.approx(14 / 3), 3),
    }
    assert (result.value, result.n) == (pytest.approx((2 + 14 / 3) / 2), 6)
    assert (result.lowest, result.highest, result.nowhere) == ("east", "west", 1)
    assert result.too_few == {"tiny": 1}
    with pytest.raises(InputError, match="no region has 4 images"):
        by_region(mean, regions, fewest=4)


@pytest.mark.parametrize(
    ("lon", "lat", "name"),
    [
        (-95.4, 29.8, "20 to 30 N, 100 to 90 W"),
        (16.9, 52.3, "50 to 60 N, 10 to 20 E"),
        (32.5, -0.3, "10 to 0 S, 30 to 40 E"),
        (180.0, 90.0, "80 to 90 N, 170 to 180 E"),
    ],
)
def test_cells_are_named_by_their_edges(lon, lat, name):
    assert cell_name(lon, lat) == name
    with pytest.raises(InputError, match="not on Earth"):
        cell_name(lon, 95.0)
