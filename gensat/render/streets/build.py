"""From a plan to geometry: terrain, prisms, roofs, things and the tables that facades are looked up in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
import torch
from jaxtyping import Int
from rasterio import features
from rasterio.transform import from_origin
from torch import Tensor

from gensat.geo.classes import BUILDING, WOODLAND
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import BOX, CONE, ELLIPSOID, GABLE, HIP
from gensat.render.prisms import Prisms
from gensat.render.scene import Scene
from gensat.render.streets.facade_styles import COLUMNS, Walls, facade_row
from gensat.render.streets.noise import value_noise
from gensat.render.streets.plan import Building, Plan
from gensat.render.streets.surface import Surface
from gensat.render.streets.things import Maker, Solids

_TILES = (
    (0.26, 0.09, 0.05),
    (0.20, 0.075, 0.05),
    (0.12, 0.105, 0.10),
    (0.075, 0.075, 0.08),
    (0.17, 0.12, 0.09),
    (0.22, 0.13, 0.08),
)
_SHEETS = ((0.36, 0.36, 0.36), (0.24, 0.11, 0.06), (0.30, 0.30, 0.31), (0.20, 0.25, 0.32), (0.42, 0.40, 0.37))
_QUAY = 1.6  # metres from the quay down to the water
_BAY = COLUMNS.index("bay")


@dataclass(frozen=True)
class Built:
    """A scene without its image, and what its materials are looked up in."""

    scene: Scene
    surface: Surface
    walls: Walls
    roofs: Int[Tensor, " n"]


def build_scene(plan: Plan, frame: SceneFrame, grid: Grid) -> Built:
    """The geometry of a plan; the image is still black."""
    terrain, surface = _terrain(plan), Surface(plan)
    base = [_foot(building, terrain) for building in plan.buildings]
    top = [low + building.eaves for low, building in zip(base, plan.buildings, strict=True)]
    prisms = Prisms.of(
        [b.footprint for b in plan.buildings],
        top,
        base,
        attributes=[{"height": b.eaves + b.rise, "use": b.use} for b in plan.buildings],
    )
    walls = walls_of(plan.buildings, plan.roads, prisms, terrain, np.array(base))
    classes = surface.classes(grid)
    if plan.buildings:
        transform = from_origin(grid.left, grid.top, grid.step, grid.step)
        mask = features.rasterize([b.footprint for b in plan.buildings], out_shape=classes.shape, transform=transform)
        classes = torch.where(torch.from_numpy(mask).bool(), BUILDING, classes)

    solids = Solids()
    roofs = torch.tensor(
        [_roof(solids, number, b, z) for number, (b, z) in enumerate(zip(plan.buildings, top, strict=True))],
        dtype=torch.int64,
    )

    def height(px: float | int, py: float | int) -> float:
        return float(
            terrain.height_at(torch.tensor([px], dtype=torch.float64), torch.tensor([py], dtype=torch.float64))
        )

    def land(px: float | int, py: float | int) -> int:
        row, column = int((grid.top - py) / grid.step), int((px - grid.left) / grid.step)
        return int(classes[min(max(row, 0), grid.rows - 1), min(max(column, 0), grid.columns - 1)])

    _backdrop(solids, plan)
    maker = Maker(solids, height, land)
    for item in plan.items:
        maker.make(item)
    scene = Scene(
        frame=frame,
        image=torch.zeros(grid.rows, grid.columns, 3),
        terrain=terrain,
        buildings=prisms,
        objects=solids.objects(),
        classes=classes,
        grid=grid,
    )
    return Built(scene, surface, walls, roofs)


def _backdrop(solids: Solids, plan: Plan) -> None:
    """Woods beyond the last houses, so that streets do not end at the edge of the world."""
    rng = np.random.default_rng([plan.seed, 4])
    water = shapely.union_all([area for area, material in plan.areas if material == "water"])
    for angle in np.linspace(0, 2 * math.pi, 130):
        away = plan.half * rng.uniform(1.45, 2.1)
        x, y = away * math.cos(angle), away * math.sin(angle)
        if not water.is_empty and water.buffer(plan.half).contains(shapely.Point(x, y)):
            continue
        size, high = rng.uniform(5, 11), rng.uniform(3.5, 9)
        colour = np.array((0.075, 0.10, 0.04)) * rng.uniform(0.7, 1.3)
        solids.add(
            ELLIPSOID,
            "leaf",
            (x, y, high * 0.35),
            (size, size, high),
            tuple(colour),
            land=WOODLAND,
            seed=int(rng.integers(1000)),
        )


def _terrain(plan: Plan) -> HeightField:
    """Gentle hills; beside a quay, level ground and water below it."""
    step = 1.0 if plan.kind.water else 4.0
    count = round(2 * plan.half / step)
    grid = Grid.centred(count, count, step)
    x, y = grid.centres()
    points = torch.stack([x, y], dim=-1).float()
    if plan.kind.water:
        heights = torch.zeros(count, count)
        water = shapely.union_all([area for area, material in plan.areas if material == "water"])
        wet = features.rasterize(
            [water], out_shape=(count, count), transform=from_origin(grid.left, grid.top, step, step)
        )
        return HeightField(torch.where(torch.from_numpy(wet).bool(), -_QUAY, heights), grid)
    hills = value_noise(points, 85.0, plan.seed % 65536) + 0.3 * value_noise(points, 38.0, plan.seed % 65536 + 1)
    return HeightField(plan.kind.relief * (hills - hills.mean()), grid)


def _at(terrain: HeightField, points: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)).to(terrain.heights.device)
    return terrain.height_at(values[:, 0].contiguous(), values[:, 1].contiguous()).double().cpu().numpy()


def _foot(building: Building, terrain: HeightField) -> float:
    outline = shapely.get_coordinates(shapely.segmentize(building.footprint.exterior, 2.0))
    return float(_at(terrain, outline).min())


def walls_of(
    buildings: Sequence[Building],
    roads: Sequence[shapely.Polygon],
    prisms: Prisms,
    terrain: HeightField,
    base: np.ndarray,
) -> Walls:
    """Which edges face a street (all where no road is known), which touch a neighbour, and where the doors are.

    Args:
        buildings: how their walls look.
        roads: carriageways, local metres.
        prisms: of the same buildings, in the same order.
        terrain: on which they stand.
        base: local z of their feet.
    """
    bays = np.array([facade_row(b.facade, b.use, b.floors, b.eaves, b.seed)[_BAY] for b in buildings])
    edges, owner = prisms.edges.double().cpu().numpy(), prisms.owner.cpu().numpy()
    length = np.hypot(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1])
    out = np.stack([edges[:, 3] - edges[:, 1], edges[:, 0] - edges[:, 2]], axis=1) / np.maximum(length, 1e-9)[:, None]
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    front = np.zeros(len(edges))
    doors, entrances = np.full(len(edges), -1.0), np.zeros(len(buildings))
    if len(edges):
        tree = shapely.STRtree([b.footprint for b in buildings])
        street = shapely.union_all(list(roads))
        if street.is_empty:
            front = np.ones(len(edges))
        else:
            near = shapely.shortest_line(shapely.points(middle + out), street)
            towards = shapely.get_coordinates(near).reshape(-1, 2, 2)[:, 1] - middle
            away = np.hypot(*towards.T)
            facing = (towards * out).sum(1) / np.maximum(away, 1e-9)
            front = ((facing > 0.6) & (away < 28)).astype(float)
        probe = tree.query(shapely.points(middle + 0.6 * out), predicate="within")
        other = owner[probe[0]] != probe[1]
        front[probe[0][other]] = -1.0
        bay = bays[owner]
        for number, building in enumerate(buildings):
            mine = np.flatnonzero(owner == number)
            best = mine[
                np.argmax(length[mine] * (1 + 3 * (front[mine] > 0)) * (front[mine] >= 0) + 1e-3 * length[mine])
            ]
            count = max(1, int(length[best] // bay[best]))
            doors[best] = np.random.default_rng(building.seed + 1).integers(count)
            start, step = edges[best, :2], (edges[best, 2:] - edges[best, :2]) / count
            entrances[number] = float(_at(terrain, (start + (doors[best] + 0.5) * step)[None])[0] - base[number])
    rows = [
        facade_row(b.facade, b.use, b.floors, b.eaves, b.seed, entrance)
        for b, entrance in zip(buildings, entrances.tolist(), strict=True)
    ]
    table = np.stack([length, front, doors], axis=1)
    walls = Walls(
        torch.tensor(rows, dtype=torch.float32).reshape(len(rows), len(COLUMNS)),
        torch.tensor(table, dtype=torch.float32),
        prisms.owner.cpu(),
        prisms.along.float().cpu(),
        torch.zeros(0),
        torch.zeros(len(edges), dtype=torch.int64),
    )
    ground, first = _ground_along(walls, edges, terrain, base)
    return replace(walls, ground=ground, first=first)


def _ground_along(walls: Walls, edges: np.ndarray, terrain: HeightField, base: np.ndarray) -> tuple[Tensor, Tensor]:
    """Heights of the ground above the feet at the ends and middles of all bays, and where those of each edge begin."""
    counts = 2 * walls.bays(torch.arange(len(edges)))[0].long().numpy() + 1
    first = np.cumsum(counts) - counts
    edge = np.repeat(np.arange(len(edges)), counts)
    share = (np.arange(len(edge)) - first[edge]) / np.maximum(counts[edge] - 1, 1)
    points = edges[edge, :2] + share[:, None] * (edges[edge, 2:] - edges[edge, :2])
    heights = _at(terrain, points) - base[walls.owner.numpy()[edge]]
    return torch.from_numpy(heights).float(), torch.from_numpy(first)


def _roof(solids: Solids, number: int, building: Building, z: float | int) -> int:
    """Adds a pitched roof, chimneys and plant; returns the seed of the flat roof, negative for sheet metal."""
    rng = np.random.default_rng(building.seed + 2)
    angle = math.radians(building.ridge)
    axis, side = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    corners = shapely.get_coordinates(building.footprint.exterior)
    along, across = corners @ axis, corners @ side
    middle = (along.max() + along.min()) / 2 * axis + (across.max() + across.min()) / 2 * side
    long, wide = (along.max() - along.min()) / 2, (across.max() - across.min()) / 2
    yaw, sheet = -building.ridge, building.use in ("shed", "hut")
    fits = building.footprint.area > 0.8 * 4 * long * wide
    if building.attached:  # a skewed lot: the roof is as long as the lot is on average
        long = building.footprint.area / (4 * wide)
    if building.roof in ("gable", "hip") and building.rise > 0 and fits:
        over = 0.0 if building.attached else 0.35
        rise = building.rise * (1 + over / wide)
        low = z - building.rise * over / wide
        hip = building.roof == "hip" and long >= wide
        palette = _SHEETS if sheet else _TILES
        half = (long + (over if hip else 0.6 * over), wide + over, rise / 2)
        colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.15)
        solids.add(
            HIP if hip else GABLE,
            "tile",
            (*middle, low + rise / 2),
            half,
            tuple(colour),
            yaw=yaw,
            taper=0.0,
            land=BUILDING,
            seed=number,
        )
        if not sheet and rng.random() < 0.8:
            at = middle + axis * long * rng.uniform(-0.9, 0.9) + side * wide * rng.uniform(-0.2, 0.2)
            solids.add(
                BOX,
                "stone",
                (*at, z + (building.rise + 0.9) / 2),
                (0.32, 0.4, (building.rise + 0.9) / 2),
                (0.2, 0.12, 0.09),
                yaw=yaw,
                land=BUILDING,
            )
    elif long * wide > 40 and building.use not in ("garage", "hut"):
        for _ in range(rng.integers(1, 6 if building.use != "house" else 2)):
            at = middle + axis * long * rng.uniform(-0.7, 0.7) + side * wide * rng.uniform(-0.6, 0.6)
            size = rng.uniform(0.6, 1.6, 2)
            high = rng.uniform(0.4, 1.1)
            if building.footprint.contains(shapely.Point(at).buffer(size.max() * 1.5)):
                solids.add(
                    BOX, "metal", (*at, z + high), (size[0], size[1], high), (0.36, 0.36, 0.35), yaw=yaw, land=BUILDING
                )
        if building.floors > 3 and building.footprint.contains(shapely.Point(middle).buffer(3.2)):
            solids.add(BOX, "stone", (*middle, z + 1.4), (2.2, 1.7, 1.4), (0.36, 0.34, 0.31), yaw=yaw, land=BUILDING)
    elif (
        building.use == "hut" and rng.random() < 0.3 and building.footprint.contains(shapely.Point(middle).buffer(1.0))
    ):
        solids.add(CONE, "plastic", (*middle, z + 0.6), (0.55, 0.55, 0.6), (0.03, 0.03, 0.03), land=BUILDING)
    return -int(building.seed) - 1 if sheet else int(building.seed)
