"""What Sat3DGen sees: panoramas and perspective views in metres of the tile, the view from above, densities at places.

Cameras stand in the tile's frame: x east, y north, z up from the bottom of the tile's space, its origin at the centre.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.models.field_rays import ACTIVATIONS, Seen, gather, to_cube
from gensat.models.sat3dgen import Planes, Sat3DGen, sample_sky
from gensat.render.cameras import Camera, Panorama, pixel_centres
from gensat.render.rays import Rays
from gensat.render.volume import Integral

_POINTS = 2**17  # looked up together


def into_cube(model: Sat3DGen, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Metres of the tile's frame to the published frame."""
    half = model.config.tile_metres / 2
    x, y, z = (points / half).unbind(-1)
    return torch.stack([x, -y, z - 1], dim=-1) * model.shrink


def camera_rays(camera: Camera | Panorama, *, edges: bool = False) -> Rays:
    """Rays through the centres of the pixels, float64 in the tile's frame.

    ``edges``: as published, the first and the last column (row) of a panorama look along its left and right (upper and lower) edge.
    """
    if not edges or isinstance(camera, Camera):
        return camera.rays(dtype=torch.float64)
    u, v = pixel_centres(camera.width, camera.height)
    stretch = lambda at, count: (at - 0.5) / (count - 1) * count  # noqa: E731
    return camera.rays_at(stretch(u, camera.width), stretch(v, camera.height), dtype=torch.float64)


def look(
    model: Sat3DGen,
    planes: Planes,
    camera: Camera | Panorama,
    light: Float[Tensor, " s"],
    sky: Float[Tensor, "c rows cols"],
    *,
    edges: bool = False,
) -> Seen:
    """A panorama or a perspective view.

    Args:
        model: the networks.
        planes: of the tile.
        camera: at the size of the features, half that of the picture; 256 x 64 and 128 x 128 with a field of view of 120 degrees
            are what the networks saw.
        light: of what stands there.
        sky: its features (``model.sky``).
        edges: rays of panoramas as published (:func:`camera_rays`), and borders that do not meet.

    Raises:
        InputError: the camera stands outside of the cube.
    """
    rays = camera_rays(camera, edges=edges)
    start = into_cube(model, rays.origins.reshape(-1, 3)[0])
    if not bool((start.abs() < 1).all()):
        raise InputError(f"the camera at {camera.position.round(2).tolist()} m stands outside of the tile's space")
    along = (rays.directions * rays.directions.new_tensor([1.0, -1.0, 1.0])).to(sky)
    start = start.to(sky)
    found = gather(model, planes, start, along, to_cube(start, along), light)
    assert found.values is not None
    features = found.values.movedim(-1, 0)
    # what stands there is weighted once more by its opacity, as published
    blended = features * found.opacity + sample_sky(sky, along).movedim(-1, 0) * (1 - found.opacity)
    picture = model.upscale(blended, isinstance(camera, Panorama) and not edges)
    return Seen(picture, features, found.opacity, found.distance / model.shrink, blended)


def from_above(model: Sat3DGen, planes: Planes, size: int = 256, light: Float[Tensor, " s"] | None = None) -> Integral:
    """The tile straight from above, ``size`` x ``size``: values are features in [0, 1], distances half tiles from the cube's top."""
    like = planes.ground
    at = ((torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / (size / 2) - 1) * model.shrink
    start = torch.stack([at.expand(size, -1), at[:, None].expand(-1, size), torch.ones_like(at).expand(size, -1)], -1)
    down = like.new_tensor([0.0, 0.0, -1.0]).expand(size, size, 3)
    found = gather(model, planes, start, down, like.new_full((size, size), 2.0), light)
    return Integral(found.opacity, found.distance / model.shrink, None, found.values)


def top_metres(model: Sat3DGen) -> float:
    """Height of the cube's top over the bottom of the tile's space."""
    return model.config.tile_metres / 2 * (1 + 1 / model.shrink)


def densities(model: Sat3DGen, planes: Planes, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Densities per metre at points in metres of the tile's frame."""
    active = ACTIVATIONS[model.config.activation]
    per_metre = model.shrink / (model.config.tile_metres / 2)
    parts = into_cube(model, points).to(planes.ground).split(_POINTS)
    return torch.cat([active(model.density(model.features(planes, part))) for part in parts]) * per_metre


def colours(
    model: Sat3DGen, planes: Planes, points: Float[Tensor, "n 3"], light: Float[Tensor, " s"] | None = None
) -> Float[Tensor, "n 3"]:
    """Red, green and blue in [0, 1] at points in metres of the tile's frame."""
    parts = into_cube(model, points).to(planes.ground).split(_POINTS)
    return torch.cat([model.colour(model.features(planes, part), light)[:, :3] for part in parts])


def halved(camera: Camera | Panorama) -> Camera | Panorama:
    """The same view with half as many pixels a side: what its features are computed for. Sides must be even."""
    if isinstance(camera, Panorama):
        return replace(camera, width=camera.width // 2, height=camera.height // 2)
    scaled = {name: getattr(camera, name) / 2 for name in ("fx", "fy", "cx", "cy")}
    return replace(camera, width=camera.width // 2, height=camera.height // 2, **scaled)
