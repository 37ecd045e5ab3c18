"""A scene and a camera to a picture with buffers: one exact ray per pixel, colours from the image where it shows them.

What a satellite sees (ground, roofs, what nothing hangs over) has the colour of the image; walls and what lies under crowns
do not appear in it, so their colours are invented and marked so. A ``shader`` replaces colours of surfaces, a ``light``
illuminates them and paints the sky; without them the image's own light stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.render.cameras import AnyCamera, Camera, OrthographicCamera, pixel_centres
from gensat.render.rays import OBJECT, ROOF, SKY, WALL, Hits, Rays
from gensat.render.scene import Scene
from gensat.render.view import View

ZENITH, HORIZON = (0.33, 0.53, 0.84), (0.80, 0.87, 0.94)
"""Display colours of the plain sky that is shown without a light."""

_SEEN = 0.02  # metres below the uppermost surface that still count as it
_WALL_SHADE = (
    0.66,
    0.16,
)  # brightness of walls against their roof's edge, and how far it goes up towards the south-east


@dataclass(frozen=True)
class Surfels:
    """Points on surfaces, as shaders and lights take them.

    Args:
        points: scene frame, metres.
        directions: unit vectors of the rays that came to them.
        distance: metres along the ray.
        normals: unit, outward.
        kind: 1 terrain, 2 roof, 3 wall, 4 object, 5 mesh.
        index: building or object number, -1 for none.
        edge: footprint edge of a wall, -1 for none.
        uv: metres: on walls of buildings, along the outline (from its first corner, the inside on the left) and up from
            the foot of the building; elsewhere local x and y.
        classes: layout classes 0 to 10.
        seen: whether ``rgb`` is what the image shows of this very point.
        spread: metres that one pixel covers there, across the ray.
        rgb: display values in [0, 1]: of the image, or a first guess where it does not show the point.
    """

    points: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    distance: Float[Tensor, " n"]
    normals: Float[Tensor, "n 3"]
    kind: Int[Tensor, " n"]
    index: Int[Tensor, " n"]
    edge: Int[Tensor, " n"]
    uv: Float[Tensor, "n 2"]
    classes: Int[Tensor, " n"]
    seen: Bool[Tensor, " n"]
    spread: Float[Tensor, " n"]
    rgb: Float[Tensor, "n 3"]


Shader: TypeAlias = Callable[[Surfels], Float[Tensor, "n 3"]]
"""Display values in [0, 1] of surfaces; where it returns something else than ``surfels.rgb``, the colour is invented."""


@runtime_checkable
class Illumination(Protocol):
    """How a renderer asks for light."""

    def surface(self, scene: Scene, surfels: Surfels, rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of surfaces of colour ``rgb`` in this light."""
        ...

    def sky(self, directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of the sky."""
        ...


def render(
    scene: Scene,
    camera: AnyCamera,
    *,
    light: Illumination | None = None,
    shader: Shader | None = None,
    samples: int = 1,
    dtype: torch.dtype = torch.float32,
) -> View:
    """One view of a scene.

    Differentiable: distances with respect to heights, colours with respect to the image.

    Args:
        scene: what there is.
        camera: perspective, orthographic or panorama, in the frame of the scene.
        light: what illuminates it; default the light of the image itself under a plain sky.
        shader: colours of surfaces; default :attr:`Surfels.rgb`.
        samples: n x n rays a pixel for ``rgb`` and ``opacity``; the other buffers are always of the central ray.
        dtype: of the rays.

    Raises:
        InputError: ``samples`` is below 1.
    """
    if samples < 1:
        raise InputError(f"{samples} samples a pixel show nothing; give 1 or more")
    u, v = pixel_centres(camera.width, camera.height, scene.image.device)
    rays = camera.rays_at(u, v, dtype=dtype)
    hits, surfels, rgb = _sample(scene, camera, rays, light, shader)
    sky = hits.kind == SKY
    opacity = (~sky).to(rgb.dtype)
    if samples > 1:
        rgb, opacity = torch.zeros_like(rgb), torch.zeros_like(opacity)
        for k in range(samples * samples):
            du, dv = (k % samples + 0.5) / samples - 0.5, (k // samples + 0.5) / samples - 0.5
            part, _, colour = _sample(scene, camera, camera.rays_at(u + du, v + dv, dtype=dtype), light, shader)
            rgb, opacity = rgb + colour / samples**2, opacity + (part.kind != SKY).to(rgb.dtype) / samples**2
    surface = torch.nonzero(~sky.reshape(-1))[:, 0]

    def spread_out(values: Tensor) -> Tensor:
        empty = torch.zeros(sky.numel(), dtype=values.dtype, device=values.device)
        return empty.index_put((surface,), values).reshape(sky.shape)

    return View(
        rgb=rgb,
        distance=hits.t,
        depth=hits.t * camera.forward(rays),
        normals=hits.normal,
        opacity=opacity,
        sky=sky,
        classes=spread_out(surfels.classes),
        kind=hits.kind,
        index=hits.index,
        seen=spread_out(surfels.seen),
        camera=camera,
        frame=scene.frame,
        provenance={
            **scene.provenance,
            **getattr(light, "provenance", {}),  # what it invents
            "renderer": "exact surfaces",
            "samples": samples,
        },
    )


def _sample(
    scene: Scene, camera: AnyCamera, rays: Rays, light: Illumination | None, shader: Shader | None
) -> tuple[Hits, Surfels, Tensor]:
    """Hits (h, w), what is known of those that are no sky (n), and display values (h, w, 3)."""
    hits = scene.cast(rays)
    flat, every = rays.flat(), hits.reshape(-1)
    on = torch.nonzero(every.kind != SKY)[:, 0]
    off = torch.nonzero(every.kind == SKY)[:, 0]
    found = Hits(*(getattr(every, name)[on] for name in Hits.__dataclass_fields__))
    surfels = surfels_of(scene, camera, Rays(flat.origins[on], flat.directions[on]), found)
    colour = surfels.rgb
    if shader is not None:
        colour = shader(surfels).to(colour.dtype)
        kept = (colour == surfels.rgb).all(dim=-1)
        surfels = Surfels(**{**surfels.__dict__, "seen": surfels.seen & kept})
    if light is not None:
        colour = light.surface(scene, surfels, colour).to(colour.dtype)
    above = light.sky(flat.directions[off]) if light is not None else plain_sky(flat.directions[off])
    rgb = torch.zeros(len(flat.directions), 3, dtype=colour.dtype, device=colour.device)
    rgb = rgb.index_put((on,), colour).index_put((off,), above.to(colour.dtype))
    return hits, surfels, rgb.reshape(*rays.shape, 3)


def surfels_of(scene: Scene, camera: AnyCamera | float | int, rays: Rays, hits: Hits) -> Surfels:
    """Everything that is known of hits (n), none of which is sky; instead of a camera, radians between neighbouring rays."""
    points = rays.at(hits.t)
    x, y, z = points.unbind(dim=1)
    uv = torch.stack([x, y], dim=1)
    if len(scene.buildings):
        buildings, edge = scene.buildings, hits.edge.clamp(min=0)
        foot, start = buildings.edges[edge, :2].to(x.dtype), buildings.along[edge].to(x.dtype)
        along = start + torch.linalg.vector_norm(points[:, :2] - foot, dim=1)
        up = z - buildings.base[hits.index.clamp(min=0, max=len(buildings) - 1)].to(x.dtype)
        uv = torch.where((hits.edge >= 0)[:, None], torch.stack([along, up], dim=1), uv)
    inside = scene.grid.inside(x, y)
    with torch.no_grad():
        seen = (hits.kind != WALL) & inside
        if len(scene.buildings) or len(scene.objects) or scene.water is not None:  # a height field alone hides nothing
            seen = seen & (z.detach() >= scene.surface_at(x.detach(), y.detach()) - _SEEN)
    classes = scene.classes_of(hits, points.detach())
    rgb, seen = _colours(scene, hits, points, seen)
    return Surfels(
        points, rays.directions, hits.t, hits.normal, hits.kind, hits.index, hits.edge, uv, classes, seen,
        hits.t.detach() * _angle(camera) if not isinstance(camera, OrthographicCamera)
        else torch.full_like(hits.t.detach(), camera.gsd),
        rgb,
    )  # fmt: skip


def _angle(camera: AnyCamera | float | int) -> float:
    """Radians between neighbouring rays in the middle of the picture."""
    if isinstance(camera, float | int):
        return float(camera)
    return 1 / camera.fx if isinstance(camera, Camera) else 2 * math.pi / camera.width


def _colours(scene: Scene, hits: Hits, points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Image colours, or a guess; and which of them the image shows."""
    wall = (hits.kind == WALL)[:, None]
    # A wall takes the colour of the edge of its roof, half a pixel behind it.
    at = points - torch.where(wall, 0.6 * scene.grid.step * hits.normal, torch.zeros_like(points))
    rgb = sample_image(scene, at[:, 0], at[:, 1])
    base, more = _WALL_SHADE
    facing = (hits.normal[:, :1] - hits.normal[:, 1:2]) / math.sqrt(2)
    rgb = torch.where(wall, rgb * (base + more * facing), rgb)
    border = torch.cat([scene.image[0], scene.image[-1], scene.image[:, 0], scene.image[:, -1]]).mean(dim=0)
    outside = ~scene.grid.inside(points[:, 0], points[:, 1])
    rgb = torch.where(outside[:, None], border.to(rgb.dtype), rgb)
    if len(scene.objects):
        own = scene.objects.colour[hits.index.clamp(0, len(scene.objects) - 1)].to(rgb.dtype)
        painted = (hits.kind == OBJECT) & ~torch.isnan(own).any(dim=1)
        rgb, seen = torch.where(painted[:, None], own, rgb), seen & ~painted
    return rgb, seen


def sample_image(scene: Scene, x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """The image at points: bilinear between pixel centres, the edge pixels beyond the outermost; exact at centres."""
    grid, image = scene.grid, scene.image
    row, column = (w - 0.5 for w in grid.pixels(x, y))
    row, column = row.clamp(0, grid.rows - 1), column.clamp(0, grid.columns - 1)
    # Within a thousandth of a pixel of a centre it is the centre: float32 rounding must not mix neighbours in.
    row, column = (torch.where((w - w.round()).abs() < 1e-3, w.round(), w) for w in (row, column))
    r, c = (
        row.floor().long().clamp(max=max(grid.rows - 2, 0)),
        column.floor().long().clamp(max=max(grid.columns - 2, 0)),
    )
    p, q = (column - c)[:, None].to(image.dtype), (row - r)[:, None].to(image.dtype)
    below, right = (r + 1).clamp(max=grid.rows - 1), (c + 1).clamp(max=grid.columns - 1)
    upper = image[r, c] * (1 - p) + image[r, right] * p
    return upper * (1 - q) + (image[below, c] * (1 - p) + image[below, right] * p) * q


def plain_sky(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """A gradient from the horizon to the zenith, when nothing is known of the light."""
    up = directions[:, 2:].clamp(0, 1).sqrt()
    return (1 - up) * directions.new_tensor(HORIZON) + up * directions.new_tensor(ZENITH)


__all__ = ["ROOF", "Illumination", "Shader", "Surfels", "plain_sky", "render", "sample_image", "surfels_of"]
