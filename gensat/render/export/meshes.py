"""Meshes as glTF binary (.glb) and Wavefront OBJ with its material and texture."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gensat.errors import InputError
from gensat.files import check_output, write_bytes
from gensat.render.copies import Copies
from gensat.render.export.gltf import GltfFile, jpeg, png, y_up
from gensat.render.export.place import place_of
from gensat.render.mesh import Mesh

SEEN, FACADES, INVENTED = "seen from above", "facades", "invented"
"""Names of the materials of a mesh."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Copies of one tree, ready to be written.

    Args:
        copies: where they are.
        leaves: mesh of its crown in the frame of its shape.
        stem: mesh of its trunk.
        palette: (c, 3) display colours of crowns.
        colour: (k,) which of them each copy has.
        trunk: display colour of trunks.
    """

    copies: Copies
    leaves: Mesh
    stem: Mesh
    palette: Float[np.ndarray, "c 3"]
    colour: Int[np.ndarray, " k"]
    trunk: Float[np.ndarray, " 3"]


def save_glb(mesh: Mesh, path: str | os.PathLike[str], *, trees: Sequence[Trees] = (), overwrite: bool = False) -> None:
    """Writes glTF 2.0 in one binary file: y up (x east, y up, z south), the image as texture, facades as a second one, other faces by vertex colours.

    Where it lies is in ``scenes[0].extras``: CRS, origin and axes. What is seen from above and what is invented have materials of their own
    (``seen from above``, ``facades``, ``invented``, ``trees ...``), with ``extras.gensat.seen``. Materials are unlit, as the day's light is in the image.

    Args:
        mesh: what there is once.
        path: where to.
        trees: shapes that come many times, each held once and placed by nodes.
        overwrite: whether an existing file is replaced.

    Raises:
        InputError: an empty mesh, or as :func:`gensat.files.check_output`.
        OutputError: the disk is full or the folder not writable.
    """
    path = check_output(path, overwrite)
    _require_faces(mesh)
    file = GltfFile()
    primitives = []
    for name, part in _materials(mesh):
        picture = _picture(name, part)
        material = file.material(
            name,
            seen=name == SEEN,
            texture=None if picture is None else file.texture(picture[0], lossless=name == SEEN),
            roughness=0.9 if name == FACADES else 1.0,
        )
        colours = None
        if name == FACADES and part.skin is not None:
            colours = np.repeat(part.skin.shade[:, None], 3, axis=1)
        elif picture is None and part.colors is not None:
            colours = _linear(part.colors)
        uv = None if picture is None else picture[1]
        primitives.append(
            file.primitive(part.vertices, part.vertex_normals, part.faces, material, uv=uv, colours=colours)
        )
    file.node(file.mesh("scene", primitives), "scene")
    for number, some in enumerate(trees):
        _place(file, some, number)
    facts = {**place_of(mesh.frame, "x east, y up, z south"), "provenance": _plain(mesh.provenance)}
    file.save(path, {"gensat": facts}, overwrite)


def _place(file: GltfFile, trees: Trees, number: int) -> None:
    """A shape, and a node for each of its copies."""
    trunk = file.material(f"trunks {number}", seen=False, colour=tuple(_linear(trees.trunk).tolist()))
    pieces = {}
    for name, mesh in (("leaves", trees.leaves), ("trunk", trees.stem)):
        normals = mesh.vertex_normals
        above = 0.62 + 0.38 * (normals[:, 2:] + 1) / 2  # no light falls on them, so they are darker below
        pieces[name] = file.primitive(mesh.vertices, normals, mesh.faces, trunk, colours=np.repeat(above, 3, axis=1))
    meshes = []
    for k, colour in enumerate(trees.palette):
        leaves = copy.copy(pieces["leaves"])
        leaves.material = file.material(f"trees {number} {k}", seen=False, colour=tuple(_linear(colour).tolist()))
        meshes.append(file.mesh(f"tree {number} {k}", [leaves, pieces["trunk"]]))
    copies = trees.copies
    half = np.radians(-copies.yaw) / 2  # counter-clockwise about the upward axis
    for k, foot in enumerate(y_up(copies.foot).round(3).tolist()):
        across, up = (round(float(v), 4) for v in copies.scale[k])
        turn = [0.0, round(float(np.sin(half[k])), 5), 0.0, round(float(np.cos(half[k])), 5)]
        file.node(meshes[trees.colour[k]], "tree", translation=foot, rotation=turn, scale=[across, up, across])


def save_obj(mesh: Mesh, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes OBJ (z up, local metres), with NAME.mtl and NAME.png beside it, facades in NAME_facades.jpg; the origin and the CRS are in its first lines.

    Raises:
        InputError: an empty mesh, or as :func:`gensat.files.check_output`, for each of the files.
        OutputError: the disk is full or the folder not writable.
    """
    path = Path(path)
    others = [path.with_suffix(".mtl"), path.with_suffix(".png")]
    others += [] if mesh.skin is None else [path.with_name(f"{path.stem}_facades.jpg")]
    for output in (path, *others):
        check_output(output, overwrite)
    _require_faces(mesh)
    facts = place_of(mesh.frame)
    head = [f"# gensat {name}: {json.dumps(value)}" for name, value in facts.items()]
    materials, body, first = [], [], 1
    for name, part in _materials(mesh):
        colors = np.full((len(part.vertices), 3), 1.0) if part.colors is None else part.colors
        picture = _picture(name, part)
        values = np.hstack([part.vertices, colors]) if picture is None else part.vertices
        places = part.uv if picture is None else picture[1]
        uv = np.zeros((len(part.vertices), 2)) if places is None else np.stack([places[:, 0], 1 - places[:, 1]], 1)
        label, shown = name.replace(" ", "_"), others[1 if name == SEEN else -1]
        if picture is not None:
            write_bytes(shown, png(picture[0]) if name == SEEN else jpeg(picture[0]), overwrite)
        materials += [
            f"newmtl {label}",
            "Kd 1 1 1",
            "Ks 0 0 0",
            "illum 1",
            *([] if picture is None else [f"map_Kd {shown.name}"]),
        ]
        body += [f"o {label}", f"usemtl {label}"]
        body += _rows("v", values, 4) + _rows("vt", uv, 7) + _rows("vn", part.vertex_normals, 5)
        body += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in (part.faces + first).tolist()]
        first += len(part.vertices)
    write_bytes(others[0], ("\n".join(materials) + "\n").encode(), overwrite)
    text = "\n".join([*head, f"mtllib {others[0].name}", *body]) + "\n"
    write_bytes(path, text.encode(), overwrite)  # last: an OBJ whose parts are missing would be half-written


def _materials(mesh: Mesh) -> list[tuple[str, Mesh]]:
    none = np.zeros(len(mesh.faces), bool)
    seen = none if mesh.textured is None else mesh.textured
    walls = none if mesh.skin is None else mesh.skin.faces & ~seen
    parts = [(SEEN, seen), (FACADES, walls), (INVENTED, ~seen & ~walls)]
    return [(name, mesh.part(chosen)) for name, chosen in parts if chosen.any()]


def _picture(name: str, part: Mesh) -> tuple[np.ndarray, np.ndarray] | None:
    """The texture of a part and its places in it; None where vertices have colours."""
    if name == SEEN and part.image is not None and part.uv is not None:
        return part.image, part.uv
    return (part.skin.image, part.skin.uv) if name == FACADES and part.skin is not None else None


def _require_faces(mesh: Mesh) -> None:
    if not len(mesh.faces):
        raise InputError("the mesh has no faces, so there is nothing to export; give a scene with a surface")


def _linear(colors: np.ndarray) -> np.ndarray:
    """Display values to linear ones, which vertex colours of glTF are (IEC 61966-2-1)."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _rows(letter: str, values: np.ndarray, digits: int) -> list[str]:
    line = f"{letter} " + " ".join([f"%.{digits}f"] * values.shape[1])
    return [line % tuple(row) for row in values.tolist()]


def _plain(value: Any) -> Any:
    """Provenance as JSON takes it."""
    return json.loads(json.dumps(value, default=str))
