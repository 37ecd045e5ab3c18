import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.control
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import CRS
from raster_toys import GRID, OWN, PROVENANCE, UTM15, toy_image
from rasterio.enums import ColorInterp

from gensat.errors import InputError
from gensat.geo import raster
from gensat.geo.provenance import provenance_tags, read_acquisition, read_provenance
from gensat.types import Acquisition, Band, GeoImage


def _assert_same(got, image, exact=True):
    assert got.bands == image.bands
    assert got.crs == image.crs and got.transform == image.transform
    assert got.acquisition == image.acquisition
    assert got.provenance == image.provenance
    assert {k: type(v) for k, v in got.provenance.items()} == {k: type(v) for k, v in image.provenance.items()}
    valid = np.ones(image.array.shape[:2], bool) if image.valid is None else image.valid
    np.testing.assert_array_equal(valid, True if got.valid is None else got.valid)
    assert got.array.dtype == image.array.dtype
    if exact:
        np.testing.assert_array_equal(got.array[valid], image.array[valid])


SIX = [
    "red",
    "green",
    "blue",
    Band("B8A", 1e-4, -0.1, "", "nir"),
    Band("swir1", colour="swir"),
    Band("dem", 0.1, 2, "m"),
]


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("dtype", "bands"),
    [
        ("uint8", None),
        ("uint8", ["red", "green", "blue", "nir"]),
        ("uint16", SIX),
        ("float32", SIX),
        ("uint16", ["gray"]),
    ],
)
def test_geotiff_keeps_everything(tmp_path, dtype, bands, masked, cog):
    valid = np.random.default_rng(1).random((20, 30)) > 0.3 if masked else None
    image = toy_image(dtype, 3 if bands is None else len(bands), bands=bands, valid=valid)
    image.save(tmp_path / "x.tif", cog=cog)
    _assert_same(GeoImage.open(tmp_path / "x.tif"), image)


@pytest.mark.parametrize("crs", [None, OWN, CRS.from_epsg(5041), CRS.from_epsg(4326)])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_crs_of_every_kind_comes_back(tmp_path, crs, suffix):
    image = toy_image(crs=crs, transform=None if crs is None else Affine(0.25, 0, 20, 0, -0.5, 50))
    image.save(tmp_path / f"x{suffix}")
    got = GeoImage.open(tmp_path / f"x{suffix}")
    assert got.crs == crs and got.transform == image.transform


def test_other_programs_see_place_bands_nodata_and_tags(tmp_path):
    valid = np.ones((20, 30), bool)
    valid[0, 0] = False
    toy_image("uint8", 4, bands=["red", "green", "blue", Band("B8", 1e-4, 1.0, "m", "nir")], valid=valid).save(
        tmp_path / "i.tif"
    )
    with rasterio.open(tmp_path / "i.tif") as file:
        assert file.descriptions == ("red", "green", "blue", "B8")
        assert file.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir)
        assert file.scales[3] == 1e-4 and file.offsets[3] == 1.0 and file.units[3] == "m"
        assert file.crs.to_epsg() == 32615 and file.transform == GRID
        assert file.compression.value == "DEFLATE" and not file.profile["tiled"]
        assert (file.dataset_mask() == np.where(valid, 255, 0)).all()
        tags = file.tags()
    assert tags["GENSAT_SYNTHETIC"] == "yes" and tags["GENSAT_SEED"] == "7" and tags["GENSAT_MODEL"] == "gensat-small"
    assert json.loads(tags["GENSAT_PLACE"]) == {"lon": -95.36, "lat": 29.76}
    assert tags["ACQUISITION_GSD"] == "0.5" and tags["ACQUISITION_DATE"] == "2017-08"
    toy_image("float32", 1, valid=valid).save(tmp_path / "f.tif")
    with rasterio.open(tmp_path / "f.tif") as file:
        assert math.isnan(file.nodata) and np.isnan(file.read(1)[0, 0])


def test_large_geotiff_is_tiled_and_a_cog_has_overviews(tmp_path):
    image = toy_image("uint8", 1, size=(600, 520))
    image.save(tmp_path / "t.tif")
    image.save(tmp_path / "c.tif", cog=True)
    with rasterio.open(tmp_path / "t.tif") as file:
        assert file.profile["tiled"] and file.block_shapes == [(256, 256)]
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.overviews(1)
        overview = file.read(1, out_shape=(300, 260))
        assert set(np.unique(overview)) <= set(np.unique(image.array))


def test_png_keeps_everything_with_invalid_pixels_transparent(tmp_path):
    valid = np.random.default_rng(1).random((20, 30)) > 0.3
    for count, bands in ((3, None), (1, [Band("dem", 0.1, 2, "m")])):
        image = toy_image(count=count, bands=bands, valid=valid)
        image.save(tmp_path / f"x{count}.png")
        _assert_same(GeoImage.open(tmp_path / f"x{count}.png"), image)
    with Image.open(tmp_path / "x3.png") as picture:
        assert picture.mode == "RGBA" and picture.text["GENSAT_SYNTHETIC"] == "yes"
    deep = toy_image("uint16", 1)
    deep.save(tmp_path / "deep.png")
    _assert_same(GeoImage.open(tmp_path / "deep.png"), deep)


def test_jpeg_keeps_everything_but_the_last_bits(tmp_path):
    image = GeoImage(np.full((16, 16, 3), 100, np.uint8), None, UTM15, GRID, None, Acquisition(sensor="a"), PROVENANCE)
    image.save(tmp_path / "x.jpg")
    got = GeoImage.open(tmp_path / "x.jpg")
    _assert_same(got, image, exact=False)
    assert np.abs(got.array.astype(int) - 100).max() <= 1
    with Image.open(tmp_path / "x.jpg") as picture:
        assert "Synthetic" in picture.getexif()[0x010E]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (toy_image("float32"), "x.jpg"),
        (toy_image("float32", 1), "x.png"),
        (toy_image("uint16"), "x.png"),
        (toy_image("uint16", 1), "x.jpeg"),
        (toy_image(count=5), "x.png"),
        (toy_image(valid=np.zeros((20, 30), bool)), "x.jpg"),
        (toy_image(provenance={"prompt": "x" * 70_000}), "x.jpg"),
    ],
)
def test_what_a_picture_cannot_hold_goes_to_tif(tmp_path, image, name):
    with pytest.raises(InputError, match=r"save as \.tif"):
        image.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_unknown_extension_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\.bmp has no image extension; end it with \.tif"):
        toy_image().save(tmp_path / "x.bmp")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), JSON, max_size=4))
def test_provenance_round_trips_with_its_types(provenance):
    got = read_provenance(provenance_tags(provenance))
    assert got == provenance and repr(sorted(got.items(), key=str)) == repr(sorted(provenance.items(), key=str))


@settings(deadline=None, max_examples=12)
@given(text=st.text(max_size=40))
def test_any_text_survives_every_format(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("text")
    for suffix in (".tif", ".png", ".jpg"):
        GeoImage(np.zeros((2, 2, 1), np.uint8), provenance={"prompt": text}).save(folder / f"x{suffix}")
        assert GeoImage.open(folder / f"x{suffix}").provenance == {"prompt": text}


@pytest.mark.parametrize("text", ["1e5", "-Infinity", "NaN", "007", "{", "[1", "null", "no", '"a"', "-", "1_000", "٣"])
def test_text_that_looks_like_something_else_stays_text(text):
    assert read_provenance(provenance_tags({"a": text})) == {"a": text}


def test_numbers_of_numpy_are_numbers_and_tuples_become_lists():
    tags = provenance_tags({"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True), "d": (1, 2)})
    assert tags == {"GENSAT_A": "0.5", "GENSAT_B": "3", "GENSAT_C": "yes", "GENSAT_D": "[1, 2]"}


@pytest.mark.parametrize("provenance", [{"Seed": 1}, {"a b": 1}, {"a": math.nan}, {"a": [object()]}, {"a": {1: 2}}])
def test_provenance_that_no_tag_can_hold_is_refused(provenance):
    with pytest.raises(InputError, match="tag"):
        provenance_tags(provenance)


def test_wrong_acquisition_tags_of_others_are_unknown():
    tags = {"ACQUISITION_GSD": "ten", "ACQUISITION_DATE": "2017-02-30", "ACQUISITION_CLOUD_COVER": "0.5"}
    assert read_acquisition(tags) == Acquisition(cloud_cover=0.5)


def test_suffixes_are_checked_without_case():
    assert raster.image_suffix("A.TIF") == ".tif"


@pytest.mark.data
def test_real_rasters_open_with_place_and_bands():
    data_folder = Path(os.environ.get("GENSAT_DATA", Path(__file__).parents[2] / "shared/data"))
    s2 = GeoImage.open(data_folder / "rasters/sites/433D_629L_3_1/s2_l2a.tif")
    assert s2.array.shape == (224, 224, 12) and s2.array.dtype == np.float32 and s2.gsd == 10
    landsat = GeoImage.open(data_folder / "rasters/south_africa/landsat8_30m.tif")
    assert landsat.bands[0].name == "SR_B2" and landsat.gsd == 30
    colorado = GeoImage.open(data_folder / "rasters/colorado_dem.tif")
    assert 8 < colorado.gsd < 11 and 37 < colorado.place.lat < 40
