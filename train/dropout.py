"""What a denoiser is told of a batch: signals are hidden now and then, so that it learns what each of them says, and what nothing means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..conditioning.acquisition import acquisition_arrays
from ..conditioning.place import place_arrays
from ..errors import InputError
from ..types import Acquisition, PartialDate, Place
from .captions import draw
from .latents import Bank, Entry, TextBank

SPEAKING = ("text", "place", "gsd")
"""Signals that people give by themselves."""


@dataclass
class Dropout:
    """Probabilities with which a signal is hidden, each on its own; ``everything`` hides all of them together.

    ``alone`` hides all but one of ``SPEAKING``: dropped one by one, a place is hardly ever all that is told, and says little then.
    """

    everything: float = 0.1
    alone: float = 0.0
    text: float = 0.1
    place: float = 0.3
    gsd: float = 0.2
    year: float = 0.2
    month_day: float = 0.4
    cloud_cover: float = 0.4
    sensor: float = 0.3
    controls: float = 0.1  # map and edges of a ControlNet, so that guidance can amplify them


def make_dropout(settings: Mapping[str, Any]) -> Dropout:
    """The recipe's ``dropout`` section; InputError for a signal that there is not."""
    names = [f.name for f in fields(Dropout)]
    if unknown := set(settings) - set(names):
        raise InputError(f"dropout has no {', '.join(sorted(map(str, unknown)))}; it takes {', '.join(names)}")
    return Dropout(**{str(k): v for k, v in settings.items()})


def conditions(
    entries: Sequence[Entry], rng: np.random.Generator, drop: Dropout
) -> tuple[list[str], list[Place | None], list[Acquisition]]:
    """Captions, places and acquisitions of a batch after dropout; undated pre-event Houston images get a date of 2017 before the storm."""
    captions: list[str] = []
    places: list[Place | None] = []
    acquisitions: list[Acquisition] = []
    for e in entries:
        hidden = dict(zip(vars(drop), rng.random(len(vars(drop))), strict=True))
        gone = {name for name, value in hidden.items() if value < getattr(drop, name)}
        if "everything" in gone:
            captions.append("")
            places.append(None)
            acquisitions.append(Acquisition())
            continue
        if "alone" in gone:
            known = dict(
                zip(SPEAKING, (bool(e.captions), e.place is not None, e.acquisition.gsd is not None), strict=True)
            )
            kept = [name for name in SPEAKING if known[name]]
            gone = set(vars(drop)) - set(rng.choice(kept, 1) if kept else ())
        captions.append("" if "text" in gone else draw(e.captions, rng))
        places.append(None if "place" in gone else e.place)
        a, date = e.acquisition, e.acquisition.date
        if e.source == "houston" and date.month is None:
            day = np.datetime64("2017-01-01") + rng.integers(0, 236)  # to 2017-08-24, an assumption stated in the card
            year, month, number = (int(part) for part in str(day).split("-"))
            date = PartialDate(year, month, number)
        if "month_day" in gone:
            date = PartialDate(date.year)
        if "year" in gone:
            date = PartialDate(None, date.month, date.day)
        acquisitions.append(
            Acquisition(
                None if "gsd" in gone else a.gsd,
                date,
                None if "cloud_cover" in gone else a.cloud_cover,
                None if "sensor" in gone else a.sensor,
            )
        )
    return captions, places, acquisitions


def told(
    bank: Bank, entries: Sequence[Entry], rng: np.random.Generator, drop: Dropout, sensors: Sequence[str]
) -> dict[str, Any]:
    """What a denoiser is told of a batch after dropout: ``tokens`` and ``mask`` of the captions, arrays of ``place`` and ``acquisition``."""
    captions, places, acquisitions = conditions(entries, rng, drop)
    tokens, mask = bank.text(captions)
    return {
        "tokens": tokens,
        "mask": mask,
        "place": place_arrays(places),
        "acquisition": acquisition_arrays(acquisitions, sensors),
    }


def untold(text: TextBank, count: int, sensors: Sequence[str]) -> dict[str, Any]:
    """What ``told`` says of ``count`` images where nothing is told: the unconditional branch of guidance."""
    tokens, mask = text.states([""] * count)
    return {
        "tokens": tokens,
        "mask": mask,
        "place": place_arrays([None] * count),
        "acquisition": acquisition_arrays([Acquisition()] * count, sensors),
    }
