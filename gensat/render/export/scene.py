"""A scene as a file, by the name of the file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

from gensat.errors import InputError
from gensat.files import check_output
from gensat.render.copies import Copies, find_copies
from gensat.render.export.meshes import Trees, save_glb, save_obj
from gensat.render.export.points import save_dsm, save_points
from gensat.render.export.splats import save_splats
from gensat.render.gbuffers import sample_image
from gensat.render.mesh import Mesh, joined
from gensat.render.objects import Objects
from gensat.render.scene import Scene
from gensat.render.splats import Splats
from gensat.render.streets.bake import dress_mesh
from gensat.render.streets.look import StreetLight
from gensat.render.triangles import object_meshes, scene_mesh, scene_points

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


_COLOURS = 16  # of crowns in a file
_FLAT = 0.15  # metres by which the terrain of a mesh may be off


def save_scene(
    scene: Scene,
    path: str | os.PathLike[str],
    *,
    facades: StreetLight | None = None,
    spacing: float | int | None = None,
    overwrite: bool = False,
) -> str:
    """Writes a scene as what the name of the file says (:data:`KINDS`) and returns what that was.

    Args:
        scene: what there is.
        path: where to.
        facades: what the walls of meshes look like (:func:`gensat.render.streets.bake.dress_mesh`); None leaves them plain.
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
        trees, alone = _trees(scene)
        save_glb(_mesh(replace(scene, objects=alone), facades), path, trees=trees, overwrite=overwrite)
    elif kind == ".obj":
        save_obj(_mesh(scene, facades), path, overwrite=overwrite)
    elif kind == ".splats.ply":
        save_splats(Splats.from_scene(scene, apart), path, overwrite=overwrite)
    elif kind == ".tif":
        _save_surface(scene, path, overwrite)
    else:
        save_points(scene_points(scene, apart), path, overwrite=overwrite)
    return KINDS[kind]


def _mesh(scene: Scene, facades: StreetLight | None) -> Mesh:
    mesh = scene_mesh(scene, tolerance=_FLAT)
    return mesh if facades is None else dress_mesh(mesh, scene.buildings, facades)


def _trees(scene: Scene) -> tuple[list[Trees], Objects]:
    """Trees that repeat, in few colours, and the other objects."""
    found, alone = find_copies(scene.objects)
    if not found:
        return [], scene.objects
    colours = np.concatenate([_crowns(scene, copies) for copies in found])
    palette, which = kmeans2(colours, min(_COLOURS, len(colours)), minit="++", seed=0)
    made, begin = [], 0
    for copies in found:
        stem, *leaves = object_meshes(copies.shape, scene.frame)
        used, own = np.unique(which[begin : begin + len(copies)], return_inverse=True)
        bark = copies.shape.colour[0].double().cpu().numpy()
        made.append(Trees(copies, joined(leaves), stem, palette[used].clip(0, 1), own, bark))
        begin += len(copies)
    kept = torch.from_numpy(np.flatnonzero(alone)).to(scene.objects.shape.device)
    return made, Objects(**{name: getattr(scene.objects, name)[kept] for name in Objects.__dataclass_fields__})


def _crowns(scene: Scene, copies: Copies) -> np.ndarray:
    """(k, 3) mean display colour of the solids of each crown: their own, or the image's above their middle."""
    solids = torch.from_numpy(copies.members[:, 1:]).to(scene.objects.shape.device)
    own, middle = scene.objects.colour[solids], scene.objects.centre[solids]
    pictured = sample_image(scene, middle[..., 0].reshape(-1), middle[..., 1].reshape(-1)).reshape(own.shape)
    shown = torch.where(torch.isnan(own), pictured.to(own), own)
    return shown.mean(dim=1).detach().double().cpu().numpy()


def _save_surface(scene: Scene, path: Path, overwrite: bool) -> None:
    x, y = scene.grid.centres(scene.image.device)
    heights = scene.surface_at(x.to(scene.image.dtype), y.to(scene.image.dtype)).double().cpu().numpy()
    heights = np.where(np.isfinite(heights), heights, np.nan)
    save_dsm(heights, scene.grid, scene.frame, path, provenance=dict(scene.provenance), overwrite=overwrite)
