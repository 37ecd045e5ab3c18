"""One flood from a scenario: which method, where the water comes from, and what is kept of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gensat.errors import InputError
from gensat.geo.crs import from_lonlat
from gensat.hydro.bathtub import bathtub, find_sources, require_neighbours
from gensat.hydro.domain import Domain
from gensat.hydro.gauges import read_gauges
from gensat.hydro.products import FloodProducts
from gensat.hydro.sea import Sea, level_on
from gensat.hydro.surge import Surge
from gensat.types import Place

if TYPE_CHECKING:
    from gensat.hydro.forcing import Forcing
    from gensat.hydro.record import FlowRun
    from gensat.hydro.solver import Progress, Solver

METHODS = ("bathtub", "hand", "inertial", "swe")
"""Level with connectivity; stage above the drainage; local inertial flow; full shallow water."""

MOVING = ("inertial", "swe")
"""Methods that step through time."""

THIN_FILM = 0.05
"""Metres from which a cell of a flood that moves is part of its extent, where nothing else is said: rain wets everything."""

_SPARE = 0.9  # of the memory that is free


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
        method: one of ``METHODS``; bathtub for a level or surge, inertial for rain and inflow.
        sources: (lon, lat) from which the water of a bathtub comes; of hand, where its rivers begin.
        sea: file of the sea, as of :class:`gensat.hydro.sea.Sea`.
        neighbours: of a cell, 4 or 8, for a bathtub.
        channel_km2: that drain to a channel, for hand.
        wet: metres from which a cell is part of the extent; 0, or 0.05 for floods that move.
        dtype: of the solver, float64 or float32.
        device: of the solver.

    Raises:
        InputError: things that do not go together, or numbers that make no sense.
    """

    level: float | int | str | os.PathLike[str] | None = None
    surge: str | os.PathLike[str] | None = None
    surge_column: str | None = None
    surge_unit: str | None = None
    surge_method: str = "idw"
    datum_offset: float | int = 0.0
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
            ("inflow radius", self.inflow_radius, -1e-9),
        ):
            if value is not None and not (math.isfinite(value) and value > low):
                raise InputError(f"{name} {value:g} cannot be; give a number above 0")
        if isinstance(self.level, (int, float)) and not (math.isfinite(self.level) and -500 <= self.level <= 9000):
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
        if not (rains or flows or levels or stages):
            raise InputError("nothing floods the place; give --level, --surge, --rain with --hours, or --inflow")
        method = self.chosen
        if method in MOVING:
            if levels:
                raise InputError(
                    f"--method {method} moves water in time, so a level comes in over an edge; give it as --boundary, "
                    "such as E=3.0 or E=tide.csv, or take --method bathtub"
                )
            if self.hours is None and self.hyetograph is None and self.hydrograph is None:
                raise InputError("a flood that moves needs to know how long; give --hours")
            if self.sources or self.sea is not None:
                raise InputError(
                    f"--from and --sea are for bathtub, and --from for hand; leave them out with --method {method}"
                )
            return
        if self.gauges is not None:
            raise InputError(f"gauges read water that moves; leave them out with {method}, or take inertial or swe")
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
        return "bathtub" if self.level is not None or self.surge is not None else "inertial"

    @property
    def moves(self) -> bool:
        """Whether it steps through time."""
        return self.chosen in MOVING

    @property
    def threshold(self) -> float:
        """Metres from which a cell is part of the extent."""
        return float(self.wet) if self.wet is not None else THIN_FILM if self.moves else 0.0

    def water(self) -> float | Surge:
        """The level of a bathtub: a number, or levels that vary in space."""
        how: dict[str, Any] = {"unit": self.surge_unit, "offset": self.datum_offset, "method": self.surge_method}
        if self.surge is not None:
            return Surge.open(self.surge, column=self.surge_column, **how)
        if isinstance(self.level, (int, float)):
            return float(self.level) + float(self.datum_offset)
        assert self.level is not None
        try:
            return float(str(self.level)) + float(self.datum_offset)
        except ValueError:
            return Surge.open(self.level, column=self.surge_column, **how)

    def facts(self) -> dict[str, Any]:
        """For tags and run.json: file names without their folders."""
        found: dict[str, Any] = {"method": self.chosen}
        for name in (
            "level", "surge", "surge_column", "surge_unit", "rain", "hyetograph", "hours", "rain_hours", "curve_number", "hydrograph", "sea",
            "gauges",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                is_file = isinstance(value, os.PathLike) or name in (
                    "surge",
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


def simulate(
    domain: Domain,
    scenario: Scenario,
    *,
    every: float | int | None = None,
    on_output: Callable[[float, np.ndarray], None] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[FloodProducts, dict[str, Any]]:
    """Floods a domain.

    Args:
        domain: where.
        scenario: what floods it.
        every: seconds between outputs of a flood that moves.
        on_output: called at each with the time in seconds and the depth (h, w) in metres.
        checkpoint: file from which such a flood is resumed, and to which it is saved, as of :func:`gensat.hydro.solver.run`.
        progress: called some times a second.

    Returns:
        The products, and more for run.json.

    Raises:
        InputError: anything that can be found wrong before heavy work.
    """
    if scenario.chosen == "bathtub":
        return _bathtub(domain, scenario)
    if scenario.chosen == "hand":
        return _hand(domain, scenario)
    solver, forcing, seconds = solver_of(domain, scenario)
    from gensat.hydro.solver import run

    def output(flow: FlowRun) -> None:
        assert on_output is not None
        on_output(float(flow.state.time), flow.state.depth.cpu().numpy())

    gauges = None if scenario.gauges is None else read_gauges(scenario.gauges, domain)
    flow = run(
        solver, solver.start(), forcing, seconds=seconds, every=every, gauges=gauges,
        on_output=None if on_output is None else output, checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    return _products(domain, scenario, solver, flow, seconds)


def ground_level(domain: Domain, scenario: Scenario) -> tuple[np.ndarray, Any, Any]:
    """Of a bathtub: the bed (h, w) with NaN outside, the level, and where the water comes from (:class:`Sources`)."""
    level = scenario.water()
    if isinstance(level, Surge):
        if domain.crs is None:
            raise InputError("levels with a place need a DEM with a place; give one with a CRS, or one number")
        place = domain.canvas.bounds
        level.require_near((place[0] + place[2]) / 2, (place[1] + place[3]) / 2, domain.crs)
    bed = np.where(domain.exists, domain.bed, np.nan)
    field = level_on(level, domain.canvas)
    sea = None if scenario.sea is None else Sea(scenario.sea, domain.canvas).cells()
    points = [domain.cell_at_lonlat(lon, lat) for lon, lat in scenario.sources]
    return bed, field, find_sources(bed, field, points=points, sea=sea)


def _bathtub(domain: Domain, scenario: Scenario) -> tuple[FloodProducts, dict[str, Any]]:
    bed, field, sources = ground_level(domain, scenario)
    depth = bathtub(bed, field, sources.cells, neighbours=scenario.neighbours)
    level = scenario.water()
    more = {} if not isinstance(level, Surge) else {"levels": level.describe()}
    notes = (*(level.notes if isinstance(level, Surge) else ()), *sources.notes)
    facts = scenario.facts() | {"source": sources.how}
    return FloodProducts(domain, depth, wet=scenario.threshold, facts=facts, notes=notes), more


def _hand(domain: Domain, scenario: Scenario) -> tuple[FloodProducts, dict[str, Any]]:
    from gensat.hydro.hand import CHANNEL_KM2, Drainage, discharge_depth, stage_depth

    stage: Any = 0.0 if scenario.inflows else level_on(scenario.water(), domain.canvas)
    if not scenario.inflows and not np.nanmax(stage) > 0:
        raise InputError("a stage of 0 m or less floods nothing; give --level in metres above the channels")
    drainage = Drainage.of(domain)
    facts = scenario.facts()
    if scenario.inflows:
        points = [(*domain.cell_at_lonlat(lon, lat), float(flow)) for lon, lat, flow in scenario.inflows]
        depth, reaches = discharge_depth(drainage, points)
        note = "stages come from synthetic rating curves of reaches, without backwater between them"
        return FloodProducts(domain, depth, wet=scenario.threshold, facts=facts, notes=(note,)), {"reaches": reaches}
    if scenario.sources:
        channels = drainage.channels_below([domain.cell_at_lonlat(lon, lat) for lon, lat in scenario.sources])
    else:
        facts["channel_km2"] = float(scenario.channel_km2 or CHANNEL_KM2)
        channels = drainage.channels(facts["channel_km2"])
    hand = drainage.hand(channels)
    without = int((domain.exists & ~np.isfinite(hand)).sum())
    notes = [
        f"the level is a stage, in metres above the channels that drain {facts.get('channel_km2', 0):g} km2 or more"
    ]
    if scenario.sources:
        notes = ["the level is a stage, in metres above the rivers that begin at the given points"]
    if without:
        notes.append(f"{without} cells drain to no channel within the DEM and stay dry")
    return FloodProducts(domain, stage_depth(hand, stage), wet=scenario.threshold, facts=facts, notes=tuple(notes)), {}


def solver_of(domain: Domain, scenario: Scenario) -> tuple[Solver, Forcing, float]:
    """Solver, forcing and seconds of a flood that moves, checked and with enough memory.

    Raises:
        InputError: inflows outside the domain, series that make no sense, or too little memory.
    """
    from gensat.hydro.boundary import Boundaries
    from gensat.hydro.forcing import Forcing, Inflow, Rain
    from gensat.hydro.series import Series

    hydrograph = None if scenario.hydrograph is None else Series.read(scenario.hydrograph)
    hyetograph = None if scenario.hyetograph is None else Series.read(scenario.hyetograph, steps=True, hold=False)
    ends = [float(series.times[-1]) for series in (hydrograph, hyetograph) if series is not None]
    seconds = float(scenario.hours) * 3600 if scenario.hours is not None else max(ends)
    if not seconds > 0:
        raise InputError("the series end at their beginning; give --hours")
    rain = None
    if hyetograph is not None:
        rain = Rain(hyetograph, curve_number=scenario.curve_number)
    elif scenario.rain is not None:
        falls = float(scenario.rain_hours) * 3600 if scenario.rain_hours is not None else seconds
        rain = Rain.steady(scenario.rain, falls, curve_number=scenario.curve_number)
    total = sum(flow for *_, flow in scenario.inflows)
    inflows = []
    for lon, lat, flow in scenario.inflows:
        share = flow / total if total > 0 else 1 / len(scenario.inflows)
        discharge = Series.of(float(flow)) if hydrograph is None else hydrograph.map(partial(mul, share))
        if scenario.inflow_radius:
            domain.cell_at_lonlat(lon, lat)  # on the domain
            assert domain.crs is not None
            x, y = (float(v) for v in from_lonlat(domain.crs, lon, lat))
            disc = domain.disc(x, y, scenario.inflow_radius)
            where = f"{scenario.inflow_radius:g} m around lon {lon:g} lat {lat:g}"
            inflows.append(Inflow.over(domain, disc, discharge, where))
        else:
            inflows.append(Inflow.at(domain, lon, lat, discharge))
    how: dict[str, Any] = {"dtype": scenario.dtype, "device": scenario.device}
    solver: Solver
    if scenario.chosen == "inertial":
        from gensat.hydro.inertial import LocalInertial

        solver = LocalInertial(domain, Boundaries.parse(scenario.boundaries), **how)
    else:
        from gensat.hydro.shallow import ShallowWater

        solver = ShallowWater(domain, Boundaries.parse(scenario.boundaries), **how)
    _require_memory(solver)
    return solver, Forcing(rain, inflows), seconds


def _require_memory(solver: Solver) -> None:
    import psutil

    if solver.device.type != "cpu":
        return
    needed, free = solver.memory(), psutil.virtual_memory().available
    if needed > _SPARE * free:
        height, width = solver.domain.shape
        coarser = solver.dx * math.sqrt(needed / (_SPARE * free)) * 1.05
        raise InputError(
            f"{width} x {height} cells need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            f"give --gsd {coarser:.2g} or more, a smaller DEM, or --dtype float32"
        )


def _products(
    domain: Domain, scenario: Scenario, solver: Solver, flow: FlowRun, seconds: float
) -> tuple[FloodProducts, dict[str, Any]]:
    from gensat.hydro.record import ARRIVED, SWIFT

    peaks = flow.peaks
    assert peaks is not None
    arrival = peaks.arrival.cpu().numpy()
    froude, swift = float(peaks.froude), float(peaks.swift)
    notes = []
    if scenario.chosen == "inertial" and froude > SWIFT:
        notes.append(
            f"the Froude number reaches {froude:.2f} (in up to {100 * swift:.2g} percent of the water it passes {SWIFT:g}), where the "
            "local inertial equations leave out too much; --method swe is advised"
        )
    balance = flow.balance.describe()
    more = {
        "seconds": seconds,
        "steps": int(flow.steps),
        "solver": solver.settings(),
        "boundaries": solver.boundaries.describe(),
        "balance_m3": balance,
        "froude_max": round(froude, 4),
        "water_swifter_than_0.8": round(swift, 6),
        "arrived_from_m": ARRIVED,
        "wall_seconds": round(flow.wall, 3),
    }
    made = FloodProducts(
        domain, peaks.depth.cpu().numpy(), flow.state.depth.cpu().numpy(), np.where(np.isfinite(arrival), arrival, np.nan),
        peaks.speed.cpu().numpy(), peaks.hazard.cpu().numpy(), gauges=_levels(flow), wet=scenario.threshold,
        facts=scenario.facts(), notes=tuple(notes),
    )  # fmt: skip
    return made, more


def _levels(flow: FlowRun) -> tuple[list[float], dict[str, list[float]]] | None:
    """Seconds, and the level of each gauge."""
    if flow.gauges is None:
        return None
    columns = zip(*(row.tolist() for row in flow.gauges.level), strict=True)
    return flow.gauges.times, dict(zip(flow.gauges.names, map(list, columns), strict=True))
