"""Class, place, gsd and layout consistency on constructed cases."""

import pytest
import torch

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet
from gensat.metrics.consistency import class_consistency, gsd_response, place_consistency, spearman
from gensat.metrics.frechet import PrincipalBasis
from gensat.metrics.layout import confusion, iou, mean_iou

CENTRES = {"houston": 0.0, "uganda": 1.0, "europe": -1.0}


def place(name, n, *, seed=0, spread=0.1):
    x = torch.randn(n, 80, generator=torch.Generator().manual_seed(seed)) * spread
    x[:, 3] += CENTRES[name]
    return FeatureSet(x, "toy@32")


@pytest.fixture(scope="module")
def world():
    real = {name: place(name, n, seed=i) for i, (name, n) in enumerate(zip(CENTRES, (300, 60, 100), strict=True))}
    return real, PrincipalBasis.fit(FeatureSet(torch.cat([s.values for s in real.values()]), "toy@32"))


def test_class_consistency_counts_what_was_recognised():
    asked = torch.tensor([0, 0, 0, 1, 1, 2])
    recognised = torch.tensor([0, 0, 1, 1, 1, 0])
    result = class_consistency(
        recognised, asked, classes=("harbor", "river", "beach"), extractor="probe", confidence=0.9
    )
    assert result.value == pytest.approx(4 / 6)
    assert result.per_class == {"harbor": pytest.approx(2 / 3), "river": 1.0, "beach": 0.0}
    assert result.confusion == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert result.chance == pytest.approx(1 / 3)
    assert result.interval[0] <= result.value <= result.interval[1]


def test_class_consistency_refuses_indices_outside_the_classes():
    with pytest.raises(InputError, match=r"0 to 2.*2 classes"):
        class_consistency(torch.tensor([0, 2]), torch.tensor([0, 1]), classes=("a", "b"))


def test_images_of_the_right_place_are_recognised_and_swapped_ones_are_not(world):
    real, basis = world
    names = ["houston"] * 40 + ["uganda"] * 40
    made = FeatureSet(torch.cat([place("houston", 40, seed=8).values, place("uganda", 40, seed=9).values]), "toy@32")
    heldout = {n: place(n, 30, seed=20 + i) for i, n in enumerate(CENTRES)}
    right = place_consistency(made, names, real=real, basis=basis, heldout=heldout, confidence=0.95)
    assert right.value > 0.95 and right.vote > 0.9
    assert min(right.ceiling) > 0.9 and right.chance == pytest.approx(1 / 3)
    assert set(right.per_place) == {"houston", "uganda"}
    assert right.vote_interval[0] <= right.vote <= right.vote_interval[1]
    swapped = place_consistency(made, names[::-1], real=real, basis=basis)
    assert swapped.value < 0.05 and swapped.vote < 0.1


def test_a_place_with_more_images_wins_no_more_votes(world):
    _, basis = world

    def cloud(n, seed):  # few dimensions: in many, single points would win most votes
        return FeatureSet(place("houston", n, seed=seed).values * (torch.arange(80) < 3), "toy@32")

    # the same cloud under two names, one of them five times as large: the vote is a fair coin
    real = {"large": cloud(1000, 1), "small": cloud(200, 2)}
    result = place_consistency(cloud(600, 3), ["small"] * 600, real=real, basis=basis)
    assert result.vote == pytest.approx(0.5, abs=0.08)


def test_place_consistency_refuses_unknown_places(world):
    real, basis = world
    with pytest.raises(InputError, match=r"'mars' not among them"):
        place_consistency(place("houston", 2), ["houston", "mars"], real=real, basis=basis)
    with pytest.raises(InputError, match="at least two real places"):
        place_consistency(place("houston", 1), ["houston"], real={"houston": real["houston"]}, basis=basis)


def test_spearman_agrees_with_torchmetrics_also_with_ties():
    functional = pytest.importorskip("torchmetrics.functional")
    g = torch.Generator().manual_seed(0)
    a = torch.randint(0, 6, (80,), generator=g).float()
    b = a + 3 * torch.randn(80, generator=g)
    assert spearman(a, b) == pytest.approx(float(functional.spearman_corrcoef(a, b)), abs=1e-5)
    assert spearman(a, a.exp()) == pytest.approx(1.0) and spearman(a, -a) == pytest.approx(-1.0)


def test_gsd_response_reports_order_and_scale():
    asked = torch.tensor([0.3, 0.5, 1.0, 5.0, 10.0, 30.0])
    result = gsd_response(asked, asked**0.5 * 2, confidence=0.9)
    assert result.value == pytest.approx(1.0)
    halved = gsd_response(asked, asked / 2)
    assert (halved.median_ratio, halved.octaves) == (pytest.approx(0.5), pytest.approx(1.0))
    assert gsd_response(asked, asked.flip(0)).value == pytest.approx(-1.0)


def test_gsd_response_refuses_one_single_distance():
    with pytest.raises(InputError, match="at least two different"):
        gsd_response(torch.ones(5), torch.rand(5) + 0.1)
    with pytest.raises(InputError, match="not positive"):
        gsd_response(torch.tensor([0.0, 1.0, 2.0]), torch.ones(3))


def test_confusion_leaves_unknown_targets_out_and_keeps_unknown_predictions_as_errors():
    target = torch.tensor([[[0, 2], [2, 3]]])
    predicted = torch.tensor([[[2, 2], [0, 1]]])
    counts = confusion(predicted, target, classes=4)
    assert counts.sum() == 3 and counts[0, 2, 2] == 1 and counts[0, 2, 0] == 1 and counts[0, 3, 1] == 1


def test_iou_of_overlapping_squares_is_known():
    target, predicted = torch.ones(1, 8, 8, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.uint8)
    target[0, 0:4, 0:4] = 2
    predicted[0, 0:4, 2:6] = 2
    result = mean_iou(
        confusion(predicted, target, classes=3),
        names={1: "ground", 2: "building"},
        extractor="segmenter",
        confidence=0.9,
    )
    # building: 8 shared, 16 + 16 - 8 in the union; ground: 40 shared, 48 + 48 - 40 in the union
    assert result.per_class == {"ground": pytest.approx(40 / 56), "building": pytest.approx(8 / 24)}
    assert result.recall["building"] == 0.5
    assert result.value == pytest.approx((40 / 56 + 8 / 24) / 2)
    assert (result.accuracy, result.pixels, result.n) == (48 / 64, 64, 1)


def test_a_class_absent_from_the_target_does_not_count_as_zero():
    target = torch.full((1, 4, 4), 5)
    each, _ = iou(confusion(target, target, classes=11)[0])
    assert each[5] == 1 and torch.isfinite(each).sum() == 1


def test_iou_agrees_with_torchmetrics_jaccard():
    functional = pytest.importorskip("torchmetrics.functional")
    g = torch.Generator().manual_seed(0)
    target, predicted = torch.randint(0, 5, (2, 20, 20), generator=g), torch.randint(0, 5, (2, 20, 20), generator=g)
    expected = functional.jaccard_index(predicted, target, "multiclass", num_classes=5, ignore_index=0, average="none")
    each, _ = iou(confusion(predicted, target, classes=5).sum(0))
    assert torch.allclose(each[1:].float(), expected[1:], atol=1e-5)


def test_maps_of_another_size_or_code_are_refused():
    a = torch.ones(1, 4, 4, dtype=torch.long)
    with pytest.raises(InputError, match="differ in size"):
        confusion(a, torch.ones(1, 4, 5, dtype=torch.long))
    with pytest.raises(InputError, match=r"codes 1 to 12.*0 to 10"):
        confusion(a, a.clone().index_fill_(1, torch.tensor([0]), 12))
    with pytest.raises(InputError, match="no pixel"):
        mean_iou(confusion(a, a * 0))
