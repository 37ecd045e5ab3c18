"""One flood from a scenario: where the water comes from, the solver, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from gensat.errors import InputError
from gensat.geo.crs import from_lonlat
from gensat.hydro.bathtub import bathtub
from gensat.hydro.coast import Coast, ground_level, held_sea
from gensat.hydro.domain import Domain
from gensat.hydro.gauges import read_gauges
from gensat.hydro.memory import require_memory
from gensat.hydro.products import FloodProducts
from gensat.hydro.scenario import Scenario
from gensat.hydro.sea import level_on
from gensat.hydro.surge import Surge

if TYPE_CHECKING:
    from gensat.hydro.forcing import Forcing
    from gensat.hydro.record import FlowRun
    from gensat.hydro.solver import Solver
    from gensat.hydro.stepping import Progress


def simulate(
    domain: Domain,
    scenario: Scenario,
    *,
    every: float | int | None = None,
    on_output: Callable[[float, np.ndarray], None] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    sea: Bool[np.ndarray, "h w"] | None = None,
) -> tuple[FloodProducts, dict[str, Any]]:
    """Floods a domain.

    Args:
        domain: where.
        scenario: what floods it.
        every: seconds between outputs of a flood that moves.
        on_output: called at each with the time in seconds and the depth (h, w) in metres.
        checkpoint: file from which such a flood is resumed, and to which it is saved, as of :func:`gensat.hydro.solver.run`.
        progress: called some times a second.
        sea: cells of a sea that is held at its level, if they were found already (members of an ensemble).

    Returns:
        The products, and more for run.json.

    Raises:
        InputError: anything that can be found wrong before heavy work.
    """
    if scenario.chosen == "bathtub":
        return _bathtub(domain, scenario)
    if scenario.chosen == "hand":
        return _hand(domain, scenario)
    coast = held_sea(domain, scenario, sea) if scenario.holds else None
    solver, forcing, seconds = solver_of(domain, scenario, coast)
    from gensat.hydro.solver import run

    def output(flow: FlowRun) -> None:
        assert on_output is not None
        on_output(float(flow.state.time), flow.state.depth.cpu().numpy())

    gauges = None if scenario.gauges is None else read_gauges(scenario.gauges, domain)
    flow = run(
        solver, solver.start(depth=0.0 if coast is None else coast.start), forcing, seconds=seconds, every=every, gauges=gauges,
        on_output=None if on_output is None else output, checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    return _products(domain, scenario, solver, flow, seconds, coast)


def _bathtub(domain: Domain, scenario: Scenario) -> tuple[FloodProducts, dict[str, Any]]:
    level = scenario.water()
    bed, field, sources = ground_level(domain, scenario, level)
    depth = bathtub(bed, field, sources.cells, neighbours=scenario.neighbours)
    more = {} if not isinstance(level, Surge) else {"levels": level.describe()}
    notes = (*(level.notes if isinstance(level, Surge) else ()), *sources.notes)
    facts = scenario.facts() | {"source": sources.how}
    return FloodProducts(domain, depth, wet=scenario.threshold, facts=facts, notes=notes), more


def _hand(domain: Domain, scenario: Scenario) -> tuple[FloodProducts, dict[str, Any]]:
    from gensat.hydro.hand import CHANNEL_KM2, MEMORY, Drainage, discharge_depth, stage_depth

    stage: Any = 0.0 if scenario.inflows else level_on(scenario.water(), domain.canvas)
    if not scenario.inflows and not np.nanmax(stage) > 0:
        raise InputError("a stage of 0 m or less floods nothing; give --level in metres above the channels")
    require_memory(domain, domain.bed.size * MEMORY["discharge" if scenario.inflows else "stage"])
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


def solver_of(domain: Domain, scenario: Scenario, coast: Coast | None = None) -> tuple[Solver, Forcing, float]:
    """Solver, forcing and seconds of a flood that moves, checked and with enough memory.

    Raises:
        InputError: inflows outside the domain, series that make no sense, or too little memory.
    """
    from gensat.diffusion.precision import choose
    from gensat.hydro.boundary import Boundaries
    from gensat.hydro.forcing import Forcing, Inflow, Rain
    from gensat.hydro.series import Series

    hydrograph = None if scenario.hydrograph is None else Series.read(scenario.hydrograph)
    hyetograph = None if scenario.hyetograph is None else Series.read(scenario.hyetograph, steps=True, hold=False)
    held = None if coast is None else coast.held
    tide = None if held is None else held.tide
    ends = [float(series.times[-1]) for series in (hydrograph, hyetograph, tide) if series is not None]
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
    how: dict[str, Any] = {"dtype": scenario.dtype, "device": choose(device=scenario.device).device}
    solver: Solver
    if scenario.chosen == "inertial":
        from gensat.hydro.inertial import LocalInertial

        solver = LocalInertial(domain, Boundaries.parse(scenario.boundaries), **how)
    else:
        from gensat.hydro.shallow import ShallowWater

        solver = ShallowWater(domain, Boundaries.parse(scenario.boundaries), **how)
    if solver.device.type == "cpu":
        require_memory(domain, solver.memory(), other="--dtype float32")
    return solver, Forcing(rain, inflows, held), seconds


def _products(
    domain: Domain, scenario: Scenario, solver: Solver, flow: FlowRun, seconds: float, coast: Coast | None
) -> tuple[FloodProducts, dict[str, Any]]:
    from gensat.hydro.record import ARRIVED, SWIFT

    peaks = flow.peaks
    assert peaks is not None
    arrival = peaks.arrival.cpu().numpy()
    froude, swift = float(peaks.froude), float(peaks.swift)
    notes = [] if coast is None else list(coast.notes)
    if scenario.chosen == "inertial" and froude > SWIFT:
        notes.append(
            f"the Froude number reaches {froude:.2f} (in up to {100 * swift:.3g} percent of the water it passes {SWIFT:g}), where the "
            "local inertial equations leave out too much; --method swe is advised"
        )
    balance = flow.balance.describe()
    more = {
        "seconds": seconds,
        "steps": int(flow.steps),
        "solver": solver.settings(),
        "boundaries": solver.boundaries.describe(),
        **({} if coast is None else {"sea": coast.facts}),
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
