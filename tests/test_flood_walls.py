"""Walls of lines: dry behind them whichever way they run and water moves, until it stands above their crest."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from scipy.ndimage import label

from gensat.errors import InputError
from gensat.hydro.bathtub import bathtub
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing
from gensat.hydro.held import Held
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import run
from gensat.hydro.walls import burn, with_walls

SIZE = 24
CORNERS = shapely.LineString([(0, 0), (10 * SIZE, 10 * SIZE)])  # through the very corners of cells
STEEP = shapely.LineString([(70, -5), (125, 10 * SIZE + 5)])


def plain():
    made = Domain.flat(SIZE, SIZE, 10.0, manning=0.03)
    from affine import Affine

    return replace(made, crs=CRS.from_epsg(31985), transform=Affine(10, 0, 290_000, 0, -10, 9_120_000))


def walled(line, height=2.0):
    domain = Domain.flat(SIZE, SIZE, 10.0, manning=0.03)
    tops = burn([line], [height], domain)
    return replace(domain, bed=np.maximum(domain.bed, tops))


def sea(domain):
    """Cells at the western edge and in the corner that both walls leave to the sea."""
    cells = np.zeros(domain.shape, bool)
    cells[: SIZE - 4, 0] = True
    return cells


@pytest.mark.parametrize("line", [CORNERS, STEEP], ids=["corners", "steep"])
@pytest.mark.parametrize("neighbours", [4, 8])
def test_a_bathtub_is_dry_behind_a_wall_until_it_overtops(line, neighbours):
    domain = walled(line)
    below = bathtub(domain.bed, 1.9, sea(domain), neighbours=neighbours)
    above = bathtub(domain.bed, 2.1, sea(domain), neighbours=neighbours)
    behind = np.s_[SIZE // 2 :, SIZE - 6 :]
    assert not (below[behind] > 0).any() and (below[: SIZE // 2, 1:5] > 0).all() and (above > 0).all()


@pytest.mark.parametrize("line", [CORNERS, STEEP], ids=["corners", "steep"])
@pytest.mark.parametrize("solver", [LocalInertial, ShallowWater])
def test_water_that_moves_stays_before_a_wall_until_it_overtops(line, solver):
    domain = walled(line)
    behind = np.s_[SIZE // 2 :, SIZE - 6 :]
    for level, wet in ((0.9, False), (2.6, True)):  # a wave runs up a wall to twice its height
        made = solver(domain)
        flow = run(
            made, made.start(), Forcing(held=Held.over(domain, sea(domain), level, low=0.0, rise=60)), seconds=150
        )
        assert (float(flow.state.depth[behind].max()) > 0.05) == wet
        if not wet:
            assert float(flow.peaks.depth[behind].max()) == 0 and float(flow.state.depth[3, 3]) > 0.5


@given(st.lists(st.tuples(st.floats(-30, 270), st.floats(-30, 270)), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_line_is_one_piece_over_edges_that_covers_every_cell_it_runs_through(points):
    """GDAL leaves out cells that a line grazes by less than a hundredth of their side, 0.1 m here."""
    line = shapely.LineString(points)
    around, within = (shapely.intersection(line, shapely.box(a, a, 10 * SIZE - a, 10 * SIZE - a)) for a in (-0.2, 0.2))
    if line.length < 1 or within.length < 1:
        return
    domain = Domain.flat(SIZE, SIZE, 10.0)
    burnt = np.isfinite(burn([line], [1.0], domain))
    for row in range(SIZE):
        for column in range(SIZE):
            west, north = 10 * column, 10 * (SIZE - row)
            cell = shapely.box(west + 0.2, north - 9.8, west + 9.8, north - 0.2)
            if shapely.intersection(cell, line).length > 1e-3:
                assert burnt[row, column], (row, column)
    if around.geom_type == within.geom_type == "LineString":
        assert label(burnt)[1] == 1


@given(st.lists(st.floats(25, 215), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize(("corners", "neighbours"), [(True, 8), (False, 4)])
def test_no_water_goes_through_a_line_in_as_many_directions_as_it_can_take(corners, neighbours, heights):
    """A line from edge to edge leaves what lies north of it without a way to what lies south."""
    across = np.linspace(-20, 10 * SIZE + 20, len(heights))
    burnt = burn([shapely.LineString(np.c_[across, heights])], [1.0], Domain.flat(SIZE, SIZE, 10.0), corners=corners)
    pieces = label(~np.isfinite(burnt), np.ones((3, 3)) if neighbours == 8 else None)[0]
    assert (pieces[0] == pieces[0, 0]).all() and (pieces[-1] == pieces[-1, 0]).all()
    assert pieces[0, 0] != pieces[-1, 0]


def test_without_corners_an_oblique_wall_has_one_cell_a_row():
    line = shapely.LineString([(-43, -40), (10 * SIZE + 40, 10 * SIZE + 43)])
    with_, without = (
        np.isfinite(burn([line], [1.0], Domain.flat(SIZE, SIZE, 10.0), corners=corners)) for corners in (True, False)
    )
    assert (without.sum(1) == 1).all() and (with_.sum(1)[1:-1] == 2).all()
    dot = np.isfinite(burn([shapely.LineString([(12, 12), (13, 14)])], [1.0], Domain.flat(3, 3, 10.0), corners=False))
    assert dot.sum() == 1  # shorter than a cell


def file(tmp_path, features, name="walls.geojson"):
    text = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::31985"}},
        "features": [
            {"type": "Feature", "properties": values, "geometry": json.loads(shapely.to_geojson(shape))}
            for shape, values in features
        ],
    }
    (tmp_path / name).write_text(json.dumps(text))
    return tmp_path / name


def across(y, **values):
    return shapely.LineString([(290_000, 9_120_000 - y), (290_240, 9_120_000 - y)]), values


def test_heights_follow_the_ground_or_are_the_crest(tmp_path):
    domain = plain()
    domain = replace(domain, bed=0.1 * np.arange(SIZE)[None].repeat(SIZE, 0))
    path = file(tmp_path, [across(55, height=1.5), across(105, height=3), across(105, height=2)])
    made = with_walls(domain, path)
    np.testing.assert_allclose(made.bed[5], domain.bed[5] + 1.5)
    np.testing.assert_allclose(made.bed[10], domain.bed[10] + 3)  # the higher one
    assert (made.bed != domain.bed).sum() == 2 * SIZE and "3 walls raise 48 cells by 1.5 to 3 m" in made.notes[-1]
    top = with_walls(domain, file(tmp_path, [across(55, crest=1.25)]), crest=True)
    np.testing.assert_allclose(top.bed[5], np.maximum(domain.bed[5], 1.25))
    assert "at 11 cells the ground is as high" in top.notes[-1]
    some = with_walls(domain, file(tmp_path, [across(55, top="2.5"), across(105, top=None)]), field="TOP", height=1)
    assert some.bed[5, 0] == 2.5 and some.bed[10, 0] == 1 and "1 walls have no height; 1 m is taken" in some.notes[-2]


@pytest.mark.parametrize(
    ("features", "values", "message"),
    [
        ([across(55, name="dyke")], {}, r"have no height \(attributes: name\)"),
        ([across(55, height=None), across(75, height=2)], {}, "1 of 2 walls in walls.geojson have no height"),
        ([across(55, height=float("nan"))], {}, "no height"),
        ([across(55, height=-2)], {}, "a wall of -2 m"),
        ([across(55, height=2)], {"field": "crown"}, "no attribute 'crown'; choose one of height"),
        ([across(55, height=2)], {"height": -1}, "a wall of -1 m cannot be"),
        ([across(55, crest=90_000)], {"crest": True}, "a crest of 90000 m"),
        ([across(-90_000, height=2)], {}, "does not overlap"),
        ([across(-30, height=2), across(270, height=2)], {}, "lies on the DEM"),
        (
            [(shapely.box(290_010, 9_119_900, 290_100, 9_119_990), {"height": 2})],
            {},
            "holds no lines there, but polygons",
        ),
    ],
)
def test_walls_that_make_no_sense_are_refused(tmp_path, features, values, message):
    with pytest.raises(InputError, match=message) as error:
        with_walls(plain(), file(tmp_path, features), **values)
    assert "\n" not in str(error.value)
