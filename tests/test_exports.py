"""A scene by the name of its file, real heights, and what holds for every export: nothing half-written, one sentence for bad input."""

import numpy as np
import pytest
from conftest import DATA
from export_toys import village_mesh, village_points, village_splats, village_views
from solid_toys import FRAME, village

from gensat.errors import InputError, OutputError
from gensat.render.cameras import Panorama
from gensat.render.export.cameras import save_colmap, save_nerfstudio
from gensat.render.export.meshes import save_glb, save_obj
from gensat.render.export.points import save_dsm, save_points
from gensat.render.export.scene import save_scene
from gensat.render.export.splats import save_splats
from gensat.render.mesh import joined
from gensat.render.scene import Scene
from gensat.types import GeoImage


@pytest.fixture(scope="module")
def mesh():
    return village_mesh()


@pytest.fixture(scope="module")
def points():
    return village_points()


@pytest.fixture
def splats():
    return village_splats()


@pytest.fixture(scope="module")
def views():
    return village_views()


def test_nothing_is_overwritten_or_half_written(mesh, points, splats, views, tmp_path, monkeypatch):
    for name, call in {
        "a.glb": lambda path, **more: save_glb(mesh, path, **more),
        "a.obj": lambda path, **more: save_obj(mesh, path, **more),
        "a.ply": lambda path, **more: save_points(points, path, **more),
        "b.ply": lambda path, **more: save_splats(splats, path, **more),
        "a.laz": lambda path, **more: save_points(points, path, **more),
        "ns": lambda path, **more: save_nerfstudio(views, path, **more),
        "col": lambda path, **more: save_colmap(views, path, **more),
    }.items():
        call(tmp_path / name)
        with pytest.raises(InputError, match="exists"):
            call(tmp_path / name)
        call(tmp_path / name, overwrite=True)
        with pytest.raises(InputError, match="does not exist"):
            call(tmp_path / "none" / name)
    before = sorted(p.name for p in tmp_path.iterdir())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(OutputError, match="free space"):
        save_nerfstudio(views, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("meow")
    with pytest.raises(InputError, match="no earlier export"):
        save_nerfstudio(views, tmp_path / "photos", overwrite=True)


def test_bad_input_is_one_sentence(mesh, points, splats, views, tmp_path):
    empty = joined([mesh]).part(np.zeros(len(mesh.faces), bool))
    panorama = splats.render(Panorama(32, 16, np.array([0.0, -12, 4])))
    for call, words in [
        (lambda: save_glb(empty, tmp_path / "a.glb"), "no faces"),
        (lambda: save_obj(empty, tmp_path / "a.obj"), "no faces"),
        (lambda: save_points(points.part(points.seen & ~points.seen), tmp_path / "a.ply"), "no points"),
        (lambda: save_points(points, tmp_path / "a.xyz"), ".las"),
        (lambda: save_splats(splats, tmp_path / "a.splat"), ".ply"),
        (lambda: save_nerfstudio([panorama], tmp_path / "a"), "perspective"),
        (lambda: save_colmap([], tmp_path / "a"), "perspective"),
        (lambda: save_dsm(np.zeros((32, 32)), village().grid, FRAME, tmp_path / "a.png"), ".tif"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.ply", "a.splats.ply", "a.las", "a.laz", "a.tif"])
def test_a_scene_by_the_name_of_its_file(name, tmp_path):
    plyfile, laspy, trimesh = (pytest.importorskip(n) for n in ("plyfile", "laspy", "trimesh"))
    said = save_scene(village(), tmp_path / name, spacing=1.5)
    path = tmp_path / name
    if name.endswith((".glb", ".obj")):
        assert said.startswith("mesh") and len(trimesh.load(path).geometry) == 2
    elif name.endswith(".splats.ply"):
        assert "opacity" in plyfile.PlyData.read(str(path))["vertex"].data.dtype.names
    elif name.endswith(".ply"):
        assert "red" in plyfile.PlyData.read(str(path))["vertex"].data.dtype.names
    elif name.endswith((".las", ".laz")):
        assert len(laspy.read(path)) > 500
    with pytest.raises(InputError, match="no export"):
        save_scene(village(), tmp_path / "a.fbx")


def test_surface_of_a_scene_has_its_roofs_and_crowns(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    save_scene(village(), tmp_path / "dsm.tif")
    with rasterio.open(tmp_path / "dsm.tif") as read:
        values = read.read(1)
        roof, crown, ground = (
            read.index(322000.5 + x, 4296000.25 + y) for x, y in ((4.5, 0.5), (11.5, 9.5), (-10.5, -10.5))
        )
    assert values[roof] == pytest.approx(12.5 + 8)
    assert values[crown] == pytest.approx(12.5 + 5 + 3 * np.sqrt(1 - 2 * 0.25**2), abs=1e-3)
    assert values[ground] == pytest.approx(12.5 - 0.05 * 10.5, abs=1e-4)


@pytest.mark.data
def test_surface_of_alexandria_comes_back(tmp_path):
    """A scene over the real surface model, exported and read: the heights of the file, the CRS, and every export opens."""
    rasterio, laspy, trimesh = (pytest.importorskip(n) for n in ("rasterio", "laspy", "trimesh"))
    source = DATA / "rasters" / "urban_heights" / "dsm.tif"
    with rasterio.open(source) as read:
        window = rasterio.windows.Window(90, 90, 64, 48)
        heights, transform, crs = read.read(1, window=window), read.window_transform(window), read.crs
    image = GeoImage(np.full((48, 64, 3), 120, np.uint8), crs=crs, transform=transform)
    scene = Scene.from_dsm(image, source)
    save_scene(scene, tmp_path / "dsm.tif")
    with rasterio.open(tmp_path / "dsm.tif") as read:
        assert read.crs == crs and read.transform.almost_equals(transform, 1e-6)
        known = heights > -1000
        np.testing.assert_allclose(read.read(1)[known], heights[known], atol=2e-3)
    save_scene(scene, tmp_path / "scene.glb")
    low, high = trimesh.load(tmp_path / "scene.glb").bounds
    np.testing.assert_allclose(high - low, [128, np.ptp(heights[known]), 96], atol=0.5)
    save_scene(scene, tmp_path / "scene.laz", spacing=2.0)
    read = laspy.read(tmp_path / "scene.laz")
    assert read.header.parse_crs().to_epsg() == crs.to_epsg()
    assert transform.c <= min(read.x) and max(read.x) <= transform.c + 128
