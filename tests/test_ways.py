"""Ways on foot lead around what stands in the way, cost what they should, and keep to streets."""

import math

import numpy as np
import pytest
import shapely
import torch
from solid_toys import FRAME, village

from gensat.errors import InputError
from gensat.geo.classes import ROAD, WATER
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.scene import Scene
from gensat.render.track_files import read_track, save_track
from gensat.render.ways import find_way


def plain(shapes=(), size=60, objects=None, classes=1, step=1.0):
    """Level ground with blocks of 5 m on it."""
    grid = Grid.centred(round(size / step), round(size / step), step)
    empty = torch.zeros(grid.rows, grid.columns)
    blocks = Prisms.of(list(shapes), [5.0] * len(shapes), [0.0] * len(shapes)) if shapes else Prisms.none()
    ground = HeightField(empty, grid, "bilinear", None)
    code = torch.full(empty.shape, classes)
    return Scene(FRAME, empty[..., None].expand(-1, -1, 3), ground, blocks, objects or Objects.none(), code, grid)


def line(track):
    return shapely.LineString(np.stack([track.x, track.y], axis=1))


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_open_ground_is_crossed_straight(step):
    way = find_way(plain(step=step), (-20.3, 4.1), (20.2, 4.2))
    assert way.length == pytest.approx(math.hypot(40.5, 0.1), rel=0.01)
    assert (way.x[0], way.y[0], way.x[-1], way.y[-1]) == (-20.3, 4.1, 20.2, 4.2)
    assert np.abs(way.y - 4.15).max() <= 0.4 + step


def test_a_wall_is_walked_around_at_a_distance_at_its_nearer_end():
    wall = shapely.box(-1, -29, 1, 12)
    way = find_way(plain([wall]), (-15, 0), (15, 0))
    assert line(way).distance(wall) >= 0.6  # of 1 m, less what the straightening may take
    assert way.y.max() > 12.6
    around = 2 * math.hypot(14, 13) + 2
    assert around - 1 < way.length < 1.1 * around
    assert line(find_way(plain([wall]), (-15, 0), (15, 0), clearance=3)).distance(wall) > 2.5


def test_roads_are_preferred_and_middles_of_streets():
    scene = plain(classes=5)  # woods
    scene.classes[5:11, :] = ROAD  # y from 19 to 25
    way = find_way(scene, (-25, 8), (25, 8))
    assert (way.y[np.abs(way.x) < 15] > 18.5).all()
    canyon = [shapely.box(-20, 5, 20, 9), shapely.box(-20, -9, 20, -5)]
    through = find_way(plain(canyon), (-26, 3.9), (26, 3.9))
    assert np.abs(through.y[np.abs(through.x) < 12]).max() < 3


def test_water_and_trunks_are_in_the_way_crowns_are_not():
    scene = plain()
    scene.classes[:50, 28:32] = WATER
    assert find_way(scene, (-15, 0), (15, 0)).y.min() < -19
    trunk = Objects.cones(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[2.0, 2.0, 2.0]]))
    crown = Objects.ellipsoids(torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[9.0, 9.0, 4.0]]))
    assert np.abs(find_way(plain(objects=trunk), (-15, 0), (15, 0)).y).max() > 2.5
    assert np.abs(find_way(plain(objects=crown), (-15, 0), (15, 0)).y).max() < 1.5


def test_where_nothing_leads_one_is_told_how_far_one_gets():
    ring = shapely.box(-10, -10, 10, 10).difference(shapely.box(-7, -7, 7, 7))
    with pytest.raises(InputError, match=r"no way over open ground .* nearest point that can be reached is lon="):
        find_way(plain([ring]), (-20, 0), (0, 0))
    with pytest.raises(InputError, match="inside a building"):
        find_way(plain([ring]), (-20, 0), (8, 0))
    with pytest.raises(InputError, match="begins where it ends"):
        find_way(plain(), (1, 1), (1, 1))


def test_a_way_is_written_and_read(tmp_path):
    way = find_way(village(), (-12, -12), (13, 12))
    save_track(way, tmp_path / "way.geojson")
    again = read_track(tmp_path / "way.geojson", FRAME)
    np.testing.assert_allclose(again.x, way.x, atol=1e-3)
    np.testing.assert_allclose(again.y, way.y, atol=1e-3)
    with pytest.raises(InputError, match="no place"):
        save_track(way.__class__(SceneFrame(None), way.x, way.y), tmp_path / "b.geojson")
