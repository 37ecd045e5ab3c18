"""The folder of what networks read off training images, layouts and class words, as ``python -m gensat.train.read`` writes it.

It is used where a recipe names it (``data.readings``). A map or a class that is there is never replaced, and a layout that was read says so
(``Sample.layout_origin``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ..files import atomic_write
from .sources import Sample


class Readings:
    """A folder that ``python -m gensat.train.read`` has written.

    Raises InputError where it is none.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} holds no readings (about.json); make them: python -m gensat.train.read {folder}"
            ) from error

    @property
    def identity(self) -> str:
        """Changes with whatever could be read otherwise: networks, rules, and how many samples were read."""
        return f"{self.about['fingerprint']} {json.dumps(self.about['counts'], sort_keys=True)}"

    @cached_property
    def layouts(self) -> dict[tuple[str, str], UInt8[np.ndarray, "_ _"]]:
        """Maps by source and key."""
        found = {}
        for path in sorted(self.folder.glob("layouts-*.npz")):
            with np.load(path) as file:
                source = path.stem.split("-")[1]
                found.update({(source, str(k)): m for k, m in zip(file["keys"], file["maps"], strict=True)})
        return found

    @cached_property
    def words(self) -> dict[str, dict[str, str]]:
        """Classes by source and key."""
        return json.loads((self.folder / "words.json").read_text(encoding="utf-8"))

    def told(self, sample: Sample) -> Sample:
        """The sample with what was read off it, where it has no map or class of its own."""
        layout = self.layouts.get((sample.source, sample.key))
        if sample.layout is None and layout is not None and layout.shape == sample.image.shape[:2]:
            sample = replace(sample, layout=layout, layout_origin="read")
        seen = self.words.get(sample.source, {}).get(sample.key)
        return replace(sample, seen=seen) if seen and sample.klass is None else sample


def write_layouts(folder: Path, source: str, samples: Sequence[Sample], maps: Sequence[np.ndarray]) -> None:
    """One compressed file for each size of image."""
    pairs = sorted(zip(samples, maps, strict=True), key=lambda pair: pair[1].shape)
    for (side, *_), group in groupby(pairs, key=lambda pair: pair[1].shape):
        same = list(group)
        with atomic_write(folder / f"layouts-{source}-{side}.npz", overwrite=True) as fresh:
            np.savez_compressed(fresh, keys=np.array([s.key for s, _ in same]), maps=np.stack([m for _, m in same]))


def write_json(path: Path, value: Any) -> None:
    """JSON, whole or not at all."""
    with atomic_write(path, overwrite=True) as fresh:
        fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
