"""Light on surfaces: sun and sky to radiance, air between, exposure and tone curve to display values.

A light says how bright the sky is in a direction, how much light falls on a surface of a given normal from everything but the sun, and what
the sun adds. Surfaces are Lambertian. Quantities are linear sRGB triples in kcd/m2 (luminance) and klux (illuminance), see :mod:`gensat.render.sky`;
a panorama's own unit works as well, since exposure is measured from the light.

Exposure: an incident-light meter. A grey card of 18 percent that lies in the open is shown at 0.18 (linear) of the display for ``key`` 1.
Tone curve: linear below the knee, then an exponential shoulder that approaches 1, in each channel; then the sRGB transfer function. Both are invertible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.render.harmonics import illuminance, project
from gensat.render.sky import LUMINANCE, Sky

KNEE = 0.6
"""Linear display value at which the shoulder of the tone curve begins."""


@runtime_checkable
class Light(Protocol):
    """What illuminates a scene; directions and normals are unit vectors in the scene frame."""

    @property
    def sun_direction(self) -> tuple[float, float, float] | None:
        """To the sun, or None when nothing casts shadows."""
        ...

    @property
    def sun_illuminance(self) -> tuple[float, float, float]:
        """On a surface that faces the sun, klux per channel."""
        ...

    def luminance(self, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """What is seen where nothing stands in the way."""
        ...

    def ambient(self, normals: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Illuminance from everything but the sun on open surfaces, klux per channel."""
        ...


@dataclass(frozen=True)
class SkyLight:
    """Light of an analytic sky.

    Args:
        sky: sun, turbidity and clouds.
    """

    sky: Sky

    @property
    def sun_direction(self) -> tuple[float, float, float] | None:
        """To the sun; None at night and under a closed sky."""
        return self.sky.to_sun if max(self.sky.sun_illuminance) > 0 else None

    @property
    def sun_illuminance(self) -> tuple[float, float, float]:
        """Klux per channel on a surface that faces the sun."""
        return self.sky.sun_illuminance

    def luminance(self, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Sky with clouds and the solar disc, ground below the horizon, kcd/m2."""
        return self.sky.luminance(directions, disc=True)

    @cached_property
    def _harmonics(self) -> Tensor:
        return project(lambda directions: self.sky.luminance(directions, clouds=False))

    def ambient(self, normals: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Illuminance from sky and ground, klux per channel."""
        return illuminance(self._harmonics.to(normals), normals)


def shade(
    albedo: Float[Tensor, "*shape 3"],
    normals: Float[Tensor, "*shape 3"],
    light: Light,
    *,
    sun_visible: Float[Tensor, "*shape"] | float = 1.0,
    sky_visible: Float[Tensor, "*shape"] | float = 1.0,
    bounce: float | int = 0.18,
) -> Float[Tensor, "*shape 3"]:
    """Luminance of Lambertian surfaces: albedo x illuminance / pi.

    Args:
        albedo: linear RGB, 0 to 1.
        normals: unit, facing the viewer.
        light: what illuminates them.
        sun_visible: 0 to 1, the share of the sun's disc that is seen (:func:`gensat.render.visibility.sun_visibility`).
        sky_visible: 0 to 1, the share of the sky's light that arrives (:class:`gensat.render.visibility.SkyView`).
        bounce: albedo of what hides the rest of the sky; it is taken to be lit like open ground, a third of it by the sun.
    """
    sun = albedo.new_tensor(light.sun_illuminance)
    seen = torch.as_tensor(sky_visible, dtype=albedo.dtype, device=albedo.device)[..., None]
    open_sky = light.ambient(normals)
    up = light.ambient(normals.new_tensor([0.0, 0.0, 1.0]))
    falling = open_sky * seen + (1 - seen) * bounce * (up + sun / 3)
    if light.sun_direction is not None:
        facing = (normals * normals.new_tensor(light.sun_direction)).sum(-1).clamp(min=0.0)
        falling = falling + sun * (facing * sun_visible)[..., None]
    return albedo * falling / math.pi


def through_air(
    luminance: Float[Tensor, "*shape 3"],
    distance: Float[Tensor, "*shape"],
    air: Float[Tensor, "*shape 3"],
    visibility: float | int,
) -> Float[Tensor, "*shape 3"]:
    """What is left of a surface's luminance after a distance, and the air light that replaces it (Koschmieder 1924).

    Args:
        luminance: of the surface.
        distance: metres along the ray; infinite for the sky, which becomes air.
        air: luminance of the horizon in that direction.
        visibility: meteorological range in metres, at which 2 percent of contrast is left.

    Raises:
        InputError: a visibility of 0 or less.
    """
    if not visibility > 0:
        raise InputError(f"visibility {visibility:g} is not a distance; give metres above 0, such as 20000")
    kept = torch.exp(distance * (math.log(0.02) / visibility))[..., None]
    return luminance * kept + air * (1 - kept)


def exposure(light: Light, key: float | int = 1.0) -> float:
    """Factor from luminance to linear display values: 18 percent grey that lies in the open becomes 0.18 x ``key``.

    Raises:
        InputError: there is no light at all.
    """
    up = light.ambient(torch.tensor([0.0, 0.0, 1.0]))
    falling = up * up.new_tensor(LUMINANCE)
    total = float(falling.sum())
    if light.sun_direction is not None:
        total += max(light.sun_direction[2], 0.0) * sum(
            a * b for a, b in zip(light.sun_illuminance, LUMINANCE, strict=True)
        )
    if not total > 0:
        raise InputError("the light gives no illuminance; choose a time of day or a panorama that is not black")
    return key * math.pi / total


def tone_map(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Display values, 0 to 1, of exposed linear values of 0 or more: knee and shoulder, then sRGB."""
    beyond = (linear - KNEE).clamp(min=0.0)
    curve = torch.where(linear < KNEE, linear, KNEE + (1 - KNEE) * (1 - torch.exp(-beyond / (1 - KNEE))))
    return encode_srgb(curve.clamp(0, 1))


def untone(display: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Inverse of :func:`tone_map`; a display value of 1 is taken as 0.9995."""
    curve = decode_srgb(display.clamp(0, 0.9995))
    shoulder = KNEE - (1 - KNEE) * torch.log(((1 - curve) / (1 - KNEE)).clamp(1e-6, 1.0))
    return torch.where(curve < KNEE, curve, shoulder)


def encode_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Transfer function of sRGB (IEC 61966-2-1), linear 0..1 to display 0..1."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


def decode_srgb(display: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Inverse of :func:`encode_srgb`."""
    return torch.where(display <= 0.04045, display / 12.92, ((display.clamp(min=0.0) + 0.055) / 1.055) ** 2.4)
