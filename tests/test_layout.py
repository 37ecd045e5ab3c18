"""Raster layouts on a canvas."""

import numpy as np
import pytest
from affine import Affine
from conftest import DATA
from layout_files import CANVAS, LEFT, TOP, UTM, expected, geotiff
from PIL import Image
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.classes import COLOURS, colourise
from gensat.geo.crs import from_lonlat
from gensat.geo.layout import load_layout
from gensat.types import GeoImage


def test_raster_on_the_same_grid_is_taken_as_it_is(tmp_path):
    codes = np.random.default_rng(0).integers(0, 11, (30, 40), dtype=np.uint8)
    layout = load_layout(geotiff(tmp_path / "a.tif", codes), CANVAS)
    np.testing.assert_array_equal(layout.class_map, codes)
    assert layout.coverage == pytest.approx(np.mean(codes != 0))


def test_part_of_a_larger_raster_lands_on_its_pixels(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (100, 120), dtype=np.uint8)
    path = geotiff(tmp_path / "a.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
    layout = load_layout(path, CANVAS)
    np.testing.assert_array_equal(layout.class_map, codes[20:50, 30:70])
    assert layout.coverage == 1 and layout.notes == ()


def test_coarse_raster_is_repeated_and_fine_one_counted(tmp_path):
    coarse = np.random.default_rng(0).integers(1, 11, (6, 8), dtype=np.uint8)
    path = geotiff(tmp_path / "c.tif", coarse, Affine(10, 0, LEFT, 0, -10, TOP))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, coarse.repeat(5, 0).repeat(5, 1))
    fine = np.full((30, 4, 40, 4), 5, np.uint8)
    fine[:, 0, :, :2] = 2  # 2 of 16 pixels of each cell, the ones that a nearest neighbour might pick
    fine[10, :, 10, :3] = 3  # 12 of 16
    path = geotiff(tmp_path / "f.tif", fine.reshape(120, 160), Affine(0.5, 0, LEFT, 0, -0.5, TOP))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, expected(10, 10, 1, 1, 3, fill=5))


def test_unknown_has_a_vote_when_the_majority_is_counted(tmp_path):
    fine = np.zeros((30, 4, 40, 4), np.uint8)
    fine[:, 0, :, 0] = 1  # a building on 1 of 16 pixels does not make the cell a building
    path = geotiff(tmp_path / "f.tif", fine.reshape(120, 160), Affine(0.5, 0, LEFT, 0, -0.5, TOP))
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
        path = geotiff(tmp_path / f"{axis}.tif", codes, transform, CRS.from_epsg(4326))
        class_map = load_layout(path, CANVAS).class_map
        expected = 1 + np.indices((30, 40))[axis] // 4 % 10
        inner = np.indices((30, 40))[axis] % 4
        assert np.mean(class_map == expected) > 0.97
        assert (class_map == expected)[(inner == 1) | (inner == 2)].all()


def test_south_up_and_rotated_rasters_land_where_they_lie(tmp_path):
    codes = np.random.default_rng(0).integers(1, 11, (30, 40), dtype=np.uint8)
    path = geotiff(tmp_path / "s.tif", codes[::-1], Affine(2, 0, LEFT, 0, 2, TOP - 60))
    np.testing.assert_array_equal(load_layout(path, CANVAS).class_map, codes)
    quarter = geotiff(tmp_path / "r.tif", np.ascontiguousarray(codes.T), Affine(0, 2, LEFT, -2, 0, TOP))
    np.testing.assert_array_equal(load_layout(quarter, CANVAS).class_map, codes)


def test_missing_coverage_and_nodata_are_unknown_and_reported(tmp_path):
    codes = np.full((30, 20), 5, np.uint8)
    codes[:10] = 255
    layout = load_layout(geotiff(tmp_path / "a.tif", codes, nodata=255), CANVAS)
    np.testing.assert_array_equal(layout.class_map, expected(10, 0, 20, 20, 5))
    assert layout.coverage == pytest.approx(1 / 3)
    assert "unknown on 66.7 percent of the canvas" in layout.notes[0]


def test_raster_elsewhere_names_both_boxes(tmp_path):
    path = geotiff(tmp_path / "a.tif", np.ones((30, 40), np.uint8), Affine(2, 0, LEFT + 500, 0, -2, TOP))
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
    path = geotiff(tmp_path / "a.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
    assert (load_layout(path, CANVAS).class_map == 5).all()
    codes[30, 50] = 98
    path = geotiff(tmp_path / "b.tif", codes, Affine(2, 0, LEFT - 60, 0, -2, TOP + 40))
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
    layout = load_layout(geotiff(tmp_path / "a.tif", codes), Canvas.local(40, 30))
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
        np.testing.assert_array_equal(load_layout(source, CANVAS, legend="uganda").class_map, expected(3, 5, 7, 11, 2))


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
    path = geotiff(tmp_path / "a.tif", codes)
    for source in (path, GeoImage.open(path)):
        np.testing.assert_array_equal(load_layout(source, CANVAS).class_map, np.where(np.isnan(codes), 0, 5))


def test_shapes_and_legends_that_make_no_class_map_are_refused(tmp_path):
    with pytest.raises(InputError, match="has 2 bands"):
        load_layout(np.zeros((30, 40, 2), np.uint8), CANVAS)
    with pytest.raises(InputError, match="give \\(height, width\\)"):
        load_layout(np.zeros(30, np.uint8), CANVAS)
    with pytest.raises(InputError, match="is for vectors"):
        load_layout(np.zeros((30, 40), np.uint8), CANVAS, legend="building")
    path = geotiff(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 11, (300, 400), dtype=np.uint8))
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
