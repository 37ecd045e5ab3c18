"""Buildings as vertical prisms over footprints with holes.

A ray enters a prism through a wall where it crosses a footprint edge from outside below the roof, or through the roof where
it comes down to its height over the footprint. Both are exact, and watertight at the corners: whether a ray passes left or
right of a corner is decided by one and the same number for the two walls that meet there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.render.bins import Bins, pairs, sort_into_cells
from gensat.render.rays import ROOF, WALL, Hits, Rays, state

_CREASE = 1e-4  # metres that walls reach above roofs for a ray, so that none slips through the edge between them


@dataclass(frozen=True, eq=False)
class Prisms:
    """Vertical prisms: flat roofs, vertical walls that reach down into the ground.

    Build them with :meth:`of`. Walls are edges of footprints with the inside of the building on their left.

    Args:
        footprints: a valid polygon each, in local metres; shells counter-clockwise, holes clockwise.
        top: local z of each roof.
        base: local z of the foot of each building: its lowest ground.
        edges: (x0, y0, x1, y1) of each wall in local metres.
        owner: building of each edge.
        along: metres along its ring at which each edge begins; facade coordinates start there.
        attributes: of each building, as its file has them.
    """

    footprints: tuple[shapely.Polygon, ...]
    top: Float[Tensor, " n"]
    base: Float[Tensor, " n"]
    edges: Float[Tensor, "m 4"]
    owner: Int[Tensor, " m"]
    along: Float[Tensor, " m"]
    attributes: tuple[Mapping[str, Any], ...] = field(default=())

    @classmethod
    def of(
        cls,
        footprints: Sequence[shapely.Polygon],
        top: Sequence[float | int] | np.ndarray | Tensor,
        base: Sequence[float | int] | np.ndarray | Tensor,
        *,
        attributes: Sequence[Mapping[str, Any]] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Prisms:
        """Prisms over polygons in local metres, one top and base each."""
        oriented = tuple(shapely.orient_polygons(p) for p in footprints)
        edges, owner, along = [np.zeros((0, 4))], [np.zeros(0, int)], [np.zeros(0)]
        for number, polygon in enumerate(oriented):
            for ring in (polygon.exterior, *polygon.interiors):
                xy = shapely.get_coordinates(ring)
                lengths = np.hypot(*(xy[1:] - xy[:-1]).T)
                kept = lengths > 0
                edges.append(np.concatenate([xy[:-1], xy[1:]], axis=1)[kept])
                owner.append(np.full(kept.sum(), number))
                along.append((np.cumsum(lengths) - lengths)[kept])

        def real(values: Any) -> Tensor:
            return torch.as_tensor(values, device=device, dtype=dtype)

        return cls(
            oriented,
            real(top),
            real(base),
            real(np.concatenate(edges)),
            torch.as_tensor(np.concatenate(owner), device=device, dtype=torch.int64),
            real(np.concatenate(along)),
            tuple(attributes) or ({},) * len(oriented),
        )

    def __post_init__(self) -> None:
        if not len(self.footprints) == len(self.top) == len(self.base):
            raise InputError(f"{len(self.footprints)} footprints have {len(self.top)} tops; give one for each")
        object.__setattr__(self, "_built", {})

    def __len__(self) -> int:
        return len(self.footprints)

    @classmethod
    def none(cls) -> Prisms:
        """No buildings."""
        return cls.of((), (), ())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Prisms:
        """The same on another device or in another dtype."""
        moved = {name: getattr(self, name).to(device, dtype) for name in ("top", "base", "edges", "along")}
        return replace(self, owner=self.owner.to(device), **moved)

    def cast(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> Hits:
        """First hit of rays (n), roof or wall; ``t`` is differentiable with respect to ``top``, ``edges`` and rays.

        Args:
            rays: (n, 3) origins and directions.
            far: metres after which nothing counts.
        """
        hits = Hits.none(rays)
        if not len(self):
            return hits
        _, thing = self.first(rays, far)
        hit = torch.nonzero(thing >= 0)[:, 0]
        found, thing = Rays(rays.origins[hit], rays.directions[hit]), thing[hit]
        roof = thing >= len(self.edges)
        edge = torch.where(roof, 0, thing)
        building = torch.where(roof, thing - len(self.edges), self.owner[edge])
        x0, y0, x1, y1 = self.edges[edge].to(found.directions.dtype).unbind(dim=1)
        outward = torch.nn.functional.normalize(torch.stack([y1 - y0, x0 - x1, torch.zeros_like(x0)], dim=1), dim=1)
        up = torch.zeros_like(outward)
        up[:, 2] = 1
        top = self.top[building].to(found.directions.dtype)
        ahead = torch.where(roof, found.directions[:, 2], 1.0)
        t = torch.where(
            roof, (top - found.origins[:, 2]) / ahead, self._crossing(found.origins, found.directions, edge)[0]
        )
        return Hits(
            hits.t.index_put((hit,), t),
            hits.kind.index_put((hit,), torch.where(roof, ROOF, WALL)),
            hits.index.index_put((hit,), building),
            hits.normal.index_put((hit,), torch.where(roof[:, None], up, outward)),
            hits.edge.index_put((hit,), torch.where(roof, -1, edge)),
        )

    def first(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> tuple[Tensor, Tensor]:
        """Distance of the first hit, and its number: an edge, or the number of edges + that of a roof; inf and -1 for none."""
        far = torch.full_like(rays.directions[:, 0], torch.inf) if far is None else far.detach()
        if not len(self):
            return torch.full_like(far, torch.inf), torch.full_like(far, -1, dtype=torch.int64)
        origins, directions = rays.origins.detach(), rays.directions.detach()
        return self._bins(directions.dtype).first(origins, directions, far, self._intersect)

    def over(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Number of the building whose roof lies uppermost over points, -1 for none."""
        down = torch.zeros(*x.shape, 3, dtype=x.dtype, device=x.device)
        down[..., 2] = -1
        highest = float(self.top.max()) + 1 if len(self) else 0.0
        rays = Rays(torch.stack([x, y, torch.full_like(x, highest)], dim=-1), down).flat()
        _, thing = self.first(rays)
        return torch.where(thing >= 0, thing - len(self.edges), -1).reshape(x.shape)

    def _bins(self, dtype: torch.dtype) -> Bins:
        """Edges and roofs by cells, built once for each state of the heights and walls."""
        key = (dtype, *state(self.top, self.edges))
        built: dict[Any, Bins] = self._built  # type: ignore[attr-defined]
        if key not in built:
            ends = self.edges.detach().cpu().double().numpy()
            walls = shapely.linestrings(ends.reshape(-1, 2, 2))
            shapes = np.concatenate([walls, np.array(self.footprints, dtype=object)])
            shapely.prepare(shapes)
            tops = self.top.detach().cpu().double().numpy() + _CREASE
            bins = sort_into_cells(
                shapely.bounds(shapes),
                np.concatenate([tops[self.owner.cpu().numpy()], tops]),
                lambda thing, boxes: shapely.intersects(shapes[thing], shapely.box(*boxes.T)),
                dtype=dtype,
                device=self.top.device,
            )
            built.clear()
            built[key] = bins
        return built[key]

    def _crossing(self, origins: Tensor, directions: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        """Metres to the vertical plane of edges, and whether the ray comes in between their ends."""
        x0, y0, x1, y1 = self.edges.index_select(0, edge).to(directions.dtype).unbind(dim=1)
        (ox, oy, _), (dx, dy, _) = origins.unbind(dim=1), directions.unbind(dim=1)
        first = dx * (y0 - oy) - dy * (x0 - ox)
        second = dx * (y1 - oy) - dy * (x1 - ox)
        comes_in = (first > 0) & (second <= 0)
        # Not second - first, which loses the digits of a short wall far away.
        across = torch.where(comes_in, (y1 - y0) * dx - (x1 - x0) * dy, 1.0)
        comes_in = comes_in & (across < 0)
        return ((y1 - y0) * (x0 - ox) - (x1 - x0) * (y0 - oy)) / torch.where(comes_in, across, 1.0), comes_in

    def _intersect(self, origins: Tensor, directions: Tensor, thing: Tensor, near: Tensor, far: Tensor) -> Tensor:
        edges, hit = len(self.edges), torch.full_like(near, torch.inf)
        z, dz = origins[:, 2], directions[:, 2]
        wall = torch.nonzero(thing < edges)[:, 0]
        t, comes_in = self._crossing(*(w.index_select(0, wall) for w in (origins, directions, thing)))
        top = self.top[self.owner[thing[wall]]].to(t.dtype)
        comes_in = comes_in & (t >= 0) & (z[wall] + t * dz[wall] <= top + _CREASE)
        hit[wall] = torch.where(comes_in, t, torch.inf)
        roof = torch.nonzero((thing >= edges) & (dz < 0))[:, 0]
        building = thing[roof] - edges
        t = (self.top[building].to(hit.dtype) - z[roof]) / dz[roof]
        lands = torch.nonzero((t >= 0) & (t >= near[roof]) & (t <= far[roof]))[:, 0]
        t, roof, building = t[lands], roof[lands], building[lands]
        over = self._contains(building, *(origins[roof, :2] + t[:, None] * directions[roof, :2]).unbind(dim=1))
        hit[roof] = torch.where(over, t, torch.inf)
        return hit

    def _contains(self, building: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Whether points lie in footprints: the parity of the walls to the east (holes count like shells)."""
        buildings = torch.arange(len(self) + 1, device=building.device)
        start = torch.searchsorted(self.owner, buildings)
        every = torch.arange(len(self.owner), device=building.device)
        point, edge = pairs(start, every, building)
        x0, y0, x1, y1 = self.edges.index_select(0, edge).to(x.dtype).unbind(dim=1)
        px, py = x[point], y[point]
        spans = (y0 <= py) != (y1 <= py)
        rise = torch.where(spans, y1 - y0, 1.0)
        crossed = spans & (px < x0 + (py - y0) / rise * (x1 - x0))
        return torch.zeros_like(building).index_add(0, point, crossed.long()) % 2 == 1
