"""glTF 2.0 in one binary file, written piece by piece: pictures, materials, primitives, nodes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gensat.files import atomic_write

_FLOAT, _BYTE, _UINT, _VERTICES, _INDICES = 5126, 5121, 5125, 34962, 34963  # of the glTF specification
_CLAMP = 33071


class GltfFile:
    """A file that is being put together; everything it returns is a number by which glTF refers to it.

    Materials are unlit where the viewer knows that (KHR_materials_unlit), as the light of the day is in the pictures already; else they are rough and no metal.
    """

    def __init__(self) -> None:
        import pygltflib

        self.lib = pygltflib
        self.gltf, self.blob = pygltflib.GLTF2(), bytearray()
        self.gltf.samplers = [pygltflib.Sampler(wrapS=_CLAMP, wrapT=_CLAMP)]

    def _view(self, data: bytes, target: int | None = None) -> int:
        self.blob.extend(b"\0" * (-len(self.blob) % 4))
        view = self.lib.BufferView(buffer=0, byteOffset=len(self.blob), byteLength=len(data), target=target)
        self.gltf.bufferViews.append(view)
        self.blob.extend(data)
        return len(self.gltf.bufferViews) - 1

    def accessor(self, values: np.ndarray, kind: str, *, bounds: bool = False) -> int:
        """Numbers: uint32 are indices, uint8 shares of 255, float32 themselves."""
        code = {np.dtype(np.uint32): _UINT, np.dtype(np.uint8): _BYTE, np.dtype(np.float32): _FLOAT}[values.dtype]
        made = self.lib.Accessor(
            bufferView=self._view(np.ascontiguousarray(values).tobytes(), _INDICES if code == _UINT else _VERTICES),
            componentType=code,
            normalized=code == _BYTE,
            count=values.size if code == _UINT else len(values),
            type=kind,
        )
        if bounds:
            made.min, made.max = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        self.gltf.accessors.append(made)
        return len(self.gltf.accessors) - 1

    def texture(self, image: np.ndarray, *, lossless: bool = True) -> int:
        """A picture (h, w, 3) uint8, as PNG or JPEG."""
        data, kind = (png(image), "image/png") if lossless else (jpeg(image), "image/jpeg")
        self.gltf.images.append(self.lib.Image(bufferView=self._view(data), mimeType=kind))
        self.gltf.textures.append(self.lib.Texture(source=len(self.gltf.images) - 1, sampler=0))
        return len(self.gltf.textures) - 1

    def material(
        self,
        name: str,
        *,
        seen: bool,
        texture: int | None = None,
        colour: tuple[float, float, float] = (1.0, 1.0, 1.0),
        roughness: float = 1.0,
    ) -> int:
        """How a surface looks; ``colour`` is linear; ``extras.gensat.seen`` says whether a satellite image shows it."""
        surface = self.lib.PbrMetallicRoughness(
            metallicFactor=0.0, roughnessFactor=roughness, baseColorFactor=[*colour, 1.0]
        )
        if texture is not None:
            surface.baseColorTexture = self.lib.TextureInfo(index=texture)
        extras = {"gensat": {"seen": seen}}
        self.gltf.materials.append(
            self.lib.Material(
                name=name,
                pbrMetallicRoughness=surface,
                doubleSided=False,
                extensions={"KHR_materials_unlit": {}},
                extras=extras,
            )
        )
        return len(self.gltf.materials) - 1

    def primitive(
        self,
        vertices: np.ndarray,
        normals: np.ndarray,
        faces: np.ndarray,
        material: int,
        *,
        uv: np.ndarray | None = None,
        colours: np.ndarray | None = None,
    ) -> Any:
        """Triangles of one material; vertices and normals z up, ``colours`` linear in [0, 1], multiplied with the material's."""
        attributes = self.lib.Attributes(
            POSITION=self.accessor(y_up(vertices), "VEC3", bounds=True), NORMAL=self.accessor(y_up(normals), "VEC3")
        )
        if uv is not None:
            attributes.TEXCOORD_0 = self.accessor(uv.astype(np.float32), "VEC2")
        if colours is not None:
            attributes.COLOR_0 = self.accessor(colours.astype(np.float32), "VEC3")
        indices = self.accessor(faces.astype(np.uint32), "SCALAR")
        return self.lib.Primitive(attributes=attributes, indices=indices, material=material)

    def mesh(self, name: str, primitives: list[Any]) -> int:
        """Primitives that are placed together."""
        self.gltf.meshes.append(self.lib.Mesh(primitives=primitives, name=name))
        return len(self.gltf.meshes) - 1

    def node(self, mesh: int, name: str, **placed: Any) -> None:
        """A mesh in the scene; ``placed``: translation, rotation, scale, as glTF has them (y up)."""
        self.gltf.nodes.append(self.lib.Node(mesh=mesh, name=name, **placed))

    def save(self, path: str | os.PathLike[str], extras: Mapping[str, Any], overwrite: bool) -> None:
        """Writes all of it, or nothing."""
        gltf, lib = self.gltf, self.lib
        gltf.scene, gltf.scenes = 0, [lib.Scene(nodes=list(range(len(gltf.nodes))), extras=dict(extras))]
        gltf.extensionsUsed = ["KHR_materials_unlit"]
        gltf.asset = lib.Asset(version="2.0", generator="gensat")
        gltf.buffers = [lib.Buffer(byteLength=len(self.blob))]
        if not gltf.textures:
            gltf.samplers = []
        gltf.set_binary_blob(bytes(self.blob))
        with atomic_write(Path(path), overwrite) as part_path:
            part_path.write_bytes(b"".join(gltf.save_to_bytes()))


def y_up(vectors: np.ndarray) -> np.ndarray:
    """x east, y north, z up as x east, y up, z south."""
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1).astype(np.float32)


def png(image: np.ndarray) -> bytes:
    """A picture without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image: np.ndarray) -> bytes:
    """A picture with little loss: quality 85, colours as fine as brightness."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85, subsampling=0)
    return buffer.getvalue()
