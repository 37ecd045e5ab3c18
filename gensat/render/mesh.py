"""Triangle meshes, what colours them, and points spread evenly over them.

A mesh lives in the local metres of a :class:`SceneFrame` (x east, y north, z up). Triangles run counter-clockwise as seen from
outside. Every vertex has a place in the image straight above it (``uv``), and faces that a satellite sees say so (``textured``):
their colour is the image's; the colour of the others is the vertices' own, and invented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree

from gensat.errors import InputError
from gensat.render.frame import SceneFrame
from gensat.render.rays import OBJECT, ROOF, TERRAIN

_GOLDEN = 1.32471795724474602596  # of Roberts's low-discrepancy sequence R2


@dataclass(frozen=True, eq=False)
class Skin:
    """A second picture on a mesh, of surfaces that no image from above shows, such as facades.

    Args:
        image: (h, w, 3) uint8 display values.
        uv: (v, 2) place of each vertex in it: 0 to 1 from the left and from the top; of the vertices of ``faces`` only.
        faces: (f,) which faces it colours.
        shade: (v,) brightness, 0 to 1, by which linear values are multiplied where nothing is lit.
    """

    image: UInt8[np.ndarray, "h w 3"]
    uv: Float[np.ndarray, "v 2"]
    faces: Bool[np.ndarray, " f"]
    shade: Float[np.ndarray, " v"]


@dataclass(eq=False)
class Mesh:
    """Triangles with kinds, and what colours them.

    Args:
        vertices: (v, 3) local metres, float64.
        faces: (f, 3) vertex numbers, counter-clockwise from outside.
        kinds: (f,) terrain 1, roof 2, wall 3, object 4, as of a hit.
        index: (f,) number of the building or object, -1 for terrain.
        frame: where the mesh lies.
        image: (h, w, 3) uint8 texture seen from above, row 0 north; None for none.
        uv: (v, 2) place of each vertex in the image: 0 to 1 eastward from its left edge and southward from its top.
        textured: (f,) whether the image colours a face.
        colors: (v, 3) in [0, 1], of the faces that the image does not colour; NaN where nobody has said yet.
        classes: (f,) layout classes 0 to 10.
        provenance: how it came to be; exports carry it.
        skin: a second picture, of faces that ``image`` does not colour; None for none.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    kinds: Int[np.ndarray, " f"]
    index: Int[np.ndarray, " f"]
    frame: SceneFrame
    image: UInt8[np.ndarray, "h w 3"] | None = None
    uv: Float[np.ndarray, "v 2"] | None = None
    textured: Bool[np.ndarray, " f"] | None = None
    colors: Float[np.ndarray, "v 3"] | None = None
    classes: Int[np.ndarray, " f"] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    skin: Skin | None = None

    def __repr__(self) -> str:
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces; {self.frame})"

    @classmethod
    def of(
        cls, vertices: Any, faces: Any, kind: int = OBJECT, index: int = -1, frame: SceneFrame | None = None
    ) -> Mesh:
        """Triangles of one kind and number."""
        faces = np.asarray(faces, np.int64).reshape(-1, 3)
        kinds, numbers = np.full(len(faces), kind), np.full(len(faces), index)
        return cls(np.asarray(vertices, np.float64).reshape(-1, 3), faces, kinds, numbers, frame or SceneFrame(None))

    @property
    def areas(self) -> Float[np.ndarray, " f"]:
        """Square metres of each face."""
        return np.linalg.norm(self._crosses(), axis=1) / 2

    @property
    def face_normals(self) -> Float[np.ndarray, "f 3"]:
        """Unit outward normals; 0 of a face without area."""
        return unit(self._crosses())

    @property
    def vertex_normals(self) -> Float[np.ndarray, "v 3"]:
        """Unit normals of the vertices: the mean of the faces around each, weighted by area."""
        total = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(total, self.faces[:, corner], self._crosses())
        return unit(total)

    def part(self, chosen: Bool[np.ndarray, " f"]) -> Mesh:
        """Some of the faces, with the vertices that they use."""
        used, faces = np.unique(self.faces[chosen], return_inverse=True)

        def of(values: Any, which: Any) -> Any:
            return None if values is None else values[which]

        return replace(
            self,
            vertices=self.vertices[used],
            faces=faces.reshape(-1, 3),
            kinds=self.kinds[chosen],
            index=self.index[chosen],
            uv=of(self.uv, used),
            textured=of(self.textured, chosen),
            colors=of(self.colors, used),
            classes=of(self.classes, chosen),
            skin=None
            if self.skin is None
            else Skin(self.skin.image, self.skin.uv[used], self.skin.faces[chosen], self.skin.shade[used]),
        )

    def painted(
        self,
        image: UInt8[np.ndarray, "h w 3"] | None,
        bounds: tuple[float | int, float | int, float | int, float | int],
        wall: Sequence[float | int] = (0.72, 0.68, 0.62),
    ) -> Mesh:
        """The same mesh under an image: terrain and roofs that look up take its colours.

        Args:
            image: texture, row 0 north; None leaves everything in the colour of walls.
            bounds: local (left, bottom, right, top) of it in metres.
            wall: colour of what is not seen from above and has none of its own.
        """
        left, bottom, right, top = bounds
        x, y = self.vertices[:, 0], self.vertices[:, 1]
        uv = np.stack([(x - left) / (right - left), (top - y) / (top - bottom)], axis=1)
        up = (self.kinds == TERRAIN) | (self.kinds == ROOF)
        seen = up & (self.face_normals[:, 2] > 1e-6) & (image is not None)
        colors = np.full((len(self.vertices), 3), np.nan) if self.colors is None else self.colors
        colors = np.where(np.isfinite(colors), colors, np.asarray(wall, np.float64))
        return replace(self, image=image, uv=uv, textured=seen, colors=colors)

    def points(self, spacing: float | int) -> Points:
        """Points spread evenly over the surface, about one for each ``spacing`` x ``spacing`` metres, always the same ones.

        Poisson-disk samples: of four times as many candidates those are kept that have no kept one within 0.75 of the spacing on the same
        side of the surface, until every candidate has one.

        Raises:
            InputError: a spacing that is not above 0, or so small that there would be more than 5 million points.
        """
        if not spacing > 0:
            raise InputError(f"spacing {spacing} of points is not above 0; give metres")
        ends = np.cumsum(self.areas)
        total = float(ends[-1]) if len(ends) else 0.0
        count = math.ceil(4 * total / spacing**2)
        if count > 20_000_000:
            raise InputError(
                f"a spacing of {spacing:g} m makes {count // 4:,} points; give a larger one, or a smaller scene"
            )
        order = np.arange(1, count + 1)
        face = np.minimum(np.searchsorted(ends, (order - 0.5) * total / max(count, 1)), max(len(ends) - 1, 0))
        u, v = (order / _GOLDEN) % 1.0, (order / _GOLDEN**2) % 1.0
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        weights = np.stack([1 - u - v, u, v], axis=1)
        places = np.einsum("nk,nkd->nd", weights, self.vertices[self.faces[face]])
        kept = _apart(places, self.face_normals[face], 0.75 * spacing)
        face, weights, count = face[kept], weights[kept], int(kept.sum())
        corners = self.faces[face]

        def at(values: np.ndarray) -> np.ndarray:
            return np.einsum("nk,nkd->nd", weights, values[corners])

        colors = np.full((count, 3), 0.5) if self.colors is None else at(self.colors)
        seen = np.zeros(count, bool) if self.textured is None else self.textured[face]
        if self.image is not None and self.uv is not None:
            colors = np.where(seen[:, None], texel(self.image, at(self.uv)), colors)
        if self.skin is not None:
            colors = np.where(self.skin.faces[face, None], texel(self.skin.image, at(self.skin.uv)), colors)
        classes = np.zeros(count, np.int64) if self.classes is None else self.classes[face]
        normals = self.face_normals[face]
        return Points(at(self.vertices), normals, colors, self.kinds[face], self.index[face], classes, seen, self.frame)

    def _crosses(self) -> np.ndarray:
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return np.cross(b - a, c - a)


@dataclass(eq=False)
class Points:
    """Points on surfaces.

    Args:
        positions: (n, 3) local metres.
        normals: (n, 3) unit, outward.
        colors: (n, 3) in [0, 1].
        kinds: (n,) as of a hit.
        index: (n,) number of the building or object, -1 for none.
        classes: (n,) layout classes 0 to 10.
        seen: (n,) whether the colour is the image's, not invented.
        frame: where they lie.
    """

    positions: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"]
    kinds: Int[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    seen: Bool[np.ndarray, " n"]
    frame: SceneFrame

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, chosen: Bool[np.ndarray, " n"]) -> Points:
        """Some of the points."""
        values = {name: getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "frame"}
        return Points(**values, frame=self.frame)


def texel(image: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Display values in [0, 1] of the pixels of a texture at places from its left and top edge."""
    h, w = image.shape[:2]
    columns = np.clip((uv[:, 0] * w).astype(np.int64), 0, w - 1)
    rows = np.clip((uv[:, 1] * h).astype(np.int64), 0, h - 1)
    return image[rows, columns] / 255.0


def joined(parts: Sequence[Mesh]) -> Mesh:
    """One mesh of several in the same frame that are not painted yet; colours and classes where one has them."""
    if not parts:
        raise InputError("there is nothing to make a mesh of; give at least one surface")
    begins = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])

    def together(name: str, empty: Any) -> Any:
        values = [getattr(part, name) for part in parts]
        if all(value is None for value in values):
            return None
        return np.concatenate([empty(part) if v is None else v for part, v in zip(parts, values, strict=True)])

    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + begin for part, begin in zip(parts, begins, strict=True)]),
        np.concatenate([part.kinds for part in parts]),
        np.concatenate([part.index for part in parts]),
        parts[0].frame,
        classes=together("classes", lambda part: np.zeros(len(part.faces), np.int64)),
        colors=together("colors", lambda part: np.full((len(part.vertices), 3), np.nan)),
    )


def _apart(places: np.ndarray, normals: np.ndarray, distance: float) -> np.ndarray:
    """Which points to keep so that no two are nearer than ``distance`` and every one left out has a kept one within it.

    Greedy in a fixed shuffled order, all points at once that come before their remaining neighbours (Luby 1986). Points whose normals are
    more than 60 degrees apart, as on the two sides of a wall or across an edge, are no neighbours.
    """
    if not len(places):
        return np.zeros(0, bool)
    pairs = cKDTree(places).query_pairs(distance, output_type="ndarray")
    pairs = pairs[np.einsum("nd,nd->n", normals[pairs[:, 0]], normals[pairs[:, 1]]) > 0.5]
    rank = np.random.default_rng(0).permutation(len(places))
    first = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    second = pairs.sum(axis=1) - first
    kept, left = np.zeros(len(places), bool), np.ones(len(places), bool)
    while left.any():
        chosen = left.copy()
        chosen[second] = False  # someone before them is still there
        kept |= chosen
        left &= ~chosen
        left[second[chosen[first]]] = False
        still = left[first] & left[second]
        first, second = first[still], second[still]
    return kept


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
