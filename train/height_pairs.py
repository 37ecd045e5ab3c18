"""Pairs of an image from above and the heights in it, from the procedural streets: what the height model learns from.

No open image comes with exact heights, so these are all that there are. A pair is a function of (street type, seed); pairs are
kept on disk, one safetensors file each, and only those that are missing are made.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import InputError
from ..geo.classes import BUILDING, WOODLAND
from ..geo.sun import SunPosition
from ..models.height import GROUPS
from ..render.streets.scenes import GSD, Street
from ..render.streets.styles import STREET_TYPES
from ..render.streets.weather import sun_in
from .logs import say

_WEATHER = {"clear": 0.5, "scattered": 0.22, "overcast": 0.14, "snow": 0.06, "rain": 0.05, "fog": 0.03}
_SUNLESS = 0.9  # cloud cover above which nothing has a shadow
_VERSION = "1"  # of the pairs: raise it when the streets or this file change


@dataclass(frozen=True, eq=False)
class HeightPair:
    """One street from above.

    Args:
        rgb: display values, row 0 in the (grid) north.
        heights: metres of the uppermost surface above the ground below it.
        groups: codes of ``GROUPS``.
        sun: where it stands, its azimuth from grid north; None under a closed sky, where there are no shadows.
        street_type: of the generator.
        seed: of the street.
        weather: of the street.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    heights: Float[np.ndarray, "h w"]
    groups: UInt8[np.ndarray, "h w"]
    sun: SunPosition | None
    street_type: str
    seed: int
    weather: str

    @property
    def gsd(self) -> float:
        """Metres per pixel."""
        return GSD


def make_pair(name: str, seed: int, *, samples: int = 1) -> HeightPair:
    """Draw the street of a type and a seed, and look at it from above.

    Args:
        name: street type.
        seed: of everything.
        samples: n x n rays a pixel of the image; 1 leaves edges jagged and takes a third of the time of 2.
    """
    rng = np.random.default_rng([seed, 4])
    weather = str(rng.choice(list(_WEATHER), p=list(_WEATHER.values())))
    street = Street.make(name, seed, weather=weather, samples=samples)
    scene = street.scene
    x, y = (v.float() for v in scene.grid.centres())
    heights = (scene.surface_at(x, y) - scene.height_at(x, y)).clamp(min=0).numpy()
    layout = street.layout.numpy()
    groups = np.select([layout == BUILDING, (layout == WOODLAND) & (heights > 1.0)], [1, 2], 0).astype(np.uint8)
    east, north, up = sun_in(scene.frame, street.place, street.time)
    sun = SunPosition(math.degrees(math.atan2(east, north)), math.degrees(math.asin(up)))
    shining = street.weather.cloud_cover < _SUNLESS and sun.elevation > 0
    rgb = street.satellite(scene.grid.columns).array
    return HeightPair(rgb, heights, groups, sun if shining else None, name, seed, street.weather.name)


def height_pairs(
    folder: str | os.PathLike[str], types: Sequence[str], each: int, *, seed: int = 0, samples: int = 1
) -> list[HeightPair]:
    """``each`` pairs of every street type, read from ``folder``; those that are not there yet are made and kept.

    Raises:
        InputError: an unknown street type, or no pairs at all.
    """
    unknown = [name for name in types if name not in STREET_TYPES]
    if unknown or not types or each < 1:
        raise InputError(f"no pairs of {', '.join(unknown) or 'nothing'}; give types of {', '.join(STREET_TYPES)}")
    root = Path(folder)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():  # of several processes one draws
        root.mkdir(parents=True, exist_ok=True)
        wanted = [(name, seed * 100_000 + k) for k in range(each) for name in types]
        missing = [(name, number) for name, number in wanted if _read(_path(root, name, number, samples)) is None]
        for done, (name, number) in enumerate(missing):
            if done % 20 == 0:
                say(f"drawing streets: {done} of {len(missing)}")
            _write(_path(root, name, number, samples), make_pair(name, number, samples=samples))
    return [pair for pair in (_read(_path(root, *one, samples)) for one in wanted) if pair is not None]


def types_for(heldout: bool) -> list[str]:
    """Names of the street types that are held out, or of those that are not."""
    return [name for name, kind in STREET_TYPES.items() if kind.held_out == heldout]


def mean_heights(pairs: Iterable[HeightPair]) -> dict[str, float]:
    """Metres: the mean of all pixels ("all") and of every group."""
    sums, counts = np.zeros(len(GROUPS)), np.zeros(len(GROUPS))
    for pair in pairs:
        sums += np.bincount(pair.groups.ravel(), pair.heights.ravel(), minlength=len(GROUPS))
        counts += np.bincount(pair.groups.ravel(), minlength=len(GROUPS))
    means = {name: float(s / max(n, 1)) for name, s, n in zip(GROUPS, sums, counts, strict=True)}
    return {"all": float(sums.sum() / max(counts.sum(), 1)), **means}


def _path(root: Path, name: str, seed: int, samples: int) -> Path:
    return root / f"{name}-{seed:07d}-{samples}.safetensors"


def _write(path: Path, pair: HeightPair) -> None:
    about = {
        "version": _VERSION,
        "sun": json.dumps(None if pair.sun is None else [pair.sun.azimuth, pair.sun.elevation]),
        "street_type": pair.street_type,
        "seed": str(pair.seed),
        "weather": pair.weather,
    }
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({"rgb": pair.rgb, "heights": pair.heights.astype(np.float16), "groups": pair.groups}, fresh, about)
    fresh.rename(path)


def _read(path: Path) -> HeightPair | None:
    """The pair in a file; None for one that is missing, cut off, or of an older version."""
    try:
        with safe_open(path, "np") as file:
            about = file.metadata() or {}
            if about.get("version") != _VERSION:
                return None
            rgb, heights, groups = (file.get_tensor(name) for name in ("rgb", "heights", "groups"))
    except (OSError, SafetensorError):
        return None
    sun = json.loads(about["sun"])
    heights = heights.astype(np.float32)
    where = None if sun is None else SunPosition(*sun)
    return HeightPair(rgb, heights, groups, where, about["street_type"], int(about["seed"]), about["weather"])
