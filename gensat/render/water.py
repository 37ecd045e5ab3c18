"""What flood water looks like in a scene: what it mirrors, what it lets through, and its own colour.

At each point of the surface the ray is split by Fresnel's equations. One part is mirrored, off waves that are tied to the place, and meets what
stands above the water, or the sky; the other is refracted (Snell, n = 1.333) and meets the ground or a wall under water, whose light fades as
in :mod:`gensat.render.water_optics`, over the way down from the surface and the slanted way back, into the colour of the water itself.

Where the waterline is, is not this module's: it is where the exact level surface (:mod:`gensat.render.flood_scene`) meets walls and ground.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError
from gensat.render.gbuffers import Illumination, Surfels, plain_sky, surfels_of
from gensat.render.light import tone_map, untone
from gensat.render.lighting import SceneLight
from gensat.render.rays import SKY, TERRAIN, WALL, Hits, Rays
from gensat.render.scene import Scene
from gensat.render.streets.noise import value_noise
from gensat.render.water_optics import REFRACTION, RGB, Water
from gensat.render.waves import Waves

FILM = 0.05
"""Metres of water under which the ground is seen through a film that is not closed yet."""

_THIN = 2e-3  # metres of water that still count as ground
_INSIDE = 0.01  # metres behind a surface at which one asks what it encloses
_OPAQUE = 6.0  # optical depth at which 0.2 percent of the bottom's light is left
_WET = (
    0.57  # of the bottom's light passes the surface on its way up (Lee et al. 1998, for bottoms of middle brightness)
)
_LAND = 0.17  # mean albedo of land, by which an image without a known light is read
_UNDER_SUN = 50.0  # degrees: elevation of a light that has no sun


class WaterLight:
    """The light of a scene under water, for :func:`gensat.render.gbuffers.render`; give ``shader`` to it too, so that water counts as invented.

    Args:
        scene: with its water.
        base: light of all that is no water (:class:`~gensat.render.lighting.SceneLight`, ``DressedLight``); None for the image's own.
        water: what is in it: a :class:`~gensat.render.water_optics.Water`, a name of ``WATERS``, or g/m3 of sediment.
        wind: metres per second, for ripples; 0 is a mirror.
        azimuth: degrees from grid north towards which the wind blows.
        time: seconds, for waves that move.
        seed: of waves.

    Raises:
        InputError: the scene has no water, or there is no such water or wind.
    """

    def __init__(
        self,
        scene: Scene,
        base: Illumination | None = None,
        *,
        water: Water | str | float | int = "silt",
        wind: float | int = 1.5,
        azimuth: float | int = 60.0,
        time: float | int = 0.0,
        seed: int = 0,
    ) -> None:
        if scene.water is None:
            raise InputError("the scene has no water; give a depth raster (gensat.render.flood_scene.flooded)")
        self.scene, self.base, self.time = scene, base, float(time)
        self.dry = replace(scene, water=None)
        self.what = Water.named(water)
        self.waves = Waves(
            wind, azimuth, origin=(float(scene.frame.origin[0]), float(scene.frame.origin[1])), seed=seed
        )
        self.provenance: dict[str, Any] = {
            **getattr(base, "provenance", {}),
            "flood": "physical surface",
            "water": {"sediment": float(self.what.sediment), "dissolved": float(self.what.dissolved)},
            "wind": float(wind),
        }

    def at(self, scene: Scene, *, time: float | int = 0.0) -> WaterLight:
        """The same light on the same place with another level of water, as of a rising flood; what was worked out of the dry scene is kept."""
        other = object.__new__(WaterLight)
        other.__dict__.update(self.__dict__)
        other.scene, other.time = scene, float(time)
        return other

    def wet(self, surfels: Surfels) -> Bool[Tensor, " n"]:
        """Which points lie on the water: its surface, or the side of one of its cells where the next is lower or dry."""
        inside = surfels.points - _INSIDE * torch.where(surfels.kind == WALL, 1.0, 0.0)[:, None] * surfels.normals
        x, y = inside[:, 0].contiguous(), inside[:, 1].contiguous()
        level = self.scene._water.height_at(x, y)  # type: ignore[attr-defined]
        ground = self.scene.height_at(x, y)
        z = surfels.points[:, 2]
        alone = (surfels.kind == TERRAIN) | ((surfels.kind == WALL) & (surfels.index < 0))
        return alone & (z <= level + _INSIDE) & (z > torch.nan_to_num(ground, nan=-torch.inf) + _THIN)

    def shader(self, surfels: Surfels) -> Float[Tensor, "n 3"]:
        """Colours before light: those of the image, and of deep water."""
        deep = tone_map(surfels.rgb.new_tensor(self.deep / self._gain))
        return torch.where(self.wet(surfels)[:, None], deep, surfels.rgb)

    @cached_property
    def deep(self) -> Float[np.ndarray, " 3"]:
        """Reflectance of the water, red, green and blue."""
        return self.what.reflectance(RGB)

    @cached_property
    def _gain(self) -> float:
        """Albedo of linear display value 1 in an image whose light nobody knows."""
        return _LAND / max(float(untone(self.scene.image.detach()).mean()), 1e-6)

    def sky(self, directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of the sky."""
        return plain_sky(directions) if self.base is None else self.base.sky(directions)

    def surface(self, scene: Scene, surfels: Surfels, rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of all surfaces."""
        wet = self.wet(surfels)
        land, water = torch.nonzero(~wet)[:, 0], torch.nonzero(wet)[:, 0]
        shown = torch.zeros_like(rgb)
        if len(land):
            shown = shown.index_copy(0, land, self._lit(_some(surfels, land), rgb[land]).to(shown))
        if len(water):
            shown = shown.index_copy(0, water, tone_map(self._water(_some(surfels, water))).to(shown))
        return shown

    def _lit(self, surfels: Surfels, rgb: Tensor) -> Tensor:
        return rgb if self.base is None else self.base.surface(self.dry, surfels, rgb)

    def _water(self, surfels: Surfels) -> Tensor:
        """Linear display values of points on the water."""
        normals = self._rippled(surfels)
        cosine = -(surfels.directions * normals).sum(1).clamp(-1.0, -1e-4)
        mirrored = self._along(surfels, surfels.directions + 2 * cosine[:, None] * normals, upward=True)[0]
        share = _fresnel(cosine)[:, None]
        return share * mirrored + (1 - share) * self._under(surfels, normals, cosine)

    def _rippled(self, surfels: Surfels) -> Tensor:
        """Normals of the waves, none of which faces away from the ray."""
        x, y = surfels.points[:, 0].contiguous(), surfels.points[:, 1].contiguous()
        slant = surfels.directions[:, 2].abs().clamp(min=0.02)
        slopes, rest = self.waves.slopes(x.double(), y.double(), (surfels.spread / slant.sqrt()).double(), self.time)
        slopes = slopes.to(x)
        # Of waves finer than a pixel each ray meets one facet, always the same at a place.
        grain = [(value_noise(surfels.points[:, :2], 0.07, 91 + axis) - 0.5) * 3 for axis in (0, 1)]
        slopes = slopes + torch.stack(grain, 1) * (0.35 * rest.to(x)).sqrt()[:, None]
        # A facet that faces away from the eye is hidden behind another one: it is laid flatter.
        across = surfels.directions[:, :2]
        towards = (slopes * across).sum(1)
        room = 0.7 * surfels.directions[:, 2].abs()
        slopes = slopes * (room / towards.clamp(min=1e-6)).clamp(max=1.0)[:, None]
        return torch.nn.functional.normalize(torch.cat([-slopes, torch.ones_like(x)[:, None]], 1), dim=1)

    def _along(
        self, surfels: Surfels, directions: Tensor, *, upward: bool, far: Tensor | None = None
    ) -> tuple[Tensor, Hits]:
        """Linear display values of what rays from the water meet in the dry scene, and what it is; ``far`` metres away nothing counts."""
        up = directions[:, 2:].clamp(min=0.01) if upward else directions[:, 2:].clamp(max=-0.01)
        directions = torch.nn.functional.normalize(torch.cat([directions[:, :2], up], 1), dim=1)
        lift = surfels.points.new_tensor([0.0, 0.0, 1e-3 if upward else -1e-4])
        rays = Rays(surfels.points + lift, directions)
        hits = self.dry.cast(rays)
        found = hits.kind != SKY
        if far is not None:
            found = found & (hits.t < far)
        on, off = torch.nonzero(found)[:, 0], torch.nonzero(~found)[:, 0]
        shown = torch.zeros_like(surfels.points)
        if len(on):
            some = Hits(*(getattr(hits, name)[on] for name in Hits.__dataclass_fields__))
            there = surfels_of(self.dry, 1.0, Rays(rays.origins[on], directions[on]), some)
            angle = surfels.spread[on] / surfels.distance[on].clamp(min=1e-3)
            way = surfels.distance[on] + some.t
            there = Surfels(**{**there.__dict__, "distance": way, "spread": angle * way})
            shown = shown.index_copy(0, on, untone(self._lit(there, there.rgb)).to(shown))
        if len(off) and upward:
            shown = shown.index_copy(0, off, untone(self.sky(directions[off])).to(shown))
        return shown, hits

    def _under(self, surfels: Surfels, normals: Tensor, cosine: Tensor) -> Tensor:
        """Linear display values of the light that comes out of the water: of the bottom, and of the water itself."""
        into = surfels.points.new_tensor(self._clouding)
        body = self._body(surfels)
        ground = self.dry.height_at(surfels.points[:, 0].contiguous(), surfels.points[:, 1].contiguous())
        deep = (surfels.points[:, 2] - torch.nan_to_num(ground, nan=-1e3)).clamp(min=0)
        clear = torch.nonzero(float(into.min()) * deep < _OPAQUE)[:, 0]
        kept = torch.zeros_like(body)
        bottom = torch.zeros_like(body)
        if len(clear):
            part = _some(surfels, clear)
            bent, eta = cosine[clear], 1 / REFRACTION
            down = (1 - eta**2 * (1 - bent**2)).sqrt()
            refracted = eta * part.directions + (eta * bent - down)[:, None] * normals[clear]
            shown, hits = self._along(part, refracted, upward=False, far=deep[clear] * 40 + 1)
            way = hits.t.clamp(max=1e4)
            below = (way * -refracted[:, 2]).clamp(min=0)
            left = torch.exp(-into * (below[:, None] * self._sunward + way[:, None] * self._upward))
            left = left * (hits.kind != SKY)[:, None]
            film = (deep[clear] / FILM).clamp(0, 1)[:, None]
            kept = kept.index_copy(0, clear, left.to(kept))
            bottom = bottom.index_copy(0, clear, (shown * (1 - (1 - _WET) * film)).to(bottom))
        return body * (1 - kept) + bottom * kept

    def _body(self, surfels: Surfels) -> Tensor:
        """Linear display values of deep water in the light that falls on it."""
        albedo = surfels.points.new_tensor(self.deep).expand_as(surfels.points)
        flat = torch.zeros_like(surfels.normals)
        flat[:, 2] = 1
        level = Surfels(**{**surfels.__dict__, "normals": flat})
        if isinstance(self.base, SceneLight):
            return untone(self.base.develop(self.base.falling(self.dry, level, albedo), level))
        shown = tone_map(albedo / self._gain)
        return untone(shown if self.base is None else self.base.surface(self.dry, level, shown))

    @cached_property
    def _clouding(self) -> Float[np.ndarray, " 3"]:
        """a + b in 1/m, red, green and blue."""
        return self.what.absorption(RGB) + self.what.backscatter(RGB)

    @cached_property
    def _sunward(self) -> float:
        """Metres of light's way down per metre of depth."""
        direction = self.base.light.sun_direction if isinstance(self.base, SceneLight) else None
        up = math.sin(math.radians(_UNDER_SUN)) if direction is None else max(direction[2], 0.05)
        return 1 / math.sqrt(1 - (1 - up**2) / REFRACTION**2)

    @cached_property
    def _upward(self) -> Tensor:
        """Spread of the way up, per channel (Lee et al. 1999): 1.03 sqrt(1 + 2.4 u)."""
        share = self.what.backscatter(RGB) / self._clouding
        return torch.from_numpy(1.03 * np.sqrt(1 + 2.4 * share)).to(self.scene.image)


def _some(surfels: Surfels, index: Tensor) -> Surfels:
    return Surfels(**{name: value[index] for name, value in surfels.__dict__.items()})


def _fresnel(cosine: Tensor) -> Tensor:
    """Mirrored share of unpolarised light on water, as :func:`gensat.render.water_optics.fresnel`."""
    under = (1 - (1 - cosine**2) / REFRACTION**2).sqrt()
    along = (REFRACTION * cosine - under) / (REFRACTION * cosine + under)
    across = (cosine - REFRACTION * under) / (cosine + REFRACTION * under)
    return (along**2 + across**2) / 2
