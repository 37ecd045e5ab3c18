"""Water levels of storms: exact at their points, planes stay planes, rasters bilinear, blocks the whole."""

import json

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from gensat import GeoImage
from gensat.errors import InputError
from gensat.geo.crs import from_lonlat, to_lonlat
from gensat.hydro.surge import Surge

UTM = CRS.from_epsg(32615)
LEFT, TOP = 270_000.0, 3_290_000.0
PLACES = np.array([[0.0, 0.0], [9000, 500], [4000, -7000], [8000, -9000]]) + np.array([LEFT, TOP])


def write(folder, levels, places=PLACES, name="levels.csv"):
    lon, lat = to_lonlat(UTM, *np.asarray(places).T)
    rows = [f"{a:.9f},{b:.9f},{c}" for a, b, c in zip(lon, lat, levels, strict=True)]
    path = folder / name
    path.write_text("\n".join(["lon,lat,level", *rows]))
    return path


def plane(x, y):
    return 2.0 + 1e-4 * (x - LEFT) - 5e-5 * (y - TOP)


def test_it_is_exact_at_its_points_and_between_the_extremes(tmp_path):
    levels = [1.0, 2.5, 3.0, 2.0]
    for method in ("idw", "nearest"):
        surge = Surge.open(write(tmp_path, levels), method=method)
        np.testing.assert_allclose(surge.at(PLACES[:, 0], PLACES[:, 1], UTM), levels, atol=1e-6)
        x, y = np.meshgrid(np.linspace(LEFT - 5e3, LEFT + 2e4, 30), np.linspace(TOP - 2e4, TOP, 20))
        field = surge.at(x, y, UTM)
        assert field.shape == x.shape and field.min() >= 1 and field.max() <= 3
        np.testing.assert_array_equal(surge.at(x[3:7, 2:9], y[3:7, 2:9], UTM), field[3:7, 2:9])
    # by hand: the weights are 1 / distance squared
    surge = Surge.open(write(tmp_path, [1.0, 3.0], [*PLACES[:1].tolist(), [LEFT + 3000, TOP]], name="two.csv"))
    assert surge.at(np.array([LEFT + 1000.0]), np.array([TOP]), UTM)[0] == pytest.approx(
        (1 + 3 / 4) / (1 + 1 / 4), abs=1e-5
    )


def test_a_plane_through_points_on_a_plane_is_that_plane(tmp_path):
    """Degrees are not metres: the plane lies in the CRS of the points, so across 9 km it is off by millimetres."""
    surge = Surge.open(write(tmp_path, plane(*PLACES.T)), method="plane")
    x, y = np.random.default_rng(0).uniform(-9000, 9000, (2, 50)) + np.array([[LEFT], [TOP]])
    np.testing.assert_allclose(surge.at(x, y, UTM), plane(x, y), atol=5e-3)
    with pytest.raises(InputError, match="three points"):
        Surge.open(write(tmp_path, [1, 2, 3], [[LEFT + i * 1000, TOP] for i in range(3)], "line.csv"), method="plane")


def test_a_raster_is_bilinear_and_goes_on_inland(tmp_path):
    x, y = np.meshgrid(LEFT + 1000 * (np.arange(12) + 0.5), TOP - 1000 * (np.arange(9) + 0.5))
    values = plane(x, y).astype(np.float32)
    values[:, 8:] = np.nan  # inland
    GeoImage(values, ["level"], UTM, Affine(1000, 0, LEFT, 0, -1000, TOP)).save(tmp_path / "surge.tif")
    surge = Surge.open(tmp_path / "surge.tif", offset=0.5)
    u, v = np.random.default_rng(1).uniform(600, 7400, 40) + LEFT, TOP - np.random.default_rng(2).uniform(600, 8400, 40)
    np.testing.assert_allclose(surge.at(u, v, UTM), plane(u, v) + 0.5, atol=1e-5)
    inland = surge.at(np.array([LEFT + 11_500.0]), np.array([TOP - 2500.0]), UTM)
    assert inland[0] == pytest.approx(plane(LEFT + 7500, TOP - 2500) + 0.5, abs=1e-5)
    assert "0.5 m to the datum" in " ".join(surge.notes)


def test_slosh_cells_in_feet(tmp_path):
    """Polygons with a column a category, 99.9 where a cell stays dry."""
    features = []
    for i, (high, place) in enumerate(zip([10.0, 99.9, 20.0], PLACES, strict=False)):
        x, y = np.array([place[0] - 500, place[0] + 500]), np.array([place[1] - 500, place[1] + 500])
        (west, east), (south, north) = to_lonlat(UTM, x, y)
        shape = json.loads(shapely.to_geojson(shapely.box(west, south, east, north)))
        features.append(
            {"type": "Feature", "properties": {"c1_high": high / 2, "c3_high": high, "id": i}, "geometry": shape}
        )
    path = tmp_path / "mom.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    surge = Surge.open(path, column="c3_high", unit="ft", method="nearest")
    np.testing.assert_allclose(surge.levels, [3.048, 6.096])
    assert surge.at(PLACES[:, 0], PLACES[:, 1], UTM)[0] == pytest.approx(3.048)
    assert any("1 of 3 places" in note for note in surge.notes)
    with pytest.raises(InputError, match=r"c1_high, c3_high.*name it"):
        Surge.open(path)
    with pytest.raises(InputError, match="no column 'c9'"):
        Surge.open(path, column="c9")


def test_what_is_wrong_is_said(tmp_path):
    good = Surge.open(write(tmp_path, [1, 2, 3, 4]))
    x, y = from_lonlat(UTM, -94.0, 35.0)
    with pytest.raises(InputError, match="km from the DEM"):
        good.require_near(float(x), float(y), UTM)
    good.require_near(LEFT, TOP, UTM)
    for levels, options, message in (
        ([300, 200, 1, 2], {"unit": "cm", "method": "spline"}, "not known"),
        ([60, 70, 1, 2], {}, "as no sea does"),
        ([99.9] * 4, {}, "holds no water level"),
        ([1, 2, 3, 4], {"unit": "fathom"}, "fathom"),
    ):
        with pytest.raises(InputError, match=message):
            Surge.open(write(tmp_path, levels), **options)
    (tmp_path / "no.csv").write_text("name,level\na,3\n")
    with pytest.raises(InputError, match="no columns lon and lat"):
        Surge.open(tmp_path / "no.csv")
    (tmp_path / "bad.gpkg").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as water levels"):
        Surge.open(tmp_path / "bad.gpkg")
    with pytest.raises(InputError, match="does not exist"):
        Surge.open(tmp_path / "none.csv")
