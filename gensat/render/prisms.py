"""Buildings as vertical prisms over footprints with holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from torch import Tensor


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

    def __len__(self) -> int:
        return len(self.footprints)
