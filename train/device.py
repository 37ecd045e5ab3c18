"""Which device and number format a training has."""

import torch
from accelerate import Accelerator
from omegaconf import DictConfig

from ..errors import InputError


def make_accelerator(recipe: DictConfig) -> Accelerator:
    """accelerate's view of this process: device, number format, and which of several it is.

    ``precision: auto`` is bf16 where the machine computes in it, else fp16 on a GPU and float32 on a CPU (which only emulates bf16, at
    half the speed). Raises InputError for fp16 without a GPU.
    """
    precision = recipe.get("precision") or "no"  # YAML reads a bare no as False
    gpu = torch.cuda.is_available()
    if precision == "auto":
        able = torch.cuda.is_bf16_supported() if gpu else bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
        precision = "bf16" if able else "fp16" if gpu else "no"
    if precision == "fp16" and not gpu:
        raise InputError("fp16 training needs a GPU; use precision=bf16 or precision=no here")
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=not gpu)
