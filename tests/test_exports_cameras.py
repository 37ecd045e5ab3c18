"""Cameras and pictures for training elsewhere, checked by the conventions of those programs and by COLMAP's own reader."""

import json

import numpy as np
import pytest
import torch
from export_toys import village_points, village_views
from PIL import Image
from solid_toys import FRAME

from gensat.errors import InputError
from gensat.render.export.cameras import from_opengl_pose, save_colmap, save_nerf_synthetic, save_nerfstudio
from gensat.render.export.place import frame_of


@pytest.fixture(scope="module")
def points():
    return village_points()


@pytest.fixture(scope="module")
def views():
    return village_views()


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
