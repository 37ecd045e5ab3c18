"""Surfaces as triangles: terrain, cell columns, prisms with courtyards, solids, and whole scenes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
import torch
from jaxtyping import Float
from scipy.interpolate import interp1d

from gensat.errors import InputError
from gensat.geo.classes import WATER
from gensat.render.cameras import OrthographicCamera
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import Surfels, surfels_of
from gensat.render.heightfield import HeightField
from gensat.render.mesh import Mesh, Points, joined, unit
from gensat.render.objects import BOX, CONE, ELLIPSOID, GABLE, HIP, Objects
from gensat.render.rays import OBJECT, ROOF, TERRAIN, WALL, Hits, Rays
from gensat.render.scene import Scene

_MANY = 1_000  # ellipsoids from which on they become coarser
_MOST, _WORST = 0.99, 20.0  # share of heights that a thinned terrain keeps, and how much farther off the others may be
_ROUND = 24  # corners of a cone's rim


def scene_mesh(
    scene: Scene, *, wall: Sequence[float | int] | None = None, image: bool = True, tolerance: float | int = 0.0
) -> Mesh:
    """Terrain, water, buildings and objects of a scene under its image; walls as the renderer guesses them, objects in their own colours.

    Bilinear terrain becomes two triangles a cell (see :func:`grid_mesh`), columns keep their shape exactly; what lies beyond the grid
    is left out. The terrain goes on below buildings, as their walls reach down into it.

    Args:
        scene: what there is.
        wall: one colour for all walls instead.
        image: whether the image is taken along as a texture.
        tolerance: metres by which bilinear terrain may be off for the sake of fewer triangles, see :func:`height_mesh`.
    """
    parts = [height_mesh(scene.terrain, scene.frame, tolerance)]
    tops, bases = scene.buildings.top.tolist(), scene.buildings.base.tolist()
    for number, (footprint, top, base) in enumerate(zip(scene.buildings.footprints, tops, bases, strict=True)):
        parts.append(prism_mesh(footprint, base, top, index=number, frame=scene.frame))
    parts += object_meshes(scene.objects, scene.frame)
    if scene.water is not None:
        parts.append(height_mesh(HeightField(scene.water, scene.grid, "columns"), scene.frame))
    mesh = joined(parts)
    middle = mesh.vertices[mesh.faces].mean(axis=1)
    classes = _surfels(scene, middle, mesh.face_normals, mesh.kinds, mesh.index).classes.cpu().numpy()
    if scene.water is not None:
        classes[len(classes) - len(parts[-1].faces) :] = WATER
    colors = np.full((len(mesh.vertices), 3), np.nan) if mesh.colors is None else mesh.colors
    if wall is None:  # corners of walls belong to one face each, whose normal they take
        faces = np.flatnonzero(mesh.kinds == WALL)
        corners = mesh.faces[faces].reshape(-1)
        of = np.repeat(faces, 3)
        guessed = _surfels(scene, mesh.vertices[corners], mesh.face_normals[of], mesh.kinds[of], mesh.index[of])
        colors[corners] = guessed.rgb.double().cpu().numpy()
    picture = (scene.image.detach().clamp(0, 1) * 255).round().byte().cpu().numpy() if image else None
    from_image = (mesh.kinds == OBJECT) & np.isnan(colors[mesh.faces]).any(axis=(1, 2))  # as of real trees
    made = replace(mesh, classes=classes, colors=colors, provenance=dict(scene.provenance))
    made = made.painted(picture, scene.grid.bounds, (0.72, 0.68, 0.62) if wall is None else wall)
    return replace(made, textured=made.textured | (from_image & image))


def scene_points(scene: Scene, spacing: float | int) -> Points:
    """Points spread over a scene, coloured, classed and marked as seen or invented exactly as the renderer does.

    Ground below buildings is left out, as nobody can look at it.
    """
    points = scene_mesh(scene, image=False, wall=(0.5, 0.5, 0.5)).points(spacing)
    ground = points.kinds == TERRAIN
    if len(scene.buildings):
        places = shapely.points(points.positions[:, 0], points.positions[:, 1])
        point, building = shapely.STRtree(scene.buildings.footprints).query(places, predicate="within")
        tops = scene.buildings.top.detach().cpu().numpy()
        under = np.zeros(len(points), bool)
        under[point[tops[building] > points.positions[point, 2] + 1e-3]] = True
        points = points.part(~(ground & under))
    surfels = _surfels(scene, points.positions, points.normals, points.kinds, points.index)
    water = points.classes == WATER
    return replace(
        points,
        colors=surfels.rgb.double().clamp(0, 1).cpu().numpy(),
        classes=np.where(water, WATER, surfels.classes.cpu().numpy()),
        seen=surfels.seen.cpu().numpy(),
    )


def height_mesh(terrain: HeightField, frame: SceneFrame | None = None, tolerance: float | int = 0.0) -> Mesh:
    """A height field as it is defined: through the centres of its cells and flat to its edges, or as columns.

    Where ``tolerance`` (metres) allows it, only every 2nd, 4th, 8th ... row and column of a bilinear one are taken: 99 percent of its
    heights stay within the tolerance, the others, at steep banks, within twenty times as much.
    """
    left, bottom, right, top = terrain.grid.bounds
    z = terrain.heights.detach().double().cpu().numpy()
    columns = left + terrain.grid.step * np.arange(terrain.grid.columns + 1)
    rows = top - terrain.grid.step * np.arange(terrain.grid.rows + 1)
    if terrain.surface == "columns":
        return column_mesh(columns, rows, z, frame)
    x = np.concatenate([[left], (columns[:-1] + columns[1:]) / 2, [right]])
    y = np.concatenate([[top], (rows[:-1] + rows[1:]) / 2, [bottom]])
    return grid_mesh(*_thinned(x, y, np.pad(z, 1, mode="edge"), tolerance), frame=frame)


def _thinned(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, tolerance: float | int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every 2nd, 4th ... row and column with the outermost two, as few as give the heights back within ``tolerance``."""
    best, every = (x, y, z), 2
    while tolerance > 0 and every < min(z.shape) and np.isfinite(z).all():
        rows, columns = (np.unique([0, 1, *range(1, n, every), n - 2, n - 1]) for n in z.shape)
        thin = z[np.ix_(rows, columns)]
        across = interp1d(x[columns], thin, axis=1)(x)
        off = np.abs(interp1d(y[rows], across, axis=0)(y) - z)
        if np.quantile(off, _MOST) > tolerance or off.max() > _WORST * tolerance:
            break
        best, every = (x[columns], y[rows], thin), 2 * every
    return best


def object_meshes(objects: Objects, frame: SceneFrame | None = None) -> list[Mesh]:
    """A mesh for each solid, in its own colour, NaN where the image has it.

    Ellipsoids have 320 triangles, or 80 where there are more than a thousand; cones have 24 sides.
    """
    made = []
    ball = sphere_mesh((0, 0, 0), 1.0, 2 if int((objects.shape == ELLIPSOID).sum()) <= _MANY else 1)
    fields = (objects.shape, objects.centre, objects.half, objects.yaw, objects.taper, objects.classes, objects.colour)
    for number, (shape, centre, half, yaw, taper, code, colour) in enumerate(
        zip(*(value.detach().double().cpu().numpy() for value in fields), strict=True)
    ):
        if shape in (BOX, GABLE, HIP):
            narrower = (1 - float(taper)) if shape != BOX else 0.0
            shorter = narrower * half[1] / half[0] if shape == HIP else 0.0
            body = wedge_mesh(max(1 - shorter, 0.0), 1 - narrower)
        elif shape == CONE:
            body = cone_mesh(float(taper))
        else:
            body = ball
        turn = math.radians(float(yaw))  # clockwise from above
        x, y = (body.vertices[:, :2] * half[:2]).T
        xyz = np.stack([
            x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn), body.vertices[:, 2] * half[2]
        ], axis=1)  # fmt: skip
        placed = Mesh.of(xyz + centre, body.faces, OBJECT, number, frame)
        colors = np.tile(colour, (len(xyz), 1))
        made.append(replace(placed, colors=colors, classes=np.full(len(body.faces), int(code))))
    return made


def wedge_mesh(along: float | int = 1.0, across: float | int = 1.0) -> Mesh:
    """A cube from -1 to 1 whose top is narrower: half its length along x and across, along y; 1 and 1 are a box, 1 and 0 a gable."""
    x, y = np.array([-1, 1, 1, -1], np.float64), np.array([-1, -1, 1, 1], np.float64)
    low = np.stack([x, y, np.full(4, -1.0)], axis=1)
    high = np.stack([x * along, y * across, np.full(4, 1.0)], axis=1)
    sides = np.stack([low, np.roll(low, -1, axis=0), np.roll(high, -1, axis=0), high], axis=1)
    whole = _quads(np.concatenate([sides, high[None], low[None, ::-1]]), OBJECT, None)
    return whole.part(whole.areas > 1e-9)


def cone_mesh(taper: float | int) -> Mesh:
    """An upright frustum from z = -1 with radius 1 to z = 1 with radius ``taper``, closed at both ends."""
    angle = 2 * math.pi * np.arange(_ROUND) / _ROUND
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    after = np.roll(ring, -1, axis=0)
    low, high = np.full((_ROUND, 1), -1.0), np.full((_ROUND, 1), 1.0)
    sides = np.stack([
        np.hstack([ring, low]), np.hstack([after, low]), np.hstack([after * taper, high]), np.hstack([ring * taper, high])
    ], axis=1)  # fmt: skip
    number = np.arange(_ROUND)
    fan = np.stack([np.full(_ROUND, _ROUND), number, np.roll(number, -1)], axis=1)
    roof = Mesh.of(np.vstack([np.hstack([ring * taper, high]), [[0, 0, 1]]]), fan)
    floor = Mesh.of(np.vstack([np.hstack([ring, low]), [[0, 0, -1]]]), fan[:, ::-1])
    return joined([_quads(sides, OBJECT, None), roof, floor])


def grid_mesh(
    x: Float[np.ndarray, " w"], y: Float[np.ndarray, " h"], z: Float[np.ndarray, "h w"], frame: SceneFrame | None = None
) -> Mesh:
    """Terrain through a grid of heights, two triangles a cell; cells with a height that is not finite are left out.

    A bilinear cell is curved, its two triangles are not: they differ by at most a quarter of the cell's twist
    (z00 + z11 - z01 - z10), in its middle.

    Args:
        x: of the columns, growing.
        y: of the rows, falling: row 0 is north.
        z: heights.
    """
    h, w = z.shape
    number = np.arange(h * w).reshape(h, w)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]  # north west, north east, south
    faces = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], axis=2).reshape(-1, 3)
    finite = np.isfinite(z).reshape(-1)
    vertices = np.stack([np.broadcast_to(x, z.shape), np.broadcast_to(y[:, None], z.shape), z], axis=-1).reshape(-1, 3)
    whole = Mesh.of(vertices, faces[finite[faces].all(axis=1)], TERRAIN, -1, frame)
    return whole if finite.all() else whole.part(np.ones(len(whole.faces), bool))


def column_mesh(
    x: Float[np.ndarray, " w1"],
    y: Float[np.ndarray, " h1"],
    z: Float[np.ndarray, "h w"],
    frame: SceneFrame | None = None,
) -> Mesh:
    """Cell columns: a level top for each cell and a vertical wall wherever two neighbours differ.

    Args:
        x: edges of the columns, w + 1, growing.
        y: edges of the rows, h + 1, falling.
        z: height of each cell; those that are not finite are left out.
    """
    rows, cols = np.nonzero(np.isfinite(z))
    west, east, north, south, top = x[cols], x[cols + 1], y[rows], y[rows + 1], z[rows, cols]
    tops = _quads(np.stack([
        np.stack([west, south, top], -1), np.stack([east, south, top], -1),
        np.stack([east, north, top], -1), np.stack([west, north, top], -1),
    ], axis=1), TERRAIN, frame)  # fmt: skip
    walls = []
    for axis in (0, 1):
        before, after = (z[:, :-1], z[:, 1:]) if axis else (z[:-1], z[1:])
        rows, cols = np.nonzero(np.isfinite(before) & np.isfinite(after) & (before != after))
        first, second = before[rows, cols], after[rows, cols]
        if axis:  # between west and east: seen from the east where the west is higher
            ends = np.stack([np.stack([x[cols + 1]] * 2, -1), np.stack([y[rows + 1], y[rows]], -1)], axis=-1)
        else:  # between north and south: seen from the south where the north is higher
            ends = np.stack([np.stack([x[cols], x[cols + 1]], -1), np.stack([y[rows + 1]] * 2, -1)], axis=-1)
        ends = np.where((first > second)[:, None, None], ends, ends[:, ::-1])
        low, high = np.minimum(first, second), np.maximum(first, second)
        walls.append(_quads(_upright(ends[:, 0], ends[:, 1], low, high), WALL, frame))
    return joined([tops, *(wall for wall in walls if len(wall.faces))])


def prism_mesh(
    footprint: Any, base: Any, top: float | int, *, index: int = -1, frame: SceneFrame | None = None
) -> Mesh:
    """A vertical prism: walls around a footprint and its courtyards, and a level roof, triangulated by ear clipping.

    Args:
        footprint: shapely Polygon (holes are courtyards) or MultiPolygon in local metres.
        base: z where the walls begin, or a function of x and y.
        top: z of the roof.

    Raises:
        InputError: the footprint has no area.
    """
    import mapbox_earcut

    parts: list[Mesh] = []
    for polygon in shapely.get_parts(shapely.make_valid(footprint)):
        if polygon.geom_type != "Polygon" or polygon.area == 0:
            continue
        polygon = shapely.geometry.polygon.orient(polygon)  # shell counter-clockwise, holes clockwise
        rings = [np.asarray(ring.coords)[:-1, :2] for ring in (polygon.exterior, *polygon.interiors)]
        flat = np.concatenate(rings)
        ends = np.cumsum([len(ring) for ring in rings]).astype(np.uint32)
        roof = mapbox_earcut.triangulate_float64(flat, ends).reshape(-1, 3).astype(np.int64)
        a, b, c = (flat[roof[:, k]] for k in range(3))
        turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
        roof[turned] = roof[turned][:, ::-1]
        parts.append(Mesh.of(np.column_stack([flat, np.full(len(flat), top)]), roof, ROOF, index, frame))
        for ring in rings:
            after = np.roll(ring, -1, axis=0)
            quads = _upright(ring, after, np.full(len(ring), np.nan), np.full(len(ring), top))
            quads[:, :2, 2] = base(quads[:, :2, 0], quads[:, :2, 1]) if callable(base) else base
            parts.append(replace(_quads(quads, WALL, frame), index=np.full(2 * len(ring), index)))
    if not parts:
        raise InputError("a footprint has no area; give a polygon in metres")
    return joined(parts)


def sphere_mesh(
    centre: Sequence[float | int], radius: float | int, subdivisions: int = 3, frame: SceneFrame | None = None
) -> Mesh:
    """An icosahedron, each face cut in four ``subdivisions`` times, its vertices on the sphere."""
    golden = (1 + math.sqrt(5)) / 2
    flat = np.array([(s, t * golden, 0.0) for s in (-1, 1) for t in (-1, 1)])
    corners = np.concatenate([np.roll(flat, k, axis=1) for k in range(3)])
    vertices = unit(corners)
    near = np.linalg.norm(vertices[:, None] - vertices[None], axis=-1) < 1.1
    faces = [
        (i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]
    ]
    for _ in range(subdivisions):
        pairs = np.concatenate([np.asarray(faces)[:, list(e)] for e in ((0, 1), (1, 2), (2, 0))])
        edges, which = np.unique(np.sort(pairs, axis=1), axis=0, return_inverse=True)
        middle = which.reshape(3, -1).T + len(vertices)
        vertices = np.concatenate([vertices, unit(vertices[edges].sum(axis=1))])
        a, b, c = np.asarray(faces).T
        ab, bc, ca = middle.T
        faces = np.concatenate([np.stack(t, -1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])  # type: ignore[assignment]
    made = Mesh.of(vertices * radius + np.asarray(centre, np.float64), faces, OBJECT, -1, frame)
    inward = np.einsum("fd,fd->f", made._crosses(), vertices[made.faces].sum(axis=1)) < 0
    made.faces[inward] = made.faces[inward][:, ::-1]
    return made


def _upright(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(n, 4, 3) vertical quads from ``start`` to ``end`` (n, 2), counter-clockwise seen from their right."""
    return np.stack([
        np.column_stack([start, low]), np.column_stack([end, low]),
        np.column_stack([end, high]), np.column_stack([start, high]),
    ], axis=1)  # fmt: skip


def _quads(corners: np.ndarray, kind: int, frame: SceneFrame | None) -> Mesh:
    """Quads (n, 4, 3), counter-clockwise, as two triangles each with vertices of their own."""
    first = 4 * np.arange(len(corners))[:, None]
    faces = np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])], axis=1)
    return Mesh.of(corners, faces, kind, -1, frame)


@torch.no_grad()
def _surfels(scene: Scene, positions: np.ndarray, normals: np.ndarray, kinds: np.ndarray, index: np.ndarray) -> Surfels:
    """What the renderer knows of points on surfaces, each looked at along its normal."""
    like = scene.image
    at, normal = (like.new_tensor(values) for values in (positions, normals))
    kind, number = (torch.as_tensor(values, device=like.device) for values in (kinds, index))
    hits = Hits(torch.ones_like(at[:, 0]), kind, number, normal, torch.full_like(kind, -1))
    camera = OrthographicCamera.above((0.0, 0.0, scene.ceiling + 1.0), 1, 1, float(scene.grid.step))
    return surfels_of(scene, camera, Rays(at + normal, -normal), hits)
