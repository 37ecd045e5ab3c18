"""The default denoiser and its ControlNet: positions, sizes, residual routing, adapters, saving and precision."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig
from toys import toy_controlnet, toy_unet

from gensat.errors import InputError
from gensat.models.blocks import Attention, rotate
from gensat.models.controlnet import LayoutControlNet
from gensat.models.denoiser import LatentDenoiser
from gensat.train.methods import new_controlnet

T = torch.tensor(300.0)


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predict(net, x=None, t=T, **conditions):
    text = conditions.pop("text", sample(2, 5, 16, seed=1))
    return net(sample(2, 4, 8, 8, seed=2) if x is None else x, t, text, **conditions).sample


def test_rotary_scores_depend_on_the_offset_only():
    q, k = sample(1, 1, 1, 16), sample(1, 1, 1, 16, seed=1)
    height, width = 5, 7
    spread = [v.expand(1, 1, height * width, 16) for v in (q, k)]
    turned = [rotate(v, height, width)[0, 0] for v in spread]
    scores = (turned[0] @ turned[1].T).reshape(height, width, height, width)
    torch.testing.assert_close(scores[1:, 2:, 1:, 2:], scores[:-1, :-2, :-1, :-2], atol=1e-5, rtol=1e-5)
    assert (scores[0, 0] - scores[0, 0, 0, 0]).abs().flatten()[1:].min() > 1e-4
    torch.testing.assert_close(scores[2, 3, 2, 3], (q * k).sum())


def test_rotation_keeps_lengths_and_does_not_depend_on_the_size_of_the_grid():
    x = sample(2, 3, 20, 8)
    assert torch.allclose(rotate(x, 4, 5).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    wide = rotate(x.unflatten(2, (4, 5)).repeat(1, 1, 1, 2, 1).flatten(2, 3), 4, 10).unflatten(2, (4, 10))[:, :, :, :5]
    torch.testing.assert_close(wide.flatten(2, 3), rotate(x, 4, 5))


@torch.no_grad()
def test_cross_attention_starts_silent_and_sees_only_the_mask():
    torch.manual_seed(0)
    attention = Attention(16, 2, cross=True)
    x, context = sample(2, 6, 16), sample(2, 4, 16, seed=1)
    mask = torch.tensor([[True, True, False, False]]).expand(2, 4)
    assert not attention(x, context, mask).any()
    torch.nn.init.normal_(attention.to_out.weight)
    torch.testing.assert_close(attention(x, context, mask), attention(x, context[:, :2]))


@pytest.mark.parametrize("shape", [(8, 8), (6, 14), (16, 4)])
def test_any_even_grid_works(shape):
    assert predict(toy_unet(), sample(2, 4, *shape)).shape == (2, 4, *shape)


@pytest.mark.parametrize("shape", [(7, 8), (8, 9)])
def test_odd_grids_are_refused(shape):
    with pytest.raises(InputError, match=r"multiples of 2, not .*multiples of 16"):
        predict(toy_unet(), sample(2, 4, *shape))


def test_a_fresh_denoiser_predicts_zero_and_a_fresh_controlnet_changes_nothing():
    torch.manual_seed(0)
    fresh = LatentDenoiser(in_channels=4, out_channels=4, conv_width=8, width=16, depth=1, heads=2, text_dim=16)
    assert not predict(fresh).any()
    net = LayoutControlNet(in_channels=4, hint_channels=(4, 4, 4), conv_width=16, width=32, heads=2, vector_dim=32)
    with torch.no_grad():
        residuals = net(sample(2, 4, 8, 8), T, sample(2, 13, 64, 64))
    assert not any(r.any() for r in residuals)
    torch.testing.assert_close(predict(toy_unet(), down_block_additional_residuals=residuals), predict(toy_unet()))


def test_time_step_may_be_a_number_for_all_or_one_each():
    net = toy_unet()
    assert torch.equal(predict(net, t=torch.full((2,), 300.0)), predict(net))
    assert torch.equal(predict(net, t=torch.tensor(300)), predict(net))
    each = predict(net, t=torch.tensor([300.0, 700.0]))
    torch.testing.assert_close(each[:1], predict(net)[:1])
    assert not torch.allclose(each[1:], predict(net)[1:], atol=1e-3)


def test_samples_do_not_look_at_each_other():
    net, x, text = toy_unet(), sample(3, 4, 8, 8), sample(3, 5, 16, seed=1)
    together = predict(net, x, text=text)
    torch.testing.assert_close(predict(net, x[1:2], text=text[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_every_condition_changes_the_prediction():
    net = toy_unet(num_classes=3)
    base = {"time_vector": sample(2, 32), "class_labels": torch.tensor([0, 1])}
    before = predict(net, **base)
    for change in (
        {"time_vector": -base["time_vector"]},
        {"class_labels": base["class_labels"] + 1},
        {"text": sample(2, 5, 16, seed=8)},
        {"encoder_attention_mask": torch.tensor([[True] * 3 + [False] * 2] * 2)},
        {"t": torch.tensor(800.0)},
    ):
        assert (predict(net, **{**base, **change}) - before).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    assert torch.isfinite(predict(net, text=None)).all()


def test_residuals_go_to_the_skip_and_to_the_blocks():
    net, seen = toy_unet(), {}
    for name, module in {"0": net.blocks[0], "1": net.blocks[1], "merge": net.merge}.items():
        module.register_forward_hook(lambda m, args, out, name=name: seen.__setitem__(name, args[0]))
    residuals = [sample(2, 16, 8, 8), sample(2, 32, 4, 4, seed=1), sample(2, 32, 4, 4, seed=2)]

    def inputs_with(which):
        given = tuple(r if i == which else torch.zeros_like(r) for i, r in enumerate(residuals))
        predict(net, down_block_additional_residuals=given)
        return dict(seen)

    plain = inputs_with(None)
    skip, first, second = (inputs_with(i) for i in range(3))
    torch.testing.assert_close(skip["merge"][:, 16:], plain["merge"][:, 16:] + residuals[0])
    assert torch.equal(skip["0"], plain["0"]) and torch.equal(skip["1"], plain["1"])
    torch.testing.assert_close(first["0"], plain["0"] + residuals[1].flatten(2).mT)
    torch.testing.assert_close(second["1"], plain["1"] + residuals[2].flatten(2).mT)
    assert torch.equal(second["0"], plain["0"])
    assert torch.equal(first["merge"][:, 16:], plain["merge"][:, 16:])


def test_fewer_residuals_leave_later_blocks_alone():
    residuals = (sample(2, 16, 8, 8), sample(2, 32, 4, 4, seed=1))
    padded = (*residuals, torch.zeros(2, 32, 4, 4))
    a, b = (predict(toy_unet(), down_block_additional_residuals=r) for r in (residuals, padded))
    assert torch.equal(a, b)


@torch.no_grad()
def test_controlnet_looks_at_picture_latents_time_and_vector():
    net, x, picture = toy_controlnet(), sample(1, 4, 8, 8), sample(1, 13, 64, 64)
    before = net(x, T, picture, time_vector=torch.zeros(1, 32))
    assert [tuple(r.shape) for r in before] == [(1, 16, 8, 8), (1, 32, 4, 4), (1, 32, 4, 4)]
    for changed in (
        net(x, T, -picture, time_vector=torch.zeros(1, 32)),
        net(-x, T, picture, time_vector=torch.zeros(1, 32)),
        net(x, T + 300, picture, time_vector=torch.zeros(1, 32)),
        net(x, T, picture, time_vector=torch.ones(1, 32)),
    ):
        assert all((a - b).abs().max() > 1e-5 for a, b in zip(before, changed, strict=True))
    doubled = net(x, T, picture, time_vector=torch.zeros(1, 32), conditioning_scale=2.0)
    assert all(torch.equal(a * 2, b) for a, b in zip(before, doubled, strict=True))


def test_a_controlnet_from_a_denoiser_has_its_sizes_and_its_layers_and_changes_nothing():
    unet = toy_unet(heads=4, conv_width=8)
    net = LayoutControlNet.from_denoiser(unet, control_channels=5, hint_channels=(4, 4, 4), depth=2)
    net.check_fits(unet)
    for name, source in {
        "time.mlp.0.weight": "time.mlp.0.weight",
        "conv_in.weight": "conv_in.weight",
        "down.conv1.weight": "down.0.conv1.weight",
        "blocks.1.attn1.to_q.weight": "blocks.1.attn1.to_q.weight",
        "modulation.bias": "modulation.bias",
    }.items():
        assert torch.equal(net.state_dict()[name], unet.state_dict()[source]), name
    x = sample(2, 4, 8, 8)
    residuals = net(x, T, sample(2, 5, 64, 64))
    assert len(residuals) == 4 and not any(r.any() for r in residuals)
    assert torch.equal(predict(unet, x=x), predict(unet, x=x, down_block_additional_residuals=residuals))
    thin = LayoutControlNet.from_denoiser(unet, mlp_ratio=1.0)
    assert thin.blocks[0].mlp[0].weight.shape[0] < net.blocks[0].mlp[0].weight.shape[0]
    assert torch.equal(thin.conv_in.weight, net.conv_in.weight)


def test_a_controlnet_of_another_denoiser_is_refused():
    with pytest.raises(InputError, match=r"belongs to another denoiser.*width 32 instead of 64"):
        toy_controlnet().check_fits(toy_unet(width=64))
    for depth in (0, 3):
        with pytest.raises(InputError, match=f"depth is {depth}; this denoiser has 2 blocks"):
            LayoutControlNet.from_denoiser(toy_unet(), depth=depth)


def test_saving_and_loading_is_bit_identical(tmp_path):
    for net, call in ((toy_unet(num_classes=2), predict), (toy_controlnet(), None)):
        net.save_pretrained(tmp_path / type(net).__name__)
        again = type(net).from_pretrained(tmp_path / type(net).__name__)
        assert {k: v.tolist() for k, v in net.state_dict().items()} == {
            k: v.tolist() for k, v in again.state_dict().items()
        }
        if call:
            assert torch.equal(call(again.eval()), call(net))


def test_lora_of_peft_goes_on_and_comes_off():
    net = toy_unet()
    before = predict(net)
    net.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), adapter_name="style")
    with_lora = predict(net)
    assert (with_lora - before).abs().max() > 1e-3
    net.disable_adapters()
    assert torch.equal(predict(net), before)
    net.enable_adapters()
    assert torch.equal(predict(net), with_lora)
    net.delete_adapters("style")
    assert torch.equal(predict(net), before)


def test_bfloat16_is_close_to_float32():
    exact = predict(toy_unet())
    half = toy_unet().to(torch.bfloat16)
    with torch.no_grad():
        out = half(sample(2, 4, 8, 8, seed=2).bfloat16(), T, sample(2, 5, 16, seed=1).bfloat16()).sample
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).square().mean().sqrt() < 0.03 * exact.std()


def test_time_step_keeps_its_digits_in_half_precision():
    half = toy_unet().to(torch.bfloat16)  # bfloat16 knows no number between 998 and 1000
    with torch.no_grad():
        near, far = (half.time(torch.tensor([t])) for t in (999.0, 998.0))
    assert not torch.equal(near, far)


def test_patches_are_the_same_network_on_folded_latents():
    folded, plain = toy_unet(patch=2), toy_unet(in_channels=16, out_channels=16)
    plain.load_state_dict(folded.state_dict())
    x, words, t = torch.randn(2, 4, 8, 12), torch.randn(2, 3, 16), torch.tensor(300.0)
    with torch.no_grad():
        whole = folded(x, t, words).sample
        cells = plain(F.pixel_unshuffle(x, 2), t, words).sample
    torch.testing.assert_close(whole, F.pixel_shuffle(cells, 2))
    with pytest.raises(InputError, match="multiples of 4, not"):
        folded(torch.randn(2, 4, 6, 8), t, words)


def test_a_controlnet_in_patches_speaks_to_a_denoiser_in_patches():
    unet, net = toy_unet(patch=2), toy_controlnet(patch=2)
    x, t, control = torch.randn(1, 4, 16, 16), torch.tensor(300.0), torch.rand(1, 13, 64, 64)
    with torch.no_grad():
        residuals = net(x, t, control)
        assert residuals[0].shape == (1, 16, 8, 8)
        told, untold = (unet(x, t, down_block_additional_residuals=r).sample for r in (residuals, None))
    assert told.shape == x.shape and not torch.allclose(told, untold)
    assert new_controlnet(unet).conv_in.weight.shape == unet.conv_in.weight.shape
