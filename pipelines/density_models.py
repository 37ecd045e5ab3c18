"""What the ground-view pipeline asks of a published model, the same for all: hold a tile, read a light, look around, look down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from ..models.sat2density import Sat2Density
from ..models.sat2density_frames import look_around, look_down, panorama_camera, tile_volume
from ..models.sat2density_plus import Sat2DensityPlus
from ..models.sat2density_plus_views import from_above, panorama
from ..models.sky_histogram import raw_histogram
from ..render.cameras import Panorama
from ..render.environment import sky_histogram
from ..render.volume import Integral
from .density_tile import DensityTile


@dataclass(frozen=True, eq=False)
class Around:
    """A panorama of a model.

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

    def hold(self, tile: DensityTile, seed: int | None) -> DensityTile:
        """The tile with what the networks make of it."""

    def histogram(self, picture: Tensor, sky: Tensor) -> Tensor:
        """The light of a reference panorama (h, w, 3) in [0, 1] with its sky mask (h, w)."""

    def light(self, tile: DensityTile, histogram: Tensor, seed: int | None) -> Any:
        """What the networks take for a histogram."""

    def camera(self, east: float, north: float, azimuth: float) -> Panorama:
        """The panorama that the model makes, in the tile's frame."""

    def around(self, tile: DensityTile, camera: Panorama, light: Any, corners: bool) -> Around:
        """Look around."""

    def above(self, tile: DensityTile) -> Above:
        """Look down."""


def ground_model(model: Any) -> GroundModel:
    """The published model behind a network. Raises ModelError for one that is none."""
    for kind, wrap in ((Sat2Density, _Plain), (Sat2DensityPlus, _Plus)):
        if isinstance(model, kind):
            return wrap(model)
    raise ModelError(f"{type(model).__name__} is no ground-view model; load a folder that gensat models convert made")


class _Plain:
    """Sat2Density: a volume under the tile's own colours, and a painter that takes what is seen in it."""

    bicubic = True
    draws = "the light's code, its mean without a seed"

    def __init__(self, model: Sat2Density):
        self.model = model
        self.tile_metres, self.tile_size = float(model.config.tile_metres), int(model.config.tile_size)

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


class _Plus:
    """Sat2Density++: planes of features, a sky of its own, and a super-resolution of both together."""

    bicubic = False
    tile_size = 256
    draws = "the tile's latent, 0 without a seed"

    def __init__(self, model: Sat2DensityPlus):
        self.model = model
        self.tile_metres = float(model.config.tile_metres)

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
        eye = np.array([east, north, self.model.config.eye * self.tile_metres / 2])
        return Panorama(2 * width, 2 * height, eye, azimuth, top, -top)

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
