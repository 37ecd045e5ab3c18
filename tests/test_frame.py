import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Geod, Proj

from gensat.errors import InputError
from gensat.render.frame import SceneFrame
from gensat.types import GeoImage, Place

UTM18 = CRS.from_epsg(32618)


def frame_at(lon, lat, crs, metre=1.0):
    x, y = Proj(crs)(lon, lat)
    return SceneFrame(crs, (x, y, 3.0), metre)


def test_round_trip_is_exact_to_a_micrometre():
    frame = frame_at(-77.05, 38.8, UTM18)
    x, y = np.array([-500.0, 0.0, 731.25]), np.array([12.5, 0.0, -900.0])
    lon, lat = frame.lonlat(x, y)
    back = frame.local(lon, lat)
    assert np.abs(np.stack(back) - np.stack([x, y])).max() < 1e-6
    place = frame.place(0.0, 0.0)
    assert place.lon == pytest.approx(-77.05, abs=1e-9) and place.lat == pytest.approx(38.8, abs=1e-9)


@pytest.mark.parametrize("lon, lat", [(-77.05, 38.8), (-72.2, 42.0), (-75.0, 10.0), (-77.9, -33.0), (-76.0, 83.5)])
def test_convergence_is_that_of_proj(lon, lat):
    crs = CRS.from_epsg(32618 if lat > 0 else 32718)
    proj = Proj(crs)
    expected = proj.get_factors(lon, lat).meridian_convergence
    frame = frame_at(lon, lat, crs)
    # PROJ counts it from true to grid north with the other sign, so only the magnitude is taken from it; the sign is
    # fixed by walking: east of the central meridian, in the north, true north lies to the left of grid north
    assert abs(frame.convergence()) == pytest.approx(abs(expected), abs=1e-5)
    if abs(lon + 75) > 0.1:
        assert np.sign(frame.convergence()) == np.sign(lon + 75) * np.sign(lat)


def test_headings_are_from_true_north_where_the_convergence_is_two_degrees():
    lat = np.degrees(np.arcsin(2 / 3))
    frame = frame_at(-72.0, lat, UTM18)  # 3 degrees east of the central meridian
    assert frame.convergence() == pytest.approx(2.0, abs=0.01)
    geod = Geod(ellps="WGS84")
    for heading in (0.0, 37.0, 90.0, 200.0, 359.0):
        lon2, lat2, _ = geod.fwd(-72.0, lat, heading, 100.0)
        east, north = frame.local(lon2, lat2)
        walked = np.degrees(np.arctan2(east, north)) % 360
        assert abs((frame.azimuth(heading) - walked + 180) % 360 - 180) < 1e-3  # arc to chord, on 100 m
        assert frame.heading(frame.azimuth(heading)) == pytest.approx(heading)


def test_web_mercator_is_in_metres_on_the_ground():
    image = GeoImage(np.zeros((100, 200, 3), np.uint8), crs=3857, transform=Affine(2, 0, -8_577_000, 0, -2, 4_690_000))
    frame = SceneFrame.around(image)
    geod = Geod(ellps="WGS84")
    lon, lat = frame.lonlat([0.0, 0.0], [0.0, 50.0])
    assert geod.inv(lon[0], lat[0], lon[1], lat[1])[2] == pytest.approx(50, rel=4e-3)  # the ellipsoid's two radii
    assert frame.metre == pytest.approx(np.cos(np.radians(lat[0])), rel=4e-3)


def test_around_puts_the_origin_at_the_centre():
    image = GeoImage(np.zeros((10, 20, 3), np.uint8), crs=UTM18, transform=Affine(2, 0, 300_000, 0, -2, 4_000_000))
    frame = SceneFrame.around(image, z=7.5)
    assert frame.origin == (300_020, 3_999_990, 7.5) and frame.metre == 1
    assert frame.to_crs(-20, 10) == (300_000, 4_000_000)


def test_no_place():
    frame = SceneFrame.around(GeoImage(np.zeros((4, 4, 3), np.uint8)))
    assert frame.convergence() == 0 and frame.azimuth(-90) == 270
    with pytest.raises(InputError, match="on no place"):
        frame.local(0, 0)


def test_degrees_and_feet_are_refused():
    for code in (4326, 2263):
        with pytest.raises(InputError, match="metres"):
            SceneFrame(CRS.from_epsg(code))
    with pytest.raises(InputError, match="latitude 95"):
        Place(0, 95)
    with pytest.raises(InputError, match="not finite"):
        SceneFrame(UTM18, (np.nan, 0, 0))
