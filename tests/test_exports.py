"""Every export is opened by a reader that we did not write, and is where and what it should be."""

import json

import numpy as np
import pytest
import torch
from conftest import DATA
from PIL import Image
from pyproj import CRS
from solid_toys import FRAME, village

from gensat.errors import InputError, OutputError
from gensat.geo.classes import BUILDING
from gensat.render.cameras import Camera, Panorama
from gensat.render.export.cameras import from_opengl_pose, save_colmap, save_nerf_synthetic, save_nerfstudio
from gensat.render.export.meshes import save_glb, save_obj
from gensat.render.export.place import frame_of, place_of
from gensat.render.export.points import save_dsm, save_points
from gensat.render.export.scene import save_scene
from gensat.render.export.splats import load_splats, save_splats
from gensat.render.frame import SceneFrame
from gensat.render.mesh import joined
from gensat.render.scene import Scene
from gensat.render.splats import Splats
from gensat.render.triangles import scene_mesh, scene_points, sphere_mesh
from gensat.types import GeoImage


@pytest.fixture(scope="module")
def mesh():
    return scene_mesh(village())


@pytest.fixture(scope="module")
def points():
    return scene_points(village(), 0.8)


@pytest.fixture(scope="module")
def splats(points):
    return Splats.from_points(points, 0.8, degree=2)


@pytest.fixture(scope="module")
def views(splats):
    made = []
    for k in range(5):
        position = (12 * np.sin(k), -12 * np.cos(k), 6.0)
        made.append(
            splats.render(
                Camera.looking(FRAME, position, heading=FRAME.heading(30.0 * k), pitch=-12, fov=60, width=40, height=30)
            )
        )
    return made


def surface(vertices, faces):
    a, b, c = (np.asarray(vertices)[np.asarray(faces)[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def test_glb_in_trimesh(mesh, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    save_glb(mesh, tmp_path / "scene.glb")
    read = trimesh.load(tmp_path / "scene.glb")
    parts = {part.visual.material.name: part for part in read.geometry.values()}
    assert set(parts) == {"seen from above", "invented"}
    low, high = read.bounds
    np.testing.assert_allclose(low, [-16, mesh.vertices[:, 2].min(), -16], atol=1e-4)
    np.testing.assert_allclose(high, [16, mesh.vertices[:, 2].max(), 16], atol=1e-4)
    total = sum(surface(part.vertices, part.faces) for part in parts.values())
    assert total == pytest.approx(mesh.areas.sum(), rel=1e-5)
    seen = parts["seen from above"]
    picture = np.asarray(seen.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(picture, mesh.image)
    # a roof vertex in the north-east has the colour of the image there: v of trimesh runs upward
    corner = np.abs(seen.vertices - [6, 8, -5]).sum(axis=1).argmin()
    np.testing.assert_allclose(seen.vertices[corner], [6, 8, -5], atol=1e-5)
    np.testing.assert_allclose(seen.visual.uv[corner], [22 / 32, 1 - 11 / 32], atol=1e-5)
    assert (seen.face_normals[:, 1] > 0).all()  # up, and wound so that a viewer shows it
    facts = read.metadata.get("gensat") or read.graph.metadata.get("gensat")
    assert facts is None or facts["crs"] == "EPSG:32618"


def test_glb_says_where_it_lies_and_keeps_to_the_format(mesh, tmp_path):
    pygltflib = pytest.importorskip("pygltflib")
    save_glb(mesh, tmp_path / "scene.glb")
    read = pygltflib.GLTF2().load(str(tmp_path / "scene.glb"))
    facts = read.scenes[0].extras["gensat"]
    assert frame_of(facts) == FRAME and facts["axes"] == "x east, y up, z south"
    assert facts["provenance"] == {"notes": ["made for a test"]}
    assert all(m.extensions == {"KHR_materials_unlit": {}} for m in read.materials)
    for view in read.bufferViews:
        assert view.byteOffset % 4 == 0 and view.byteOffset + view.byteLength <= read.buffers[0].byteLength
    for primitive in read.meshes[0].primitives:
        position = read.accessors[primitive.attributes.POSITION]
        indices = read.accessors[primitive.indices]
        assert indices.componentType == 5125 and len(position.min) == 3
        blob = read.binary_blob()[read.bufferViews[indices.bufferView].byteOffset :][: 4 * indices.count]
        assert np.frombuffer(blob, "<u4").max() == position.count - 1


def test_sphere_in_glb_keeps_its_normals(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    save_glb(sphere_mesh((0, 0, 0), 2.0, 3, FRAME), tmp_path / "ball.glb")
    (read,) = trimesh.load(tmp_path / "ball.glb", process=False).geometry.values()
    np.testing.assert_allclose(read.vertex_normals, read.vertices / 2, atol=0.015)
    assert read.volume == pytest.approx(4 / 3 * np.pi * 8, rel=0.02)


def test_obj_in_trimesh(mesh, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    save_obj(mesh, tmp_path / "scene.obj")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.mtl", "scene.obj", "scene.png"]
    read = trimesh.load(tmp_path / "scene.obj")
    parts = list(read.geometry.values())
    assert sum(surface(p.vertices, p.faces) for p in parts) == pytest.approx(mesh.areas.sum(), rel=1e-4)
    np.testing.assert_allclose(read.bounds[:, 2], [mesh.vertices[:, 2].min(), mesh.vertices[:, 2].max()], atol=1e-3)
    seen = next(p for p in parts if getattr(p.visual, "uv", None) is not None and p.visual.material.image is not None)
    corner = np.abs(seen.vertices - [6, 5, 8]).sum(axis=1).argmin()
    np.testing.assert_allclose(seen.visual.uv[corner], [22 / 32, 1 - 11 / 32], atol=1e-5)
    head = [line for line in (tmp_path / "scene.obj").read_text().splitlines() if line.startswith("# gensat origin")]
    assert json.loads(head[0].split(": ")[1]) == list(FRAME.origin)


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


def test_nerfstudio(views, points, tmp_path):
    save_nerfstudio(views, tmp_path / "ns", points=points)
    read = json.loads((tmp_path / "ns" / "transforms.json").read_text())
    assert read["camera_model"] == "OPENCV" and len(read["frames"]) == 5 and frame_of(read["gensat"]) == FRAME
    for frame, view in zip(read["frames"], views, strict=True):
        matrix = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(matrix[:3, 3], view.camera.position, atol=1e-9)
        np.testing.assert_allclose(-matrix[:3, 2], view.camera.pose[2, :3], atol=1e-9)  # looks along -z
        assert matrix[2, 1] > 0  # y of the camera is up
        np.testing.assert_allclose(from_opengl_pose(matrix), view.camera.pose, atol=1e-9)
        picture = np.asarray(Image.open(tmp_path / "ns" / frame["file_path"]))
        np.testing.assert_allclose(picture / 255, view.rgb.clamp(0, 1), atol=0.003)
        depth = np.asarray(Image.open(tmp_path / "ns" / frame["depth_file_path"])).astype(float) / 1000
        np.testing.assert_allclose(depth[~view.sky.numpy()], view.depth[~view.sky], atol=6e-4)
        assert (depth[view.sky.numpy()] == 0).all()
    assert (tmp_path / "ns" / read["ply_file_path"]).is_file()


def test_nerf_synthetic(views, tmp_path):
    save_nerf_synthetic(views, tmp_path / "nerf", held_out=4)
    train, test = (json.loads((tmp_path / "nerf" / f"transforms_{s}.json").read_text()) for s in ("train", "test"))
    assert len(train["frames"]) == 3 and len(test["frames"]) == 2
    focal = 40 / 2 / np.tan(train["camera_angle_x"] / 2)
    assert focal == pytest.approx(views[0].camera.fx)
    picture = Image.open(tmp_path / "nerf" / (train["frames"][0]["file_path"] + ".png"))
    assert picture.mode == "RGBA" and picture.size == (40, 30)
    with pytest.raises(InputError, match="one field of view"):
        save_nerf_synthetic([*views, other_view(views)], tmp_path / "mixed")


def other_view(views):
    from dataclasses import replace

    return replace(views[0], camera=replace(views[0].camera, fx=99.0, fy=99.0))


def test_colmap(views, points, tmp_path):
    save_colmap(views, tmp_path / "colmap", points=points)
    lines = [line.split() for line in (tmp_path / "colmap" / "images.txt").read_text().splitlines() if line[:1] != "#"]
    assert len(lines) == 10 and all(not line for line in lines[1::2])  # an empty line of features after each
    for line, view in zip(lines[::2], views, strict=True):
        w, x, y, z, *shift = (float(v) for v in line[1:8])
        p = points.positions[7]
        v = np.array([x, y, z])
        turned = p + 2 * w * np.cross(v, p) + 2 * np.cross(v, np.cross(v, p))
        np.testing.assert_allclose(turned + shift, view.camera.pose[:3, :3] @ p + view.camera.pose[:3, 3], atol=1e-9)
        assert (tmp_path / "colmap" / "images" / line[9]).is_file()
    camera = next(
        line for line in (tmp_path / "colmap" / "cameras.txt").read_text().splitlines() if line[0] == "1"
    ).split()
    assert camera[1:4] == ["PINHOLE", "40", "30"] and float(camera[4]) == views[0].camera.fx
    table = np.loadtxt(tmp_path / "colmap" / "points3D.txt")
    np.testing.assert_allclose(table[:, 1:4], points.positions, atol=1e-5)


def test_colmap_in_pycolmap(views, points, tmp_path):
    """COLMAP's own reader and projection: a point of the scene falls on the pixel that our camera says."""
    pycolmap = pytest.importorskip("pycolmap")
    save_colmap(views, tmp_path / "colmap", points=points)
    read = pycolmap.Reconstruction(str(tmp_path / "colmap"))
    assert len(read.points3D) == len(points) and len(read.images) == 5
    for image in read.images.values():
        camera = views[int(image.name[6:11])].camera
        pose = image.cam_from_world
        pose = pose() if callable(pose) else pose
        np.testing.assert_allclose(pose.matrix(), camera.pose[:3], atol=1e-9)
        pixels, _, inside = camera.project(torch.from_numpy(points.positions[:200]))
        for place, pixel in zip(points.positions[:200][inside.numpy()], pixels[inside].numpy(), strict=True):
            np.testing.assert_allclose(image.project_point(place), pixel, atol=1e-6)


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
