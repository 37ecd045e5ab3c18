"""Height fields as exact surfaces: bilinear patches through cell centres, or flat cell columns with vertical walls.

A ray meets a bilinear patch where a quadratic in its parameter is 0 (Ramsey, Potter and Hansen 2004); a column where the
ray enters the cell below its top (a wall) or comes down to its top within the cell. Distances are differentiable with
respect to the heights by the implicit function theorem: dt = -df / (df/dt) at the hit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.render.grid import Grid
from gensat.render.rays import SKY, TERRAIN, WALL, Hits, Rays, state
from gensat.render.walk import Cells, walk


@dataclass(frozen=True, eq=False)
class HeightField:
    """A surface over a grid.

    Args:
        heights: local z of each cell, metres; row 0 is north. NaN cells are holes that nothing hits.
        grid: where the cells lie.
        surface: ``"bilinear"``: interpolated between cell centres, flat from the outermost centres to the edge;
            ``"columns"``: each cell a flat top with vertical walls to lower neighbours.
        beyond: what lies outside the grid: ``"edge"``: the heights of the edge go on outward for ever; a number: a
            level plane at that z, with a wall where it is higher than the edge; None: nothing.

    Raises:
        InputError: the heights do not have the size of the grid, or an unknown surface.
    """

    heights: Float[Tensor, "rows columns"]
    grid: Grid
    surface: Literal["bilinear", "columns"] = "bilinear"
    beyond: Literal["edge"] | float | int | None = "edge"

    def __post_init__(self) -> None:
        if self.heights.shape != (self.grid.rows, self.grid.columns):
            raise InputError(f"heights {tuple(self.heights.shape)} are not {self.grid.rows} x {self.grid.columns}")
        if self.surface not in ("bilinear", "columns"):
            raise InputError(f"surface {self.surface!r} is not known; choose bilinear or columns")
        object.__setattr__(self, "_built", {})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HeightField:
        """The same on another device or in another dtype."""
        return replace(self, heights=self.heights.to(device, dtype))

    def cast(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> Hits:
        """First hit of rays (n), terrain or wall; ``t`` is differentiable with respect to heights and rays.

        Args:
            rays: (n, 3) origins and directions.
            far: metres after which nothing counts.
        """
        t, cell = self.first(rays, far)
        hits = Hits.none(rays)
        hit = torch.nonzero(cell >= 0)[:, 0]
        found = Rays(rays.origins[hit], rays.directions[hit])
        resolve = self._on_column if self.surface == "columns" else self._on_patch
        exact, normal, wall = resolve(found, t[hit], cell[hit])
        return Hits(
            hits.t.index_put((hit,), exact),
            hits.kind.index_put((hit,), torch.where(wall, WALL, TERRAIN)),
            hits.index,
            hits.normal.index_put((hit,), normal),
            hits.edge,
        )

    def first(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> tuple[Tensor, Tensor]:
        """Distance and cell of the first hit, without normals and gradients; inf and -1 for none."""
        built = self._accelerate(rays.directions.dtype)
        far = torch.full_like(rays.directions[:, 0], torch.inf) if far is None else far
        leaf = self._column_leaf if self.surface == "columns" else self._patch_leaf
        columns = built["cells"].maxima[0].shape[1]

        def test(origins: Tensor, directions: Tensor, row: Tensor, column: Tensor, t: Tensor, out: Tensor) -> Any:
            cell = row * columns + column
            return leaf(built, origins, directions, cell, t, out), cell

        return walk(built["cells"], rays.origins.detach(), rays.directions.detach(), far.detach(), test)

    def height_at(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Local z of the surface at points, differentiable; NaN where there is none."""
        cells = self._accelerate(x.dtype)["cells"]
        column = cells.index(x - cells.corner[0], cells.us)
        row = cells.index(cells.corner[1] - y, cells.vs)
        origin = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
        cell = (row * (len(cells.us) - 1) + column).reshape(-1)
        if self.surface == "columns":
            return self._tops(cell, x.dtype).reshape(x.shape)
        a, b, c, d, u0, v0 = self._patch(cell, x.dtype)
        p, q = origin[:, 0] - cells.corner[0] - u0, cells.corner[1] - origin[:, 1] - v0
        return (a + b * p + c * q + d * p * q).reshape(x.shape)

    def _accelerate(self, dtype: torch.dtype) -> dict[str, Any]:
        """Cells, maxima and coefficients, built once for each state of the heights."""
        key = (dtype, *state(self.heights))
        if key not in self._built:  # type: ignore[attr-defined]
            with torch.no_grad():
                self._built.clear()  # type: ignore[attr-defined]
                self._built[key] = self._build(self.heights.detach().to(dtype))  # type: ignore[attr-defined]
        return self._built[key]  # type: ignore[attr-defined]

    def _build(self, heights: Tensor) -> dict[str, Any]:
        grid, corner = self.grid, (self.grid.left, self.grid.top)
        if self.surface == "columns":
            cells = Cells.over(self._ring(heights), corner, grid.step)
            return {"cells": cells, "tops": cells.maxima[0].flatten()}
        nodes = _pad(heights)
        corners = torch.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, :-1], nodes[1:, 1:]])
        cells = Cells.over(self._ring(corners.amax(dim=0)), corner, grid.step, halves=True)
        built: dict[str, Any] = {"cells": cells}
        every = torch.arange(cells.maxima[0].numel(), device=heights.device)
        built["patches"] = torch.stack(self._coefficients(heights, every, cells))
        return built

    def _ring(self, finite: Tensor) -> Tensor:
        """Adds the endless cells around."""
        if self.beyond == "edge":
            return _pad(finite)
        value = torch.nan if self.beyond is None else float(self.beyond)
        return torch.nn.functional.pad(finite, (1, 1, 1, 1), value=value)

    def _tops(self, cell: Tensor, dtype: torch.dtype) -> Tensor:
        """Heights of columns by number of cell, differentiable."""
        row, column = cell // (self.grid.columns + 2) - 1, cell % (self.grid.columns + 2) - 1
        return self._at(self.heights, row, column, self._off(row, column, 0)).to(dtype)

    def _off(self, row: Tensor, column: Tensor, more: int) -> Tensor:
        """Whether cells, numbered from the first finite one, are endless."""
        rows, columns = self.grid.rows + more, self.grid.columns + more
        return (row < 0) | (row >= rows) | (column < 0) | (column >= columns)

    def _at(self, heights: Tensor, row: Tensor, column: Tensor, off: Tensor) -> Tensor:
        inner = heights[row.clamp(0, self.grid.rows - 1), column.clamp(0, self.grid.columns - 1)]
        if self.beyond == "edge":
            return inner
        return torch.where(off, torch.nan if self.beyond is None else float(self.beyond), inner)

    def _patch(self, cell: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return self._coefficients(self.heights.to(dtype), cell, self._accelerate(dtype)["cells"])

    def _coefficients(self, heights: Tensor, cell: Tensor, cells: Cells) -> tuple[Tensor, ...]:
        """a, b, c, d, u0, v0 of patches z = a + b p + c q + d p q with p = u - u0, q = v - v0; differentiable."""
        columns, step = self.grid.columns + 3, self.grid.step
        row, column = cell // columns, cell % columns
        off = self._off(row - 1, column - 1, 1)
        # Patch 1 lies before the first node, so that of patch i the nodes are i - 2 and i - 1.
        z00, z01, z10, z11 = (
            self._at(heights, row - 2 + i, column - 2 + j, off) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        u0 = torch.where(column == 0, 0.0, cells.us[column])
        v0 = torch.where(row == 0, 0.0, cells.vs[row])
        return z00, (z01 - z00) / step, (z10 - z00) / step, (z11 - z10 - z01 + z00) / step**2, u0, v0

    @staticmethod
    def _column_leaf(
        built: dict[str, Any], origins: Tensor, directions: Tensor, cell: Tensor, t: Tensor, out: Tensor
    ) -> Tensor:
        top, z, dz = built["tops"].index_select(0, cell), origins[:, 2], directions[:, 2]
        lands = (dz < 0) & (z + dz * out <= top)
        hit = torch.where(lands, torch.maximum((top - z) / dz, t), torch.inf)
        return torch.where(z + dz * t <= top, t, hit)

    @staticmethod
    def _patch_leaf(
        built: dict[str, Any], origins: Tensor, directions: Tensor, cell: Tensor, t: Tensor, out: Tensor
    ) -> Tensor:
        a, b, c, d, u0, v0 = built["patches"].index_select(1, cell).unbind(dim=0)
        corner = built["cells"].corner
        du, dv, dz = directions[:, 0], -directions[:, 1], directions[:, 2]
        p = origins[:, 0] - corner[0] - u0 + du * t
        q = corner[1] - origins[:, 1] - v0 + dv * t
        # Height above the patch after s more metres: e + f s + g s^2.
        e = origins[:, 2] + dz * t - (a + b * p + c * q + d * p * q)
        f = dz - b * du - c * dv - d * (p * dv + q * du)
        g = -d * du * dv
        inside = f * f - 4 * e * g
        half = -0.5 * (f + torch.where(f < 0, -1.0, 1.0) * inside.clamp(min=0).sqrt())
        roots = torch.stack([half / g, e / half])
        roots = torch.where((roots >= 0) & (inside >= 0) & ~torch.isnan(roots), roots, torch.inf)
        s = torch.where(e <= 0, 0.0, roots.amin(dim=0))
        return torch.where(t + s <= out, t + s, torch.inf)

    def _on_column(self, rays: Rays, t: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cells = self._accelerate(t.dtype)["cells"]
        top = self._tops(cell, t.dtype)
        row, column = cell // (self.grid.columns + 2), cell % (self.grid.columns + 2)
        d = rays.directions.detach()
        at = rays.origins.detach() + t[:, None] * d
        # A hit below the top is a wall, on the side that the ray came in by.
        wall = (at[:, 2] < top.detach() - 1e-5 * (1 + top.detach().abs())) | (d[:, 2] >= 0)
        west = torch.where(d[:, 0] > 0, cells.us[column], cells.us[column + 1]) + cells.corner[0]
        north = cells.corner[1] - torch.where(d[:, 1] < 0, cells.vs[row], cells.vs[row + 1])
        by_x = (at[:, 0] - west).abs() <= (at[:, 1] - north).abs()
        axis = torch.where(wall, torch.where(by_x, 0, 1), 2)
        normal = -torch.nn.functional.one_hot(axis, 3) * torch.sign(d)
        plane = torch.stack([west, north, top], dim=1).gather(1, axis[:, None])[:, 0]
        towards = rays.directions.gather(1, axis[:, None])[:, 0]
        safe = torch.where(towards == 0, torch.ones_like(towards), towards)
        exact = (plane - rays.origins.gather(1, axis[:, None])[:, 0]) / safe
        # A ray that begins inside a column has its hit where it begins.
        return torch.where((exact.detach() - t).abs() < 1e-2 + 1e-3 * t, exact, t), normal, wall

    def _on_patch(self, rays: Rays, t: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        corner = self._accelerate(t.dtype)["cells"].corner
        a, b, c, d, u0, v0 = self._patch(cell, t.dtype)
        at = rays.origins + t[:, None] * rays.directions
        p, q = at[:, 0] - corner[0] - u0, corner[1] - at[:, 1] - v0
        above = at[:, 2] - (a + b * p + c * q + d * p * q)
        east, north = b + d * q, -(c + d * p)
        normal = torch.nn.functional.normalize(torch.stack([-east, -north, torch.ones_like(east)], dim=1), dim=1)
        slope = (rays.directions * torch.stack([-east, -north, torch.ones_like(east)], dim=1)).sum(dim=1).detach()
        # At a step up to the plane beyond, or where the ray begins below the ground, there is no root to move.
        smooth = (above.detach().abs() < 1e-2 + 1e-4 * t) & (slope.abs() > 1e-9)
        exact = torch.where(smooth, t - above / torch.where(smooth, slope, 1.0), t)
        return exact, normal, ~smooth & (above.detach() < -1e-2)


def _pad(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values[None], (1, 1, 1, 1), mode="replicate")[0]


__all__ = ["SKY", "HeightField"]
