"""Weights of others read as tensors and nothing else: safetensors, or torch files through torch's allow-listed unpickler.

A pickle can run any program when it is opened the ordinary way. Here only tensors, plain containers, numbers and texts are
made; a file that asks for anything else is refused by name.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gensat.errors import ModelError

PICKLES = (".pth", ".pt", ".ckpt", ".bin")
SUFFIXES = (*PICKLES, ".safetensors")


def weight_file(path: str | os.PathLike[str]) -> Path:
    """The one file of weights that ``path`` is or, as a folder, holds.

    Raises:
        ModelError: there is none, or more than one.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ModelError(f"{path} is no file of weights; give one that ends in {', '.join(SUFFIXES)}")
        return path
    if not path.is_dir():
        raise ModelError(f"{path} does not exist; give a file of weights or the folder that holds it")
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if len(found) != 1:
        names = ", ".join(str(file.relative_to(path)) for file in found[:4])
        raise ModelError(f"{path} holds {len(found)} files of weights ({names or 'none'}); give one of them")
    return found[0]


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of weights holds: tensors by name, and for torch files nested dictionaries as they were saved.

    Raises:
        ModelError: the file is damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals([]):
            read = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {wanted.group(1)}" if wanted else "is not made of tensors alone, or is damaged"
        raise ModelError(
            f"{path} {what}; only tensors and plain values are read, so ask its authors for safetensors or a plain state dict"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise ModelError(f"{path} cannot be read ({first}); download it again") from error
    if not isinstance(read, Mapping):
        raise ModelError(f"{path} holds a {type(read).__name__}, no state dict; give a checkpoint of a model")
    return dict(read)


def flattened(values: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name: those under ``key`` if it is there, without the ``module.`` of data-parallel training."""
    inner = values.get(key) if key else None
    chosen = inner if isinstance(inner, Mapping) else values
    tensors = {str(k): v for k, v in chosen.items() if isinstance(v, Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
