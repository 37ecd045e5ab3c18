"""Sample sheets during training: the same requests with the same seeds, through the real pipeline, so that two sheets can be compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..geo.display import contact_sheet
from ..geo.legend import colourise
from .latents import Entry

COUNT = 6


def requests(entries: Sequence[Entry], *, layouts: bool = False, count: int = COUNT) -> list[dict[str, Any]]:
    """Pipeline calls that ask for what training samples show: evenly spread over the sources, with their layouts where wanted."""
    able = [e for e in entries if e.layout is not None and e.layout.any()] if layouts else list(entries)
    able = able or list(entries)
    by_source: dict[str, list[Entry]] = {}
    for entry in able:
        by_source.setdefault(entry.source, []).append(entry)
    chosen: list[Entry] = []
    for turn in range(count):
        for group in by_source.values():
            if len(chosen) < min(count, len(able)) and turn < len(group):
                chosen.append(group[turn * len(group) // count if len(group) >= count else turn])
    return [_request(e, layouts=layouts) for e in chosen]


def _request(entry: Entry, *, layouts: bool) -> dict[str, Any]:
    side, a = entry.image.shape[0], entry.acquisition
    call: dict[str, Any] = {"prompt": entry.captions[0], "width": side, "height": side, "gsd": a.gsd}
    call |= {"place": entry.place, "date": a.date, "cloud_cover": a.cloud_cover, "sensor": a.sensor}
    if layouts and entry.layout is not None:
        call["layout"] = entry.layout
    return call


def sample_sheet(pipe: Any, calls: Sequence[dict[str, Any]], *, seed: int = 0, steps: int | None = None) -> Image.Image:
    """One row of pictures, each with the first words of its prompt; above it the layouts, where there are any.

    What the model cannot be told (a place, a date, a sensor that it does not know) is left out.
    """
    pictures, maps = [], []
    for k, call in enumerate(calls):
        told = {name: value for name, value in call.items() if _takes(pipe, name, value)}
        done = pipe(**told, seed=seed + k, num_inference_steps=steps)
        pictures.append(np.asarray(done.images[0]))
        if "layout" in call:
            maps.append(colourise(call["layout"]))
    if len(maps) == len(pictures):
        return contact_sheet([*maps, *pictures], len(pictures), side=max(pictures[0].shape))
    labels = [str(call["prompt"])[: max(8, pictures[0].shape[1] // 7)] for call in calls]
    return contact_sheet(pictures, len(pictures), side=max(pictures[0].shape), labels=labels)


def _takes(pipe: Any, name: str, value: Any) -> bool:
    signals = pipe.spec.signals
    if name in ("date", "cloud_cover"):
        return "acquisition" in signals
    if name == "sensor":
        encoder = pipe.acquisition_encoder
        return value is None or (encoder is not None and value in encoder.config["sensors"])
    if name == "gsd":
        low, high = pipe.spec.gsd_range
        return value is None or low <= value <= high
    return name != "layout" or "layout" in signals
