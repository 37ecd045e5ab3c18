"""What happens at the four edges of the grid: a wall, free outflow, or a water level from outside."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.metres import HIGHEST, LOWEST
from gensat.hydro.series import Series

SIDES = ("north", "east", "south", "west")
"""The order of everything that is said per side, such as volumes (\\*b, 4)."""

_BY_NAME = {side[0]: side for side in SIDES} | {side: side for side in SIDES}


@dataclass(frozen=True, eq=False)
class Side:
    """One edge of the grid.

    Args:
        kind: ``closed`` (a wall that reflects), ``open`` (free outflow, transmissive; nothing comes in), or ``stage``
            (water outside stands at a level: it flows in or out).
        level: of a stage, metres above the datum of the DEM, over time.

    Raises:
        InputError: another kind, or a stage without a level or with one that no place on the Earth has.
    """

    kind: str = "closed"
    level: Series | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("closed", "open", "stage"):
            raise InputError(f"boundary {self.kind!r} is not known; give closed, open, or a level in metres")
        if (self.kind == "stage") != (self.level is not None):
            raise InputError("a stage boundary needs a level, and no other boundary has one; give Side.stage(LEVEL)")
        if self.level is not None and not LOWEST <= self.level.lowest <= self.level.highest <= HIGHEST:
            raise InputError(
                f"a boundary level runs from {self.level.lowest:g} to {self.level.highest:g} m, as no water does; "
                "give metres above the datum of the DEM"
            )

    @classmethod
    def stage(cls, level: Series | float | int | Tensor) -> Side:
        """Water outside at a level: a number, one for each scenario, or a series."""
        return cls("stage", Series.of(level))

    def describe(self) -> Any:
        """``closed``, ``open`` or the level, for run.json."""
        return self.kind if self.level is None else {"stage": self.level.describe()}


CLOSED, OPEN = Side("closed"), Side("open")


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The four edges; closed unless said. Cells beside ``exists == False`` within the grid are closed in any case."""

    north: Side = CLOSED
    east: Side = CLOSED
    south: Side = CLOSED
    west: Side = CLOSED

    @classmethod
    def all(cls, side: Side) -> Boundaries:
        """The same on all four edges."""
        return cls(side, side, side, side)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Boundaries:
        """Reads ``N=open``, ``west=closed``, ``S=2.5`` (a level in metres), ``E=tide.csv`` (time, level), ``all=open`` (the sides
        that are not named).

        Raises:
            InputError: another side or kind, a side that is given twice, or a file that cannot be read.
        """
        found: dict[str, Side] = {}
        rest = CLOSED
        for text in texts:
            name, _, value = text.partition("=")
            name, value = name.strip().lower(), value.strip()
            if name == "all":
                rest = _side(text, value)
                continue
            if name not in _BY_NAME:
                raise InputError(f"boundary {text!r} names no side; give N, E, S, W or all, as in N=open")
            side = _BY_NAME[name]
            if side in found:
                raise InputError(f"boundary {side} is given twice; give it once")
            found[side] = _side(text, value)
        found = {side: rest for side in SIDES} | found
        return cls(**found)

    @property
    def sides(self) -> tuple[Side, Side, Side, Side]:
        """In the order of ``SIDES``."""
        return self.north, self.east, self.south, self.west

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        return {name: side.describe() for name, side in zip(SIDES, self.sides, strict=True)}


def _side(text: str, value: str) -> Side:
    if value.lower() in ("closed", "open"):
        return Side(value.lower())
    try:
        level = float(value)
    except ValueError:
        if Path(value).suffix.lower() == ".csv":
            return Side.stage(Series.read(value))
        raise InputError(
            f"boundary {text!r} is not understood; give closed, open, a level in metres, or a csv of time and level"
        ) from None
    if not math.isfinite(level):
        raise InputError(f"boundary {text!r} is not finite; give a level in metres")
    return Side.stage(level)
