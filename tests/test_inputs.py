"""Every route from DenoiserInputs into networks: our denoiser, diffusers' UNet with its ControlNet, DiT and PixArt."""

from dataclasses import replace

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DiTTransformer2DModel,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from toys import toy_controlnet, toy_unet, wake

from gensat.diffusion.adapters import TransformerAdapter, UNetAdapter, adapt, residuals
from gensat.diffusion.inputs import Control, DenoiserInputs, Residuals, concatenate
from gensat.errors import ModelError

T = torch.tensor(400.0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def diffusers_unet(**changes):
    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**settings, **changes}).eval()


def diffusers_controlnet(unet):
    torch.manual_seed(1)
    return wake(ControlNetModel.from_unet(unet, conditioning_channels=3)).eval()


def dit(**changes):
    torch.manual_seed(2)
    settings = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 1}
    net = DiTTransformer2DModel(**{**settings, "sample_size": 8, "num_embeds_ada_norm": 10, **changes})
    return wake(net).eval()


def pixart(**changes):
    torch.manual_seed(3)
    settings = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 1}
    more = {"sample_size": 8, "cross_attention_dim": 16, "caption_channels": 12, "use_additional_conditions": False}
    return wake(PixArtTransformer2DModel(**{**settings, **more, **changes})).eval()


def text(dim, batch=2, seed=0):
    mask = torch.arange(5) < torch.tensor([[5], [3]])[:batch]
    return {"tokens": random(batch, 5, dim, seed=seed), "token_mask": mask}


def ours():
    """Our denoiser with every route it has, and inputs for two samples."""
    inputs = DenoiserInputs(
        **text(16),
        time_vector=random(2, 32, seed=1),
        class_label=torch.tensor([1, 2]),
        channels=random(2, 2, 8, 8, seed=2),
        controls=(Control(toy_controlnet(), random(2, 1, 13, 64, 64, seed=3)),),
        broadcast=Residuals((random(2, 16, 1, 1, seed=4), random(2, 32, 1, 1, seed=5), random(2, 32, 1, 1, seed=6))),
    )
    return toy_unet(extra_channels=2, num_classes=3), inputs


def foreign():
    """A UNet of diffusers with every route it has, and inputs for two samples."""
    unet = diffusers_unet(in_channels=6, num_class_embeds=3)
    downs = (8, 8, 8, 16)
    inputs = DenoiserInputs(
        **text(16),
        time_vector=random(2, 32, seed=1),
        class_label=torch.tensor([1, 2]),
        channels=random(2, 2, 8, 8, seed=2),
        controls=(Control(diffusers_controlnet(diffusers_unet()), random(2, 1, 3, 64, 64, seed=3)),),
        broadcast=Residuals(tuple(random(2, c, 1, 1, seed=c + i) for i, c in enumerate(downs)), random(2, 16, 1, 1)),
    )
    return unet, inputs


@torch.no_grad()
def predict(net, inputs, x=None, t=T):
    x = random(2, 4, 8, 8, seed=9) if x is None else x
    return adapt(net)(x, t, inputs)


@pytest.mark.parametrize("make", [ours, foreign])
@pytest.mark.parametrize(
    "route", ["tokens", "token_mask", "time_vector", "class_label", "channels", "controls", "broadcast"]
)
def test_every_route_reaches_the_network(make, route):
    net, inputs = make()
    changed = {
        "tokens": inputs.tokens.flip(-1),
        "token_mask": ~inputs.token_mask | (torch.arange(5) < 1),
        "time_vector": -inputs.time_vector,
        "class_label": inputs.class_label - 1,
        "channels": -inputs.channels,
        "controls": tuple(replace(c, image=-c.image) for c in inputs.controls),
        "broadcast": Residuals(tuple(-v for v in inputs.broadcast.down), inputs.broadcast.mid),
    }[route]
    before, after = predict(net, inputs), predict(net, replace(inputs, **{route: changed}))
    assert (before - after).abs().amax(dim=(1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("make", [ours, foreign])
def test_concatenated_inputs_are_separate_calls(make):
    net, inputs = make()
    other = DenoiserInputs(
        tokens=inputs.tokens.flip(0),
        token_mask=inputs.token_mask.flip(0),
        time_vector=inputs.time_vector.flip(0),
        class_label=inputs.class_label.flip(0),
        channels=inputs.channels.flip(0),
        controls=tuple(replace(c, image=c.image.flip(0)) for c in inputs.controls),
        broadcast=Residuals(tuple(v.flip(0) for v in inputs.broadcast.down), inputs.broadcast.mid),
    )
    x = random(4, 4, 8, 8, seed=7)
    together = predict(net, concatenate([inputs, other]), x)
    apart = torch.cat([predict(net, inputs, x[:2]), predict(net, other, x[2:])])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_only_masked_tokens_may_change_freely():
    for net, inputs in (ours(), foreign()):
        tokens = inputs.tokens.clone()
        tokens[1, 3:] = 100.0  # behind the mask of the second sample
        bare = replace(inputs, controls=())  # ControlNetModel takes no mask
        torch.testing.assert_close(predict(net, replace(bare, tokens=tokens)), predict(net, bare))


def test_time_vector_is_added_to_the_embedded_time():
    net, vector = diffusers_unet(), random(2, 32, seed=1)
    inputs = DenoiserInputs(**text(16), time_vector=vector)
    hooked = predict(net, inputs)
    inner = net.time_embedding
    net.time_embedding = type("Shifted", (torch.nn.Module,), {"forward": lambda self, *a: inner(*a) + vector})()
    assert torch.equal(hooked, predict(net, replace(inputs, time_vector=None)))
    assert not inner._forward_hooks, "the hook must be gone after the call"


def test_hook_is_gone_after_an_error():
    net = diffusers_unet()
    with pytest.raises(RuntimeError):
        predict(net, DenoiserInputs(tokens=random(2, 5, 99), time_vector=random(2, 32)))
    assert not net.time_embedding._forward_hooks


@pytest.mark.parametrize("make", [ours, foreign])
def test_control_of_scale_zero_changes_nothing_and_is_not_run(make):
    net, inputs = make()

    class Never(torch.nn.Module):
        def forward(self, *args, **kwargs):
            raise AssertionError("ran")

    off = replace(inputs, controls=(Control(Never(), inputs.controls[0].image, 0.0),))
    assert torch.equal(predict(net, off), predict(net, replace(inputs, controls=())))


@pytest.mark.parametrize("make", [ours, foreign])
def test_frames_and_controls_are_summed(make):
    _, inputs = make()
    control = inputs.controls[0]
    x = random(2, 4, 8, 8, seed=9)
    frames = torch.cat([control.image, -control.image, control.image * 0.5], dim=1)
    vectors = random(2, 3, 32, seed=4)
    with torch.no_grad():
        many = residuals(replace(inputs, controls=(replace(control, image=frames, time_vector=vectors),)), x, T)
        each = [replace(control, image=frames[:, i : i + 1], time_vector=vectors[:, i : i + 1]) for i in range(3)]
        summed = residuals(replace(inputs, controls=tuple(each)), x, T)
        alone = [residuals(replace(inputs, controls=(c,), broadcast=None), x, T) for c in each]
    for i, (a, b) in enumerate(zip(many.down, summed.down, strict=True)):
        torch.testing.assert_close(a, b)
        expected = sum(r.down[i] for r in alone) + inputs.broadcast.down[i]
        torch.testing.assert_close(a, expected, atol=1e-5, rtol=1e-4)


def test_control_scale_is_linear_in_its_residuals():
    for make in (ours, foreign):
        _, inputs = make()
        control, x = inputs.controls[0], random(2, 4, 8, 8, seed=9)
        with torch.no_grad():
            one, half = (
                residuals(replace(inputs, controls=(replace(control, scale=s),), broadcast=None), x, T)
                for s in (1, 0.5)
            )
        torch.testing.assert_close(half.down[0], one.down[0] / 2)


def test_frame_without_its_own_vector_gets_that_of_the_request():
    _, inputs = ours()
    control, x = inputs.controls[0], random(2, 4, 8, 8, seed=9)
    same = replace(control, time_vector=inputs.time_vector[:, None])
    with torch.no_grad():
        a, b = (residuals(replace(inputs, controls=(c,)), x, T) for c in (control, same))
    assert torch.equal(a.down[1], b.down[1])


def test_broadcast_vectors_alone_are_maps_of_one_value():
    for make in (ours, foreign):
        net, inputs = make()
        inputs = replace(inputs, controls=())
        sizes = [(8, 8), (4, 4), (4, 4)] if make is ours else [(8, 8), (8, 8), (4, 4), (4, 4)]
        vectors = inputs.broadcast
        maps = Residuals(tuple(v.expand(-1, -1, *s) for v, s in zip(vectors.down, sizes, strict=True)), vectors.mid)
        torch.testing.assert_close(predict(net, replace(inputs, broadcast=maps)), predict(net, inputs))


def test_residuals_without_a_middle_are_no_t2i_adapter():
    net, inputs = foreign()
    down = inputs.broadcast.down
    inputs = replace(inputs, controls=(), broadcast=Residuals(down))
    zero = Residuals(down, torch.zeros(2, 16, 1, 1))
    torch.testing.assert_close(predict(net, inputs), predict(net, replace(inputs, broadcast=zero)))


def test_residuals_add_and_need_the_same_number():
    a, b = Residuals((torch.ones(1),), torch.ones(1)), Residuals((torch.ones(1) * 2,))
    assert (a + b).down[0] == 3 and (a + b).mid == 1 and (b + a).mid == 1 and (a + a).mid == 2
    with pytest.raises(ValueError, match="zip"):
        a + Residuals((torch.ones(1), torch.ones(1)))


def test_class_conditional_transformer_drops_its_variance():
    net = dit()
    inputs = DenoiserInputs(class_label=torch.tensor([1, 2]))
    out = predict(net, inputs)
    assert isinstance(adapt(net), TransformerAdapter) and out.shape == (2, 4, 8, 8)
    full = net(random(2, 4, 8, 8, seed=9), T.expand(2), inputs.class_label, return_dict=False)[0]
    assert full.shape[1] == 8 and torch.equal(out, full[:, :4])
    assert not torch.equal(out, predict(net, DenoiserInputs(class_label=torch.tensor([3, 4]))))


def test_text_transformer_takes_tokens_mask_and_time_vector():
    net, inputs = pixart(), DenoiserInputs(**text(12), time_vector=random(2, 16))
    out = predict(net, inputs)
    assert out.shape == (2, 4, 8, 8)
    tokens = inputs.tokens.clone()
    tokens[1, 3:] += 50
    torch.testing.assert_close(predict(net, replace(inputs, tokens=tokens)), out)
    for changes in ({"tokens": -inputs.tokens}, {"time_vector": None}):
        assert not torch.allclose(predict(net, replace(inputs, **changes)), out)


def test_transformer_takes_extra_channels():
    net = dit(in_channels=6, out_channels=12)
    inputs = DenoiserInputs(class_label=torch.tensor([1, 2]), channels=random(2, 2, 8, 8))
    out = predict(net, inputs)
    assert out.shape == (2, 4, 8, 8)
    assert not torch.equal(out, predict(net, replace(inputs, channels=-inputs.channels)))


def test_unconditional_unet_needs_nothing():
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()
    assert isinstance(adapt(net), UNetAdapter)
    assert torch.equal(predict(net, DenoiserInputs()), net(random(2, 4, 8, 8, seed=9), T).sample)
    with pytest.raises(ModelError, match="UNet2DModel cannot take tokens"):
        predict(net, DenoiserInputs(**text(16)))


@pytest.mark.parametrize(
    ("net", "inputs", "what"),
    [
        (toy_unet, DenoiserInputs(class_label=torch.tensor([1, 2])), "a class label"),
        (diffusers_unet, DenoiserInputs(**text(16), class_label=torch.tensor([1, 2])), "a class label"),
        (dit, DenoiserInputs(class_label=torch.tensor([1, 2]), time_vector=torch.zeros(2, 16)), "a time vector"),
        (dit, DenoiserInputs(**text(16)), "tokens"),
        (dit, DenoiserInputs(broadcast=Residuals((torch.zeros(2, 4, 1, 1),))), "residuals"),
        (pixart, DenoiserInputs(**text(12), class_label=torch.tensor([1, 2])), "a class label"),
    ],
)
def test_what_a_network_cannot_take_is_an_error(net, inputs, what):
    with pytest.raises(ModelError, match=f"cannot take {what}; leave the condition out"):
        predict(net(), inputs)


def test_controlnet_that_attends_to_text_needs_some():
    _, inputs = foreign()
    with pytest.raises(ModelError, match="no tokens were given"):
        residuals(replace(inputs, tokens=None), random(2, 4, 8, 8), T)


def test_a_batch_has_one_structure():
    a, b = DenoiserInputs(time_vector=torch.zeros(1, 3)), DenoiserInputs()
    with pytest.raises(ValueError, match="only some windows or branches of a batch have time_vector"):
        concatenate([a, b])
    net, image = torch.nn.Identity(), torch.zeros(1, 1, 3, 8, 8)
    controls = [DenoiserInputs(controls=(Control(net, image, scale),)) for scale in (0.5, 1.0)]
    with pytest.raises(ValueError, match="network or scale"):
        concatenate(controls)
    assert concatenate([a]) is a
