"""A scene as a file, by the name of the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from gensat.errors import InputError
from gensat.files import check_output
from gensat.render.export.meshes import save_glb, save_obj
from gensat.render.export.points import save_dsm, save_points
from gensat.render.export.splats import save_splats
from gensat.render.scene import Scene
from gensat.render.splats import Splats
from gensat.render.triangles import scene_mesh, scene_points

KINDS = {
    ".glb": "mesh, glTF 2.0 binary",
    ".obj": "mesh, Wavefront OBJ with .mtl and .png",
    ".splats.ply": "Gaussian splats, 3DGS PLY",
    ".ply": "points, local metres",
    ".las": "points, true coordinates",
    ".laz": "points, true coordinates, compressed",
    ".tif": "surface heights on the image's grid",
}
"""What :func:`save_scene` writes, by how the name ends."""


_FLAT = 0.05  # metres by which the terrain of a mesh may be off


def save_scene(
    scene: Scene, path: str | os.PathLike[str], *, spacing: float | int | None = None, overwrite: bool = False
) -> str:
    """Writes a scene as what the name of the file says (:data:`KINDS`) and returns what that was.

    Args:
        scene: what there is.
        path: where to.
        spacing: metres between points or splats; the pixel of the image if not given.

    Raises:
        InputError: another ending, a spacing that cannot be, or as :func:`gensat.files.check_output`.
        OutputError: the disk is full or the folder not writable.
    """
    path = check_output(path, overwrite)
    kind = next((end for end in KINDS if path.name.lower().endswith(end)), None)
    if kind is None:
        raise InputError(f"{path.name} is no export; end it with one of {', '.join(KINDS)}")
    apart = scene.grid.step if spacing is None else spacing
    if kind == ".glb":
        save_glb(scene_mesh(scene, tolerance=_FLAT), path, overwrite=overwrite)
    elif kind == ".obj":
        save_obj(scene_mesh(scene, tolerance=_FLAT), path, overwrite=overwrite)
    elif kind == ".splats.ply":
        save_splats(Splats.from_scene(scene, apart), path, overwrite=overwrite)
    elif kind == ".tif":
        _save_surface(scene, path, overwrite)
    else:
        save_points(scene_points(scene, apart), path, overwrite=overwrite)
    return KINDS[kind]


def _save_surface(scene: Scene, path: Path, overwrite: bool) -> None:
    x, y = scene.grid.centres(scene.image.device)
    heights = scene.surface_at(x.to(scene.image.dtype), y.to(scene.image.dtype)).double().cpu().numpy()
    heights = np.where(np.isfinite(heights), heights, np.nan)
    save_dsm(heights, scene.grid, scene.frame, path, provenance=dict(scene.provenance), overwrite=overwrite)
