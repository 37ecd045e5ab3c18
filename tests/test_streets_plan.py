"""Plans of streets: what may not overlap does not, bends keep widths, and a seed is a street."""

import numpy as np
import pytest
import shapely

from gensat.errors import InputError
from gensat.render.streets.plan import Bend
from gensat.render.streets.scenes import StreetScenes, draw_plan
from gensat.render.streets.styles import STREET_TYPES, street_type

ROADBOUND = {"car", "van", "truck", "median_tree", "median_lamp"}


@pytest.fixture(
    scope="module", params=[(name, seed) for name in STREET_TYPES for seed in (7,)], ids=lambda p: f"{p[0]}-{p[1]}"
)
def plan(request):
    return draw_plan(*request.param)


def test_there_are_enough_types_and_two_are_held_out():
    held_out = [kind.name for kind in STREET_TYPES.values() if kind.held_out]
    assert len(STREET_TYPES) - len(held_out) >= 8 and len(held_out) == 2
    assert not set(held_out) & set(StreetScenes().names) and StreetScenes(types=held_out).names == tuple(held_out)


def test_buildings_overlap_neither_roads_nor_each_other(plan):
    roads = shapely.union_all(plan.roads)
    shapes = [b.footprint for b in plan.buildings]
    assert len(shapes) >= 8 and all(s.is_valid and s.area > 4 for s in shapes)
    assert not any(s.intersects(roads) for s in shapes)
    tree = shapely.STRtree(shapes)
    a, b = tree.query(shapes, predicate="intersects")
    shared = [shapes[i].intersection(shapes[j]).area for i, j in zip(a, b, strict=True) if i < j]
    assert max(shared, default=0) <= 0.051  # walls that two houses share


def test_nothing_stands_in_a_building_or_where_cars_drive(plan):
    roads = shapely.union_all(plan.roads)
    walls = shapely.union_all([b.footprint for b in plan.buildings])
    for item in plan.items:
        point = shapely.Point(item.x, item.y)
        assert not walls.contains(point)
        if item.kind not in ROADBOUND:
            assert not roads.contains(point), item.kind


def test_streets_run_through_the_middle_and_have_a_pavement_or_none(plan):
    centre = shapely.box(-64, -64, 64, 64)
    roads = shapely.union_all(plan.roads).intersection(centre)
    assert 0.02 < roads.area / centre.area < 0.5
    for line, road, _ in plan.walks:
        inside = line.intersection(centre)
        if inside.length > 30 and not plan.kind.water:
            share = inside.intersection(roads).length / inside.length
            assert share > 0.95  # the centre line is on the road
            assert roads.boundary.distance(inside.interpolate(0.5, normalized=True)) < 0.9 * road + 8


def test_a_seed_is_a_street(plan):
    again = draw_plan(plan.kind.name, plan.seed)
    assert again.items == plan.items and again.markings == plan.markings
    assert [b.footprint.wkb for b in again.buildings] == [b.footprint.wkb for b in plan.buildings]
    assert [repr(b) for b in again.buildings] == [repr(b) for b in plan.buildings]
    other = draw_plan(plan.kind.name, plan.seed + 1)
    assert [b.footprint.wkb for b in other.buildings] != [b.footprint.wkb for b in plan.buildings]


def test_a_lot_too_narrow_for_a_house_stays_empty():
    assert len(draw_plan("village", 106).buildings) > 8  # one of its blocks ends in a sliver


def test_a_bend_keeps_the_width_of_a_road():
    bend = Bend(turn=0.7, size=14, length=200, phase=(1.0, 2.0))
    road = bend.shape(shapely.box(-90, -4, 90, 4))
    middle = bend.shape(shapely.LineString([(-80, 0), (80, 0)]))
    edge = road.boundary
    widths = [2 * edge.distance(middle.interpolate(s)) for s in np.linspace(5, middle.length - 5, 40)]
    assert min(widths) > 6.7 and max(widths) < 8.1
    (a, b) = bend(np.array([[10.0, 0.0], [10.05, 0.0]]))
    assert bend.angle(10, 0) == pytest.approx(np.degrees(np.arctan2(*(b - a)[::-1])), abs=0.1)


def test_a_type_that_is_not_there():
    with pytest.raises(InputError, match="perimeter"):
        street_type("moon base")
    with pytest.raises(InputError, match="no street type"):
        StreetScenes(types=["moon base"])
