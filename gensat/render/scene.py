"""A scene: an image and the surfaces under it, in one metric frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely
import torch
from jaxtyping import Bool, Float, Int
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy.ndimage import grey_opening
from torch import Tensor

from gensat.errors import InputError, require_number
from gensat.geo.classes import BUILDING, WATER
from gensat.render.cameras import EYE
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, ROOF, SKY, TERRAIN, WALL, Hits, Rays
from gensat.types import Place

SURFACE_MODEL = "surface model"
"""``provenance["geometry"]`` of a scene whose terrain holds buildings and trees."""

_CHUNK = 2**18  # rays cast at a time
_CLEAR = 1.0  # metres from a wall at which one is told to stand
_WIDEST, _RAISED = 60.0, 3.0  # metres: on a surface model, what is narrower and higher than this is no ground
_WET = 0.01  # metres from the water surface that are still water


@dataclass(frozen=True, eq=False)
class Scene:
    """What can be rendered, walked through, exported and flooded without aligning anything again.

    Make one from files with :meth:`from_dsm`, :meth:`from_buildings` or :meth:`from_terrain`.

    Args:
        frame: local metres and where they lie on the Earth.
        image: display values in [0, 1] on ``grid``, as seen from above; row 0 is north.
        terrain: the ground, or a bare surface model that holds buildings and trees too.
        buildings: prisms that stand in the terrain; may be none (length 0).
        objects: other solids; may be none.
        classes: layout classes 0 to 10 on ``grid``.
        grid: the pixels of the image in the frame.
        water: local z of the water surface on ``grid``, NaN where it is dry; None where no water is known.
        provenance: how it came to be, as JSON-like values; ``notes`` is a list of sentences.

    Raises:
        InputError: image, classes or water do not have the size of the grid.
    """

    frame: SceneFrame
    image: Float[Tensor, "h w 3"]
    terrain: HeightField
    buildings: Prisms
    objects: Objects
    classes: Int[Tensor, "h w"]
    grid: Grid
    water: Float[Tensor, "h w"] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = (self.grid.rows, self.grid.columns)
        if self.image.shape[:2] != size or self.classes.shape != size:
            raise InputError(
                f"image {tuple(self.image.shape)} and classes {tuple(self.classes.shape)} are not on {size}"
            )
        surface = None if self.water is None else HeightField(self.water, self.grid, "columns", None)
        object.__setattr__(self, "_water", surface)

    @classmethod
    def from_dsm(cls, *args: Any, **options: Any) -> Scene:
        """See :func:`gensat.render.build.scene_from_dsm`."""
        from gensat.render.build import scene_from_dsm

        return scene_from_dsm(*args, **options)

    @classmethod
    def from_terrain(cls, *args: Any, **options: Any) -> Scene:
        """See :func:`gensat.render.build.scene_from_terrain`."""
        from gensat.render.build import scene_from_terrain

        return scene_from_terrain(*args, **options)

    @classmethod
    def from_buildings(cls, *args: Any, **options: Any) -> Scene:
        """See :func:`gensat.render.build.scene_from_buildings`."""
        from gensat.render.build import scene_from_buildings

        return scene_from_buildings(*args, **options)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Scene:
        """The same on another device, its numbers in another dtype."""
        return replace(
            self,
            image=self.image.to(device, dtype),
            terrain=self.terrain.to(device, dtype),
            buildings=self.buildings.to(device, dtype),
            objects=self.objects.to(device, dtype),
            classes=self.classes.to(device),
            water=None if self.water is None else self.water.to(device, dtype),
        )

    def cast(self, rays: Rays) -> Hits:
        """First surface that each ray meets, in any shape; differentiable as the surfaces are.

        On a bare surface model, hits on cells of class building count as roofs and walls without a number.
        """
        flat = _at_least_single(rays.flat())
        parts = [self._cast(part) for part in _chunks(flat)]
        joined = (
            parts[0]
            if len(parts) == 1
            else Hits(*(torch.cat([getattr(p, name) for p in parts]) for name in Hits.__dataclass_fields__))
        )
        return joined.reshape(*rays.shape)

    def _cast(self, rays: Rays) -> Hits:
        hits = self.terrain.cast(rays)
        surface: HeightField | None = self._water  # type: ignore[attr-defined]
        if surface is not None:
            hits = surface.cast(rays, hits.t).nearer(hits)
        if self.terrain.surface == "columns":
            top = torch.nonzero(hits.kind == TERRAIN)[:, 0]
            built = self.class_at(
                *Rays(rays.origins[top], rays.directions[top]).at(hits.t.detach()[top])[:, :2].unbind(1)
            )
            hits.kind[top] = torch.where(built == BUILDING, ROOF, TERRAIN)
        if len(self.buildings):
            hits = self.buildings.cast(rays, hits.t).nearer(hits)
        if len(self.objects):
            hits = self.objects.cast(rays, hits.t).nearer(hits)
        return hits

    @torch.no_grad()
    def occluded(self, rays: Rays, far: Float[Tensor, "*shape"] | float | int = math.inf) -> Bool[Tensor, "*shape"]:
        """Whether rays meet anything within ``far`` metres; cheaper than :meth:`cast`."""
        flat = _at_least_single(rays.flat())
        limit = torch.as_tensor(far, dtype=flat.directions.dtype, device=flat.directions.device).expand(rays.shape)
        hidden = torch.zeros(len(flat.directions), dtype=torch.bool, device=flat.directions.device)
        for surface in (self.terrain, self._water, self.buildings, self.objects):  # type: ignore[attr-defined]
            if surface is None:
                continue
            for start in range(0, len(hidden), _CHUNK):
                ray = start + torch.nonzero(~hidden[start : start + _CHUNK])[:, 0]
                t, _ = surface.first(Rays(flat.origins[ray], flat.directions[ray]), limit.reshape(-1)[ray])
                hidden[ray] = torch.isfinite(t)
        return hidden.reshape(rays.shape)

    def height_at(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Local z of the terrain (of a bare surface model, of whatever it holds) at points; NaN where there is none."""
        return self.terrain.height_at(x, y)

    def surface_at(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Local z of the uppermost surface at points: water, roofs and objects included; -inf where there is none."""
        ceiling = self.ceiling + 1.0
        down = torch.zeros(*x.shape, 3, dtype=x.dtype, device=x.device)
        down[..., 2] = -1
        return ceiling - self.cast(Rays(torch.stack([x, y, torch.full_like(x, ceiling)], dim=-1), down)).t

    @property
    def ceiling(self) -> float:
        """Local z above which there is nothing."""
        heights = [self.terrain.heights, self.buildings.top, self.objects.centre[:, 2] + self.objects.half[:, 2]]
        known = [v.detach()[torch.isfinite(v)] for v in (*heights, *([] if self.water is None else [self.water]))]
        edge = self.terrain.beyond if isinstance(self.terrain.beyond, float | int) else -math.inf
        return max([float(v.max()) for v in known if v.numel()] + [edge])

    def class_at(self, x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Layout class of the pixel at points; 0 (unknown) outside the image."""
        row, column = (
            torch.nan_to_num(v, nan=-1.0, posinf=-1.0, neginf=-1.0).floor().long() for v in self.grid.pixels(x, y)
        )
        inside = (row >= 0) & (row < self.grid.rows) & (column >= 0) & (column < self.grid.columns)
        found = self.classes[row.clamp(0, self.grid.rows - 1), column.clamp(0, self.grid.columns - 1)]
        return torch.where(inside, found, 0)

    def classes_of(self, hits: Hits, points: Float[Tensor, "*shape 3"]) -> Int[Tensor, "*shape"]:
        """Layout class of what was hit at ``points``; 0 for the sky."""
        into = points - 0.01 * self.grid.step * hits.normal  # walls belong to what they enclose
        found = self.class_at(into[..., 0], into[..., 1])
        found = torch.where((hits.kind == ROOF) | ((hits.kind == WALL) & (hits.index >= 0)), BUILDING, found)
        if self.water is not None:
            surface: HeightField = self._water  # type: ignore[attr-defined]
            level = surface.height_at(points[..., 0].detach(), points[..., 1].detach())
            wet = (hits.kind == TERRAIN) & ((points[..., 2] - level).abs() < _WET)
            found = torch.where(wet, WATER, found)
        if len(self.objects):
            found = torch.where(
                hits.kind == OBJECT, self.objects.classes[hits.index.clamp(0, len(self.objects) - 1)], found
            )
        return torch.where(hits.kind == SKY, 0, found)

    def stand(self, where: Place | Sequence[float | int], eye: float | int = EYE) -> tuple[float, float, float]:
        """Local (x, y, z) of an eye above the ground, or the water, at a place.

        Args:
            where: a Place, or local (x, y) in metres.
            eye: metres above the ground, above 0.

        Raises:
            InputError: the point lies outside the image or inside a building (on a surface model: on anything that is
                narrower than 60 m and higher than 3 m; the message says where the nearest open ground is), the ground
                there is unknown, or ``eye`` is not above 0.
        """
        if not 0 < require_number(eye, "eye height") < math.inf:
            raise InputError(f"eye height {eye:g} m is not above the ground; give metres above 0, such as {EYE:g}")
        x, y = self.frame.local(where.lon, where.lat) if isinstance(where, Place) else (where[0], where[1])
        x, y = float(x), float(y)
        left, bottom, right, top = self.grid.bounds
        if not (left <= x <= right and bottom <= y <= top):
            raise InputError(
                f"{self.name(x, y)} lies outside the image, whose south-west corner is {self.name(left, bottom)} "
                f"and north-east corner {self.name(right, top)}; give a point in it"
            )
        free = self._nearest_open(x, y)
        if free is not None:
            what = "on or in a building or tree" if self._is_surface_model else "inside a building"
            raise InputError(
                f"{self.name(x, y)} lies {what}; the nearest open ground is {self.name(*free)}, "
                f"{math.hypot(free[0] - x, free[1] - y):.1f} m away: stand there"
            )
        at = torch.tensor([x, y], dtype=torch.float64, device=self.terrain.heights.device)
        ground = float(self.height_at(at[0], at[1]))
        if not math.isfinite(ground):
            raise InputError(f"the height of the ground at {self.name(x, y)} is not known; give heights without a hole")
        surface: HeightField | None = self._water  # type: ignore[attr-defined]
        if surface is not None:
            level = float(surface.height_at(at[0], at[1]))
            ground = max(ground, level) if math.isfinite(level) else ground
        return x, y, ground + eye

    def name(self, x: float, y: float) -> str:
        """A local point in words, as a user gives it."""
        if self.frame.crs is None:
            return f"x={x:.2f} y={y:.2f} m"
        place = self.frame.place(x, y)
        return f"lon={place.lon:.6f} lat={place.lat:.6f}"

    def _nearest_open(self, x: float, y: float) -> tuple[float, float] | None:
        """Nearest point at a distance from every wall, if this one is in a building; None if it is not."""
        point = shapely.Point(x, y)
        if len(self.buildings):
            if not shapely.intersects(point, list(self.buildings.footprints)).any():
                return None
            walls = shapely.unary_union(shapely.buffer(list(self.buildings.footprints), _CLEAR + 1e-3))
            outline = shapely.intersection(walls.boundary, shapely.box(*self.grid.bounds))
            near = shapely.get_coordinates(shapely.shortest_line(point, outline))
            return (float(near[1, 0]), float(near[1, 1])) if len(near) else None
        blocked = self.blocked()
        row, column = (int(v) for v in self.grid.pixels(torch.tensor(x), torch.tensor(y)))
        row, column = min(row, self.grid.rows - 1), min(column, self.grid.columns - 1)
        if not blocked[row, column]:
            return None
        cx, cy = self.grid.centres()
        away = torch.where(blocked, torch.inf, torch.hypot(cx - x, cy - y))
        nearest = int(away.argmin())
        return (float(cx.flatten()[nearest]), float(cy.flatten()[nearest])) if torch.isfinite(away).any() else None

    def blocked(self) -> Bool[Tensor, "h w"]:
        """Pixels on which nobody stands, on the CPU: footprints; on a surface model, class building and what is high above what lies around."""
        blocked = torch.zeros(self.grid.rows, self.grid.columns, dtype=torch.bool)
        if len(self.buildings):
            drawn = rasterize(
                list(self.buildings.footprints),
                blocked.shape,
                transform=from_origin(self.grid.left, self.grid.top, self.grid.step, self.grid.step),
                all_touched=True,
            )
            blocked |= torch.from_numpy(drawn > 0)
        if self.terrain.grid != self.grid or not (self.terrain.surface == "columns" or self._is_surface_model):
            return blocked
        blocked |= self.classes.cpu() == BUILDING
        if self._is_surface_model:
            heights = self.terrain.heights.detach().cpu().double().numpy()
            # An opening takes away what is narrower than its window and leaves slopes as they are, if they go on outside.
            window = max(3, 2 * int(_WIDEST / self.grid.step / 2) + 1)
            around = np.pad(heights, window, mode="reflect", reflect_type="odd")
            ground = grey_opening(around, size=(window, window))[window:-window, window:-window]
            blocked |= torch.from_numpy(heights - ground > _RAISED)
        return blocked

    @property
    def _is_surface_model(self) -> bool:
        return self.provenance.get("geometry") == SURFACE_MODEL


def _at_least_single(rays: Rays) -> Rays:
    """Geometry needs float32: half precision is a metre at 2 km."""
    half = rays.directions.dtype in (torch.float16, torch.bfloat16)
    return rays.to(dtype=torch.float32) if half else rays


def _chunks(rays: Rays) -> list[Rays]:
    count = len(rays.directions)
    if count <= _CHUNK:
        return [rays]
    return [Rays(rays.origins[i : i + _CHUNK], rays.directions[i : i + _CHUNK]) for i in range(0, count, _CHUNK)]
