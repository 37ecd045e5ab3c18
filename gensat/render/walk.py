"""Rays through a grid of cells, exactly and in order: the 2-D traversal of Amanatides and Woo (1987) on a pyramid of maxima.

Each ray keeps the integer cell it is in; the planes between cells are never rounded, so no cell is left out. Whole blocks
of cells that lie below the ray are crossed in one step (the maximum mipmaps of Tevs, Ihrke and Seidel 2008). The loop runs
over steps, all rays at once; those that are done drop out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

FAR = 1e8
"""Metres: where the outermost cells and all rays end."""

_TINY = 1e-12  # a ray that runs along an axis never crosses the planes across it
_ABOVE = 1e-2  # metres above the highest point at which a ray from the sky begins, so that it begins in the open
_COMPACT = 0.75  # share of rays still under way from which the others are thrown out
_FEW = 4096  # rays that are cheap to sort at every step

Leaf: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(origins, directions, row, column, t in, t out) of rays in one cell each -> (t of the hit or inf, number of what was hit)."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells between planes, the outermost of which are endless.

    Args:
        us: planes along u = x - left, increasing, -FAR first and FAR last.
        vs: planes along v = top - y.
        step: distance of the inner planes.
        shift: cells by which the first inner plane lies off u = 0: 0, or 0.5 if there is a half cell before it.
        corner: local (x, y) of u = v = 0.
        maxima: highest z in blocks of 2^k x 2^k cells, k = 0, 1, ...; -inf where there is nothing.
    """

    us: Float[Tensor, " w1"]
    vs: Float[Tensor, " h1"]
    step: float
    shift: float
    corner: tuple[float, float]
    maxima: tuple[Tensor, ...]

    @classmethod
    def over(
        cls, highest: Float[Tensor, "h w"], corner: tuple[float, float], step: float, *, halves: bool = False
    ) -> Cells:
        """Cells whose highest points are given, the endless ones around included.

        Args:
            highest: highest z of each cell; -inf or NaN where it is empty.
            corner: local (x, y) of the north-western corner of the finite cells.
            step: side of a cell in metres.
            halves: the first and last finite cells are half as wide.
        """
        rows, columns = highest.shape
        us, vs = (_planes(n, step, halves, highest) for n in (columns, rows))
        level = torch.where(torch.isnan(highest), -torch.inf, highest)
        maxima = [level]
        while max(level.shape) > 1:
            down, right = level.shape[0] % 2, level.shape[1] % 2
            level = torch.nn.functional.pad(level, (0, right, 0, down), value=-torch.inf)
            level = torch.nn.functional.max_pool2d(level[None], 2)[0]
            maxima.append(level)
        return cls(us, vs, step, 0.5 if halves else 0.0, corner, tuple(maxima))

    def index(self, w: Tensor, planes: Tensor) -> Tensor:
        """Number of the cell that holds coordinate ``w`` along one axis."""
        last = len(planes) - 2
        inner = (torch.floor(w / self.step + self.shift).long() + 1).clamp(1, last - 1)
        return torch.where(w < 0, 0, torch.where(w >= planes[-2], last, inner))


def _planes(cells: int, step: float, halves: bool, like: Tensor) -> Tensor:
    inner = torch.arange(cells - 1, dtype=torch.float64, device=like.device) * step
    if halves:
        inner = (inner - 0.5 * step).clamp(0, (cells - 3) * step)
    ends = inner.new_tensor([-FAR, FAR])
    return torch.cat([ends[:1], inner, ends[1:]]).to(like.dtype)


@torch.no_grad()
def walk(
    cells: Cells, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"], far: Float[Tensor, " n"], leaf: Leaf
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """First hit of each ray among what stands in the cells.

    Args:
        cells: the grid and its maxima.
        origins: local metres.
        directions: unit vectors.
        far: metres after which a hit does not count.
        leaf: tests rays against the content of one cell each.

    Returns:
        Metres along the ray (inf for none), and the number that ``leaf`` gave (-1 for none).
    """
    count = len(directions)
    best = torch.full((count,), torch.inf, dtype=directions.dtype, device=directions.device)
    what = torch.full((count,), -1, dtype=torch.int64, device=directions.device)
    highest = float(cells.maxima[-1].max())
    if count == 0 or highest == -torch.inf:
        return best, what
    device = best.device
    widths = torch.tensor([m.shape[1] for m in cells.maxima], device=device, dtype=torch.int32)
    starts = torch.tensor([0, *(m.numel() for m in cells.maxima)], device=device).cumsum(0).to(torch.int32)
    maxima = torch.cat([m.flatten() for m in cells.maxima])
    top_level = len(cells.maxima) - 1
    rows, columns = cells.maxima[0].shape

    real, whole = _start(cells, origins, directions, far, highest)
    while whole.shape[1]:
        u, v, z, du, dv, dz, ru, rv, t, far_t = real
        ray, iu, iv, level, east, south = whole
        # The block of cells that the ray is in, and the planes by which it leaves it. Tables are read by index_select and
        # choices between integers made by arithmetic: on a CPU both are several times faster than [] and where.
        cu, cv = iu >> level, iv >> level
        to_u = ((cu + east) << level).clamp(max=columns)
        to_v = ((cv + south) << level).clamp(max=rows)
        tu = (cells.us.index_select(0, to_u) - u) * ru
        tv = (cells.vs.index_select(0, to_v) - v) * rv
        out = torch.maximum(torch.minimum(tu, tv), t)
        lowest = torch.minimum(z + dz * t, z + dz * out)
        block = starts.index_select(0, level) + cv * widths.index_select(0, level) + cu
        reached = (lowest <= maxima.index_select(0, block)) & (far_t >= 0)
        moving = ~reached | (level == 0)
        at_leaf = torch.nonzero(reached & moving)[:, 0]
        # Copied here, as the state changes below.
        row, column, which = (w.index_select(0, at_leaf).long() for w in (iv, iu, ray))
        enters = t.index_select(0, at_leaf)
        # Into the next block across one axis, staying within this one along the other; or down into this one.
        across = tu <= tv
        by_u, moves = across.to(torch.int32), moving.to(torch.int32)
        stays = (cu + by_u * (cv - cu)) << level
        along = _inner(cells, torch.where(across, v + dv * out, u + du * out), across)
        along = torch.minimum(torch.maximum(along, stays), stays + (1 << level) - 1)
        along_u, along_v = along.clamp(max=columns - 1), along.clamp(max=rows - 1)
        new_u = along_u + by_u * (to_u + east - 1 - along_u)
        new_v = to_v + south - 1 + by_u * (along_v - to_v - south + 1)
        parent = level + 1
        left = ((new_u ^ iu) | (new_v ^ iv)) >> parent
        climbs = left.clamp(0, 1) | (left < 0)
        whole[3] = (level + moves * (climbs + 1) - 1).clamp(max=top_level)
        whole[1], whole[2] = iu + moves * (new_u - iu), iv + moves * (new_v - iv)
        real[8] = t = torch.maximum(t, out * moving)  # neither is negative
        outside = (whole[1] < 0) | (whole[1] >= columns) | (whole[2] < 0) | (whole[2] >= rows)
        done = outside | (t > far_t) | ((dz >= 0) & (z + dz * t > highest))
        if len(at_leaf):
            there = origins.index_select(0, which), directions.index_select(0, which)
            hit, number = leaf(*there, row, column, enters, out.index_select(0, at_leaf))
            counts = (hit <= far_t.index_select(0, at_leaf)) & (hit < torch.inf)
            best[which] = torch.where(counts, hit, torch.inf)
            what[which] = torch.where(counts, number, -1)
            done[at_leaf] = done[at_leaf] | counts
        real, whole = _drop(real, whole, done)
    return best, what


def _inner(cells: Cells, w: Tensor, across: Tensor) -> Tensor:
    """Cells along v where ``across``, else along u, as :meth:`Cells.index` gives them; int32, not clamped to the grid."""
    number = torch.floor(w / cells.step + cells.shift).to(torch.int32) + 1
    if cells.shift:  # half cells at both ends, whose outer planes lie where no multiple of the step is
        end = torch.where(across, cells.vs[-2], cells.us[-2])
        number = number * (w >= 0) + (w >= end)
    return number


def _start(cells: Cells, origins: Tensor, directions: Tensor, far: Tensor, highest: float) -> tuple[Tensor, Tensor]:
    """Rays in the coordinates of the grid, where they come down to the highest point of all: what changes and what not.

    Rows of the real part: u, v, z, du, dv, dz, 1 / du, 1 / dv, t, far. Of the whole part: number of the ray, column, row, level,
    and whether it goes east and south.
    """
    u, v, z = origins[:, 0] - cells.corner[0], cells.corner[1] - origins[:, 1], origins[:, 2]
    du, dv, dz = directions[:, 0], -directions[:, 1], directions[:, 2]
    du, dv = (torch.where(d.abs() < _TINY, torch.where(d < 0, -_TINY, _TINY).to(d.dtype), d) for d in (du, dv))
    ceiling = highest + _ABOVE
    t = torch.where((z > ceiling) & (dz < 0), (ceiling - z) / dz, 0.0).clamp(min=0)
    far = far.clamp(max=FAR)
    alive = torch.nonzero(((dz < 0) | (z <= highest)) & (t <= far) & torch.isfinite(t))[:, 0]
    real = torch.stack([u, v, z, du, dv, dz, 1 / du, 1 / dv, t, far]).index_select(1, alive)
    column, row = cells.index(real[0] + real[3] * real[8], cells.us), cells.index(real[1] + real[4] * real[8], cells.vs)
    whole = torch.stack([alive, column, row, torch.zeros_like(alive), (real[3] > 0).long(), (real[4] > 0).long()])
    return real, whole.to(torch.int32)


def _drop(real: Tensor, whole: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
    """Throws finished rays out; while they are few they stay where they are, stopped by a far of -1."""
    kept = (~done).to(real.dtype)
    real[9] = real[9] * kept + (kept - 1)
    whole[1:3] *= ~done
    stopped = real[9] < 0
    if len(done) < _FEW or int(stopped.sum()) > (1 - _COMPACT) * len(done):
        alive = torch.nonzero(~stopped)[:, 0]
        return real.index_select(1, alive), whole.index_select(1, alive)
    return real, whole
