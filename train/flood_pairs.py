"""Pairs of one place before and after a flood: brought onto each other, with a derived mask of the open water.

The images of a pair are up to 20 pixels apart, by an amount that changes slowly from place to place; it is found by phase correlation of
gradients, pooled over the neighbourhood, because one pair alone says too little. Shifts and masks are kept on disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from ..errors import InputError
from ..files import atomic_write
from ..types import Place
from .data import load_samples
from .logs import say
from .mosaics import mosaics
from .sources import Sample
from .splits import held_out
from .water_masks import WaterReader, cleaned, crossvalidate, fit_reader, judged, labelled_tiles, pair_features

FARTHEST = 30
"""Pixels by which a pair may be apart."""

_VERSION = "3"
_REACH, _WIDE, _NEAR = 900.0, 300.0, 30.0  # metres: the farthest neighbour, and how its weight falls at first and then
_AROUND = 10  # pixels around what the wide neighbourhood says


@dataclass(frozen=True, eq=False)
class FloodPair:
    """One place before and after.

    Args:
        key: of the data.
        before, after: the same pixels, row 0 north; ``after`` was shifted by whole pixels.
        valid: where ``after`` is known.
        water: open water after the flood, derived.
        place: of the centre.
    """

    key: str
    before: UInt8[np.ndarray, "h w 3"]
    after: UInt8[np.ndarray, "h w 3"]
    valid: Bool[np.ndarray, "h w"]
    water: Bool[np.ndarray, "h w"]
    place: Place

    def window(self) -> tuple[slice, slice]:
        """The rows and columns in which all of ``after`` is known."""
        rows, columns = (np.flatnonzero(self.valid.any(axis)) for axis in (1, 0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def correlation(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"], reach: int = FARTHEST
) -> Float[np.ndarray, "k k"]:
    """How well gradients agree when a point at p in ``before`` lies at p + (row, column) - reach in ``after``; mean 0, deviation 1."""
    a, b = (_edges(image) for image in (before, after))
    size = [2 * n for n in a.shape]
    fa, fb = (scipy.fft.rfft2(x, size) for x in (a, b))
    cross = np.conj(fa) * fb
    cross /= np.sqrt(np.abs(cross)) + 1e-6  # half-way to pure phase: edges are blurred after the storm
    whole = np.fft.fftshift(scipy.fft.irfft2(cross, size))
    row, column = (n // 2 for n in size)
    near = whole[row - reach : row + reach + 1, column - reach : column + reach + 1]
    return ((near - near.mean()) / (near.std() + 1e-9)).astype(np.float32)


def _edges(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32).mean(-1)
    strength = np.log1p(np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)))
    strength -= ndimage.uniform_filter(strength, 31)
    return strength * np.outer(*(np.hanning(n + 2)[1:-1] for n in grey.shape)).astype(np.float32)


def find_shifts(maps: Float[np.ndarray, "n k k"], metres: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "n 2"]:
    """(row, column) by which ``after`` is displaced, from each pair's correlation and those of its neighbours.

    Args:
        maps: of ``correlation``.
        metres: where the pairs lie, in any metric frame.
    """
    tree, reach = cKDTree(metres), maps.shape[-1] // 2
    found = np.zeros((len(maps), 2), int)
    for i, at in enumerate(metres):
        near = tree.query_ball_point(at, _REACH)
        squared = ((tree.data[near] - at) ** 2).sum(-1)
        # A heavy tail: the nearest decide where there are some, the far ones where there are none.
        wide, narrow = np.exp(-squared / _WIDE**2), (1 + squared / _NEAR**2) ** -1.5
        row, column = _peak(_pooled(maps[near], wide))
        top, left = max(row - _AROUND, 0), max(column - _AROUND, 0)
        part = _pooled(maps[near], narrow)[top : row + _AROUND + 1, left : column + _AROUND + 1]
        found[i] = np.add(_peak(part), (top - reach, left - reach))
    return found


def _pooled(maps: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(np.tensordot(weight, maps, 1), 0.8)


def _peak(pooled: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(pooled.argmax()), pooled.shape)
    return int(row), int(column)


def shifted(
    after: UInt8[np.ndarray, "h w 3"], shift: Sequence[int]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """``after`` on the pixels of ``before``, and where it is known; the nearest pixel stands where it is not."""
    rows, columns = (np.arange(n) + int(s) for n, s in zip(after.shape[:2], shift, strict=True))
    inside = [(v >= 0) & (v < n) for v, n in zip((rows, columns), after.shape[:2], strict=True)]
    rows, columns = (v.clip(0, n - 1) for v, n in zip((rows, columns), after.shape[:2], strict=True))
    return after[rows][:, columns], inside[0][:, None] & inside[1]


def flood_pairs(root: str | Path | None = None, *, split: str, cache: str | Path) -> list[FloodPair]:
    """All pairs of "train" or "heldout".

    Args:
        root: the data folder.
        split: whose pairs.
        cache: a folder in which shifts and masks of both are kept.

    Raises:
        InputError: another split, or no data.
    """
    if split not in ("train", "heldout"):
        raise InputError(f"there is no split {split!r}; give train or heldout")
    before, after, places, keys = _read(root)
    shifts, water = _derived(Path(cache), before, after, places, keys)
    wanted = [held_out("houston", lon=p.lon) == (split == "heldout") for p in places]
    return [
        FloodPair(keys[i], before[i], *shifted(after[i], shifts[i].tolist()), water=water[i], place=places[i])
        for i in np.flatnonzero(wanted)
    ]


def larger(pairs: Sequence[FloodPair], size: int = 256) -> list[FloodPair]:
    """Pairs of ``size`` square pixels from neighbours, where they cover as much (:func:`gensat.train.mosaics.mosaics`); by their keys, ``.mosaic``."""
    kept = list(pairs)
    before, after, valid, water = ([getattr(p, name) for p in kept] for name in ("before", "after", "valid", "water"))
    return [
        FloodPair(f"{kept[m.centre].key}.mosaic", m.take(before), m.take(after), m.take(valid), m.take(water), m.place)
        for m in mosaics([p.place for p in kept], before, size=size)
    ]


def _read(root: str | Path | None) -> tuple[list[np.ndarray], list[np.ndarray], list[Place], list[str]]:
    """Images before and after, places and keys of all pairs, in the order of their keys."""
    found: dict[str, dict[str, Sample]] = {}
    for split in ("train", "heldout"):
        for sample in load_samples(root, split, sources=["houston"], screened=False):
            key, _, when = sample.key.rpartition(".")
            found.setdefault(key, {})[when] = sample
    keys = sorted(key for key, both in found.items() if {"pre", "post"} <= both.keys() and both["pre"].place)
    if not keys:
        raise InputError("the data folder holds no pairs of before and after; restore houston/ in it")
    before, after = ([found[key][when].image for key in keys] for when in ("pre", "post"))
    return before, after, [p for key in keys if (p := found[key]["pre"].place)], keys


def _derived(
    cache: Path, before: Sequence[np.ndarray], after: Sequence[np.ndarray], places: Sequence[Place], keys: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and masks of all pairs, from the cache or made now."""
    path = cache / "flood-pairs.npz"
    if path.is_file():
        with np.load(path) as kept:
            if str(kept["version"]) == _VERSION and kept["keys"].tolist() == list(keys):
                return kept["shifts"], np.unpackbits(kept["water"], axis=-1).astype(bool)
    say(f"bringing {len(keys)} pairs onto each other")
    maps = np.stack([correlation(a, b) for a, b in zip(before, after, strict=True)])
    north = 110_900.0
    middle = np.cos(np.radians(np.mean([p.lat for p in places])))
    metres = np.array([[p.lon * north * middle, p.lat * north] for p in places])
    shifts = find_shifts(maps, metres)
    reader = fitted_reader(before, after, shifts, keys)
    say("reading where the water is")
    water = np.stack(
        [
            cleaned((reader(pair_features(a, b), b) > 0.5).numpy())
            for a, b in ((a, shifted(b, s)[0]) for a, b, s in zip(before, after, shifts.tolist(), strict=True))
        ]
    )
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, version=_VERSION, keys=keys, shifts=shifts, water=np.packbits(water, axis=-1))
    return shifts, water


def fitted_reader(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], shifts: np.ndarray, keys: Sequence[str]
) -> WaterReader:
    """The reader of water, from the labelled tiles outside the held-out place; says how good it is."""
    tiles = {key: (a, *shifted(b, s), s) for key, a, b, s in zip(keys, before, after, shifts.tolist(), strict=True)}
    known, unseen = (labelled_tiles(tiles, held_out=h) for h in (False, True))
    reader = fit_reader(known)
    report = {"tiles left out in turn": crossvalidate(known), "held-out place": judged(reader, unseen)}
    say(f"water read from points: {json.dumps(report)}")
    return reader
