"""How sure a flood is: the same scenario over many terrains and levels that are all as likely, and in how many a cell is wet.

A DEM is wrong by a metre or more, and wrong alike over hundreds of metres, so its error cannot be averaged away cell by cell: it
moves the whole coast (Hunter and Goodchild 1997; Leon, Heuvelink and Phinn 2014). Errors are drawn as Gaussian fields with
the covariance s^2 exp(-d / L), by circulant embedding (Dietrich and Newsam 1997): one FFT a member, exact up to what is said of
long correlations below. Errors of the level are one number a member.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft2, next_fast_len, rfft2

from gensat.errors import InputError
from gensat.hydro.bathtub import bathtub, spill_level
from gensat.hydro.coast import ground_level, held_sea
from gensat.hydro.domain import Domain
from gensat.hydro.products import FloodProducts
from gensat.hydro.scenario import Scenario
from gensat.hydro.simulate import simulate

_MOST = 10_000
_PADDING = 4.0  # correlation lengths that the torus of the FFT is longer than the grid


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The members of an ensemble; member i is the same however many there are.

    Args:
        members: how many.
        dem_error: metres, standard deviation of the heights (the vertical RMSE of the DEM); 0: the DEM is exact.
        correlation: metres over which the correlation of that error falls to 1/e; 0: cells err on their own.
        level_error: metres, standard deviation of the level; 0: the level is exact.
        seed: of the draws.

    Raises:
        InputError: fewer than two members, negative errors, or nothing that varies.
    """

    members: int
    dem_error: float | int = 0.0
    correlation: float | int = 0.0
    level_error: float | int = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.members <= _MOST:
            raise InputError(f"an ensemble of {self.members} is none; give 2 to {_MOST} members")
        for name, value in (
            ("DEM error", self.dem_error),
            ("correlation", self.correlation),
            ("level error", self.level_error),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"a {name} of {value:g} m cannot be; give 0 or more")
        if not (self.dem_error or self.level_error):
            raise InputError("nothing varies in the ensemble; give --dem-error or --level-error in metres")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is below 0; give 0 or more")

    def level(self, member: int) -> float:
        """Metres by which the level of a member is off."""
        return float(self._draws(member, 1).standard_normal()) * float(self.level_error)

    def bed(self, member: int, domain: Domain) -> Float[np.ndarray, "h w"]:
        """Metres by which the bed of a member is off."""
        return self.field(member, domain.shape, float(domain.dx)) if self.dem_error else np.zeros(domain.shape)

    def field(self, member: int, shape: tuple[int, int], dx: float) -> Float[np.ndarray, "h w"]:
        """A Gaussian field of the DEM's error.

        Args:
            member: which one.
            shape: rows and columns.
            dx: metres a cell.
        """
        rng = self._draws(member, 0)
        if self.correlation < 0.1 * dx:
            return rng.standard_normal(shape) * self.dem_error
        root = _spectrum(shape, float(dx), float(self.correlation))
        rows, columns = root[0]
        field = irfft2(rfft2(rng.standard_normal((rows, columns))) * root[1], (rows, columns))[: shape[0], : shape[1]]
        return np.asarray(field) * float(self.dem_error)

    def describe(self) -> dict[str, Any]:
        """For run.json and tags."""
        return {
            "members": self.members,
            "dem_error_m": float(self.dem_error),
            "correlation_m": float(self.correlation),
            "level_error_m": float(self.level_error),
            "seed": self.seed,
        }

    def _draws(self, member: int, which: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, 2 * member + which]))


@lru_cache(maxsize=2)
def _spectrum(shape: tuple[int, int], dx: float, correlation: float) -> tuple[tuple[int, int], np.ndarray]:
    """Rows and columns of the torus for a grid, and the root of the spectrum of exp(-d / correlation) on it."""
    # Of a correlation longer than the grid, the part that is the same everywhere outgrows any torus: it is capped.
    extra = min(_PADDING * correlation / dx, 4.0 * max(shape))
    rows, columns = (next_fast_len(int(n + extra) + 1) for n in shape)
    down, right = (np.minimum(np.arange(n), n - np.arange(n)) * dx for n in (rows, columns))
    covariance = np.exp(-np.hypot(down[:, None], right[None]) / correlation)
    return (rows, columns), np.sqrt(np.clip(rfft2(covariance).real, 0, None))


def probability(
    domain: Domain, scenario: Scenario, ensemble: Ensemble, *, on_member: Callable[[], None] = lambda: None
) -> tuple[FloodProducts, dict[str, Any]]:
    """The flood as the DEM and the level have it, and the share of the members in which each cell is part of it.

    Where the water of a level comes from is found once, on the DEM as it is.

    Args:
        domain: where.
        scenario: any; errors of a level are for what has one, as a stage of hand is too.
        ensemble: what varies.
        on_member: called after each.

    Returns:
        As :func:`gensat.hydro.simulate.simulate`, with ``probability``.

    Raises:
        InputError: as there; a level error without a level.
    """
    if ensemble.level_error and not scenario.holds and (scenario.moves or scenario.inflows):
        raise InputError("a level error needs a level; leave --level-error out of floods by rain or inflow")
    made, more = simulate(domain, scenario)
    wet = np.zeros(domain.shape)
    if scenario.chosen == "bathtub":
        bed, field, sources = ground_level(domain, scenario)
        spill = None
        if not ensemble.dem_error and np.ndim(field) == 0 and not scenario.threshold:
            spill = spill_level(bed, sources.cells, neighbours=scenario.neighbours)  # one pass for all levels
        for member in range(ensemble.members):
            level = np.asarray(field) + ensemble.level(member)
            if spill is not None:
                with np.errstate(invalid="ignore"):
                    wet += spill < level
            else:
                there = bathtub(
                    bed + ensemble.bed(member, domain), level, sources.cells, neighbours=scenario.neighbours
                )
                wet += replace(made, depth=there).extent
            on_member()
    else:
        sea = held_sea(domain, scenario).area if scenario.holds else None
        for member in range(ensemble.members):
            other = replace(domain, bed=domain.bed + ensemble.bed(member, domain))
            shifted = scenario
            if ensemble.level_error:
                shifted = replace(scenario, datum_offset=float(scenario.datum_offset) + ensemble.level(member))
            wet += simulate(other, shifted, sea=sea)[0].extent
            on_member()
    facts = {**made.facts, "ensemble": ensemble.describe()}
    return replace(made, probability=wet / ensemble.members, facts=facts), more
