"""Views as data sets for training elsewhere: nerfstudio, NeRF-synthetic (Blender) and COLMAP's text files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from gensat.errors import InputError
from gensat.render.cameras import Camera
from gensat.render.export.place import atomic_folder, place_of
from gensat.render.export.points import save_points
from gensat.render.mesh import Points
from gensat.render.view import View

_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV's axes to OpenGL's: y up, z backward


def opengl_pose(camera: Camera) -> Float[np.ndarray, "4 4"]:
    """Camera to world with OpenGL's camera axes (x right, y up, z backward), as nerfstudio and NeRF write it."""
    return np.linalg.inv(camera.pose) @ _TO_OPENGL


def from_opengl_pose(matrix: Any) -> Float[np.ndarray, "4 4"]:
    """World to camera with OpenCV's axes from what :func:`opengl_pose` gives."""
    return np.linalg.inv(np.asarray(matrix, np.float64).reshape(4, 4) @ _TO_OPENGL)


def save_nerfstudio(
    views: Sequence[View], folder: str | os.PathLike[str], *, points: Points | None = None, overwrite: bool = False
) -> None:
    """Writes ``transforms.json``, ``images/`` and ``depths/`` (16 bit, millimetres, 0 for sky), and the points if given.

    Poses are in the scene's local metres, z up; CRS and origin stand under the key ``gensat``.

    Raises:
        InputError: no views, or one that is not perspective; as :func:`gensat.render.export.place.atomic_folder`.
    """
    cameras = _perspective(views)
    with atomic_folder(folder, overwrite) as fresh:
        frames = []
        for number, (view, camera) in enumerate(zip(views, cameras, strict=True)):
            name, deep = f"images/frame_{number:05d}.png", f"depths/frame_{number:05d}.png"
            _picture(view, fresh / name)
            _depth(view, fresh / deep)
            frames.append({
                "file_path": name, "depth_file_path": deep, "transform_matrix": opengl_pose(camera).tolist(),
                "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy,
                "w": camera.width, "h": camera.height,
            })  # fmt: skip
        made: dict[str, Any] = {"camera_model": "OPENCV", "frames": frames, "gensat": place_of(views[0].frame)}
        if points is not None:
            save_points(points, fresh / "points.ply")
            made["ply_file_path"] = "points.ply"
        (fresh / "transforms.json").write_text(json.dumps(made, indent=1), encoding="utf-8")


def save_nerf_synthetic(
    views: Sequence[View], folder: str | os.PathLike[str], *, held_out: int = 8, overwrite: bool = False
) -> None:
    """Writes ``transforms_{train,val,test}.json`` and their pictures as the Blender scenes of NeRF have them, sky transparent.

    Every ``held_out``-th view is for testing (and stands under val too); all views need the same field of view and the middle of
    the picture as principal point, as the format has but one angle.

    Raises:
        InputError: no views, one that is not perspective, or intrinsics that the format cannot say.
    """
    cameras = _perspective(views)
    angles = {round(2 * math.atan(camera.width / 2 / camera.fx), 9) for camera in cameras}
    square = all(math.isclose(c.fx, c.fy) and c.cx == c.width / 2 and c.cy == c.height / 2 for c in cameras)
    if len(angles) > 1 or not square or held_out < 2:
        raise InputError(
            "NeRF-synthetic has one field of view for all pictures, centred, and held_out of 2 or more; export nerfstudio instead"
        )
    with atomic_folder(folder, overwrite) as fresh:
        for split in ("train", "val", "test"):
            chosen = [i for i in range(len(views)) if (i % held_out == 0) == (split != "train")]
            frames = []
            for place, i in enumerate(chosen):
                _picture(views[i], fresh / split / f"r_{place}.png", alpha=True)
                frames.append(
                    {"file_path": f"./{split}/r_{place}", "transform_matrix": opengl_pose(cameras[i]).tolist()}
                )
            made = {"camera_angle_x": angles.copy().pop(), "frames": frames, "gensat": place_of(views[0].frame)}
            (fresh / f"transforms_{split}.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
        (fresh / "gensat.json").write_text(json.dumps(place_of(views[0].frame)), encoding="utf-8")


def save_colmap(
    views: Sequence[View], folder: str | os.PathLike[str], *, points: Points | None = None, overwrite: bool = False
) -> None:
    """Writes ``cameras.txt``, ``images.txt``, ``points3D.txt`` and ``images/``: one PINHOLE camera a picture, no feature tracks.

    Raises:
        InputError: no views, or one that is not perspective.
    """
    cameras = _perspective(views)
    place = [f"# gensat {name}: {json.dumps(value)}" for name, value in place_of(views[0].frame).items()]
    with atomic_folder(folder, overwrite) as fresh:
        intrinsics, poses = list(place), list(place)
        for number, (view, camera) in enumerate(zip(views, cameras, strict=True), start=1):
            name = f"frame_{number - 1:05d}.png"
            _picture(view, fresh / "images" / name)
            sizes = f"{camera.width} {camera.height}"
            intrinsics.append(f"{number} PINHOLE {sizes} {camera.fx!r} {camera.fy!r} {camera.cx!r} {camera.cy!r}")
            x, y, z, w = Rotation.from_matrix(camera.pose[:3, :3]).as_quat()
            moved = " ".join(repr(float(v)) for v in (w, x, y, z, *camera.pose[:3, 3]))
            poses += [f"{number} {moved} {number} {name}", ""]
        rows = list(place)
        if points is not None:
            rgb = np.round(points.colors.clip(0, 1) * 255).astype(int)
            rows += [
                f"{i} {p[0]:.5f} {p[1]:.5f} {p[2]:.5f} {c[0]} {c[1]} {c[2]} 0"
                for i, (p, c) in enumerate(zip(points.positions.tolist(), rgb.tolist(), strict=True), start=1)
            ]
        for name, lines in (("cameras.txt", intrinsics), ("images.txt", poses), ("points3D.txt", rows)):
            (fresh / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _perspective(views: Sequence[View]) -> list[Camera]:
    cameras = [view.camera for view in views if isinstance(view.camera, Camera)]
    if not views or len(cameras) < len(views):
        raise InputError(
            "these formats hold perspective views only, one or more; render with --fov instead of --panorama"
        )
    return cameras


def _picture(view: View, path: Path, alpha: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = view.rgb.detach().float().clamp(0, 1)
    values = (shown * 255).round().byte().cpu().numpy()
    if alpha:
        cover = (view.opacity.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        values = np.concatenate([values, cover[..., None]], axis=2)
    Image.fromarray(values).save(path)


def _depth(view: View, path: Path) -> None:
    """Depth along the viewing axis in millimetres; what is farther than 65.5 m stays 65.535 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metres = view.depth.detach().double().cpu().numpy()
    millimetres = np.where(np.isfinite(metres), np.clip(metres * 1000, 1, 65535), 0).round().astype(np.uint16)
    Image.fromarray(millimetres).save(path)
