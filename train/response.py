"""How much each condition changes a picture: the same seeds with one condition told in two ways.

A condition that is ignored gives 0; another seed, given beside it, is how much two unrelated pictures differ.
"""

from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..metrics.base import Measurement
from ..metrics.bootstrap import bootstrap
from ..types import Place

SIDE = 128


def stripes(side: int = SIDE) -> np.ndarray:
    """Edges of a grid of streets: lines 32 pixels apart, (side, side) in [0, 1]."""
    lines = (np.arange(side) % 32 == 16).astype(np.float32)
    return np.maximum(lines[:, None], lines[None])


def changes() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """For each condition, two ways to tell it; everything else is as unknown as it can be."""
    houston, uganda = Place(-95.55, 29.75), Place(32.5948, 0.3510)
    village = {"place": Place(16.862323, 52.273249), "gsd": 1.0}
    layout = str(files("gensat.assets.examples") / "village.geojson")
    photo = np.random.default_rng(0).integers(0, 256, (SIDE // 16, SIDE // 16, 3), dtype=np.uint8)
    photo = np.kron(photo, np.ones((16, 16, 1), np.uint8))
    half = np.zeros((SIDE, SIDE), np.float32)
    half[:, SIDE // 2 :] = 1
    return {
        "prompt": ({"prompt": "a harbor with boats"}, {"prompt": "a forest"}),
        "negative prompt": ({"prompt": "a beach"}, {"prompt": "a beach", "negative_prompt": "sand"}),
        "place": ({"place": houston}, {"place": uganda}),
        "gsd": ({"gsd": 0.3}, {"gsd": 15.0}),
        "date (month)": ({"date": "2017-07"}, {"date": "2017-08"}),
        "date (year)": ({"date": "2014"}, {"date": "2017"}),
        "cloud cover": ({"cloud_cover": 0.0}, {"cloud_cover": 0.9}),
        "sensor": ({"sensor": "aerial"}, {"sensor": "sentinel-2"}),
        "layout": (village, {**village, "layout": layout}),
        "edges": ({}, {"edges": stripes()}),
        "image": ({}, {"image": photo, "strength": 0.7}),
        "mask": ({"image": photo, "strength": 1.0}, {"image": photo, "strength": 1.0, "mask": half}),
        "guidance scale": (
            {"prompt": "a forest", "guidance_scale": 1.0},
            {"prompt": "a forest", "guidance_scale": 4.0},
        ),
    }


def condition_changes(pipe: Any, *, count: int = 16, confidence: float | None = 0.95, **call: Any) -> dict[str, Any]:
    """Mean absolute change in grey levels (0 to 255) by condition, and of another seed; conditions the model does not take are left out."""

    def make(seed: int = 0, **about: Any) -> Tensor:
        size = {} if "image" in about else {"width": SIDE, "height": SIDE}
        seeds = [seed + i for i in range(count)]
        prompts = [about.pop("prompt", "")] * count
        out = pipe(prompts, seed=seeds, **size, **about, **call)
        return torch.from_numpy(np.stack([s.array for s in out.scenes])).float()

    def measured(a: Tensor, b: Tensor) -> dict[str, Any]:
        each = (a - b).abs().mean(dim=(1, 2, 3))
        interval = bootstrap(lambda x: float(x.mean()), each, confidence=confidence) if confidence else None
        return Measurement("grey levels", float(each.mean()), count, None, interval, confidence).to_dict()

    figures = {"another seed": measured(make(), make(seed=count)), "the same again": measured(make(), make())}
    for name, (one, other) in changes().items():
        if pipe.controlnet is None and name in ("layout", "edges"):
            continue
        figures[name] = measured(make(**one), make(**other))
    return figures
