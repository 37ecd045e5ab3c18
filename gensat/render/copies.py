"""Trees that are one shape turned and stretched, found among the solids of a scene, so that a file holds the shape once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from gensat.render.objects import Objects
from gensat.render.streets.things import PARTS, part_of

_SAME = 2e-3  # of the size of a shape: how well its solids have to agree


@dataclass(frozen=True, eq=False)
class Copies:
    """One shape in many places.

    Args:
        shape: its solids, foot at the origin, as wide and as high as their largest half sizes, 1 and 1.
        members: (k, m) numbers of the solids of each copy among those of the scene.
        foot: (k, 3) local metres.
        yaw: (k,) degrees clockwise from above.
        scale: (k, 2) metres across and up.
    """

    shape: Objects
    members: Int[np.ndarray, "k m"]
    foot: Float[np.ndarray, "k 3"]
    yaw: Float[np.ndarray, " k"]
    scale: Float[np.ndarray, "k 2"]

    def __len__(self) -> int:
        return len(self.foot)


def find_copies(objects: Objects) -> tuple[list[Copies], Bool[np.ndarray, " n"]]:
    """Shapes that come at least twice, and which solids are none of their copies.

    A tree begins with its trunk and goes on with leaves of the same seed, as :class:`gensat.render.streets.things.Maker` makes them.
    """
    centre, half, yaw = (v.detach().double().cpu().numpy() for v in (objects.centre, objects.half, objects.yaw))
    kinds = np.stack([objects.shape.cpu().numpy(), objects.label.cpu().numpy()], axis=1)
    taper = objects.taper.detach().double().cpu().numpy()
    shapes: dict[bytes, list[tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, float, np.ndarray]]]]] = {}
    for some in _trees(objects):
        foot, scale = centre[some[0]] - [0, 0, half[some[0], 2]], half[some].max(axis=0)[[0, 2]]
        turn = np.radians(yaw[some[0]])
        c, s = np.cos(turn), np.sin(turn)
        x, y, z = (centre[some] - foot).T
        size = scale[[0, 0, 1]]
        own = np.stack([c * x - s * y, s * x + c * y, z], axis=1) / size
        facts = np.column_stack(
            [own, half[some] / size, np.radians((yaw[some] - yaw[some[0]] + 180) % 360 - 180), taper[some]]
        )
        known = shapes.setdefault(kinds[some].tobytes(), [])
        copy = (np.asarray(some), foot, float(yaw[some[0]]), scale)
        same = next((copies for first, copies in known if np.abs(first - facts).max() < _SAME), None)
        if same is None:
            known.append((facts, [copy]))
        else:
            same.append(copy)
    found, alone = [], np.ones(len(objects), bool)
    for facts, copies in (one for known in shapes.values() for one in known if len(one[1]) > 1):
        members, feet, turns, sizes = (np.array(values) for values in zip(*copies, strict=True))
        alone[members] = False
        found.append(Copies(_shape(objects, members[0], facts), members, feet, turns, sizes))
    return found, alone


def _trees(objects: Objects) -> Iterator[list[int]]:
    """Numbers of the solids of each tree that has leaves."""
    part, seed = (v.cpu().numpy() for v in part_of(objects.label))
    bark, leaf = PARTS.index("bark"), PARTS.index("leaf")
    number = 0
    while number < len(objects):
        end = number + 1
        while end < len(objects) and part[end] == leaf and seed[end] == seed[number]:
            end += 1
        if part[number] == bark and end > number + 1:
            yield list(range(number, end))
        number = end


def _shape(objects: Objects, members: np.ndarray, facts: np.ndarray) -> Objects:
    some, values = torch.as_tensor(members), torch.from_numpy(facts)
    first = Objects(**{name: getattr(objects, name).detach().cpu()[some] for name in Objects.__dataclass_fields__})
    return replace(first, centre=values[:, :3], half=values[:, 3:6], yaw=torch.rad2deg(values[:, 6]))
