"""Water over walls of one cell: the law of the broad-crested weir, on the two faces that it passes.

Over a crest that is short beside a cell the depth is critical, and where the water behind stands above the crest, it holds the flow back
(Villemonte 1947):

    Q / b = (2/3)^(3/2) sqrt(g) H^(3/2) (1 - (H' / H)^(3/2))^0.385

with H and H' the levels before and behind, above the crest; with g = 9.81 the first factors are 1.70. A wall of one cell has two faces, and the
water on its crest is a cell of its own. Both carry the same law with another factor,

    q = K sqrt(g) H^(3/2) (1 - (H' / H)^(3/2))^0.385,      K = (2/3)^(3/2) / s,  s = (1 - s)^0.385

so that one after the other they let pass what the weir does: exactly where it falls freely, up to a fifth more where it is drowned. A face needs
to know its two cells only. Solvers take the law for the faces between a cell that is a wall and a lower one that is none.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from gensat.hydro.domain import Domain

DROWNED = 0.385
"""Exponent of Villemonte's reduction."""

SHARE = 0.6600656173039285
"""s = (1 - s)^0.385: (level on the crest over level before it)^(3/2) where the water falls freely behind."""

FACTOR = (2 / 3) ** 1.5 / SHARE

EVEN = 0.4
"""Of what would bring both cells of a face to one level in a step, the share that may pass: so levels do not swing about each other."""


Weirs = tuple[Bool[Tensor, "h x"], Bool[Tensor, "y w"]]
"""(h, w + 1) and (h + 1, w): which faces are weirs."""


def weir_faces(domain: Domain, device: torch.device | None = None) -> Weirs | None:
    """The faces between a wall and a lower cell that is none; None without any."""
    walls, bed = domain.walls, domain.walled
    if walls is None or not walls.any():
        return None
    height, width = domain.shape
    across, down = np.zeros((height, width + 1), bool), np.zeros((height + 1, width), bool)
    across[:, 1:-1] = _stands_out(walls[:, :-1], walls[:, 1:], bed[:, :-1], bed[:, 1:])
    down[1:-1] = _stands_out(walls[:-1], walls[1:], bed[:-1], bed[1:])
    return torch.from_numpy(across).to(device), torch.from_numpy(down).to(device)


def as_arrays(weirs: Weirs | None) -> tuple[np.ndarray, np.ndarray]:
    """For the kernels; two arrays of one entry where there are none."""
    return (np.zeros((1, 1), bool),) * 2 if weirs is None else (weirs[0].numpy(), weirs[1].numpy())


def _stands_out(one: np.ndarray, other: np.ndarray, bed: np.ndarray, beside: np.ndarray) -> np.ndarray:
    return (one & ~other & (bed > beside)) | (other & ~one & (beside > bed))


def weir(before: Tensor, behind: Tensor, g: float) -> Tensor:
    """Largest discharge through a face, m2/s, from the levels on both sides above the crest (metres, below 0 where they do not reach it)."""
    high = torch.maximum(before, behind).clamp(min=0)
    low = torch.minimum(before, behind).clamp(min=0)
    cube, drowned = high * high.sqrt(), low * low.sqrt()
    left = 1 - drowned / torch.where(cube > 0, cube, 1)
    return FACTOR * g**0.5 * cube * left.clamp(min=0) ** DROWNED


def weir_flux(
    water: Tensor, before: Tensor, behind: Tensor, g: float, step: Tensor
) -> tuple[Bool[Tensor, "*b r x"], Tensor]:
    """For the full equations, whose fluxes know a step of the bed as a wall: which faces take the law, and what passes, m2/s.

    What falls over the crest follows the law. A flux that is larger than :data:`EVEN` allows and less than the law's is that of water which
    runs on over a drowned wall, and stays as it is.

    Args:
        water: flux of the faces as of the equations.
        before, behind: levels on both sides above the crest.
        g: m/s2.
        step: dt / dx.
    """
    law = weir(before, behind, g)
    fall = before.clamp(min=0) - behind.clamp(min=0)
    falls = torch.minimum(law, EVEN * fall.abs() / step) * fall.sign()
    onwards = water * fall.sign() > falls.abs()
    runs = torch.minimum(torch.maximum(water, -law), law)
    over = (before > 0) | (behind > 0)
    return over & ~(onwards & (runs == water)), torch.where(onwards, runs, falls)
