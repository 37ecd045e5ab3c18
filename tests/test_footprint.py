"""Layouts across the antimeridian, around a pole and in longitudes from 0 to 360."""

import json
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.footprint import footprint
from gensat.geo.layout import load_layout
from gensat.types import GeoImage, Place

LONLAT = CRS.from_epsg(4326)
DATELINE = Canvas.around(Place(179.9999, 10.0), 1, 64, 64)
POLES = [
    Canvas.around(Place(0, 90), 10, 64, 64),
    Canvas.around(Place(33, 89.9985), 10, 64, 64),
    Canvas.around(Place(-170, -89.999), 10, 64, 64),
]


def _lonlat_pixels(canvas):
    rows, columns = np.mgrid[: canvas.height, : canvas.width] + 0.5
    return canvas.places(rows, columns)


def _sources(tmp_path, codes, transform):
    """The same map as a file and in memory."""
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", height=codes.shape[0], width=codes.shape[1], count=1,
        dtype="uint8", crs="EPSG:4326", transform=transform,
    ) as file:  # fmt: skip
        file.write(codes[None])
    return tmp_path / "map.tif", GeoImage(codes, crs=LONLAT, transform=transform)


def _geojson(path, *rings):
    features = [
        {
            "type": "Feature",
            "properties": {"natural": "glacier"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for ring in rings
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _ring(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def test_footprint_is_continuous_and_reaches_the_pole():
    west, south, east, north = footprint(DATELINE, LONLAT)
    assert 179.99 < west < 180 < east < 180.01 and 9.99 < south < 10 < north < 10.01
    for canvas, pole in zip(POLES, (90, 90, -90), strict=True):
        west, south, east, north = footprint(canvas, LONLAT)
        lat = _lonlat_pixels(canvas)[1]
        assert (west, east) == (-360, 360) and pole in (south, north)
        assert south < lat.min() and lat.max() < north


@pytest.mark.parametrize(
    ("west", "step"),  # coarser and finer than the canvas: nearest and majority
    [(179.998, 1e-4), (179.998, 5e-6), (-180.002, 1e-4), (-180.002, 5e-6), (-180.0, 1e-4)],
)
def test_raster_across_the_antimeridian_covers_the_canvas(tmp_path, step, west):
    columns = 3_600_000 if west == -180 else round(0.004 / step)
    codes = np.full((round(0.002 / step), columns), 5, np.uint8)
    beyond = slice(0, columns // 2) if west == -180 else slice(columns // 2, None)
    codes[:, beyond] = 4  # what lies in the western hemisphere
    lon, _ = _lonlat_pixels(DATELINE)
    for source in _sources(tmp_path, codes, Affine(step, 0, west, 0, -step, 10.001)):
        layout = load_layout(source, DATELINE)
        assert layout.coverage == 1
        assert np.mean(layout.class_map == np.where(lon < 0, 4, 5)) > 0.98


@pytest.mark.parametrize("west", [0, -180, -360])
def test_longitudes_of_a_world_map_may_begin_anywhere(tmp_path, west):
    codes = np.tile(np.repeat([5, 6, 8], 120).astype(np.uint8), (180, 1))
    for lon, code in ((-95.36, None), (100.0, None), (0.5, None)):
        code = codes[0, int((lon - west) % 360)]
        for source in _sources(tmp_path, codes, Affine(1, 0, west, 0, -1, 90)):
            assert (load_layout(source, Canvas.around(Place(lon, 29.76), 10, 16, 16)).class_map == code).all()


@pytest.mark.parametrize("canvas", POLES, ids=lambda canvas: f"{canvas.place.lat:g}")
@pytest.mark.parametrize("west", [0, -180])
@pytest.mark.parametrize("step", [0.5, 0.001])
def test_raster_around_a_pole_has_no_hole(tmp_path, canvas, west, step):
    codes = np.tile(np.repeat([5, 6, 8], round(120 / step)).astype(np.uint8), (20, 1))
    top = 90 if canvas.place.lat > 0 else -90 + 20 * step
    lon, _ = _lonlat_pixels(canvas)
    for source in _sources(tmp_path, codes, Affine(step, 0, west, 0, -step, top)):
        class_map = load_layout(source, canvas).class_map
        assert np.mean(class_map == np.array([5, 6, 8])[((lon - west) % 360 // 120).astype(int)]) > 0.97
        assert class_map.all()


@pytest.mark.parametrize("canvas", POLES, ids=lambda canvas: f"{canvas.place.lat:g}")
@pytest.mark.parametrize("west", [-180, 0])
def test_polygon_around_a_pole_is_drawn_whole_and_at_once(tmp_path, canvas, west):
    pole = 90 if canvas.place.lat > 0 else -90
    path = _geojson(tmp_path / "a.geojson", _ring(west, min(pole, pole * 0.7), west + 360, max(pole, pole * 0.7)))
    began = time.perf_counter()
    assert load_layout(path, canvas).coverage == 1
    assert time.perf_counter() - began < 1
    inner = _geojson(
        tmp_path / "b.geojson", _ring(west, min(pole, pole * 0.99998), west + 360, max(pole, pole * 0.99998))
    )
    expected = np.abs(_lonlat_pixels(canvas)[1]) > 90 * 0.99998
    assert np.mean((load_layout(inner, canvas).class_map != 0) == expected) > 0.995


def test_polygons_on_both_sides_of_the_antimeridian_meet(tmp_path):
    split = _ring(179.99, 9.99, 180, 10.01), _ring(-180, 9.99, -179.99, 10.01)
    for rings in (split, [_ring(179.99, 9.99, 180.01, 10.01)], [_ring(-180.01, 9.99, -179.99, 10.01)]):
        assert load_layout(_geojson(tmp_path / "a.geojson", *rings), DATELINE).coverage == 1
    east = load_layout(_geojson(tmp_path / "a.geojson", split[0]), DATELINE).class_map
    np.testing.assert_array_equal(east != 0, _lonlat_pixels(DATELINE)[0] > 0)


def test_near_misses_name_boxes_that_differ(tmp_path):
    canvas = Canvas.around(Place(-95.36, 29.76), 1, 64, 64)
    west, _, east, _ = canvas.lonlat_bounds
    path = _geojson(tmp_path / "a.geojson", _ring(west - 0.003, 29.7599, west - 0.001, 29.7601))
    with pytest.raises(InputError, match=rf"to {west - 0.001:.6f} lat .* canvas at lon {west:.6f} to {east:.6f}"):
        load_layout(path, canvas)
