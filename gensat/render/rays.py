"""Rays, and what they hit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SKY, TERRAIN, ROOF, WALL, OBJECT, MESH = range(6)
"""The kinds of a hit."""

KINDS = ("sky", "terrain", "roof", "wall", "object", "mesh")
"""Their names; the index is the code."""


@dataclass(frozen=True)
class Rays:
    """Rays in the scene frame.

    Args:
        origins: where each begins, metres.
        directions: unit vectors.
    """

    origins: Float[Tensor, "*shape 3"]
    directions: Float[Tensor, "*shape 3"]

    @property
    def shape(self) -> torch.Size:
        """Shape without the coordinate axis: (h, w) for a camera."""
        return self.directions.shape[:-1]

    def flat(self) -> Rays:
        """The same as (n, 3)."""
        return Rays(self.origins.reshape(-1, 3), self.directions.reshape(-1, 3))

    def at(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 3"]:
        """Points at distances ``t`` in metres; what is infinitely far is not finite."""
        return self.origins + t[..., None] * self.directions

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Rays:
        """The same on another device or in another dtype."""
        return Rays(self.origins.to(device, dtype), self.directions.to(device, dtype))


@dataclass(frozen=True)
class Hits:
    """The first surface that each ray meets.

    Args:
        t: metres along the ray; infinite where there is none.
        kind: 0 sky, 1 terrain, 2 roof, 3 wall, 4 object, 5 mesh.
        index: number of the building or object, -1 for none.
        normal: unit outward normal of the surface; 0 for the sky.
        edge: number of the footprint edge of a prism's wall (see :class:`gensat.render.prisms.Prisms`), -1 for none.
    """

    t: Float[Tensor, "*shape"]
    kind: Int[Tensor, "*shape"]
    index: Int[Tensor, "*shape"]
    normal: Float[Tensor, "*shape 3"]
    edge: Int[Tensor, "*shape"]

    @classmethod
    def none(cls, rays: Rays) -> Hits:
        """Nothing but sky, in the shape, dtype and place of the rays."""
        shape, like = rays.shape, rays.directions
        empty = torch.full(shape, -1, dtype=torch.int64, device=like.device)
        far = torch.full(shape, torch.inf, dtype=like.dtype, device=like.device)
        return cls(far, torch.zeros_like(empty), empty, torch.zeros_like(like), empty.clone())

    @property
    def hit(self) -> Tensor:
        """Whether there is a surface, bool."""
        return self.kind != SKY

    def nearer(self, other: Hits) -> Hits:
        """The nearer of two hits for each ray; of equal ones, the first."""
        mine = self.t <= other.t
        return Hits(
            torch.where(mine, self.t, other.t),
            torch.where(mine, self.kind, other.kind),
            torch.where(mine, self.index, other.index),
            torch.where(mine[..., None], self.normal, other.normal),
            torch.where(mine, self.edge, other.edge),
        )

    def reshape(self, *shape: int) -> Hits:
        """The same hits in another shape."""
        return Hits(
            self.t.reshape(shape),
            self.kind.reshape(shape),
            self.index.reshape(shape),
            self.normal.reshape(*shape, 3),
            self.edge.reshape(shape),
        )


def state(*tensors: Tensor) -> tuple:
    """Something that is another when one of the tensors was changed in place or moved, to keep by it what was built of them.

    Tensors made under ``torch.inference_mode`` do not count their changes: theirs are not noticed.
    """
    return (*(None if t.is_inference() else t._version for t in tensors), *(t.device for t in tensors))
