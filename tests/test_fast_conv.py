"""Convolutions with fewer products against the plain ones."""

import copy

import pytest
import torch
import torch.nn.functional as F

from gensat.models import fast_conv
from gensat.models.fast_conv import ReflectConv, UpsampledConv, upsampled, winograd


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    monkeypatch.setattr(fast_conv, "MIN_WORK", 0)


def plain(layer, x):
    if isinstance(layer, UpsampledConv):
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias)


@pytest.mark.parametrize("kind", [ReflectConv, UpsampledConv])
@pytest.mark.parametrize("size", [(2, 5, 8, 6), (1, 3, 2, 4)])
def test_both_forms_agree(kind, size):
    torch.manual_seed(0)
    layer, x = kind(size[1], 4, *([3] if kind is ReflectConv else [])), torch.randn(size)
    expected = plain(layer, x)
    assert torch.equal(layer(x), expected)  # with gradients: the plain form
    with torch.no_grad():
        found = layer(x)
    assert layer._prepared.kernel is not None
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=2e-6)


def test_in_double_precision_they_are_the_same_to_rounding():
    torch.manual_seed(1)
    x, w = torch.randn(1, 7, 12, 10, dtype=torch.float64), torch.randn(6, 7, 3, 3, dtype=torch.float64)
    direct = F.conv2d(x, w)
    assert torch.allclose(winograd(x, fast_conv._transformed(w, fast_conv._WINOGRAD)), direct, atol=1e-13)
    inner = x[:, :, 1:-1, 1:-1]
    padded = F.pad(inner, (1, 1, 1, 1), mode="replicate")
    twice = F.conv2d(F.pad(F.interpolate(inner, scale_factor=2.0), (1, 1, 1, 1), mode="reflect"), w)
    assert torch.allclose(upsampled(padded, fast_conv._transformed(w, fast_conv._UPSAMPLED)), twice, atol=1e-13)


def test_changed_weights_are_noticed_and_copies_stand_alone():
    layer, x = ReflectConv(3, 3, 3), torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        layer(x)
        other = copy.deepcopy(layer)
        layer.weight.mul_(2)
        assert torch.allclose(layer(x), plain(layer, x), atol=2e-6)
        layer.weight = torch.nn.Parameter(layer.weight + 1)
        assert torch.allclose(layer(x), plain(layer, x), atol=2e-6)
        assert torch.allclose(other(x), plain(other, x), atol=2e-6)


def test_odd_sides_strides_and_other_kernels_are_plain():
    with torch.no_grad():
        for layer, x in (
            (ReflectConv(2, 3, 3), torch.randn(1, 2, 5, 4)),
            (ReflectConv(2, 3, 3, 2), torch.randn(1, 2, 6, 4)),
            (ReflectConv(2, 3, 7), torch.randn(1, 2, 6, 8)),
        ):
            layer(x)
            assert layer._prepared.kernel is None
