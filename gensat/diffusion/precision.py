"""Where it runs and how: device, number format, attention kernel, memory layout and compilation, chosen in this one place."""

import contextlib
import io
import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gensat.errors import InputError

logger = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ATTENTION = ("auto", "torch", "xformers")
COMPILE = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_SMALL = 512 * 512
"""Queries times keys up to which all their products may lie in memory."""
_attention = "torch"


@dataclass(frozen=True)
class Precision:
    """The settings a pipeline runs with: ``device``, ``dtype`` of the denoiser, ``attention`` kernel, channels-last layout, mode of torch.compile."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    channels_last: bool = True
    compile: str | None = None

    def describe(self) -> str:
        """One line for logs and tags."""
        words = [str(self.device), str(self.dtype).removeprefix("torch."), f"{self.attention} attention"]
        return ", ".join(
            words + ["channels-last"] * self.channels_last + [f"compiled ({self.compile})"] * bool(self.compile)
        )


@cache
def why_no_xformers() -> str:
    """Why xformers' attention kernel cannot be used here; empty where it runs (tried once, quietly: an import alone proves nothing)."""
    if find_spec("xformers") is None:
        return "it is not installed"
    if not torch.cuda.is_available():
        return "there is no CUDA device here"
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            from xformers.ops import memory_efficient_attention

            q = torch.zeros(1, 8, 1, 64, device="cuda", dtype=torch.float16)
            memory_efficient_attention(q, q, q)
            return ""
        except Exception as error:  # any failure of a foreign kernel means: do not use it
            first = (str(error).strip().splitlines() or [""])[0][:120]
            return f"its kernels do not run here ({type(error).__name__}: {first})"


def devices() -> list[str]:
    """Names of the devices of this machine, the best first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    found += ["xpu"] * torch.xpu.is_available() + ["mps"] * torch.backends.mps.is_available()
    return [*found, "cpu"]


def choose(
    device: str = "auto", dtype: str = "auto", attention: str = "auto", *, compile: bool | str = False
) -> Precision:
    """Settings for this machine: its GPU in float16 where there is one, else the CPU in float32.

    Args:
        device: "auto", or one that is here, such as "cpu", "cuda", "cuda:1" or "mps". Of several GPUs "auto" is the one of this process where
            ``accelerate launch`` started it, else the first.
        dtype: "auto", "float32", "float16" or "bfloat16"; float16 on a CPU is refused (most of its kernels are missing or slow there).
        attention: "auto", "torch" or "xformers".
        compile: whether torch.compile makes the denoiser faster, after minutes at its first call for each size; or the mode to do it in.
            "max-autotune" and "reduce-overhead" replay CUDA graphs, which is what small batches on a fast GPU gain most from.
    """
    here = devices()
    gpus = [one for one in here if one.startswith("cuda")]
    own = gpus[int(os.environ.get("LOCAL_RANK", 0)) % len(gpus)] if gpus else here[0]
    name = own.removesuffix(":0") if device == "auto" else device
    if name not in here and f"{name}:0" not in here:
        raise InputError(f"There is no device {device!r} here; use --device auto or {' or '.join(reversed(here))}.")
    where = torch.device(name)
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"Unknown dtype {dtype!r}; use auto, {', '.join(DTYPES)}.")
    number = DTYPES[dtype] if dtype != "auto" else torch.float32 if where.type == "cpu" else torch.float16
    if where.type == "cpu" and number == torch.float16:
        raise InputError("float16 is not for CPUs; use --dtype float32, or bfloat16 on a CPU that has it.")
    if attention not in ATTENTION:
        raise InputError(f"Unknown attention {attention!r}; use one of {', '.join(ATTENTION)}.")
    if attention == "xformers" and (reason := why_no_xformers()):
        raise InputError(f"xformers' attention cannot be used: {reason}; use attention='torch'.")
    mode = ("default" if compile else None) if isinstance(compile, bool) else compile
    if mode not in (None, *COMPILE):
        raise InputError(f"Unknown mode of compilation {compile!r}; use one of {', '.join(COMPILE)}.")
    # torch's fused attention is as fast where both run, so xformers is used only when asked for
    return Precision(where, number, "torch" if attention == "auto" else attention, compile=mode)


def apply(pipe, precision: Precision):
    """Move a pipeline to ``precision``: networks in its dtype, the VAE in float32 where it says that half precision overflows."""
    global _attention
    _attention = precision.attention
    pipe.to(precision.device)
    networks: dict[str, Any] = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
    for name, module in networks.items():
        upcast = name == "vae" and precision.dtype == torch.float16 and getattr(module.config, "force_upcast", False)
        wanted = torch.float32 if upcast else precision.dtype
        if module.dtype != wanted:
            module.to(dtype=wanted)
        if precision.channels_last and name in ("unet", "vae", "controlnet"):
            module.to(memory_format=torch.channels_last)
        if hasattr(module, "set_attn_processor") and precision.attention == "xformers":
            module.enable_xformers_memory_efficient_attention()
    if precision.compile:
        pipe.unet.compile(mode=precision.compile)
    logger.info("running on %s", precision.describe())
    return pipe


def attention(
    q: Float[Tensor, "b n_heads q d"],
    k: Float[Tensor, "b n_heads k d"],
    v: Float[Tensor, "b n_heads k d"],
    mask: Bool[Tensor, "b k"] | None = None,
) -> Float[Tensor, "b n_heads q d"]:
    """Scaled dot-product attention of our own networks; ``mask`` is True where a key may be looked at."""
    if _attention == "xformers" and mask is None and q.is_cuda:
        from xformers.ops import memory_efficient_attention

        return memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    looked = None if mask is None else mask[:, None, None, :]
    if q.requires_grad and q.device.type == "cpu" and q.shape[2] * k.shape[2] <= _SMALL:
        with sdpa_kernel(
            SDPBackend.MATH
        ):  # of few tokens the fused kernel's backward takes most of a CPU's training step
            return F.scaled_dot_product_attention(q, k, v, attn_mask=looked)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=looked)
