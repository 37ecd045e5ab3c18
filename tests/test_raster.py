import errno
import json
import logging
import math
import os
import resource
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
from rasterio.enums import ColorInterp

from gensat.errors import InputError, OutputError
from gensat.files import atomic_write, check_output
from gensat.geo import raster
from gensat.geo.provenance import provenance_tags, read_acquisition, read_provenance
from gensat.types import Acquisition, Band, GeoImage

UTM15 = CRS.from_epsg(32615)
GRID = Affine(0.5, 0, 271_740.791, 0, -0.5, 3_294_589.4867784805)
OWN = CRS.from_proj4("+proj=tmerc +lat_0=0 +lon_0=25 +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +units=m +no_defs")
PROVENANCE = {
    "synthetic": True,
    "seed": 7,
    "guidance": 7.0,
    "model": "gensat-small",
    "prompt": 'a harbor = "boats" & <quays>, Zürich 😀\nsecond line',
    "negative": "",
    "number_as_text": "7",
    "word_as_text": "yes",
    "padded": " x ",
    "cloud_cover": None,
    "snapped": False,
    "place": {"lon": -95.36, "lat": 29.76},
    "crops": [[1, 2.0], [], {"a": None, "b": [True]}],
}


def _image(dtype="uint8", count=3, size=(20, 30), **values):
    rng = np.random.default_rng(0)
    array = rng.random((*size, count), dtype=np.float32)
    if dtype != "float32":
        array = (array * np.iinfo(dtype).max).astype(dtype)
    values = {"crs": UTM15, "transform": GRID, "provenance": PROVENANCE, **values}
    return GeoImage(array, acquisition=Acquisition(0.5, "2017-08", 0.1, "worldview"), **values)


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
    image = _image(dtype, 3 if bands is None else len(bands), bands=bands, valid=valid)
    image.save(tmp_path / "x.tif", cog=cog)
    _assert_same(GeoImage.open(tmp_path / "x.tif"), image)


@pytest.mark.parametrize("crs", [None, OWN, CRS.from_epsg(5041), CRS.from_epsg(4326)])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_crs_of_every_kind_comes_back(tmp_path, crs, suffix):
    image = _image(crs=crs, transform=None if crs is None else Affine(0.25, 0, 20, 0, -0.5, 50))
    image.save(tmp_path / f"x{suffix}")
    got = GeoImage.open(tmp_path / f"x{suffix}")
    assert got.crs == crs and got.transform == image.transform


def test_other_programs_see_place_bands_nodata_and_tags(tmp_path):
    valid = np.ones((20, 30), bool)
    valid[0, 0] = False
    _image("uint8", 4, bands=["red", "green", "blue", Band("B8", 1e-4, 1.0, "m", "nir")], valid=valid).save(
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
    _image("float32", 1, valid=valid).save(tmp_path / "f.tif")
    with rasterio.open(tmp_path / "f.tif") as file:
        assert math.isnan(file.nodata) and np.isnan(file.read(1)[0, 0])


def test_large_geotiff_is_tiled_and_a_cog_has_overviews(tmp_path):
    image = _image("uint8", 1, size=(600, 520))
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
        image = _image(count=count, bands=bands, valid=valid)
        image.save(tmp_path / f"x{count}.png")
        _assert_same(GeoImage.open(tmp_path / f"x{count}.png"), image)
    with Image.open(tmp_path / "x3.png") as picture:
        assert picture.mode == "RGBA" and picture.text["GENSAT_SYNTHETIC"] == "yes"
    deep = _image("uint16", 1)
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
        (_image("float32"), "x.jpg"),
        (_image("float32", 1), "x.png"),
        (_image("uint16"), "x.png"),
        (_image("uint16", 1), "x.jpeg"),
        (_image(count=5), "x.png"),
        (_image(valid=np.zeros((20, 30), bool)), "x.jpg"),
        (_image(provenance={"prompt": "x" * 70_000}), "x.jpg"),
    ],
)
def test_what_a_picture_cannot_hold_goes_to_tif(tmp_path, image, name):
    with pytest.raises(InputError, match=r"save as \.tif"):
        image.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_unknown_extension_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\.bmp has no image extension; end it with \.tif"):
        _image().save(tmp_path / "x.bmp")


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


# Foreign files.


def _write(path, array, **profile):
    count, height, width = array.shape
    profile = {"driver": "GTiff", "dtype": array.dtype, "crs": UTM15.to_wkt(), "transform": GRID, **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as file:
        file.write(array)
    return path


def test_south_up_and_mirrored_rasters_are_turned_exactly_and_the_log_says_so(tmp_path, caplog):
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    path = _write(tmp_path / "s.tif", array[:, ::-1, ::-1], transform=Affine(-2, 0, 508, 0, 2, 994))
    with caplog.at_level(logging.WARNING):
        got = GeoImage.open(path)
    np.testing.assert_array_equal(got.array[:, :, 0], array[0])
    assert got.transform == Affine(2, 0, 500, 0, -2, 1000)
    assert "south-up" in caplog.text and "east to west" in caplog.text


def test_rotated_raster_is_warped_to_where_it_lies(tmp_path, caplog):
    # A plane z = x + 2 y in CRS coordinates, sampled on a grid turned by 30 degrees.
    turn, cos, sin = 0.5, math.cos(math.pi / 6), math.sin(math.pi / 6)
    affine = Affine(turn * cos, turn * sin, 500.0, turn * sin, -turn * cos, 1000.0)
    rows, cols = np.mgrid[:60, :80] + 0.5
    x, y = affine.a * cols + affine.b * rows + affine.c, affine.d * cols + affine.e * rows + affine.f
    with caplog.at_level(logging.WARNING):
        got = GeoImage.open(_write(tmp_path / "r.tif", (x + 2 * y)[None].astype(np.float32), transform=affine))
    assert "rotated" in caplog.text
    assert got.valid is not None and 0.4 < got.valid.mean() < 0.75
    assert got.transform.b == got.transform.d == 0 and got.transform.a == -got.transform.e == pytest.approx(0.5)
    rows, cols = np.nonzero(got.valid)
    x, y = got.transform.c + 0.5 * (cols + 0.5), got.transform.f - 0.5 * (rows + 0.5)
    error = got.array[rows, cols, 0] - (x + 2 * y)
    assert np.median(np.abs(error)) < 0.01 and np.abs(error).max() < 1.0


def test_rotated_class_map_keeps_its_classes(tmp_path):
    array = np.random.default_rng(0).choice(np.array([0, 10, 95], np.uint8), (1, 30, 30))
    got = GeoImage.open(_write(tmp_path / "r.tif", array, transform=Affine(0.4, 0.3, 0, 0.3, -0.4, 0)))
    assert set(np.unique(got.array)) <= {0, 10, 95}


def test_nodata_alpha_and_signed_pixels_of_foreign_files(tmp_path):
    dem = np.array([[[-5, 300], [-9999, 0]]], np.int16)
    got = GeoImage.open(_write(tmp_path / "dem.tif", dem, nodata=-9999))
    assert got.array.dtype == np.float32 and got.array[0, 0, 0] == -5
    np.testing.assert_array_equal(got.valid, [[True, True], [False, True]])
    rgba = np.full((4, 2, 2), 255, np.uint8)
    rgba[3, 1, 1] = 0
    got = GeoImage.open(_write(tmp_path / "rgba.tif", rgba, photometric="RGB", alpha="YES"))
    assert [band.name for band in got.bands] == ["red", "green", "blue"]
    np.testing.assert_array_equal(got.valid, [[True, True], [True, False]])


def test_raster_without_a_place_has_none(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = _write(tmp_path / "x.tif", np.zeros((1, 2, 2), np.uint8), crs=None, transform=None)
    got = GeoImage.open(path)
    assert got.crs is None and got.transform is None and got.gsd is None


def test_a_pixel_is_valid_where_every_band_is(tmp_path):
    stored = np.array([[[-1, 4, 5]], [[3, 4, -1]]], np.int16)
    whole = np.where(stored == -1, np.nan, stored).astype(np.float32)
    paths = [_write(tmp_path / "i.tif", stored, nodata=-1), _write(tmp_path / "f.tif", whole)]
    for path in paths:
        got = GeoImage.open(path)
        np.testing.assert_array_equal(got.valid, [[False, True, False]])
        assert np.isnan(got.physical()[0, [0, 2]]).all() and (got.physical()[0, 1] == 4).all()
    shades = np.array([[[0, 0]], [[0, 9]], [[0, 9]]], np.uint8)  # 0 is nodata, and cyan has no red
    np.testing.assert_array_equal(GeoImage.open(_write(tmp_path / "p.tif", shades, nodata=0)).valid, [[False, True]])


def test_control_points_and_world_files_are_not_read_and_the_log_says_so(tmp_path, caplog):
    corners = [rasterio.control.GroundControlPoint(r, c, 5e5 + c, 4e6 - r) for r, c in ((0, 0), (0, 4), (4, 0), (4, 4))]
    with rasterio.open(
        tmp_path / "g.tif", "w", driver="GTiff", height=4, width=4, count=1, dtype="uint8", gcps=corners, crs=32615
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 4, 4), np.uint8))
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "w.png")
    (tmp_path / "w.pgw").write_text("1\n0\n0\n-1\n500000\n4000000\n")
    with caplog.at_level(logging.WARNING):
        for name in ("g.tif", "w.png"):
            assert not GeoImage.open(tmp_path / name).georeferenced
    assert "g.tif has no place but ground control points" in caplog.text
    assert "world file w.pgw names no CRS" in caplog.text


def test_foreign_pictures_palette_and_bits(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(GeoImage.open(tmp_path / "p.png").array, [[[10, 20, 30], [40, 50, 60]]])
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    np.testing.assert_array_equal(GeoImage.open(tmp_path / "b.png").array, [[[255], [0]]])


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.6])
def test_truncated_files_are_one_sentence(tmp_path, suffix, part):
    path = tmp_path / f"x{suffix}"
    _image(size=(300, 300)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(
        InputError, match=r"cannot be read as (an image|a raster).*check that the file is complete"
    ) as info:
        GeoImage.open(path)
    assert "\n" not in str(info.value)


def test_missing_files_folders_and_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        GeoImage.open(tmp_path / "none.tif")
    with pytest.raises(InputError, match="is a folder"):
        GeoImage.open(tmp_path)
    (tmp_path / "x.tif").write_text("not an image")
    with pytest.raises(InputError, match="cannot be read"):
        GeoImage.open(tmp_path / "x.tif")


# Writing.


def test_existing_output_is_kept_unless_overwrite(tmp_path):
    path = tmp_path / "x.tif"
    path.write_text("precious")
    with pytest.raises(InputError, match="overwrite"):
        _image().save(path)
    assert path.read_text() == "precious"
    _image().save(path, overwrite=True)
    assert GeoImage.open(path).provenance == PROVENANCE
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]


def test_output_needs_a_folder_and_a_name(tmp_path):
    with pytest.raises(InputError, match="does not exist; create it"):
        _image().save(tmp_path / "none" / "x.tif")
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_write_leaves_nothing_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path, overwrite=True) as part:
        assert part.parent == tmp_path and part.suffix == ".bin"
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.bin"]


def test_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    # A limit on the size of files makes the kernel refuse the write, as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    image = _image(size=(200, 200))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        for suffix in (".tif", ".png", ".jpg"):
            with pytest.raises(OutputError, match="could not be written"):
                image.save(tmp_path / f"x{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_no_space_left_is_said(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="No space left on device"):
        _image().save(tmp_path / "x.tif")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(InputError, match="exists"), atomic_write(path) as part:
        part.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["x.txt"]


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
