"""Facades in files are those of the renderer: a mesh read by trimesh, its texture looked up there, against what the shader says of the same points."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch

from gensat.errors import InputError
from gensat.render.cameras import OrthographicCamera
from gensat.render.copies import find_copies
from gensat.render.export.scene import save_scene
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import surfels_of
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.light import SkyLight, untone
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, WALL, Hits, Rays
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.streets.bake import dress_mesh
from gensat.render.streets.dress import DressedLight
from gensat.render.streets.plan import Item
from gensat.render.streets.scenes import Street
from gensat.render.streets.things import Maker, Solids
from gensat.render.triangles import object_meshes, scene_mesh

SUN = SkyLight(Sky((0.2, -0.5, 0.8)))
TEXELS = 8


@pytest.fixture(scope="module")
def scene():
    """A slope of 1:20 with a block around a courtyard, and two houses that share a wall."""
    grid = Grid.centred(60, 60, 1.0)
    x, _ = grid.centres()
    court = shapely.Polygon([(-20, 2), (4, 2), (4, 22), (-20, 22)], [[(-14, 8), (-14, 16), (-2, 16), (-2, 8)]])
    pair = [shapely.box(0, -20, 10, -12), shapely.box(10, -20, 18, -10)]
    base = [-1.0, 0.0, 0.5]
    blocks = Prisms.of([court, *pair], [12.0, 6.5, 7.0], base)
    image = torch.rand(60, 60, 3, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.2
    ground = HeightField((x / 20).float(), grid)
    return Scene(SceneFrame(None), image, ground, blocks, Objects.none(), torch.ones(60, 60, dtype=torch.int64), grid)


@pytest.fixture(scope="module")
def light(scene):
    return DressedLight(scene, SUN, style="perimeter", seed=5)


def shader_albedo(scene, light, points, normals):
    """What the renderer says of points on walls, each seen along its normal by pixels as large as texels; and which it sees: those above ground."""
    start, along = (torch.from_numpy(np.asarray(v, np.float32)) for v in (points, normals))
    rays = Rays(start + 0.3 * along, -along)
    hits = scene.cast(rays)
    seen = (hits.kind == WALL) & ((hits.t - 0.3).abs() < 1e-3)
    assert (seen | (start[:, 2] < start[:, 0] / 20 + 0.05)).float().mean() > 0.995 and seen.float().mean() > 0.7
    camera = OrthographicCamera.above((0.0, 0.0, 100.0), 1, 1, 1 / TEXELS)
    on = torch.nonzero(seen)[:, 0]
    found = Hits(*(getattr(hits, name)[on] for name in Hits.__dataclass_fields__))
    surfels = surfels_of(scene, camera, Rays(rays.origins[on], rays.directions[on]), found)
    return light.look(scene, surfels).albedo.numpy(), seen.numpy()


def facade_points(read, count=6000):
    """Centres of texels on the walls of a file as trimesh reads it: places and normals as the file has them, and albedo before the gain."""
    import trimesh

    part = next(p for p in read.geometry.values() if "facades" in p.visual.material.name)
    material = part.visual.material
    picture = material.baseColorTexture if hasattr(material, "baseColorTexture") else material.image
    picture = np.asarray(picture.convert("RGB"), np.float64) / 255
    spot, face = trimesh.sample.sample_surface(part, count, seed=1)
    corners = part.visual.uv[part.faces[face]]
    share = trimesh.triangles.points_to_barycentric(part.triangles[face], spot)
    size = np.array(picture.shape[1::-1])
    texel = np.floor(np.einsum("nk,nkd->nd", share, corners) * size).astype(int)
    flat = np.pad(corners, [(0, 0), (0, 0), (0, 1)])
    share = trimesh.triangles.points_to_barycentric(flat, np.pad((texel + 0.5) / size, [(0, 0), (0, 1)]))
    spot = np.einsum("nk,nkd->nd", share, part.triangles[face])
    shown = picture[size[1] - 1 - texel[:, 1], texel[:, 0]]  # v of trimesh runs upward
    return spot, part.face_normals[face], untone(torch.from_numpy(shown)).numpy()


@pytest.mark.parametrize("name", ["a.glb", "a.obj"])
def test_a_file_shows_the_facades_of_the_renderer(scene, light, name, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    save_scene(scene, tmp_path / name, facades=light)
    spot, normal, shown = facade_points(trimesh.load(tmp_path / name))
    if name == "a.glb":  # y is up there
        spot, normal = (np.stack([v[:, 0], -v[:, 2], v[:, 1]], axis=1) for v in (spot, normal))
    ends = (
        np.abs(spot[:, 2] - np.round(spot[:, 2] * 2) / 2) < 1e-3
    )  # a ray along the crease of a roof meets either side
    assert (np.abs(normal[:, 2]) < 1e-6).all()
    shared = (np.abs(spot[:, 0] - 10) < 1e-3) & (spot[:, 1] < -12)  # the party wall is inside of both houses
    free = ~ends & ~shared
    wanted, seen = shader_albedo(scene, light, spot[free], normal[free])
    got = shown[free][seen] * light.picture.gain
    off = np.abs(got - wanted).max(axis=1)
    assert np.median(off) < 0.02 and np.quantile(off, 0.9) < 0.06  # compression, and texels across edges
    moved = np.abs(np.roll(got, 1, axis=0) - wanted).max(axis=1)
    assert np.median(moved) > 4 * np.median(off)  # which another place on the walls does not


def test_a_picture_that_would_be_too_large_gets_fewer_texels(scene, light):
    mesh = scene_mesh(scene)
    fine, coarse = (dress_mesh(mesh, scene.buildings, light, texels=8, largest=n) for n in (4096, 256))
    assert fine.provenance["facades"] == {"texels_per_metre": 8.0, "gain": light.picture.gain, "style": "perimeter"}
    assert max(coarse.skin.image.shape) <= 256 and coarse.provenance["facades"]["texels_per_metre"] < 8
    for made in (fine, coarse):
        used = made.faces[made.skin.faces]
        assert (made.skin.faces == (mesh.kinds == WALL)).all()
        assert made.skin.uv[used].min() >= 0 and made.skin.uv[used].max() <= 1
        texels = np.ptp(made.skin.uv[used], axis=1) * made.skin.image.shape[1::-1]
        metres = np.stack([
            np.linalg.norm(np.ptp(made.vertices[used][..., :2], axis=1), axis=-1), np.ptp(made.vertices[used][..., 2], axis=1)
        ], axis=1)  # fmt: skip
        rate = made.provenance["facades"]["texels_per_metre"]
        assert (np.abs(texels - metres * rate) <= 1 + 1e-6).all()  # whole texels
    with pytest.raises(InputError, match="above 0"):
        dress_mesh(mesh, scene.buildings, light, texels=0)
    with pytest.raises(InputError, match="own buildings"):
        dress_mesh(mesh, replace(scene.buildings, edges=scene.buildings.edges + 3), light)


def test_points_of_a_dressed_mesh_have_its_colours(scene, light):
    mesh = dress_mesh(scene_mesh(scene), scene.buildings, light)
    points = mesh.points(0.7)
    wall = (points.kinds == WALL) & (points.positions[:, 2] < 5.8) & (np.abs(points.positions[:, 0] - 10) > 0.1)
    wanted, seen = shader_albedo(scene, light, points.positions[wall], points.normals[wall])
    shown = untone(torch.from_numpy(points.colors[wall][seen])).numpy() * light.picture.gain
    assert np.median(np.abs(shown - wanted).max(axis=1)) < 0.02 and not points.seen[wall].any()


def test_a_generated_street_goes_into_a_file_with_its_facades(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    street = Street.make("terraces", 3, weather="clear", samples=1, half=60.0)
    save_scene(street.scene, tmp_path / "street.glb", facades=street.light)
    names = {p.visual.material.name for p in trimesh.load(tmp_path / "street.glb").geometry.values()}
    assert {"seen from above", "facades", "invented"} <= names


def wood(count=60, seed=0):
    """Trees of four shapes, with a box among them."""
    solids, rng = Solids(), np.random.default_rng(seed)
    for _ in range(count):
        maker = Maker(solids, lambda x, y: 0.1 * x, lambda *_: 1)
        x, y = rng.uniform(-25, 25, 2)
        item = Item("tree", float(x), float(y), float(rng.uniform(0, 360)), seed=int(rng.integers(4)))
        maker.tree(item, float(rng.uniform(4, 20)), float(rng.uniform(1.5, 4)))
    solids.add(2, "metal", (0, 0, 1), (1, 1, 1), (0.3, 0.3, 0.3))
    return solids.objects()


def test_copies_are_where_the_solids_are():
    objects = wood()
    found, alone = find_copies(objects)
    assert len(found) == 4 and sum(len(copies) for copies in found) == 60 and alone.sum() == 1
    for copies in found:
        centre, half = copies.shape.centre.numpy(), copies.shape.half.numpy()
        for k in range(len(copies)):
            turn, size = np.radians(copies.yaw[k]), copies.scale[k][[0, 0, 1]]
            x, y, z = (centre * size).T
            placed = np.stack([x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn), z], axis=1)
            members = copies.members[k]
            np.testing.assert_allclose(placed + copies.foot[k], objects.centre[members], atol=0.02)
            np.testing.assert_allclose(half * size, objects.half[members], atol=0.02)
    assert find_copies(Objects.none())[0] == []


def test_trees_in_a_file_stand_where_they_are_and_are_held_once(scene, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    pygltflib = pytest.importorskip("pygltflib")
    objects = wood(300)
    leafy = replace(
        objects, colour=torch.where(torch.arange(len(objects))[:, None] % 11 > 0, torch.nan, objects.colour)
    )
    save_scene(replace(scene, objects=leafy), tmp_path / "wood.glb")
    assert (
        tmp_path / "wood.glb"
    ).stat().st_size < 1_500_000  # 300 trees of 10 crowns of 320 triangles would be 7 MB and more
    read = trimesh.load(tmp_path / "wood.glb")
    placed = [p for p in read.dump() if "tree" in p.visual.material.name or "trunk" in p.visual.material.name]
    assert len(placed) == 600
    got = np.concatenate([p.vertices for p in placed])
    meshes = [m for m, shape in zip(object_meshes(leafy), leafy.shape.tolist(), strict=True) if shape != 2]
    wanted = np.concatenate([m.vertices for m in meshes])
    wanted = np.stack([wanted[:, 0], wanted[:, 2], -wanted[:, 1]], axis=1)
    from scipy.spatial import cKDTree

    assert cKDTree(got).query(wanted[::7])[0].max() < 0.9  # crowns of more than a thousand solids are coarser there
    np.testing.assert_allclose(got.min(axis=0), wanted.min(axis=0), atol=0.1)
    np.testing.assert_allclose(got.max(axis=0), wanted.max(axis=0), atol=0.1)
    gltf = pygltflib.GLTF2().load(str(tmp_path / "wood.glb"))
    marks = {m.name.split()[0]: m.extras["gensat"]["seen"] for m in gltf.materials}
    assert marks == {"seen": True, "invented": False, "trees": False, "trunks": False}
    leaves = [m.pbrMetallicRoughness.baseColorFactor[:3] for m in gltf.materials if m.name.startswith("trees")]
    assert len({tuple(c) for c in leaves}) <= 16 and np.ptp(np.array(leaves), axis=0).max() > 0.01


def test_object_kind_is_kept(scene):
    mesh = scene_mesh(replace(scene, objects=wood(5)))
    assert (mesh.kinds == OBJECT).any()
