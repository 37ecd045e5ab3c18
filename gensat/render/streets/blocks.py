"""How blocks between streets are filled: one function a way of building. All work in grid coordinates of a plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import shapely
import shapely.affinity

from gensat.render.streets.plan import Plan
from gensat.render.streets.styles import Range

Filler = Callable[[Plan, shapely.Polygon, np.random.Generator], None]


def _pieces(length: float | int, size: Range, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Cuts a length into parts of about the given size."""
    count = max(1, round(length / rng.uniform(*size)))
    cuts = np.cumsum(np.r_[0, rng.uniform(0.75, 1.25, count)])
    cuts = cuts / cuts[-1] * length
    return [(a, b) for a, b in itertools.pairwise(cuts.tolist())]


def _box(x0: float | int, y0: float | int, x1: float | int, y1: float | int) -> shapely.Polygon:
    return shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _shape(
    plan: Plan,
    rng: np.random.Generator,
    floors: int,
    storey: float | int,
    ground: float | int,
    roof: str,
    span: float | int,
) -> dict:
    """What :meth:`Plan.house` needs besides a polygon."""
    rise = 0.0 if roof == "flat" else min(span / 2 * rng.uniform(0.55, 1.0), 6.0)
    return {
        "eaves": float(ground + (floors - 1) * storey + (rng.uniform(0.6, 1.1) if roof == "flat" else 0.3)),
        "floors": int(floors),
        "facade": str(rng.choice(plan.kind.facades)),
        "roof": roof,
        "rise": float(rise),
    }


def _trees(
    plan: Plan,
    area: shapely.Polygon,
    spacing: float | int,
    rng: np.random.Generator,
    kinds: tuple[str, ...] | None = None,
) -> None:
    """Scatters trees over an area, one in about ``spacing``^2."""
    if area.is_empty:
        return
    x0, y0, x1, y1 = area.bounds
    count = rng.poisson(area.area / spacing**2)
    for x, y in rng.uniform((x0, y0), (x1, y1), (count, 2)):
        if area.contains(shapely.Point(x, y)):
            plan.put(str(rng.choice(kinds or plan.kind.trees)), x, y, rng, size=rng.uniform(0.6, 1.2))


def perimeter(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Houses wall to wall around a court, each with its own height and front."""
    x0, y0, x1, y1 = block.bounds
    depth = min(rng.uniform(10.5, 13.5), (y1 - y0) / 2 - 1, (x1 - x0) / 2 - 1)
    common = rng.integers(plan.kind.floors[0], plan.kind.floors[1] + 1)
    sides = [(x1 - x0, "s"), (x1 - x0, "n"), (y1 - y0 - 2 * depth, "w"), (y1 - y0 - 2 * depth, "e")]
    for length, side in sides:
        if length < 6:
            continue
        for a, b in _pieces(length, (11, 20), rng):
            if rng.random() < 0.03:
                continue  # a gap: a lot not built on
            own = depth * rng.uniform(0.85, 1.0)
            shape = {
                "s": _box(x0 + a, y0, x0 + b, y0 + own),
                "n": _box(x0 + a, y1 - own, x0 + b, y1),
                "w": _box(x0, y0 + depth + a, x0 + own, y0 + depth + b),
                "e": _box(x1 - own, y0 + depth + a, x1, y0 + depth + b),
            }[side]
            floors = int(np.clip(common + rng.integers(-1, 2), *plan.kind.floors))
            roof = str(rng.choice(plan.kind.roofs))
            details = _shape(plan, rng, floors, rng.uniform(3.0, 3.6), rng.uniform(3.6, 4.6), roof, own)
            along = 0.0 if side in "sn" else math.pi / 2
            plan.house(shape, rng, rigid=False, ridge=along, use="shops" if rng.random() < 0.5 else "flats", **details)
    court = _box(x0 + depth, y0 + depth, x1 - depth, y1 - depth)
    if court.area > 100:
        plan.paint(court, "grass" if plan.kind.yard == "grass" else plan.kind.yard)
        plan.paint(court.difference(court.buffer(-3.0)), "concrete")
        _trees(plan, court.buffer(-3.5), 9.0, rng)


def detached(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Single houses behind lawns, with drives, garages, hedges and back gardens."""
    x0, y0, x1, y1 = block.bounds
    middle = (y0 + y1) / 2
    for front, towards in ((y0, 1.0), (y1, -1.0)):
        for a, b in _pieces(x1 - x0, (17, 23), rng):
            if b - a < 10:
                continue  # a strip too narrow for a house
            left, right = x0 + a, x0 + b
            setback, width, deep = rng.uniform(6, 9), (b - a) * rng.uniform(0.55, 0.72), rng.uniform(8.5, 11.5)
            start = left + rng.uniform(1.2, max(1.3, (b - a) - width - 3.6))
            near, far = front + towards * setback, front + towards * (setback + deep)
            floors = int(rng.integers(plan.kind.floors[0], plan.kind.floors[1] + 1))
            roof = str(rng.choice(plan.kind.roofs))
            details = _shape(plan, rng, floors, 2.7, 2.8, roof, min(deep, width))
            plan.house(_box(start, near, start + width, far), rng, use="house", **details)
            garage = start + width + 0.4
            if right - garage > 3.2:
                edge = min(garage + 3.3, right - 0.2)
                plan.paint(_box(garage, front - towards * 0.2, edge, near + towards * 3), "concrete")
                side = dict(details, floors=1, eaves=2.6, roof="flat", rise=0.0)
                plan.house(_box(garage, near + towards * 3, edge, near + towards * 8), rng, use="garage", **side)
                if rng.random() < 0.6:
                    plan.put(
                        "car", (garage + edge) / 2, front + towards * (setback - 2.6), rng, along=towards * math.pi / 2
                    )
            path = start + width * rng.uniform(0.3, 0.7)
            plan.paint(_box(path - 0.6, front, path + 0.6, near), "concrete")
            garden = _box(left, far + towards * 2, right, middle)
            _trees(plan, garden, 9, rng)
            if rng.random() < 0.75:
                plan.put(
                    str(rng.choice(plan.kind.trees)),
                    left + rng.uniform(1.5, max(b - a - 5, 2)),
                    front + towards * rng.uniform(2, 4.5),
                    rng,
                    size=rng.uniform(0.6, 1.0),
                )
            for x in np.arange(start + 0.8, start + width - 0.5, 1.5):
                if abs(x - path) > 1.2 and rng.random() < 0.7:
                    plan.put("bush", float(x), near - towards * 0.9, rng, size=rng.uniform(0.6, 1.1))
            for y in np.arange(min(near, middle) + 1, max(near, middle), 2.0):
                plan.put("fence", left, float(y), rng, along=math.pi / 2)
            if rng.random() < 0.5:
                plan.put("mailbox", garage + 0.3, front + towards * 0.6, rng, along=-towards * math.pi / 2)
    for x in np.arange(x0 + 1, x1, 2.0):
        plan.put("fence", float(x), middle, rng)


def terraces(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Rows of narrow houses with a small front garden each and long back gardens."""
    x0, y0, x1, y1 = block.bounds
    middle = (y0 + y1) / 2
    width, deep, floors = (
        rng.uniform(4.9, 5.8),
        rng.uniform(8, 9.5),
        int(rng.integers(plan.kind.floors[0], plan.kind.floors[1] + 1)),
    )
    setback = rng.uniform(1.6, 4.0)
    details = _shape(plan, rng, floors, 2.8, 2.9, "gable", deep)
    for front, towards in ((y0, 1.0), (y1, -1.0)):
        for start, end in _pieces(x1 - x0 - 2, (38, 62), rng):
            count = int((end - start - 2.0) // width)
            for i in range(count):
                left = x0 + 1 + start + i * width
                shape = _box(left, front + towards * setback, left + width, front + towards * (setback + deep))
                plan.house(shape, rng, rigid=False, ridge=0.0, use="house", **details)
                plan.paint(_box(left + 0.6, front, left + 1.8, front + towards * setback), "pavers")
                for piece in np.arange(left + 2.0, left + width - 0.6, 1.8):
                    plan.put("hedge" if rng.random() < 0.5 else "wall", float(piece) + 0.6, front + towards * 0.35, rng)
                if rng.random() < 0.3:
                    plan.put("bush", left + width - 1.2, front + towards * setback * 0.6, rng, size=0.8)
            garden = _box(x0 + start, front + towards * (setback + deep + 2), x0 + end, middle)
            _trees(plan, garden, 11, rng)
            for i in range(count + 1):
                for y in np.arange(2, abs(middle - front) - setback - deep, 2.0):
                    plan.put(
                        "fence",
                        x0 + 1 + start + i * width,
                        front + towards * (setback + deep + float(y)),
                        rng,
                        along=math.pi / 2,
                    )


def towers(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """High buildings on podiums that fill their lots; now and then a square."""
    x0, y0, x1, y1 = block.bounds
    for a, b in _pieces(x1 - x0, (26, 42), rng):
        for c, d in _pieces(y1 - y0, (26, 40), rng):
            if rng.random() < 0.08:
                square = _box(x0 + a, y0 + c, x0 + b, y0 + d)
                plan.paint(square, "pavers")
                _trees(plan, square.buffer(-2), 7, rng)
                continue
            floors = int(np.clip(rng.lognormal(2.3, 0.6), *plan.kind.floors))
            details = _shape(plan, rng, floors, 3.6, 5.2, "flat", 20)
            if floors > 9:
                details["facade"] = str(rng.choice([f for f in plan.kind.facades if f != "stone"]))
            gap = 0.0 if rng.random() < 0.6 else rng.uniform(1.5, 4)
            shape = _box(x0 + a, y0 + c, x0 + b - gap, y0 + d - (0 if rng.random() < 0.6 else gap))
            plan.house(shape, rng, rigid=False, use="shops" if rng.random() < 0.6 else "office", **details)


def sheds(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Halls on asphalt with lorries, containers, fences and a few trees."""
    x0, y0, x1, y1 = block.bounds
    for a, b in _pieces(x1 - x0, (38, 60), rng):
        for c, d in _pieces(y1 - y0, (36, 52), rng):
            margin = rng.uniform(6, 11, 4)
            shape = _box(x0 + a + margin[0], y0 + c + margin[1], x0 + b - margin[2], y0 + d - margin[3])
            if shape.area < 150:
                continue
            gable = "gable" in plan.kind.roofs and rng.random() < 0.5
            details = _shape(plan, rng, 1, 3, 1, "gable" if gable else "flat", 6)
            details["eaves"], details["rise"] = float(rng.uniform(5.5, 10)), (2.2 if gable else 0.0)
            plan.house(shape, rng, rigid=True, use="shed", **details)
            left, low, right, high = shape.bounds
            for x in np.arange(left + 2, right - 2, 4.2):
                if rng.random() < 0.35:
                    plan.put("truck" if rng.random() < 0.3 else "van", float(x), low - 5.0, rng, along=math.pi / 2)
                if rng.random() < 0.4:
                    plan.put("car", float(x), high + 3.4, rng, along=math.pi / 2)
            for _ in range(rng.integers(0, 4)):
                plan.put("container", right + 3.2, rng.uniform(low, high), rng, along=math.pi / 2)
    for x in np.arange(x0 + 1, x1, 2.0):
        for y in (y0 + 0.4, y1 - 0.4):
            if rng.random() < 0.85:
                plan.put("fence", float(x), y, rng)
    verge = block.difference(block.buffer(-3.0))
    plan.paint(verge.difference(block.buffer(-2.5)), "drygrass")
    _trees(plan, verge, 11, rng)


def village(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Houses and barns close to the street at odd angles, gardens and orchards behind, then fields."""
    x0, y0, x1, y1 = block.bounds
    if rng.random() < 0.3:
        plan.paint(block.buffer(-28), "field")
    for front, towards, lo, hi in ((y0, 1.0, x0, x1), (y1, -1.0, x0, x1)):
        for a, b in _pieces(hi - lo, (13, 24), rng):
            if rng.random() < 0.12 or b - a < 8:
                continue
            width, deep = min(b - a - 1.5, rng.uniform(8, 13)), rng.uniform(7, 10)
            setback, start = rng.uniform(0.5, 4.0), lo + a + rng.uniform(0.2, 1.2)
            across = rng.random() < 0.35  # gable to the street
            near = front + towards * setback
            shape = _box(start, near, start + (deep if across else width), near + towards * (width if across else deep))
            turn = rng.normal(0, 4)
            floors = int(rng.integers(plan.kind.floors[0], plan.kind.floors[1] + 1))
            details = _shape(plan, rng, floors, 2.7, 2.9, "gable", min(width, deep))
            plan.house(shapely.affinity.rotate(shape, turn), rng, use="house", **details)
            if rng.random() < 0.5:
                barn = _box(
                    start + 1,
                    near + towards * (max(width, deep) + 6),
                    start + 11,
                    near + towards * (max(width, deep) + 14),
                )
                plan.house(barn, rng, use="shed", **dict(details, floors=1, eaves=3.6, facade="timber", rise=3.2))
            if rng.random() < 0.6:
                for x in np.arange(start + width + 1.0, lo + b, 1.8):
                    plan.put(str(rng.choice(["wall", "hedge", "fence"])), float(x), front + towards * 0.6, rng)
            _trees(plan, _box(lo + a, near + towards * (deep + 3), lo + b, near + towards * (deep + 18)), 7.5, rng)
            for _ in range(3):
                plan.put("bush", start + rng.uniform(0, width), near - towards * 0.6, rng, size=rng.uniform(0.5, 1.0))


def informal(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Small houses of many sizes, close together, under sheet metal."""
    x0, y0, x1, y1 = block.bounds
    for a, b in _pieces(x1 - x0, (7, 10), rng):
        for c, d in _pieces(y1 - y0, (7, 10), rng):
            if rng.random() < 0.14:
                _trees(plan, _box(x0 + a, y0 + c, x0 + b, y0 + d), 6, rng)
                continue
            gap = rng.uniform(0.4, 1.4, 4)
            shape = _box(x0 + a + gap[0], y0 + c + gap[1], x0 + b - gap[2], y0 + d - gap[3])
            floors = 2 if rng.random() < 0.15 else 1
            roof = "gable" if rng.random() < 0.45 else "flat"
            details = _shape(plan, rng, floors, 2.5, 2.4, roof, 4)
            details["rise"] = min(details["rise"], 1.3)
            turned = shapely.affinity.rotate(shape, rng.normal(0, 4))
            plan.house(turned, rng, use="shops" if rng.random() < 0.15 else "hut", **details)
            if rng.random() < 0.2:
                plan.put(
                    str(rng.choice(["bin", "bush", "container_small", "person"])),
                    x0 + a + 0.2,
                    y0 + c + 0.2,
                    rng,
                    size=0.7,
                )


def slabs(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Long blocks of flats in lawns, with paths, trees and car parks."""
    x0, y0, x1, y1 = block.bounds
    floors = int(rng.integers(plan.kind.floors[0], plan.kind.floors[1] + 1))
    parallel = rng.random() < 0.5
    for c, d in _pieces(y1 - y0 if parallel else x1 - x0, (30, 40), rng):
        for a, b in _pieces(x1 - x0 if parallel else y1 - y0, (50, 75), rng):
            deep, margin = rng.uniform(11, 13.5), rng.uniform(5, 9)
            at = (c + d) / 2 - deep / 2 + rng.uniform(-3, 3)
            lo, hi = a + margin, b - margin
            shape = (
                _box(x0 + lo, y0 + at, x0 + hi, y0 + at + deep)
                if parallel
                else _box(x0 + at, y0 + lo, x0 + at + deep, y0 + hi)
            )
            details = _shape(plan, rng, floors, 2.8, 3.0, "flat", deep)
            plan.house(shape, rng, use="flats", **details)
            left, low, right, _ = shape.bounds
            plan.paint(_box(left - 3, low - 4, right + 3, low - 2.2), "pavers")
            if parallel:
                plan.paint(_box(left, low - 13, right, low - 5), "oldasphalt")
                for x in np.arange(left + 2, right - 1, 2.7):
                    plan.line(float(x), low - 13, float(x), low - 8.2, width=0.1)
                    if rng.random() < 0.65:
                        plan.put("car", float(x) + 1.3, low - 10.6, rng, along=math.pi / 2)
    _trees(plan, block.buffer(-2), 11, rng)
    for _ in range(12):
        plan.put("bush", rng.uniform(x0, x1), rng.uniform(y0, y1), rng, size=rng.uniform(0.7, 1.4))


def strip(plan: Plan, block: shapely.Polygon, rng: np.random.Generator) -> None:
    """Shops behind car parks, each with a sign on a pole."""
    x0, y0, x1, y1 = block.bounds
    middle = (y0 + y1) / 2
    plan.paint(block.difference(block.buffer(-2.2)), "grass")
    for front, towards in ((y0, 1.0), (y1, -1.0)):
        for a, b in _pieces(x1 - x0 - 6, (34, 58), rng):
            deep, setback = rng.uniform(11, 15), abs(middle - front) - 17
            left, right = x0 + 3 + a + 1.5, x0 + 3 + b - 1.5
            near = front + towards * max(setback, 8)
            details = _shape(plan, rng, 1, 3, 4.2, "flat", deep)
            details["eaves"] = float(rng.uniform(4.6, 7))
            plan.house(_box(left, near, right, near + towards * deep), rng, use="shops", **details)
            plan.paint(_box(left, near - towards * 1.8, right, near), "concrete")
            plan.put("billboard", left + 2, front + towards * 1.2, rng, along=math.pi / 2)
            for row in (4.6, 4.6 + 11.5):
                if row + 5 > max(setback, 8):
                    continue
                for x in np.arange(left, right - 2, 2.7):
                    plan.line(
                        float(x), front + towards * (row - 2.4), float(x), front + towards * (row + 2.4), width=0.1
                    )
                    if rng.random() < 0.55:
                        plan.put("car", float(x) + 1.35, front + towards * row, rng, along=towards * math.pi / 2)
            for x in np.arange(left, right, 16):
                plan.put("lamp", float(x), front + towards * 10.2, rng, along=0.0)
    _trees(plan, block.difference(block.buffer(-2.0)), 7, rng)


FILLERS: dict[str, Filler] = {
    "perimeter": perimeter,
    "detached": detached,
    "terraces": terraces,
    "towers": towers,
    "sheds": sheds,
    "village": village,
    "informal": informal,
    "slabs": slabs,
    "strip": strip,
}
"""Ways of building by name."""


def fill(plan: Plan, blocks: list[shapely.Polygon], rng: np.random.Generator) -> None:
    """Fills every block that reaches into the scene."""
    for block in blocks:
        FILLERS[plan.kind.filler](plan, block, rng)
