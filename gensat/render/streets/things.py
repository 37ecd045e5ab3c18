"""Solids for what stands in a street: trees, cars, lamps, benches, fences.

Each item becomes a few ellipsoids, cones and boxes; the label of a solid says what it is made of (``PARTS``) and carries the item's seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from gensat.geo import classes as layout
from gensat.render.light import tone_map
from gensat.render.objects import BOX, CONE, ELLIPSOID, GABLE, HIP, Objects
from gensat.render.streets.plan import Item

PARTS = (
    "leaf",
    "needle",
    "bark",
    "metal",
    "wood",
    "car",
    "cabin",
    "tile",
    "sheet",
    "fence",
    "hedge",
    "stone",
    "plastic",
    "cloth",
    "sign",
    "container",
    "lamp",
    "skin",
    "gravelroof",
)
"""What solids are made of; the index is the code."""

SEEDS = 1 << 20

_CARS = (
    (0.55, 0.55, 0.56),
    (0.75, 0.75, 0.75),
    (0.05, 0.05, 0.055),
    (0.15, 0.16, 0.18),
    (0.35, 0.03, 0.03),
    (0.04, 0.08, 0.25),
    (0.3, 0.32, 0.34),
    (0.5, 0.45, 0.38),
    (0.05, 0.14, 0.09),
)
_CLOTHES = (
    (0.05, 0.06, 0.12),
    (0.3, 0.05, 0.05),
    (0.4, 0.4, 0.42),
    (0.03, 0.03, 0.03),
    (0.1, 0.2, 0.35),
    (0.45, 0.35, 0.15),
)
_CONTAINERS = ((0.28, 0.08, 0.05), (0.05, 0.14, 0.3), (0.06, 0.2, 0.12), (0.4, 0.4, 0.38), (0.45, 0.22, 0.04))
_FOLIAGE = ((0.10, 0.155, 0.04), (0.13, 0.175, 0.045), (0.085, 0.135, 0.05), (0.16, 0.175, 0.045), (0.11, 0.125, 0.05))


class Solids:
    """Collects solids as rows and makes :class:`~gensat.render.objects.Objects` of them."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def add(
        self,
        shape: int,
        part: str,
        centre: Sequence[float | int],
        half: Sequence[float | int],
        colour: Sequence[float | int],
        *,
        yaw: float | int = 0.0,
        taper: float | int = 1.0,
        land: int = layout.OTHER_GROUND,
        seed: int = 0,
    ) -> None:
        """One solid; all in local metres, ``colour`` an albedo."""
        label = PARTS.index(part) + len(PARTS) * (seed % SEEDS)
        self.rows.append((shape, *centre, *half, yaw, taper, land, *colour, label))

    def objects(self) -> Objects:
        """All that was added."""
        if not self.rows:
            return Objects.none()
        table = torch.tensor(self.rows, dtype=torch.float64)
        whole, real = table[:, [0, 9, 13]].long(), table.float()
        return Objects(
            shape=whole[:, 0].contiguous(),
            centre=real[:, 1:4].contiguous(),
            half=real[:, 4:7].clamp(min=0.005).contiguous(),
            yaw=real[:, 7].contiguous(),
            taper=real[:, 8].contiguous(),
            classes=whole[:, 1].contiguous(),
            colour=tone_map(real[:, 10:13]),  # objects have display values
            label=whole[:, 2].contiguous(),
        )


def part_of(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Code in ``PARTS`` and seed of the labels of solids."""
    return label % len(PARTS), label // len(PARTS)


class Maker:
    """Puts items on the ground.

    Args:
        solids: where they are collected.
        ground: z of the ground at (x, y).
        land: layout class of the ground at (x, y).
    """

    def __init__(
        self, solids: Solids, ground: Callable[[float, float], float], land: Callable[[float, float], int]
    ) -> None:
        self.solids, self.ground, self.land = solids, ground, land

    def make(self, item: Item) -> None:
        """Adds the solids of one item."""
        rng = self._begin(item)
        kind = {"median_tree": "oval", "median_lamp": "lamp2"}.get(item.kind, item.kind)
        getattr(self, f"_{kind}")(rng)

    def tree(self, item: Item, height: float | int, radius: float | int) -> None:
        """Adds a broad-leaved tree of known height and crown radius, metres; all of one seed are one shape, stretched."""
        self._tree(self._begin(item), height, radius, 9)

    def _begin(self, item: Item) -> np.random.Generator:
        self.item, self.z = item, self.ground(item.x, item.y)
        self.cover = self.land(item.x, item.y)
        return np.random.default_rng(item.seed)

    def _add(
        self,
        shape: int,
        part: str,
        at: Sequence[float | int],
        half: Sequence[float | int],
        colour,
        *,
        turn: float | int = 0.0,
        taper: float | int = 1.0,
        plant: bool = False,
    ) -> None:
        """``at`` is in the item's own axes: ahead, left, up from the ground."""
        item = self.item
        angle = math.radians(-item.yaw)
        x = item.x + at[0] * math.cos(angle) - at[1] * math.sin(angle)
        y = item.y + at[0] * math.sin(angle) + at[1] * math.cos(angle)
        land = layout.WOODLAND if plant else self.cover
        self.solids.add(
            shape,
            part,
            (x, y, self.z + at[2]),
            half,
            tuple(colour),
            yaw=item.yaw + turn,
            taper=taper,
            land=land,
            seed=item.seed,
        )

    def _tree(self, rng: np.random.Generator, height: float | int, radius: float | int, blobs: int) -> None:
        trunk = 0.3 * height
        thick = 0.07 * radius
        self._add(
            CONE, "bark", (0, 0, trunk * 0.75), (thick, thick, trunk * 0.75), (0.09, 0.07, 0.055), taper=0.6, plant=True
        )
        colour = np.array(_FOLIAGE[rng.integers(len(_FOLIAGE))]) * rng.uniform(0.8, 1.25)
        middle, half = (trunk * 0.85 + height) / 2, (height - trunk * 0.85) / 2
        for i in range(blobs):
            angle, up = 2.4 * i + rng.uniform(0, 0.6), (i + 0.5) / blobs * 2 - 1
            wide = math.sqrt(max(1 - up**2, 0.1)) * rng.uniform(0.55, 0.78)
            size = rng.uniform(0.26, 0.44)
            centre = (radius * wide * math.cos(angle), radius * wide * math.sin(angle), middle + up * half * 0.82)
            self._add(
                ELLIPSOID,
                "leaf",
                centre,
                (radius * size, radius * size * rng.uniform(0.8, 1.2), 0.85 * half * size * rng.uniform(0.55, 0.9)),
                colour * rng.uniform(0.8, 1.2),
                plant=True,
            )
        self._add(
            ELLIPSOID, "leaf", (0, 0, middle), (radius * 0.72, radius * 0.72, half * 0.85), colour * 0.75, plant=True
        )

    def _round(self, rng: np.random.Generator) -> None:
        height = 9.5 * self.item.size * rng.uniform(0.85, 1.15)
        self._tree(rng, height, height * rng.uniform(0.3, 0.38), 17)

    def _oval(self, rng: np.random.Generator) -> None:
        height = 11.5 * self.item.size * rng.uniform(0.85, 1.15)
        self._tree(rng, height, height * rng.uniform(0.2, 0.26), 17)

    def _conifer(self, rng: np.random.Generator) -> None:
        height = 10.5 * self.item.size * rng.uniform(0.8, 1.2)
        colour = np.array((0.03, 0.055, 0.028)) * rng.uniform(0.8, 1.3)
        self._add(CONE, "bark", (0, 0, height * 0.15), (0.16, 0.16, height * 0.15), (0.08, 0.06, 0.045), plant=True)
        for i in range(5):
            low, high = height * (0.1 + 0.17 * i), height * (0.1 + 0.17 * i) + height * 0.26
            wide = height * 0.2 * (1 - 0.17 * i)
            self._add(
                CONE,
                "needle",
                (0, 0, (low + high) / 2),
                (wide, wide, (high - low) / 2),
                colour * (0.9 + 0.06 * i),
                taper=0.18,
                plant=True,
            )

    def _palm(self, rng: np.random.Generator) -> None:
        height = 8.0 * self.item.size * rng.uniform(0.8, 1.3)
        self._add(
            CONE, "bark", (0, 0, height / 2), (0.17, 0.17, height / 2), (0.16, 0.13, 0.10), taper=0.65, plant=True
        )
        for i in range(11):
            turn, lift = i * 137.5, rng.uniform(-0.55, 0.5)
            reach = rng.uniform(1.1, 1.5)
            angle = math.radians(turn)
            centre = (reach * math.cos(angle), reach * math.sin(angle), height + lift)
            self._add(ELLIPSOID, "leaf", centre, (1.35, 0.28, 0.16), (0.07, 0.10, 0.03), turn=-turn, plant=True)

    def _bush(self, rng: np.random.Generator) -> None:
        size = 0.75 * self.item.size
        colour = np.array(_FOLIAGE[rng.integers(len(_FOLIAGE))])
        for _ in range(3):
            x, y = rng.uniform(-0.35, 0.35, 2) * size
            self._add(
                ELLIPSOID,
                "leaf",
                (x, y, size * 0.55),
                (size * 0.7, size * 0.65, size * rng.uniform(0.6, 0.85)),
                colour * rng.uniform(0.8, 1.2),
            )

    def _hedge(self, rng: np.random.Generator) -> None:
        self._add(BOX, "hedge", (0, 0, 0.55), (0.95, 0.35, 0.6), (0.045, 0.075, 0.022))

    def _fence(self, rng: np.random.Generator) -> None:
        self._add(BOX, "fence", (0, 0, 0.8), (1.0, 0.03, 0.85), (0.22, 0.17, 0.12))

    def _wall(self, rng: np.random.Generator) -> None:
        self._add(BOX, "stone", (0, 0, 0.45), (0.92, 0.14, 0.5), (0.26, 0.22, 0.18))

    def _car(
        self,
        rng: np.random.Generator,
        long: float | int = 2.15,
        wide: float | int = 0.88,
        low: float | int = 0.82,
        high: float | int = 1.45,
        cabin: tuple[float, float] = (-0.25, 1.18),
    ) -> None:
        colour = _CARS[rng.integers(len(_CARS))]
        self._add(BOX, "car", (0, 0, low / 2 + 0.11), (long, wide, low / 2 - 0.06), colour)
        self._add(
            HIP, "cabin", (cabin[0], 0, (low + high) / 2), (cabin[1], wide * 0.93, (high - low) / 2), colour, taper=0.78
        )
        for x in (0.62 * long, -0.6 * long):
            for y in (wide, -wide):
                self._add(ELLIPSOID, "plastic", (x, y * 0.93, 0.31), (0.31, 0.12, 0.31), (0.018, 0.018, 0.018))

    def _van(self, rng: np.random.Generator) -> None:
        colour = _CARS[rng.integers(4)]
        self._add(BOX, "cabin", (-0.25, 0, 1.55), (2.2, 0.95, 0.7), colour)
        self._add(BOX, "car", (0, 0, 0.62), (2.55, 0.97, 0.42), colour)
        for x in (1.6, -1.5):
            for y in (0.9, -0.9):
                self._add(ELLIPSOID, "plastic", (x, y, 0.34), (0.34, 0.13, 0.34), (0.018, 0.018, 0.018))

    def _truck(self, rng: np.random.Generator) -> None:
        self._add(
            BOX,
            "container",
            (-1.0, 0, 2.4),
            (3.4, 1.22, 1.25),
            (0.55, 0.55, 0.54) if rng.random() < 0.5 else _CONTAINERS[rng.integers(5)],
        )
        self._add(BOX, "cabin", (3.4, 0, 1.6), (0.9, 1.15, 1.2), _CARS[rng.integers(len(_CARS))])
        self._add(BOX, "plastic", (-0.5, 0, 0.75), (4.2, 1.0, 0.35), (0.03, 0.03, 0.03))

    def _container(self, rng: np.random.Generator) -> None:
        self._add(BOX, "container", (0, 0, 1.3), (3.03, 1.22, 1.3), _CONTAINERS[rng.integers(5)])

    def _container_small(self, rng: np.random.Generator) -> None:
        self._add(BOX, "plastic", (0, 0, 0.6), (0.5, 0.4, 0.6), _CONTAINERS[rng.integers(5)])

    def _lamp(self, rng: np.random.Generator, arms: tuple[float, ...] = (1.0,)) -> None:
        grey = (0.14, 0.145, 0.15)
        self._add(CONE, "metal", (0, 0, 3.1), (0.085, 0.085, 3.1), grey, taper=0.55)
        for side in arms:
            self._add(BOX, "metal", (0.65 * side, 0, 6.15), (0.65, 0.035, 0.035), grey)
            self._add(BOX, "lamp", (1.35 * side, 0, 6.12), (0.3, 0.11, 0.06), (0.35, 0.35, 0.34))

    def _lamp2(self, rng: np.random.Generator) -> None:
        self._lamp(rng, (1.0, -1.0))

    def _pole(self, rng: np.random.Generator) -> None:
        brown = (0.13, 0.105, 0.085)
        self._add(CONE, "wood", (0, 0, 4.3), (0.14, 0.14, 4.3), brown, taper=0.65)
        self._add(BOX, "wood", (0, 0, 7.9), (0.06, 1.05, 0.07), brown)
        self._add(CONE, "metal", (0.3, 0, 6.8), (0.2, 0.2, 0.4), (0.3, 0.3, 0.3))
        self._add(BOX, "lamp", (0.9, 0, 5.9), (0.3, 0.09, 0.05), (0.35, 0.35, 0.34))

    def _bench(self, rng: np.random.Generator) -> None:
        for x in (-0.1, 0.1):
            self._add(BOX, "wood", (x, 0, 0.44), (0.085, 0.85, 0.03), (0.2, 0.12, 0.06))
        self._add(BOX, "wood", (-0.25, 0, 0.72), (0.025, 0.85, 0.14), (0.2, 0.12, 0.06))
        for y in (-0.7, 0.7):
            self._add(BOX, "metal", (0, y, 0.22), (0.22, 0.03, 0.22), (0.05, 0.05, 0.05))

    def _bin(self, rng: np.random.Generator) -> None:
        self._add(
            CONE,
            "plastic",
            (0, 0, 0.48),
            (0.26, 0.26, 0.48),
            (0.04, 0.1, 0.06) if rng.random() < 0.5 else (0.08, 0.08, 0.085),
        )

    def _hydrant(self, rng: np.random.Generator) -> None:
        red = (0.35, 0.035, 0.02) if rng.random() < 0.6 else (0.5, 0.33, 0.03)
        self._add(CONE, "plastic", (0, 0, 0.33), (0.12, 0.12, 0.33), red, taper=0.85)
        self._add(ELLIPSOID, "plastic", (0, 0, 0.66), (0.12, 0.12, 0.12), red)
        self._add(BOX, "plastic", (0, 0, 0.45), (0.06, 0.2, 0.06), red)

    def _sign(self, rng: np.random.Generator) -> None:
        self._add(CONE, "metal", (0, 0, 1.3), (0.03, 0.03, 1.3), (0.3, 0.3, 0.3))
        blue = rng.random() < 0.4
        self._add(BOX, "sign", (0.04, 0, 2.35), (0.012, 0.3, 0.3), (0.03, 0.1, 0.4) if blue else (0.45, 0.04, 0.035))

    def _billboard(self, rng: np.random.Generator) -> None:
        self._add(CONE, "metal", (0, 0, 2.6), (0.14, 0.14, 2.6), (0.3, 0.3, 0.3))
        self._add(BOX, "sign", (0, 0, 5.6), (0.15, 1.7, 0.95), tuple(rng.uniform(0.05, 0.6, 3)))

    def _bollard(self, rng: np.random.Generator) -> None:
        self._add(CONE, "metal", (0, 0, 0.45), (0.07, 0.07, 0.45), (0.06, 0.06, 0.06))

    def _mailbox(self, rng: np.random.Generator) -> None:
        self._add(BOX, "wood", (0, 0, 0.5), (0.05, 0.05, 0.5), (0.3, 0.26, 0.2))
        self._add(BOX, "metal", (0, 0, 1.1), (0.24, 0.1, 0.12), tuple(rng.uniform(0.05, 0.4, 3)))

    def _person(self, rng: np.random.Generator) -> None:
        top, legs = _CLOTHES[rng.integers(len(_CLOTHES))], _CLOTHES[rng.integers(len(_CLOTHES))]
        tall = rng.uniform(0.92, 1.06)
        for side in (-0.09, 0.09):
            self._add(CONE, "cloth", (side * 0.7, side, 0.42 * tall), (0.09, 0.085, 0.42 * tall), legs, taper=1.15)
        self._add(ELLIPSOID, "cloth", (0, 0, 1.13 * tall), (0.12, 0.185, 0.36 * tall), top)
        for side in (-0.2, 0.2):
            self._add(ELLIPSOID, "cloth", (0, side, 1.1 * tall), (0.05, 0.05, 0.32 * tall), top)
        self._add(
            ELLIPSOID,
            "skin",
            (0, 0, 1.62 * tall),
            (0.1, 0.085, 0.13),
            (0.32, 0.2, 0.14) if rng.random() < 0.6 else (0.13, 0.075, 0.05),
        )
        self._add(ELLIPSOID, "cloth", (-0.02, 0, 1.67 * tall), (0.1, 0.09, 0.1), (0.03, 0.022, 0.018))


__all__ = ["GABLE", "HIP", "PARTS", "Maker", "Solids", "part_of"]
