"""Points, splats and heights are opened by readers that we did not write, and are where and what they should be."""

import numpy as np
import pytest
import torch
from export_toys import village_points, village_splats
from pyproj import CRS
from solid_toys import FRAME, village

from gensat.errors import InputError
from gensat.geo.classes import BUILDING
from gensat.render.export.place import frame_of, place_of
from gensat.render.export.points import save_dsm, save_points
from gensat.render.export.splats import load_splats, save_splats
from gensat.render.frame import SceneFrame


@pytest.fixture(scope="module")
def points():
    return village_points()


@pytest.fixture
def splats():
    return village_splats()


def test_points_as_ply(points, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    trimesh = pytest.importorskip("trimesh")
    save_points(points, tmp_path / "points.ply")
    read = plyfile.PlyData.read(str(tmp_path / "points.ply"))
    table = read["vertex"]
    np.testing.assert_allclose(np.stack([table[n] for n in "xyz"], 1), points.positions, atol=1e-5)
    np.testing.assert_array_equal(table["class"], points.classes)
    np.testing.assert_array_equal(table["seen"] > 0, points.seen)
    assert any("EPSG:32618" in comment for comment in read.comments)
    cloud = trimesh.load(tmp_path / "points.ply")
    np.testing.assert_allclose(cloud.colors[:, :3], points.colors * 255, atol=0.51)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_points_as_las(points, suffix, tmp_path):
    laspy = pytest.importorskip("laspy")
    save_points(points, tmp_path / f"points{suffix}")
    read = laspy.read(tmp_path / f"points{suffix}")
    assert read.header.parse_crs() == CRS.from_epsg(32618)
    np.testing.assert_allclose(read.x, points.positions[:, 0] + 322000.5, atol=6e-4)
    np.testing.assert_allclose(read.y, points.positions[:, 1] + 4296000.25, atol=6e-4)
    np.testing.assert_allclose(read.z, points.positions[:, 2] + 12.5, atol=6e-4)
    assert (np.asarray(read.classification)[points.classes == BUILDING] == 6).all()
    np.testing.assert_allclose(np.asarray(read.red) / 65535, points.colors[:, 0], atol=1e-4)
    assert np.asarray(read.synthetic).all()


def test_splats_as_3dgs_ply(splats, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    save_splats(splats, tmp_path / "splats.ply")
    table = plyfile.PlyData.read(str(tmp_path / "splats.ply"))["vertex"]
    names = [p.name for p in table.properties]
    rest = [f"f_rest_{k}" for k in range(24)]
    standard = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    standard += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names[: len(standard)] == standard and all(
        str(p.val_dtype) == "f4" for p in table.properties[: len(standard)]
    )
    np.testing.assert_allclose(1 / (1 + np.exp(-table["opacity"])), splats.opacities, atol=1e-5)
    np.testing.assert_allclose(np.exp(table["scale_2"]), splats.scales[:, 2], rtol=1e-5)
    np.testing.assert_allclose(table["rot_0"], splats.quats[:, 0], atol=1e-6)
    shown = 0.5 + 0.28209479177387814 * np.stack([table[f"f_dc_{k}"] for k in range(3)], 1)
    np.testing.assert_allclose(shown, splats.colors, atol=1e-5)


def test_splats_come_back_as_they_were(splats, tmp_path):
    splats.sh[:, 1:] = torch.randn(splats.sh[:, 1:].shape, generator=torch.Generator().manual_seed(0))
    save_splats(splats, tmp_path / "splats.ply")
    read = load_splats(tmp_path / "splats.ply")
    assert read.frame == FRAME and read.degree == 2
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(read, name), getattr(splats, name), atol=1e-5, rtol=1e-5)
    assert (read.classes == splats.classes).all() and (read.seen == splats.seen).all()
    plyfile = pytest.importorskip("plyfile")
    coefficients = plyfile.PlyData.read(str(tmp_path / "splats.ply"))["vertex"]
    np.testing.assert_allclose(
        coefficients["f_rest_8"], splats.sh[:, 1, 1], atol=1e-6
    )  # green of the first band follows 8 of red


def test_damaged_splats_are_one_sentence(splats, points, tmp_path):
    path = tmp_path / "splats.ply"
    save_splats(splats, path)
    data = path.read_bytes()
    cases = {"short": data[: len(data) // 2], "head": b"ply\nnothing", "text": b"hello"}
    for name, content in cases.items():
        (tmp_path / f"{name}.ply").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as PLY"):
            load_splats(tmp_path / f"{name}.ply")
    save_points(points, tmp_path / "points.ply")
    with pytest.raises(InputError, match="holds no splats"):
        load_splats(tmp_path / "points.ply")
    with pytest.raises(InputError):
        load_splats(tmp_path / "missing.ply")
    bare = b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"comment"))
    (tmp_path / "bare.ply").write_bytes(bare)
    with pytest.raises(InputError, match="where it lies"):
        load_splats(tmp_path / "bare.ply")
    assert len(load_splats(tmp_path / "bare.ply", SceneFrame(None))) == len(splats)


def test_dsm_in_rasterio(tmp_path):
    import rasterio

    scene = village()
    heights = scene.terrain.heights.numpy().copy()
    heights[3, 4] = np.nan
    save_dsm(heights, scene.grid, scene.frame, tmp_path / "dsm.tif", provenance=scene.provenance)
    with rasterio.open(tmp_path / "dsm.tif") as read:
        assert read.crs == CRS.from_epsg(32618) and read.units == ("m",) and read.dtypes == ("float32",)
        values = read.read(1, masked=True)
        x, y = read.xy(10, 20)  # the centre of that pixel
        assert (x, y) == pytest.approx((322000.5 + 4.5, 4296000.25 + 5.5))
        assert float(values[10, 20]) == pytest.approx(12.5 + 0.05 * 4.5, abs=1e-4)
        assert values.mask[3, 4] and values.mask.sum() == 1


def test_scene_on_no_place(points, tmp_path):
    from dataclasses import replace

    nowhere = replace(points, frame=SceneFrame(None))
    save_points(nowhere, tmp_path / "points.ply")
    with pytest.raises(InputError, match=r"\.ply"):
        save_points(nowhere, tmp_path / "points.las")
    assert frame_of(place_of(SceneFrame(None))) == SceneFrame(None)
