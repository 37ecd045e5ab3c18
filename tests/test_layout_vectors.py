"""Vector layouts on a canvas."""

import json

import numpy as np
import pyogrio.raw
import pytest
import shapely
from conftest import DATA
from layout_files import CANVAS, LEFT, TOP, expected, geojson, lonlat, square

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import from_lonlat, pixel_to_world
from gensat.geo.layout import load_layout
from gensat.types import GeoImage, Place


def test_polygon_of_known_coordinates_fills_exactly_its_pixels(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(square(3, 5, 7, 11), {"building": "yes"})], "EPSG:32633")
    layout = load_layout(path, CANVAS)
    np.testing.assert_array_equal(layout.class_map, expected(3, 5, 7, 11, 2))
    assert layout.coverage == pytest.approx(77 / 1200)
    assert "unknown on 93.6 percent" in layout.notes[-1]


def test_polygon_in_degrees_fills_the_same_pixels(tmp_path):
    # Shrunk by a millimetre, so that rounding on the way to degrees and back cannot decide about a pixel.
    shape = lonlat(square(3, 5, 7, 11).buffer(-0.001, join_style="mitre"))
    layout = load_layout(geojson(tmp_path / "a.geojson", [(shape, {"building": "yes"})]), CANVAS)
    np.testing.assert_array_equal(layout.class_map, expected(3, 5, 7, 11, 2))


def test_long_edges_in_degrees_are_curved_on_the_canvas(tmp_path):
    # The edge along the parallel 50 N between 12 and 18 E bends 200 m and more off its chord on the plane of zone 33.
    canvas = Canvas.around(Place(15.0, 50.0), 100, 4, 200)
    shape = shapely.box(12.0, 49.0, 18.0, 50.0)
    class_map = load_layout(geojson(tmp_path / "a.geojson", [(shape, {"natural": "water"})]), canvas).class_map
    np.testing.assert_array_equal(class_map[:, 2], np.repeat([0, 4], 100))


def test_geopackage_with_two_layers_and_shapefile(tmp_path):
    path = tmp_path / "a.gpkg"
    polygon, line = square(0, 0, 30, 40), shapely.LineString([(LEFT, TOP - 20), (LEFT + 80, TOP - 20)])
    for layer, shape, key, value, kind in (
        ("lines", line, "highway", "residential", "LineString"),
        ("areas", polygon, "landuse", "forest", "Polygon"),
    ):
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array([shape])), [np.array([value], dtype=object)], [key], layer=layer, driver="GPKG",
            geometry_type=kind, crs="EPSG:32633", append=path.exists(),
        )  # fmt: skip
    class_map = load_layout(path, CANVAS).class_map
    np.testing.assert_array_equal(class_map[:, 20], np.where(np.isin(np.arange(30), (8, 9, 10, 11)), 3, 5)[:30])
    shapes = tmp_path / "a.shp"
    pyogrio.raw.write(
        shapes, shapely.to_wkb(np.array([square(3, 5, 7, 11)])), [np.array([4])], ["class"], driver="ESRI Shapefile",
        geometry_type="Polygon", crs="EPSG:32633",
    )  # fmt: skip
    np.testing.assert_array_equal(load_layout(shapes, CANVAS).class_map, expected(3, 5, 7, 11, 4))


def test_line_is_as_wide_as_its_road(tmp_path):
    line = shapely.LineString([(LEFT - 30, TOP - 21), (LEFT + 110, TOP - 21)])  # along the centres of row 10
    for tags, rows in (
        ({"highway": "motorway"}, 6),
        ({"highway": "residential"}, 3),
        ({"highway": "road", "width": "10"}, 5),
    ):
        class_map = load_layout(geojson(tmp_path / "a.geojson", [(line, tags)], "EPSG:32633"), CANVAS).class_map
        found = np.nonzero((class_map == 3).all(axis=1))[0]
        assert abs(len(found) - rows) <= 1 and found.mean() == pytest.approx(10, abs=0.5)
        assert set(np.unique(class_map)) == {0, 3}


def test_buildings_over_roads_over_water_over_ground_whatever_the_order_in_the_file(tmp_path):
    whole = square(0, 0, 30, 40)
    features = [
        (square(0, 0, 10, 40), {"building": "yes"}),
        (square(0, 0, 15, 40), {"highway": "pedestrian"}),
        (square(0, 0, 20, 40), {"natural": "water"}),
        (square(0, 0, 25, 40), {"leisure": "park"}),
        (whole, {"landuse": "residential"}),
    ]
    for order in (features, features[::-1]):
        class_map = load_layout(geojson(tmp_path / "a.geojson", order, "EPSG:32633"), CANVAS).class_map
        np.testing.assert_array_equal(class_map[:, 0], np.repeat([2, 3, 4, 6, 1], [10, 5, 5, 5, 5]))


def test_holes_stay_open_and_broken_polygons_are_mended(tmp_path):
    ring = square(0, 0, 20, 20).difference(square(5, 5, 10, 10))
    class_map = load_layout(
        geojson(tmp_path / "a.geojson", [(ring, {"natural": "wood"})], "EPSG:32633"), CANVAS
    ).class_map
    assert class_map[10, 10] == 0 and class_map[2, 2] == 5
    bow = shapely.Polygon([(LEFT, TOP), (LEFT + 40, TOP - 40), (LEFT + 40, TOP), (LEFT, TOP - 40)])
    class_map = load_layout(
        geojson(tmp_path / "b.geojson", [(bow, {"natural": "wood"})], "EPSG:32633"), CANVAS
    ).class_map
    assert class_map[10, 1] == 5 and class_map[10, 18] == 5 and class_map[1, 10] == 0
    assert (class_map == 5).sum() == pytest.approx(200, abs=20)


def test_rings_that_are_not_closed_are_closed_and_noted(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(square(3, 5, 7, 11), {"building": "yes"})], "EPSG:32633")
    whole = json.loads(path.read_text())
    del whole["features"][0]["geometry"]["coordinates"][0][-1]
    path.write_text(json.dumps(whole))
    layout = load_layout(path, CANVAS)
    np.testing.assert_array_equal(layout.class_map, expected(3, 5, 7, 11, 2))
    assert any("1 features have a ring that does not end where it began" in note for note in layout.notes)


def test_uncovered_pixels_are_unknown_unless_the_legend_has_a_background(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(square(3, 5, 7, 11), {"use": "house"})], "EPSG:32633")
    table = {"attribute": "use", "values": {"house": "building"}}
    assert load_layout(path, CANVAS, legend=table).class_map[0, 0] == 0
    layout = load_layout(path, CANVAS, legend={**table, "background": "ground"})
    np.testing.assert_array_equal(layout.class_map, expected(3, 5, 7, 11, 2, fill=1))
    assert layout.coverage == 1 and layout.notes == ()


def test_features_without_a_class_and_points_are_noted(tmp_path):
    features = [
        (square(3, 5, 7, 11), {"building": "yes"}),
        (square(20, 20, 2, 2), {"name": "x"}),
        (shapely.Point(LEFT + 10, TOP - 10), {"natural": "spring"}),
    ]
    notes = load_layout(geojson(tmp_path / "a.geojson", features, "EPSG:32633"), CANVAS).notes
    assert any("1 of 3 features have no class" in note for note in notes)
    assert any("1 features are points" in note for note in notes)


def test_vectors_of_which_the_legend_knows_nothing_are_an_error(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(square(3, 5, 7, 11), {"HEIGHT": 4.5})], "EPSG:32633")
    with pytest.raises(InputError, match=r"attributes: HEIGHT\); give --legend FILE, or a class"):
        load_layout(path, CANVAS)
    np.testing.assert_array_equal(load_layout(path, CANVAS, legend="building").class_map, expected(3, 5, 7, 11, 2))
    with pytest.raises(InputError, match="is for rasters"):
        load_layout(path, CANVAS, legend="worldcover")


def test_vectors_elsewhere_name_both_boxes(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(shapely.box(-95.4, 29.7, -95.3, 29.8), {"building": "yes"})])
    with pytest.raises(
        InputError,
        match=r"lon -95\.400000 to -95\.300000 lat 29\.700000 to 29\.800000 does not .*lon 15\.000000 to 15\.001108 lat 49\.65",
    ):
        load_layout(path, CANVAS)


def test_empty_area_inside_the_layer_is_no_error(tmp_path):
    far = [(square(-200, -200, 3, 3), {"building": "yes"}), (square(200, 200, 3, 3), {"building": "yes"})]
    layout = load_layout(geojson(tmp_path / "a.geojson", far, "EPSG:32633"), CANVAS)
    assert layout.coverage == 0 and "no features on the canvas" in layout.notes[0]


def test_unreadable_and_empty_vectors_are_one_sentence(tmp_path):
    path = geojson(tmp_path / "a.geojson", [(square(3, 5, 7, 11), {"building": "yes"})])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="cannot be read as a vector file"):
        load_layout(path, CANVAS)
    with pytest.raises(InputError, match="holds no features"):
        load_layout(geojson(tmp_path / "e.geojson", []), CANVAS)
    with pytest.raises(InputError, match="does not exist"):
        load_layout(tmp_path / "none.geojson", CANVAS)
    with pytest.raises(InputError, match="needs a canvas with a place"):
        load_layout(geojson(tmp_path / "l.geojson", [(square(3, 5, 7, 11), {"building": "yes"})]), Canvas.local(40, 30))


def test_shapefile_without_projection_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="crs"):
        pyogrio.raw.write(
            tmp_path / "a.shp", shapely.to_wkb(np.array([square(3, 5, 7, 11)])), [np.array([4])], ["class"],
            driver="ESRI Shapefile", geometry_type="Polygon",
        )  # fmt: skip
    with pytest.raises(InputError, match="has no CRS"):
        load_layout(tmp_path / "a.shp", CANVAS)


@pytest.mark.data
def test_real_footprints_of_tall_buildings_lie_under_high_surfaces(tmp_path):
    collection = json.loads((DATA / "rasters/urban_heights/buildings.geojson").read_text())
    collection["features"] = [f for f in collection["features"] if (f["properties"]["HEIGHT"] or 0) > 15]
    (tmp_path / "tall.geojson").write_text(json.dumps(collection))
    height = GeoImage.open(DATA / "rasters/urban_heights/hag.tif")  # metres above ground, EPSG:26918
    canvas = Canvas.around(height.place, 2, 128, 128)
    building = load_layout(tmp_path / "tall.geojson", canvas, legend="building").class_map == 2
    rows, cols = np.nonzero(building)
    x, y = from_lonlat(height.crs, *canvas.places(rows + 0.5, cols + 0.5))
    columns, lines = pixel_to_world(~height.transform, x, y)
    above = height.array[lines.astype(int), columns.astype(int), 0]
    assert len(above) > 100 and np.median(above) > 15 > 8 > np.median(height.array)
