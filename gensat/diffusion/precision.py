"""Where it runs and how: device, number format, attention kernel, memory layout and compilation, chosen in this one place."""

import contextlib
import io
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError

logger = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ATTENTION = ("auto", "torch", "xformers")
_attention = "torch"


@dataclass(frozen=True)
class Precision:
    """The settings a pipeline runs with: ``device``, ``dtype`` of the denoiser, ``attention`` kernel, channels-last layout, compilation."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    channels_last: bool = True
    compile: bool = False

    def describe(self) -> str:
        """One line for logs and tags."""
        words = [str(self.device), str(self.dtype).removeprefix("torch."), f"{self.attention} attention"]
        return ", ".join(words + ["channels-last"] * self.channels_last + ["compiled"] * self.compile)


@cache
def xformers_works() -> bool:
    """Whether xformers' attention kernel loads and runs here (tried once, quietly: an import alone proves nothing)."""
    if not torch.cuda.is_available():
        return False
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            from xformers.ops import memory_efficient_attention

            q = torch.zeros(1, 8, 1, 64, device="cuda", dtype=torch.float16)
            memory_efficient_attention(q, q, q)
            return True
        except Exception:  # any failure of a foreign kernel means: do not use it
            return False


def choose(device: str = "auto", dtype: str = "auto", attention: str = "auto", *, compile: bool = False) -> Precision:
    """Settings for this machine: CUDA in float16 where there is a GPU, else the CPU in float32.

    ``dtype`` is "auto", "float32", "float16" or "bfloat16"; float16 on a CPU is refused (most of its kernels are missing or slow there).
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError:
        raise InputError(f"Unknown device {device!r}; use auto, cpu, cuda or cuda:N.") from None
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here; use --device cpu.")
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"Unknown dtype {dtype!r}; use auto, {', '.join(DTYPES)}.")
    number = DTYPES[dtype] if dtype != "auto" else torch.float32 if where.type == "cpu" else torch.float16
    if where.type == "cpu" and number == torch.float16:
        raise InputError("float16 is not for CPUs; use --dtype float32, or bfloat16 on a CPU that has it.")
    if attention not in ATTENTION:
        raise InputError(f"Unknown attention {attention!r}; use one of {', '.join(ATTENTION)}.")
    if attention == "xformers" and not xformers_works():
        raise InputError("xformers' kernels do not run here; use --attention torch.")
    # torch's fused attention is as fast where both run, so xformers is used only when asked for
    return Precision(where, number, "torch" if attention == "auto" else attention, compile=compile)


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
        pipe.unet.compile()
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
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])
