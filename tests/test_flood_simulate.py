"""Scenarios: what goes together, and floods without time on a coast and along a river."""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from conftest import DATA
from pyproj import CRS
from rasterio.windows import Window
from test_bathtub import by_queue

from gensat import GeoImage
from gensat.errors import InputError
from gensat.geo.crs import to_lonlat
from gensat.hydro.domain import Domain
from gensat.hydro.ensembles import Ensemble, probability
from gensat.hydro.scenario import Scenario
from gensat.hydro.sea import Sea
from gensat.hydro.simulate import simulate

UTM = CRS.from_epsg(31985)
GRID = Affine(10, 0, 290_000, 0, -10, 9_120_000)
LONLAT = (-34.9, -7.96)


def coast(tmp_path, bed=None):
    """A sea at -1 m in the east, a beach, a dike at 3 m with a gap, a polder at 0.5 m, high ground."""
    if bed is None:
        bed = np.full((40, 60), 8.0, np.float32)
        bed[:, 45:] = -1
        bed[:, 40:45] = np.linspace(1.5, 0, 5)
        bed[:, 38:40] = 3.0
        bed[10, 38:40] = 2.0
        bed[:, 20:38] = 0.5
    GeoImage(np.asarray(bed, np.float32), ["elevation"], UTM, GRID).save(tmp_path / "dem.tif")
    return Domain.open(tmp_path / "dem.tif")


def lonlat(row, column):
    lon, lat = to_lonlat(UTM, GRID.c + 10 * (column + 0.5), GRID.f - 10 * (row + 0.5))
    return float(lon), float(lat)


def test_a_level_floods_what_the_dike_lets_it(tmp_path):
    domain = coast(tmp_path)
    low, _ = simulate(domain, Scenario(level=1.8))
    assert low.facts["source"] == "cells at or below 0 m at the edge" and not low.extent[:, 20:38].any()
    high, _ = simulate(domain, Scenario(level=2.25))
    assert high.extent[:, 20:38].all() and high.depth[5, 25] == pytest.approx(1.75)
    assert not high.extent[:, :20].any() and not high.extent[11:, 38:40].any() and high.extent[10, 38:40].all()
    inland, _ = simulate(domain, Scenario(level=1.8, sources=[lonlat(30, 30)]))
    assert inland.extent[:, 20:38].all() and not inland.extent[:, 45:].any()  # the sea is not part of that
    moved, _ = simulate(domain, Scenario(level=2.0, datum_offset=0.25))
    np.testing.assert_array_equal(moved.depth, high.depth)
    GeoImage(np.full((5, 5), 2.25, np.float32), ["level"], UTM, Affine(200, 0, 289_900, 0, -200, 9_120_100)).save(
        tmp_path / "levels.tif"
    )
    field, said = simulate(domain, Scenario(level=tmp_path / "levels.tif"))
    np.testing.assert_allclose(field.depth, high.depth, atol=1e-6)
    assert said["levels"]["levels"] == 25


def coast_without_sea(tmp_path):
    """Land, five columns of beach at 1 m, and a sea of which only a mask is known."""
    bed = np.full((40, 60), 8.0, np.float32)
    bed[:, 40:45], bed[:, 45:] = 1.0, np.nan
    sea = np.zeros((40, 60), np.uint8)
    sea[:, 45:] = 1
    GeoImage(sea, ["sea"], UTM, GRID).save(tmp_path / "sea.tif")
    return coast(tmp_path, bed), tmp_path / "sea.tif"


def test_a_sea_that_has_no_heights_floods_its_coast(tmp_path):
    """Many DEMs are nodata over the sea."""
    domain, sea = coast_without_sea(tmp_path)
    made, _ = simulate(domain, Scenario(level=2.0, sea=sea))
    assert made.extent.sum() == 40 * 5 and domain.exists.sum() == 40 * 45


def test_a_sea_in_degrees_is_the_same_sea(tmp_path):
    domain = coast(tmp_path)
    west, south, east, north = domain.canvas.lonlat_bounds
    step = (east - west) / 240
    columns = int((east - west) / step) + 8
    mask = np.zeros((int((north - south) / step) + 8, columns), np.uint8)
    edge = lonlat(20, 44)[0] + (lonlat(20, 45)[0] - lonlat(20, 44)[0]) / 2
    mask[:, int((edge - west) / step) + 4 :] = 7
    GeoImage(mask, ["sea"], 4326, Affine(step, 0, west - 4 * step, 0, -step, north + 4 * step)).save(
        tmp_path / "sea.tif"
    )
    cells = Sea(tmp_path / "sea.tif", domain.canvas).cells()
    expected = np.zeros((40, 60), bool)
    expected[:, 45:] = True
    assert (cells != expected).mean() < 0.02 and (cells != expected)[:, :44].sum() == 0 == (~cells[:, 46:]).sum()
    part = Sea(tmp_path / "sea.tif", domain.canvas).cells(Window(40, 7, 11, 9))
    np.testing.assert_array_equal(part, cells[7:16, 40:51])
    with pytest.raises(InputError, match="no mask of the sea"):
        Sea(write_bands(tmp_path), domain.canvas)


def write_bands(tmp_path):
    GeoImage(np.zeros((4, 4, 3), np.uint8), crs=UTM, transform=GRID).save(tmp_path / "rgb.tif")
    return tmp_path / "rgb.tif"


def test_a_stage_above_the_river(tmp_path):
    pytest.importorskip("pyflwdir")
    rows = np.abs(np.arange(40) - 20)[:, None]
    bed = 20 - 0.02 * np.arange(60)[None] + 0.2 * rows  # a valley that falls eastward
    domain = coast(tmp_path, bed)
    made, _ = simulate(domain, Scenario(level=1.1, method="hand", channel_km2=0.02))
    assert made.extent[20, 10:].all() and made.depth[20, 30] == pytest.approx(1.1, abs=1e-5)
    assert (made.extent[:, 30].sum() == 11) and "metres above the channels" in made.notes[0]
    from_there, _ = simulate(domain, Scenario(level=1.1, method="hand", sources=[lonlat(20, 5)]))
    np.testing.assert_array_equal(from_there.extent[:, 30], made.extent[:, 30])
    river, said = simulate(domain, Scenario(method="hand", inflows=[(*lonlat(20, 0), 20.0)]))
    assert river.extent[20].all() and said["reaches"][0]["stage_m"] > 0.2
    with pytest.raises(InputError, match="floods nothing"):
        simulate(domain, Scenario(level=-1.0, method="hand"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing floods the place"),
        ({"level": 1.0, "surge": "x.csv"}, "both a level and a surge"),
        ({"level": float("nan")}, "level of nan m"),
        ({"level": 1.0, "method": "magic"}, "'magic' is not known"),
        ({"level": 1.0, "neighbours": 6}, "6 neighbours"),
        ({"level": 1.0, "method": "swe"}, "give --hours"),
        ({"level": 1.0, "rise": 1}, "time in which a level is reached"),
        ({"level": 1.0, "rise": -1, "method": "swe", "hours": 1}, "rise -1"),
        ({"rain": 3, "rise": 1, "hours": 1}, "time in which a level is reached"),
        ({"rain": "80mm/h"}, "give --hours"),
        ({"rain": "80mm/h", "hours": -2}, "hours -2"),
        ({"rain": 3, "hyetograph": "h.csv", "hours": 1}, "both a rain and a hyetograph"),
        ({"rain": 3, "hours": 1, "method": "bathtub"}, "water that moves"),
        ({"rain": 3, "hours": 1, "sources": [LONLAT]}, "where a level comes from"),
        ({"hydrograph": "h.csv", "hours": 1}, "where it comes in"),
        ({"inflows": [(*LONLAT, -3.0)], "hours": 1}, "inflow of -3"),
        ({"inflows": [(-34.9, 95.0, 3.0)], "hours": 1}, "latitude 95"),
        ({"inflows": [(*LONLAT, 3.0)], "method": "bathtub"}, "inflow has no level"),
        ({"level": 1.0, "inflows": [(*LONLAT, 3.0)], "method": "hand"}, "give one of them"),
        ({"level": 1.0, "method": "hand", "sea": "s.tif"}, "counts from rivers"),
        ({"boundaries": ["N=open"]}, "nothing floods"),
        ({"level": 1.0, "wet": -1}, "wet -1"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Scenario(**values)


def test_the_method_is_chosen_by_what_floods():
    assert Scenario(level=1).chosen == Scenario(surge="x.tif").chosen == "bathtub"
    assert Scenario(rain=5, hours=1).chosen == Scenario(inflows=[(*LONLAT, 3.0)], hours=1).chosen == "inertial"
    assert Scenario(boundaries=["E=2.0"], hours=1).moves and Scenario(level=1).threshold == 0
    facts = Scenario(surge="/some/where/levels.csv", sources=[LONLAT], datum_offset=0.3).facts()
    assert facts["surge"] == "levels.csv" and facts["sources"] == [list(LONLAT)] and facts["datum_offset"] == 0.3
    json.dumps(facts)


EXAMPLE = Path(__file__).resolve().parents[1] / "assets" / "examples" / "olinda_dem.tif"


def test_olinda_with_a_sea_one_to_five_metres_higher():
    """Whole metres every 90 m: a dike of one cell, or the DEM's noise, decides; so the ensemble floods far more than the DEM."""
    domain = Domain.open(EXAMPLE)
    land, before = domain.bed > 0, 0.0
    sea = (domain.bed <= 0) & (np.arange(111) > 60)[None]
    for level in (1.0, 2.0, 3.0, 4.0, 5.0):
        made, _ = simulate(domain, Scenario(level=level))
        edge = np.zeros_like(land)
        edge[[0, -1]] = edge[:, [0, -1]] = True
        np.testing.assert_allclose(made.depth, by_queue(domain.bed, level, edge & (domain.bed <= 0), 4), rtol=1e-6)
        assert made.extent[sea].mean() > 0.98  # the rest are ponds at 0 m
        flooded = (made.extent & land).sum() * domain.area / 1e6
        anywhere = (land & (domain.bed < level)).sum() * domain.area / 1e6  # without connectivity
        assert before <= flooded <= anywhere and (level < 2 or flooded < 0.5 * anywhere)
        before = flooded
    assert before == pytest.approx(0.47, abs=0.005)
    sure, _ = simulate(domain, Scenario(level=3.0))
    likely, _ = probability(domain, Scenario(level=3.0), Ensemble(members=60, dem_error=3.0, correlation=500.0))
    expected = (likely.probability * land).sum() * domain.area / 1e6
    assert expected > 5 * (sure.extent & land).sum() * domain.area / 1e6


@pytest.mark.data
def test_the_example_is_the_data_and_lies_under_its_satellite_image():
    from gensat.geo.canvas import Canvas
    from gensat.hydro.resample import depth_on

    theirs = Domain.open(DATA / "rasters" / "olinda_dem.tif")
    domain = Domain.open(EXAMPLE)
    np.testing.assert_array_equal(domain.bed, theirs.bed)
    image = GeoImage.open(DATA / "rasters" / "olinda_landsat7_6band.tif")
    made, _ = simulate(domain, Scenario(level=1.0))
    _, wet = depth_on(dict(made.rasters())["depth.tif"], Canvas.like(image))
    infrared = image.array[:, :, 4].astype(float)  # band 5, in which water is black
    assert wet.mean() == pytest.approx(made.extent.mean(), abs=0.02)
    assert np.median(infrared[wet]) < 0.5 * np.median(infrared[~wet])


def tides(tmp_path, text="hours,level\n0,0\n0.1,2.4\n0.2,0\n"):
    (tmp_path / "tide.csv").write_text(text)
    return tmp_path / "tide.csv"


@pytest.mark.parametrize("method", ["inertial", "swe"])
def test_a_sea_that_moves_comes_through_the_gap_in_its_time(tmp_path, method):
    """The polder behind the dike fills as fast as a gap of 10 m lets the water in; long before, a bathtub has it full."""
    domain = coast(tmp_path)
    still, _ = simulate(domain, Scenario(level=2.25))
    made, said = simulate(domain, Scenario(level=2.25, method=method, hours=0.2, rise=0.1))
    sea = domain.bed <= 0
    np.testing.assert_allclose(made.depth_end[sea], 2.25 - domain.bed[sea], rtol=1e-12)
    np.testing.assert_allclose(made.depth_end[:, 42:], still.depth[:, 42:], atol=0.02)  # the beach stands level
    assert made.extent[10, 37] and not made.extent[39, 20] and still.extent[39, 20]
    polder = np.s_[:, 20:38]
    assert 0 < made.depth_end[polder].sum() < 0.2 * still.depth[polder].sum()
    assert said["sea"]["cells"] == sea.sum() and said["sea"]["rise_hours"] == 0.1
    assert abs(said["balance_m3"]["relative_error"]) < 1e-12 and said["balance_m3"]["held"] > 0
    assert any("held at its level" in note for note in made.notes)


def test_a_tide_comes_and_goes_and_is_added_to_the_level(tmp_path):
    domain = coast(tmp_path)
    tide = tides(tmp_path)
    made, said = simulate(domain, Scenario(tide=tide))  # as long as the tide lasts
    assert made.facts["method"] == "inertial" and said["seconds"] == 720 and made.facts["tide"] == "tide.csv"
    assert made.depth[20, 50] == pytest.approx(3.4, abs=0.02) and made.depth_end[20, 50] == pytest.approx(1.0)
    polder = np.s_[:, 20:38]
    assert made.depth_end[polder].sum() > 1 and made.depth_end[0, 42] < 0.2 < made.depth[0, 42]  # what is in stays in
    higher, _ = simulate(domain, Scenario(tide=tide, level=0.5))
    moved, _ = simulate(domain, Scenario(tide=tide, datum_offset=0.5))
    np.testing.assert_array_equal(higher.depth, moved.depth)
    assert higher.depth[20, 50] == pytest.approx(3.9, abs=0.02) and (higher.depth_end[20, 44] == 0.5)
    with pytest.raises(InputError, match="take --method inertial"):
        Scenario(tide=tide, level=1.0, method="bathtub")
    with pytest.raises(InputError, match="as no water does"):
        simulate(domain, Scenario(tide=tides(tmp_path, "hours,level\n0,0\n1,99999\n")))


def test_a_sea_without_heights_is_held_beside_the_land(tmp_path):
    domain, sea = coast_without_sea(tmp_path)
    made, said = simulate(domain, Scenario(level=2.0, sea=sea, method="inertial", hours=0.5, rise=0.1))
    assert said["sea"]["cells"] == 40 and made.extent.sum() == 40 * 5
    np.testing.assert_allclose(made.depth_end[:, 40:45], 1.0, atol=0.02)


def test_water_from_a_point_and_levels_that_are_not_reached(tmp_path):
    domain = coast(tmp_path)
    made, said = simulate(domain, Scenario(level=1.8, sources=[lonlat(30, 30)], method="inertial", hours=0.05))
    assert said["sea"]["cells"] == 1 and not made.extent[:, 45:].any() and made.extent[30, 30]
    assert any("before the level is reached" in note for note in made.notes)
    _, said = simulate(domain, Scenario(level=1.8, sources=[lonlat(30, 50)], method="inertial", hours=0.05))
    assert said["sea"]["cells"] == (domain.bed <= 0).sum()
    with pytest.raises(InputError, match="not below the level"):
        simulate(domain, Scenario(level=0.2, sources=[lonlat(30, 30)], method="inertial", hours=0.05))


def test_an_ensemble_of_moving_seas_holds_the_same_cells(tmp_path):
    domain = coast(tmp_path)
    scenario = Scenario(level=1.8, method="inertial", hours=0.05, rise=0.02)
    made, said = probability(domain, scenario, Ensemble(members=3, level_error=0.4, dem_error=0.2, seed=2))
    assert said["sea"]["cells"] == (domain.bed <= 0).sum()
    assert (made.probability[:, 46:] == 1).all() and (made.probability[:, :20] == 0).all()
    beach = made.probability[:, 40:45]
    assert ((beach > 0) & (beach < 1)).any()
