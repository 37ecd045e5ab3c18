"""What shards hold, and everything that is wrong with them: each sample is decoded once, as training would."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from PIL import Image

from ...errors import InputError
from ...geo.classes import UNKNOWN, colourise
from ...geo.crs import parse_crs
from ..sources import Sample
from .decode import MostlyEmpty, decode, read_entry
from .index import Entry, find_shards, open_index, read_lines, read_parts
from .places import overlapping
from .record import box_around, on_globe, outline
from .views import description

SHEET = 48  # pictures on the contact sheet
_THUMB = 128  # pixels
_GSD_EDGES = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass
class Findings:
    """The report on some shards.

    Args:
        shards: file to samples that can be read.
        counts: samples by source, split, class, sensor, image size, gsd (in metres), year and 10-degree cell of the globe.
        broken: sample (``shard:key``) to reason, and shards that are wrong as a whole.
        left_out: sample to why readers leave it out although it is whole.
        duplicates: groups of samples with the same pixels.
        repeated_keys: keys that several samples of one shard have.
        overlaps: pairs of a training and a held-out sample that share ground, or pixels.
        uncheckable: samples of which no place or no extent is known, so that their overlap cannot be checked.
        places: (lon, lat, split) of every sample that has a place.
        thumbs: pictures for the contact sheet with their labels.
        maps: the same of those with a layout, its colours laid over the picture.
        layouts: pixels of each layout class.
    """

    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    broken: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    repeated_keys: list[str] = field(default_factory=list)
    overlaps: list[tuple[str, str]] = field(default_factory=list)
    uncheckable: int = 0
    places: list[tuple[float, float, str]] = field(default_factory=list)
    thumbs: list[tuple[str, np.ndarray]] = field(default_factory=list)
    maps: list[tuple[str, np.ndarray]] = field(default_factory=list)
    layouts: Counter[int] = field(default_factory=Counter)

    @property
    def samples(self) -> int:
        """Samples that can be read."""
        return sum(self.shards.values())

    @property
    def clean(self) -> bool:
        """Whether nothing is broken, no key repeats, and the splits share nothing. Duplicates within a split are only reported."""
        return not (self.broken or self.overlaps or self.repeated_keys)

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "clean": self.clean,
            "samples": self.samples,
            "shards": self.shards,
            "counts": {name: dict(sorted(count.items(), key=_natural)) for name, count in self.counts.items()},
            "layout_pixels": {str(code): n for code, n in sorted(self.layouts.items())},
            "broken": self.broken,
            "left_out": self.left_out,
            "repeated_keys": self.repeated_keys,
            "duplicates": self.duplicates,
            "overlaps": [list(pair) for pair in self.overlaps],
            "overlap_unknown": self.uncheckable,
        }


def check(paths: Iterable[str | Path], *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Reads every sample of shards.

    Args:
        paths: files, folders or patterns.
        tick: called after each sample.

    Raises:
        InputError: there are no shards.
    """
    found = Findings()
    pixels: dict[str, list[tuple[str, str]]] = defaultdict(list)
    ground: dict[str, list[tuple[str, Any]]] = {"train": [], "heldout": []}
    entries = list(_entries(find_shards(paths), found))
    shown = _shown(entries)
    for number, entry in enumerate(entries):
        try:
            sample, shape = read(entry)
        except (InputError, OSError) as error:
            (found.left_out if isinstance(error, MostlyEmpty) else found.broken)[entry.name] = str(error)
            tick()
            continue
        found.shards[entry.shard.name] = found.shards.get(entry.shard.name, 0) + 1
        _count(found, sample, entry.split)
        digest = hashlib.sha256(repr(sample.image.shape).encode() + sample.image.tobytes()).hexdigest()
        pixels[digest].append((entry.name, entry.split))
        if shape is None:
            found.uncheckable += 1
        else:
            ground[entry.split].append((entry.name, shape))
        if sample.place is not None:
            found.places.append((sample.place.lon, sample.place.lat, entry.split))
        if number in shown:
            found.thumbs.append((sample.key, _thumb(sample.image)))
            if sample.layout is not None:
                found.maps.append((sample.key, _thumb(_overlaid(sample.image, sample.layout))))
        tick()
    found.duplicates = [[name for name, _ in same] for same in pixels.values() if len(same) > 1]
    _, pairs = overlapping([shape for _, shape in ground["train"]], [shape for _, shape in ground["heldout"]])
    found.overlaps = [(ground["train"][a][0], ground["heldout"][b][0]) for a, b in pairs]
    known = set(found.overlaps)
    for same in pixels.values():
        train, held = ([name for name, split in same if split == side] for side in ("train", "heldout"))
        found.overlaps += [(a, b) for a in train for b in held if (a, b) not in known]
    return found


def count_samples(paths: Iterable[str | Path]) -> int:
    """Samples that a check will go through, for a progress bar."""
    return sum(len(open_index(shard).entries) for shard in find_shards(paths))


def read(entry: Entry) -> tuple[Sample, Any]:
    """A sample, and its outline on the ground in degrees as far as its json member or its place and gsd say; else None.

    Raises:
        InputError: the sample is damaged.
    """
    if "line" in entry.parts:
        sample, info = read_entry(entry), read_lines(entry.shard)[entry.parts["line"][0]]
    else:
        members = read_parts(entry)
        sample = decode(entry.key, entry.view, members, source=entry.source)
        about = description(members, entry.view)
        info = {} if about is None else json.loads(members[about])
    return sample, _ground(sample, info)


def _ground(sample: Sample, info: dict[str, Any]) -> Any:
    bounds, height, width = info.get("bounds"), *sample.image.shape[:2]
    if info.get("crs") is not None and info.get("transform") is not None:
        try:
            crs, transform = parse_crs(info["crs"]), Affine(*map(float, info["transform"]))
        except (TypeError, ValueError):
            raise InputError(f"transform is {info['transform']!r}, not the six numbers of an affine") from None
        assert crs is not None
        return outline(crs, transform, height, width)
    if bounds is not None:
        try:
            west, south, east, north = (float(v) for v in bounds)
        except (TypeError, ValueError):
            raise InputError(f"bounds is {bounds!r}, not west, south, east, north in degrees") from None
        across = east + 360 if west > east else east  # the antimeridian, as in GeoJSON
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90 and across - west < 350):
            raise InputError(f"bounds {west:g} {south:g} {east:g} {north:g} is no box in degrees")
        east = across
        if east - west < 180:
            return on_globe(np.array([west, east, east, west]), np.array([south, south, north, north]))
    if sample.place is not None and sample.acquisition.gsd is not None:
        return box_around(sample.place, sample.acquisition.gsd, height, width)
    return None


def _entries(shards: Iterable[Path], found: Findings) -> Iterator[Entry]:
    for shard in shards:
        try:
            index = open_index(shard)
        except InputError as error:
            found.broken[shard.name] = str(error)
            continue
        found.shards[shard.name] = 0
        found.broken |= {f"{shard.name}:{key}": reason for key, reason in index.damaged.items()}
        if index.problems:
            found.broken[shard.name] = "; ".join(index.problems)
        keys = Counter((entry.key, entry.view) for entry in index.entries)
        found.repeated_keys += [f"{shard.name}:{key}" for (key, _), count in keys.items() if count > 1]
        yield from index.entries


def _shown(entries: list[Entry]) -> set[int]:
    """Numbers of the entries for the contact sheet: as many of each source, evenly spread."""
    sources: dict[str, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        sources[entry.source].append(number)
    each = max(1, SHEET // max(len(sources), 1))
    return {own[i] for own in sources.values() for i in np.linspace(0, len(own) - 1, min(each, len(own))).astype(int)}


def _count(found: Findings, sample: Sample, split: str) -> None:
    known = sample.acquisition
    counts = found.counts
    counts["source"][sample.source] += 1
    counts["split"][split] += 1
    counts["size"][f"{sample.image.shape[1]} x {sample.image.shape[0]}"] += 1
    counts["class"][sample.klass or "(none)"] += 1
    counts["sensor"][known.sensor or "(unknown)"] += 1
    counts["gsd"]["(unknown)" if known.gsd is None else _bin(known.gsd)] += 1
    counts["year"]["(unknown)" if known.date.year is None else str(known.date.year)] += 1
    counts["cloud cover"][
        "(unknown)" if known.cloud_cover is None else f"{10 * min(int(known.cloud_cover * 10), 9)} % and more"
    ] += 1
    counts["caption"]["given" if sample.caption else "(none)"] += 1
    counts["layout"]["given" if sample.layout is not None else "(none)"] += 1
    place = sample.place
    counts["place"]["(unknown)" if place is None else _cell(place.lon, place.lat)] += 1
    if sample.layout is not None:
        codes, pixels = np.unique(sample.layout, return_counts=True)
        found.layouts.update({int(code): int(n) for code, n in zip(codes, pixels, strict=True)})


def _bin(gsd: float) -> str:
    """Between which of 0.1, 0.25, 0.5, 1, 2, 5, 10, ... metres; a value on an edge belongs to the bin above it."""
    place = int(np.searchsorted(_GSD_EDGES, gsd * (1 + 1e-6), side="right"))
    if place == 0:
        return f"below {_GSD_EDGES[0]:g} m"
    if place == len(_GSD_EDGES):
        return f"{_GSD_EDGES[-1]:g} m and more"
    return f"{_GSD_EDGES[place - 1]:g} to {_GSD_EDGES[place]:g} m"


def _cell(lon: float, lat: float) -> str:
    """The 10-degree cell of a place, by its south-west corner: ``40 N 100 W``."""
    south, west = int(np.floor(lat / 10) * 10), int(np.floor(lon / 10) * 10)
    return f"{abs(south)} {'N' if south >= 0 else 'S'} {abs(west)} {'E' if west >= 0 else 'W'}"


def _natural(item: tuple[str, int]) -> tuple[bool, list[tuple[int, float, str]]]:
    """Sorts by the numbers in a label; unknown ones last."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", item[0])
    order = [(0, float(p), "") if p[0].isdigit() else (1, 0.0, p) for p in parts]
    return item[0].startswith("("), ([(0, -1.0, "")] if item[0].startswith("below") else []) + order


def _overlaid(image: np.ndarray, layout: np.ndarray) -> np.ndarray:
    """Half the picture and half the colour of the class; the picture alone where the class is unknown."""
    mixed = (image.astype(np.uint16) + colourise(layout)) // 2
    return np.where((layout == UNKNOWN)[:, :, None], image, mixed).astype(np.uint8)


def _thumb(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    picture.thumbnail((_THUMB, _THUMB))
    return np.asarray(picture)
