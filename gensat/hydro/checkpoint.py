"""A run on disk: everything it needs to go on, and a mark of what run it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as encode
from torch import Tensor

from gensat.errors import InputError
from gensat.files import write_bytes

if TYPE_CHECKING:
    from gensat.hydro.forcing import Forcing
    from gensat.hydro.record import FlowRun
    from gensat.hydro.solver import Solver
    from gensat.hydro.state import State

_FORMAT = "1"


def fingerprint(
    solver: Solver,
    forcing: Forcing,
    state: State,
    every: float | int | None,
    peaks: bool,
    gauges: Mapping[str, tuple[int, int]] | Sequence[tuple[int, int]] | None,
) -> str:
    """Digest of everything that a run follows from, its end apart."""
    domain = solver.domain
    facts: dict[str, Any] = {
        "format": _FORMAT,
        "shape": domain.shape,
        "dx": float(domain.dx),
        "settings": solver.settings(),
        "boundaries": solver.boundaries.describe(),
        "forcing": forcing.describe(),
        "every": None if every is None else float(every),
        "peaks": peaks,
        "gauges": None if gauges is None else list(gauges.items()) if isinstance(gauges, Mapping) else list(gauges),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in (domain.bed, domain.exists, domain.manning, domain.walls):
        digest.update(b"" if array is None else array.tobytes())
    for tensor in (state.depth, state.x, state.y, state.time):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(path: str | os.PathLike[str], mark: str, flow: FlowRun) -> None:
    """Writes a run, beside and then renamed.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in flow.tensors().items()}
    names = json.dumps(flow.gauges.names if flow.gauges is not None else [])
    write_bytes(path, encode(tensors, {"mark": mark, "gauges": names}), overwrite=True)


def load(path: str | os.PathLike[str], mark: str, flow: FlowRun) -> bool:
    """Puts what a checkpoint holds into a run that has not begun; False if there is no such file.

    Raises:
        InputError: it is damaged, or of another run.
    """
    path = Path(path)
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("mark")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} cannot be read ({error}); remove it to begin again") from error
    if found != mark:
        raise InputError(
            f"checkpoint {path} is of a run with other settings or inputs; remove it to begin again, or give those"
        )
    if not torch.isfinite(tensors["state.depth"]).all():
        raise InputError(f"checkpoint {path} holds depths that are not finite; remove it to begin again")
    flow.take(tensors)
    return True
