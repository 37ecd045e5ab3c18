"""What every export says of where it lies, and folders that are never half-written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gensat.errors import InputError
from gensat.files import not_written
from gensat.geo.crs import crs_text
from gensat.render.frame import SceneFrame


def place_of(frame: SceneFrame, axes: str = "x east, y north, z up") -> dict[str, Any]:
    """Where local coordinates lie: ``crs`` (None for no place), ``origin`` (x, y, z) in it, ``metre``, ``axes``, ``unit``.

    A local x is ``(crs x - origin x) * metre``, and likewise y; z is relative to the origin's z.
    """
    return {
        "crs": None if frame.crs is None else crs_text(frame.crs),
        "origin": list(frame.origin),
        "metre": frame.metre,
        "axes": axes,
        "unit": "metre",
    }


def frame_of(place: dict[str, Any]) -> SceneFrame:
    """Inverse of :func:`place_of`.

    Raises:
        InputError: what is there is no place.
    """
    from gensat.geo.crs import parse_crs

    try:
        x, y, z = (float(v) for v in place["origin"])
        return SceneFrame(parse_crs(place.get("crs")), (x, y, z), float(place.get("metre", 1.0)))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the file says no origin that can be read; give one written by gensat, or a frame of your own"
        ) from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside ``path`` and renames it to ``path`` when the block ends without an error.

    Only a folder that an export wrote (it holds ``gensat.json`` or ``transforms.json`` or ``cameras.txt``) is replaced.

    Raises:
        InputError: it exists and may not be replaced, or the folder above does not exist.
        OutputError: the operating system refused to write.
    """
    path = Path(path)
    _require_free(path, overwrite)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        fresh.mkdir()
        yield fresh
        _require_free(path, overwrite)
        if path.exists():
            old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
            path.rename(old)
            fresh.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _require_free(path: Path, overwrite: bool) -> None:
    ours = path.is_dir() and any((path / name).is_file() for name in ("gensat.json", "transforms.json", "cameras.txt"))
    if path.is_file() or (path.exists() and not ours and any(path.iterdir())):
        raise InputError(f"output {path} exists and is no earlier export; choose another name")
    if ours and not overwrite:
        raise InputError(f"output {path} exists; choose another name or overwrite it with --overwrite (overwrite=True)")
    if not path.parent.is_dir():
        raise InputError(f"folder {path.parent} of output {path.name} does not exist; create it first")
