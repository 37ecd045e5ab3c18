"""What floods a place, and by which method: everything that is said of a flood before it is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensat.errors import InputError
from gensat.hydro.bathtub import require_neighbours
from gensat.hydro.metres import HIGHEST, LOWEST
from gensat.hydro.surge import Surge
from gensat.types import Place

METHODS = ("bathtub", "hand", "inertial", "swe")
"""Level with connectivity; stage above the drainage; local inertial flow; full shallow water."""

MOVING = ("inertial", "swe")
"""Methods that step through time."""

THIN_FILM = 0.05
"""Metres from which a cell of a flood that moves is part of its extent, where nothing else is said: rain wets everything."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What floods a place.

    Args:
        level: metres above the datum of the DEM (bathtub), or above the channels (hand): a number or a raster of levels.
        surge: file of storm-surge levels, as of :meth:`gensat.hydro.surge.Surge.open`.
        surge_column: attribute that holds the level.
        surge_unit: unit of the levels.
        surge_method: how levels between points are found.
        datum_offset: metres from the datum of the levels to that of the DEM.
        tide: csv of time and metres that are added to the level over time; alone, the level itself.
        rise: hours in which the sea rises to its level, in a flood that moves; 1, or with a tide none.
        rain: mm/h, a number or text such as ``80mm/h``.
        hyetograph: csv of time and mm/h, instead of ``rain``.
        hours: of the flood; of rain and hydrographs also how long they are looked at.
        rain_hours: of the rain; as long as the flood if not given.
        curve_number: SCS curve number, for infiltration.
        inflows: (lon, lat, cubic metres a second).
        inflow_radius: metres of the disc around each over which it comes in; 0: its cell.
        hydrograph: csv of time and m3/s, shared by the inflows in proportion to their discharge.
        boundaries: as ``N=open``, ``S=2.5``, ``E=tide.csv``; closed unless given.
        gauges: file of points whose level is kept, as of :func:`gensat.hydro.gauges.read_gauges`.
        method: one of ``METHODS``; bathtub for a level or surge, inertial for rain, inflow and a tide.
        sources: (lon, lat) from which the water of a level comes; of hand, where its rivers begin.
        sea: file of the sea, as of :class:`gensat.hydro.sea.Sea`.
        neighbours: of a cell, 4 or 8, for a bathtub.
        channel_km2: that drain to a channel, for hand.
        wet: metres from which a cell is part of the extent; 0, or 0.05 for floods that move.
        dtype: of the solver, float64 or float32.
        device: of the solver, cpu or cuda.

    Raises:
        InputError: things that do not go together, or numbers that make no sense.
    """

    level: float | int | str | os.PathLike[str] | None = None
    surge: str | os.PathLike[str] | None = None
    surge_column: str | None = None
    surge_unit: str | None = None
    surge_method: str = "idw"
    datum_offset: float | int = 0.0
    tide: str | os.PathLike[str] | None = None
    rise: float | int | None = None
    rain: float | int | str | None = None
    hyetograph: str | os.PathLike[str] | None = None
    hours: float | int | None = None
    rain_hours: float | int | None = None
    curve_number: float | int | None = None
    inflows: Sequence[tuple[float, float, float]] = ()
    inflow_radius: float | int = 0.0
    hydrograph: str | os.PathLike[str] | None = None
    boundaries: Sequence[str] = ()
    gauges: str | os.PathLike[str] | None = None
    method: str | None = None
    sources: Sequence[tuple[float, float]] = ()
    sea: str | os.PathLike[str] | None = None
    neighbours: int = 4
    channel_km2: float | int | None = None
    wet: float | int | None = None
    dtype: str = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise InputError(f"method {self.method!r} is not known; give one of {', '.join(METHODS)}")
        for lon, lat, *_ in (*self.inflows, *self.sources):
            Place(lon, lat)
        for lon, lat, flow in self.inflows:
            if not (math.isfinite(flow) and flow >= 0):
                raise InputError(f"an inflow of {flow:g} m3/s at {lon:g} {lat:g} is none; give 0 or more")
        require_neighbours(self.neighbours)
        for name, value, low in (
            ("hours", self.hours, 0),
            ("rain hours", self.rain_hours, 0),
            ("wet", self.wet, -1e-9),
            ("rise", self.rise, -1e-9),
            ("inflow radius", self.inflow_radius, -1e-9),
        ):
            if value is not None and not (math.isfinite(value) and value > low):
                raise InputError(f"{name} {value:g} cannot be; give a number above 0")
        if isinstance(self.level, (int, float)) and not (math.isfinite(self.level) and LOWEST <= self.level <= HIGHEST):
            raise InputError(f"a level of {self.level:g} m is that of no water; give metres above the datum of the DEM")
        self._check_together()

    def _check_together(self) -> None:
        rains, flows = self.rain is not None or self.hyetograph is not None, bool(self.inflows)
        levels = self.level is not None or self.surge is not None
        stages = any("=" in side and side.split("=")[1].lower() not in ("open", "closed") for side in self.boundaries)
        if self.level is not None and self.surge is not None:
            raise InputError("both a level and a surge are given; give one")
        if self.rain is not None and self.hyetograph is not None:
            raise InputError("both a rain and a hyetograph are given; give one")
        if self.hydrograph is not None and not flows:
            raise InputError("a hydrograph needs to know where it comes in; give --inflow LON LAT Q with it")
        if not (rains or flows or levels or stages or self.tide is not None):
            raise InputError("nothing floods the place; give --level, --surge, --rain with --hours, or --inflow")
        if self.rise is not None and not (levels and self.moves):
            raise InputError(
                "--rise is the time in which a level is reached; give it with --level or --surge and --method inertial or swe"
            )
        method = self.chosen
        if method in MOVING:
            series = (self.hyetograph, self.hydrograph, self.tide)
            if self.hours is None and all(one is None for one in series):
                raise InputError("a flood that moves needs to know how long; give --hours")
            if (self.sources or self.sea is not None) and not self.holds:
                raise InputError(
                    "--from and --sea say where a level comes from; give --level, --surge or --tide with them, or leave them out"
                )
            return
        if self.gauges is not None:
            raise InputError(f"gauges read water that moves; leave them out with {method}, or take inertial or swe")
        if self.tide is not None:
            raise InputError(f"a tide needs water that moves; take --method inertial or swe instead of {method}")
        if rains or stages or self.boundaries:
            raise InputError(
                f"rain and boundaries need water that moves; take --method inertial or swe instead of {method}"
            )
        if method == "bathtub" and flows:
            raise InputError("an inflow has no level; take --method inertial, or hand for its rating curve")
        if method == "hand":
            if levels == flows or self.surge is not None:
                raise InputError("hand takes either --level (metres above the channels) or --inflow; give one of them")
            if self.sea is not None:
                raise InputError("hand counts from rivers, not from the sea; take --method bathtub for --sea")
            if self.hydrograph is not None:
                raise InputError("hand knows no time; give the discharge with --inflow, without a hydrograph")

    @property
    def chosen(self) -> str:
        """The method."""
        if self.method is not None:
            return self.method
        still = (self.level is not None or self.surge is not None) and self.tide is None
        return "bathtub" if still else "inertial"

    @property
    def moves(self) -> bool:
        """Whether it steps through time."""
        return self.chosen in MOVING

    @property
    def holds(self) -> bool:
        """Whether a sea is held at its level while water moves."""
        return self.moves and not (self.level is None and self.surge is None and self.tide is None)

    @property
    def threshold(self) -> float:
        """Metres from which a cell is part of the extent."""
        return float(self.wet) if self.wet is not None else THIN_FILM if self.moves else 0.0

    def water(self) -> float | Surge:
        """The level of a sea: a number, or levels that vary in space; without one, what a tide is added to."""
        how: dict[str, Any] = {"unit": self.surge_unit, "offset": self.datum_offset, "method": self.surge_method}
        if self.surge is not None:
            return Surge.open(self.surge, column=self.surge_column, **how)
        if self.level is None or isinstance(self.level, (int, float)):
            return float(self.level or 0.0) + float(self.datum_offset)
        try:
            return float(str(self.level)) + float(self.datum_offset)
        except ValueError:
            return Surge.open(self.level, column=self.surge_column, **how)

    def facts(self) -> dict[str, Any]:
        """For tags and run.json: file names without their folders."""
        found: dict[str, Any] = {"method": self.chosen}
        for name in (
            "level", "surge", "surge_column", "surge_unit", "tide", "rise", "rain", "hyetograph", "hours", "rain_hours", "curve_number", "hydrograph", "sea",
            "gauges",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                is_file = isinstance(value, os.PathLike) or name in (
                    "surge",
                    "tide",
                    "hyetograph",
                    "hydrograph",
                    "sea",
                    "gauges",
                )
                found[name] = Path(value).name if is_file else value
        if self.inflow_radius:
            found["inflow_radius"] = float(self.inflow_radius)
        if self.datum_offset:
            found["datum_offset"] = float(self.datum_offset)
        for name in ("inflows", "boundaries", "sources"):
            if getattr(self, name):
                found[name] = [list(one) if isinstance(one, tuple) else one for one in getattr(self, name)]
        if self.chosen == "bathtub":
            found["neighbours"] = self.neighbours
        return found
