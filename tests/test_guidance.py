"""The algebra of guidance: which branches run, and what comes of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gensat.diffusion.guidance import Branch, Guidance
from gensat.errors import InputError

SCALES = st.floats(0, 20, allow_nan=False)


@pytest.fixture
def branches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 5, 6, generator=generator) for _ in range(3)]


def test_scale_one_needs_one_branch(branches):
    guidance = Guidance(1.0)
    assert guidance.branches() == (Branch.FULL,)
    assert guidance.combine(branches[2:]) is branches[2]


def test_joint_guidance_extrapolates_from_the_unconditional(branches):
    nothing, _, full = branches
    guidance = Guidance(3.5)
    assert guidance.branches() == (Branch.UNCONDITIONAL, Branch.FULL)
    torch.testing.assert_close(guidance.combine([nothing, full]), 3.5 * full - 2.5 * nothing)
    assert torch.equal(Guidance(0.0).combine([nothing, full]), nothing)


def test_separate_scales_guide_text_and_place_apart(branches):
    nothing, text, full = branches
    guidance = Guidance(4.0, 2.0)
    assert guidance.branches() == (Branch.UNCONDITIONAL, Branch.TEXT, Branch.FULL)
    torch.testing.assert_close(guidance.combine(branches), -3 * nothing + 2 * text + 2 * full)
    torch.testing.assert_close(Guidance(4.0, 0.0).combine(branches), 4 * text - 3 * nothing)
    torch.testing.assert_close(Guidance(1.0, 0.0).combine(branches), text)


@given(scale=SCALES)
def test_equal_separate_scales_are_joint_guidance(scale):
    guidance = Guidance(scale, scale)
    assert guidance.branches() == Guidance(scale).branches()
    nothing, text, full = torch.randn(3, 1, 2, 3, 4, generator=torch.Generator().manual_seed(1))
    three = guidance.combine([nothing, text, full])
    torch.testing.assert_close(three, guidance.combine([nothing, full]), atol=1e-4, rtol=1e-4)


def test_a_place_that_changes_nothing_is_guided_like_the_text(branches):
    nothing, text, _ = branches
    torch.testing.assert_close(
        Guidance(3.0, 7.0).combine([nothing, text, text]), Guidance(3.0).combine([nothing, text])
    )


def test_full_rescale_has_the_spread_of_the_full_branch(branches):
    nothing, _, full = branches
    out = Guidance(8.0, rescale=1.0).combine([nothing, full])
    plain = Guidance(8.0).combine([nothing, full])
    torch.testing.assert_close(out.std(dim=(1, 2, 3)), full.std(dim=(1, 2, 3)))
    ratio = out / plain
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))  # one factor per sample
    half = Guidance(8.0, rescale=0.5).combine([nothing, full])
    torch.testing.assert_close(half, (out + plain) / 2)


def test_each_sample_is_rescaled_by_itself(branches):
    nothing, _, full = branches
    guidance = Guidance(5.0, rescale=0.7)
    together = guidance.combine([nothing, full])
    torch.testing.assert_close(guidance.combine([nothing[1:2], full[1:2]]), together[1:2])


def test_guidance_is_off_outside_its_interval():
    guidance = Guidance(4.0, 2.0, interval=(0.25, 0.75))
    count = [len(guidance.branches(progress)) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert count == [1, 3, 3, 3, 1]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"scale": -1}, "guidance_scale"),
        ({"scale": math.nan}, "guidance_scale"),
        ({"place_scale": 101}, "place_guidance_scale"),
        ({"rescale": 1.5}, "guidance_rescale"),
        ({"interval": (0.8, 0.2)}, "interval"),
        ({"interval": (0.0, 1.1)}, "interval"),
    ],
)
def test_values_outside_their_range_are_refused(values, name):
    with pytest.raises(InputError, match=name):
        Guidance(**values)
