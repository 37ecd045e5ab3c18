"""Where and how it runs: what is chosen, what is refused, and what is done to a pipeline."""

import numpy as np
import pytest
import torch
from toys import toy_pipeline

from gensat.diffusion import precision
from gensat.diffusion.precision import Precision, apply, attention, choose, why_no_xformers
from gensat.errors import InputError
from gensat.metrics.reconstruction import psnr_each

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def torch_attention():
    yield
    precision._attention = "torch"


def fake_gpu(monkeypatch, works):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(precision, "why_no_xformers", lambda: "" if works else "it is broken")


@no_gpu
def test_a_machine_without_a_gpu_runs_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "devices", lambda: ["cpu"])
    chosen = choose()
    assert (chosen.device.type, chosen.dtype, chosen.attention) == ("cpu", torch.float32, "torch")
    assert chosen.describe() == "cpu, float32, torch attention, channels-last"


def test_a_gpu_runs_in_half_precision(monkeypatch):
    fake_gpu(monkeypatch, False)
    chosen = choose(compile=True)
    assert (str(chosen.device), chosen.dtype, chosen.attention) == ("cuda", torch.float16, "torch")
    assert chosen.describe().endswith("compiled (default)")
    assert choose(compile="max-autotune").compile == "max-autotune"
    assert choose("cuda:1", "bfloat16").dtype == torch.bfloat16
    assert choose("cpu").dtype == torch.float32
    with pytest.raises(InputError, match=r"no device 'cuda:2' here; use --device auto or cpu or cuda:1 or cuda:0"):
        choose("cuda:2")


def test_processes_that_were_launched_together_take_a_gpu_each(monkeypatch):
    fake_gpu(monkeypatch, False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(choose().device) == "cuda:1" and str(choose("cuda:0").device) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "2")  # more processes than GPUs: they share
    assert str(choose().device) == "cuda"


@pytest.fixture
def probe():
    why_no_xformers.cache_clear()
    yield why_no_xformers
    why_no_xformers.cache_clear()


@no_gpu
@pytest.mark.parametrize(("installed", "reason"), [(False, "it is not installed"), (True, "there is no CUDA device")])
def test_xformers_does_not_run_on_a_cpu_and_says_why(probe, monkeypatch, installed, reason):
    monkeypatch.setattr(precision, "find_spec", lambda name: installed or None)
    assert probe().startswith(reason)
    with pytest.raises(InputError, match=f"{reason}.*; use attention='torch'"):
        choose(attention="xformers")


@no_gpu
def test_a_kernel_that_fails_is_not_used_and_the_reason_is_its_error(probe, monkeypatch):
    monkeypatch.setattr(precision, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # it then fails when tried, installed or not
    assert "its kernels do not run here (" in probe() and "Error: " in probe()


def test_xformers_is_used_only_when_asked_for(monkeypatch):
    fake_gpu(monkeypatch, True)
    assert choose().attention == "torch" and choose(attention="xformers").attention == "xformers"


@no_gpu
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({"device": name}, f"no device '{name}' here; use --device auto or cpu")
            for name in ("gpu", "cuda", "meta", "xpu:1", "cpu:1")
        ),
        ({"dtype": "int8"}, "Unknown dtype 'int8'; use auto"),
        ({"dtype": "float16"}, "float16 is not for CPUs; use --dtype float32"),
        ({"attention": "flash"}, "Unknown attention 'flash'; use one of auto"),
        ({"compile": "fast"}, "Unknown mode of compilation 'fast'; use one of default, reduce-overhead"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        choose(**settings)


def dtypes(pipe):
    return {name: m.dtype for name, m in pipe.components.items() if isinstance(m, torch.nn.Module)}


def test_applying_sets_type_and_layout():
    pipe = apply(toy_pipeline(), choose("cpu", "bfloat16"))
    assert set(dtypes(pipe).values()) == {torch.bfloat16}
    weight = pipe.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    back = apply(pipe, Precision(torch.device("cpu"), torch.float32, "torch", channels_last=False))
    assert set(dtypes(back).values()) == {torch.float32}


def test_a_vae_that_overflows_stays_in_float32():
    pipe = toy_pipeline()
    pipe.vae.register_to_config(force_upcast=True)
    apply(pipe, Precision(torch.device("cpu"), torch.float16, "torch"))
    assert pipe.vae.dtype == torch.float32 and pipe.unet.dtype == torch.float16


def test_compiling_keeps_the_names_of_the_weights():
    pipe = toy_pipeline()
    names = set(pipe.unet.state_dict())
    apply(pipe, choose("cpu", compile=True))
    assert pipe.unet._compiled_call_impl is not None and set(pipe.unet.state_dict()) == names


def test_attention_that_is_trained_on_a_cpu_gives_what_the_fused_kernel_gives_and_its_gradients():
    gen = torch.Generator().manual_seed(0)
    q, k, v, up = (torch.randn(2, 3, 9, 8, generator=gen) for _ in range(4))
    mask = torch.rand(2, 9, generator=gen) > 0.3
    found = []
    for small in (precision._SMALL, 0):  # 0: no attention is small, so the fused kernel is taken
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(precision, "_SMALL", small)
            out = attention(*leaves, mask)
        out.backward(up)
        found.append([out.detach(), *(x.grad for x in leaves)])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0][0], attention(q, k, v, mask), atol=1e-5, rtol=1e-5)


def test_attention_is_softmax_over_what_may_be_seen():
    q, k, v = (torch.randn(2, 3, n, 8) for n in (4, 5, 5))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    scores = (q @ k.mT / 8**0.5).masked_fill(~mask[:, None, None], -torch.inf)
    torch.testing.assert_close(attention(q, k, v, mask), scores.softmax(-1) @ v, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention(q, k, v), (q @ k.mT / 8**0.5).softmax(-1) @ v, atol=1e-5, rtol=1e-5)


def test_setting_xformers_falls_back_where_it_cannot_be_used():
    precision._attention = "xformers"
    q = torch.randn(1, 2, 4, 8)
    assert torch.isfinite(attention(q, q, q)).all()


REQUEST = {"prompt": "a harbor", "seed": 7, "width": 64, "height": 64, "layout": np.full((64, 64), 4, np.uint8)}


def pixels(pipe):
    return pipe(**REQUEST).scenes[0].array.astype(int)


def psnr(a, b):
    """In dB, of two pictures."""
    first, second = (torch.from_numpy(x)[None].permute(0, 3, 1, 2) / 255 for x in (a, b))
    return float(psnr_each(first, second))


def test_bfloat16_makes_nearly_the_picture_of_float32():
    assert psnr(pixels(apply(toy_pipeline(), choose("cpu", "bfloat16"))), pixels(toy_pipeline())) > 25


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "least"), [("float32", 50), ("float16", 35), ("bfloat16", 25)])
def test_a_gpu_makes_the_picture_of_the_cpu(dtype, least):
    assert psnr(pixels(apply(toy_pipeline(), choose("cuda", dtype))), pixels(toy_pipeline())) > least


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"attention": "xformers"}, {"compile": True}])
def test_other_kernels_make_the_picture_of_torch_attention(settings):
    if "attention" in settings and (reason := why_no_xformers()):
        pytest.skip(f"xformers: {reason}")
    assert (
        psnr(pixels(apply(toy_pipeline(), choose("cuda", **settings))), pixels(apply(toy_pipeline(), choose("cuda"))))
        > 35
    )


@pytest.mark.gpu
def test_offloading_gives_the_same_picture():
    plain, offloaded = apply(toy_pipeline(), choose("cuda")), apply(toy_pipeline(), choose("cpu"))
    offloaded.to(dtype=torch.float16)
    offloaded.enable_model_cpu_offload()
    assert np.abs(pixels(offloaded) - pixels(plain)).max() <= 2
    assert offloaded.vae.device.type == "cpu", "it went back"
