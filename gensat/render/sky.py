"""An analytic sky: clear after Preetham, overcast after the CIE, clouds between the two, and the sun through the air.

Preetham, Shirley and Smits 1999, "A practical analytic model for daylight": the luminance and chromaticity of a clear sky follow Perez'
five-parameter distribution (equation 3) with parameters linear in turbidity (appendix A.2); the sun is dimmed by Rayleigh scattering, aerosol and ozone (appendix A.1).
The overcast sky is the CIE's (Moon and Spencer 1942). Units: kcd/m2 for luminance and klux for illuminance, as linear sRGB triples
whose luminance 0.2126 R + 0.7152 G + 0.0722 B is that number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.geo.sun import SunPosition
from gensat.render.equirect import equirect_directions, solid_angles

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear sRGB (ITU-R BT.709)."""

SUN_RADIUS = math.radians(0.2666)
"""Angular radius of the solar disc at the mean distance of the Earth."""

SUN_SOLID_ANGLE = 2 * math.pi * (1 - math.cos(SUN_RADIUS))

_EXTRATERRESTRIAL = 133.8  # klux of sunlight above the air
_WAVELENGTHS = (0.61, 0.55, 0.465)  # micrometres that stand for R, G, B
_OZONE = (0.115, 0.085, 0.01)  # absorption per cm at those wavelengths; 0.35 cm of it
_SUN_COLOUR = (1.0, 0.99, 0.97)  # of unfiltered sunlight in linear sRGB, D65-like
# appendix A.2: per quantity the (slope, offset) of A..E in turbidity, then the zenith's polynomial
_PEREZ = {
    "Y": ((0.1787, -1.4630), (-0.3554, 0.4275), (-0.0227, 5.3251), (0.1206, -2.5771), (-0.0670, 0.3703)),
    "x": ((-0.0193, -0.2592), (-0.0665, 0.0008), (-0.0004, 0.2125), (-0.0641, -0.8989), (-0.0033, 0.0452)),
    "y": ((-0.0167, -0.2608), (-0.0950, 0.0092), (-0.0079, 0.2102), (-0.0441, -1.6537), (-0.0109, 0.0529)),
}
_ZENITH = {
    "x": (
        (0.00166, -0.00375, 0.00209, 0.0),
        (-0.02903, 0.06377, -0.03202, 0.00394),
        (0.11693, -0.21196, 0.06052, 0.25886),
    ),
    "y": (
        (0.00275, -0.00610, 0.00317, 0.0),
        (-0.04214, 0.08970, -0.04153, 0.00516),
        (0.15346, -0.26756, 0.06670, 0.26688),
    ),
}
_XYZ_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
_OVERCAST = (0.97, 1.0, 1.05)  # the colour of cloud, a little blue
_TWILIGHT = 0.8  # per degree: how fast the sky darkens after sunset (400 lux at 0 degrees, 3.4 at -6)


@dataclass(frozen=True)
class Sky:
    """Luminance of the sky in every direction.

    Args:
        sun: unit vector to the sun in the scene frame (:meth:`gensat.geo.sun.SunPosition.direction`), or a SunPosition where true north is y.
        turbidity: haze: 2 very clear, 3 clear, 6 hazy, 10 the model's end.
        cloud_cover: 0 (clear) to 1 (overcast). In between, soft clouds cover that share of the sky; the sun's light falls
            by Kasten and Czeplak's 1 - 0.75 c^3.4 and is scattered instead.
        ground: albedo of the ground below the horizon, linear RGB.
        seed: of the clouds' places.

    Raises:
        InputError: a turbidity outside 1.7 to 10 or a cloud cover outside 0 to 1.
    """

    sun: Sequence[float] | SunPosition
    turbidity: float | int = 3.0
    cloud_cover: float | int = 0.0
    ground: Sequence[float] = (0.16, 0.15, 0.13)
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.sun, SunPosition):
            object.__setattr__(self, "sun", self.sun.direction())
        x, y, z = self.sun  # type: ignore[misc]
        length = math.hypot(x, y, z)
        if not (math.isfinite(length) and length > 0):
            raise InputError(f"sun direction {(x, y, z)} has no length; give a vector to the sun")
        object.__setattr__(self, "sun", (x / length, y / length, z / length))
        if not 1.7 <= self.turbidity <= 10:
            raise InputError(
                f"turbidity {self.turbidity:g} is outside the sky model; give 1.7 (very clear) to 10 (haze)"
            )
        if not 0 <= self.cloud_cover <= 1:
            raise InputError(f"cloud cover {self.cloud_cover:g} is not a fraction; give 0 to 1")

    @property
    def to_sun(self) -> tuple[float, float, float]:
        """Unit vector to the sun."""
        return self.sun  # type: ignore[return-value]

    @property
    def elevation(self) -> float:
        """Of the sun, degrees."""
        return math.degrees(math.asin(max(-1.0, min(1.0, self.to_sun[2]))))

    @cached_property
    def _dusk(self) -> float:
        """What is left of the light of a sun at the horizon."""
        return math.exp(_TWILIGHT * max(min(self.elevation, 0.0), -18.0))

    @cached_property
    def sun_illuminance(self) -> tuple[float, float, float]:
        """Klux per channel on a surface facing the sun, clouds included; 0 when the whole disc is below the horizon."""
        height = math.degrees(SUN_RADIUS)
        share = min(max((self.elevation + height) / (2 * height), 0.0), 1.0)
        left = 1 - self.cloud_cover**2 if self.cloud_cover < 1 else 0.0  # thick cloud hides the disc
        clear = sun_through_air(max(self.elevation, 0.0), self.turbidity)
        return tuple(share * left * value for value in clear)  # type: ignore[return-value]

    def luminance(
        self, directions: Float[Tensor, "*shape 3"], *, disc: bool = False, clouds: bool = True
    ) -> Float[Tensor, "*shape 3"]:
        """Kcd/m2 as linear sRGB, above and below the horizon.

        Args:
            directions: unit vectors.
            disc: add the sun's disc, which light that casts shadows counts by itself.
            clouds: draw clouds where they are; else the average of sky and cloud, which is smooth.
        """
        z = directions[..., 2:]
        upward = torch.cat([directions[..., :2], z.clamp(min=0.0)], dim=-1)
        upward = upward / upward.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        light = self._mixed(upward, clouds)
        if disc:
            towards = (directions * directions.new_tensor(self.to_sun)).sum(-1, keepdim=True)
            inside = towards >= math.cos(SUN_RADIUS)
            light = light + inside * directions.new_tensor(self.sun_illuminance) / SUN_SOLID_ANGLE
        below = directions.new_tensor(self.ground_luminance)
        return torch.lerp(below.expand_as(light), light, torch.clamp(z / 0.005 + 1, 0, 1))

    @cached_property
    def ground_luminance(self) -> tuple[float, float, float]:
        """Of open ground under this sky, kcd/m2: albedo x (sky + sun) / pi."""
        sun = max(self.to_sun[2], 0.0)
        sky = self.horizontal_illuminance
        return tuple(
            a * (d + s * sun) / math.pi for a, d, s in zip(self.ground, sky, self.sun_illuminance, strict=True)
        )  # type: ignore[return-value]

    @cached_property
    def horizontal_illuminance(self) -> tuple[float, float, float]:
        """Klux per channel from the sky alone on open horizontal ground."""
        directions = equirect_directions(45, 180, elevation_min=0)
        weights = solid_angles(45, 180, elevation_min=0)[:, None, None] * directions[..., 2:]
        return tuple((self._mixed(directions, clouds=False) * weights).sum((0, 1)).tolist())  # type: ignore[return-value]

    def _mixed(self, upward: Tensor, clouds: bool) -> Tensor:
        cover = float(self.cloud_cover)
        clear = self.clear(upward)
        if cover == 0:
            return clear
        grey = self.overcast(upward)
        if cover == 1 or not clouds:
            return torch.lerp(clear, grey, cover)
        opacity = cloud_opacity(upward, cover, self.seed)[..., None]
        # A cloud in the sun is a bright diffuser, darker where it is thick.
        falling = upward.new_tensor(sun_through_air(max(self.elevation, 0.0), self.turbidity)) * self._dusk
        lit = falling * (0.35 + 0.65 * max(self.to_sun[2], 0.0)) * (0.85 - 0.5 * opacity) / math.pi
        return torch.lerp(clear, torch.lerp(grey + lit, grey, cover**4), opacity)

    def clear(self, upward: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Preetham's clear sky; directions at or above the horizon. A sun below the horizon stands at it, dimmed as in twilight."""
        turbidity, solar = float(self.turbidity), math.acos(max(0.0, min(1.0, self.to_sun[2])))
        towards = (upward * upward.new_tensor(self.to_sun)).sum(-1).clamp(-1, 1)
        values = {}
        for name, zenith in zenith_colour(turbidity, solar).items():
            parameters = [slope * turbidity + offset for slope, offset in _PEREZ[name]]
            at_zenith = perez(math.cos(0.0), math.cos(solar), parameters)
            values[name] = zenith * perez(upward[..., 2].clamp(min=0.01), towards, parameters) / at_zenith
        luminance, x, y = values["Y"].clamp(min=0.0), values["x"], values["y"].clamp(min=0.05)
        xyz = torch.stack([luminance * x / y, luminance, luminance * (1 - x - y) / y], dim=-1)
        rgb = (xyz @ upward.new_tensor(_XYZ_TO_SRGB).T).clamp(min=0.0)
        return rgb * self._dusk

    def overcast(self, upward: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """CIE overcast sky, L = Lz (1 + 2 sin h) / 3, with the horizontal illuminance 21 klux x sin(sun elevation) + 0.3 (Krochmann and Seidl 1974)."""
        horizontal = (0.3 + 21.0 * max(self.to_sun[2], 0.0)) * self._dusk
        zenith = horizontal * 9 / (7 * math.pi)
        brightness = zenith * (1 + 2 * upward[..., 2:]) / 3
        colour = upward.new_tensor(_OVERCAST)
        return brightness * colour / (colour * upward.new_tensor(LUMINANCE)).sum()


def perez(cos_zenith: Tensor | float, cos_sun: Tensor | float, parameters: Sequence[float | int]) -> Tensor:
    """Perez' distribution (Preetham 1999, equation 3).

    Args:
        cos_zenith: cosine of the angle to the zenith, above 0.
        cos_sun: cosine of the angle to the sun.
        parameters: A to E.
    """
    a, b, c, d, e = parameters
    zenith, sun = torch.as_tensor(cos_zenith), torch.as_tensor(cos_sun)
    return (1 + a * torch.exp(b / zenith)) * (1 + c * torch.exp(d * torch.acos(sun)) + e * sun**2)


def zenith_colour(turbidity: float | int, solar: float | int) -> dict[str, float]:
    """Luminance Y in kcd/m2 and chromaticity x, y at the zenith; ``solar`` is the sun's angle from the zenith in radians, 0 to pi / 2."""
    chi = (4 / 9 - turbidity / 120) * (math.pi - 2 * solar)
    found = {"Y": (4.0453 * turbidity - 4.9710) * math.tan(chi) - 0.2155 * turbidity + 2.4192}
    for name, rows in _ZENITH.items():
        cubic = [sum(k * solar ** (3 - power) for power, k in enumerate(row)) for row in rows]
        found[name] = cubic[0] * turbidity**2 + cubic[1] * turbidity + cubic[2]
    return found


def sun_through_air(elevation: float | int, turbidity: float | int) -> tuple[float, float, float]:
    """Klux per channel (linear sRGB) on a surface facing the sun, at sea level (Preetham 1999, appendix A.1, at three wavelengths).

    Args:
        elevation: of the sun in degrees, 0 or more.
        turbidity: as in :class:`Sky`.
    """
    mass = 1 / (math.sin(math.radians(elevation)) + 0.15 * (elevation + 3.885) ** -1.253)
    beta = max(0.04608 * turbidity - 0.04586, 0.0)
    kept = []
    for colour, wavelength, ozone in zip(_SUN_COLOUR, _WAVELENGTHS, _OZONE, strict=True):
        rayleigh = math.exp(-0.008735 * mass * wavelength**-4.08)
        aerosol = math.exp(-beta * mass * wavelength**-1.3)
        kept.append(_EXTRATERRESTRIAL * colour * rayleigh * aerosol * math.exp(-ozone * 0.35 * mass))
    return tuple(kept)  # type: ignore[return-value]


def cloud_opacity(upward: Float[Tensor, "*shape 3"], cover: float | int, seed: int = 0) -> Float[Tensor, "*shape"]:
    """Opacity, 0 to 1, of clouds on a high plane; about ``cover`` of the plane is cloud. A sum of waves, a function of seed and direction."""
    generator = torch.Generator().manual_seed(int(seed) % 2**63)
    plane = upward[..., :2] / (upward[..., 2:] + 0.12)
    total, power = torch.zeros_like(plane[..., 0]), 0.0
    bend = torch.zeros_like(plane)
    for octave in range(5):
        for _ in range(6):
            angle, phase, stretch = (
                torch.rand(3, generator=generator) * torch.tensor([2 * math.pi, 2 * math.pi, 1.0])
            ).tolist()
            frequency = 2.2 * 2.1**octave * (0.7 + 0.6 * stretch)
            along = math.cos(angle), math.sin(angle)
            argument = ((plane + bend) * plane.new_tensor(along)).sum(-1) * frequency + phase
            amplitude = 0.58**octave
            total = total + amplitude * argument.sin()
            bend = (
                bend
                + 0.12 / (octave + 1) * torch.stack([argument.cos(), (argument * 1.1).sin()], dim=-1) * 0.58**octave
            )
            power += amplitude**2 / 2
    quantile = math.sqrt(2) * torch.erfinv(torch.tensor(1 - 2 * min(max(float(cover), 0.02), 0.98))).item()
    return torch.sigmoid((total / math.sqrt(power) - quantile) * 4)
