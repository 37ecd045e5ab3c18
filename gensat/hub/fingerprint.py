"""A short hash of a model's weights, for tags: two images with the same hash came from the same tensors."""

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# The text encoder comes in float32 and may run in float16, the other parts are published in float16: so one model has one hash in both.
PARTS = {
    "text_encoder": torch.float16,
    "unet": torch.float32,
    "vae": torch.float32,
    "stem": torch.float32,
    "finisher": torch.float32,
    "place_encoder": torch.float32,
    "acquisition_encoder": torch.float32,
    "controlnet": torch.float32,
    "grain": torch.float32,
    "model": torch.float32,
}
_KNOWN: WeakKeyDictionary = WeakKeyDictionary()


def fingerprint(pipe: Any) -> str:
    """First 16 hex digits of SHA-256 over names, shapes and values of all networks of a pipeline (computed once per weights).

    The same for float32 and float16; bfloat16 rounds the weights and has a hash of its own.
    """
    parts = []
    for name, dtype in PARTS.items():
        module = getattr(pipe, name, None)
        if isinstance(module, nn.Module):
            parts.append(f"{name}:{_module_hash(module, dtype)}")
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _module_hash(module: nn.Module, dtype: torch.dtype) -> str:
    tensors = module.state_dict()
    version = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors.values() if not t.is_meta)
    cached = _KNOWN.get(module)
    if cached and cached[0] == version:
        return cached[1]
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _real(module, name, tensors[name]).detach().to("cpu", dtype).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    _KNOWN[module] = (version, digest.hexdigest())
    return _KNOWN[module][1]


def _real(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """The tensor itself where accelerate's sequential offload left a placeholder for it."""
    if not tensor.is_meta:
        return tensor
    path, _, leaf = name.rpartition(".")
    hook = getattr(module.get_submodule(path), "_hf_hook", None)
    maps = [getattr(h, "weights_map", None) for h in getattr(hook, "hooks", [hook])]
    return next(weights[leaf] for weights in maps if weights is not None)
