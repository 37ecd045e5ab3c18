"""The emission-absorption integral: closed forms for constant density, finite differences, sampling where the weights are."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat.errors import InputError
from gensat.render.volume import integrate, piece_weights, resample, softplus_density

STEP = 0.05


def constant(sigma: float, length: float, rule: str):
    """One ray through a constant density from 0 to ``length``, with colour 0.3."""
    count = round(length / STEP)
    at = torch.arange(count + 1, dtype=torch.float64) * STEP
    at = at[1:] if rule == "endpoint" else at
    density = torch.full_like(at, sigma)
    return integrate(density, at, torch.full((len(at), 1), 0.3, dtype=torch.float64), rule=rule)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 20.0), st.integers(2, 80), st.sampled_from(["endpoint", "midpoint"]))
def test_transmittance_of_constant_density_is_exact(sigma, pieces, rule):
    length = pieces * STEP
    found = constant(sigma, length, rule)
    assert float(found.opacity) == pytest.approx(1 - math.exp(-sigma * length), abs=1e-12)
    assert float(found.values) == pytest.approx(0.3 * float(found.opacity), abs=1e-12)


@pytest.mark.parametrize(("rule", "order"), [("endpoint", 1), ("midpoint", 2)])
def test_expected_distance_converges_to_its_closed_form(rule, order):
    sigma, length = 1.3, 2.0
    exact = 1 / sigma - math.exp(-sigma * length) * (length + 1 / sigma)
    errors = []
    for count in (20, 40, 80):
        at = torch.linspace(0, length, count + 1, dtype=torch.float64)
        at = at[1:] if rule == "endpoint" else at
        errors.append(abs(float(integrate(torch.full_like(at, sigma), at, rule=rule).distance) - exact))
    assert errors[2] < errors[1] < errors[0]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.1)


def test_a_wall_behind_air_is_seen_at_its_distance():
    at = torch.linspace(0.01, 10, 1000)
    found = integrate(torch.where(at > 4, 100.0, 0.0), at)
    assert float(found.mean_distance()) == pytest.approx(4.01, abs=0.02)
    assert not bool(found.sky())
    nothing = integrate(torch.zeros_like(at), at)
    assert bool(nothing.sky()) and math.isinf(float(nothing.mean_distance())) and float(nothing.opacity) == 0


def test_dense_pieces_do_not_swallow_the_thin_one_before_them():
    weights = piece_weights(torch.tensor([1e-3, 1e7, 1.0]))
    assert weights.tolist() == pytest.approx([1 - math.exp(-1e-3), math.exp(-1e-3), 0.0], rel=1e-5)


@pytest.mark.parametrize("rule", ["endpoint", "midpoint"])
def test_gradients_agree_with_finite_differences(rule):
    draw = torch.Generator().manual_seed(3)
    density = torch.rand(2, 6, generator=draw, dtype=torch.float64).requires_grad_()
    values = torch.rand(2, 6, 3, generator=draw, dtype=torch.float64).requires_grad_()
    at = torch.rand(2, 6, generator=draw, dtype=torch.float64).cumsum(-1).requires_grad_()

    def all_of(*args):
        found = integrate(*args, rule=rule)
        return found.opacity, found.distance, found.values

    assert torch.autograd.gradcheck(all_of, (density, at, values))


def test_a_batch_gives_what_its_rays_give():
    density, at = torch.rand(3, 4, 9), torch.rand(3, 4, 9).cumsum(-1)
    whole = integrate(density, at)
    one = integrate(density[1, 2], at[1, 2])
    assert torch.allclose(whole.opacity[1, 2], one.opacity) and torch.allclose(whole.weights[1, 2], one.weights)


def test_resampling_follows_the_weights():
    at = torch.linspace(0, 1, 21).expand(5, -1)
    weights = torch.zeros(5, 20)
    weights[:, 10] = 1.0
    even = resample(at, weights, 201)
    assert bool((even.diff(dim=-1) >= 0).all()) and float(even.min()) >= 0 and float(even.max()) <= 1
    near = ((even > 0.4) & (even < 0.65)).float().mean()
    assert float(near) > 0.85  # 0.01 is added everywhere, so a little goes elsewhere
    draw = lambda seed: resample(at, weights, 50, deterministic=False, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    random = draw(1).sort(dim=-1)[0]
    assert abs(float(random.mean() - even.mean())) < 0.03


def test_softplus_density_is_that_of_mipnerf():
    assert float(softplus_density(torch.tensor(1.0))) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: integrate(x[:1], x[:1], rule="midpoint"),
        lambda x: integrate(x, x, rule="midpoint", step=0.1),
        lambda x: resample(x[:2], x[:1], 4),
        lambda x: resample(x, x, 4),
    ],
)
def test_what_cannot_be_integrated_is_said(call):
    with pytest.raises(InputError, match="takes"):
        call(torch.rand(5))
