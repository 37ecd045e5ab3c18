"""Simple solids of a street: ellipsoids (crowns), upright cones and cylinders (trunks, lamps), boxes (cars, signs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

ELLIPSOID, CONE, BOX = range(3)
"""Shapes of objects."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Solids in the scene frame. Make them with :meth:`ellipsoids`, :meth:`cones` and :meth:`boxes`, join them with ``+``.

    Args:
        shape: 0 ellipsoid, 1 upright cone, frustum or cylinder, 2 box.
        centre: of each solid's bounding box, local metres.
        half: half its size along its own x, y, z, metres, above 0.
        yaw: degrees clockwise, seen from above, from the axes of the frame to its own.
        taper: radius at the upper end / at the lower end of a cone: 0 a point, 1 a cylinder.
        classes: layout class of each.
        colour: display values in [0, 1].
        label: any number of the user's, such as what thing it is part of.
    """

    shape: Int[Tensor, " n"]
    centre: Float[Tensor, "n 3"]
    half: Float[Tensor, "n 3"]
    yaw: Float[Tensor, " n"]
    taper: Float[Tensor, " n"]
    classes: Int[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    label: Int[Tensor, " n"]

    @classmethod
    def none(cls) -> Objects:
        """No objects."""
        return cls._make(ELLIPSOID, torch.zeros(0, 3), torch.zeros(0, 3))

    @classmethod
    def ellipsoids(cls, centre: Tensor, half: Tensor, **more: Any) -> Objects:
        """Ellipsoids; ``centre`` and ``half`` (n, 3) metres, ``more`` as :meth:`boxes`."""
        return cls._make(ELLIPSOID, centre, half, **more)

    @classmethod
    def cones(cls, centre: Tensor, half: Tensor, *, taper: Tensor | float | int = 1.0, **more: Any) -> Objects:
        """Upright cones, frustums and, with taper 1, cylinders, closed at both ends; ``more`` as :meth:`boxes`."""
        return cls._make(CONE, centre, half, taper=taper, **more)

    @classmethod
    def boxes(cls, centre: Tensor, half: Tensor, **more: Any) -> Objects:
        """Boxes; ``more``: yaw (degrees), classes, colour (n, 3), label, each a tensor or one value for all."""
        return cls._make(BOX, centre, half, **more)

    @classmethod
    def _make(
        cls,
        shape: int,
        centre: Tensor,
        half: Tensor,
        *,
        yaw: Tensor | float | int = 0.0,
        taper: Tensor | float | int = 1.0,
        classes: Tensor | int = 0,
        colour: Tensor | Sequence[float | int] = (0.5, 0.5, 0.5),
        label: Tensor | int = -1,
    ) -> Objects:
        def each(value: Any, dtype: torch.dtype, *size: int) -> Tensor:
            made = torch.as_tensor(value, dtype=dtype, device=centre.device)
            return made.expand(len(centre), *size)

        whole, real = torch.int64, centre.dtype
        return cls(
            each(shape, whole),
            centre,
            each(half, real, 3),
            each(yaw, real),
            each(taper, real),
            each(classes, whole),
            each(colour, real, 3),
            each(label, whole),
        )

    def __add__(self, other: Objects) -> Objects:
        return Objects(*(torch.cat([getattr(self, f), getattr(other, f)]) for f in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.shape)
