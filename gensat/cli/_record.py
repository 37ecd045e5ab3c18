"""``run.json`` in the folder of a request: what was asked for, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensat import __version__
from gensat.files import write_bytes


def save_record(folder: Path, asked: Mapping[str, Any], came: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Writes it; what was asked for has files by name and content, and what came of it says under ``outputs`` which files were written."""
    facts = {
        "software": f"gensat {__version__}",
        "synthetic": True,
        "asked": {name: _named(value) for name, value in asked.items() if value is not None},
        "inputs": {name: _fingerprint(value) for name, value in asked.items() if _is_file(value)},
        **came,
        "outputs": [Path(file).relative_to(folder).as_posix() for file in came["outputs"]],
    }
    path = folder / "run.json"
    write_bytes(path, json.dumps(facts, indent=2).encode(), overwrite)
    return path


def _is_file(value: Any) -> bool:
    return isinstance(value, (str, Path)) and bool(str(value)) and Path(value).is_file()


def _named(value: Any) -> Any:
    """What a record says of an option: a path by its last name, as the tags of images do; folders of this machine are nobody's business."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not ("/" in value or "\\" in value):
        return value
    before, colon, after = value.partition(":")
    return before + colon + Path(after).name if colon and "/" not in before else Path(value).name


def _fingerprint(path: str | Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            size += len(block)
    return {"file": Path(path).name, "bytes": size, "sha256": digest.hexdigest()}
