"""Rasters and pictures that other programs wrote, and damaged ones."""

import logging
import math

import numpy as np
import pytest
import rasterio
import rasterio.control
from affine import Affine
from PIL import Image
from raster_toys import GRID, UTM15, toy_image

from gensat.errors import InputError
from gensat.types import GeoImage


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
    toy_image(size=(300, 300)).save(path)
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
