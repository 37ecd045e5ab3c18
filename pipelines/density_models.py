"""What the ground-view pipeline asks of a published model, the same for all: hold a tile, read a light, look around, look down,
say what is where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from ..models import sat3dgen_views as gen
from ..models.field_rays import ACTIVATIONS
from ..models.sat2density import Sat2Density
from ..models.sat2density_frames import look_around, look_down, panorama_camera, tile_volume
from ..models.sat2density_plus import Sat2DensityPlus
from ..models.sat2density_plus_views import from_above, panorama
from ..models.sat3dgen import TILE, Sat3DGen
from ..models.sky_histogram import raw_histogram
from ..render.cameras import Camera, Panorama
from ..render.environment import sky_histogram
from ..render.volume import Integral
from .density_tile import DensityTile

_SURFACE = 5.0  # per half of the space's width, where Sat2Density++ and Sat3DGen draw their meshes
_POINTS = 2**17  # looked up together


@dataclass(frozen=True, eq=False)
class Around:
    """A panorama, or another view, of a model.

    Args:
        rgb: (h, w, 3) in [0, 1], as the model paints it.
        opacity: (h, w) of what stands there.
        distance: (h, w) metres along the ray to what is hit, infinite where nothing is.
        gathered: (h, w, 3) colours in [0, 1] gathered along the rays before any painting; black or the sky's where nothing is.
    """

    rgb: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w"]
    distance: Float[Tensor, "h w"]
    gathered: Float[Tensor, "h w 3"]


@dataclass(frozen=True, eq=False)
class Above:
    """The tile as a model sees it from above: (h, w, 3) colours in [0, 1], (h, w) metres over the ground."""

    rgb: Float[Tensor, "h w 3"]
    heights: Float[Tensor, "h w"]


@runtime_checkable
class GroundModel(Protocol):
    """A published model behind the pipeline's words."""

    bicubic: bool
    tile_metres: float
    tile_size: int
    draws: str  # what a seed decides
    eye: float  # metres over the bottom of the tile's space
    top: float  # metres of that space
    surface: float  # density per metre at which a mesh is drawn
    perspective: bool  # whether it makes perspective views itself

    def hold(self, tile: DensityTile, seed: int | None) -> DensityTile:
        """The tile with what the networks make of it."""

    def histogram(self, picture: Tensor, sky: Tensor) -> Tensor:
        """The light of a reference panorama (h, w, 3) in [0, 1] with its sky mask (h, w)."""

    def light(self, tile: DensityTile, histogram: Tensor, seed: int | None) -> Any:
        """What the networks take for a histogram."""

    def camera(self, east: float, north: float, azimuth: float) -> Panorama:
        """The panorama that the model makes, in the tile's frame."""

    def around(self, tile: DensityTile, camera: Any, light: Any, corners: bool) -> Around:
        """Look around; at a perspective camera only where ``perspective`` says so."""

    def above(self, tile: DensityTile) -> Above:
        """Look down."""

    def densities(self, tile: DensityTile, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Densities per metre at points of the tile's frame."""

    def colours(self, tile: DensityTile, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Colours in [0, 1] there, in no light in particular."""


def ground_model(model: Any) -> GroundModel:
    """The published model behind a network. Raises ModelError for one that is none."""
    for kind, wrap in ((Sat2Density, _Plain), (Sat2DensityPlus, _Plus), (Sat3DGen, _Gen)):
        if isinstance(model, kind):
            return wrap(model)
    raise ModelError(f"{type(model).__name__} is no ground-view model; load a folder that gensat models convert made")


class _Plain:
    """Sat2Density: a volume under the tile's own colours, and a painter that takes what is seen in it."""

    bicubic = True
    draws = "the light's code, its mean without a seed"
    perspective = False

    def __init__(self, model: Sat2Density):
        self.model, config = model, model.config
        self.tile_metres, self.tile_size = float(config.tile_metres), int(config.tile_size)
        self.eye, self.top = float(config.eye_metres), float(config.volume_metres)
        self.surface = _SURFACE / (self.tile_metres / 2)

    def hold(self, tile: DensityTile, seed: int | None) -> DensityTile:
        pixels = tile.pixels.to(self.model.device, self.model.dtype)
        volume = tile_volume(self.model, self.model.density(pixels[None])[0], pixels)
        return replace(tile, held=volume)

    def histogram(self, picture: Tensor, sky: Tensor) -> Tensor:
        return raw_histogram(picture, sky)

    def light(self, tile: DensityTile, histogram: Tensor, seed: int | None) -> Tensor:
        known = self.model.illumination(histogram[None].to(self.model.device, self.model.dtype))
        code = known.mean if seed is None else known.sample(torch.Generator().manual_seed(seed))
        return self.model.style(code)

    def camera(self, east: float, north: float, azimuth: float) -> Panorama:
        return panorama_camera(self.model, east, north, azimuth)

    def around(self, tile: DensityTile, camera: Panorama, light: Any, corners: bool) -> Around:
        seen = look_around(self.model, tile.held, camera, corners=corners)
        assert seen.values is not None
        maps = torch.stack([*seen.values.unbind(-1), seen.opacity, seen.distance / (self.tile_metres / 2)])
        rgb = self.model.paint(maps[None], light)[0].movedim(0, -1)
        return Around(rgb, seen.opacity, seen.mean_distance(), seen.values)

    def above(self, tile: DensityTile) -> Above:
        seen = look_down(self.model, tile.held)
        assert seen.values is not None
        return Above(seen.values.clamp(0, 1), self.tile_metres - seen.mean_distance())

    def densities(self, tile: DensityTile, points: Tensor) -> Tensor:
        return tile.held.sample(points.to(tile.held.density))

    def colours(self, tile: DensityTile, points: Tensor) -> Tensor:
        return tile.held.sample_colours(points.to(tile.held.density)).clamp(0, 1)


class _Plus:
    """Sat2Density++: planes of features, a sky of its own, and a super-resolution of both together."""

    bicubic = False
    tile_size = 256
    draws = "the tile's latent, 0 without a seed"
    perspective = False

    def __init__(self, model: Sat2DensityPlus):
        self.model = model
        self.tile_metres = self.top = float(model.config.tile_metres)
        self.eye = float(model.config.eye) * self.tile_metres / 2
        self.surface = _SURFACE / (self.tile_metres / 2)

    def _latent(self, seed: int | None) -> Tensor:
        drawn = torch.randn(1, self.model.config.z_dim, generator=torch.Generator().manual_seed(seed or 0))
        return drawn.to(self.model.device, self.model.dtype)

    def hold(self, tile: DensityTile, seed: int | None) -> DensityTile:
        style = self.model.backbone.mapping(self._latent(seed))
        pixels = tile.pixels.to(self.model.device, self.model.dtype)
        planes = self.model.planes(self.model.encode(pixels[None] * 2 - 1), style)[0]
        return replace(tile, held=planes, style=style[0])

    def histogram(self, picture: Tensor, sky: Tensor) -> Tensor:
        return sky_histogram(picture, sky > 0.5)

    def light(self, tile: DensityTile, histogram: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        histogram = histogram[None].to(self.model.device, self.model.dtype)
        light = self.model.sky_img_mapping(self._latent(seed), histogram)
        return light[0], self.model.sky(light)[0]

    def camera(self, east: float, north: float, azimuth: float) -> Panorama:
        (width, height), top = self.model.config.render_size, self.model.config.elevation
        return Panorama(2 * width, 2 * height, np.array([east, north, self.eye]), azimuth, top, -top)

    def around(self, tile: DensityTile, camera: Panorama, light: Any, corners: bool) -> Around:
        half, (w, sky) = self.tile_metres / 2, light
        x, y, z = camera.position
        eye = torch.tensor([x / half, -y / half, z / half - 1])
        assert tile.style is not None
        azimuth = float(camera.azimuth)
        seen = panorama(self.model, tile.held, eye, w, tile.style, sky=sky, azimuth=azimuth, corners=corners)
        geometry = Integral(seen.opacity, seen.depth * half, None)
        maps = torch.stack([seen.opacity, geometry.mean_distance()])[None]
        opacity, distance = F.interpolate(maps, scale_factor=2.0, mode="nearest")[0]
        small = (seen.blended[None, :3] + 1) / 2
        gathered = F.interpolate(small, scale_factor=2.0, mode="nearest")[0]
        rgb = (seen.picture + 1) / 2
        return Around(rgb.clamp(0, 1).movedim(0, -1), opacity, distance, gathered.clamp(0, 1).movedim(0, -1))

    def above(self, tile: DensityTile) -> Above:
        seen = from_above(self.model, tile.held)
        assert seen.values is not None
        rgb = (seen.values[..., :3] + 1) / 2
        return Above(rgb.clamp(0, 1), (2 - seen.mean_distance()) * (self.tile_metres / 2))

    def densities(self, tile: DensityTile, points: Tensor) -> Tensor:
        raw = self._features(tile, points, self.model.density)
        return ACTIVATIONS[self.model.config.activation](raw) / (self.tile_metres / 2)

    def colours(self, tile: DensityTile, points: Tensor) -> Tensor:
        return self._features(tile, points, lambda feature: self.model.colour(feature)[:, :3]).clamp(0, 1)

    def _features(self, tile: DensityTile, points: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        x, y, z = (points.to(tile.held) / (self.tile_metres / 2)).unbind(-1)
        parts = torch.stack([x, -y, z - 1], dim=-1).split(_POINTS)
        return torch.cat([read(self.model.features(tile.held, part)) for part in parts])


class _Gen:
    """Sat3DGen: a plane of features and a column of them, a sky of its own, any camera."""

    bicubic = True
    tile_size = TILE
    draws = "nothing"
    perspective = True

    def __init__(self, model: Sat3DGen):
        self.model, config = model, model.config
        self.tile_metres, self.top = float(config.tile_metres), gen.top_metres(model)
        self.eye = float(config.eye) * self.tile_metres / 2
        self.surface = _SURFACE * model.shrink / (self.tile_metres / 2)

    def hold(self, tile: DensityTile, seed: int | None) -> DensityTile:
        pixels = tile.pixels.to(self.model.device, self.model.dtype)
        return replace(tile, held=self.model.encode(pixels[None])[0])

    def histogram(self, picture: Tensor, sky: Tensor) -> Tensor:
        return sky_histogram(picture, sky > 0.5)

    def light(self, tile: DensityTile, histogram: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        light = self.model.light(histogram[None].to(self.model.device, self.model.dtype))
        return light[0], self.model.sky(light)[0]

    def camera(self, east: float, north: float, azimuth: float) -> Panorama:
        width, height = self.model.config.render_size
        return Panorama(2 * width, 2 * height, np.array([east, north, self.eye]), azimuth)

    def around(self, tile: DensityTile, camera: Camera | Panorama, light: Any, corners: bool) -> Around:
        half = self.tile_metres / 2
        seen = gen.look(self.model, tile.held, gen.halved(camera), *light, edges=corners)
        geometry = Integral(seen.opacity, seen.depth * half, None)
        maps = torch.stack([seen.opacity, geometry.mean_distance()])[None]
        opacity, distance = F.interpolate(maps, scale_factor=2.0, mode="nearest")[0]
        gathered = F.interpolate(seen.blended[None, :3], scale_factor=2.0, mode="nearest")[0]
        return Around(seen.picture.movedim(0, -1), opacity, distance, gathered.clamp(0, 1).movedim(0, -1))

    def above(self, tile: DensityTile) -> Above:
        seen = gen.from_above(self.model, tile.held)
        assert seen.values is not None
        return Above(seen.values[..., :3].clamp(0, 1), self.top - seen.mean_distance() * (self.tile_metres / 2))

    def densities(self, tile: DensityTile, points: Tensor) -> Tensor:
        return gen.densities(self.model, tile.held, points)

    def colours(self, tile: DensityTile, points: Tensor) -> Tensor:
        return gen.colours(self.model, tile.held, points)
