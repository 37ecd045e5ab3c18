"""Meshes: closed, wound outward, of the right area and volume, and points spread evenly over them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial import cKDTree
from solid_toys import HOUSE, village

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, LOW_VEGETATION, ROAD, WATER, WOODLAND
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.mesh import Mesh, joined
from gensat.render.objects import Objects
from gensat.render.rays import OBJECT, ROOF, TERRAIN, WALL, Rays
from gensat.render.triangles import (
    column_mesh,
    cone_mesh,
    grid_mesh,
    height_mesh,
    object_meshes,
    prism_mesh,
    scene_mesh,
    scene_points,
    sphere_mesh,
    wedge_mesh,
)


def volume(mesh):
    """By the divergence theorem: positive only where faces are wound outward."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.einsum("fd,fd->", a, np.cross(b, c)) / 6


def is_closed(mesh):
    """Every edge is used once in each direction (vertices at the same place are one)."""
    _, number = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    edges = number[np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])]
    kept = edges[edges[:, 0] != edges[:, 1]]
    return sorted(map(tuple, kept)) == sorted(map(tuple, kept[:, ::-1]))


def test_sphere_normals_point_from_the_centre():
    mesh = sphere_mesh((1.0, -2.0, 3.0), 5.0, 4)
    outward = (mesh.vertices - [1, -2, 3]) / 5
    cosine = np.einsum("vd,vd->v", mesh.vertex_normals, outward)
    assert math.degrees(math.acos(cosine.min())) < 0.5
    middles = mesh.vertices[mesh.faces].mean(axis=1) - [1, -2, 3]
    cosine = np.einsum("fd,fd->f", mesh.face_normals, middles / np.linalg.norm(middles, axis=1, keepdims=True))
    assert math.degrees(math.acos(cosine.min())) < 1.0
    assert len(mesh.vertices) == 10 * 4**4 + 2 and is_closed(mesh)
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 125, rel=0.005)


@pytest.mark.parametrize(
    "body,size",
    [
        (wedge_mesh(), 8.0),
        (wedge_mesh(1.0, 0.0), 4.0),
        (wedge_mesh(0.5, 0.5), 14 / 3),
        (cone_mesh(1.0), 2 * 12 * math.sin(math.pi / 12)),
        (cone_mesh(0.0), 8 * math.sin(math.pi / 12)),
    ],
)
def test_solids_are_closed_and_have_their_volume(body, size):
    assert is_closed(body)
    assert volume(body) == pytest.approx(size, rel=1e-9)


def test_prism_with_a_courtyard():
    mesh = prism_mesh(HOUSE, 1.0, 8.0, index=4)
    area, around = HOUSE.area, HOUSE.exterior.length + HOUSE.interiors[0].length
    walls, roof = mesh.kinds == WALL, mesh.kinds == ROOF
    assert mesh.areas[roof].sum() == pytest.approx(area) and mesh.areas[walls].sum() == pytest.approx(around * 7)
    assert (mesh.face_normals[roof] == [0, 0, 1]).all() and np.abs(mesh.face_normals[walls][:, 2]).max() == 0
    floor = mesh.part(roof)
    floor.vertices[:, 2], floor.faces = 1.0, floor.faces[:, ::-1]
    whole = joined([mesh, floor])
    assert is_closed(whole) and volume(whole) == pytest.approx(area * 7)
    # walls look away from the building, also in the courtyard
    middle = mesh.vertices[mesh.faces[walls]].mean(axis=1) + 0.01 * mesh.face_normals[walls]
    assert not shapely.contains_xy(HOUSE, middle[:, 0], middle[:, 1]).any()
    assert (mesh.index == 4).all()


def test_prism_of_a_concave_footprint_and_of_several_parts():
    star = shapely.Polygon(
        [
            (10 * r * math.cos(a), 10 * r * math.sin(a))
            for k in range(10)
            for r, a in [((1, 0.4)[k % 2], k * math.pi / 5)]
        ]
    )
    mesh = prism_mesh(star, 0.0, 1.0)
    roof = mesh.kinds == ROOF
    assert mesh.areas[roof].sum() == pytest.approx(star.area)
    both = prism_mesh(shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 7, 7)]), 0.0, 1.0)
    assert both.areas[both.kinds == ROOF].sum() == pytest.approx(5)
    with pytest.raises(InputError, match="no area"):
        prism_mesh(shapely.Polygon([(0, 0), (1, 1), (2, 2)]), 0, 1)


def test_walls_reach_down_to_a_sloping_ground():
    mesh = prism_mesh(shapely.box(0, 0, 4, 4), lambda x, y: 0.5 * x, 10.0)
    feet = mesh.vertices[mesh.vertices[:, 2] < 9]
    np.testing.assert_allclose(feet[:, 2], 0.5 * feet[:, 0])


def test_grid_is_the_plane_through_its_heights():
    x, y = np.linspace(0, 6, 7), np.linspace(5, 0, 6)
    mesh = grid_mesh(x, y, 2 + 0.3 * x[None] - 0.4 * y[:, None])
    normal = np.array([-0.3, 0.4, 1]) / math.sqrt(1.25)
    np.testing.assert_allclose(mesh.face_normals, np.tile(normal, (60, 1)), atol=1e-12)
    assert mesh.areas.sum() == pytest.approx(30 * math.sqrt(1.25))
    holed = np.zeros((6, 7))
    holed[2, 3] = np.nan
    assert len(grid_mesh(x, y, holed).faces) == 60 - 6 and np.isfinite(grid_mesh(x, y, holed).vertices).all()


def test_columns_have_level_tops_and_walls_where_they_differ():
    z = np.array([[1.0, 3.0, 3.0], [1.0, np.nan, 2.0]])
    mesh = column_mesh(np.arange(4.0), np.array([2.0, 1.0, 0.0]), z)
    walls = mesh.kinds == WALL
    assert mesh.areas[~walls].sum() == 5 and mesh.areas[walls].sum() == 2 + 1
    middle = mesh.vertices[mesh.faces].mean(axis=1)
    west = walls & (mesh.face_normals[:, 0] == -1)  # of the 3 m cell, over the 1 m one
    south = walls & (mesh.face_normals[:, 1] == -1)  # of the 3 m cell, over the 2 m one
    assert west.sum() == south.sum() == 2 and walls.sum() == 4
    assert (middle[west, 0] == 1).all() and (middle[south, 1] == 1).all()


def test_points_are_spread_evenly():
    mesh = joined([prism_mesh(HOUSE, 0.0, 8.0), sphere_mesh((20, 0, 5), 4, 2)])
    points = mesh.points(0.25)
    assert len(points) == pytest.approx(mesh.areas.sum() / 0.25**2, rel=0.05)
    np.testing.assert_allclose(np.linalg.norm(points.normals, axis=1), 1)
    roof = points.part(points.kinds == ROOF)
    assert shapely.contains_xy(HOUSE.buffer(1e-9), roof.positions[:, 0], roof.positions[:, 1]).all()
    near = cKDTree(roof.positions).query(roof.positions, k=2)[0][:, 1]
    assert near.min() >= 0.75 * 0.25
    anywhere = np.random.default_rng(1).uniform((-6, -5), (6, 5), (20000, 2))
    anywhere = anywhere[shapely.contains_xy(HOUSE, *anywhere.T)]
    holes = cKDTree(roof.positions[:, :2]).query(anywhere)[0]
    assert holes.max() < 1.3 * 0.25 and holes.mean() < 0.45 * 0.25
    np.testing.assert_array_equal(points.positions, mesh.points(0.25).positions)
    for wrong in (0.0, float("nan"), -1.0, 1e-5):
        with pytest.raises(InputError, match="spacing"):
            mesh.points(wrong)


def test_a_scene_becomes_one_mesh_under_its_image():
    scene = village()
    mesh = scene_mesh(scene)
    assert set(mesh.kinds) == {TERRAIN, ROOF, WALL, OBJECT}
    assert mesh.areas[mesh.kinds == TERRAIN].sum() == pytest.approx(32 * 32, rel=2e-3)
    left, bottom, right, top = scene.grid.bounds
    ground = mesh.part(mesh.kinds == TERRAIN)
    assert (ground.vertices[:, :2].min(axis=0) == [left, bottom]).all() and (
        ground.vertices[:, :2].max(axis=0) == [right, top]
    ).all()
    inner = np.abs(ground.vertices[:, 0]) < 15
    np.testing.assert_allclose(ground.vertices[inner, 2], 0.05 * ground.vertices[inner, 0], atol=1e-6)
    np.testing.assert_allclose(mesh.uv, np.stack([(mesh.vertices[:, 0] + 16) / 32, (16 - mesh.vertices[:, 1]) / 32], 1))
    assert (mesh.textured == ((mesh.kinds == TERRAIN) | (mesh.kinds == ROOF))).all()
    kinds = {k: set(mesh.classes[mesh.kinds == k]) for k in (TERRAIN, ROOF, WALL, OBJECT)}
    assert kinds == {TERRAIN: {LOW_VEGETATION, ROAD, BUILDING}, ROOF: {BUILDING}, WALL: {BUILDING}, OBJECT: {WOODLAND}}
    tree = mesh.part((mesh.kinds == OBJECT) & (mesh.index == 0))
    np.testing.assert_allclose((tree.vertices.max(axis=0) + tree.vertices.min(axis=0)) / 2, [11, 9, 5], atol=1e-6)
    assert volume(tree) == pytest.approx(4 / 3 * math.pi * 12, rel=0.04)  # 320 triangles inside of it


def test_points_of_a_scene_are_what_can_be_seen():
    points = scene_points(village(), 0.5)
    ground = points.kinds == TERRAIN
    xy = points.positions[:, :2]
    assert not shapely.contains_xy(HOUSE, xy[ground, 0], xy[ground, 1]).any()
    roof = points.kinds == ROOF
    np.testing.assert_allclose(points.colors[roof][:, 0].mean(), 0.7, atol=0.02)
    under_tree = ground & (np.hypot(xy[:, 0] - 11, xy[:, 1] - 9) < 1.9)
    assert under_tree.any() and not points.seen[under_tree].any()
    assert points.seen[ground & (xy[:, 1] < 0)].all() and not points.seen[points.kinds == WALL].any()


def test_columns_of_a_scene_are_exact():
    scene = village(surface="columns")
    mesh = scene_mesh(scene, image=False)
    tops = (mesh.kinds == TERRAIN) & (mesh.face_normals[:, 2] == 1)
    assert mesh.areas[tops].sum() == pytest.approx(32 * 32)
    assert not mesh.textured.any() and mesh.image is None
    assert isinstance(mesh, Mesh)


def test_objects_are_where_the_renderer_meets_them():
    """Every middle of a face of the solids' meshes is where a ray along its normal hits (crowns within their facets)."""
    half = torch.tensor([[3.0, 2.0, 1.5]])
    solids = [
        Objects.boxes(torch.tensor([[0.0, 0, 2]]), half, yaw=20.0),
        Objects.gables(torch.tensor([[20.0, 0, 2]]), half, yaw=-35.0),
        Objects.hips(torch.tensor([[40.0, 0, 2]]), half, yaw=70.0, taper=0.2),
        Objects.cones(torch.tensor([[60.0, 0, 2]]), half[:, [1, 1, 2]], taper=0.4),
        Objects.ellipsoids(torch.tensor([[80.0, 0, 2]]), half, yaw=10.0),
    ]
    for solid, tolerance in zip(solids, (1e-4, 1e-4, 1e-4, 0.02, 0.07), strict=True):
        (mesh,) = object_meshes(solid)
        assert is_closed(mesh) and volume(mesh) > 0
        middle = torch.from_numpy(mesh.vertices[mesh.faces].mean(axis=1)).float()
        normal = torch.from_numpy(mesh.face_normals).float()
        hits = solid.cast(Rays(middle + normal, -normal))
        assert float((hits.t - 1).abs().max()) < tolerance
        assert float((hits.normal * normal).sum(-1).min()) > 0.97


def test_trees_of_the_image_take_its_colours():
    scene = village()
    trees = Objects.ellipsoids(
        torch.tensor([[11.0, 9.0, 5.0]]), torch.tensor([[2.0, 2.0, 3.0]]), colour=(math.nan,) * 3
    )
    mesh = scene_mesh(replace(scene, objects=trees))
    crown = mesh.kinds == OBJECT
    assert mesh.textured[crown].all() and np.isfinite(mesh.colors).all()
    assert not scene_mesh(replace(scene, objects=trees), image=False).textured.any()


def test_smooth_terrain_needs_few_triangles():
    """Within the tolerance nearly everywhere, edges and corners kept; a plane needs next to nothing, noise everything."""
    grid = Grid.centred(65, 80, 0.5)
    x, y = grid.centres()
    for heights, most in ((0.1 * x + 0.05 * y, 400), (torch.sin(x / 12) + torch.cos(y / 9), 1800)):
        field = HeightField(heights.float(), grid, "bilinear", None)
        whole, thin = height_mesh(field), height_mesh(field, tolerance=0.05)
        assert len(thin.faces) < most < len(whole.faces)
        np.testing.assert_array_equal(thin.vertices.min(0)[:2], whole.vertices.min(0)[:2])
        np.testing.assert_array_equal(thin.vertices.max(0)[:2], whole.vertices.max(0)[:2])
        columns, rows = (np.unique(thin.vertices[:, k]) for k in (0, 1))
        order = np.lexsort((thin.vertices[:, 0], thin.vertices[:, 1]))
        table = thin.vertices[order, 2].reshape(len(rows), len(columns))
        found = RegularGridInterpolator((rows, columns), table)(whole.vertices[:, [1, 0]])
        off = np.abs(found - whole.vertices[:, 2])
        assert np.quantile(off, 0.99) <= 0.05 + 1e-6 and off.max() <= 1
    rough = HeightField(
        torch.rand(16, 16, generator=torch.Generator().manual_seed(0)), Grid.centred(16, 16, 1.0), "bilinear"
    )
    assert len(height_mesh(rough, tolerance=0.05).faces) == len(height_mesh(rough).faces)


def test_water_lies_over_the_ground():
    scene = village()
    x, _ = scene.grid.centres()
    wet = torch.where(x < -10, 0.3, math.nan).float()
    mesh = scene_mesh(replace(scene, water=wet))
    flood = mesh.classes == WATER
    assert mesh.areas[flood].sum() == pytest.approx(6 * 32)
    np.testing.assert_allclose(mesh.vertices[mesh.faces[flood], 2], 0.3, atol=1e-6)
    assert mesh.textured[flood].all()


def brute_force(mesh, origins, directions):
    """Distance to the nearest triangle of each ray (Moeller and Trumbore 1997), every ray against every face."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    p = np.cross(directions[:, None], (c - a)[None])
    determinant = np.einsum("fd,nfd->nf", b - a, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = origins[:, None] - a[None]
        u = np.einsum("nfd,nfd->nf", s, p) / determinant
        q = np.cross(s, (b - a)[None])
        v = np.einsum("nd,nfd->nf", directions, q) / determinant
        t = np.einsum("fd,nfd->nf", c - a, q) / determinant
    met = (np.abs(determinant) > 1e-12) & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0)
    return np.where(met, t, np.inf).min(axis=1)


@pytest.mark.parametrize("surface", ["bilinear", "columns"])
def test_rays_meet_the_mesh_where_they_meet_the_scene(surface):
    scene = replace(village(16, 2.0, surface=surface), objects=Objects.none())
    draw = np.random.default_rng(3)
    origins = np.column_stack([draw.uniform(-14, 14, (400, 2)), draw.uniform(10, 20, 400)])
    directions = draw.normal(size=(400, 3)) * [0.5, 0.5, 0.2] - [0, 0, 0.7]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    wanted = brute_force(scene_mesh(scene), origins, directions)
    hits = scene.cast(Rays(torch.from_numpy(origins).float(), torch.from_numpy(directions).float()))
    left, bottom, right, top = scene.grid.bounds
    t, kind = hits.t.numpy().astype(np.float64), hits.kind.numpy()
    met = np.isfinite(t)
    end = origins + np.where(met, t, 0)[:, None] * directions
    inner = met & (end[:, 0] > left + 0.1) & (end[:, 0] < right - 0.1)
    inner &= (end[:, 1] > bottom + 0.1) & (end[:, 1] < top - 0.1)
    assert inner.sum() > 150 and set(kind[inner]) == {TERRAIN, ROOF, WALL}
    assert (
        np.abs(t[inner] - wanted[inner]) < 1e-3
    ).mean() > 0.99  # one in a hundred may pass an edge on its other side
