import math
import subprocess
import sys

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.crs import from_lonlat, utm_crs
from gensat.types import GeoImage, Place

HOUSTON = Place(lon=-95.36, lat=29.76)
lons = st.floats(-180, 180, allow_nan=False)
lats = st.floats(-90, 90, allow_nan=False)


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        (-95.36, 29.76, 32615),
        (32.58, 0.31, 32636),
        (-54.5, -25.5, 32721),
        (5.32, 60.39, 32632),  # Bergen: band V belongs to zone 32
        (2.9, 60.39, 32631),
        (15.6, 78.2, 32633),  # Longyearbyen
        (8.9, 78.2, 32631),
        (9.1, 78.2, 32633),
        (25.0, 78.2, 32635),
        (41.0, 78.2, 32637),
        (43.0, 78.2, 32638),
        (180.0, 10.0, 32660),
        (-180.0, 10.0, 32601),
        (0.0, 84.0, 32631),
        (0.0, 84.01, 5041),
        (0.0, -80.0, 32731),
        (0.0, -80.01, 5042),
    ],
)
def test_utm_zone_of_a_place(lon, lat, code):
    assert utm_crs(lon, lat).to_epsg() == code


@settings(max_examples=40, deadline=None)
@given(st.floats(-179.9, 179.9), st.floats(-79.9, 83.9))
def test_utm_zone_agrees_with_the_area_of_use_in_the_epsg_register(lon, lat):
    area = utm_crs(lon, lat).area_of_use
    widened = 6 if lat >= 56 and 0 <= lon < 42 else 0  # the exceptions reach into their neighbours
    assert area.west - widened <= round(lon, 9) <= area.east + widened and area.south <= lat <= area.north


@settings(max_examples=40, deadline=None)
@given(lons, lats, st.integers(1, 700), st.integers(1, 700), st.floats(0.1, 30))
def test_place_is_the_centre_of_the_canvas_everywhere(lon, lat, width, height, gsd):
    canvas = Canvas.around(Place(lon, lat), gsd, width, height)
    row, col = canvas.pixels(lon, lat)
    assert abs(row - height / 2) < 0.01 and abs(col - width / 2) < 0.01


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 179.9), lats, st.floats(-300, 900), st.floats(-300, 900))
def test_pixels_to_places_and_back(lon, lat, row, col):
    canvas = Canvas.around(Place(lon, lat), 10, 512, 384)
    back = canvas.pixels(*canvas.places(row, col))
    np.testing.assert_allclose(back, (row, col), atol=1e-3)


def test_places_of_many_pixels_are_float64_arrays_with_north_in_row_0():
    canvas = Canvas.around(HOUSTON, 10, 4, 3)
    lon, lat = canvas.places(np.arange(3)[:, None] + 0.5, np.arange(4)[None] + 0.5)
    assert lon.shape == lat.shape == (3, 4) and lon.dtype == np.float64
    assert (np.diff(lat, axis=0) < 0).all() and (np.diff(lon, axis=1) > 0).all()


def test_one_pixel_is_one_gsd_on_the_ground():
    canvas = Canvas.around(HOUSTON, 100, 64, 64)
    lon, lat = canvas.places([32, 32], [32, 33])
    assert Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2] == pytest.approx(100, rel=1e-3)
    assert canvas.ground_gsd == 100


@pytest.mark.parametrize("code", [32661, 5041])
def test_the_pole_has_easting_first_whatever_the_axis_order_of_the_authority(code):
    canvas = Canvas.around(Place(90.0, 89.0), 10, 2, 2, crs=code)
    left, bottom, right, top = canvas.bounds
    # On UPS north, 90 E lies to the right of the pole (2,000,000 m, 2,000,000 m).
    assert left > 2_100_000 and right > 2_100_000 and bottom == pytest.approx(2_000_000 - 10, abs=1e-6)
    assert top - bottom == 20


def test_own_crs_must_be_in_metres():
    with pytest.raises(InputError, match=r"EPSG:4326 is not a projected system"):
        Canvas.around(HOUSTON, 1, 8, 8, crs="EPSG:4326")
    with pytest.raises(InputError, match="foot"):
        Canvas.around(HOUSTON, 1, 8, 8, crs="EPSG:2278")
    with pytest.raises(InputError, match="not known"):
        Canvas.around(HOUSTON, 1, 8, 8, crs="EPSG:999999")
    with pytest.raises(InputError, match="not made for"):
        Canvas.around(Place(0, 90), 1, 8, 8, crs="EPSG:3857")
    assert Canvas.around(HOUSTON, 1, 8, 8, crs="EPSG:26915").crs.to_epsg() == 26915


def _square_ground(canvas):
    """Metres on the ground across and down the middle pixel."""
    row, col = canvas.height / 2, canvas.width / 2
    lon, lat = canvas.places([row, row, row - 0.5, row + 0.5], [col - 0.5, col + 0.5, col, col])
    return Geod(ellps="WGS84").inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2]


@pytest.mark.parametrize(
    ("place", "crs"),
    [
        (Place(10, 65), "EPSG:3857"),
        (Place(20, 60), "EPSG:3413"),  # polar stereographic, 4 percent
        (Place(0, -90), "EPSG:3031"),
    ],
)
def test_gsd_is_metres_on_the_ground_where_the_crs_stretches(place, crs):
    canvas = Canvas.around(place, 0.5, 64, 48, crs=crs)
    assert canvas.ground_gsd == pytest.approx(0.5, rel=1e-6)
    assert _square_ground(canvas) == pytest.approx([0.5, 0.5], rel=0.01)
    assert abs(canvas.transform.a / 0.5 - 1) > 0.02 and canvas.gsd == canvas.transform.a
    np.testing.assert_allclose(canvas.pixels(place.lon, place.lat), (24, 32), atol=0.01)


def test_bbox_in_a_crs_that_stretches_has_its_gsd_on_the_ground():
    box = (10, 64.9, 10.4, 65.3)
    canvas = Canvas.from_bbox(box, 30, crs=3857)
    assert canvas.ground_gsd == pytest.approx(30, rel=1e-4)
    left, bottom, right, top = canvas.bounds
    x, y = from_lonlat(canvas.crs, box[::2], box[1::2])
    assert left == pytest.approx(x[0]) and top == pytest.approx(y[1]) and right >= x[1] and bottom <= y[0]
    with pytest.raises(InputError, match=rf"at 30 m is .* give width {canvas.width} or"):
        Canvas.from_bbox(box, 30, width=2 * canvas.width, crs=3857)
    # 200 km are counted on the ground too: 235 km of Web Mercator are 100 km at 65 N.
    assert Canvas.around(Place(10, 65), 100, 1000, 8, crs=3857).width == 1000


@pytest.mark.parametrize("code", [32615, 32614, 5070, 26915])
def test_grids_within_2_percent_of_the_ground_keep_the_gsd_exactly(code):
    canvas = Canvas.around(HOUSTON, 0.5, 64, 64, crs=code)
    assert canvas.transform.a == canvas.gsd == canvas.ground_gsd == 0.5


@pytest.mark.parametrize(
    ("crs", "lat"), [("EPSG:3857", 75), ("EPSG:4087", 60), ("EPSG:6933", 60), ("EPSG:3031", 60), ("EPSG:32635", 10)]
)
def test_crs_that_is_not_made_for_the_place_is_refused(crs, lat):
    with pytest.raises(InputError, match=r"is not made for lon=10 lat=\d+; give a CRS of the region, or none for EPSG"):
        Canvas.around(Place(10, lat), 1, 8, 8, crs=crs)


def test_heights_of_a_crs_are_dropped():
    for crs in ("EPSG:32615+5703", CRS.from_epsg(32615).to_3d()):
        canvas = Canvas.around(HOUSTON, 1, 8, 8, crs=crs)
        assert canvas.crs.to_epsg() == 32615 and len(canvas.crs.axis_info) == 2
        image = GeoImage(np.zeros((5, 7, 3), np.uint8), crs=crs, transform=Affine(2, 0, 5e5, 0, -2, 4e6))
        assert Canvas.like(image).crs.to_epsg() == 32615


BOX = (-95.37, 29.75, -95.35, 29.77)


def test_bbox_is_its_utm_envelope():
    canvas = Canvas.from_bbox(BOX, 2)
    left, bottom, right, top = canvas.bounds
    west, south, east, north = BOX
    lon = np.concatenate([np.linspace(west, east, 50)] * 2)
    x, y = from_lonlat(canvas.crs, lon, np.repeat([south, north], 50))
    assert left == pytest.approx(x.min(), abs=1e-6) and top == pytest.approx(y.max(), abs=1e-6)
    assert right - 2 <= x.max() <= right and bottom <= y.min() <= bottom + 2
    assert canvas.crs == CRS.from_epsg(32615)
    assert canvas.gsd == 2 and canvas.width == math.ceil((x.max() - x.min()) / 2) == 990 and canvas.height == 1129


def test_bbox_takes_gsd_from_width_and_height_follows():
    reference = Canvas.from_bbox(BOX, 2)
    canvas = Canvas.from_bbox(BOX, width=500)
    assert canvas.width == 500
    assert canvas.gsd == pytest.approx(2 * 990 / 500, rel=0.002)
    assert canvas.height * canvas.gsd == pytest.approx(reference.height * 2, abs=canvas.gsd + 2)
    by_height = Canvas.from_bbox(BOX, height=canvas.height)
    assert abs(by_height.width - 500) <= 1


def test_bbox_gsd_and_size_may_differ_by_a_pixel_but_not_more():
    full = Canvas.from_bbox(BOX, 2)
    for extra in (-1, 0):
        assert Canvas.from_bbox(BOX, 2, width=full.width + extra, height=full.height + extra).gsd == 2
    for sizes in ({"width": full.width + 2}, {"width": full.width - 3}, {"height": full.height + 2}):
        with pytest.raises(InputError, match=r"give (width 990|height 1129) or leave out"):
            Canvas.from_bbox(BOX, 2, **sizes)
    with pytest.raises(InputError, match="height 600"):
        Canvas.from_bbox(BOX, width=500, height=600)


@pytest.mark.parametrize(
    ("bbox", "says"),
    [
        ((10.0, 50.0, 10.0, 51.0), "west 10 is not less than east 10"),
        ((179.9, 0.0, -179.9, 0.1), "antimeridian"),
        ((10.0, 51.0, 11.0, 50.0), "south 51 is not less"),
        ((10.0, 50.0, 11.0, 95.0), "latitude 95"),
        ((10.0, 50.0, 11.0), "4|four|west south east north"),
        ((0.0, 50.0, 4.0, 51.0), "km long, more than 200 km"),
        ((-180.0, -90.0, 180.0, 90.0), "bbox|km"),
    ],
)
def test_bbox_that_cannot_be(bbox, says):
    with pytest.raises(InputError, match=says):
        Canvas.from_bbox(bbox, 10)


def test_bbox_alone_is_not_enough_and_sizes_are_positive():
    with pytest.raises(InputError, match="give gsd"):
        Canvas.from_bbox(BOX)
    with pytest.raises(InputError, match="empty"):
        Canvas.from_bbox(BOX, width=0)
    with pytest.raises(InputError, match="above 0"):
        Canvas.from_bbox(BOX, -2)
    with pytest.raises(InputError, match="empty"):
        Canvas.local(0, 3)


def test_bbox_around_the_pole_holds_its_whole_parallel():
    canvas = Canvas.from_bbox((-180.0, 89.5, 180.0, 90.0), 100)
    rows, cols = canvas.pixels(np.linspace(-180, 180, 73), np.full(73, 89.5))
    assert canvas.crs.to_epsg() == 5041
    assert rows.min() > -1 and cols.min() > -1 and rows.max() < canvas.height + 1 and cols.max() < canvas.width + 1


def test_canvas_over_200_km_is_refused():
    with pytest.raises(InputError, match=r"200.1 km long"):
        Canvas.around(HOUSTON, 100, 2001, 8)
    assert Canvas.around(HOUSTON, 100, 2000, 8).width == 2000
    with pytest.raises(InputError, match=r"960 km long"):
        Canvas.local(32_000, 64, 30)


@settings(max_examples=40, deadline=None)
@given(st.integers(-500, 500), st.integers(-500, 500))
def test_crop_keeps_pixels_where_they_are_inside_and_outside(row, col):
    canvas = Canvas.around(HOUSTON, 0.3, 256, 256)
    part = canvas.crop(row, col, 32, 64)
    assert (part.height, part.width, part.gsd) == (32, 64, 0.3)
    np.testing.assert_allclose(part.places(0.5, 0.5), canvas.places(row + 0.5, col + 0.5), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-179, 179),
    st.floats(-79, 83),
    st.sampled_from([0.1, 0.3, 0.47, 0.5, 10.0, 30.0]),
    st.integers(1, 300),
    st.integers(-40, 40),
    st.integers(-40, 40),
)
def test_cells_of_a_crop_are_cells_of_the_canvas(lon, lat, gsd, width, cell_row, cell_col):
    canvas = Canvas.around(Place(lon, lat), gsd, width, 64)
    row, col = canvas.cell_origin(8)
    part = canvas.crop(cell_row * 8, cell_col * 8, 16, 16)
    assert part.cell_origin(8) == (row + cell_row, col + cell_col)
    assert part.grid_name(8) == canvas.grid_name(8)


def test_cells_on_exact_halves_do_not_flip():
    # Origins half a cell off the grid, where plain rounding to even would give neighbours the same cell.
    base = Canvas(64, 64, 0.5, CRS.from_epsg(32615), Affine(0.5, 0, 500_002, 0, -0.5, 4_000_002))
    origins = [base.crop(8 * k, 8 * k, 8, 8).cell_origin(8) for k in range(6)]
    assert np.diff(origins, axis=0).tolist() == [[1, 1]] * 5


def test_snapping_moves_less_than_half_a_cell_and_only_once():
    canvas = Canvas.around(HOUSTON, 0.5, 256, 256)
    snapped = canvas.snapped(8)
    shift = np.array(snapped.bounds) - np.array(canvas.bounds)
    assert np.abs(shift).max() <= 2.0 + 1e-6
    left, _, _, top = snapped.bounds
    assert left % 4 == 0 and top % 4 == 0
    assert snapped.snapped(8) == snapped
    assert snapped.cell_origin(8) == canvas.cell_origin(8) == (-top / 4, left / 4)


@settings(max_examples=40, deadline=None)
@given(st.floats(-179, 178), st.floats(-79, 83), st.sampled_from([0.3, 0.5, 10.0]))
def test_snapping_a_box_grows_it_outward(west, south, gsd):
    box = (west, south, west + 40 * gsd / 1e5, south + 30 * gsd / 1e5)
    canvas = Canvas.from_bbox(box, gsd)
    snapped = canvas.snapped(8)
    grown = np.array([-1, -1, 1, 1]) * (np.array(snapped.bounds) - canvas.bounds) / gsd  # pixels on each side
    assert (grown > -0.01).all() and (grown < [8, 1, 1, 8]).all()
    assert snapped.snapped(8) == snapped
    cells = np.array([snapped.transform.c, snapped.transform.f]) / (8 * gsd)
    np.testing.assert_allclose(cells, np.round(cells), atol=1e-6)


def test_rows_of_cells_grow_southward():
    north = Canvas.around(HOUSTON, 1, 8, 8)
    assert north.crop(80, 0, 8, 8).cell_origin(8)[0] == north.cell_origin(8)[0] + 10


def test_grids_have_names():
    assert Canvas.around(HOUSTON, 0.5, 8, 8).grid_name(8) == "earth/EPSG:32615/4.0000"
    own = CRS.from_proj4("+proj=tmerc +lat_0=0 +lon_0=25 +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +units=m +no_defs")
    name = Canvas.around(Place(25, -33), 1, 8, 8, crs=own).grid_name(4)
    assert name.startswith("earth/wkt-") and name.endswith("/4.0000")


def test_local_canvas_has_cells_but_no_place():
    canvas = Canvas.local(64, 32)
    assert canvas.crs is None and canvas.gsd is None and canvas.place is None
    assert canvas.grid_name(8) == "local" and canvas.cell_origin(8) == (0, 0)
    assert canvas.crop(16, -8, 8, 8).cell_origin(8) == (2, -1)
    assert Canvas.local(64, 32, 0.3).crop(16, -8, 8, 8).cell_origin(8) == (2, -1)
    with pytest.raises(InputError, match="no place"):
        canvas.places(0, 0)


def test_canvas_of_an_image_has_its_pixels():
    transform = Affine(2, 0, 500_001, 0, -2, 4_000_003)
    image = GeoImage(np.zeros((5, 7, 3), np.uint8), crs=32615, transform=transform)
    canvas = Canvas.like(image)
    assert (canvas.width, canvas.height, canvas.gsd, canvas.transform) == (7, 5, 2, transform)
    assert Canvas.like(GeoImage(np.zeros((5, 7, 3), np.uint8))).grid == "local"
    with pytest.raises(InputError, match="not square"):
        Canvas.like(GeoImage(image.array, crs=32615, transform=Affine(2, 0, 0, 0, -3, 0)))


def test_image_made_on_a_canvas_lies_where_the_canvas_lies():
    canvas = Canvas.around(HOUSTON, 0.5, 7, 5)
    image = canvas.image(np.zeros((5, 7, 3), np.uint8), provenance={"seed": 7})
    assert image.crs == canvas.crs and image.transform == canvas.transform and image.provenance == {"seed": 7}
    assert image.bounds == canvas.bounds and image.gsd == 0.5
    local = Canvas.local(7, 5).image(np.zeros((5, 7, 3), np.uint8))
    assert local.crs is None and local.transform is None
    with pytest.raises(InputError, match="5 x 7"):
        canvas.image(np.zeros((7, 5, 3), np.uint8))


def test_canvas_imports_no_torch():
    code = "import sys, gensat.geo.canvas, gensat.types; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=str(pytest.importorskip("gensat").__path__[0]) + "/.."
        ).returncode
        == 0
    )
