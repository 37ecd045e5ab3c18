"""Fréchet and kernel distance: closed forms, agreement with torchmetrics, and what is refused."""

import json
import math

import pytest
import torch

from gensat.errors import InputError
from gensat.metrics.base import FeatureSet
from gensat.metrics.frechet import PrincipalBasis, frechet, frechet_64, frechet_distance
from gensat.metrics.kernel import kernel_distance, polynomial_kernel


def features(n, f=96, *, seed=0, shift=0.0, scale=1.0, name="toy@32"):
    x = torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return FeatureSet(x * scale + shift, name)


class GivenFeatures(torch.nn.Module):
    """torchmetrics asks for a network; this one hands the features through."""

    def __init__(self, count):
        super().__init__()
        self.num_features = count

    def forward(self, x):
        return x


def test_frechet_of_equal_gaussians_is_zero():
    cov = torch.tensor([[2.0, 0.6], [0.6, 1.0]])
    mean = torch.tensor([1.0, -3.0])
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-6)


def test_frechet_of_shifted_and_scaled_diagonal_gaussians_has_the_closed_form():
    a, b = torch.tensor([4.0, 9.0, 1.0]), torch.tensor([1.0, 1.0, 16.0])
    shift = torch.tensor([1.0, 2.0, -2.0])
    expected = 9.0 + (2 - 1) ** 2 + (3 - 1) ** 2 + (1 - 4) ** 2
    assert frechet_distance(shift, a.diag(), torch.zeros(3), b.diag()) == pytest.approx(expected, rel=1e-12)


def test_frechet_of_correlated_gaussians_has_the_two_dimensional_closed_form():
    # for 2x2 matrices tr (M^(1/2)) = sqrt(tr M + 2 sqrt(det M))
    a = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.5], [-0.5, 3.0]], dtype=torch.float64)
    product = a @ b
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.det(product))))
    expected = float(a.trace() + b.trace()) - 2 * root
    assert frechet_distance(torch.zeros(2), a, torch.zeros(2), b) == pytest.approx(expected, rel=1e-10)


def test_frechet_does_not_change_under_a_common_rotation_and_is_symmetric():
    q, _ = torch.linalg.qr(torch.randn(96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    a, b = features(200, seed=1), features(180, seed=2, shift=0.3, scale=1.4)
    here = frechet(a, b).value
    assert frechet(b, a).value == pytest.approx(here, rel=1e-9)
    turned = frechet(FeatureSet(a.values @ q, a.extractor), FeatureSet(b.values @ q, a.extractor)).value
    assert turned == pytest.approx(here, rel=1e-9)


def test_frechet_of_singular_covariances_is_finite_and_right():
    a = torch.diag(torch.tensor([4.0, 0.0, 0.0]))
    b = torch.diag(torch.tensor([0.0, 9.0, 0.0]))
    assert frechet_distance(torch.zeros(3), a, torch.zeros(3), b) == pytest.approx(13.0, rel=1e-12)


def test_frechet_agrees_with_torchmetrics_on_the_same_features():
    fid = pytest.importorskip("torchmetrics.image.fid")
    metric = fid.FrechetInceptionDistance(GivenFeatures(96), input_img_size=(96,)).set_dtype(torch.float64)
    a, b = features(400, seed=3), features(350, seed=4, shift=0.1, scale=1.2)
    metric.update(a.values, real=True)
    metric.update(b.values, real=False)
    assert frechet(a, b).value == pytest.approx(float(metric.compute()), rel=1e-6)


def test_frechet_64_grows_with_the_shift_and_stands_on_the_floor_without_one():
    train = features(3000, seed=10)
    basis = PrincipalBasis.fit(train)
    real = features(400, seed=11)
    values = [frechet_64(real, features(400, seed=12, shift=s), basis=basis, train=train) for s in (0.0, 0.3, 0.6)]
    assert values[0].value < values[1].value < values[2].value
    assert values[0].value == pytest.approx(values[0].floor, rel=0.15)
    assert (values[0].dims, values[0].n, values[0].extractor) == (64, 400, "toy@32")


def test_frechet_64_in_all_directions_equals_the_full_distance():
    train, a, b = features(500, 64, seed=1), features(330, 64, seed=2), features(330, 64, seed=3, scale=1.5)
    assert frechet_64(a, b, basis=PrincipalBasis.fit(train)).value == pytest.approx(frechet(a, b).value, rel=1e-9)


def test_frechet_64_interval_holds_the_value_and_repeats():
    basis = PrincipalBasis.fit(features(500, seed=1))
    a, b = features(320, seed=2), features(320, seed=3, shift=0.4)
    one = frechet_64(a, b, basis=basis, confidence=0.9, resamples=40)
    assert one.interval[0] < one.value < one.interval[1]
    assert frechet_64(a, b, basis=basis, confidence=0.9, resamples=40) == one
    assert frechet_64(a, b, basis=basis, confidence=0.9, resamples=40, seed=1).interval != one.interval


@pytest.mark.parametrize(("real", "generated"), [(319, 319), (400, 320)])
def test_frechet_64_refuses_few_or_unequal_numbers_and_marks_what_was_forced(real, generated):
    basis = PrincipalBasis.fit(features(500, seed=1))
    a, b = features(real, seed=2), features(generated, seed=3)
    with pytest.raises(InputError, match=rf"at least 320 images, not {real} real with {generated} generated.*force"):
        frechet_64(a, b, basis=basis)
    assert frechet_64(a, b, basis=basis, force=True).metric == "frechet_64 (forced)"


def test_the_basis_finds_the_directions_of_largest_variance():
    x = features(2000, 80, seed=6).values * torch.linspace(5, 0.1, 80, dtype=torch.float64)
    basis = PrincipalBasis.fit(FeatureSet(x, "toy@32"), dims=64)
    variances = basis.project(FeatureSet(x, "toy@32")).var(0)
    assert torch.all(variances[:-1] >= variances[1:] - 1e-9)
    assert float(variances.sum() / x.var(0).sum()) == pytest.approx(basis.explained, rel=1e-6)
    assert torch.allclose(basis.components @ basis.components.T, torch.eye(64, dtype=torch.float64), atol=1e-9)


def test_the_basis_survives_saving(tmp_path):
    basis = PrincipalBasis.fit(features(300, seed=7))
    basis.save(tmp_path / "basis.safetensors")
    again = PrincipalBasis.load(tmp_path / "basis.safetensors")
    x = features(50, seed=8)
    assert torch.allclose(again.project(x), basis.project(x), atol=1e-5)
    assert (again.extractor, again.explained) == (basis.extractor, basis.explained)


def test_a_basis_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="64 principal components to 64 rows"):
        PrincipalBasis.fit(features(64))


def test_features_of_unlike_extractors_are_never_compared():
    with pytest.raises(InputError, match=r"toy@32.*toy@64.*same network"):
        frechet(features(10), features(10, name="toy@64"))
    with pytest.raises(InputError, match="same network"):
        PrincipalBasis.fit(features(100)).project(features(10, name="toy@64"))


def test_nan_features_are_refused():
    x = torch.zeros(3, 4)
    x[1, 2] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        FeatureSet(x, "toy@32")


def test_kernel_distance_agrees_with_torchmetrics_on_the_same_features():
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = features(90, seed=1), features(90, seed=2, shift=0.2)
    metric = kid.KernelInceptionDistance(GivenFeatures(96), subsets=1, subset_size=90).set_dtype(torch.float64)
    metric.update(a.values, real=True)
    metric.update(b.values, real=False)
    expected = float(metric.compute()[0])
    assert kernel_distance(a, b).value == pytest.approx(expected, rel=1e-6)
    assert kernel_distance(a, b, subset_size=90, subsets=2).value == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_equals_the_sum_over_pairs():
    a, b = features(7, 5, seed=1), features(6, 5, seed=2, shift=1.0)

    def k(x, y):
        return float((x @ y / 5 + 1) ** 3)

    x, y = a.values, b.values
    xx = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    yy = sum(k(y[i], y[j]) for i in range(6) for j in range(6) if i != j) / 30
    xy = sum(k(x[i], y[j]) for i in range(7) for j in range(6)) / 42
    assert kernel_distance(a, b).value == pytest.approx(xx + yy - 2 * xy, rel=1e-10)
    assert polynomial_kernel(x, y).shape == (7, 6)


def test_kernel_distance_is_unbiased_and_its_error_honest():
    # two halves of one distribution: the mean over draws is zero, the spread is what the jackknife says
    drawn = [kernel_distance(features(60, 8, seed=2 * i), features(60, 8, seed=2 * i + 1)) for i in range(150)]
    values, errors = torch.tensor([d.value for d in drawn]), torch.tensor([d.std for d in drawn])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(150)
    shifted = [
        kernel_distance(features(60, 8, seed=2 * i), features(60, 8, seed=2 * i + 1, shift=0.5)) for i in range(150)
    ]
    values, errors = torch.tensor([d.value for d in shifted]), torch.tensor([d.std for d in shifted])
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.3)


def test_kernel_jackknife_equals_leaving_rows_out_one_by_one():
    a, b = features(9, 4, seed=1), features(8, 4, seed=2, shift=0.5)
    without_a = torch.tensor([kernel_distance(a.take([j for j in range(9) if j != i]), b).value for i in range(9)])
    without_b = torch.tensor([kernel_distance(a, b.take([j for j in range(8) if j != i])).value for i in range(8)])
    expected = math.sqrt(8 * float(without_a.var(unbiased=False)) + 7 * float(without_b.var(unbiased=False)))
    assert kernel_distance(a, b).std == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_refuses_subsets_larger_than_the_sets():
    with pytest.raises(InputError, match="subsets of 20"):
        kernel_distance(features(10), features(12), subset_size=20)


def test_a_measurement_prints_its_number_and_extractor_and_goes_to_json():
    result = kernel_distance(features(40), features(40, seed=1), confidence=0.95)
    assert "N = 40, toy@32" in str(result) and "at 95%" in str(result)
    back = json.loads(json.dumps(result.to_dict()))
    assert back["n"] == 40 and back["extractor"] == "toy@32" and back["interval"] == list(result.interval)
