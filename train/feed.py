"""Where a recipe's training samples come from: shards of the user's own (``data.shards``), or the project's data folder."""

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files as resources
from pathlib import Path

from omegaconf import DictConfig

from .data import data_root, read_samples
from .logs import say
from .readings import Readings
from .shards import ShardReader, find_shards
from .sources import NON_COMMERCIAL, Sample


def shard_paths(data: DictConfig) -> list[Path]:
    """The shard files that the recipe names as files, folders or patterns; none where it names none.

    Raises InputError for a path that does not exist or holds no shards.
    """
    named = data.get("shards") or []
    listed = [named] if isinstance(named, str) else [str(name) for name in named]
    return find_shards(listed) if listed else []


def check_data(data: DictConfig) -> None:
    """Raise InputError, before anything is loaded, where the data is not there."""
    if not shard_paths(data):
        data_root(data.root)
        if data.get("readings"):
            Readings(data.readings)


def samples(data: DictConfig, *, mosaics: bool = False) -> Iterator[Sample]:
    """The training samples of a recipe, one after the other in a fixed order; damaged ones in shards are left out and said.

    Raises InputError where there are none of the split.
    """
    paths = shard_paths(data)
    if not paths:
        readings = Readings(data.readings) if data.get("readings") else None
        for sample in read_samples(data.root, "train", mosaics=mosaics):
            if not (data.get("public_domain") and sample.source in NON_COMMERCIAL):
                yield readings.told(sample) if readings else sample
        return
    reader = ShardReader(paths, split=data.get("split"))
    yield from reader.samples()
    if reader.damaged:
        first, reason = next(iter(reader.damaged.items()))
        say(f"{len(reader.damaged)} damaged samples were left out, the first {first} ({reason})")


def identity(data: DictConfig) -> str:
    """What the samples are, for the key of a cache: the data folder and what is said, read and left out of it, or every shard with its size and time."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in shard_paths(data)]
    if files:
        return json.dumps({"shards": files, "split": data.get("split")})
    own = ("captions.py", "words.py", "towns.json", "left_out.json")
    told = hashlib.sha256(b"".join((resources(__package__) / name).read_bytes() for name in own)).hexdigest()
    read = Readings(data.readings).identity if data.get("readings") else None
    return json.dumps({"root": str(data.root), "told": told[:16], "readings": read})
