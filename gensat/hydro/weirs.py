"""Water over walls of one cell: the law of the broad-crested weir, on the two faces that it passes.

Over a crest that is short beside a cell the depth is critical, and where the water behind stands above the crest, it holds the flow back
(Villemonte 1947):

    Q / b = (2/3)^(3/2) sqrt(g) H^(3/2) (1 - (H' / H)^(3/2))^0.385

with H and H' the levels before and behind, above the crest; with g = 9.81 the first factors are 1.70. A wall of one cell has two faces, and the
water on its crest is a cell of its own. Both carry the same law with another factor,

    q = K sqrt(g) H^(3/2) (1 - (H' / H)^(3/2))^0.385,      K = (2/3)^(3/2) / s,  s = (1 - s)^0.385

so that one after the other they let pass what the weir does: exactly where it falls freely, up to a fifth more where it is drowned. A face needs
to know its two cells only. Solvers take the law for the faces between a cell that is a wall and a lower one that is none.

The faces of a wall that runs obliquely are longer than the wall. Of a length L with the unit normal (a, b), those that look east or west cover a L and
the others b L; when a face carries the share a or b of the law, all of them carry that of a^2 L + b^2 L = L. The normal comes from the cells around, by
their structure tensor (Bigun and Granlund 1987): half and half where walls cross.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gensat.hydro.domain import Domain

DROWNED = 0.385
"""Exponent of Villemonte's reduction."""

SHARE = 0.6600656173039285
"""s = (1 - s)^0.385: (level on the crest over level before it)^(3/2) where the water falls freely behind."""

FACTOR = (2 / 3) ** 1.5 / SHARE

EVEN = 0.4
"""Of what would bring both cells of a face to one level in a step, the share that may pass: so levels do not swing about each other."""


SMOOTH = 1.5
"""Cells over which the steps of a wall are smoothed, and then its direction."""

Weirs = tuple[Float[Tensor, "h x"], Float[Tensor, "y w"]]
"""(h, w + 1) and (h + 1, w): the share of the law that a face carries, 0 to 1; 0 where it is no weir."""


def weir_faces(domain: Domain, device: torch.device | None = None, dtype: torch.dtype = torch.float64) -> Weirs | None:
    """The faces between a wall and a lower cell that is none, and what they carry; None without any."""
    walls, bed = domain.walls, domain.walled
    if walls is None or not walls.any():
        return None
    height, width = domain.shape
    eastern, southern = normals(walls)
    across, down = np.zeros((height, width + 1)), np.zeros((height + 1, width))
    across[:, 1:-1] = _share(walls[:, :-1], walls[:, 1:], bed[:, :-1], bed[:, 1:], eastern[:, :-1], eastern[:, 1:])
    down[1:-1] = _share(walls[:-1], walls[1:], bed[:-1], bed[1:], southern[:-1], southern[1:])
    return torch.from_numpy(across).to(device, dtype), torch.from_numpy(down).to(device, dtype)


def as_arrays(weirs: Weirs | None) -> tuple[np.ndarray, np.ndarray]:
    """For the kernels; two arrays of one entry where there are none."""
    return (np.zeros((1, 1)),) * 2 if weirs is None else (weirs[0].numpy(), weirs[1].numpy())


def normals(walls: Bool[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """How much of a wall's unit normal points east or west, and how much north or south, 0 to 1; 0 where no wall is near."""
    mass = walls.astype(np.float64)
    slopes = [gaussian_filter(mass, SMOOTH, order, mode="nearest") for order in ((0, 1), (1, 0))]
    squares = [gaussian_filter(slope * slope, SMOOTH, mode="nearest") for slope in slopes]
    whole = squares[0] + squares[1]
    known = whole > 1e-12
    east, south = (np.sqrt(np.where(known, square / np.where(known, whole, 1), 0)) for square in squares)
    return east, south


def _share(
    one: np.ndarray, other: np.ndarray, bed: np.ndarray, beside: np.ndarray, of_one: np.ndarray, of_other: np.ndarray
) -> np.ndarray:
    """What faces between two cells carry: the share of the one that is a wall and stands above the other."""
    return np.where(one & ~other & (bed > beside), of_one, np.where(other & ~one & (beside > bed), of_other, 0))


def weir(before: Tensor, behind: Tensor, g: float) -> Tensor:
    """Largest discharge through a face, m2/s, from the levels on both sides above the crest (metres, below 0 where they do not reach it)."""
    high = torch.maximum(before, behind).clamp(min=0)
    low = torch.minimum(before, behind).clamp(min=0)
    cube, drowned = high * high.sqrt(), low * low.sqrt()
    left = 1 - drowned / torch.where(cube > 0, cube, 1)
    return FACTOR * g**0.5 * cube * left.clamp(min=0) ** DROWNED


def weir_flux(
    water: Tensor, before: Tensor, behind: Tensor, share: Tensor, g: float, step: Tensor
) -> tuple[Bool[Tensor, "*b r x"], Tensor]:
    """For the full equations, whose fluxes know a step of the bed as a wall: which faces take the law, and what passes, m2/s.

    What falls over the crest follows the law. A flux that is larger than :data:`EVEN` allows and less than the law's is that of water which
    runs on over a drowned wall, and stays as it is.

    Args:
        water: flux of the faces as of the equations.
        before, behind: levels on both sides above the crest.
        share: of the law that a face carries, 0 to 1.
        g: m/s2.
        step: dt / dx.
    """
    law = share * weir(before, behind, g)
    fall = before.clamp(min=0) - behind.clamp(min=0)
    falls = torch.minimum(law, EVEN * fall.abs() / step) * fall.sign()
    onwards = water * fall.sign() > falls.abs()
    runs = torch.minimum(torch.maximum(water, -law), law)
    over = (share > 0) & ((before > 0) | (behind > 0))
    return over & ~(onwards & (runs == water)), torch.where(onwards, runs, falls)
