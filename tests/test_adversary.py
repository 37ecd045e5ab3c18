"""The autoencoder's discriminator and its loss of frequencies: who learns from what, when it begins, and that a killed run goes on."""

import json

import numpy as np
import pytest
import torch
from shard_toys import shard
from toys import toy_vae

from gensat.errors import InputError
from gensat.models.autoencoder import ConvAutoencoder
from gensat.train import autoencoder
from gensat.train.adversary import PatchDiscriminator, Rivals, adaptive_weight, focal_frequency
from gensat.train.checkpoint import checkpoints, read
from gensat.train.recipe import load_recipe


def pair(seed=0):
    torch.manual_seed(seed)
    return Rivals(toy_vae(bands=3), PatchDiscriminator(3, width=8, layers=2))


def images(n=2, side=48, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_score_sees_one_patch_of_70_pixels_and_one_image():
    torch.manual_seed(0)
    judge = PatchDiscriminator(3, width=8)
    x = images(2, 144).requires_grad_()
    scores = judge(x)
    row, col = scores.shape[2] // 2, scores.shape[3] // 2
    # the norm is taken over the whole image, so the patch shows in the network without it
    for layer in judge.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda v: v
    (gradient,) = torch.autograd.grad(judge(x)[0, 0, row, col], x)
    rows, cols = gradient[0].abs().sum(0).nonzero().T
    assert int(rows.max() - rows.min()) + 1 == int(cols.max() - cols.min()) + 1 == 70
    assert not gradient[1].any()


def test_each_side_learns_from_its_own_loss_only():
    rivals = pair()
    x = images()
    y = rivals.autoencoder(x)
    rivals.believed(y).backward(retain_graph=True)
    assert rivals.autoencoder.encoder[1].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in rivals.discriminator.parameters())
    rivals.zero_grad(set_to_none=True)
    rivals.told_apart(x, y).backward()
    assert all(p.grad is None for p in rivals.autoencoder.parameters())
    assert all(p.grad is not None for p in rivals.discriminator.parameters())


def test_the_losses_are_the_hinge_and_the_mean_score():
    rivals = pair()
    x, y = images(seed=1), images(seed=2)
    real, made = rivals.discriminator(x), rivals.discriminator(y)
    hinge = (torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + made, min=0).mean()) / 2
    assert torch.allclose(rivals.told_apart(x, y), hinge)
    assert torch.allclose(rivals.believed(y), -made.mean())


def test_the_discriminator_learns_to_tell_blurred_images():
    torch.manual_seed(0)
    rivals = Rivals(torch.nn.Identity(), PatchDiscriminator(3, width=8, layers=1))
    optimizer = torch.optim.Adam(rivals.discriminator.parameters(), 2e-3)
    for step in range(60):
        x = images(4, 32, seed=step)
        loss = rivals.told_apart(x, torch.nn.functional.avg_pool2d(x, 3, 1, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = images(8, 32, seed=999)
    with torch.no_grad():
        real, blurred = rivals.discriminator(x), rivals.discriminator(torch.nn.functional.avg_pool2d(x, 3, 1, 1))
    assert float(real.mean()) > float(blurred.mean()) + 1


def test_the_adaptive_weight_makes_both_gradients_alike_at_the_last_layer():
    rivals = pair()
    x = images()
    y = rivals.autoencoder(x)
    last = rivals.autoencoder.decoder[-2].weight
    rebuilt, believed = (y - x).abs().mean(), rivals.believed(y)
    weight = adaptive_weight(rebuilt, believed, last)
    ours, theirs = (torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (rebuilt, believed))
    assert torch.allclose(weight, ours / (theirs + 1e-4))
    assert not weight.requires_grad
    assert adaptive_weight(rebuilt * 1e9, believed, last) == 1e4


def test_frequencies_weigh_alike_without_focus_and_by_their_error_with_it():
    x, y = images(seed=3), images(seed=4)
    assert torch.allclose(focal_frequency(y, x, alpha=0), (y - x).square().mean(), rtol=1e-5)
    # one wave of amplitude a at one frequency: two bins of the spectrum, both at full weight
    wave = 0.1 * torch.cos(2 * np.pi * 5 * torch.arange(48) / 48).expand(1, 3, 48, 48)
    assert torch.allclose(focal_frequency(x[:1] + wave, x[:1]), wave.square().mean(), rtol=1e-3)
    # of two errors the smaller one weighs by its share of the greater one
    small = 0.05 * torch.cos(2 * np.pi * 9 * torch.arange(48) / 48).expand(1, 3, 48, 48)
    expected = wave.square().mean() + small.square().mean() / 2
    assert torch.allclose(focal_frequency(x[:1] + wave + small, x[:1]), expected, rtol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_equal_images_have_no_error_and_no_gradient_that_is_not_a_number(alpha):
    x = images(1)
    y = x.clone().requires_grad_()
    value = focal_frequency(y, x, alpha=alpha)
    value.backward()
    assert value == 0 and torch.isfinite(y.grad).all()


def run(folder, out, steps, **changes):
    """A training of a tiny autoencoder on the shard in ``folder`` whose discriminator is heard from step 3 on."""
    values = {
        "data.shards": f"{folder}/toy-000.tar",
        "data.crop": 16,
        "out": f"{folder}/{out}",
        "model.block_channels": [8, 8],
        "model.encoder_channels": [8, 8],
        "model.decoder_blocks": [1, 1],
        "model.encoder_blocks": [1, 1],
        "model.latent_channels": 4,
        "discriminator.width": 8,
        "discriminator.layers": 1,
        "loss.perceptual": 0,
        "loss.frequency": 1.0,
        "loss.adversarial": 0.5,
        "loss.adversarial_from": 3,
        "loss.adversarial_warmup": 2,
        "steps": 6,
        "schedule": "constant",
        "batch": 2,
        "save_every": 2,
        "log_every": 1,
        "compile": False,
        "precision": "no",
        **changes,
    }
    recipe = load_recipe("autoencoder", [f"{k}={str(v).replace(' ', '')}" for k, v in values.items()])
    recipe.steps = steps
    autoencoder.train(recipe)
    return read(checkpoints(folder / out)[-1])[0], folder / out


def test_the_discriminator_is_heard_from_its_step_on_and_a_resumed_run_has_the_same_bits(tmp_path):
    shard(tmp_path / "toy-000.tar", 6)
    begun, _ = run(tmp_path, "parts", 2)
    whole, out = run(tmp_path, "whole", 6)
    parts, _ = run(tmp_path, "parts", 6)
    assert any(name.startswith("discriminator.") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    torch.manual_seed(0)
    fresh = Rivals(toy_vae(bands=3), PatchDiscriminator(3, width=8, layers=1)).state_dict()
    names = [name for name in whole if name.startswith("discriminator.")]
    assert {name for name in fresh if name.startswith("discriminator.")} == set(names)
    assert not all(torch.equal(whole[name], begun[name]) for name in names)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert ["told_apart" in line for line in lines] == [False] * 3 + [True] * 3
    saved = ConvAutoencoder.from_pretrained(out / "ema")
    assert saved.factor == 4 and not any("discriminator" in name for name in saved.state_dict())


def test_before_its_step_the_discriminator_is_as_it_was(tmp_path):
    shard(tmp_path / "toy-000.tar", 6)
    first, _ = run(tmp_path, "one", 1)
    third, _ = run(tmp_path, "one", 3)
    names = [name for name in first if name.startswith("discriminator.")]
    assert names and all(torch.equal(first[name], third[name]) for name in names)


def test_a_training_goes_on_from_a_finished_autoencoder(tmp_path):
    shard(tmp_path / "toy-000.tar", 6)
    run(tmp_path, "first", 3)
    finished = ConvAutoencoder.from_pretrained(tmp_path / "first" / "ema")
    begun, _ = run(tmp_path, "second", 1, init=tmp_path / "first" / "ema", lr=1e-12, weight_decay=0)
    for name, value in finished.named_parameters():
        assert torch.allclose(begun[f"autoencoder.{name}"], value, atol=1e-6), name


def test_a_decoder_goes_on_and_the_latents_stay(tmp_path):
    shard(tmp_path / "toy-000.tar", 6)
    run(tmp_path, "first", 3)
    before = ConvAutoencoder.from_pretrained(tmp_path / "first" / "ema")
    run(tmp_path, "second", 4, init=tmp_path / "first" / "ema", keep_encoder=True)
    after = ConvAutoencoder.from_pretrained(tmp_path / "second" / "ema")
    x = images(2, 16)
    assert torch.equal(before.encode(x).latent_dist.mode(), after.encode(x).latent_dist.mode())
    assert torch.equal(before.latent_std, after.latent_std) and torch.equal(before.latent_mean, after.latent_mean)
    assert not torch.equal(before(x), after(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_encoder": True}, "init=FOLDER"),
        ({"model.shortcuts": True, "model.encoder_channels": [8, 24]}, "must divide the other"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_said_before_its_data_is_read(tmp_path, changes, message):
    (tmp_path / "toy-000.tar").write_bytes(b"never opened")
    with pytest.raises(InputError, match=message):
        run(tmp_path, "third", 1, **changes)


def test_a_decoder_may_be_shown_latents_with_errors(tmp_path):
    shard(tmp_path / "toy-000.tar", 6)
    run(tmp_path, "first", 3)
    lines = []
    for disturb in (0.0, 0.0, 3.0):
        name = f"run{len(lines)}"
        run(tmp_path, name, 1, init=tmp_path / "first" / "ema", disturb=disturb, seed=4)
        lines.append(json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0]))
    assert lines[0]["l1"] == lines[1]["l1"] != lines[2]["l1"]
    assert lines[0]["kl"] == lines[2]["kl"]  # the encoder sees the same image


def test_averaged_latents_are_compared_with_the_image_seen_from_twice_as_high(tmp_path, monkeypatch):
    shard(tmp_path / "toy-000.tar", 6)
    run(tmp_path, "first", 3)
    crops, compared = [], []
    drawn, gradients = autoencoder.random_crops, autoencoder.gradients
    monkeypatch.setattr(autoencoder, "random_crops", lambda *a, **k: crops.append(drawn(*a, **k)) or crops[-1])
    monkeypatch.setattr(autoencoder, "gradients", lambda x: compared.append(x) or gradients(x))
    for halved in (0.0, 1.0):
        crops.clear()
        compared.clear()
        run(tmp_path, f"second-{halved}", 1, init=tmp_path / "first" / "ema", halved=halved, seed=4)
        made, wanted = compared
        assert made.shape == wanted.shape == (2, 3, 16, 16)  # what is decoded is as large as ever
        image = crops[0] if not halved else torch.nn.functional.avg_pool2d(crops[0], 2)
        assert any(torch.equal(autoencoder.turn(image, k), wanted) for k in range(8))
