import json
import os
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.classes import COLOURS, colourise
from gensat.geo.crs import from_lonlat, pixel_to_world, to_lonlat
from gensat.geo.layout import load_layout
from gensat.types import GeoImage, Place

DATA = Path(os.environ.get("GENSAT_DATA", Path(__file__).parents[2] / "shared/data"))
UTM = CRS.from_epsg(32633)
LEFT, TOP = 500_000.0, 5_500_000.0
CANVAS = Canvas(40, 30, 2.0, UTM, Affine(2, 0, LEFT, 0, -2, TOP))


def _square(row, col, height, width):
    """Polygon that covers exactly these pixels of CANVAS, in UTM."""
    x, y = LEFT + 2 * col, TOP - 2 * row
    return shapely.box(x, y - 2 * height, x + 2 * width, y)


def _lonlat(shape):
    return shapely.transform(shape, lambda xy: np.stack(to_lonlat(UTM, xy[:, 0], xy[:, 1]), axis=1))


def _geojson(path, features, crs=None):
    rows = [
        {"type": "Feature", "properties": tags, "geometry": json.loads(shapely.to_geojson(shape))}
        for shape, tags in features
    ]
    collection = {"type": "FeatureCollection", "features": rows}
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(collection))
    return path


def _expected(row, col, height, width, code, fill=0):
    class_map = np.full((30, 40), fill, np.uint8)
    class_map[row : row + height, col : col + width] = code
    return class_map


def _geotiff(path, array, transform=CANVAS.transform, crs=UTM, **profile):
    height, width = array.shape[-2:]
    count = array.shape[0] if array.ndim == 3 else 1
    profile = {"crs": crs and crs.to_wkt(), "transform": transform, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=array.dtype, **profile
    ) as file:
        file.write(array.reshape(count, height, width))
    return path


# Vectors.


def test_polygon_of_known_coordinates_fills_exactly_its_pixels(tmp_path):
    path = _geojson(tmp_path / "a.geojson", [(_square(3, 5, 7, 11), {"building": "yes"})], "EPSG:32633")
    layout = load_layout(path, CANVAS)
    np.testing.assert_array_equal(layout.class_map, _expected(3, 5, 7, 11, 2))
    assert layout.coverage == pytest.approx(77 / 1200)
    assert "unknown on 93.6 percent" in layout.notes[-1]


def test_polygon_in_degrees_fills_the_same_pixels(tmp_path):
    # Shrunk by a millimetre, so that rounding on the way to degrees and back cannot decide about a pixel.
    shape = _lonlat(_square(3, 5, 7, 11).buffer(-0.001, join_style="mitre"))
    layout = load_layout(_geojson(tmp_path / "a.geojson", [(shape, {"building": "yes"})]), CANVAS)
    np.testing.assert_array_equal(layout.class_map, _expected(3, 5, 7, 11, 2))


def test_long_edges_in_degrees_are_curved_on_the_canvas(tmp_path):
    # The edge along the parallel 50 N between 12 and 18 E bends 200 m and more off its chord on the plane of zone 33.
    canvas = Canvas.around(Place(15.0, 50.0), 100, 4, 200)
    shape = shapely.box(12.0, 49.0, 18.0, 50.0)
    class_map = load_layout(_geojson(tmp_path / "a.geojson", [(shape, {"natural": "water"})]), canvas).class_map
    np.testing.assert_array_equal(class_map[:, 2], np.repeat([0, 4], 100))


def test_geopackage_with_two_layers_and_shapefile(tmp_path):
    path = tmp_path / "a.gpkg"
    polygon, line = _square(0, 0, 30, 40), shapely.LineString([(LEFT, TOP - 20), (LEFT + 80, TOP - 20)])
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
        shapes, shapely.to_wkb(np.array([_square(3, 5, 7, 11)])), [np.array([4])], ["class"], driver="ESRI Shapefile",
        geometry_type="Polygon", crs="EPSG:32633",
    )  # fmt: skip
    np.testing.assert_array_equal(load_layout(shapes, CANVAS).class_map, _expected(3, 5, 7, 11, 4))


def test_line_is_as_wide_as_its_road(tmp_path):
    line = shapely.LineString([(LEFT - 30, TOP - 21), (LEFT + 110, TOP - 21)])  # along the centres of row 10
    for tags, rows in (
        ({"highway": "motorway"}, 6),
        ({"highway": "residential"}, 3),
        ({"highway": "road", "width": "10"}, 5),
    ):
        class_map = load_layout(_geojson(tmp_path / "a.geojson", [(line, tags)], "EPSG:32633"), CANVAS).class_map
        found = np.nonzero((class_map == 3).all(axis=1))[0]
        assert abs(len(found) - rows) <= 1 and found.mean() == pytest.approx(10, abs=0.5)
        assert set(np.unique(class_map)) == {0, 3}


def test_buildings_over_roads_over_water_over_ground_whatever_the_order_in_the_file(tmp_path):
    whole = _square(0, 0, 30, 40)
    features = [
        (_square(0, 0, 10, 40), {"building": "yes"}),
        (_square(0, 0, 15, 40), {"highway": "pedestrian"}),
        (_square(0, 0, 20, 40), {"natural": "water"}),
        (_square(0, 0, 25, 40), {"leisure": "park"}),
        (whole, {"landuse": "residential"}),
    ]
    for order in (features, features[::-1]):
        class_map = load_layout(_geojson(tmp_path / "a.geojson", order, "EPSG:32633"), CANVAS).class_map
        np.testing.assert_array_equal(class_map[:, 0], np.repeat([2, 3, 4, 6, 1], [10, 5, 5, 5, 5]))


def test_holes_stay_open_and_broken_polygons_are_mended(tmp_path):
    ring = _square(0, 0, 20, 20).difference(_square(5, 5, 10, 10))
    class_map = load_layout(
        _geojson(tmp_path / "a.geojson", [(ring, {"natural": "wood"})], "EPSG:32633"), CANVAS
    ).class_map
    assert class_map[10, 10] == 0 and class_map[2, 2] == 5
    bow = shapely.Polygon([(LEFT, TOP), (LEFT + 40, TOP - 40), (LEFT + 40, TOP), (LEFT, TOP - 40)])
    class_map = load_layout(
        _geojson(tmp_path / "b.geojson", [(bow, {"natural": "wood"})], "EPSG:32633"), CANVAS
    ).class_map
    assert class_map[10, 1] == 5 and class_map[10, 18] == 5 and class_map[1, 10] == 0
    assert (class_map == 5).sum() == pytest.approx(200, abs=20)


def test_uncovered_pixels_are_unknown_unless_the_legend_has_a_background(tmp_path):
    path = _geojson(tmp_path / "a.geojson", [(_square(3, 5, 7, 11), {"use": "house"})], "EPSG:32633")
    table = {"attribute": "use", "values": {"house": "building"}}
    assert load_layout(path, CANVAS, legend=table).class_map[0, 0] == 0
    layout = load_layout(path, CANVAS, legend={**table, "background": "ground"})
    np.testing.assert_array_equal(layout.class_map, _expected(3, 5, 7, 11, 2, fill=1))
    assert layout.coverage == 1 and layout.notes == ()


def test_features_without_a_class_and_points_are_noted(tmp_path):
    features = [
        (_square(3, 5, 7, 11), {"building": "yes"}),
        (_square(20, 20, 2, 2), {"name": "x"}),
        (shapely.Point(LEFT + 10, TOP - 10), {"natural": "spring"}),
    ]
    notes = load_layout(_geojson(tmp_path / "a.geojson", features, "EPSG:32633"), CANVAS).notes
    assert any("1 of 3 features have no class" in note for note in notes)
    assert any("1 features are points" in note for note in notes)


def test_vectors_of_which_the_legend_knows_nothing_are_an_error(tmp_path):
    path = _geojson(tmp_path / "a.geojson", [(_square(3, 5, 7, 11), {"HEIGHT": 4.5})], "EPSG:32633")
    with pytest.raises(InputError, match=r"attributes: HEIGHT\); give --legend FILE, or a class"):
        load_layout(path, CANVAS)
    np.testing.assert_array_equal(load_layout(path, CANVAS, legend="building").class_map, _expected(3, 5, 7, 11, 2))
    with pytest.raises(InputError, match="is for rasters"):
        load_layout(path, CANVAS, legend="worldcover")


def test_vectors_elsewhere_name_both_boxes(tmp_path):
    path = _geojson(tmp_path / "a.geojson", [(shapely.box(-95.4, 29.7, -95.3, 29.8), {"building": "yes"})])
    with pytest.raises(
        InputError,
        match=r"lon -95\.400000 to -95\.300000 lat 29\.700000 to 29\.800000 does not .*lon 15\.000000 to 15\.001108 lat 49\.65",
    ):
        load_layout(path, CANVAS)


def test_empty_area_inside_the_layer_is_no_error(tmp_path):
    far = [(_square(-200, -200, 3, 3), {"building": "yes"}), (_square(200, 200, 3, 3), {"building": "yes"})]
    layout = load_layout(_geojson(tmp_path / "a.geojson", far, "EPSG:32633"), CANVAS)
    assert layout.coverage == 0 and "no features on the canvas" in layout.notes[0]


def test_unreadable_and_empty_vectors_are_one_sentence(tmp_path):
    path = _geojson(tmp_path / "a.geojson", [(_square(3, 5, 7, 11), {"building": "yes"})])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="cannot be read as a vector file"):
        load_layout(path, CANVAS)
    with pytest.raises(InputError, match="holds no features"):
        load_layout(_geojson(tmp_path / "e.geojson", []), CANVAS)
    with pytest.raises(InputError, match="does not exist"):
        load_layout(tmp_path / "none.geojson", CANVAS)
    with pytest.raises(InputError, match="needs a canvas with a place"):
        load_layout(
            _geojson(tmp_path / "l.geojson", [(_square(3, 5, 7, 11), {"building": "yes"})]), Canvas.local(40, 30)
        )


def test_shapefile_without_projection_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="crs"):
        pyogrio.raw.write(
            tmp_path / "a.shp", shapely.to_wkb(np.array([_square(3, 5, 7, 11)])), [np.array([4])], ["class"],
            driver="ESRI Shapefile", geometry_type="Polygon",
        )  # fmt: skip
    with pytest.raises(InputError, match="has no CRS"):
        load_layout(tmp_path / "a.shp", CANVAS)


# Rasters.


def test_raster_on_the_same_grid_is_taken_as_it_is(tmp_path):
    codes = np.random.default_rng(0).integers(0, 11, (30, 40), dtype=np.uint8)
    layout = load_layout(_geotiff(tmp_path / "a.tif", codes), CANVAS)
    np.testing.assert_array_equal(layout.class_map, codes)
    assert layout.coverage == pytest.approx(np.mean(codes != 0))


def test_part_of_a_larger_raster_lands_on_its_pixels(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (100, 120), dtype=np.uint8)
    path = _geotiff(tmp_path / "a.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
    layout = load_layout(path, CANVAS)
    np.testing.assert_array_equal(layout.class_map, codes[20:50, 30:70])
    assert layout.coverage == 1 and layout.notes == ()


def test_coarse_raster_is_repeated_and_fine_one_counted(tmp_path):
    coarse = np.random.default_rng(0).integers(1, 11, (6, 8), dtype=np.uint8)
    path = _geotiff(tmp_path / "c.tif", coarse, Affine(10, 0, LEFT, 0, -10, TOP))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, coarse.repeat(5, 0).repeat(5, 1))
    fine = np.full((30, 4, 40, 4), 5, np.uint8)
    fine[:, 0, :, :2] = 2  # 2 of 16 pixels of each cell, the ones that a nearest neighbour might pick
    fine[10, :, 10, :3] = 3  # 12 of 16
    path = _geotiff(tmp_path / "f.tif", fine.reshape(120, 160), Affine(0.5, 0, LEFT, 0, -0.5, TOP))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, _expected(10, 10, 1, 1, 3, fill=5))


def test_unknown_has_a_vote_when_the_majority_is_counted(tmp_path):
    fine = np.zeros((30, 4, 40, 4), np.uint8)
    fine[:, 0, :, 0] = 1  # a building on 1 of 16 pixels does not make the cell a building
    path = _geotiff(tmp_path / "f.tif", fine.reshape(120, 160), Affine(0.5, 0, LEFT, 0, -0.5, TOP))
    assert load_layout(path, CANVAS, legend="uganda").coverage == 0


def test_raster_in_degrees_keeps_its_positions_within_a_pixel(tmp_path):
    # Each pixel says which of 10 strips of 8 m its true UTM easting (or northing) lies in.
    lon, lat = CANVAS.places(15, 20)
    step = 5e-6
    transform = Affine(step, 0, float(lon) - 300 * step, 0, -step, float(lat) + 200 * step)
    rows, cols = np.mgrid[:400, :600] + 0.5
    x, y = from_lonlat(UTM, transform.c + step * cols, transform.f - step * rows)
    for values, axis in (((x - LEFT) // 8, 1), ((TOP - y) // 8, 0)):
        codes = (1 + values.astype(int) % 10).astype(np.uint8)
        path = _geotiff(tmp_path / f"{axis}.tif", codes, transform, CRS.from_epsg(4326))
        class_map = load_layout(path, CANVAS).class_map
        expected = 1 + np.indices((30, 40))[axis] // 4 % 10
        inner = np.indices((30, 40))[axis] % 4
        assert np.mean(class_map == expected) > 0.97
        assert (class_map == expected)[(inner == 1) | (inner == 2)].all()


def test_south_up_and_rotated_rasters_land_where_they_lie(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (30, 40), dtype=np.uint8)
    path = _geotiff(tmp_path / "s.tif", codes[::-1], Affine(2, 0, LEFT, 0, 2, TOP - 60))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, codes)
    quarter = _geotiff(tmp_path / "r.tif", np.ascontiguousarray(codes.T), Affine(0, 2, LEFT, -2, 0, TOP))
    np.testing.assert_array_equal(load_layout(quarter, CANVAS).class_map, codes)


def test_missing_coverage_and_nodata_are_unknown_and_reported(tmp_path):
    codes = np.full((30, 20), 5, np.uint8)
    codes[:10] = 255
    layout = load_layout(_geotiff(tmp_path / "a.tif", codes, nodata=255), CANVAS)
    np.testing.assert_array_equal(layout.class_map, _expected(10, 0, 20, 20, 5))
    assert layout.coverage == pytest.approx(1 / 3)
    assert "unknown on 66.7 percent of the canvas" in layout.notes[0]


def test_raster_elsewhere_names_both_boxes(tmp_path):
    path = _geotiff(tmp_path / "a.tif", np.ones((30, 40), np.uint8), Affine(2, 0, LEFT + 500, 0, -2, TOP))
    with pytest.raises(
        InputError, match=r"a\.tif at lon 15\.006927 .* does not overlap the canvas at lon 15\.000000 to 15\.001108"
    ):
        load_layout(path, CANVAS)
    image = GeoImage(np.ones((3, 4, 1), np.uint8), crs=32615, transform=CANVAS.transform)
    with pytest.raises(InputError, match="does not overlap"):
        load_layout(image, CANVAS)


def test_unknown_codes_outside_the_canvas_do_not_matter(tmp_path):
    codes = np.full((100, 120), 99, np.uint8)
    codes[15:55, 25:75] = 5
    path = _geotiff(tmp_path / "a.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
    assert (load_layout(path, CANVAS).class_map == 5).all()
    codes[30, 50] = 98
    path = _geotiff(tmp_path / "b.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
    with pytest.raises(InputError, match=r"codes 98 .*--legend"):
        load_layout(path, CANVAS)
    assert load_layout(path, CANVAS, legend={"codes": {"5": "woodland"}, "default": "bare"}).class_map[10, 20] == 8


def test_without_a_place_the_size_must_match(tmp_path):
    codes = np.random.default_rng(0).integers(0, 11, (30, 40), dtype=np.uint8)
    for canvas in (CANVAS, Canvas.local(40, 30)):
        np.testing.assert_array_equal(load_layout(codes, canvas).class_map, codes)
        np.testing.assert_array_equal(load_layout(codes.astype(np.int64), canvas).class_map, codes)
    with pytest.raises(InputError, match=r"39 x 30 pixels .* 40 x 30"):
        load_layout(codes[:, :39], CANVAS)
    Image.fromarray(codes[:, :39]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png of 39 x 30 pixels .* 40 x 30"):
        load_layout(tmp_path / "a.png", CANVAS)


def test_local_canvas_ignores_the_place_of_a_layout_and_says_so(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (30, 40), dtype=np.uint8)
    layout = load_layout(_geotiff(tmp_path / "a.tif", codes), Canvas.local(40, 30))
    np.testing.assert_array_equal(layout.class_map, codes)
    assert "CRS of the layout was ignored" in layout.notes[0]


def test_pictures_in_the_colours_of_the_legend(tmp_path):
    codes = np.random.default_rng(0).integers(0, 11, (30, 40), dtype=np.uint8)
    colours = colourise(codes)
    palette = Image.fromarray(codes).convert("L").convert("P")
    palette.putdata(codes.ravel().tolist())
    palette.putpalette(COLOURS.ravel().tolist())
    other = palette.copy()
    other.putpalette(list(range(33)))
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    palette.save(tmp_path / "p.png")
    sources = [
        colours,
        Image.fromarray(colours),
        palette,
        other,
        Image.fromarray(codes),
        tmp_path / "rgb.png",
        tmp_path / "p.png",
    ]
    for source in sources:
        np.testing.assert_array_equal(load_layout(source, CANVAS).class_map, codes)
    Image.fromarray(colours).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="not in the legend"):
        load_layout(tmp_path / "a.jpg", CANVAS)


def test_png_with_a_place_is_warped(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (6, 8, 1), dtype=np.uint8)
    GeoImage(codes, ["class"], UTM, Affine(10, 0, LEFT, 0, -10, TOP)).save(tmp_path / "a.png")
    expected = codes[:, :, 0].repeat(5, 0).repeat(5, 1)
    np.testing.assert_array_equal(load_layout(tmp_path / "a.png", CANVAS).class_map, expected)
    np.testing.assert_array_equal(load_layout(GeoImage.open(tmp_path / "a.png"), CANVAS).class_map, expected)


def test_masks_of_bits_are_codes_0_and_1(tmp_path):
    mask = np.zeros((30, 40), bool)
    mask[3:10, 5:16] = True
    Image.fromarray(mask).save(tmp_path / "m.png")
    for source in (mask, Image.fromarray(mask), tmp_path / "m.png"):
        np.testing.assert_array_equal(load_layout(source, CANVAS, legend="uganda").class_map, _expected(3, 5, 7, 11, 2))


def test_float_rasters_must_hold_whole_numbers(tmp_path):
    codes = np.full((30, 40), 5, np.float32)
    codes[0, 0] = np.nan
    assert load_layout(GeoImage(codes, crs=UTM, transform=CANVAS.transform), CANVAS).class_map[0].tolist() == [
        0
    ] + 39 * [5]
    codes[3, 3] = 2.5
    with pytest.raises(InputError, match=r"holds 2\.5, which is no class code"):
        load_layout(GeoImage(codes), CANVAS)


def test_nan_in_a_file_is_unknown_as_in_memory(tmp_path):
    codes = np.full((30, 40), 5, np.float32)
    codes[3:7, 8] = np.nan
    path = _geotiff(tmp_path / "a.tif", codes)
    for source in (path, GeoImage.open(path)):
        np.testing.assert_array_equal(load_layout(source, CANVAS).class_map, np.where(np.isnan(codes), 0, 5))


def test_shapes_and_legends_that_make_no_class_map_are_refused(tmp_path):
    with pytest.raises(InputError, match="has 2 bands"):
        load_layout(np.zeros((30, 40, 2), np.uint8), CANVAS)
    with pytest.raises(InputError, match="give \\(height, width\\)"):
        load_layout(np.zeros(30, np.uint8), CANVAS)
    with pytest.raises(InputError, match="is for vectors"):
        load_layout(np.zeros((30, 40), np.uint8), CANVAS, legend="building")
    path = _geotiff(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 11, (300, 400), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be read"):
        load_layout(path, Canvas(400, 300, 2.0, UTM, CANVAS.transform))


@pytest.mark.data
def test_real_site_keeps_its_sea_and_its_forest():
    site = DATA / "rasters/sites/282D_485L_3_3"
    canvas = Canvas.around(GeoImage.open(site / "rgb.tif").place, 5, 256, 256)
    layout = load_layout(site / "landcover.tif", canvas, legend="sites")
    assert layout.coverage == 1 and set(np.unique(layout.class_map)) <= {4, 5, 6, 8}
    near_infrared = GeoImage.open(site / "s2_l2a.tif").array[:, :, 7]
    half = near_infrared[48:176, 48:176].repeat(2, 0).repeat(2, 1)
    dark = half < 500  # open water; the maps of this site count its sand banks as water too
    assert dark[layout.class_map == 5].mean() < 0.02 and dark[layout.class_map == 4].mean() > 0.25


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
