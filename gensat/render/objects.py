"""Simple solids of a street: ellipsoids (crowns), upright cones and cylinders (trunks, lamps), boxes (cars, signs), pitched roofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.render.bins import Bins, sort_into_cells
from gensat.render.rays import OBJECT, Hits, Rays, state

ELLIPSOID, CONE, BOX, GABLE, HIP = range(5)
"""Shapes of objects."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Solids in the scene frame. Make them with :meth:`ellipsoids`, :meth:`cones` and :meth:`boxes`, join them with ``+``.

    Args:
        shape: 0 ellipsoid, 1 upright cone, frustum or cylinder, 2 box, 3 gable roof (its ridge along its own x), 4 hip roof
            (all four sides equally steep).
        centre: of each solid's bounding box, local metres.
        half: half its size along its own x, y, z, metres, above 0.
        yaw: degrees clockwise, seen from above, from the axes of the frame to its own.
        taper: radius at the upper end / at the lower end of a cone: 0 a point, 1 a cylinder; width at the top / at the bottom of a gable or hip:
            0 a ridge, above it a flat top.
        classes: layout class of each.
        colour: display values in [0, 1]; NaN for what the image shows from above, as of real trees.
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
    def gables(cls, centre: Tensor, half: Tensor, **more: Any) -> Objects:
        """Gable roofs with the ridge along their own x; ``more`` as :meth:`boxes`."""
        return cls._make(GABLE, centre, half, **{"taper": 0.0, **more})

    @classmethod
    def hips(cls, centre: Tensor, half: Tensor, **more: Any) -> Objects:
        """Hip roofs, longer along their own x than y; ``more`` as :meth:`boxes`."""
        return cls._make(HIP, centre, half, **{"taper": 0.0, **more})

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

    def __post_init__(self) -> None:
        if not bool((self.half > 0).all()):
            raise InputError("an object has no size; give half sizes above 0")
        object.__setattr__(self, "_built", {})

    def __len__(self) -> int:
        return len(self.shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Objects:
        """The same on another device or in another dtype."""
        values = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return Objects(**{f: v.to(device, dtype if v.is_floating_point() else None) for f, v in values.items()})

    def cast(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> Hits:
        """First hit of rays (n); ``t`` and normals are differentiable with respect to the solids and the rays.

        Solids are closed from outside only: a ray that begins in one does not see it.

        Args:
            rays: (n, 3) origins and directions.
            far: metres after which nothing counts.
        """
        hits = Hits.none(rays)
        _, thing = self.first(rays, far)
        hit = torch.nonzero(thing >= 0)[:, 0]
        if not len(hit):
            return hits
        origins, directions, thing = rays.origins[hit], rays.directions[hit], thing[hit]
        t = self._intersect(origins, directions, thing)
        return Hits(
            hits.t.index_put((hit,), t),
            hits.kind.index_put((hit,), torch.full_like(thing, OBJECT)),
            hits.index.index_put((hit,), thing),
            hits.normal.index_put((hit,), self._normal(origins + t[:, None] * directions, thing)),
            hits.edge,
        )

    def first(self, rays: Rays, far: Float[Tensor, " n"] | None = None) -> tuple[Tensor, Tensor]:
        """Distance and number of the first solid hit; inf and -1 for none."""
        far = torch.full_like(rays.directions[:, 0], torch.inf) if far is None else far.detach()
        if not len(self):
            return torch.full_like(far, torch.inf), torch.full_like(far, -1, dtype=torch.int64)

        directions = rays.directions.detach()
        middle, tall = (v[:, 2].detach().to(directions.dtype) for v in (self.centre, self.half))

        def intersect(o: Tensor, d: Tensor, thing: Tensor, near: Tensor, to: Tensor) -> Tensor:
            # Most things of a cell lie above or below the ray's stretch in it.
            enters, leaves = o[:, 2] + near * d[:, 2], o[:, 2] + to.clamp(max=1e6) * d[:, 2]
            z, reach = middle[thing], tall[thing] + 1e-3
            may = (torch.maximum(enters, leaves) >= z - reach) & (torch.minimum(enters, leaves) <= z + reach)
            some = torch.nonzero(may)[:, 0]
            return torch.full_like(near, torch.inf).index_put((some,), self._intersect(o[some], d[some], thing[some]))

        return self._bins(directions.dtype).first(rays.origins.detach(), directions, far, intersect)

    def _bins(self, dtype: torch.dtype) -> Bins:
        key = (dtype, *state(self.centre, self.half, self.yaw))
        built: dict[Any, Bins] = self._built  # type: ignore[attr-defined]
        if key not in built:
            centre, half, yaw = (v.detach().cpu().double().numpy() for v in (self.centre, self.half, self.yaw))
            c, s = np.abs(np.cos(np.radians(yaw))), np.abs(np.sin(np.radians(yaw)))
            reach = np.stack([c * half[:, 0] + s * half[:, 1], s * half[:, 0] + c * half[:, 1]], axis=1)
            boxes = np.concatenate([centre[:, :2] - reach, centre[:, :2] + reach], axis=1)
            built.clear()
            built[key] = sort_into_cells(boxes, centre[:, 2] + half[:, 2], dtype=dtype, device=self.centre.device)
        return built[key]

    def _axes(self, thing: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Cosine and sine of the yaw, and half sizes."""
        yaw = torch.deg2rad(self.yaw[thing].to(dtype))
        return torch.cos(yaw), torch.sin(yaw), self.half[thing].to(dtype)

    def _intersect(self, origins: Tensor, directions: Tensor, thing: Tensor) -> Tensor:
        """Metres to each solid, inf for a miss, in the frame in which it is a unit sphere, frustum or cube."""
        c, s, half = self._axes(thing, directions.dtype)

        def unit(v: Tensor) -> Tensor:
            return torch.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1], v[:, 2]], dim=1) / half

        o, d = unit(origins - self.centre[thing].to(directions.dtype)), unit(directions)
        # From the point of closest approach: far away, the squares would drown the unit in rounding.
        closest = -(o * d).sum(dim=1) / (d * d).sum(dim=1)
        o = o + closest[:, None] * d
        shape = self.shape[thing]
        taper = self.taper[thing].to(directions.dtype)
        t = torch.full_like(closest, torch.inf)
        for kinds in ((ELLIPSOID,), (CONE,), (BOX, GABLE, HIP)):  # each pair is tried as what it is only
            some = torch.nonzero(torch.isin(shape, shape.new_tensor(kinds)))[:, 0]
            if not len(some):
                continue
            there, ahead = o[some], d[some]
            if kinds == (ELLIPSOID,):
                found = _sphere(there, ahead)
            elif kinds == (CONE,):
                found = _frustum(there, ahead, taper[some])
            else:
                found = _wedge(there, ahead, _slopes(shape[some], half[some], taper[some]))
            t = t.index_put((some,), found)
        t = t + closest
        return torch.where(t >= 0, t, torch.inf)

    def _normal(self, points: Tensor, thing: Tensor) -> Tensor:
        c, s, half = self._axes(thing, points.dtype)
        v = points - self.centre[thing].to(points.dtype)
        p = torch.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1], v[:, 2]], dim=1) / half
        taper = self.taper[thing].to(points.dtype)
        slopes = _slopes(self.shape[thing], half, taper)
        over = p.abs() + slopes * (1 + p[:, 2:])  # 1 on a face
        flat = torch.nn.functional.one_hot(over.argmax(dim=1), 3).to(p)
        face = flat * torch.sign(p)
        face = torch.cat([face[:, :2], face[:, 2:] + (flat * slopes).sum(1, keepdim=True)], dim=1)
        mean, slope = (1 + taper) / 2, (taper - 1) / 2
        radius = mean + slope * p[:, 2]
        side = torch.stack([p[:, 0], p[:, 1], -slope * radius], dim=1)
        cap = torch.stack([0 * c, 0 * c, torch.sign(p[:, 2])], dim=1)
        on_cap = (p[:, 2].abs() - 1).abs() < (torch.linalg.vector_norm(p[:, :2], dim=1) - radius).abs()
        shape = self.shape[thing][:, None]
        cone = torch.where(on_cap[:, None], cap, side)
        n = torch.where(shape == ELLIPSOID, p, torch.where(shape == CONE, cone, face)) / half
        world = torch.stack([c * n[:, 0] + s * n[:, 1], c * n[:, 1] - s * n[:, 0], n[:, 2]], dim=1)
        return torch.nn.functional.normalize(world, dim=1)


def _sphere(o: Tensor, d: Tensor) -> Tensor:
    inside = 1 - (o * o).sum(dim=1)
    hits = inside >= 0
    return torch.where(hits, -(torch.where(hits, inside, 1.0) / (d * d).sum(dim=1)).sqrt(), torch.inf)


def _slopes(shape: Tensor, half: Tensor, taper: Tensor) -> Tensor:
    """How much narrower a box, gable or hip becomes along x, y and z per unit of z, in units of its half size at the bottom."""
    across = torch.where((shape == GABLE) | (shape == HIP), 0.5 * (1 - taper), 0.0)
    along = torch.where(shape == HIP, across * half[:, 1] / half[:, 0], 0.0)
    return torch.stack([along, across, torch.zeros_like(along)], dim=1)


def _wedge(o: Tensor, d: Tensor, slopes: Tensor) -> Tensor:
    """|axis| + slope (1 + z) <= 1 for each axis: six planes, the cube where the slopes are 0."""
    lean, rise = slopes * d[:, 2:], 1 - slopes * (1 + o[:, 2:])
    enters = torch.full_like(d[:, 0], -torch.inf)
    leaves = torch.full_like(d[:, 0], torch.inf)
    for sign in (1.0, -1.0):
        speed, room = sign * d + lean, rise - sign * o
        speed = torch.where(speed.abs() < 1e-12, 1e-12, speed)
        t = room / speed
        enters = torch.maximum(enters, torch.where(speed < 0, t, -torch.inf).amax(dim=1))
        leaves = torch.minimum(leaves, torch.where(speed > 0, t, torch.inf).amin(dim=1))
    return torch.where(enters <= leaves, enters, torch.inf)


def _frustum(o: Tensor, d: Tensor, taper: Tensor) -> Tensor:
    """x^2 + y^2 = (mean + slope z)^2 for |z| <= 1, and the two caps."""
    mean, slope = (1 + taper) / 2, (taper - 1) / 2
    radius = mean + slope * o[:, 2]
    a = d[:, 0] ** 2 + d[:, 1] ** 2 - (slope * d[:, 2]) ** 2
    b = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1] - slope * d[:, 2] * radius
    c = o[:, 0] ** 2 + o[:, 1] ** 2 - radius**2
    inside = b * b - a * c
    real = inside >= 0
    half = -(b + torch.where(b < 0, -1.0, 1.0) * torch.where(real, inside, 1.0).sqrt())
    found = []
    for above, below in ((half, a), (c, half)):
        some = below != 0  # a ray along the side of a cylinder never meets it
        t = above / torch.where(some, below, 1.0)
        z = o[:, 2] + t * d[:, 2]
        found.append(torch.where(real & some & (z.abs() <= 1) & (mean + slope * z >= 0), t, torch.inf))
    down = torch.where(d[:, 2].abs() < 1e-12, 1e-12, d[:, 2])
    for end in (-1.0, 1.0):
        t = (end - o[:, 2]) / down
        across = (o[:, 0] + t * d[:, 0]) ** 2 + (o[:, 1] + t * d[:, 1]) ** 2
        found.append(torch.where(across <= (mean + slope * end) ** 2, t, torch.inf))
    return torch.stack(found).amin(dim=0)
