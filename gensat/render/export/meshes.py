"""Meshes as glTF binary (.glb) and Wavefront OBJ with its material and texture."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gensat.errors import InputError
from gensat.files import atomic_write, check_output, write_bytes
from gensat.render.export.place import place_of
from gensat.render.mesh import Mesh

_FLOAT, _UINT, _VERTICES, _INDICES = 5126, 5125, 34962, 34963  # of the glTF specification


def save_glb(mesh: Mesh, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes glTF 2.0 in one binary file: y up (x east, y up, z south), the image as texture, other faces by vertex colours.

    Materials are unlit where the viewer knows that (KHR_materials_unlit), as the light of the day is in the image already. Where it lies is in ``scenes[0].extras``: CRS, origin and axes. What is seen from above and what is invented are two
    primitives, with the materials ``seen from above`` and ``invented``.

    Raises:
        InputError: an empty mesh, or as :func:`gensat.files.check_output`.
        OutputError: the disk is full or the folder not writable.
    """
    import pygltflib

    path = check_output(path, overwrite)
    _require_faces(mesh)
    gltf, blob = pygltflib.GLTF2(), bytearray()

    def view(data: bytes, target: int | None = None) -> int:
        blob.extend(b"\0" * (-len(blob) % 4))
        gltf.bufferViews.append(
            pygltflib.BufferView(buffer=0, byteOffset=len(blob), byteLength=len(data), target=target)
        )
        blob.extend(data)
        return len(gltf.bufferViews) - 1

    def accessor(values: np.ndarray, kind: str, *, bounds: bool = False) -> int:
        whole = values.dtype == np.uint32
        made = pygltflib.Accessor(
            bufferView=view(np.ascontiguousarray(values).tobytes(), _INDICES if whole else _VERTICES),
            componentType=_UINT if whole else _FLOAT,
            count=values.size if whole else len(values),
            type=kind,
        )
        if bounds:
            made.min, made.max = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        gltf.accessors.append(made)
        return len(gltf.accessors) - 1

    primitives = []
    for name, part in _materials(mesh):
        surface = pygltflib.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=1.0)
        attributes = pygltflib.Attributes(
            POSITION=accessor(_y_up(part.vertices), "VEC3", bounds=True),
            NORMAL=accessor(_y_up(part.vertex_normals), "VEC3"),
        )
        if name == "seen from above" and part.image is not None and part.uv is not None:
            attributes.TEXCOORD_0 = accessor(part.uv.astype(np.float32), "VEC2")
            picture = pygltflib.Image(bufferView=view(_png(part.image)), mimeType="image/png")
            gltf.images, gltf.samplers = [picture], [pygltflib.Sampler(wrapS=33071, wrapT=33071)]  # clamped
            gltf.textures = [pygltflib.Texture(source=0, sampler=0)]
            surface.baseColorTexture = pygltflib.TextureInfo(index=0)
        elif part.colors is not None:
            attributes.COLOR_0 = accessor(_linear(part.colors).astype(np.float32), "VEC3")
        gltf.materials.append(
            pygltflib.Material(
                name=name, pbrMetallicRoughness=surface, doubleSided=False, extensions={"KHR_materials_unlit": {}}
            )
        )
        indices = accessor(part.faces.astype(np.uint32), "SCALAR")
        primitives.append(pygltflib.Primitive(attributes=attributes, indices=indices, material=len(gltf.materials) - 1))
    gltf.meshes = [pygltflib.Mesh(primitives=primitives, name="scene")]
    gltf.nodes, gltf.scene = [pygltflib.Node(mesh=0, name="scene")], 0
    facts = {**place_of(mesh.frame, "x east, y up, z south"), "provenance": _plain(mesh.provenance)}
    gltf.scenes = [pygltflib.Scene(nodes=[0], extras={"gensat": facts})]
    gltf.extensionsUsed = ["KHR_materials_unlit"]
    gltf.asset = pygltflib.Asset(version="2.0", generator="gensat")
    gltf.buffers = [pygltflib.Buffer(byteLength=len(blob))]
    gltf.set_binary_blob(bytes(blob))
    with atomic_write(path, overwrite) as part_path:
        part_path.write_bytes(b"".join(gltf.save_to_bytes()))


def save_obj(mesh: Mesh, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes OBJ (z up, local metres), with NAME.mtl and NAME.png beside it; the origin and the CRS are in its first lines.

    Raises:
        InputError: an empty mesh, or as :func:`gensat.files.check_output`, for each of the three files.
        OutputError: the disk is full or the folder not writable.
    """
    path = Path(path)
    others = [path.with_suffix(".mtl"), path.with_suffix(".png")]
    for output in (path, *others):
        check_output(output, overwrite)
    _require_faces(mesh)
    facts = place_of(mesh.frame)
    head = [f"# gensat {name}: {json.dumps(value)}" for name, value in facts.items()]
    materials, body, first = [], [], 1
    textured = False
    for name, part in _materials(mesh):
        colors = np.full((len(part.vertices), 3), 1.0) if part.colors is None else part.colors
        seen = name == "seen from above" and part.image is not None
        textured |= seen
        values = part.vertices if seen else np.hstack([part.vertices, colors])
        uv = np.zeros((len(part.vertices), 2)) if part.uv is None else np.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
        label = name.replace(" ", "_")
        materials += [
            f"newmtl {label}",
            "Kd 1 1 1",
            "Ks 0 0 0",
            "illum 1",
            *([f"map_Kd {others[1].name}"] if seen else []),
        ]
        body += [f"o {label}", f"usemtl {label}"]
        body += _rows("v", values, 4) + _rows("vt", uv, 7) + _rows("vn", part.vertex_normals, 5)
        body += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in (part.faces + first).tolist()]
        first += len(part.vertices)
    if textured and mesh.image is not None:
        write_bytes(others[1], _png(mesh.image), overwrite)
    write_bytes(others[0], ("\n".join(materials) + "\n").encode(), overwrite)
    text = "\n".join([*head, f"mtllib {others[0].name}", *body]) + "\n"
    write_bytes(path, text.encode(), overwrite)  # last: an OBJ whose parts are missing would be half-written


def _materials(mesh: Mesh) -> list[tuple[str, Mesh]]:
    seen = np.zeros(len(mesh.faces), bool) if mesh.textured is None else mesh.textured
    parts = [("seen from above", seen), ("invented", ~seen)]
    return [(name, mesh.part(chosen)) for name, chosen in parts if chosen.any()]


def _require_faces(mesh: Mesh) -> None:
    if not len(mesh.faces):
        raise InputError("the mesh has no faces, so there is nothing to export; give a scene with a surface")


def _y_up(vectors: np.ndarray) -> np.ndarray:
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1).astype(np.float32)


def _linear(colors: np.ndarray) -> np.ndarray:
    """Display values to linear ones, which vertex colours of glTF are (IEC 61966-2-1)."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _rows(letter: str, values: np.ndarray, digits: int) -> list[str]:
    line = f"{letter} " + " ".join([f"%.{digits}f"] * values.shape[1])
    return [line % tuple(row) for row in values.tolist()]


def _plain(value: Any) -> Any:
    """Provenance as JSON takes it."""
    return json.loads(json.dumps(value, default=str))
