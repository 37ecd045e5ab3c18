"""Facades as a texture: every wall of a mesh gets a rectangle of one picture, painted by the shader that renders them.

A wall of ``l`` x ``h`` metres takes ``ceil(l t)`` x ``ceil(h t)`` texels, t to the metre, and fills them exactly: u runs along its edge and v up from its foot.
Around each rectangle its border is repeated by two texels, so that neighbours do not show through filters and compression.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree

from gensat.errors import InputError
from gensat.render.light import tone_map
from gensat.render.mesh import Mesh, Skin
from gensat.render.prisms import Prisms
from gensat.render.rays import WALL
from gensat.render.streets.facades import facade
from gensat.render.streets.look import StreetLight

TEXELS = 8.0
"""Texels a metre, where that fits."""

LARGEST = 4096
"""Columns and rows of the picture at most."""

_BORDER = 2  # texels
_CHUNK = 2**18  # texels painted at a time
_FAR = 1e3
_NEAR = 0.02  # metres between a corner of a wall and that of its edge
_SHADE = (0.86, 0.14)  # of walls without light: on average, and more towards the south-east


def dress_mesh(
    mesh: Mesh, prisms: Prisms, light: StreetLight, *, texels: float | int = TEXELS, largest: int = LARGEST
) -> Mesh:
    """The same mesh with facades on the walls of its buildings.

    Texels are albedo, shown as the image of the scene shows albedo: linear albedo = ``untone(texel) * gain``, with the gain in
    ``provenance["facades"]``. No light falls on them.

    Args:
        mesh: as :func:`gensat.render.triangles.scene_mesh` makes it.
        prisms: its buildings.
        light: whose facades they are.
        texels: a metre; fewer where the picture would be larger than ``largest``.
        largest: columns and rows of the picture.

    Raises:
        InputError: ``texels`` is not above 0.
    """
    if not texels > 0:
        raise InputError(f"{texels} texels a metre show nothing; give a number above 0, such as {TEXELS:g}")
    faces = np.flatnonzero((mesh.kinds == WALL) & (mesh.index >= 0))
    if not len(faces) or not len(prisms):
        return mesh
    edge, outline, height = _on_edges(mesh, faces, prisms)
    used = np.unique(edge)
    along = prisms.along.double().cpu().numpy()
    size = np.stack([np.zeros(len(prisms.edges))] * 2, axis=1)
    np.maximum.at(size, edge, np.stack([outline - along[edge, None], height], axis=-1).max(axis=1))
    per_metre, corners, (columns, rows) = _packed(size[used], float(texels), largest)
    gain = float(getattr(light.ground, "gain", 1.0))
    wide = _texels_of(size, per_metre, largest)
    picture = _painted(light, used, along[used], size[used], wide[used], corners, (rows, columns), gain)
    place = np.full(len(prisms.edges), -1)
    place[used] = np.arange(len(used))
    left, top = corners[place[edge]].T
    share_u = (outline - along[edge, None]) / np.maximum(size[edge, :1], 1e-9)
    share_v = height / np.maximum(size[edge, 1:], 1e-9)
    uv = np.zeros((len(mesh.vertices), 2))
    uv[mesh.faces[faces], 0] = (left[:, None] + share_u * wide[edge, :1]) / columns
    uv[mesh.faces[faces], 1] = (top[:, None] + (1 - share_v) * wide[edge, 1:]) / rows
    mean, more = _SHADE
    facing = (mesh.face_normals[faces, 0] - mesh.face_normals[faces, 1]) / math.sqrt(2)
    shade = np.ones(len(mesh.vertices))
    shade[mesh.faces[faces]] = (mean + more * facing)[:, None]
    chosen = np.zeros(len(mesh.faces), bool)
    chosen[faces] = True
    facts = {"texels_per_metre": round(per_metre, 3), "gain": gain, "style": getattr(light, "style", None)}
    skin = Skin(picture, uv, chosen, shade)
    return replace(mesh, skin=skin, provenance={**mesh.provenance, "facades": facts})


def _on_edges(mesh: Mesh, faces: np.ndarray, prisms: Prisms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of faces of walls: their edge (n), and metres along the outline and above the foot of each corner (n, 3)."""
    xyz = mesh.vertices[mesh.faces[faces]]
    edges = prisms.edges.double().cpu().numpy()
    apart = xyz[:, :, None, :2] - xyz[:, None, :, :2]
    one, other = np.unravel_index(np.square(apart).sum(-1).reshape(len(faces), 9).argmax(axis=1), (3, 3))
    ends = np.stack([xyz[np.arange(len(faces)), k, :2] for k in (one, other)], axis=1)
    out = mesh.face_normals[faces, :2]
    ahead = np.stack([-out[:, 1], out[:, 0]], axis=1)  # the inside lies on the left of an edge
    turned = ((ends[:, 1] - ends[:, 0]) * ahead).sum(axis=1) < 0
    ends[turned] = ends[turned, ::-1]
    owner = prisms.owner.cpu().numpy()
    known = cKDTree(np.column_stack([edges, _FAR * owner]))  # walls of two buildings may lie on each other
    distance, edge = known.query(np.column_stack([ends.reshape(-1, 4), _FAR * mesh.index[faces]]))
    if distance.max() > _NEAR:
        raise InputError(
            f"a wall is {distance.max():.2f} m from the nearest edge of a building; give the mesh's own buildings"
        )
    start = edges[edge, None, :2]
    along = prisms.along.double().cpu().numpy()[edge, None] + np.linalg.norm(xyz[:, :, :2] - start, axis=-1)
    base = prisms.base.detach().double().cpu().numpy()[owner[edge]]
    return edge, along, xyz[:, :, 2] - base[:, None]


def _texels_of(size: Float[np.ndarray, "n 2"], per_metre: float, largest: int) -> Int[np.ndarray, "n 2"]:
    return np.clip(np.ceil(size * per_metre - 1e-9), 1, largest - 2 * _BORDER).astype(np.int64)


def _packed(
    size: Float[np.ndarray, "n 2"], per_metre: float, largest: int
) -> tuple[float, Int[np.ndarray, "n 2"], tuple[int, int]]:
    """Rectangles on shelves, the highest first: texels a metre, their left top corners, and columns and rows of the whole."""
    while True:
        texels = _texels_of(size, per_metre, largest) + 2 * _BORDER
        width = int(min(largest, max(texels[:, 0].max(), math.sqrt(1.1 * texels.prod(axis=1).sum()))))
        corners, x, y, shelf = np.zeros_like(texels), 0, 0, 0
        for number in np.lexsort((-texels[:, 0], -texels[:, 1])):
            wide, high = texels[number]
            if x + wide > width:
                x, y, shelf = 0, y + shelf, 0
            corners[number] = x, y
            x, shelf = x + wide, max(shelf, int(high))
        if y + shelf <= largest:
            return per_metre, corners + _BORDER, (width, y + shelf)
        per_metre *= 0.9


def _painted(
    light: StreetLight,
    edges: Int[np.ndarray, " n"],
    along: Float[np.ndarray, " n"],
    size: Float[np.ndarray, "n 2"],
    texels: Int[np.ndarray, "n 2"],
    corners: Int[np.ndarray, "n 2"],
    shape: tuple[int, int],
    gain: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture: for each wall its albedo at the centres of its texels; row 0 of a wall is its eaves."""
    picture = np.zeros((*shape, 3), np.uint8)
    total = np.cumsum(texels.prod(axis=1)) // _CHUNK
    for batch in np.split(np.arange(len(edges)), np.flatnonzero(np.diff(total)) + 1):
        places = []
        for k in batch:
            (length, high), (wide, tall) = size[k], texels[k]
            u, v = (np.arange(wide) + 0.5) / wide * length + along[k], (1 - (np.arange(tall) + 0.5) / tall) * high
            columns, rows = np.meshgrid(u, v)
            blur = np.full_like(columns, max(length / wide, high / tall))
            places.append(np.stack([np.full_like(columns, edges[k]), columns, rows, blur]).reshape(4, -1))
        which, outline, height, blur = torch.from_numpy(np.concatenate(places, axis=1)).to(light.walls.owner.device)
        albedo = facade(
            light.walls, which.long(), outline.float(), height.float(), blur.float(), 0 * blur.float()
        ).albedo
        shown = (tone_map(albedo / gain).clamp(0, 1) * 255).round().byte().cpu().numpy()
        ends = np.cumsum(texels[batch].prod(axis=1))
        for k, one in zip(batch, np.split(shown, ends[:-1]), strict=True):
            (left, top), (wide, tall) = corners[k] - _BORDER, texels[k] + 2 * _BORDER
            borders = [(_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)]
            picture[top : top + tall, left : left + wide] = np.pad(
                one.reshape(*texels[k, ::-1], 3), borders, mode="edge"
            )
    return picture
