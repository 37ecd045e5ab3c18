"""Meshes are opened by readers that we did not write, and are where and what they should be."""

import json

import numpy as np
import pytest
from export_toys import village_mesh
from solid_toys import FRAME

from gensat.render.export.meshes import save_glb, save_obj
from gensat.render.export.place import frame_of
from gensat.render.triangles import sphere_mesh


@pytest.fixture(scope="module")
def mesh():
    return village_mesh()


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
