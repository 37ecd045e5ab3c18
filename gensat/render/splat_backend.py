"""Which rasteriser draws splats here: gsplat's CUDA kernels where they are, ours in plain torch everywhere else."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec

import torch

from gensat.errors import InputError

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "gsplat")


def choose_backend(backend: str, device: torch.device) -> str:
    """``torch`` or ``gsplat`` for splats on a device; ``auto`` is gsplat on CUDA wherever it can run.

    Raises:
        InputError: an unknown name, or gsplat where it cannot run.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}; use one of {', '.join(BACKENDS)}")
    if backend == "torch":
        return "torch"
    can = device.type == "cuda" and _gsplat_runs()
    if backend == "gsplat" and not can:
        raise InputError(
            "gsplat needs CUDA tensors, the package gsplat and, unless it came compiled, the CUDA toolkit; "
            "use backend='torch', which runs everywhere"
        )
    return "gsplat" if can else "torch"


@cache
def _gsplat_runs() -> bool:
    """Whether gsplat is installed and has its kernels: it compiles them at first use, which needs the CUDA toolkit."""
    if find_spec("gsplat") is None:
        return False
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # a compiler that fails raises whatever it likes
        logger.warning("gsplat cannot be used (%.120s); splats are drawn in plain torch", error)
        return False
    if _C is None:
        logger.warning("gsplat has no compiled kernels and there is no CUDA toolkit; splats are drawn in plain torch")
    return _C is not None
