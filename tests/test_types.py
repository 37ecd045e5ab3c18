import datetime
import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from gensat.dates import PartialDate
from gensat.errors import InputError
from gensat.types import Acquisition, Band, GeoImage, Place

UTM15 = Affine(0.5, 0, 271_740, 0, -0.5, 3_294_589)


def test_place_keeps_its_coordinates_as_floats():
    place = Place(lon=-95, lat=30)
    assert (place.lon, place.lat) == (-95.0, 30.0) and isinstance(place.lon, float)
    assert Place.from_dict(place.to_dict()) == place


@pytest.mark.parametrize(
    ("lon", "lat", "says"),
    [
        (10.0, 95.0, r"latitude 95 .* swapped, give lon=95 lat=10"),
        (29.76, -95.36, r"swapped, give lon=-95.36 lat=29.76"),
        (120.0, 95.0, r"latitude 95 .* degrees north"),
        (264.64, 29.76, r"longitude 264.64 .* -95.36"),
        (math.nan, 1.0, "not finite"),
        (1.0, math.inf, "not finite"),
    ],
)
def test_place_out_of_range_says_what_to_do(lon, lat, says):
    with pytest.raises(InputError, match=says):
        Place(lon, lat)


def test_place_from_dict_refuses_other_keys():
    with pytest.raises(InputError, match="latitude"):
        Place.from_dict({"lon": 1.0, "latitude": 2.0})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2017", (2017, None, None)),
        ("2017-08", (2017, 8, None)),
        ("2017-08-31", (2017, 8, 31)),
        ("--08", (None, 8, None)),
        ("--02-29", (None, 2, 29)),
        ("---31", (None, None, 31)),
        ("2017--31", (2017, None, 31)),
        ("", (None, None, None)),
    ],
)
def test_partial_dates_round_trip_as_text(text, parts):
    date = PartialDate.parse(text)
    assert (date.year, date.month, date.day) == parts
    assert str(date) == text
    assert bool(date) is (parts != (None, None, None))


@given(st.none() | st.integers(1900, 2100), st.none() | st.integers(1, 12), st.none() | st.integers(1, 28))
def test_any_partial_date_round_trips(year, month, day):
    date = PartialDate(year, month, day)
    assert PartialDate.parse(str(date)) == date


def test_dates_are_parsed_from_what_people_have():
    assert PartialDate.parse(datetime.date(2017, 8, 31)) == PartialDate(2017, 8, 31)
    assert PartialDate.parse(datetime.datetime(2017, 8, 31, 10)) == PartialDate(2017, 8, 31)
    assert PartialDate.parse("2017-08-31T16:55:10Z") == PartialDate(2017, 8, 31)
    assert PartialDate.parse(2017) == PartialDate(2017)
    assert PartialDate.parse(None) == PartialDate()


@pytest.mark.parametrize(
    "text",
    ["2017-02-30", "2017-13", "2017-00", "--02-30", "1899", "2101-01-01", "17-08-31", "20170831", "31.08.2017", "2017-",
     "-", "--", "yesterday", "2017-08-31 or so", "2017-08-311"],
)  # fmt: skip
def test_dates_that_do_not_exist_are_refused(text):
    with pytest.raises(InputError):
        PartialDate.parse(text)


def test_29_february_needs_a_leap_year_only_where_the_year_is_known():
    assert PartialDate.parse("2016-02-29").day == 29
    with pytest.raises(InputError, match=r"2017-02-29 does not exist; the day must be 1 to 28"):
        PartialDate.parse("2017-02-29")


def test_acquisition_parses_and_normalises():
    acquisition = Acquisition(10, "2017-08", 0, " Sentinel-2 ")
    assert acquisition.date == PartialDate(2017, 8)
    assert (acquisition.gsd, acquisition.cloud_cover, acquisition.sensor) == (10.0, 0.0, "sentinel-2")
    assert acquisition.to_dict() == {"gsd": 10.0, "date": "2017-08", "cloud_cover": 0.0, "sensor": "sentinel-2"}
    assert Acquisition.from_dict(acquisition.to_dict()) == acquisition


def test_unknown_acquisition_is_false_and_known_zero_is_not():
    assert not Acquisition() and Acquisition().to_dict() == {}
    assert Acquisition(cloud_cover=0.0)
    assert not Acquisition(sensor=" ")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cloud_cover": 40}, "40 percent is 0.4"),
        ({"cloud_cover": -0.1}, "0 to 1"),
        ({"cloud_cover": math.nan}, "0 to 1"),
        ({"gsd": 0}, "above 0"),
        ({"gsd": math.inf}, "above 0"),
        ({"date": "2017-02-30"}, "does not exist"),
    ],
)
def test_acquisition_refuses_what_cannot_be(values, says):
    with pytest.raises(InputError, match=says):
        Acquisition(**values)


def test_band_knows_its_colour_by_name_or_by_word():
    assert Band("NIR").role == "nir"
    assert Band("B8A", colour="nir").role == "nir"
    assert Band("elevation").role is None


@pytest.mark.parametrize("values", [{"name": " "}, {"name": "a", "scale": 0.0}, {"name": "a", "colour": "pink"}])
def test_band_refuses_what_cannot_be(values):
    with pytest.raises(InputError):
        Band(**values)


def test_image_names_its_bands():
    assert [b.name for b in GeoImage(np.zeros((2, 2, 3), np.uint8)).bands] == ["red", "green", "blue"]
    assert [b.name for b in GeoImage(np.zeros((2, 2), np.uint8)).bands] == ["gray"]
    assert [b.name for b in GeoImage(np.zeros((2, 2, 2), np.uint8)).bands] == ["band1", "band2"]


def test_band_is_found_by_name_and_by_colour():
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    image = GeoImage(array, ["B4", Band("B8", colour="nir"), "vh"])
    np.testing.assert_array_equal(image.band("nir"), array[:, :, 1])
    np.testing.assert_array_equal(image.band("b4"), array[:, :, 0])
    with pytest.raises(InputError, match="B4, B8, vh"):
        image.band("swir")


def test_physical_values_are_scaled_and_nan_where_not_valid():
    array = np.array([[[100, 7], [200, 8]]], dtype=np.uint16)
    image = GeoImage(array, [Band("a", 0.5, -10), "b"], valid=np.array([[True, False]]))
    physical = image.physical()
    assert physical.dtype == np.float32
    np.testing.assert_array_equal(physical[0, 0], [40.0, 7.0])
    assert np.isnan(physical[0, 1]).all()


def test_pixels_that_are_not_finite_become_invalid():
    array = np.ones((2, 2, 2), np.float32)
    array[0, 1, 0], array[1, 1, 1] = np.nan, np.inf
    image = GeoImage(array, valid=np.array([[True, True], [False, True]]))
    np.testing.assert_array_equal(image.valid, [[True, False], [False, False]])
    assert GeoImage(np.ones((2, 2, 1), np.float32)).valid is None


def test_gsd_comes_from_the_grid_else_from_the_acquisition():
    array = np.zeros((4, 4, 3), np.uint8)
    assert GeoImage(array, crs=32615, transform=UTM15, acquisition=Acquisition(gsd=3)).gsd == 0.5
    assert GeoImage(array, acquisition=Acquisition(gsd=3)).gsd == 3.0
    assert GeoImage(array).gsd is None


def test_gsd_in_degrees_and_web_mercator_is_measured_on_the_ground():
    array = np.zeros((2, 2, 1), np.uint8)
    # At 60 N a degree of longitude is half one of latitude, and Web Mercator doubles lengths (flattening: 1 percent).
    degree = GeoImage(array, crs=4326, transform=Affine(1e-3, 0, 10, 0, -1e-3, 60.001)).gsd
    assert degree == pytest.approx(111_319.5e-3 * math.sqrt(0.5), rel=0.01)
    mercator = GeoImage(array, crs=3857, transform=Affine(10, 0, 0, 0, -10, 8_399_737.9 + 10)).gsd
    assert mercator == pytest.approx(5.0, rel=0.01)


def test_place_and_bounds_of_an_image():
    image = GeoImage(np.zeros((4, 8, 3), np.uint8), crs="EPSG:4326", transform=Affine(0.5, 0, 10, 0, -0.25, 50))
    assert image.bounds == (10, 49, 14, 50)
    assert image.place == Place(12, 49.5)
    assert GeoImage(np.zeros((4, 8, 3), np.uint8)).place is None


@pytest.mark.parametrize(
    ("array", "values", "says"),
    [
        (np.zeros((2, 2, 3), np.float64), {}, "float64"),
        (np.zeros((2, 2, 3), np.int16), {}, "int16"),
        (np.zeros((2,), np.uint8), {}, "shape"),
        (np.zeros((0, 2, 3), np.uint8), {}, "shape"),
        (np.zeros((2, 2, 3), np.uint8), {"bands": ["a", "b"]}, "2 bands are named for 3 channels"),
        (np.zeros((2, 2, 2), np.uint8), {"bands": ["a", "A"]}, "repeat"),
        (np.zeros((2, 2, 1), np.uint8), {"valid": np.ones((2, 3), bool)}, "valid mask"),
        (np.zeros((2, 2, 1), np.uint8), {"valid": np.ones((2, 2), np.uint8)}, "valid mask"),
        (np.zeros((2, 2, 1), np.uint8), {"crs": "EPSG:1"}, "not known"),
        (np.zeros((2, 2, 1), np.uint8), {"transform": Affine(1, 0, 0, 0, 1, 0)}, "north-up"),
        (np.zeros((2, 2, 1), np.uint8), {"transform": Affine(0.8, 0.6, 0, 0.6, -0.8, 0)}, "north-up"),
    ],
)
def test_image_refuses_what_breaks_the_contract(array, values, says):
    with pytest.raises(InputError, match=says):
        GeoImage(array, **values)


def test_picture_shows_the_bands_named_red_green_blue():
    array = np.zeros((1, 2, 4), np.uint8)
    array[0, 0] = [9, 30, 20, 10]
    image = GeoImage(array, ["nir", "blue", "green", "red"], valid=np.array([[True, False]]))
    assert image.to_pil().getpixel((0, 0)) == (10, 20, 30)
    assert image.to_pil().getpixel((1, 0)) == (0, 0, 0)


def test_picture_of_unit_floats_is_scaled_and_of_counts_is_stretched():
    unit = GeoImage(np.array([[[0.0], [0.5], [1.0]]], np.float32)).to_pil()
    assert [unit.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    counts = np.linspace(1000, 3000, 101).astype(np.uint16).reshape(1, 101, 1)
    stretched = np.asarray(GeoImage(counts).to_pil())[0, :, 0]
    assert stretched[:3].tolist() == [0, 0, 0] and stretched[-3:].tolist() == [255, 255, 255]
    assert stretched[50] in (127, 128)
    fixed = np.asarray(GeoImage(counts).to_pil(stretch=(1000, 3000)))[0, :, 0]
    assert fixed[0] == 0 and fixed[1] == 3 and fixed[-1] == 255


def test_picture_of_a_constant_image_does_not_divide_by_zero():
    assert GeoImage(np.full((2, 2, 1), 500, np.uint16)).to_pil().getpixel((0, 0)) == (0, 0, 0)
