"""Where a recipe's training samples come from: shards of the user's own (``data.shards``), or the project's data folder."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from ..errors import InputError
from .data import data_root, read_samples
from .logs import say
from .sources import NON_COMMERCIAL, Sample


def shard_paths(data: DictConfig) -> list[Path]:
    """The shards that the recipe names as files, folders or patterns, each found; none where it names none.

    Raises InputError for a path that does not exist.
    """
    named = data.get("shards") or []
    found: list[Path] = []
    for name in [named] if isinstance(named, str) else list(named):
        path = Path(str(name))
        matches = [Path(p) for p in sorted(glob.glob(str(name)))] if not path.exists() else [path]
        if not matches:
            raise InputError(f"data.shards names {name}, which does not exist; give files, folders or patterns")
        found += matches
    return found


def check_data(data: DictConfig) -> None:
    """Raise InputError, before anything is loaded, where the data is not there."""
    if not shard_paths(data):
        data_root(data.root)


def samples(data: DictConfig, *, mosaics: bool = False) -> Iterator[Sample]:
    """The training samples of a recipe, one after the other in a fixed order; damaged ones in shards are left out and said.

    Raises InputError where there are none.
    """
    paths = shard_paths(data)
    if not paths:
        for sample in read_samples(data.root, "train", mosaics=mosaics):
            if not (data.get("public_domain") and sample.source in NON_COMMERCIAL):
                yield sample
        return
    from .shards import ShardReader

    reader = ShardReader([str(p) for p in paths], split=data.get("split") or "train")
    count = 0
    for count, sample in enumerate(reader.samples(), start=1):  # noqa: B007
        yield sample
    if reader.damaged:
        first, reason = next(iter(reader.damaged.items()))
        say(f"{len(reader.damaged)} damaged samples were left out, the first {first} ({reason})")
    if not count:
        raise InputError(
            f"the shards {', '.join(map(str, paths[:3]))} hold no samples of split {data.get('split') or 'train'!r}; "
            "see gensat data check"
        )


def identity(data: DictConfig) -> str:
    """What the samples are, for the key of a cache: the data folder, or every shard with its size and time."""
    paths = shard_paths(data)
    files = [f for p in paths for f in (sorted(p.rglob("*.tar")) if p.is_dir() else [p])]
    named = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return json.dumps({"shards": named, "split": data.get("split")} if paths else {"root": str(data.root)})
