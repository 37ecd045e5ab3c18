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
    widths = torch.tensor([m.shape[1] for m in cells.maxima], device=best.device)
    starts = torch.tensor([0, *(m.numel() for m in cells.maxima)], device=best.device).cumsum(0)
    maxima = torch.cat([m.flatten() for m in cells.maxima])
    top_level = len(cells.maxima) - 1
    rows, columns = cells.maxima[0].shape

    state = _start(cells, origins, directions, far, highest)
    state["level"] = torch.zeros_like(state["id"])
    while len(state["id"]):
        u, v, z, du, dv, dz, ru, rv, t, far_t = (state[k] for k in _REAL)
        level, iu, iv = state["level"], state["iu"], state["iv"]
        # The block of cells that the ray is in, and where it leaves it.
        cu, cv = iu >> level, iv >> level
        high_u = torch.minimum((cu + 1) << level, columns + torch.zeros_like(cu))
        high_v = torch.minimum((cv + 1) << level, rows + torch.zeros_like(cv))
        tu = (cells.us[torch.where(du > 0, high_u, cu << level)] - u) * ru
        tv = (cells.vs[torch.where(dv > 0, high_v, cv << level)] - v) * rv
        out = torch.maximum(torch.minimum(tu, tv), t)
        lowest = z + dz * torch.where(dz < 0, out, t)
        reached = lowest <= maxima[starts[level] + cv * widths[level] + cu]
        moves = ~(reached & (level > 0))
        at_leaf = torch.nonzero(reached & (level == 0) & (far_t >= 0))[:, 0]
        done = torch.zeros_like(moves)
        if len(at_leaf):
            ray = state["id"][at_leaf]
            hit, number = leaf(origins[ray], directions[ray], iv[at_leaf], iu[at_leaf], t[at_leaf], out[at_leaf])
            counts = (hit <= far_t[at_leaf]) & (hit < torch.inf)
            best[ray] = torch.where(counts, hit, torch.inf)
            what[ray] = torch.where(counts, number, -1)
            done[at_leaf] = counts
        # Into the next block, or down into this one.
        across = tu <= tv
        next_u = torch.where(du > 0, high_u, (cu << level) - 1)
        next_v = torch.where(dv > 0, high_v, (cv << level) - 1)
        along_u = cells.index(u + du * out, cells.us).clamp(cu << level, high_u - 1)
        along_v = cells.index(v + dv * out, cells.vs).clamp(cv << level, high_v - 1)
        new_u, new_v = torch.where(across, next_u, along_u), torch.where(across, along_v, next_v)
        left = ((new_u >> (level + 1)) != (iu >> (level + 1))) | ((new_v >> (level + 1)) != (iv >> (level + 1)))
        state["level"] = torch.where(moves, (level + left.long()).clamp(max=top_level), level - 1)
        state["iu"], state["iv"] = torch.where(moves, new_u, iu), torch.where(moves, new_v, iv)
        state["t"] = t = torch.where(moves, out, t)
        outside = (state["iu"] < 0) | (state["iu"] >= columns) | (state["iv"] < 0) | (state["iv"] >= rows)
        done |= outside | (t > far_t) | ((dz >= 0) & (z + dz * t > highest))
        _drop(state, done)
    return best, what


_REAL = ("u", "v", "z", "du", "dv", "dz", "ru", "rv", "t", "far")


def _start(cells: Cells, origins: Tensor, directions: Tensor, far: Tensor, highest: float) -> dict[str, Tensor]:
    """Rays in the coordinates of the grid, at the point where they come down to the highest point of all."""
    u, v, z = origins[:, 0] - cells.corner[0], cells.corner[1] - origins[:, 1], origins[:, 2]
    du, dv, dz = directions[:, 0], -directions[:, 1], directions[:, 2]
    du, dv = (torch.where(d.abs() < _TINY, torch.where(d < 0, -_TINY, _TINY).to(d.dtype), d) for d in (du, dv))
    ceiling = highest + _ABOVE
    t = torch.where((z > ceiling) & (dz < 0), (ceiling - z) / dz, 0.0).clamp(min=0)
    state = {"u": u, "v": v, "z": z, "du": du, "dv": dv, "dz": dz, "ru": 1 / du, "rv": 1 / dv, "t": t}
    state["iu"], state["iv"] = cells.index(u + du * t, cells.us), cells.index(v + dv * t, cells.vs)
    state["far"] = far.clamp(max=FAR)
    alive = ((dz < 0) | (z <= highest)) & (t <= far) & torch.isfinite(t)
    alive = torch.nonzero(alive)[:, 0]
    return {"id": alive, **{name: value[alive] for name, value in state.items()}}


def _drop(state: dict[str, Tensor], done: Tensor) -> None:
    """Throws finished rays out; while they are few they stay where they are, stopped by a far of -1."""
    state["far"] = torch.where(done, -1.0, state["far"])
    for name in ("iu", "iv"):
        state[name] = torch.where(done, 0, state[name])
    alive = torch.nonzero(state["far"] >= 0)[:, 0]
    if len(alive) < _COMPACT * len(done) or len(done) < _FEW:
        for name in state:
            state[name] = state[name][alive]
