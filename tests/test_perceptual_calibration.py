"""Distortions of known strength, and weights fitted on questions with a known answer."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import spearmanr

from gensat.models.features import EfficientNetLite0
from gensat.train.distortions import CALIBRATION, DAMAGING, HELD_OUT, at_error, brighten, mse, rounded
from gensat.train.perceptual import Measured, agreement, choose_penalty, fit, make_trial, starting_weights

ALL = {**CALIBRATION, **HELD_OUT}
CHANNELS = sum(EfficientNetLite0.pyramid_channels)


def picture(size=64):
    x = ndimage.gaussian_filter(np.random.default_rng(0).random((size, size, 3)), (2, 2, 0))
    return ((x - x.min()) / np.ptp(x)).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
def test_strength_zero_does_nothing_and_more_does_more(name):
    x = picture()
    outs = [ALL[name](x, s, np.random.default_rng(1)) for s in (0.0, 0.25, 0.5, 1.0)]
    assert np.allclose(outs[0], x, atol=1e-6)
    assert all(out.shape == x.shape for out in outs)
    errors = [mse(rounded(out), x) for out in outs[1:]]
    assert errors[0] > 0 and errors[-1] > errors[0]


def test_held_out_distortions_are_others():
    assert not set(CALIBRATION) & set(HELD_OUT) and set(DAMAGING) <= set(CALIBRATION)


@pytest.mark.parametrize("name", DAMAGING)
def test_an_error_is_matched(name):
    x = picture()
    error = mse(rounded(brighten(x, 0.2, np.random.default_rng(0))), x)
    out = at_error(CALIBRATION[name], x, error, seed=0)
    assert out is not None and mse(out, x) == pytest.approx(error, rel=0.06)
    assert at_error(CALIBRATION["jpeg"], x, 0.9, seed=0) is None


def test_questions_point_at_versions_that_differ_as_they_say():
    x = picture()
    trial = make_trial(x, CALIBRATION, levels=3, seed=0)
    assert {kind for kind, *_ in trial.questions} == {"severity", "composition", "equal error"}
    for kind, better, worse, a, b in trial.questions:
        e, f = mse(trial.versions[better], x), mse(trial.versions[worse], x)
        if kind == "equal error":
            assert f == pytest.approx(e, rel=0.07) and (a, b) == (-1, -1)
        if kind == "severity":
            assert a == b and better < worse
    again = make_trial(x, CALIBRATION, levels=3, seed=0)
    assert all(np.array_equal(p, q) for p, q in zip(trial.versions, again.versions, strict=True))


def synthetic(useful, n=400, seed=0):
    """Channel differences in which only channel ``useful`` tells the worse of two."""
    g = torch.Generator().manual_seed(seed)
    channels = torch.rand(2 * n, CHANNELS, generator=g)
    channels[n:, useful] += 1.0
    rows = torch.stack([torch.arange(n), torch.arange(n) + n, torch.arange(n) % 4, torch.arange(n) % 4], 1)
    return Measured(channels, torch.zeros(0), torch.zeros(0), {"severity": rows}, [])


def test_the_fit_finds_the_channel_that_tells_and_stays_non_negative():
    seen, other = synthetic(7), synthetic(7, seed=1)
    weights = fit(seen.channels, seen.questions, penalty=1e-3, iterations=60)
    assert bool((weights >= 0).all()) and int((weights / starting_weights(seen.channels)).argmax()) == 7
    before = agreement(other, other.channels @ starting_weights(seen.channels))["questions"]["severity"]["accuracy"]
    after = agreement(other, other.channels @ weights)["questions"]["severity"]["accuracy"]
    assert after > before and after > 0.95
    scores = choose_penalty(seen, [1e-3, 1e3], folds=2, iterations=30)
    assert scores[1e-3] > scores[1e3] > 0.5


def test_agreement_counts_answers_and_ranks():
    measured = Measured(
        torch.zeros(4, 1),
        torch.zeros(0),
        torch.zeros(0),
        {"severity": torch.tensor([[0, 1, 0, 0], [3, 2, 0, 0]]), "composition": torch.zeros(0, 4, dtype=torch.long)},
        [("blur", 0.5, 0, 0), ("blur", 1.0, 1, 0), ("blur", 0.5, 2, 1), ("blur", 1.0, 3, 1)],
    )
    distance = torch.tensor([1.0, 2.0, 5.0, 4.0])
    found = agreement(measured, distance)
    assert found["questions"] == {"severity": {"accuracy": 1.0, "n": 2}}
    ranks = found["rank correlation"]["blur"]
    assert ranks["within"] == pytest.approx(0.0) and ranks["images"] == 2
    assert ranks["across"] == pytest.approx(spearmanr([0.5, 1, 0.5, 1], distance).statistic)
