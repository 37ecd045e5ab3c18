"""Height above the nearest drainage (HAND): how far water has to rise in the channel that a cell drains to.

Depressions are filled and drainage follows the steepest way down (D8); cells that drain more than an area are channels; the
HAND of a cell is its height above the channel cell that its water reaches (Renno et al. 2008; Nobre et al. 2011). Water that
stands so high in the channels covers every cell with a smaller HAND. A synthetic rating curve (Zheng et al. 2018) says how high
a discharge stands in a reach, by Manning's equation over what is wet of the reach's own catchment.

Filling, the order of cells and what flows down it come from pyflwdir. Its directions follow the order of filling; here cells with a
lower neighbour take the steepest slope, as D8 is usually meant, and only flats keep that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.memory import require_memory

CHANNEL_KM2 = 1.0
"""Square kilometres that drain to a cell from which it is a channel, where nothing else is said."""

REACH = 1500.0
"""Metres of a reach, at most."""

MEMORY = {"stage": 70, "discharge": 150}
"""Bytes a cell at most, for the drainage with a stage, and with rating curves besides (measured: 60 and 140)."""

_FLATTEST = 1e-5  # slope of a reach at least, as of a river in a delta: filled reaches are level
_STAGES = np.concatenate([[0.0], np.geomspace(0.02, 60.0, 240)])  # metres
_D8 = {(0, 1): 1, (1, 1): 2, (1, 0): 4, (1, -1): 8, (0, -1): 16, (-1, -1): 32, (-1, 0): 64, (-1, 1): 128}
_NONE = -9999.0


@dataclass(frozen=True, eq=False)
class Drainage:
    """Where water flows to on a domain. Build one with :meth:`of`.

    Args:
        domain: the terrain.
        filled: (h, w) float64 metres, depressions filled; NaN outside.
        flow: pyflwdir's directions (FlwdirRaster).
        area: (h, w) square metres that drain to each cell, its own included; NaN outside.
    """

    domain: Domain
    filled: Float[np.ndarray, "h w"]
    flow: Any
    area: Float[np.ndarray, "h w"]

    @classmethod
    def of(cls, domain: Domain) -> Drainage:
        """Fills the bed and finds its drainage; water leaves at the edge of the domain.

        Whole basins are needed: what drains in from beyond the edge is not known, and neither cutting a DEM into blocks nor joining
        them is sound for directions and areas. Cells of the edge let all their water go.

        Raises:
            InputError: pyflwdir is not installed, or the memory is too small.
        """
        try:
            import pyflwdir
        except ImportError as error:
            raise InputError("HAND needs pyflwdir; install it with pip install 'gensat[flood]'") from error
        require_memory(domain, domain.bed.size * MEMORY["stage"])
        # pyflwdir ranks heights in float32, in which a DEM is stored too.
        bed = np.where(domain.exists, domain.bed.astype(np.float32), np.nan).astype(np.float64)
        filled, order = pyflwdir.dem.fill_depressions(bed, nodata=np.nan)
        codes = steepest(filled, order)
        flow = pyflwdir.from_array(codes, ftype="d8", check_ftype=False, latlon=False)
        cells = np.asarray(flow.upstream_area(unit="cell"), np.float64)
        return cls(domain, filled, flow, np.where(domain.exists, cells * domain.area, np.nan))

    def channels(self, km2: float | int = CHANNEL_KM2) -> Bool[np.ndarray, "h w"]:
        """Cells to which more than an area drains.

        Raises:
            InputError: no cell has so much.
        """
        if not km2 > 0:
            raise InputError(f"a channel that drains {km2:g} km2 is none; give square kilometres above 0")
        with np.errstate(invalid="ignore"):
            found = self.area >= km2 * 1e6
        if not found.any():
            most = float(np.nanmax(self.area)) / 1e6
            raise InputError(
                f"no cell drains {km2:g} km2, at most {most:.3g} km2 of the DEM do; lower --channel, or give a larger DEM"
            )
        return found

    def channels_below(self, points: list[tuple[int, int]]) -> Bool[np.ndarray, "h w"]:
        """The ways that water takes from (row, column) of cells to the edge."""
        found = np.zeros(self.domain.shape, bool)
        for row, column in points:
            found.reshape(-1)[self.path(row, column)] = True
        return found

    def path(self, row: int, column: int) -> Int[np.ndarray, " n"]:
        """Flat indices of the cells that water from one takes to the edge, itself first."""
        way = [row * self.domain.shape[1] + column]
        while (after := int(self.downstream[way[-1]])) != way[-1]:
            way.append(after)
        return np.array(way, np.int64)

    def nearest(self, values: Float[np.ndarray, "h w"], channels: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """What a value is at the channel cell that each cell drains to; NaN where it drains to none."""
        known = np.where(channels, values, _NONE)
        carried = np.asarray(self.flow.fillnodata(known, _NONE, direction="up"), np.float64).reshape(self.domain.shape)
        return np.where((carried == _NONE) | ~self.domain.exists, np.nan, carried)

    def hand(self, channels: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Metres above the channel cell that each cell drains to: 0 in channels, NaN where it drains to none."""
        return self.filled - self.nearest(self.filled, channels)

    @cached_property
    def downstream(self) -> Int[np.ndarray, " n"]:
        """(h * w) flat index of the next cell; its own where water leaves, and outside."""
        down = np.asarray(self.flow.idxs_ds, np.int64).copy()
        own = np.arange(down.size)
        return np.where((down < 0) | (down >= down.size), own, down)

    @cached_property
    def length(self) -> Float[np.ndarray, " n"]:
        """(h * w) metres to the next cell; a cell's side where water leaves."""
        width = self.domain.shape[1]
        own = np.arange(self.downstream.size)
        aslant = (own // width != self.downstream // width) & (own % width != self.downstream % width)
        return np.where(aslant, np.sqrt(2.0), 1.0) * float(self.domain.dx)


@dataclass(frozen=True, eq=False)
class Reach:
    """A part of a channel with the cells that drain to it.

    Args:
        cells: (n) flat indices along the channel, downstream.
        length: metres.
        slope: of its bed.
        stages: (s) metres.
        discharges: (s) cubic metres a second at them, increasing.
    """

    cells: Int[np.ndarray, " n"]
    length: float
    slope: float
    stages: Float[np.ndarray, " s"]
    discharges: Float[np.ndarray, " s"]

    def stage(self, discharge: float | int) -> float:
        """Metres above the channel at which so much flows, between the stages of the curve.

        Raises:
            InputError: more than the reach can carry.
        """
        if not discharge <= self.discharges[-1]:
            raise InputError(
                f"a discharge of {discharge:g} m3/s stands more than {self.stages[-1]:g} m high here; give a smaller one"
            )
        return float(np.interp(discharge, self.discharges, self.stages))


def stage_depth(
    hand: Float[np.ndarray, "h w"], stage: Float[np.ndarray, "h w"] | float | int
) -> Float[np.ndarray, "h w"]:
    """float32 metres of water of a stage over HAND; 0 where higher, or where HAND or stage is not known.

    Cell by cell, so blocks of a HAND raster of any size equal the whole.
    """
    with np.errstate(invalid="ignore"):
        depth = np.asarray(stage) - hand
    return np.where(depth > 0, depth, 0).astype(np.float32)


def reaches_along(
    drainage: Drainage, cells: Int[np.ndarray, " n"], *, longest: float | int = REACH
) -> tuple[list[Reach], Float[np.ndarray, "h w"]]:
    """Cuts the way of a river into reaches with a synthetic rating curve each.

    Of a reach at stage y: the cells draining to it with HAND below y hold a volume V and have a bed surface A; over its length L the
    flow area is V / L, the wetted perimeter A / L, and Q = V / L (V / A)^(2/3) S^(1/2) / n (Zheng et al. 2018, eq. 1 to 6) with the
    mean n of those cells.

    Args:
        drainage: of the domain.
        cells: flat indices along the river, downstream (:meth:`Drainage.path`).
        longest: metres of a reach at most.

    Returns:
        The reaches, downstream, and (h, w) which of them (0, 1, ...) each cell drains to, NaN for none.
    """
    domain = drainage.domain
    along = np.concatenate([[0.0], np.cumsum(drainage.length[cells])])
    count = max(1, int(np.ceil(along[-1] / longest)))
    which = np.minimum((along[:-1] / along[-1] * count).astype(int), count - 1)
    river = np.zeros(domain.shape, bool)
    river.reshape(-1)[cells] = True
    number = np.full(domain.shape, np.nan)
    number.reshape(-1)[cells] = which
    drains_to = drainage.nearest(np.nan_to_num(number), river)
    hand = drainage.hand(river).reshape(-1)
    bed = np.where(domain.exists, domain.bed, np.nan)
    surface = (domain.area * np.sqrt(1 + _gentle(bed, 0, domain.dx) ** 2 + _gentle(bed, 1, domain.dx) ** 2)).reshape(-1)
    roughness = domain.manning.reshape(-1)
    heights = drainage.filled.reshape(-1)
    found = []
    for i in range(count):
        own = cells[which == i]
        length = float(drainage.length[own].sum())
        last = int(drainage.downstream[own[-1]])
        slope = max(float(heights[own[0]] - heights[last]) / length, _FLATTEST)
        inside = np.flatnonzero((drains_to.reshape(-1) == i) & (hand < _STAGES[-1]))
        order = inside[np.argsort(hand[inside], kind="stable")]
        below = np.searchsorted(hand[order], _STAGES, side="left")  # cells with HAND < stage

        def upto(values: np.ndarray, order: np.ndarray = order, below: np.ndarray = below) -> np.ndarray:
            return np.concatenate([[0.0], np.cumsum(values[order])])[below]

        cells_wet = below.astype(np.float64)
        volume = (_STAGES * cells_wet - upto(hand)) * domain.area
        bottom = upto(surface)
        n = upto(roughness) / np.maximum(cells_wet, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            flow = volume / length * (volume / bottom) ** (2 / 3) * np.sqrt(slope) / n
        # A terrace that is just under water adds bed but no depth: the curve may not fall for it.
        discharges = np.maximum.accumulate(np.nan_to_num(flow))
        found.append(Reach(own, length, slope, _STAGES, discharges))
    return found, drains_to


def discharge_depth(
    drainage: Drainage, inflows: list[tuple[int, int, float]], *, longest: float | int = REACH
) -> tuple[Float[np.ndarray, "h w"], list[dict[str, float]]]:
    """Depth of discharges that come in at cells and run down to the edge, by rating curves of their reaches.

    Args:
        drainage: of the domain.
        inflows: row, column and cubic metres a second; where two run together the deeper one counts.
        longest: metres of a reach at most.

    Returns:
        (h, w) float32 metres, and of each reach its length, slope, discharge and stage.
    """
    depth = np.zeros(drainage.domain.shape, np.float32)
    said = []
    for row, column, discharge in inflows:
        cells = drainage.path(row, column)
        reaches, drains_to = reaches_along(drainage, cells, longest=longest)
        stages = np.array([reach.stage(discharge) for reach in reaches])
        inside = np.isfinite(drains_to)
        stage = np.where(inside, stages[np.nan_to_num(drains_to).astype(int)], 0.0)
        river = drainage.channels_below([(row, column)])
        depth = np.maximum(depth, stage_depth(drainage.hand(river), stage))
        said += [
            {
                "length_m": round(r.length, 1),
                "slope": r.slope,
                "discharge_m3_s": float(discharge),
                "stage_m": round(float(s), 3),
            }
            for r, s in zip(reaches, stages, strict=True)
        ]
    return depth, said


def _gentle(bed: np.ndarray, axis: int, dx: float | int) -> np.ndarray:
    """The lesser of the slopes to both neighbours: a wall beside a cell is not the bed of that cell."""
    steps = np.abs(np.diff(bed, axis=axis)) / float(dx)
    none = np.full_like(np.take(bed, [0], axis), np.nan)
    both = np.concatenate([none, steps], axis), np.concatenate([steps, none], axis)
    return np.nan_to_num(np.fmin(*both))


def steepest(filled: Float[np.ndarray, "h w"], order: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """D8 codes (ESRI's: 1 east, 2 south-east ... 128 north-east) of the steepest way down over the distance; the given code where
    no neighbour is lower. Ties go to the first of the codes."""
    padded = np.pad(filled, 1, constant_values=np.nan)
    best = np.zeros(filled.shape)
    codes = order.copy()
    height, width = filled.shape
    for (down, right), code in _D8.items():
        other = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        with np.errstate(invalid="ignore"):
            slope = (filled - other) / np.hypot(down, right)
            better = slope > best
        best = np.where(better, slope, best)
        codes = np.where(better, code, codes)
    return codes.astype(np.uint8)
