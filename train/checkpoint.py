"""Checkpoints that survive being killed at any moment: written beside, synced, renamed, and looked at before they are believed.

A checkpoint is a folder ``checkpoint-STEP`` with ``model.safetensors``, ``state.pt`` and ``files.json``, which is written last and
holds the SHA-256 of the others.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ModelError

MANIFEST = "files.json"
FRESH = ".fresh-"
KEPT = 2


def checkpoints(out: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    found = [p for p in out.glob("checkpoint-*") if p.name.split("-", 1)[1].isdigit()]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]))


def write(out: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write one checkpoint; it has its name only once all of it is on the disk. The last two are kept.

    Args:
        out: folder of the run.
        step: its name.
        tensors: of the model.
        state: anything else that torch.load reads with ``weights_only=True``.
    """
    final, fresh = out / f"checkpoint-{step}", out / f"{FRESH}{step}-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, fresh / "model.safetensors")
    torch.save(state, fresh / "state.pt")
    sums = {name: digest(fresh / name) for name in ("model.safetensors", "state.pt")}
    (fresh / MANIFEST).write_text(json.dumps(sums))
    for path in (*fresh.iterdir(), fresh):
        sync(path)
    if final.exists():  # of a run that was started again from an earlier one
        shutil.rmtree(final)
    fresh.rename(final)
    sync(out)
    for old in checkpoints(out)[:-KEPT]:
        shutil.rmtree(old)
    return final


def clean(out: Path) -> list[str]:
    """Remove what a killed write left behind; the names of it."""
    left = [p for p in out.glob(f"{FRESH}*") if p.is_dir()]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return [p.name for p in left]


def newest(out: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; damaged ones are said and removed. None where there is none at all.

    Raises:
        ModelError: all of them are damaged.
    """
    found = checkpoints(out)
    for k, path in enumerate(reversed(found)):
        reason = damage(path)
        if not reason:
            for bad in found[len(found) - k :]:
                shutil.rmtree(bad)
            return path
        say(f"{path.name} is damaged ({reason}): going back to the one before")
    if found:
        raise ModelError(f"no checkpoint in {out} is whole; restore one, or remove the folder to start again")
    return None


def damage(path: Path) -> str:
    """What is wrong with a checkpoint; empty for a whole one. Those of older releases have no sums and are only read."""
    try:
        if (path / MANIFEST).is_file():
            sums = json.loads((path / MANIFEST).read_text())
            wrong = [name for name, known in sums.items() if digest(path / name) != known]
            return f"{wrong[0]} has changed since it was written" if wrong else ""
        read(path)
        return ""
    except Exception as error:  # every format has its own
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def replace_folder(final: Path, save: Callable[[Path], None]) -> None:
    """Call ``save`` with a folder beside ``final``, then put it in its place: a reader never finds half of it."""
    fresh, old = (final.with_name(f"{prefix}{final.name}") for prefix in (FRESH, f"{FRESH}old-"))
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    fresh.mkdir(parents=True)
    save(fresh)
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of the model and the state, on the CPU."""
    return load_file(path / "model.safetensors"), torch.load(path / "state.pt", map_location="cpu", weights_only=True)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            total.update(part)
    return total.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
