"""A DEM larger than memory is flooded as one that is not, bit for bit, in little memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS
from scipy.ndimage import gaussian_filter

from gensat import GeoImage
from gensat.errors import InputError
from gensat.geo.crs import to_lonlat
from gensat.hydro.bathtub import bathtub, find_sources
from gensat.hydro.domain import Domain
from gensat.hydro.large import flood_large
from gensat.hydro.large_dem import LargeDem
from gensat.hydro.sea import Sea, level_on
from gensat.hydro.surge import Surge

UTM = CRS.from_epsg(31985)
GRID = Affine(10, 0, 290_000, 0, -10, 9_120_000)


def coast(seed=0, shape=(150, 190)):
    """Noisy ground that rises to the west, the sea in the east at -1 m, NaN in a corner."""
    rng = np.random.default_rng(seed)
    bed = np.linspace(6, -1.5, shape[1])[None] + gaussian_filter(rng.normal(size=shape), 2) * 8
    bed[:, -8:] = -1
    bed[:40, :30] = np.nan
    return bed.astype(np.float32)


def write(path, bed, crs=UTM, transform=GRID):
    GeoImage(bed, ["elevation"], crs, transform).save(path)
    return path


def whole(path, level, sea=None, points=()):
    domain = Domain.open(path)
    bed = np.where(domain.exists, domain.bed, np.nan)
    field = level_on(level, domain.canvas)
    mask = None if sea is None else Sea(sea, domain.canvas).cells()
    found = find_sources(bed, field, points=points, sea=mask)
    return domain, bathtub(bed, field, found.cells), found


def by_blocks(path, folder, level, side=32, **how):
    with LargeDem.open(path, side=side) as dem:
        said = flood_large(dem, folder, level, **how)
    with rasterio.open(folder / "depth.tif") as file:
        return file.read(1), file.crs, file.transform, said


@pytest.mark.parametrize("side", [31, 64])
@pytest.mark.parametrize("where", ["low edge", "point", "sea", "surge"])
def test_blocks_are_the_whole_bit_for_bit(side, where, tmp_path):
    path = write(tmp_path / "dem.tif", coast())
    level, how = 1.25, {}
    if where == "point":
        how = {"points": [(75, 186)]}
    if where == "sea":
        lon, lat = to_lonlat(UTM, np.array([291_840, 291_960]), np.array([9_118_400, 9_120_100]))
        shape = shapely.box(lon[0], lat[0], lon[1], lat[1])
        (tmp_path / "sea.geojson").write_text(
            json.dumps({"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(shape))})
        )
        how = {"sea": tmp_path / "sea.geojson"}
    if where == "surge":
        x, y = np.array([290_100.0, 291_900, 291_000]), np.array([9_118_600.0, 9_119_900, 9_119_000])
        level = Surge(x, y, np.array([0.8, 2.0, 1.4]), UTM)
    domain, expected, found = whole(path, level, how.get("sea"), how.get("points", ()))
    depth, crs, transform, said = by_blocks(path, tmp_path / "out", level, side, **how)
    np.testing.assert_array_equal(depth, expected)
    assert transform == domain.transform and crs.to_epsg() == 31985
    assert (expected > 0).sum() == said["flooded_cells"] > 500
    if where in ("low edge", "surge"):
        assert said["source"] == found.how
    wse = GeoImage.open(tmp_path / "out" / "wse.tif").physical()[:, :, 0]
    np.testing.assert_array_equal(np.isfinite(wse), expected > 0)
    extent = GeoImage.open(tmp_path / "out" / "extent.tif")
    np.testing.assert_array_equal(extent.array[:, :, 0] == 1, expected > 0)
    assert not list((tmp_path / "out").glob(".*"))


def test_degrees_are_warped_while_reading(tmp_path):
    path = write(tmp_path / "dem.tif", coast(), 4326, Affine(1e-4, 0, -34.9, 0, -1e-4, -8.0))
    one, crs, _, said = by_blocks(path, tmp_path / "one", 1.0, 1000)
    many, _, _, _ = by_blocks(path, tmp_path / "many", 1.0, 40)
    np.testing.assert_array_equal(one, many)
    assert crs.to_epsg() == 32725 and "warped from EPSG:4326" in said["notes"][0]
    domain, expected, _ = whole(path, 1.0)
    assert domain.crs == CRS.from_epsg(32725)
    assert (
        abs((expected > 0).sum() / said["flooded_cells"] - 1) < 0.02
    )  # GDAL's warped file and its warper differ at edges


def test_feet_and_voids_are_counted(tmp_path):
    bed = coast() / 0.3048
    bed[100:104, 100:105] = -9999
    path = write(tmp_path / "dem.tif", bed)
    with LargeDem.open(path, unit="ft", side=64) as dem:
        said = flood_large(dem, tmp_path / "out", 1.0)
    notes = " ".join(said["notes"])
    assert "in ft and was converted" in notes and "20 cells of dem.tif are voids" in notes
    assert "20 cells of dem.tif hold a nodata value that is not declared" in notes  # once, in however many passes
    assert said["vertical_datum"] == "unknown"
    with (
        LargeDem.open(path, unit="ft", side=64) as dem,
        pytest.raises(InputError, match=r"20 cells .* are voids, more than"),
    ):
        flood_large(dem, tmp_path / "none", 1.0, void_share=1e-4)
    assert not (tmp_path / "none").exists()


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path):
    path = write(tmp_path / "dem.tif", coast())
    for level, how, message in (
        (-5.0, {}, "no cell at the edge"),
        (1.0, {"points": [(75, 20)]}, "not below the level"),
        (1.0, {"points": [(5, 5)]}, "outside the DEM"),
    ):
        with pytest.raises(InputError, match=message):
            by_blocks(path, tmp_path / "out", level, **how)
    assert not (tmp_path / "out").exists()
    by_blocks(path, tmp_path / "out", 1.0)
    with pytest.raises(InputError, match="exists"):
        by_blocks(path, tmp_path / "out", 1.0)
    with pytest.raises(InputError, match="no CRS"):
        with LargeDem.open(write(tmp_path / "bare.tif", coast(), None, None)):
            pass


MEMORY = """
import sys
from pathlib import Path
from gensat.hydro.large import flood_large
from gensat.hydro.large_dem import LargeDem
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
with LargeDem.open(sys.argv[1], side=256) as dem:
    dem.read(dem.blocks.window(0, 0))
    before = peak()
    flood_large(dem, Path(sys.argv[2]), 1.0)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_dem(tmp_path):
    """36 million cells, 144 MB as they are stored, a multiple of it on the way of the whole."""
    side = 6000
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "float32", "crs": "EPSG:31985"}
    with rasterio.open(
        tmp_path / "dem.tif", "w", transform=GRID, tiled=True, blockxsize=256, blockysize=256, **profile
    ) as f:
        rng = np.random.default_rng(0)
        for top in range(0, side, 256):
            rows = min(256, side - top)
            block = np.linspace(8, -2, side)[None] + gaussian_filter(rng.normal(size=(rows, side)), 1.5) * 10
            f.write(block.astype(np.float32), 1, window=rasterio.windows.Window(0, top, side, rows))
    run = [sys.executable, "-c", MEMORY, str(tmp_path / "dem.tif"), str(tmp_path / "out")]
    grown = float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    print(f"{grown:.0f} MB")
    assert 0 < grown < 144
