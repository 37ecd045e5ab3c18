"""A short hash of a model's weights, for tags: two images with the same hash came from the same tensors."""

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import torch

_KNOWN: WeakKeyDictionary = WeakKeyDictionary()


def fingerprint(pipe: Any) -> str:
    """First 16 hex digits of SHA-256 over names, shapes and float32 bytes of the denoiser's and VAE's tensors (computed once per weights)."""
    parts = []
    for name in ("unet", "vae", "place_encoder", "acquisition_encoder", "controlnet"):
        module = getattr(pipe, name, None)
        if isinstance(module, torch.nn.Module):
            parts.append(f"{name}:{_module_hash(module)}")
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _module_hash(module: torch.nn.Module) -> str:
    tensors = module.state_dict()
    version = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors.values())
    cached = _KNOWN.get(module)
    if cached and cached[0] == version:
        return cached[1]
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    _KNOWN[module] = (version, digest.hexdigest())
    return _KNOWN[module][1]
