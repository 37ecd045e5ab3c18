"""WebDataset tars: members grouped into samples, found by one scan of the headers or read from a pipe.

The members of one sample stand together and share a key: the member's name up to the first dot of its last part. What follows the dot is
the extension, ``pre.jpg`` for ``a/b.pre.jpg`` with the key ``a/b``.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from ..errors import InputError

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass
class Group:
    """Where the members of one sample lie: ``parts`` maps an extension to (offset, size) in bytes."""

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Contents:
    """What a scan found: whole samples in the order of the tar, samples that are cut off (key to reason), and what is wrong with the tar itself."""

    groups: list[Group]
    damaged: dict[str, str]
    problems: list[str]


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member's name."""
    head, slash, tail = name.removeprefix("./").rpartition("/")
    stem, _, extension = tail.partition(".")
    return head + slash + stem, extension


def scan(path: Path) -> Contents:
    """Finds every sample of a tar by reading its headers only.

    After a damaged header the scan goes on at the next good one, so that only the samples in between are lost.

    Raises:
        InputError: no such file, or a compressed one.
    """
    groups: list[Group] = []
    damaged: dict[str, str] = {}
    problems: list[str] = []
    require_plain(path)
    total, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:", ignore_zeros=True) as tar:
            while (item := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header in memory
                if item.offset > end:
                    problems.append(f"{item.offset - end} bytes at {end} are no tar header; samples there are lost")
                end = item.offset_data + -(-item.size // _BLOCK) * _BLOCK
                key, extension = split_name(item.name)
                if not item.isreg() or not extension or key.rpartition("/")[2] == "":
                    continue
                if not groups or groups[-1].key != key or extension in groups[-1].parts:
                    groups.append(Group(key))
                groups[-1].parts[extension] = (item.offset_data, item.size)
                if item.offset_data + item.size > total:
                    damaged[key] = f"member {extension} is cut off: the tar ends {end - total} bytes before it does"
    except tarfile.TarError as error:
        problems.append("the tar is cut off" if end > total else f"the tar cannot be read to its end ({error})")
    if not problems:
        problems += _after(path, end, total)
    return Contents([g for g in groups if g.key not in damaged], damaged, problems)


def tar_groups(source: Path | io.IOBase) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by extension) of each sample, in order.

    Args:
        source: a tar, or something that can only be read forward, such as a pipe or standard input (a compressed tar too).
    """
    key = ""
    members: dict[str, bytes] = {}
    with (
        tarfile.open(source)
        if isinstance(source, Path)
        else tarfile.open(fileobj=cast(IO[bytes], source), mode="r|*") as tar
    ):
        for item in tar:
            stem, extension = split_name(item.name)
            if not item.isreg() or not extension:
                continue
            if (stem != key or extension in members) and members:
                yield key, members
                members = {}
            key = stem
            members[extension] = cast(IO[bytes], tar.extractfile(item)).read()
    if members:
        yield key, members


def _after(path: Path, end: int, total: int) -> list[str]:
    """What is wrong behind the last member that was found: no end mark, or bytes that are no header."""
    if end + 2 * _BLOCK > total:
        return ["the tar is cut off: it has no end mark"]
    with path.open("rb") as file:
        file.seek(end)
        if any(file.read(2 * _BLOCK)):
            return [f"{total - end} bytes at {end} are no tar header; samples there are lost"]
    return []


def require_plain(path: Path) -> None:
    """Checks that a tar can be read by offset. Raises InputError: it is missing, not readable, or compressed."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; check its permissions")
    with path.open("rb") as file:
        kind = _COMPRESSED.get(file.read(2))
    if kind:
        raise InputError(f"{path.name} is compressed ({kind}); unpack it to a plain .tar, or stream it through a pipe")
