"""Representation alignment: cells of the features are the denoiser's tokens, and what is learned is about the picture."""

import numpy as np
import pytest
import torch
from toys import toy_unet

from gensat.errors import InputError
from gensat.train.alignment import Alignment


def pictures(count=4, side=64):
    """Smooth colours with sharp things in them, each its own."""
    rng = np.random.default_rng(5)
    coarse = torch.from_numpy(rng.random((count, 3, side // 16, side // 16), dtype=np.float32))
    fine = torch.from_numpy(rng.random((count, 3, side, side), dtype=np.float32))
    return torch.nn.functional.interpolate(coarse, size=(side, side)) * 0.7 + 0.3 * fine


def heard(unet, x, time=200.0):
    return unet(x, torch.tensor(time), torch.zeros(len(x), 3, 16)).sample


def test_features_are_standardised_and_lie_on_the_tokens():
    unet = toy_unet()
    alignment = Alignment(unet, block=1)
    image = pictures()
    seen = alignment.targets(image)
    assert seen.shape == (4, 16, 112) and not seen.requires_grad
    torch.testing.assert_close(seen.mean(dim=(0, 1)), torch.zeros(112), atol=1e-4, rtol=0)
    other = image.clone()
    other[:, :, 48:, 48:] = 0.5  # the last cell, 15: what changes most is there
    moved = (alignment.targets(other) - seen).abs().mean(dim=(0, 2))
    assert moved.argmax() == 15
    heard(unet, torch.randn(4, 4, 8, 8))
    assert 0 < alignment(image).item() < 2


def test_a_denoiser_learns_what_is_in_each_cell():
    """Latents that hold the picture: after some steps the hidden state knows the features of its own cell better than of others."""
    torch.manual_seed(0)
    unet, image = toy_unet(), pictures()
    alignment = Alignment(unet, block=1)
    latents = torch.nn.functional.avg_pool2d(image, 8)[:, [0, 1, 2, 0]] * 2 - 1
    optimizer = torch.optim.AdamW([*unet.parameters(), *alignment.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        heard(unet, latents)
        value = alignment(image)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.6 < losses[0]
    heard(unet, latents)
    own = alignment(image).item()
    heard(unet, latents)
    assert alignment(image.roll(16, dims=-1)).item() > own + 0.2


def test_sampling_keeps_nothing_and_the_features_are_no_part_of_a_checkpoint():
    unet = toy_unet()
    alignment = Alignment(unet, block=1)
    with torch.no_grad():
        heard(unet, torch.randn(4, 4, 8, 8))
    assert not alignment._heard
    alignment.targets(pictures())
    assert {name.split(".")[0] for name in alignment.state_dict()} == {"head"}


def test_a_block_that_there_is_not_is_one_sentence():
    with pytest.raises(InputError, match=r"align\.block is 9; this denoiser has blocks 1 to"):
        Alignment(toy_unet(), block=9)
