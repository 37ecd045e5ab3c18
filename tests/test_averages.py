"""Averages of any length: their profiles, their sums, and what a training keeps of them."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from test_training import fit, linear, recipe

from gensat.errors import InputError, ModelError
from gensat.train import posthoc
from gensat.train.averages import PowerAverages, combine, exponent, mixture, products, width
from gensat.train.runner import Trainer


class Walk(torch.nn.Module):
    """Parameters on a known way: polynomials and a wave of the step."""

    def __init__(self):
        super().__init__()
        self.at = torch.nn.Parameter(torch.zeros(4))
        self.still = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def go(self, step, steps):
        s = step / steps
        self.at.data = torch.tensor([s, s**2, np.sin(9 * s), 1.0])


def walked(folder, widths, steps=400, every=20):
    walk = Walk()
    kept = PowerAverages(walk, widths)
    for step in range(1, steps + 1):
        walk.go(step, steps)
        kept.step(step)
        if step % every == 0:
            kept.write(folder, step)
    return kept


def test_lengths_and_exponents_are_those_of_the_paper():
    assert exponent(0.05) == pytest.approx(16.97, abs=0.01) and exponent(0.10) == pytest.approx(6.94, abs=0.01)
    for sigma in (0.03, 0.1, 0.2, 0.28):
        assert width(exponent(sigma)) == pytest.approx(sigma)
    for wrong in (0.0, -0.1, 0.3):
        with pytest.raises(InputError, match="sigma_rel"):
            exponent(wrong)


def test_the_width_is_the_deviation_of_the_profile():
    t = np.linspace(0, 1, 200_001)
    p = t ** exponent(0.1)
    p /= p.sum()
    assert np.sqrt((p * t**2).sum() - (p * t).sum() ** 2) == pytest.approx(0.1, rel=1e-3)


def test_products_are_the_integrals_of_the_profiles():
    t = np.linspace(0, 8, 400_001)
    profile = lambda end, g: np.where(t <= end, (g + 1) * t**g / end ** (g + 1), 0)  # noqa: E731
    for a, b in (((8.0, 3.0), (5.0, 6.0)), ((5.0, 6.0), (8.0, 3.0)), ((4.0, 2.0), (4.0, 2.0))):
        found = products(np.array([a[0]]), np.array([a[1]]), np.array([b[0]]), np.array([b[1]]))[0, 0]
        assert found == pytest.approx(np.trapezoid(profile(*a) * profile(*b), t), rel=1e-4)


def test_a_running_average_weighs_steps_by_their_power(tmp_path):
    kept = walked(tmp_path, [0.1])
    steps = np.arange(1, 401)
    gamma = exponent(0.1)
    weight = steps ** (gamma + 1.0) - (steps - 1) ** (gamma + 1.0)  # the integral of t^gamma over each step
    weight /= weight.sum()
    s = steps / 400
    way = np.stack([s, s**2, np.sin(9 * s), np.ones(400)])
    assert np.allclose(kept.values[0][0].numpy(), way @ weight, atol=1e-4)
    assert len(kept.values[0]) == 1, "what is not trained is not averaged"


def test_a_kept_length_is_found_exactly_and_others_nearly(tmp_path):
    walked(tmp_path / "kept", [0.05, 0.1])
    for sigma, tolerance in ((0.05, 1e-5), (0.1, 1e-5), (0.07, 2e-3), (0.15, 5e-3)):
        truth = walked(tmp_path / f"true-{sigma}", [sigma]).values[0][0]
        found, step = combine(tmp_path / "kept", sigma)
        assert step == 400 and set(found) == {"at"}
        assert torch.allclose(found["at"], truth, atol=tolerance), sigma
    far = walked(tmp_path / "far", [0.25]).values[0][0]
    assert not torch.allclose(combine(tmp_path / "kept", 0.05)[0]["at"], far, atol=0.05)


def test_the_mixture_is_the_least_squares_solution_on_a_fine_grid():
    steps, gammas = [40, 40, 80, 80, 120, 120], [16.97, 6.94] * 3
    t = (np.arange(60_000) + 0.5) * 120 / 60_000
    profile = lambda end, g: np.where(t <= end, (g + 1) * t**g / end ** (g + 1), 0)  # noqa: E731
    basis = np.stack([profile(s, g) for s, g in zip(steps, gammas, strict=True)], axis=1)
    expected = np.linalg.lstsq(basis, profile(120, 9.0), rcond=None)[0]
    assert np.allclose(mixture(steps, gammas, step=120, gamma=9.0), expected, atol=1e-3)


def test_a_resumed_training_keeps_the_same_averages(tmp_path):
    kept = {"averages": [0.05, 0.1], "save_every": 2}

    def run(out, steps):
        trainer = Trainer(linear(), recipe(tmp_path / out, steps=steps, schedule="constant", **kept))
        trainer.run(fit, int)
        return trainer

    whole = run("whole", 6)
    run("parts", 3)
    parts = run("parts", 6)
    for a, b in zip(whole.averages.values, parts.averages.values, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    files = [sorted(p.name for p in (tmp_path / out / "averages").iterdir()) for out in ("whole", "parts")]
    assert files[0] == [f"step-{k:08d}.safetensors" for k in (2, 4, 6)]
    assert set(files[0]) <= set(files[1])


def test_lengths_that_a_run_did_not_begin_with_are_refused(tmp_path):
    Trainer(linear(), recipe(tmp_path / "a", steps=2)).run(fit, int)
    with pytest.raises(ModelError, match="begun without averages"):
        Trainer(linear(), recipe(tmp_path / "a", steps=3, averages=[0.1]))
    Trainer(linear(), recipe(tmp_path / "b", steps=2, averages=[0.1])).run(fit, int)
    with pytest.raises(InputError, match="other lengths"):
        Trainer(linear(), recipe(tmp_path / "b", steps=3, averages=[0.05]))


def test_the_command_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match="give the run"):
        posthoc.main([str(tmp_path)])
    with pytest.raises(InputError, match="not the folder of a denoiser"):
        posthoc.main([str(tmp_path), str(tmp_path / "out"), "sigma=0.1"])
    OmegaConf.save({"training": "denoiser"}, tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match="averages="):
        posthoc.main([str(tmp_path), str(tmp_path / "out"), "sigma=0.1"])
