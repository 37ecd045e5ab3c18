"""A plan of streets: where roads, pavements, buildings, plants and furniture are, in local metres (x east, y north).

Streets are drawn as a grid in coordinates of their own and then turned and bent by one smooth map, so that bent streets keep their width to 16
percent. A plan is a function of a street type and a seed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import shapely
from jaxtyping import Float
from shapely import affinity

from gensat.render.streets.styles import StreetType


@dataclass(frozen=True)
class Bend:
    """The map from grid coordinates to the scene: a turn and two gentle waves.

    Args:
        turn: radians, counter-clockwise.
        size: metres that a street leaves its straight line by.
        length: metres of a wave.
        phase: of the two waves.
    """

    turn: float | int
    size: float | int
    length: float | int
    phase: tuple[float, float]

    def __call__(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Grid coordinates to local metres."""
        k = 2 * math.pi / self.length
        x = points[:, 0] + 0.6 * self.size * np.sin(k * points[:, 1] + self.phase[0])
        y = points[:, 1] + self.size * np.sin(k * points[:, 0] + self.phase[1])
        c, s = math.cos(self.turn), math.sin(self.turn)
        return np.stack([c * x - s * y, s * x + c * y], axis=1)

    def angle(self, x: float | int, y: float | int, along: float | int = 0.0) -> float:
        """Degrees counter-clockwise from x of a grid direction (radians) at a point, after the map."""
        step = np.array([[x, y], [x + 0.1 * math.cos(along), y + 0.1 * math.sin(along)]])
        (ax, ay), (bx, by) = self(step)
        return math.degrees(math.atan2(by - ay, bx - ax))

    def shape(self, polygon: shapely.Geometry, densify: bool = True) -> shapely.Geometry:
        """A geometry of the grid in the scene; long edges follow the bend."""
        if densify and self.size:
            polygon = shapely.segmentize(polygon, 5.0)
        return shapely.transform(polygon, self)


@dataclass(frozen=True)
class Building:
    """A building: walls over a footprint, and a roof.

    Args:
        footprint: local metres.
        eaves: metres of wall above its foot.
        floors: how many the walls show.
        facade: name of its style.
        roof: flat, gable or hip; the last two only over rectangles.
        rise: metres of the roof above the eaves.
        use: house, flats, shops, office, shed, garage, hut.
        seed: of its details.
        ridge: direction of a pitched roof's ridge, degrees counter-clockwise from x.
        attached: whether neighbours touch it, so that its roof has no overhang.
    """

    footprint: shapely.Polygon
    eaves: float | int
    floors: int
    facade: str
    roof: str
    rise: float | int
    use: str
    seed: int
    ridge: float | int
    attached: bool = False


@dataclass(frozen=True)
class Marking:
    """A painted line: (x0, y0) to (x1, y1), its width, and dashes with gaps (0 gap: a full line), in metres."""

    x0: float | int
    y0: float | int
    x1: float | int
    y1: float | int
    width: float | int = 0.12
    dash: float | int = 3.0
    gap: float | int = 0.0
    colour: tuple[float, float, float] = (0.75, 0.75, 0.72)


@dataclass(frozen=True)
class Item:
    """Something that stands on the ground: a kind of :mod:`gensat.render.streets.things`, its place, heading and size."""

    kind: str
    x: float | int
    y: float | int
    yaw: float | int = 0.0
    size: float | int = 1.0
    seed: int = 0


@dataclass
class Plan:
    """What a street consists of.

    Args:
        kind: street type.
        seed: it was drawn with.
        half: half the side of the square it fills, metres.
        bend: from grid to scene.
        areas: (polygon, material) in the order they are painted.
        roads: carriageways.
        walks: (centre line, half width of road, width of pavement): where one can stand.
        buildings: that do not overlap roads or each other.
        markings: paint.
        items: plants, furniture, cars.
    """

    kind: StreetType
    seed: int
    half: float | int
    bend: Bend
    areas: list[tuple[shapely.Geometry, str]] = field(default_factory=list)
    roads: list[shapely.Polygon] = field(default_factory=list)
    walks: list[tuple[shapely.LineString, float, float]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    markings: list[Marking] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def paint(self, polygon: shapely.Geometry, material: str) -> None:
        """Covers an area, in grid coordinates, with a material."""
        self.areas.append((self.bend.shape(polygon), material))

    def put(
        self,
        kind: str,
        x: float | int,
        y: float | int,
        rng: np.random.Generator,
        *,
        along: float | int = 0.0,
        size: float | int = 1.0,
    ) -> None:
        """Places an item at grid coordinates; ``along`` is the grid direction (radians) it looks."""
        (place,) = self.bend(np.array([[x, y]]))
        if max(abs(place)) < self.half - _BARE:
            yaw = -self.bend.angle(x, y, along)  # things lie along their own x; their yaw is clockwise
            self.items.append(Item(kind, float(place[0]), float(place[1]), yaw, float(size), int(rng.integers(2**31))))

    def house(
        self,
        polygon: shapely.Polygon,
        rng: np.random.Generator,
        *,
        rigid: bool = True,
        ridge: float | None = None,
        **more,
    ) -> None:
        """Places a building over a polygon of the grid: turned as a whole (``rigid``, corners stay right angles) or corner by corner.

        ``ridge`` is the grid direction of the ridge in radians; by default that of the longest side.
        """
        centre = polygon.centroid
        if ridge is None:
            corners = shapely.get_coordinates(polygon)
            sides = np.diff(corners, axis=0)
            longest = sides[np.hypot(*sides.T).argmax()]
            ridge = math.atan2(longest[1], longest[0])
        along = self.bend.angle(centre.x, centre.y) + math.degrees(ridge)
        if not rigid:
            along = self.bend.angle(centre.x, centre.y, ridge)
        if rigid:
            (place,) = self.bend(np.array([[centre.x, centre.y]]))
            turned = affinity.rotate(polygon, self.bend.angle(centre.x, centre.y), origin=(centre.x, centre.y))
            made = affinity.translate(turned, place[0] - centre.x, place[1] - centre.y)
        else:
            made = self.bend.shape(polygon, densify=False)
        self.buildings.append(Building(made, seed=int(rng.integers(2**31)), ridge=along, attached=not rigid, **more))

    def line(self, x0: float | int, y0: float | int, x1: float | int, y1: float | int, **more) -> None:
        """Paints a line between grid points; along a bend it becomes short straight pieces."""
        length = math.hypot(x1 - x0, y1 - y0)
        pieces = max(1, math.ceil(length / 12)) if self.bend.size else 1
        share = np.linspace(0, 1, pieces + 1)[:, None]
        points = self.bend(np.array([[x0, y0]]) * (1 - share) + np.array([[x1, y1]]) * share)
        for a, b in itertools.pairwise(points.tolist()):
            if min(max(map(abs, a)), max(map(abs, b))) < self.half:
                self.markings.append(Marking(a[0], a[1], b[0], b[1], **more))

    def settle(self) -> None:
        """Drops what cannot be: buildings over roads, water, each other or the edge, and items in buildings, other items or (trees, lamps) on roads."""
        roads = shapely.union_all(self.roads)
        water = shapely.union_all([area for area, material in self.areas if material == "water"])
        kept: list[Building] = []
        bounds = shapely.box(-self.half, -self.half, self.half, self.half)
        tree = shapely.STRtree([b.footprint for b in self.buildings])
        dropped: set[int] = set()
        for number, building in enumerate(self.buildings):
            shape = building.footprint
            if not (shape.is_valid and bounds.contains(shape)) or shape.intersects(roads) or shape.intersects(water):
                dropped.add(number)
                continue
            for other in tree.query(shape, predicate="intersects"):
                if (
                    other < number
                    and other not in dropped
                    and shape.intersection(self.buildings[other].footprint).area > 0.05
                ):
                    dropped.add(number)
                    break
            else:
                kept.append(building)
        self.buildings = kept
        self.items = _free(self.items, kept, roads, water)


_BARE = 24.0
"""Metres at the edge of a plan that have buildings but no furniture: what is far from the middle is seen from afar only."""

_SPACE = {"car": 2.3, "van": 2.6, "truck": 4.6, "bush": 0.6, "fence": 0.2, "hedge": 0.2, "unit": 0.0}
"""Radius that an item keeps to others, metres; 0.35 where not listed, crowns may touch."""

_ON_ROADS = ("car", "van", "truck", "median_tree", "median_lamp")


def _free(items: list[Item], buildings: list[Building], roads: shapely.Geometry, water: shapely.Geometry) -> list[Item]:
    if not items:
        return []
    points = shapely.points([(i.x, i.y) for i in items])
    shapely.prepare(roads)
    on_road = shapely.contains(roads, points)
    wet = shapely.contains(water, points) if not water.is_empty else np.zeros(len(items), bool)
    radii = np.array([_SPACE.get(i.kind, 0.35) for i in items])
    tree = shapely.STRtree([b.footprint for b in buildings])
    inside = np.zeros(len(items), bool)
    if buildings:
        near = tree.query(points, predicate="dwithin", distance=np.where(radii > 0.3, radii, 0.3))
        inside[near[0]] = True
    kept: list[Item] = []
    cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for item, radius, road, hit, drowned in zip(items, radii, on_road, inside, wet, strict=True):
        if hit or drowned or (road and item.kind not in _ON_ROADS):
            continue
        cell = (int(item.x // 6), int(item.y // 6))
        around = [o for i in (-1, 0, 1) for j in (-1, 0, 1) for o in cells.get((cell[0] + i, cell[1] + j), [])]
        if any(math.hypot(item.x - x, item.y - y) < radius + r for x, y, r in around):
            continue
        cells.setdefault(cell, []).append((item.x, item.y, float(radius)))
        kept.append(item)
    return kept
