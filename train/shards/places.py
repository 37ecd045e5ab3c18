"""Which samples are held out, decided by place, and the check that no held-out footprint overlaps a training one."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shapely

from ...errors import InputError
from ...types import Place
from .record import METRES_PER_DEGREE, Record

_SHRINK = 1e-5  # of a footprint, so that tiles that only share an edge do not count as overlapping: 0.003 of 256 pixels


@dataclass(frozen=True)
class Holdout:
    """What is held out. A sample is when any of the rules says so.

    Args:
        boxes: (west, south, east, north) in degrees. A tile inside one is held out; one that reaches across its edge is left out, or
            with ``straddle="heldout"`` held out too.
        share: of the ground, 0 to 1, in square blocks. A block is held out by a hash of its row and column, so that more data never
            moves a sample. A tile belongs to the block of its centre; a sample without a place is drawn by its key.
        block_km: side of a block.
        numbers: (first, last) of the last number in a key.
        straddle: ``drop`` or ``heldout``.
        seed: of the blocks.

    Whatever the rule, a training sample whose footprint overlaps a held-out one is left out at the end.
    """

    boxes: tuple[tuple[float | int, float | int, float | int, float | int], ...] = ()
    share: float | int = 0.0
    block_km: float | int = 2.0
    numbers: tuple[int, int] | None = None
    straddle: str = "drop"
    seed: int = 0

    def __post_init__(self) -> None:
        for west, south, east, north in self.boxes:
            Place(west, south), Place(east, north)  # checks the ranges
            if west >= east or south >= north:
                raise InputError(
                    f"held-out box {west:g} {south:g} {east:g} {north:g} is empty; give west south east north"
                )
        if not 0 <= self.share < 1:
            raise InputError(f"held-out share {self.share:g} is no share; give 0 to below 1, such as 0.1")
        if not (math.isfinite(self.block_km) and 0.01 <= self.block_km <= 5000):
            raise InputError(f"blocks of {self.block_km:g} km make no split; give 0.01 to 5000")
        if self.straddle not in ("drop", "heldout"):
            raise InputError(f"straddle is {self.straddle!r}; give 'drop' or 'heldout'")

    def describe(self) -> dict[str, Any]:
        """For the record beside the shards."""
        return asdict(self)


@dataclass
class Division:
    """The split of a list of records.

    Args:
        splits: of each record ``train``, ``heldout``, or None when it is left out.
        dropped: reason to how many were left out.
        unplaced: records without footprint and place, which cannot be checked.
        points: records of which only a point is known.
        overlaps: pairs of a training and a held-out footprint that overlap in what is kept; 0.
    """

    splits: list[str | None]
    dropped: dict[str, int]
    unplaced: int
    points: int
    overlaps: int

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split."""
        return {split: self.splits.count(split) for split in ("train", "heldout")}


def divide(records: Sequence[Record], rule: Holdout) -> Division:
    """Splits records and leaves out training records that touch what is held out."""
    boxes = [shapely.box(*box) for box in rule.boxes]
    shapes = [record.footprint if record.footprint is not None else _point(record) for record in records]
    splits = [_side(record, shape, rule, boxes) for record, shape in zip(records, shapes, strict=True)]
    dropped: Counter[str] = Counter()
    dropped["across the edge of a held-out box"] = splits.count(None)
    train = [i for i, split in enumerate(splits) if split == "train" and shapes[i] is not None]
    held = [i for i, split in enumerate(splits) if split == "heldout" and shapes[i] is not None]
    for i in overlapping([shapes[i] for i in train], [shapes[i] for i in held])[0]:
        splits[train[i]] = None
        dropped["overlaps a held-out tile"] += 1
    left = [shapes[i] for i in train if splits[i] == "train"]
    return Division(
        splits,
        {reason: count for reason, count in dropped.items() if count},
        sum(shape is None for shape in shapes),
        sum(record.footprint is None and shape is not None for record, shape in zip(records, shapes, strict=True)),
        len(overlapping(left, [shapes[i] for i in held])[1]),
    )


def overlapping(train: Sequence[Any], held: Sequence[Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """Indices of the training footprints that share ground with a held-out one, and all such pairs; shared edges do not count."""
    if not len(train) or not len(held):
        return [], []
    tree = shapely.STRtree([_shrunk(shape) for shape in held])
    found = tree.query([_shrunk(shape) for shape in train], predicate="intersects")
    pairs = [(int(a), int(b)) for a, b in found.T]
    return sorted({a for a, _ in pairs}), pairs


def _side(record: Record, shape: Any, rule: Holdout, boxes: Sequence[Any]) -> str | None:
    if record.split == "heldout":
        return "heldout"
    if rule.numbers is not None:
        numbers = re.findall(r"\d+", record.key)
        if numbers and rule.numbers[0] <= int(numbers[-1]) <= rule.numbers[1]:
            return "heldout"
    if shape is not None:
        inner = _shrunk(shape)
        if any(shapely.covers(box, inner) for box in boxes):
            return "heldout"
        if any(shapely.intersects(box, inner) for box in boxes):
            return "heldout" if rule.straddle == "heldout" else None
    if rule.share and _drawn(record, rule) < rule.share:
        return "heldout"
    return "train"


def _drawn(record: Record, rule: Holdout) -> float:
    """0 to 1, the same for every sample of a block."""
    if record.place is None:
        name = record.key
    else:
        degrees = rule.block_km * 1000 / METRES_PER_DEGREE
        row = math.floor((record.place.lat + 90) / degrees)
        middle = min(max((row + 0.5) * degrees - 90, -90.0), 90.0)
        around = max(1, round(360 * math.cos(math.radians(middle)) / degrees))
        name = f"{row}:{math.floor((record.place.lon + 180) / 360 * around) % around}"
    digest = hashlib.sha256(f"{rule.seed}:{rule.block_km:g}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _point(record: Record) -> Any:
    return None if record.place is None else shapely.Point(record.place.lon, record.place.lat)


def _shrunk(shape: Any) -> Any:
    if shapely.get_dimensions(shape) < 2:
        return shape
    west, south, east, north = shapely.bounds(shape)
    centre = np.array([(west + east) / 2, (south + north) / 2])
    return shapely.transform(shape, lambda xy: centre + (xy - centre) * (1 - _SHRINK))
