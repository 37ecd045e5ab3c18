"""The sun's place, against published almanac values and geometry."""

import datetime
import math

import pytest

from gensat.errors import InputError
from gensat.geo.sun import SunPosition, parse_time, sun_position
from gensat.types import Place

pytest.importorskip("pvlib", reason="the position of the sun needs pvlib (extra ground)")


def test_the_worked_example_of_the_algorithm():
    """Reda and Andreas 2004, table A5.1: 17 October 2003, 12:30:30 at UTC-7, 39.742476 N 105.1786 W, 1830 m: zenith 50.11162, azimuth 194.34024."""
    sun = sun_position(Place(lon=-105.1786, lat=39.742476), "2003-10-17T12:30:30-07:00", altitude=1830.14)
    assert 90 - sun.elevation == pytest.approx(
        50.11162, abs=0.01
    )  # they take 11 degrees C and 820 hPa for the refraction
    assert sun.azimuth == pytest.approx(194.34024, abs=0.001)


@pytest.mark.parametrize(
    ("date", "declination"),
    [("2024-06-20T20:51Z", 23.44), ("2024-12-21T09:20Z", -23.44), ("2024-03-20T03:06Z", 0.0)],
    ids=["june solstice", "december solstice", "march equinox"],
)
def test_declination_at_solstices_and_equinox(date, declination):
    """Moments from the Astronomical Almanac. Seen from the pole, the sun's elevation is its declination (to 0.003 of parallax)."""
    assert sun_position(Place(lon=0, lat=90), date, refraction=False).elevation == pytest.approx(declination, abs=0.01)


def test_noon_and_equation_of_time():
    """On 11 February 2024 the sundial is 14.2 minutes slow: the sun crosses the meridian of Greenwich at 12:14.2 UTC."""
    before = sun_position(Place(lon=0, lat=51.4779), "2024-02-11T12:13:30Z")
    after = sun_position(Place(lon=0, lat=51.4779), "2024-02-11T12:15:00Z")
    assert before.azimuth < 180 < after.azimuth


def test_directions_follow_true_north_and_convergence():
    east = SunPosition(90, 0)
    assert east.direction() == pytest.approx((1, 0, 0))
    assert SunPosition(2, 0).direction(convergence=2) == pytest.approx((0, 1, 0))  # the sun stands over grid north
    x, y, z = SunPosition(200, 35).direction()
    assert math.degrees(math.atan2(x, y)) % 360 == pytest.approx(200) and math.degrees(math.asin(z)) == pytest.approx(
        35
    )


def test_times_with_and_without_a_zone():
    utc = datetime.timezone.utc
    assert parse_time("2024-06-21T09:00Z") == parse_time("2024-06-21T11:00+02:00") == parse_time("2024-06-21 09:00")
    assert parse_time(datetime.datetime(2024, 6, 21, 9)) == datetime.datetime(2024, 6, 21, 9, tzinfo=utc)


@pytest.mark.parametrize("value", ["2024-06-21", "today at noon", "2024-13-01T00:00Z"])
def test_times_that_cannot_be_read(value):
    with pytest.raises(InputError, match="2024-06-21T09:00Z"):
        parse_time(value)


@pytest.mark.parametrize("values", [(math.nan, 10), (0, 95)])
def test_directions_that_cannot_be(values):
    with pytest.raises(InputError, match="no direction"):
        SunPosition(*values)
