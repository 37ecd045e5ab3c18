"""What moves the water from outside: rain with infiltration, inflows, and a sea that is held at its level."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.held import Held
from gensat.hydro.series import Series, described
from gensat.hydro.state import State

_MM_PER_HOUR = 1 / 3.6e6  # metres a second
_MOST_RAIN, _MOST_INFLOW = 2000.0, 1e6  # mm/h; the Amazon carries 2e5 m3/s
_RATE = re.compile(r"^\s*([0-9.eE+-]+)\s*(mm\s*/\s*h|mm/hr|mm/hour|in\s*/\s*h|in/hr)?\s*$")


@dataclass(frozen=True, eq=False)
class Rain:
    """Rain on every cell.

    Args:
        rate: millimetres an hour over time; a series of steps, 0 beyond its end.
        curve_number: of the SCS method, above 0 and up to 100: a number or (h, w); None lets nothing infiltrate. What
            runs off of P mm since the beginning is (P - 0.2 S)^2 / (P + 0.8 S) with S = 25400 / CN - 254 mm (USDA
            National Engineering Handbook 630, chapter 10). What has run off does not infiltrate further down.
        share: (h, w) of the rate, 0 or more; None is 1 everywhere.

    Raises:
        InputError: negative or impossible rain, a curve number out of range, a negative share.
    """

    rate: Series
    curve_number: float | int | Float[np.ndarray, "h w"] | None = None
    share: Float[np.ndarray, "h w"] | None = None

    def __post_init__(self) -> None:
        if self.rate.lowest < 0:
            raise InputError(f"rain of {self.rate.lowest:g} mm/h is negative; give 0 or more")
        if self.rate.highest > _MOST_RAIN:
            raise InputError(f"rain of {self.rate.highest:g} mm/h falls nowhere; give mm/h, up to {_MOST_RAIN:g}")
        if self.curve_number is not None:
            cn = np.asarray(self.curve_number, dtype=np.float64)
            if not ((cn > 0) & (cn <= 100)).all():
                raise InputError("a curve number is above 0 and up to 100 (no infiltration); give one in that range")
        if self.share is not None and not (np.isfinite(self.share) & (self.share >= 0)).all():
            raise InputError("a share of the rain is negative or not finite; give 0 or more")

    @classmethod
    def steady(cls, rate: float | int | str | Tensor, seconds: float | int, **values: Any) -> Rain:
        """The same rate from the beginning on, for so long.

        Args:
            rate: mm/h: a number, one for each scenario (\\*b), or text such as ``80mm/h`` or ``3in/h``.
            seconds: how long.
            values: ``curve_number`` and ``share``.
        """
        if not (math.isfinite(seconds) and seconds > 0):
            raise InputError(f"rain for {seconds:g} seconds is none; give a time above 0")
        if isinstance(rate, str):
            rate = parse_rate(rate)
        high = torch.as_tensor(rate, dtype=torch.float64)
        times = torch.tensor([0.0, float(seconds)], dtype=torch.float64)
        return cls(Series(times, torch.stack([high, torch.zeros_like(high)]), steps=True, hold=False), **values)

    def fallen(self, time: Tensor) -> Tensor:
        """(\\*b) millimetres since the beginning of the series, where the share is 1."""
        return self.rate.integral(torch.full_like(time, float(self.rate.times[0])), time) / 3600

    def runoff(self, millimetres: Tensor) -> Tensor:
        """Millimetres that run off of so much rain since the beginning, by the curve number."""
        if self.curve_number is None:
            return millimetres
        cn = torch.as_tensor(self.curve_number, dtype=torch.float64, device=millimetres.device)
        held = 25400 / cn - 254
        above = (millimetres - 0.2 * held).clamp(min=0)
        return above**2 / (millimetres + 0.8 * held).clamp(min=1e-300)

    def describe(self) -> dict[str, Any]:
        """For run.json and checkpoints."""
        found: dict[str, Any] = {"rate_mm_h": self.rate.describe()}
        for name, value in (("curve_number", self.curve_number), ("share", self.share)):
            if value is not None:
                found[name] = described(value)
        return found


@dataclass(frozen=True, eq=False)
class Inflow:
    """Water that comes in at cells, in equal parts.

    Args:
        cells: (k) flat indices of cells, row * w + column.
        discharge: cubic metres a second over time, of all cells together; one for each scenario if its values are
            (n, \\*b).
        where: in words, for run.json.

    Raises:
        InputError: no cells, or a discharge that is negative or larger than any river's.
    """

    cells: Tensor
    discharge: Series
    where: str = ""

    def __post_init__(self) -> None:
        if not len(self.cells):
            raise InputError("an inflow has no cells; give a point or an area in the domain")
        if self.discharge.lowest < 0:
            raise InputError(f"an inflow of {self.discharge.lowest:g} m3/s is negative; give 0 or more")
        if self.discharge.highest > _MOST_INFLOW:
            raise InputError(f"an inflow of {self.discharge.highest:g} m3/s is that of no river; give m3/s")

    @classmethod
    def over(
        cls,
        domain: Domain,
        area: Bool[np.ndarray, "h w"],
        discharge: Series | float | int | Tensor,
        where: str = "an area",
    ) -> Inflow:
        """Over the cells of a mask, such as ``domain.disc(x, y, radius)`` or ``domain.cells_in(polygon)``."""
        cells = np.flatnonzero(area & domain.exists)
        return cls(torch.from_numpy(cells), Series.of(discharge), where)

    @classmethod
    def at(cls, domain: Domain, lon: float | int, lat: float | int, discharge: Series | float | int | Tensor) -> Inflow:
        """At the cell of a place in degrees; InputError outside the domain."""
        row, column = domain.cell_at_lonlat(lon, lat)
        cell = torch.tensor([row * domain.shape[1] + column])
        return cls(cell, Series.of(discharge), f"lon {lon:g} lat {lat:g}")

    def describe(self) -> dict[str, Any]:
        """For run.json and checkpoints."""
        cells = self.cells.cpu().numpy()
        return {"where": self.where, "cells": described(cells), "m3_s": self.discharge.describe()}


@dataclass(frozen=True, eq=False)
class Forcing:
    """All that adds water to a run; the numbers of its series are for one scenario or for each.

    Args:
        rain: on every cell.
        inflows: at cells.
        held: a sea or lake at its level.
    """

    rain: Rain | None = None
    inflows: Sequence[Inflow] = ()
    held: Held | None = None

    def volumes(self, domain: Domain, time: Tensor, dt: Tensor) -> Tensor:
        """(\\*b, 3) cubic metres from ``time`` to ``time + dt``: rain, what of it infiltrates, inflow."""
        return self._volumes(domain, self._rain(domain, time, dt), time, dt)

    def apply(self, state: State, domain: Domain, dt: Tensor) -> Tensor:
        """Adds the water of the next ``dt`` (\\*b) seconds to a state, in place; returns what :meth:`volumes` does."""
        rain = self._rain(domain, state.time, dt)
        volumes = self._volumes(domain, rain, state.time, dt)
        if rain is not None and bool((rain[1] > 0).any()):
            gained = rain[1]
            exists = torch.as_tensor(domain.exists, device=gained.device)
            spread = gained[..., None, None] if gained.ndim == state.time.ndim else gained
            state.add(spread if bool(domain.exists.all()) else spread * exists)
        for source in self.inflows:
            metres = source.discharge.integral(state.time, state.time + dt) / (domain.area * len(source.cells))
            if bool((metres > 0).any()):
                state.add(metres[..., None], source.cells.to(state.depth.device))
        return volumes

    def hold(self, state: State, domain: Domain, gravity: float) -> Tensor:
        """Brings held water to its level at the time of a state, in place; (\\*b) cubic metres that this adds."""
        if self.held is None:
            return torch.zeros_like(state.time)
        return self.held.hold(state, gravity).to(state.time) * domain.area

    def rise(self, domain: Domain) -> Tensor:
        """() or (\\*b) metres a second by which any cell rises at most, ever, each scenario by its own series; 0 without forcing."""
        fastest = torch.zeros((), dtype=torch.float64)
        if self.rain is not None:
            share = 1.0 if self.rain.share is None else float(self.rain.share.max())
            fastest = fastest + self.rain.rate.peaks * share * _MM_PER_HOUR
        for source in self.inflows:  # cells of several inflows may be the same
            fastest = fastest + source.discharge.peaks / (domain.area * len(source.cells))
        return fastest if self.held is None else fastest + self.held.fastest_rise()

    def describe(self) -> dict[str, Any]:
        """For run.json and checkpoints."""
        return {
            "rain": None if self.rain is None else self.rain.describe(),
            "inflows": [source.describe() for source in self.inflows],
            "held": None if self.held is None else self.held.describe(),
        }

    def _volumes(self, domain: Domain, rain: tuple[Tensor, Tensor] | None, time: Tensor, dt: Tensor) -> Tensor:
        zero = torch.zeros_like(time)
        fell = lost = inflow = zero
        if rain is not None:
            exists = torch.as_tensor(domain.exists, device=time.device)
            fell, gain = (
                (metres * exists).sum((-2, -1)) if metres.ndim > time.ndim else metres * exists.sum() for metres in rain
            )
            fell, lost = fell * domain.area, (fell - gain) * domain.area
        for source in self.inflows:
            inflow = inflow + source.discharge.integral(time, time + dt)
        return torch.stack([part + zero for part in (fell, lost, inflow)], -1)

    def _rain(self, domain: Domain, time: Tensor, dt: Tensor) -> tuple[Tensor, Tensor] | None:
        """Metres that fall, and metres of it that run off: (\\*b), or (\\*b, h, w) if they differ from cell to cell."""
        rain = self.rain
        if rain is None:
            return None
        before, after = rain.fallen(time), rain.fallen(time + dt)
        varied = rain.share is not None or isinstance(rain.curve_number, np.ndarray)
        if not bool((after > before).any()):
            return torch.zeros_like(time), torch.zeros_like(time)
        if varied:
            share = torch.as_tensor(1.0 if rain.share is None else rain.share, dtype=torch.float64, device=time.device)
            share = share.expand(domain.shape)
            before, after = before[..., None, None] * share, after[..., None, None] * share
        return (after - before) / 1000, (rain.runoff(after) - rain.runoff(before)) / 1000


def parse_rate(text: str) -> float:
    """mm/h of a text such as ``80mm/h``, ``80`` or ``3in/h``.

    Raises:
        InputError: it is none.
    """
    match = _RATE.match(text)
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise InputError(f"rain {text!r} is not understood; give a rate such as 80mm/h")
    return value * (25.4 if (match[2] or "").startswith("in") else 1.0)
