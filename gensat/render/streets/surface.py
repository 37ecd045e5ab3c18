"""The ground of a plan: which material where, paint on it, and the land-cover classes.

Materials are drawn into coverage masks of 0.25 m cells; between cells the mask is interpolated and sharpened, so that an edge is straight to a few centimetres.
Paint is exact: the distance to each line.
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from rasterio import features
from rasterio.transform import from_origin
from torch import Tensor
from torch.nn import functional

from gensat.render.grid import Grid
from gensat.render.streets.materials import MATERIALS, NAMES, ground_albedo
from gensat.render.streets.noise import between, fractal, stripes
from gensat.render.streets.plan import Marking, Plan

CELL = 0.25
"""Metres of a cell of the masks."""

_FINE = 3  # a cell's coverage is counted on so many rows and columns
_SHARP = 8


class Surface:
    """The ground of a plan, ready to be looked up.

    Args:
        plan: of the street.
    """

    def __init__(self, plan: Plan) -> None:
        self.seed = plan.seed
        count = round(2 * plan.half / CELL)
        self.grid = Grid.centred(count, count, CELL)
        transform = from_origin(self.grid.left, self.grid.top, CELL / _FINE, CELL / _FINE)
        shapes = [(a, NAMES.index(m)) for a, m in plan.areas if not a.is_empty]
        ids = features.rasterize(
            shapes,
            out_shape=(count * _FINE, count * _FINE),
            transform=transform,
            fill=NAMES.index(plan.kind.yard),
            dtype="uint8",
        )
        self.used = sorted(int(i) for i in np.unique(ids))
        fine = torch.from_numpy(ids)
        self.masks = torch.cat([functional.avg_pool2d((fine == number)[None].float(), _FINE) for number in self.used])
        self.paint = _Paint(plan.markings)

    def material(self, x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Number of the material that covers most of a point."""
        return torch.tensor(self.used, device=x.device)[self._weights(x, y).argmax(dim=1)]

    def _weights(self, x: Tensor, y: Tensor) -> Tensor:
        rows, columns = self.grid.pixels(x, y)
        grid = torch.stack([columns / self.grid.columns * 2 - 1, rows / self.grid.rows * 2 - 1], dim=-1)
        found = functional.grid_sample(
            self.masks[None].to(x), grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0].T
        sharp = found**_SHARP
        return sharp / sharp.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def albedo(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " n"], footprint: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Linear RGB of the ground with its paint; ``footprint`` is the size of a pixel there, metres."""
        weights = self._weights(x, y)
        points = torch.stack([x, y], dim=1)
        total = torch.zeros(len(x), 3, dtype=x.dtype, device=x.device)
        for column, number in enumerate(self.used):
            some = torch.nonzero(weights[:, column] > 0.01)[:, 0]
            if len(some):
                same = torch.full_like(some, number)
                value = ground_albedo(same, points[some], footprint[some], self.seed)
                total = total.index_add(0, some, value * weights[some, column, None])
        colour, cover = self.paint(x, y, footprint)
        worn = (0.55 + 0.8 * fractal(points, 0.5, self.seed + 91)).clamp(max=1.0)
        return torch.lerp(total, colour, (cover * worn)[:, None])

    def classes(self, grid: Grid) -> Int[Tensor, "h w"]:
        """Layout classes at the centres of a grid's cells, without what stands on the ground."""
        x, y = (v.float().reshape(-1) for v in grid.centres())
        lands = torch.tensor([MATERIALS[name].land for name in NAMES])
        return lands[self.material(x, y)].reshape(grid.rows, grid.columns)


class _Paint:
    """Lines by their distance; a line is looked at only in the cells it comes near."""

    cell = 4.0

    def __init__(self, markings: list[Marking]) -> None:
        self.values = torch.tensor(
            [[m.x0, m.y0, m.x1, m.y1, m.width, m.dash, m.gap, *m.colour] for m in markings], dtype=torch.float32
        ).reshape(-1, 10)
        self.where: dict[tuple[int, int], list[int]] = {}
        for number, m in enumerate(markings):
            line = shapely.LineString([(m.x0, m.y0), (m.x1, m.y1)]).buffer(m.width / 2 + 0.5)
            x0, y0, x1, y1 = (int(v // self.cell) for v in line.bounds)
            for i in range(x0, x1 + 1):
                for j in range(y0, y1 + 1):
                    box = shapely.box(i * self.cell, j * self.cell, (i + 1) * self.cell, (j + 1) * self.cell)
                    if line.intersects(box):
                        self.where.setdefault((i, j), []).append(number)

        width = max((len(v) for v in self.where.values()), default=0)
        self.low = torch.tensor([min((k[a] for k in self.where), default=0) for a in (0, 1)])
        size = [max((k[a] for k in self.where), default=0) - int(self.low[a]) + 1 for a in (0, 1)]
        self.table = torch.full((*size, width), -1, dtype=torch.int64)
        for (i, j), numbers in self.where.items():
            self.table[i - int(self.low[0]), j - int(self.low[1]), : len(numbers)] = torch.tensor(numbers)

    def __call__(self, x: Tensor, y: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor]:
        """Colour (n, 3) and coverage (n) of paint."""
        colour = torch.zeros(len(x), 3, dtype=x.dtype, device=x.device)
        cover = torch.zeros_like(x)
        if not len(self.values):
            return colour, cover
        table, values = self.table.to(x.device), self.values.to(x)
        i = (x / self.cell).floor().long() - int(self.low[0])
        j = (y / self.cell).floor().long() - int(self.low[1])
        inside = torch.nonzero((i >= 0) & (i < table.shape[0]) & (j >= 0) & (j < table.shape[1]))[:, 0]
        lines = table[i[inside], j[inside]]
        for column in range(table.shape[2]):
            some = torch.nonzero(lines[:, column] >= 0)[:, 0]
            if not len(some):
                break
            at, v = inside[some], values[lines[some, column]]
            dx, dy = v[:, 2] - v[:, 0], v[:, 3] - v[:, 1]
            length = torch.hypot(dx, dy).clamp(min=1e-6)
            px, py = x[at] - v[:, 0], y[at] - v[:, 1]
            along, across = (px * dx + py * dy) / length, (py * dx - px * dy) / length
            blur = footprint[at].clamp(min=0.01)
            here = between(across, -v[:, 4] / 2, v[:, 4] / 2, blur) * between(along, 0.0, length, blur)
            period = v[:, 5] + v[:, 6]
            for dash, gap in {(float(a), float(b)) for a, b in v[:, 5:7].unique(dim=0)}:
                if gap > 0:
                    same = (v[:, 5] == dash) & (v[:, 6] == gap) & (period > 0)
                    here = torch.where(same, here * stripes(along, dash + gap, dash, blur), here)
            more = here > cover[at]
            cover = cover.index_put((at[more],), here[more])
            colour = colour.index_put((at[more],), v[more, 7:10])
        return colour, cover
