"""Styles of facades, and the tables in which those of one street are kept.

Measures and colours follow what is usual for a kind of building; each building draws its own from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

WALLS = ("plaster", "brick", "stone", "siding", "panel", "concrete", "metal", "glass", "timber", "adobe", "block")
"""Wall materials; the index is the code."""

USES = ("house", "flats", "shops", "office", "shed", "garage", "hut")
"""Uses of buildings; the index is the code."""


@dataclass(frozen=True)
class Facade:
    """A style of facade; ranges are metres.

    Args:
        wall: material.
        colours: of the wall, albedo.
        bay: width of a bay.
        window: width and height of windows.
        sill: height of the sill above the floor.
        panes: columns and rows of panes in a window.
        trim: colours of frames and trim.
        surround: width of the band around windows.
        shutters: share of buildings that have them.
        balconies: share of bays that have one.
        bands: whether floors are marked by bands and the eaves by a cornice.
        accents: colours of doors, shutters and shop signs.
    """

    wall: str
    colours: tuple[tuple[float, float, float], ...]
    bay: tuple[float, float]
    window: tuple[tuple[float, float], tuple[float, float]]
    sill: float | int = 0.9
    panes: tuple[int, int] = (2, 1)
    trim: tuple[tuple[float, float, float], ...] = ((0.62, 0.61, 0.58), (0.45, 0.42, 0.38), (0.12, 0.09, 0.07))
    surround: float | int = 0.0
    shutters: float | int = 0.0
    balconies: float | int = 0.0
    bands: bool = False
    accents: tuple[tuple[float, float, float], ...] = (
        (0.05, 0.09, 0.06),
        (0.16, 0.04, 0.03),
        (0.04, 0.06, 0.14),
        (0.13, 0.08, 0.045),
        (0.03, 0.03, 0.03),
        (0.3, 0.24, 0.12),
    )


FACADES: dict[str, Facade] = {
    "plaster": Facade(
        "plaster",
        (
            (0.52, 0.45, 0.33),
            (0.55, 0.50, 0.42),
            (0.50, 0.36, 0.25),
            (0.42, 0.43, 0.40),
            (0.52, 0.42, 0.24),
            (0.44, 0.31, 0.25),
            (0.6, 0.58, 0.53),
        ),
        (2.6, 3.4),
        ((1.0, 1.3), (1.5, 1.9)),
        0.85,
        (2, 2),
        surround=0.16,
        shutters=0.35,
        balconies=0.12,
        bands=True,
    ),
    "stone": Facade(
        "stone",
        ((0.46, 0.41, 0.33), (0.42, 0.39, 0.34), (0.38, 0.36, 0.33)),
        (2.6, 3.3),
        ((1.1, 1.35), (1.8, 2.2)),
        0.65,
        (2, 2),
        surround=0.2,
        balconies=0.22,
        bands=True,
    ),
    "brick": Facade(
        "brick",
        ((0.25, 0.10, 0.065), (0.21, 0.085, 0.06), (0.30, 0.19, 0.12), (0.17, 0.08, 0.065)),
        (2.5, 3.2),
        ((1.1, 1.5), (1.5, 1.9)),
        0.85,
        (2, 2),
        surround=0.12,
        balconies=0.08,
        bands=True,
    ),
    "brickterrace": Facade(
        "brick",
        ((0.24, 0.095, 0.06), (0.27, 0.12, 0.07), (0.33, 0.25, 0.15)),
        (2.3, 2.7),
        ((1.05, 1.4), (1.35, 1.6)),
        0.9,
        (2, 2),
        surround=0.14,
    ),
    "brickhouse": Facade(
        "brick",
        ((0.27, 0.13, 0.085), (0.31, 0.2, 0.14), (0.24, 0.12, 0.09)),
        (3.0, 3.8),
        ((1.2, 1.7), (1.15, 1.4)),
        0.95,
        (2, 2),
        shutters=0.3,
    ),
    "siding": Facade(
        "siding",
        (
            (0.58, 0.57, 0.53),
            (0.38, 0.42, 0.44),
            (0.47, 0.44, 0.34),
            (0.30, 0.36, 0.31),
            (0.55, 0.48, 0.36),
            (0.26, 0.29, 0.34),
        ),
        (2.8, 3.8),
        ((1.1, 1.7), (1.2, 1.5)),
        0.9,
        (2, 2),
        surround=0.1,
        shutters=0.45,
    ),
    "stonehouse": Facade(
        "stone",
        ((0.36, 0.31, 0.24), (0.40, 0.34, 0.25), (0.31, 0.29, 0.26)),
        (2.6, 3.6),
        ((0.9, 1.1), (1.2, 1.5)),
        0.9,
        (2, 2),
        surround=0.1,
        shutters=0.6,
    ),
    "timber": Facade(
        "timber",
        ((0.16, 0.10, 0.06), (0.22, 0.15, 0.09), (0.27, 0.055, 0.035)),
        (3.2, 4.4),
        ((0.9, 1.2), (1.0, 1.2)),
        1.0,
        (2, 2),
    ),
    "curtain": Facade(
        "glass",
        ((0.10, 0.13, 0.15), (0.08, 0.10, 0.10), (0.14, 0.16, 0.17)),
        (1.4, 1.8),
        ((1.3, 1.6), (2.6, 2.8)),
        0.5,
        (1, 1),
        ((0.3, 0.31, 0.32), (0.06, 0.06, 0.065)),
    ),
    "concrete": Facade(
        "concrete",
        ((0.40, 0.38, 0.35), (0.33, 0.32, 0.30), (0.46, 0.43, 0.38)),
        (3.0, 4.2),
        ((1.8, 2.8), (1.5, 1.9)),
        0.9,
        (2, 1),
        ((0.1, 0.1, 0.105), (0.45, 0.45, 0.45)),
    ),
    "panel": Facade(
        "panel",
        ((0.47, 0.46, 0.43), (0.50, 0.45, 0.36), (0.38, 0.42, 0.43), (0.5, 0.41, 0.35)),
        (3.0, 3.4),
        ((1.5, 1.9), (1.35, 1.5)),
        0.9,
        (2, 1),
        balconies=0.34,
    ),
    "metal": Facade(
        "metal",
        ((0.44, 0.46, 0.47), (0.50, 0.50, 0.47), (0.16, 0.23, 0.32), (0.30, 0.33, 0.31)),
        (5.0, 6.0),
        ((2.4, 3.2), (1.0, 1.2)),
        3.6,
        (3, 1),
    ),
    "shed": Facade(
        "plaster",
        ((0.52, 0.50, 0.45), (0.42, 0.36, 0.28), (0.5, 0.33, 0.22)),
        (4.0, 5.5),
        ((2.4, 3.4), (1.8, 2.2)),
        0.6,
        (2, 1),
    ),
    "adobe": Facade(
        "adobe",
        ((0.36, 0.25, 0.16), (0.45, 0.37, 0.26), (0.27, 0.35, 0.40), (0.42, 0.27, 0.20), (0.31, 0.38, 0.27)),
        (2.4, 3.4),
        ((0.8, 1.0), (0.9, 1.1)),
        1.0,
        (2, 1),
        ((0.18, 0.13, 0.09), (0.1, 0.2, 0.25)),
        shutters=0.3,
    ),
    "block": Facade(
        "block",
        ((0.36, 0.345, 0.32), (0.30, 0.285, 0.26)),
        (2.6, 3.6),
        ((0.9, 1.1), (1.0, 1.1)),
        1.0,
        (2, 1),
        ((0.2, 0.15, 0.1),),
    ),
}
"""Facade styles by name."""


@dataclass(frozen=True)
class Walls:
    """Tables of all walls of a street; one row a building, one row an edge.

    Args:
        building: (n, K) numbers of :data:`COLUMNS`.
        edge: (m, 3): length, whether it faces a street (1; -1: it touches a neighbour), bay of the door (-1: none).
        owner: building of each edge.
        along: metres of the outline at which each edge begins.
        ground: metres of the ground above the foot of the building, at the ends and in the middle of every bay of every edge.
        first: where the ground of each edge begins: 2 x bays + 1 numbers from there.
        lit: share of windows with light in them.
    """

    building: Float[Tensor, "n k"]
    edge: Float[Tensor, "m 3"]
    owner: Int[Tensor, " m"]
    along: Float[Tensor, " m"]
    ground: Float[Tensor, " g"]
    first: Int[Tensor, " m"]
    lit: float | int = 0.0

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Walls:
        """The same on another device or in another dtype."""
        moved = {name: getattr(self, name).to(device, dtype) for name in ("building", "edge", "along", "ground")}
        return replace(self, owner=self.owner.to(device), first=self.first.to(device), **moved)

    def bays(self, edge: Int[Tensor, " p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
        """How many bays an edge has, and how wide they are."""
        length = self.edge[edge, 0]
        count = (length / self.building[self.owner[edge], COLUMNS.index("bay")]).floor().clamp(min=1)
        return count, length / count

    def ground_at(
        self, edge: Int[Tensor, " p"], u: Float[Tensor, " p"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
        """Metres of the ground above the foot at ``u`` metres along an edge, and the highest within the bay."""
        count, bay = self.bays(edge)
        place = (u / bay * 2).clamp(min=0).minimum(2 * count - 1e-3)
        half, share = place.floor().long(), place - place.floor()
        first, column = self.first[edge], half // 2
        here = torch.lerp(self.ground[first + half], self.ground[first + half + 1], share.to(self.ground))
        highest = torch.stack([self.ground[first + 2 * column + k] for k in range(3)]).amax(dim=0)
        return here, highest


COLUMNS = (
    "wall", "use", "floors", "eaves", "ground", "bay", "width", "height", "sill", "columns", "rows", "surround", "shutters", "balconies", "bands",
    "red", "green", "blue", "trim_red", "trim_green", "trim_blue", "accent_red", "accent_green", "accent_blue", "seed", "entrance",
)  # fmt: skip
"""What is known of the facade of a building; floors and eaves count from its entrance, which lies as many metres above its foot."""


def facade_row(
    style: str, use: str, floors: int, eaves: float | int, seed: int, entrance: float | int = 0.0
) -> list[float]:
    """The row of one building, drawn from its style; see :data:`COLUMNS`. ``eaves`` and ``floors`` count from its foot."""
    storey = eaves / floors
    eaves = max(eaves - entrance, min(eaves, 0.5 * storey))
    floors = max(1, min(floors, round(eaves / storey)))
    facade, rng = FACADES[style], np.random.default_rng(seed)
    colour = np.array(facade.colours[rng.integers(len(facade.colours))]) * rng.uniform(0.85, 1.12)
    trim = facade.trim[rng.integers(len(facade.trim))]
    accent = facade.accents[rng.integers(len(facade.accents))]
    (low, high), (short, tall) = facade.window
    ground = min({"shops": 4.1, "office": 4.8}.get(use, 3.1), eaves)
    if floors == 1:
        ground = eaves
    storey = (eaves - ground) / max(floors - 1, 1)
    height = min(rng.uniform(short, tall), (storey if floors > 1 else ground) - facade.sill - 0.35)
    row = [
        WALLS.index(facade.wall), USES.index(use), floors, eaves, ground, rng.uniform(*facade.bay), rng.uniform(low, high),
        max(height, 0.4), facade.sill, *facade.panes, facade.surround, float(rng.random() < facade.shutters),
        facade.balconies * float(rng.random() < 0.75) * rng.uniform(0.5, 2.0), float(facade.bands), *np.clip(colour, 0, 0.85), *trim, *accent, rng.integers(1 << 20),
        entrance,
    ]  # fmt: skip
    return [float(value) for value in row]
