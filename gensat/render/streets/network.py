"""Streets of a plan: carriageways, pavements, crossings, paint, and what stands along the kerb."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely

from gensat.render.streets.plan import Bend, Plan
from gensat.render.streets.styles import Range, StreetType

WHITE, YELLOW = (0.72, 0.72, 0.70), (0.72, 0.52, 0.09)


@dataclass(frozen=True)
class Street:
    """A straight street of the grid.

    Args:
        across: its centre line's coordinate: y of a street along x, x of one along y.
        along_x: whether it runs along x.
        road: width of the carriageway, metres.
        pavement: width of each pavement.
        main: the street through the middle.
    """

    across: float | int
    along_x: bool
    road: float | int
    pavement: float | int
    main: bool = False

    def strip(self, low: float | int, high: float | int, half: float | int) -> shapely.Polygon:
        """The rectangle from ``low`` to ``high`` metres across its centre line, over the whole scene and beyond."""
        reach = 1.8 * half
        if self.along_x:
            return shapely.box(-reach, self.across + low, reach, self.across + high)
        return shapely.box(self.across + low, -reach, self.across + high, reach)

    def at(self, s: float | int, offset: float | int) -> tuple[float, float]:
        """Grid point ``s`` along and ``offset`` across."""
        return (s, self.across + offset) if self.along_x else (self.across + offset, s)


def draw_streets(kind: StreetType, rng: np.random.Generator, half: float | int) -> tuple[list[Street], list[Street]]:
    """Streets along x (the main one first) and along y."""
    reach = 1.5 * half
    road, pavement = rng.uniform(*kind.road), rng.uniform(*kind.pavement)
    side_road = (
        max(4.2, road * rng.uniform(0.65, 0.85))
        if kind.median or kind.filler == "strip"
        else road * rng.uniform(0.85, 1.0)
    )

    def positions(first: float | int, block: Range) -> list[float]:
        found = [first]
        for sign in (1, -1):
            at = first
            while abs(at) < reach:
                at += sign * (rng.uniform(*block) + road + 2 * pavement)
                found.append(at)
        return found

    along, across = kind.block
    rows = [
        Street(at, True, road if i == 0 else side_road, pavement, i == 0)
        for i, at in enumerate(positions(rng.uniform(-8, 8), across))
    ]
    columns = [Street(at, False, side_road, pavement) for at in positions(rng.uniform(-35, 35), along)]
    if kind.water:
        rows = [s for s in rows if s.across >= rows[0].across]
    return rows, columns


def lay(plan: Plan, rows: list[Street], columns: list[Street], rng: np.random.Generator) -> list[shapely.Polygon]:
    """Paints the streets into a plan and furnishes them; returns the blocks between them (grid coordinates)."""
    kind, half = plan.kind, plan.half
    streets = [*rows, *columns]
    world = shapely.box(-1.6 * half, -1.6 * half, 1.6 * half, 1.6 * half)
    if kind.water:
        quay = rows[0].across - rows[0].road / 2 - rows[0].pavement - rng.uniform(3, 8)
        world = shapely.box(-1.6 * half, quay, 1.6 * half, 1.6 * half)
        plan.paint(shapely.box(-1.8 * half, -1.8 * half, 1.8 * half, quay), "water")
    plan.paint(world, kind.yard)
    if kind.water:
        plan.paint(shapely.box(-1.6 * half, quay, 1.6 * half, rows[0].across), kind.footway)
        plan.paint(shapely.box(-1.6 * half, quay, 1.6 * half, quay + 0.6), "kerb")
    roads = shapely.union_all([s.strip(-s.road / 2, s.road / 2, half) for s in streets]).intersection(world)
    if kind.water:
        south = shapely.box(-2 * half, -2 * half, 2 * half, rows[0].across - rows[0].road / 2)
        roads = roads.difference(south)
    # corners are rounded, as kerbs are
    roads = roads.buffer(-1e-6).buffer(3.0, join_style="mitre").buffer(-3.0, quad_segs=4) if not kind.water else roads
    walks = shapely.union_all(
        [s.strip(-s.road / 2 - s.pavement, s.road / 2 + s.pavement, half) for s in streets]
    ).intersection(world)
    if max(s.pavement for s in streets) > 0.5:
        plan.paint(walks.difference(roads), kind.footway)
    if kind.carriageway != "dirt" and kind.name != "village":
        plan.paint(roads.buffer(0.3, join_style="mitre"), "kerb")
    plan.paint(roads, kind.carriageway)
    plan.roads.extend(p for p in shapely.get_parts(plan.bend.shape(roads)) if p.geom_type == "Polygon")
    for street in streets:
        start = rows[0].across if kind.water and not street.along_x else -1.4 * half
        line = shapely.LineString([street.at(start, 0), street.at(1.4 * half, 0)])
        plan.walks.append((plan.bend.shape(line), street.road / 2, street.pavement))
        crossings = [(c.across, c.road / 2, c.pavement) for c in (columns if street.along_x else rows)]
        if kind.water and not street.along_x:  # no street beyond the quay
            crossings.append((rows[0].across - 5 * half, 5 * half, 0.0))
        _median(plan, street, crossings, rng)
        _paint(plan, street, crossings)
        _furnish(plan, street, crossings, rng)
    inner = world.difference(
        shapely.union_all([s.strip(-s.road / 2 - s.pavement, s.road / 2 + s.pavement, half) for s in streets])
    )
    if kind.water:
        inner = inner.intersection(shapely.box(-2 * half, rows[0].across, 2 * half, 2 * half))
    return [p for p in shapely.get_parts(inner) if p.geom_type == "Polygon" and p.area > 60]


def _stretches(
    street: Street, crossings: list[tuple[float, float, float]], half: float | int, clear: float | int
) -> list[tuple[float, float]]:
    """Pieces of a street between its crossings, ``clear`` metres away from them."""
    edges = sorted((at - r - clear, at + r + clear) for at, r, _ in crossings)
    starts = [-1.5 * half, *(e[1] for e in edges)]
    ends = [*(e[0] for e in edges), 1.5 * half]
    return [(a, b) for a, b in zip(starts, ends, strict=True) if b - a > 4]


def _median(plan: Plan, street: Street, crossings: list[tuple[float, float, float]], rng: np.random.Generator) -> None:
    kind = plan.kind
    if not (kind.median and street.main):
        return
    for a, b in _stretches(street, crossings, plan.half, 5.0):
        (x0, y0), (x1, y1) = street.at(a, -kind.median / 2), street.at(b, kind.median / 2)
        box = shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        plan.paint(box.buffer(0.3, join_style="mitre"), "kerb")
        plan.paint(box, "grass")
        for s in np.arange(a + 3, b - 2, kind.avenue):
            plan.put("median_tree", *street.at(float(s), 0.0), rng, size=rng.uniform(0.8, 1.15))
        for s in np.arange(a + 3 + kind.avenue / 2, b - 2, 3 * kind.avenue):
            plan.put("median_lamp", *street.at(float(s), 0.0), rng, along=math.pi / 2)


def _paint(plan: Plan, street: Street, crossings: list[tuple[float, float, float]]) -> None:
    kind, road = plan.kind, street.road
    if kind.markings == "none":
        return
    american = kind.markings == "us"
    for a, b in _stretches(street, crossings, plan.half, 4.5):
        if kind.median and street.main:
            lanes = [(side * (kind.median / 2 + (road - kind.median) / 4)) for side in (1, -1)]
            for lane in lanes:
                plan.line(*street.at(a, lane), *street.at(b, lane), colour=WHITE, dash=3.0, gap=6.0)
        elif american:
            for offset in (-0.12, 0.12):
                plan.line(*street.at(a, offset), *street.at(b, offset), colour=YELLOW, width=0.11)
            if road > 12:
                for lane in (road / 4, -road / 4):
                    plan.line(*street.at(a, lane), *street.at(b, lane), colour=WHITE, dash=3.0, gap=9.0)
        elif road > 6.5:
            plan.line(*street.at(a, 0), *street.at(b, 0), colour=WHITE, dash=3.0, gap=4.5)
        for end, towards in ((a, 1), (b, -1)):
            zebra = end - towards * 2.6
            if abs(end) > 1.45 * plan.half or street.pavement < 1.5:
                continue
            if american:  # two lines across, and the stop line
                for s in (zebra - 1.4, zebra + 1.4, end + towards * 0.6):
                    plan.line(*street.at(s, -road / 2 + 0.3), *street.at(s, road / 2 - 0.3), colour=WHITE, width=0.3)
            else:
                plan.line(
                    *street.at(zebra, -road / 2 + 0.4),
                    *street.at(zebra, road / 2 - 0.4),
                    colour=WHITE,
                    width=3.0,
                    dash=0.5,
                    gap=0.5,
                )


def _furnish(plan: Plan, street: Street, crossings: list[tuple[float, float, float]], rng: np.random.Generator) -> None:
    kind, half = plan.kind, plan.half
    for a, b in _stretches(street, crossings, half, max(street.pavement, 1.0) + 5.5):
        for side in (1, -1):
            kerb = side * street.road / 2
            facing = 0.0 if street.along_x else math.pi / 2
            inward = -side * math.pi / 2 if street.along_x else math.pi / 2 + side * math.pi / 2
            edge = kerb + side * 0.55
            if kind.avenue and street.pavement > 1.1:
                for s in np.arange(a + rng.uniform(1, 5), b, kind.avenue):
                    if rng.random() < 0.88:
                        place = street.at(float(s) + rng.uniform(-0.6, 0.6), kerb + side * 0.9)
                        plan.put(str(rng.choice(kind.trees)), *place, rng, size=rng.uniform(0.65, 1.05))
            if kind.lamps and (side > 0 or street.road > 12):
                lamp = "pole" if kind.name in ("suburb", "informal", "village", "strip") else "lamp"
                for s in np.arange(a + rng.uniform(3, 12), b, kind.lamps):
                    plan.put(lamp, *street.at(float(s), edge), rng, along=inward)
            s = a + rng.uniform(0, 3)
            while s < b:
                if kind.parking and rng.random() < kind.parking and street.road > 5.2:
                    sort = "van" if rng.random() < 0.12 else "car"
                    plan.put(sort, *street.at(s, kerb - side * 1.15), rng, along=facing + (0 if side < 0 else math.pi))
                s += rng.uniform(5.4, 6.6)
            if street.pavement > 1.3:
                for sort, gap in (
                    ("bench", 70),
                    ("bin", 45),
                    ("hydrant", 80),
                    ("sign", 40),
                    ("bollard", 55),
                    ("person", 24),
                    ("person", 40),
                ):
                    if sort == "bollard" and kind.markings == "us":
                        continue
                    s = a + rng.uniform(0, gap)
                    while s < b:
                        inside = kerb + side * (
                            rng.uniform(0.8, max(street.pavement - 0.5, 0.9)) if sort == "person" else 0.5
                        )
                        plan.put(sort, *street.at(s, inside), rng, along=inward if sort != "person" else facing)
                        s += rng.uniform(0.5 * gap, 1.5 * gap)
        if not kind.median:
            for s in np.arange(a, b, 1.0):
                if rng.random() < 0.012:
                    lane = -street.road / 5 if rng.random() < 0.5 else street.road / 5
                    plan.put(
                        "car",
                        *street.at(float(s), lane),
                        rng,
                        along=(0.0 if street.along_x else math.pi / 2) + (0 if lane < 0 else math.pi),
                    )


def bend_for(kind: StreetType, rng: np.random.Generator) -> Bend:
    """A turn of any size and the bend of the type."""
    return Bend(
        turn=float(rng.uniform(0, 2 * math.pi)),
        size=float(kind.bend * rng.uniform(0.5, 1.0)),
        length=float(rng.uniform(170, 260)),
        phase=(float(rng.uniform(0, 6.28)), float(rng.uniform(0, 6.28))),
    )
