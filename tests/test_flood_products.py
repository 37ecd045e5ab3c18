"""The folder of a flood: what GDAL reads from it is what was computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from pyproj import CRS, Geod

from gensat import GeoImage
from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.picture import animate
from gensat.hydro.products import FloodProducts

PLACE = {"crs": CRS.from_epsg(31985), "transform": Affine(10, 0, 290_000, 0, -10, 9_120_000)}


@pytest.fixture
def domain():
    flat = Domain.flat(30, 40, 10.0, bed=np.linspace(-1, 3, 40)[None])
    exists = np.ones((30, 40), bool)
    exists[:4] = False
    return replace(flat, exists=exists, datum="EGM2008 height", notes=("a note",), **PLACE)


@pytest.fixture
def flood(domain):
    depth = np.clip(1.0 - domain.bed, 0, None).astype(np.float32)
    depth[:, 15:17] = 0  # a dike: two pieces
    speed = depth * 0.5
    arrival = np.where(depth > 0, 60 * domain.bed + 60, np.nan)
    end = depth * 0.5
    return FloodProducts(
        domain,
        depth,
        end,
        arrival,
        speed,
        depth * (speed + 0.5),
        wet=0.05,
        facts={"method": "inertial", "rain": [1, 2]},
        gauges=([0.0, 60.0], {"a": [1.0, 1.25]}),
    )


def test_gdal_reads_what_was_computed(flood, domain, tmp_path):
    files = flood.save(tmp_path / "out", record={"seconds": 1.5}, text="after 2 h")
    assert files[-1].name == "run.json" and set(flood.names) == {f.name for f in (tmp_path / "out").iterdir()}
    kept = domain.exists
    for name, values in (
        ("depth", flood.depth),
        ("depth_end", flood.depth_end),
        ("velocity", flood.velocity),
        ("hazard", flood.hazard),
    ):
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as file:
            read, mask = file.read(1), file.read_masks(1) > 0
            assert file.crs.to_epsg() == 31985 and file.transform == PLACE["transform"]
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            tags = file.tags()
        np.testing.assert_array_equal(mask, kept)  # dry is 0; nodata only outside
        np.testing.assert_array_equal(read[kept], values.astype(np.float32)[kept])
        assert np.isnan(read[~kept]).all()
        assert tags["GENSAT_VERTICAL_DATUM"] == "EGM2008 height" and tags["GENSAT_SIMULATED"] == "yes"
        assert tags["GENSAT_METHOD"] == "inertial" and "GENSAT_WARNING" not in tags
    surface = GeoImage.open(tmp_path / "out" / "wse.tif").physical()[:, :, 0]
    np.testing.assert_array_equal(np.isfinite(surface), flood.extent)
    np.testing.assert_allclose(surface[flood.extent], 1.0, atol=1e-6)
    extent = GeoImage.open(tmp_path / "out" / "extent.tif")
    np.testing.assert_array_equal(extent.array[:, :, 0] == 1, flood.extent)
    assert extent.provenance["wet_from_m"] == 0.05
    came = GeoImage.open(tmp_path / "out" / "arrival.tif").physical()[:, :, 0]
    np.testing.assert_allclose(came[kept], flood.arrival[kept].astype(np.float32))
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    assert said["seconds"] == 1.5 and said["notes"] == ["a note"] and said["method"] == "inertial"
    assert said["volume_m3"] == pytest.approx(flood.depth[flood.extent].sum(dtype=float) * 100, abs=1e-3)
    assert sum(said["hazard_km2"].values()) == pytest.approx(said["flooded_km2"])
    assert (tmp_path / "out" / "gauges.csv").read_text() == "seconds,a\n0,1.0000\n60,1.2500\n"
    assert set(said["files"]) == set(flood.names) - {"run.json"}
    assert Image.open(tmp_path / "out" / "preview.png").size[0] >= 360


def test_polygons_have_the_area_of_the_cells(flood):
    found = flood.polygons()["features"]
    assert len(found) == 2  # the dike parts them
    for feature in found:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        area = abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0])
        # UTM at 1.5 degrees from its meridian stretches areas by 0.1 percent.
        assert area == pytest.approx(feature["properties"]["area_m2"], rel=2e-3)
    assert sum(f["properties"]["area_m2"] for f in found) == flood.extent.sum() * 100
    assert max(f["properties"]["max_depth_m"] for f in found) == pytest.approx(2.0)


def test_a_datum_that_nobody_knows_is_a_warning_in_the_tags(flood, domain):
    images = dict(replace(flood, domain=replace(domain, datum=None)).rasters())
    assert all("datum of the DEM unknown" in image.provenance["warning"] for image in images.values())
    assert images["depth.tif"].provenance["vertical_datum"] == "unknown"


def test_nothing_is_overwritten_unasked_and_no_place_means_no_geojson(flood, domain, tmp_path):
    flood.save(tmp_path / "out")
    before = (tmp_path / "out" / "run.json").read_bytes()
    with pytest.raises(InputError, match="exists"):
        flood.save(tmp_path / "out")
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    nowhere = replace(flood, domain=replace(domain, crs=None), arrival=None)
    files = {file.name for file in nowhere.save(tmp_path / "out", overwrite=True)}
    assert "extent.geojson" not in files
    dry = replace(flood, depth=flood.depth * 0)
    assert dry.polygons()["features"] == [] and dry.summary()["mean_depth_m"] == 0
    dry.save(tmp_path / "dry")


def test_an_animation_shows_the_water_rise(domain, tmp_path):
    frames = [(f"{level} m", np.clip(level - domain.bed, 0, None)) for level in (0.0, 1.0, 2.0)]
    assert animate(domain, iter(frames), tmp_path / "rise.gif", deepest=3.0) == 3
    with Image.open(tmp_path / "rise.gif") as file:
        assert file.n_frames == 3
        blue = []
        for i in range(3):
            file.seek(i)
            rgb = np.asarray(file.convert("RGB")).astype(int)[60:300]
            blue.append((rgb[:, :, 2] > rgb[:, :, 0] + 20).mean())
    assert blue[0] < blue[1] < blue[2]
