"""Where the sea of a scenario is and how high it stands: as the source of a bathtub, and held at its level while a flood moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation

from gensat.errors import InputError
from gensat.hydro.bathtub import STRUCTURES, Sources, find_sources, reached
from gensat.hydro.domain import Domain
from gensat.hydro.metres import HIGHEST, LOWEST
from gensat.hydro.scenario import Scenario
from gensat.hydro.sea import Sea, level_on
from gensat.hydro.surge import Surge

if TYPE_CHECKING:
    from gensat.hydro.held import Held

RISE = 1.0
"""Hours in which a sea rises to its level, where nothing else is said."""


@dataclass(frozen=True, eq=False)
class Coast:
    """A sea that is held at its level, as a run takes it.

    Args:
        held: the water; None where no cell of it lies below the level.
        area: (h, w) bool, its cells, wet or not.
        start: (h, w) float64 metres of water at rest in the domain at the beginning.
        facts: for run.json.
        notes: what the user should know; sentences without a full stop.
    """

    held: Held | None
    area: Bool[np.ndarray, "h w"]
    start: Float[np.ndarray, "h w"]
    facts: dict[str, Any]
    notes: tuple[str, ...]


def ground_level(
    domain: Domain, scenario: Scenario, water: float | Surge | None = None, *, above: float = 0.0
) -> tuple[np.ndarray, Any, Sources]:
    """The bed (h, w) with NaN outside, the level (a number or (h, w)), and where the water comes from.

    Args:
        domain: where.
        scenario: with a level.
        water: the level, if it was read already.
        above: metres by which it gets higher in the course of time, for which sources are looked for.
    """
    level = scenario.water() if water is None else water
    if isinstance(level, Surge):
        if domain.crs is None:
            raise InputError("levels with a place need a DEM with a place; give one with a CRS, or one number")
        place = domain.canvas.bounds
        level.require_near((place[0] + place[2]) / 2, (place[1] + place[3]) / 2, domain.crs)
    bed = np.where(domain.exists, domain.bed, np.nan)
    field = level_on(level, domain.canvas)
    sea = None if scenario.sea is None else Sea(scenario.sea, domain.canvas).cells()
    points = [domain.cell_at_lonlat(lon, lat) for lon, lat in scenario.sources]
    return bed, field, find_sources(bed, field + above, points=points, sea=sea)


def held_sea(domain: Domain, scenario: Scenario, area: Bool[np.ndarray, "h w"] | None = None) -> Coast:
    """The sea of a scenario, held at its level.

    Its cells are those of ``scenario.sea``; else the sources of a bathtub, with all cells at or below 0 m that are connected to a
    source which is: a DEM says nothing of how deep its sea is, so the level is given at the shore. Where the sea has no
    heights (nodata) the cells of the DEM beside it are held.

    The level rises from the one the sea has in the DEM (0, or the lowest held cell where that is higher) within
    ``scenario.rise`` hours; with a tide, and no rise given, it is there from the beginning. At first there is water at rest
    at that first level wherever it is connected to the sea.

    Args:
        domain: where.
        scenario: with a level, a surge, or a tide, of a flood that moves.
        area: cells of the sea if they were found already, for another bed.

    Raises:
        InputError: as of :func:`ground_level`, or a tide that cannot be read.
    """
    from gensat.hydro.held import Held
    from gensat.hydro.series import Series

    tide = None if scenario.tide is None else Series.read(scenario.tide)
    if tide is not None and not LOWEST <= tide.lowest <= tide.highest <= HIGHEST:
        raise InputError(
            f"the tide runs from {tide.lowest:g} to {tide.highest:g} m, as no water does; give metres above the datum of the DEM"
        )
    above = 0.0 if tide is None else tide.highest
    how = ""
    level = scenario.water()
    notes = level.notes if isinstance(level, Surge) else ()
    if area is None:
        bed, field, sources = ground_level(domain, scenario, level, above=above)
        area, how = _body(bed, sources.cells, grows=scenario.sea is None), sources.how
        notes = (*notes, *sources.notes)
    else:
        bed, field = np.where(domain.exists, domain.bed, np.nan), level_on(level, domain.canvas)
    cells = area & domain.exists
    if not (cells & (domain.bed < field + above)).any():
        return Coast(None, area, np.zeros(domain.shape), {}, notes)
    hours = scenario.rise if scenario.rise is not None else (RISE if tide is None else None)
    rest = field if hours is None else np.minimum(field, max(0.0, float(domain.bed[cells].min())))
    held = Held.over(
        domain, cells, field, low=rest if hours else None, rise=3600 * float(hours or 0), tide=tide, where=how
    )
    first = rest + (0.0 if tide is None else float(tide.at(_zero())))
    with np.errstate(invalid="ignore"):
        wet = reached(bed < first, area)
    start = np.where(wet & domain.exists, np.nan_to_num(first - bed), 0.0)
    km2 = float(held.area.sum()) * domain.area / 1e6
    top = np.broadcast_to(field, domain.shape)[held.area] + above
    notes = (*notes, f"{held.area.sum()} cells ({km2:.4g} km2) are a sea that is held at its level")
    if hours and scenario.hours is not None and hours > scenario.hours:
        notes = (*notes, f"the flood ends before the level is reached, which takes {hours:g} hours (--rise)")
    facts = {
        "from": how,
        "cells": int(held.area.sum()),
        "km2": round(km2, 6),
        "highest_level_m": [round(float(top.min()), 4), round(float(top.max()), 4)],
        "rise_hours": hours,
        "tide": None if tide is None else tide.describe(),
    }
    return Coast(held, area, start, facts, notes)


def _body(bed: np.ndarray, sources: np.ndarray, *, grows: bool) -> np.ndarray:
    """The cells of the sea that is meant, some of them outside the DEM; of it, those beside that are not."""
    found = sources
    if grows:
        with np.errstate(invalid="ignore"):
            low = bed <= 0
        found = sources | reached(low, sources & low)
    return found | binary_dilation(found & np.isnan(bed), STRUCTURES[4])


def _zero() -> Any:
    import torch

    return torch.zeros((), dtype=torch.float64)
