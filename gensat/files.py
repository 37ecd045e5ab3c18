"""Output files: never half-written, never overwritten unasked, one clear sentence when it fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gensat.errors import InputError, OutputError


def check_output(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Checks, before heavy work, that ``path`` may be written.

    Raises:
        InputError: it exists and ``overwrite`` is false, it is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give the name of a file in it")
    if path.exists() and not overwrite:
        raise InputError(f"output {path} exists; choose another name or overwrite it with --overwrite (overwrite=True)")
    if not path.parent.is_dir():
        raise InputError(f"folder {path.parent} of output {path.name} does not exist; create it first")
    return path


@contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` when the block ends without an error.

    The temporary name has the same extension and lies in the same folder, so that the rename is one step of the file
    system. On any error, an interrupt included, it is removed and ``path`` is what it was before.

    Raises:
        InputError: as :func:`check_output`.
        OutputError: the operating system refused to write, such as a full disk.
    """
    path = check_output(path, overwrite)
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # a full disk may show only now, and must show before the old file is replaced
        check_output(path, overwrite)
        os.replace(part, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> OutputError:
    """What to raise when the operating system refused to write."""
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(f"{path} could not be written ({reason}); free space or choose another folder")


def write_bytes(path: str | os.PathLike[str], data: bytes, overwrite: bool = False) -> None:
    """Writes a whole file through :func:`atomic_write`."""
    with atomic_write(path, overwrite) as part:
        part.write_bytes(data)
