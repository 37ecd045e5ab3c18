"""The critic of few-step students: who learns from what, that it knows what was asked for, and its losses by hand."""

import pytest
import torch

from gensat.train.critic import LEVELS, Critic, convincing, steepness, told_apart


def pictures(count=4, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side))


def asked(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens, vector = torch.randn(count, 5, 12, generator=generator), torch.randn(count, 6, generator=generator)
    return tokens, torch.ones(count, 5, dtype=torch.bool), vector


@pytest.fixture
def critic():
    torch.manual_seed(0)
    return Critic(12, 6, width=16)


def test_every_level_is_scored_in_every_place_and_one_image_by_itself(critic):
    x, about = pictures(), asked()
    scores = critic(critic.features(x), *about)
    assert [s.shape for s in scores] == [(4, (64 // stride) ** 2) for stride in (4, 8, 16, 32)] and len(LEVELS) == 4
    alone = critic(critic.features(x[2:3]), *(a[2:3] for a in about))
    for whole, one in zip(scores, alone, strict=True):
        torch.testing.assert_close(whole[2:3], one, atol=1e-4, rtol=1e-4)


def test_features_have_a_mean_square_of_one_and_their_network_is_no_part_of_the_critic(critic):
    for level in critic.features(pictures()):
        torch.testing.assert_close(level.square().mean(1), torch.ones_like(level[:, 0]), atol=1e-3, rtol=0)
    assert not any("net" in name for name in critic.state_dict()), (
        "a checkpoint would hold a network that never changes"
    )
    assert all(p.requires_grad for p in critic.parameters())


def test_words_that_are_padding_do_not_count(critic):
    features, (tokens, mask, vector) = critic.features(pictures()), asked()
    mask = mask.clone()
    mask[:, 3:] = False
    other = tokens.clone()
    other[:, 3:] += 10
    for a, b in zip(critic(features, tokens, mask, vector), critic(features, other, mask, vector), strict=True):
        assert torch.equal(a, b)


def test_each_side_learns_from_its_own_loss_only(critic):
    x = pictures().requires_grad_()
    features = critic.features(x)
    scores = critic.held(features, *asked())
    for one, other in zip(scores, critic(features, *asked()), strict=True):
        assert torch.equal(one, other)
    convincing(scores).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())
    x.grad = None
    made = [f.detach() for f in features]
    told_apart(critic(critic.features(pictures(seed=1)), *asked()), critic(made, *asked())).backward()
    assert x.grad is None and all(p.grad is not None for p in critic.parameters())


def test_losses_by_hand():
    real, made = (
        [torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0]])],
        [torch.tensor([[-2.0, 0.0]]), torch.tensor([[1.0]])],
    )
    # level one: (0 + 0.5) / 2 and (0 + 1) / 2; level two: 2 and 2
    assert told_apart(real, made).item() == pytest.approx(0.5 * ((0.25 + 0.5) + (2 + 2)) / 2)
    assert convincing(made).item() == pytest.approx(-(-1.0 + 1.0) / 2)


def test_steepness_of_a_linear_score_is_its_squared_slope():
    features = [torch.randn(3, 2, 4, 4).requires_grad_()]
    slope = torch.tensor([3.0, -4.0])
    scores = [(features[0] * slope[:, None, None]).sum(1).flatten(1)]
    # the mean over 16 places has the slope / 16 in each of them
    assert steepness(scores, features).item() == pytest.approx(25 / 16, rel=1e-5)


def test_it_learns_what_fits_what_was_asked(critic):
    """Red and blue pictures are both real; only which of the two was asked for tells them apart."""
    red, blue = torch.zeros(2, 4, 3, 64, 64).unbind(0)
    red[:, 0], blue[:, 2] = 0.8, 0.8
    noise = 0.1 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = {name: critic.features(x + noise) for name, x in (("red", red), ("blue", blue))}
    words = dict(zip(("red", "blue"), (asked(1, seed=s) for s in (1, 2)), strict=True))
    words = {name: tuple(a.expand(4, *a.shape[1:]) for a in about) for name, about in words.items()}
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3)
    for _ in range(40):
        losses = [
            told_apart(critic(features[name], *words[name]), critic(features[other], *words[name]))
            for name, other in (("red", "blue"), ("blue", "red"))
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    with torch.no_grad():
        fits = convincing(critic(features["red"], *words["red"])) + convincing(critic(features["blue"], *words["blue"]))
        not_ = convincing(critic(features["red"], *words["blue"])) + convincing(critic(features["blue"], *words["red"]))
    assert fits < not_ - 1
