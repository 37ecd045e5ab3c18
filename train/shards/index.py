"""What a shard holds, found by one scan of its headers and kept beside it, so that any sample can be read by its offset."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from .. import tars
from ..sources import TARS, number_of
from ..splits import held_out
from .views import description, views

_VERSION = 1
_HELD_OUT = re.compile(r"(^|[-_])(heldout|held-out|val|valid|validation|test)([-_.]|$)")
_NUMBERED = re.compile(r"[-_]?(train|heldout|val|test)?[-_]?\d*$")
JSONL = (".jsonl", ".json")


@dataclass(frozen=True)
class Entry:
    """One image of one shard.

    Args:
        shard: file it is in.
        key: of the sample in its shard.
        view: which of the images of that key, such as ``pre``; empty for the only one.
        parts: extension to (offset, size) in bytes; of a GeoSynth list the line itself is the part.
        source: where it comes from, as the json member says, else from the shard's name.
        split: ``train`` or ``heldout``.
    """

    shard: Path
    key: str
    view: str
    parts: dict[str, tuple[int, int]]
    source: str
    split: str

    @property
    def name(self) -> str:
        """Unique name: shard, key and view."""
        return f"{self.shard.name}:{self.key}{'.' if self.view else ''}{self.view}"


@dataclass(frozen=True)
class Index:
    """Everything in one shard: its images, what cannot be read (key to reason), and what is wrong with the file."""

    shard: Path
    entries: list[Entry]
    damaged: dict[str, str]
    problems: list[str]


def find_shards(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files, folders (their ``.tar`` and ``.jsonl`` files) and patterns with ``*`` or ``{000..012}`` to a list of shards, without repeats.

    Raises:
        InputError: nothing is there.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else list(paths):
        text = os.fspath(path)
        here = Path(text)
        if here.is_dir():
            some = [p for p in sorted(here.rglob("*")) if is_shard(p)]
        elif here.exists():
            some = [here]
        else:
            some = sorted(p for pattern in _braces(text) for p in _glob(pattern))
        if not some:
            raise InputError(f"{text} holds no shard; give .tar or .jsonl files, a folder of them, or a pattern")
        found += some
    return list(dict.fromkeys(found))


def is_shard(path: Path) -> bool:
    """Whether a file is a tar, or a list as GeoSynth has it and not some other JSON lines; hidden ones are not."""
    if path.name.startswith(".") or not path.is_file():
        return False
    if path.suffix != ".jsonl":
        return path.suffix == ".tar"
    with path.open("rb") as file:
        return b'"target"' in file.readline(100_000)


def open_index(shard: Path) -> Index:
    """The index of a shard: the kept one while the file has the same size and time, else a new scan.

    It is kept as ``.NAME.index`` beside the shard, or where that may not be written under ``GENSAT_CACHE`` (default: the user's cache folder).

    Raises:
        InputError: the shard is missing, compressed, or no GeoSynth list.
    """
    if shard.suffix in JSONL:
        return _index_lines(shard)
    tars.require_plain(shard)
    about = shard.stat()
    stamp = [_VERSION, about.st_size, about.st_mtime_ns]
    places = (shard.with_name(f".{shard.name}.index"), _cache() / f"{_digest(shard)}.index")
    for place in places:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(place.read_text())
            if kept["stamp"] == stamp:
                return _unpack(shard, kept)
    contents = tars.scan(shard)
    kept = {"stamp": stamp, "groups": list(_rows(shard, contents)), "damaged": contents.damaged}
    kept["problems"] = contents.problems
    for place in places:
        if place.parent.exists() and not place.parent.stat().st_mode & 0o222:
            continue  # meant to stay as it is, even where the user is root and could write
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
            part.write_text(json.dumps(kept, separators=(",", ":")))
            part.replace(place)
            break
    return _unpack(shard, kept)


def read_parts(entry: Entry) -> dict[str, bytes]:
    """The members of an entry. The file is opened each time: safe in any thread and process."""
    with entry.shard.open("rb") as file:
        found = {}
        for extension, (offset, size) in entry.parts.items():
            file.seek(offset)
            found[extension] = file.read(size)
    return found


def split_of(source: str, key: str, info: dict[str, Any], shard_name: str = "") -> str:
    """``train`` or ``heldout``: what the json member says; the project's own rules for its data folder; else the shard's name."""
    if "split" in info:
        return "train" if info["split"] == "train" else "heldout"
    if source in TARS:
        ours = TARS[source][0]
        lon = info.get("lon")
        out = held_out(ours, lon=lon if isinstance(lon, (int, float)) else None, number=number_of(ours, key))
        return "heldout" if out else "train"
    return "heldout" if _HELD_OUT.search(shard_name) else "train"


def _rows(shard: Path, contents: tars.Contents) -> Iterator[list[Any]]:
    with shard.open("rb") as file:
        for group in contents.groups:
            info: dict[str, Any] = {}
            extension = description(group.parts)
            if extension is not None:
                offset, size = group.parts[extension]
                file.seek(offset)
                with suppress(ValueError):
                    read = json.loads(file.read(size))
                    info = read if isinstance(read, dict) else {}
            source = info.get("source") or _from_name(shard, group.key, extension)
            split = split_of(str(source), group.key, info, shard.name)
            if "split" not in info and source in TARS:
                source = TARS[source][0]
            yield [group.key, group.parts, str(source), split]


def _from_name(shard: Path, key: str, extension: str | None) -> str:
    if extension is not None and (
        "metadata" in extension or extension == "info.json"
    ):  # DiffusionSat tells its data sets apart by the key
        return key.partition("-")[0]
    return _NUMBERED.sub("", shard.stem) or shard.stem


def _unpack(shard: Path, kept: dict[str, Any]) -> Index:
    entries, damaged = [], dict(kept["damaged"])
    for key, parts, source, split in kept["groups"]:
        members = {extension: (int(offset), int(size)) for extension, (offset, size) in parts.items()}
        seen = views(members)
        if not seen:
            damaged[key] = f"no image among its members ({', '.join(sorted(members))})"
        entries += [Entry(shard, key, view, members, source, split) for view in seen]
    return Index(shard, entries, damaged, list(kept["problems"]))


def _index_lines(path: Path) -> Index:
    """GeoSynth's list: one JSON object a line, or one JSON list of them (then the part is its place in the list)."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    entries: list[Entry] = []
    damaged: dict[str, str] = {}
    for number, row in enumerate(read_lines(path)):
        key = f"line-{number + 1}"
        if not (isinstance(row, dict) and isinstance(row.get("target"), str)):
            damaged[key] = "no JSON object with a target"
            continue
        source = str(row.get("dataset") or path.parent.name or "geosynth")
        split = split_of("", key, row, path.name)
        entries.append(Entry(path, row["target"], "", {"line": (number, 0)}, source, split))
    return Index(path, entries, damaged, [])


def read_lines(path: Path) -> list[Any]:
    """Rows of a JSON-lines file or JSON list; None for a line that does not parse. Kept in memory while the file does not change."""
    about = path.stat()
    return _read_lines(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_lines(path: Path, size: int, time: int) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text; give a JSON-lines file as GeoSynth has it") from error
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError as error:
            raise InputError(f"{path} is no JSON list ({error}); check that the file is complete") from error
    rows: list[Any] = []
    for line in text.splitlines():
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                rows.append(None)
    return rows


def _braces(text: str) -> Sequence[str]:
    match = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if not match:
        return [text]
    width = len(match[1])
    numbers = range(int(match[1]), int(match[2]) + 1)
    return [one for n in numbers for one in _braces(f"{text[: match.start()]}{n:0{width}d}{text[match.end() :]}")]


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    return [
        p
        for p in Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        if p.is_file() and not p.name.startswith(".")
    ]


def _cache() -> Path:
    base = os.environ.get("GENSAT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gensat"
    return Path(base) / "shards"


def _digest(shard: Path) -> str:
    return hashlib.sha256(os.fspath(shard.resolve()).encode()).hexdigest()[:24]
