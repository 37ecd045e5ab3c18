"""A sea or lake that is held at its level: whatever runs out of it or into it, its surface stays where it is said to be.

After every step the cells of the body have the depth of the level, and what that adds or takes is counted. The water is still,
except where it adjoins cells that flow: there it brings along what the flow needs, so that land is fed as by a sea and not as by
a pool of one cell. For discharges on faces (local inertial) that is the discharge of the shore, which the scheme averages with
its neighbours. For momenta at cells (full shallow water) it is the velocity of water that comes from a sea at rest without
losing energy: with a the depth of the level above the sill of the face, c^2 = g h, and R = u - 2 c the wave that runs from
the land towards the sea (u towards the land),

    inflow    h + u^2 / (2 g) = a and u - 2 c = R, at most critical: h = 2 a / 3, u = c
    outflow   h = a, the velocity head is lost in the sea

and the velocity of the held cell is that of depth a whose wave towards the land, u + 2 c, is the same. A sea held still on a dry
bed so gives q = (2/3)^(3/2) sqrt(g) a^(3/2), the discharge of a broad-crested weir (Chow 1959, section 3-8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.series import Series, described
from gensat.hydro.state import State

_DRY = 1e-6  # metres under which water on the shore has no velocity
_CHOKED = math.sqrt(2 / 3)  # critical velocity over sqrt(g a)


@dataclass(frozen=True, eq=False)
class Held:
    """Cells whose water level is given: low + min(t / rise, 1) (high - low) + tide(t). Build one with :meth:`over`.

    Args:
        area: (h, w) bool, the cells; all of them exist.
        bed: (h, w) float64 metres, and ``exists`` (h, w) bool, of the domain.
        exists: see there.
        low: metres above the datum: (), (k) or (\\*b, k), of the cells row by row.
        high: likewise; ``low`` where it does not rise.
        rise: seconds; 0: ``high`` from the beginning.
        tide: metres that are added over time, of all scenarios or of each.
        where: in words, for run.json.
    """

    area: Bool[np.ndarray, "h w"]
    bed: Float[np.ndarray, "h w"]
    exists: Bool[np.ndarray, "h w"]
    low: Tensor
    high: Tensor
    rise: float = 0.0
    tide: Series | None = None
    where: str = ""

    @classmethod
    def over(
        cls,
        domain: Domain,
        area: Bool[np.ndarray, "h w"],
        level: Float[np.ndarray, "h w"] | Tensor | float | int,
        *,
        low: Float[np.ndarray, "h w"] | Tensor | float | int | None = None,
        rise: float | int = 0.0,
        tide: Series | None = None,
        where: str = "",
    ) -> Held:
        """Over the cells of a mask; those that never lie below the level are left out.

        Args:
            domain: where.
            area: the cells; what lies outside the domain is left out.
            level: metres above the datum: a number, (\\*b, 1, 1), (h, w) or (\\*b, h, w).
            low: the level at the beginning, if it rises.
            rise: seconds in which it does.
            tide: metres to add over time.
            where: in words.

        Raises:
            InputError: levels that are not finite, a rise below 0, or no cell below the level.
        """
        if not (math.isfinite(rise) and rise >= 0):
            raise InputError(f"a rise in {rise:g} s cannot be; give 0 or more")
        high, first = (_field(value, domain) for value in (level, level if low is None else low))
        tops = torch.maximum(high, first).reshape(-1, *high.shape[-2:]).amax(0).numpy()
        highest = np.broadcast_to(tops + (tide.highest if tide is not None else 0.0), domain.shape)
        kept = area & domain.exists & (domain.bed < highest)
        if not kept.any():
            raise InputError("no cell of the sea lies below its level; give a higher level, or the sea of the place")
        return cls(
            kept, domain.bed, domain.exists, _of_cells(first, kept), _of_cells(high, kept), float(rise), tide, where
        )

    @cached_property
    def cells(self) -> Tensor:
        """(k) flat indices, row by row."""
        return torch.from_numpy(np.flatnonzero(self.area))

    @cached_property
    def floor(self) -> Tensor:
        """(k) metres of the bed."""
        return torch.from_numpy(self.bed[self.area].astype(np.float64))

    def level(self, time: Tensor) -> Tensor:
        """(\\*b, k) or (\\*b, 1) metres above the datum at (\\*b) seconds."""
        level = self.high
        if self.rise > 0:
            level = self.low + (time / self.rise).clamp(0, 1)[..., None] * (self.high - self.low)
        return level if self.tide is None else level + self.tide.at(time)[..., None]

    def hold(self, state: State, gravity: float) -> Tensor:
        """Brings the body to its level at the time of a state, in place; (\\*b) cubic metres a square metre of cell that this adds."""
        state.depth, state.x, state.y = state.depth.contiguous(), state.x.contiguous(), state.y.contiguous()
        flat = state.depth.reshape(*state.batch, -1)
        cells = self.cells.to(flat.device)
        wanted = (self.level(state.time.cpu()) - self.floor).clamp_(min=0).to(flat).expand(*state.batch, len(cells))
        added = (wanted.double() - flat.index_select(-1, cells)).sum(-1)  # of differences: small beside the sea itself
        flat.index_copy_(-1, cells, wanted)
        if state.staggered:
            for discharge, axis in ((state.x, 1), (state.y, 0)):
                self._calm_faces(discharge, axis)
        else:
            for momentum, axis in ((state.x, 1), (state.y, 0)):
                self._calm_cells(flat, momentum, axis, gravity)
        if state.work is not None:
            state.work.touch(cells)
        return added

    def fastest_rise(self) -> Tensor:
        """() or (\\*b) metres a second by which the level of each scenario rises at most."""
        found = torch.zeros((), dtype=torch.float64)
        if self.rise > 0:
            found = found + (self.high - self.low).amax(-1).clamp(min=0) / self.rise
        if self.tide is not None and len(self.tide.times) > 1:
            span = self.tide.times.diff().reshape(-1, *[1] * (self.tide.values.ndim - 1))
            found = found + (self.tide.values.diff(dim=0) / span).amax(0).clamp(min=0)
        return found

    def describe(self) -> dict[str, Any]:
        """For run.json and checkpoints."""
        return {
            "where": self.where,
            "cells": described(self.cells.numpy()),
            "level_at_first": described(self.low.numpy()),
            "level": described(self.high.numpy()),
            "rise_seconds": self.rise,
            "tide": None if self.tide is None else self.tide.describe(),
        }

    def _calm_faces(self, discharge: Tensor, axis: int) -> None:
        """Nothing flows between held cells, but beside the shore what flows there: the scheme averages over neighbours."""
        flat = discharge.reshape(*discharge.shape[:-2], -1)
        still, beside, shore = (part.to(flat.device) for part in self._faces[axis])
        flat.index_fill_(-1, still, 0)
        flat.index_copy_(-1, beside, flat.index_select(-1, shore))

    def _calm_cells(self, depth: Tensor, momentum: Tensor, axis: int, g: float) -> None:
        flat = momentum.reshape(*momentum.shape[:-2], -1)
        flat.index_fill_(-1, self.cells.to(flat.device), 0)
        ring, land, towards, over, beyond = (part.to(flat.device) for part in self._shore[axis])
        if not len(ring):
            return
        h = depth[..., land].double()
        u = torch.where(h > _DRY, towards * flat[..., land].double() / h.clamp(min=_DRY), 0)
        mine = depth[..., ring].double()
        speed = still_water((mine - over).clamp(min=0), (h - beyond).clamp(min=0), u, g)
        flat[..., ring] = (towards * speed * mine).to(flat)

    @cached_property
    def _faces(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Across rows and across columns, flat: faces within the body, those of them beside the shore, and that of the shore."""
        return _inner_faces(self.area, self.exists, 0), _inner_faces(self.area, self.exists, 1)

    @cached_property
    def _shore(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Along rows and columns: flat held cells with land on one side, that land, the way to it (1 or -1), and metres of the sill above either bed."""
        return self._shore_along(0), self._shore_along(1)

    def _shore_along(self, axis: int) -> tuple[Tensor, ...]:
        free = self.exists & ~self.area
        ahead, behind = _shifted(free, -1, axis), _shifted(free, 1, axis)
        rings, lands, ways = [], [], []
        step = 1 if axis == 1 else self.area.shape[1]
        for there, other, way in ((ahead, behind, 1), (behind, ahead, -1)):
            ring = np.flatnonzero(self.area & there & ~other)
            rings.append(ring)
            lands.append(ring + way * step)
            ways.append(np.full(len(ring), float(way)))
        ring, land, towards = (np.concatenate(part) for part in (rings, lands, ways))
        bed = self.bed.reshape(-1)
        sill = np.maximum(bed[ring], bed[land])
        return tuple(torch.from_numpy(part) for part in (ring, land, towards, sill - bed[ring], sill - bed[land]))


def still_water(a: Tensor, b: Tensor, u: Tensor, g: float) -> Tensor:
    """Velocity towards the land of held water, as the module says.

    Args:
        a: metres of its level above the sill.
        b: metres of the land's level above the sill.
        u: m/s of the land's water, away from the held cell.
        g: m/s2.
    """
    c_a, c_b = (g * a).sqrt(), (g * b).sqrt()
    wave = u - 2 * c_b
    c = (-wave + (3 * c_a**2 - wave**2 / 2).clamp(min=0).sqrt()) / 3
    choked = wave >= -_CHOKED * c_a
    inflow = torch.where(choked, (3 * _CHOKED - 2) * c_a, wave + 4 * c - 2 * c_a)
    found = torch.where(wave + 2 * c_a < 0, wave + 2 * c_a, inflow)
    return torch.where((-u >= c_b) & (b > 0), u, found)  # what runs out faster than waves is not held up


def _inner_faces(area: np.ndarray, exists: np.ndarray, axis: int) -> tuple[Tensor, ...]:
    rim = [(1, 1) if i == axis else (0, 0) for i in (0, 1)]
    held, free = np.pad(area, rim), np.pad(exists & ~area, rim)
    before = tuple(slice(None, -1) if i == axis else slice(None) for i in (0, 1))
    behind = tuple(slice(1, None) if i == axis else slice(None) for i in (0, 1))
    shore = (held[before] & free[behind]) | (free[before] & held[behind])
    inner = (held[before] | held[behind]) & ~shore
    ahead, back = _shifted(shore, -1, axis), _shifted(shore, 1, axis)
    step = 1 if axis == 1 else shore.shape[1]
    before_it, behind_it = np.flatnonzero(inner & ahead & ~back), np.flatnonzero(inner & back & ~ahead)
    beside = np.concatenate([before_it, behind_it])
    found = np.setdiff1d(np.flatnonzero(inner), beside, assume_unique=True)
    return tuple(
        torch.from_numpy(part) for part in (found, beside, np.concatenate([before_it + step, behind_it - step]))
    )


def _shifted(mask: np.ndarray, by: int, axis: int) -> np.ndarray:
    """The mask moved along an axis, False where nothing comes in."""
    moved = np.roll(mask, by, axis)
    edge = [slice(None)] * 2
    edge[axis] = slice(0, by) if by > 0 else slice(by, None)
    moved[tuple(edge)] = False
    return moved


def _field(level: Any, domain: Domain) -> Tensor:
    """(\\*b, 1, 1) or (\\*b, h, w) float64."""
    found = torch.as_tensor(level, dtype=torch.float64)
    if not torch.isfinite(found).all():
        raise InputError("a level of the sea is not finite; give metres above the datum of the DEM")
    if found.ndim < 2:
        found = found.reshape(*found.shape, 1, 1)
    if tuple(found.shape[-2:]) not in ((1, 1), domain.shape):
        raise InputError(f"a level of shape {tuple(found.shape)} does not fit {domain.shape}; give one for each cell")
    return found


def _of_cells(field: Tensor, area: np.ndarray) -> Tensor:
    """(\\*b, k) of the cells, (\\*b, 1) where the level is the same everywhere."""
    if tuple(field.shape[-2:]) == (1, 1) != area.shape:
        return field[..., 0]
    return field[..., torch.from_numpy(area)]
