"""From published checkpoints to gensat's model folders: safetensors, configs, ``gensat.json`` and ``model_index.json``.

What a checkpoint is, is read off its tensors (:mod:`gensat.hub.readers`). Every tensor must find its place and every
place its tensor: what is missing, left over or of another shape is said and nothing is written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from torch import Tensor

from gensat.errors import InputError, ModelError
from gensat.files import not_written
from gensat.hub.spec import ModelSpec
from gensat.hub.tensors import flattened, read_tensors, weight_file


@dataclass(frozen=True)
class Converted:
    """A network that a checkpoint became.

    Args:
        model: in evaluation mode.
        spec: what goes to ``gensat.json``.
        left_out: names of tensors that are constants of the published program or belong to its training, by reason.
        notes: what was assumed.
    """

    model: ModelMixin
    spec: ModelSpec
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_model(source: str | os.PathLike[str], *, variant: str | None = None, licence: str | None = None) -> Converted:
    """Read a published checkpoint.

    Args:
        source: file, or folder with one file of weights (and its settings, if there are any).
        variant: the data set it was trained on, where the tensors do not tell: cvact, cvusa, vigor.
        licence: of these weights; by default what their authors say.

    Raises:
        ModelError: it is damaged, unknown, or does not fit the network that it looks like.
    """
    from gensat.hub.readers import READERS

    file = weight_file(source)
    values = read_tensors(file)
    for reader in READERS:
        tensors = flattened(values, reader.key)
        if reader.recognises(tensors):
            settings = _settings(file.parent / reader.settings)
            return reader.read(tensors, settings, variant or _named(file), licence or reader.licence)
    known = ", ".join(reader.name for reader in READERS)
    raise ModelError(f"{file} holds none of the models that can be converted ({known}); check the file")


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    variant: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Converted:
    """Read a published checkpoint and write a model folder that ``gensat.load`` takes; arguments as of :func:`read_model`.

    Raises:
        InputError: ``out`` exists and ``overwrite`` is false, or its parent folder does not.
        ModelError: as :func:`read_model`.
        OutputError: the disk is full or the folder not writable.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise InputError(
            f"output {out} exists; choose another folder or overwrite it with --overwrite (overwrite=True)"
        )
    if out.exists() and not (out / "model_index.json").is_file():
        raise InputError(f"output {out} is no model folder, so it is not overwritten; choose another")
    if not out.absolute().parent.is_dir():
        raise InputError(f"folder {out.absolute().parent} of output {out.name} does not exist; create it first")
    converted = read_model(source, variant=variant, licence=licence)
    part = out.absolute().with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        converted.model.save_pretrained(part / "model", safe_serialization=True)
        kind = type(converted.model)
        index = {
            "_class_name": converted.spec.pipeline,
            "_diffusers_version": diffusers.__version__,
            "model": [kind.__module__, kind.__name__],
        }
        (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        converted.spec.save(part)
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    except OSError as error:
        raise not_written(out, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return converted


def fitted(kind: type[ModelMixin], config: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str) -> ModelMixin:
    """A network of ``kind`` with these weights.

    Raises:
        ModelError: tensors are missing, left over, of another shape or not finite; the message counts and names them.
    """
    with init_empty_weights(include_buffers=False):  # what is no weight keeps its values
        model = kind(**config)
    tensors = dict(tensors)
    model._fix_state_dict_keys_on_load(tensors)  # names of other releases of libraries
    expected = model.state_dict()
    missing = sorted(set(expected) - set(tensors))
    left = sorted(set(tensors) - set(expected))
    if missing or left:
        lists = [f"{word} {', '.join(names[:3])}" for word, names in (("lacks", missing), ("also has", left)) if names]
        raise ModelError(
            f"the checkpoint is not {what} as it was published: {len(missing)} missing and {len(left)} unexpected tensors "
            f"(it {' and '.join(lists)}); give the published file"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"tensor {name} is {tuple(tensor.shape)}, {what} has {tuple(expected[name].shape)}; give the published file"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"tensor {name} holds NaN or infinity; download the file again")
    model.load_state_dict({name: t.float().contiguous() for name, t in tensors.items()}, assign=True)
    return model.requires_grad_(False).eval()


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); download it again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no settings; download it again")
    return values


def _named(file: Path) -> str | None:
    """The data set that the file's own path names."""
    names = ("cvact", "cvusa", "vigor")
    text = str(Path(*file.parts[-4:])).lower()
    # published runs of Sat2Density are named by an identifier
    text = text.replace("2u87bj8w", "cvact").replace("2cqv8uh4", "cvusa")
    found = [name for name in names if name in text]
    return found[0] if len(found) == 1 else None
