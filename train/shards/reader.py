"""Shards as training data: any sample by its place in an endless shuffled order that depends on the seed alone."""

import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..sources import Sample
from ..tars import tar_groups
from .decode import decode, read_entry
from .index import Entry, find_shards, open_index, split_of
from .views import description, views

ROUND = 1000
"""Positions after which every source has had exactly its share."""

_TRIES = 32
_log = logging.getLogger(__name__)


class ShardReader:
    """Samples of WebDataset shards (ours, the data folder's, DiffusionSat's) and GeoSynth lists, by random access.

    Which sample stands at a position depends on (seed, position) and on the shards alone: training resumes in the middle of an epoch
    by its step, and rank r of w reads positions r, r + w, r + 2 w, ... Readers pickle small and may be used by any thread or process.

    Args:
        paths: shard files, folders or patterns; one or several.
        split: ``train``, ``heldout`` or None for both.
        shares: relative weight of each source; sources that are not named are left out. None: all samples equally often.
        seed: of the order.
        epoch_shuffle: False reads in the order of the shards (sources still by their shares).

    Raises:
        InputError: no shards, no samples of the split, or a source in ``shares`` that is not there.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        split: str | None = "train",
        shares: Mapping[str, float | int] | None = None,
        seed: int = 0,
        epoch_shuffle: bool = True,
    ) -> None:
        if split not in ("train", "heldout", None):
            raise InputError(f"split is {split!r}; give 'train', 'heldout', or None for both")
        self.shards = [path.absolute() for path in find_shards(paths)]
        self.split, self.seed, self.epoch_shuffle = split, int(seed), epoch_shuffle
        self.shares = None if shares is None else dict(shares)
        self.damaged: dict[str, str] = {}
        self._load()

    def _load(self) -> None:
        self.entries: list[Entry] = []
        for shard in self.shards:
            index = open_index(shard)
            self.entries += [e for e in index.entries if self.split in (None, e.split)]
            self.damaged |= {f"{shard.name}:{key}": reason for key, reason in index.damaged.items()}
            for problem in index.problems:
                _log.warning("%s: %s", shard.name, problem)
        if not self.entries:
            raise InputError(
                f"{self.shards[0].name} and the other shards hold no samples of split {self.split!r}; give others"
            )
        self._by_source: dict[str, np.ndarray] = {}
        for source in sorted({e.source for e in self.entries}):
            self._by_source[source] = np.array([i for i, e in enumerate(self.entries) if e.source == source])
        self._quota = None if self.shares is None else _quota(self.shares, list(self._by_source))

    def __getstate__(self) -> dict[str, object]:
        """What is sent to another process: the shards and the settings; the index is read again from where it is kept."""
        kept = ("shards", "split", "seed", "epoch_shuffle", "shares", "damaged")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._load()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def sources(self) -> dict[str, int]:
        """How many samples each source has."""
        return {source: len(found) for source, found in self._by_source.items()}

    def samples(self) -> Iterator[Sample]:
        """Every sample once, in the order of the shards; damaged ones are left out and stand in ``damaged``."""
        for index in range(len(self)):
            sample = self._try(index)
            if sample is not None:
                yield sample

    def order(self, position: int) -> int:
        """Index of the sample at a position from 0 on, which may lie in any epoch.

        Without ``shares`` each ``len(self)`` positions are a permutation. With them each 1000 positions hold every source exactly by its
        share (rounded to a thousandth), in shuffled order, and each source goes through permutations of its own.
        """
        if position < 0:
            raise InputError(f"position {position} is negative; count from 0")
        if self._quota is None:
            epoch, place = divmod(position, len(self))
            return int(self._shuffled(len(self), epoch, 0)[place])
        number, place = divmod(position, ROUND)
        counts = tuple(self._quota.values())
        which, turn = _round(counts, self.seed if self.epoch_shuffle else None, number)
        source = list(self._quota)[which[place]]
        own = self._by_source[source]
        epoch, place = divmod(number * self._quota[source] + int(turn[place]), len(own))
        return int(own[self._shuffled(len(own), epoch, 2 + list(self._by_source).index(source))[place]])

    def at(self, position: int) -> Sample:
        """The sample at a position, decoded. A damaged one is replaced by another, always the same, of its source if one of it can be read, and counted.

        Raises:
            InputError: 64 draws in a row are damaged.
        """
        index = self.order(position)
        sample = self._try(index)
        if sample is not None:
            return sample
        draws = np.random.default_rng([abs(self.seed), position, 1])
        same = self._by_source[self.entries[index].source]
        others = same if self._quota else np.arange(len(self))  # where a whole source is damaged
        for number in range(2 * _TRIES):
            among = same if number < _TRIES else others
            sample = self._try(int(among[draws.integers(len(among))]))
            if sample is not None:
                return sample
        entry = self.entries[index]
        reason = self.damaged[entry.name]
        raise InputError(
            f"{2 * _TRIES} samples of {entry.shard.name} in a row are damaged ({reason}); run gensat data check on it"
        )

    def read(self, index: int) -> Sample:
        """The sample of an index. Raises InputError: it is damaged."""
        return read_entry(self.entries[index])

    def _try(self, index: int) -> Sample | None:
        entry = self.entries[index]
        try:
            return read_entry(entry)
        except (InputError, OSError) as error:
            if entry.name not in self.damaged:
                _log.info("%s is damaged: %s", entry.name, error)
            self.damaged[entry.name] = str(error)
            return None

    def _shuffled(self, count: int, number: int, stream: int) -> np.ndarray:
        return _permutation(count, self.seed, number, stream) if self.epoch_shuffle else np.arange(count)


def stream(
    source: Path | io.IOBase, split: str | None = "train", damaged: dict[str, str] | None = None
) -> Iterator[Sample]:
    """Samples of a tar that can only be read forward: a pipe, standard input, a compressed file. No shuffling, no index.

    Args:
        source: a file object opened for bytes, such as ``sys.stdin.buffer``, or a path.
        split: ``train``, ``heldout`` or None for both.
        damaged: gets the reason of each sample that was left out, by key.
    """
    for key, members in tar_groups(source):
        try:
            for view in views(members):
                sample = decode(key, view, members, source="stream")
                if split in (None, split_of(*_facts_of(key, members))):
                    yield sample
        except InputError as error:
            if damaged is not None:
                damaged[key] = str(error)


def _facts_of(key: str, members: dict[str, bytes]) -> tuple[str, str, dict]:
    name = description(members)
    info = {} if name is None else json.loads(members[name])
    return str(info.get("source", "")), key, info


@lru_cache(maxsize=32)
def _permutation(count: int, seed: int, number: int, stream: int) -> np.ndarray:
    found = np.random.default_rng([abs(seed), int(seed < 0), stream, number]).permutation(count).astype(np.int32)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=16)
def _round(counts: tuple[int, ...], seed: int | None, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source stands at each position of a round, and how many of it stand before there."""
    which = np.repeat(np.arange(len(counts)), counts)
    if seed is not None:
        which = which[_permutation(ROUND, seed, number, 1)]
    turn = np.empty(ROUND, dtype=np.int64)
    for source, count in enumerate(counts):
        turn[which == source] = np.arange(count)
    return which, turn


def _quota(shares: Mapping[str, float | int], sources: list[str]) -> dict[str, int]:
    """Positions of each source in a round: its share of ``ROUND`` by the largest remainder, at least one."""
    unknown = sorted(set(shares) - set(sources))
    if unknown:
        raise InputError(f"the shards hold no source {', '.join(unknown)}; they hold {', '.join(sources)}")
    wrong = [name for name, share in shares.items() if not 0 <= share < float("inf")]
    total = sum(shares.values())
    if wrong or not total > 0:
        raise InputError(f"shares {dict(shares)} are no weights; give numbers of 0 or more, not all 0")
    exact = {name: shares[name] / total * ROUND for name in sorted(shares) if shares[name] > 0}
    quota = {name: max(1, int(value)) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_rest[: max(0, ROUND - sum(quota.values()))]:
        quota[name] += 1
    while sum(quota.values()) > ROUND:  # many tiny shares were rounded up to one
        quota[max(quota, key=lambda name: (quota[name], name))] -= 1
    return quota
