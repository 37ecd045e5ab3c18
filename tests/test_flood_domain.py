"""Where water runs: cells of metres from any DEM, holes, extents, buildings, roughness, and what is refused."""

import json

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from gensat.errors import InputError
from gensat.geo.elevation import HeightMap
from gensat.geo.raster import open_image
from gensat.hydro.domain import Domain
from gensat.hydro.manning import BY_CLASS, BY_CODE, DEFAULT, HIGHEST, LOWEST, manning_on
from gensat.types import GeoImage

UTM = CRS.from_epsg(32615)
GRID = Affine(10.0, 0, 270_000.0, 0, -10.0, 3_294_000.0)


def dem(path, heights, crs=UTM, transform=GRID, **values):
    GeoImage(np.asarray(heights, dtype=np.float32), crs=crs, transform=transform, **values).save(path)
    return path


def plane(height=30, width=40):
    return np.add.outer(0.02 * np.arange(height), 0.05 * np.arange(width))


def vector(path, shapes, crs="EPSG:32615"):
    features = [
        {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(shape)}
        for shape, values in shapes
    ]
    data = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": crs}}, "features": features}
    path.write_text(json.dumps(data))
    return path


def box(row, column, height, width):
    left, top = GRID.c + 10 * column, GRID.f - 10 * row
    return shapely.box(left, top - 10 * height, left + 10 * width, top)


def test_a_metric_dem_is_used_cell_by_cell(tmp_path):
    domain = Domain.open(dem(tmp_path / "dem.tif", plane()))
    assert domain.dx == 10.0 and domain.area == 100.0 and domain.exists.all()
    assert np.array_equal(domain.bed, plane().astype(np.float32).astype(float)) and domain.transform == GRID
    assert (domain.manning == DEFAULT).all()
    assert any("vertical datum" in note for note in domain.notes)


def test_degrees_are_warped_to_metres_and_said(tmp_path):
    """A slope of 1 in 100 to the east stays one, and cells are square on the ground."""
    step = 1 / 3600
    columns = np.arange(60)
    x = columns * step * 111_320 * np.cos(np.radians(29.75))
    path = dem(
        tmp_path / "d.tif", np.tile(x / 100, (50, 1)), CRS.from_epsg(4326), Affine(step, 0, -95.4, 0, -step, 29.76)
    )
    domain = Domain.open(path)
    assert domain.crs == UTM and any("warped from EPSG:4326 to EPSG:32615" in note for note in domain.notes)
    assert 26 < domain.dx < 32
    inner = domain.bed[10:-10, 10:-10]
    assert abs(np.diff(inner, axis=1).mean() / domain.dx - 0.01) < 1e-4
    assert not domain.exists.all() and any("outside, behind walls" in note for note in domain.notes)


def test_feet_are_converted(tmp_path):
    domain = Domain.open(dem(tmp_path / "d.tif", plane()), unit="ft")
    assert np.allclose(domain.bed, 0.3048 * plane(), atol=1e-6) and any("ft" in note for note in domain.notes)


def test_coarser_cells_take_the_mean(tmp_path):
    domain = Domain.open(dem(tmp_path / "d.tif", plane()), gsd=20)
    assert domain.shape == (15, 20) and abs(domain.dx - 20) < 0.05
    assert np.allclose(domain.bed, plane().reshape(15, 2, 20, 2).mean((1, 3)), atol=1e-5)


def test_voids_are_filled_and_counted_or_refused(tmp_path):
    heights = plane()
    heights[5:8, 5:8] = np.nan
    heights[:, 0] = np.nan  # reaches the edge: outside
    path = dem(tmp_path / "d.tif", heights)
    domain = Domain.open(path)
    assert np.array_equal(~domain.exists, np.broadcast_to(np.arange(40) == 0, (30, 40)))
    assert any("9 cells" in note and "interpolated" in note for note in domain.notes)
    assert np.abs(domain.bed - plane())[domain.exists].max() < 0.1
    with pytest.raises(InputError, match=r"9 cells .* are voids"):
        Domain.open(path, void_share=0.001)


def test_an_extent_cuts_the_grid(tmp_path):
    path = dem(tmp_path / "d.tif", plane())
    corners = tmp_path / "extent.csv"
    left, bottom, right, top = box(4, 6, 10, 20).bounds
    corners.write_text(f"{left},{bottom}\n{right},{bottom}\n{right},{top}\n{left},{top}\n")
    domain = Domain.open(path, extent=corners)
    assert domain.shape == (10, 20) and domain.exists.all()
    assert np.array_equal(domain.bed, Domain.open(path).bed[4:14, 6:26])
    assert domain.cell_at(left + 1, top - 1) == (0, 0)
    triangle = shapely.Polygon([(left, bottom), (right, bottom), (left, top)])
    assert 0.4 < Domain.open(path, extent=triangle).exists.mean() < 0.6
    with pytest.raises(InputError, match="does not overlap"):
        Domain.open(path, extent=shapely.box(0, 0, 1, 1))


def test_buildings_are_raised_by_their_height(tmp_path):
    houses = vector(tmp_path / "h.geojson", [(box(2, 3, 2, 4), {"height": 7}), (box(10, 10, 3, 3), {"height": None})])
    before = Domain.open(dem(tmp_path / "d.tif", plane()))
    domain = Domain.open(tmp_path / "d.tif", buildings=houses)
    raised = domain.bed - before.bed
    assert np.allclose(raised[2:4, 3:7], 7) and np.allclose(raised[10:13, 10:13], 3)
    assert (raised > 0).sum() == 8 + 9 and any("17 cells of 2 footprints" in note for note in domain.notes)


def test_roughness_by_number_raster_land_cover_and_polygons(tmp_path):
    path = dem(tmp_path / "d.tif", plane())
    assert (Domain.open(path, roughness=0.05).manning == 0.05).all()
    values = dem(tmp_path / "n.tif", np.where(plane() > 1, 0.1, 0.03))
    assert np.allclose(Domain.open(path, roughness=values).manning, np.where(plane() > 1, 0.1, 0.03))
    codes = np.where(plane() > 1, 41, 82).astype(np.uint8)
    GeoImage(codes, crs=UTM, transform=GRID).save(tmp_path / "nlcd.tif")
    found = Domain.open(path, roughness=tmp_path / "nlcd.tif", legend="nlcd").manning
    assert np.array_equal(np.unique(found), [BY_CODE["nlcd"][82], BY_CODE["nlcd"][41]])
    assert np.allclose(
        Domain.open(path, roughness=tmp_path / "nlcd.tif", legend={41: 0.2, 82: 0.05}).manning.max(), 0.2
    )
    layout = np.where(plane() > 1, 2, 4).astype(np.uint8)
    GeoImage(layout, crs=UTM, transform=GRID).save(tmp_path / "layout.tif")
    assert set(np.unique(Domain.open(path, roughness=tmp_path / "layout.tif").manning)) == {BY_CLASS[2], BY_CLASS[4]}
    areas = vector(tmp_path / "n.geojson", [(box(0, 0, 30, 10), {"n": 0.02})])
    domain = Domain.open(path, roughness=areas)
    assert np.allclose(domain.manning[:, :10], 0.02) and np.allclose(domain.manning[:, 10:], DEFAULT)


def test_roughness_that_is_none_is_refused(tmp_path):
    path = dem(tmp_path / "d.tif", plane())
    GeoImage(np.full((30, 40), 7, np.uint8), crs=UTM, transform=GRID).save(tmp_path / "codes.tif")
    far = Affine(10.0, 0, 290_000.0, 0, -10.0, 3_294_000.0)
    for values in (
        {"roughness": 0.0},
        {"roughness": 35},
        {"roughness": float("nan")},
        {"roughness": tmp_path / "missing.tif"},
        {"roughness": tmp_path / "codes.tif", "legend": "nlcd"},
        {"roughness": dem(tmp_path / "far.tif", 0 * plane() + 0.03, transform=far)},
        {"roughness": dem(tmp_path / "big.tif", 0 * plane() + 30)},
    ):
        with pytest.raises(InputError, match=r"give|check|add"):
            Domain.open(path, **values)


def test_tables_of_roughness_are_those_of_grounds():
    for table in (BY_CLASS, *BY_CODE.values()):
        assert all(LOWEST <= n <= HIGHEST for n in table.values())
    assert manning_on(Domain.flat(2, 2, 1.0).canvas, 0.03)[0].shape == (2, 2)


def test_rasters_have_a_place_and_nodata_only_outside(tmp_path):
    heights = plane()
    heights[:, 0] = np.nan
    domain = Domain.open(dem(tmp_path / "d.tif", heights))
    image = domain.raster(np.where(heights > 1, heights, 0), name="depth", unit="m")
    image.save(tmp_path / "depth.tif")
    back = open_image(tmp_path / "depth.tif")
    assert back.crs == UTM and back.transform == GRID and back.bands[0].unit == "m"
    assert np.array_equal(back.valid, domain.exists) and (back.array[:, 1, 0] == 0).all()
    assert back.provenance["vertical_datum"] == "unknown"
    mask = domain.raster(heights > 1, name="extent")
    assert mask.array.dtype == np.uint8 and mask.array.max() == 1


def test_points_discs_and_places():
    domain = Domain.of(HeightMap(plane().astype(np.float32), UTM, GRID))
    x, y = GRID.c + 105.0, GRID.f - 55.0
    assert domain.cell_at(x, y) == (5, 10)
    disc = domain.disc(x, y, 20.5)
    assert disc.sum() == 13 and disc[5, 10] and disc[3, 10] and not disc[3, 11]
    place = domain.canvas.places(5.5, 10.5)
    assert domain.cell_at_lonlat(float(place[0]), float(place[1])) == (5, 10)
    with pytest.raises(InputError, match="outside the domain"):
        domain.cell_at_lonlat(0.0, 0.0)
    with pytest.raises(InputError, match="latitude 95"):
        domain.cell_at_lonlat(10.0, 95.0)
    with pytest.raises(InputError, match="no CRS"):
        Domain.of(HeightMap(plane().astype(np.float32), None, None))
    assert Domain.of(HeightMap(plane().astype(np.float32), None, None), gsd=2).dx == 2.0
