"""The colour of natural water: what a metre of it takes and throws back, by wavelength, from clear to mud.

Absorption a and backscatter b of water, mineral sediment and dissolved organic matter add up:

* water: absorption by Pope and Fry 1997 (Appl. Opt. 36) below 700 nm and Kou et al. 1993 (Appl. Opt. 32) above, rounded; scattering is neglected;
* sediment of C g/m3: a = 0.015 C exp(-0.011 (l - 443)), b = 0.012 C (550 / l)^0.6, of mineral particles on coasts and in rivers (Babin et al. 2003,
  J. Geophys. Res. 108 C7; Limnol. Oceanogr. 48);
* dissolved matter: a = g exp(-0.0176 (l - 443)).

From u = b / (a + b) follow, for deep water seen from straight above (Lee et al. 1998 and 1999, Appl. Opt. 37 and 38), the reflectance below
the surface r = 0.084 u + 0.17 u^2, and above it pi 0.518 r / (1 - 1.562 r); and the attenuation on the way down and up again,
K = (a + b) (1 / cos(sun under water) + 1.03 sqrt(1 + 2.4 u)). One K is used for the light of the water and of the bottom (Lee has two, 10 percent
apart), so that the colour goes from bottom to deep water without passing it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gensat.errors import InputError, require_number

REFRACTION = 1.333
"""Of light that passes into water."""

NANOMETRES: Mapping[str, float] = {
    "coastal": 443.0,
    "blue": 480.0,
    "cyan": 500.0,
    "green": 560.0,
    "gray": 580.0,
    "pan": 600.0,
    "yellow": 605.0,
    "red": 650.0,
    "rededge": 705.0,
    "nir": 840.0,
    "swir": 1610.0,
}
"""Where a band of a colour (``gensat.types.COLOURS``) lies when nothing else is said; thermal bands show no light that comes from above."""

RGB = (650.0, 560.0, 480.0)
"""Nanometres of red, green and blue."""

_TABLE = np.array(
    [
        (400, 0.0066), (440, 0.0064), (480, 0.0127), (500, 0.0204), (550, 0.0565), (560, 0.0619), (600, 0.222), (650, 0.34),
        (700, 0.624), (750, 2.6), (800, 2.0), (850, 4.3), (900, 6.8), (970, 45.0), (1000, 36.0), (1240, 105.0), (1450, 2900.0),
        (1610, 650.0), (1700, 550.0), (1940, 12000.0), (2200, 1700.0), (2400, 5000.0),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Water:
    """What is in the water.

    Args:
        sediment: mineral matter in g/m3.
        dissolved: absorption of dissolved organic matter at 443 nm, 1/m.
        tint: (nanometres, factor) pairs, by which the reflectance of deep water differs from the model's: of minerals, and of the sensor
            that saw it (:meth:`like`); straight lines between, and as the nearest outside.

    Raises:
        InputError: a value below 0 or above what still flows as water (100 000 g/m3, 100 1/m).
    """

    sediment: float | int = 180.0
    dissolved: float | int = 1.5
    tint: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name, most in (("sediment", 1e5), ("dissolved", 100.0)):
            value = require_number(getattr(self, name), name)
            if not 0 <= value <= most:
                raise InputError(f"{name} of water is {value:g}; give 0 to {most:g}, or a preset: {', '.join(WATERS)}")

    @classmethod
    def named(cls, water: Water | str | float | int) -> Water:
        """The water itself, a preset of ``WATERS``, or g/m3 of sediment, as a number or in digits.

        Raises:
            InputError: there is no such preset.
        """
        if isinstance(water, Water):
            return water
        if isinstance(water, str) and water in WATERS:
            return WATERS[water]
        try:
            sediment = float(water)
        except ValueError:
            raise InputError(
                f"there is no water {water!r}; choose one of {', '.join(WATERS)}, or g/m3 of sediment"
            ) from None
        return cls(sediment)

    @classmethod
    def like(
        cls, reflectance: Sequence[float | int] | np.ndarray, nanometres: Sequence[float | int] | np.ndarray
    ) -> Water:
        """The deep water that looks like one that was seen, such as the sea in an image: what is in it by least squares of the logarithm, and the rest as ``tint``.

        Args:
            reflectance: of the water, one a band, above 0.
            nanometres: of the bands, of which those up to 700 count.

        Raises:
            InputError: no visible band, or a reflectance that is none.
        """
        length, seen = _wavelengths(nanometres), np.asarray(reflectance, np.float64)
        visible = length <= 700
        if seen.shape != length.shape or not visible.any() or not ((seen[visible] > 0) & (seen[visible] < 1)).all():
            raise InputError(
                "water is recognised by reflectances between 0 and 1 in visible bands; give one for each wavelength"
            )

        def off(water: Water) -> float:
            return float((np.log(water.reflectance(length[visible]) / seen[visible]) ** 2).sum())

        sediments, dissolved = np.geomspace(0.1, 3000, 60), np.geomspace(0.01, 8, 60)
        for _ in range(3):  # finer and finer around the best
            s, d = min(
                ((s, d) for s in sediments for d in dissolved),
                key=lambda pair: off(cls(float(pair[0]), float(pair[1]))),
            )
            sediments, dissolved = s * np.geomspace(0.85, 1.18, 9), d * np.geomspace(0.88, 1.13, 9)
        found = cls(float(s), float(d))
        order = np.argsort(length[visible])
        factor = (seen[visible] / found.reflectance(length[visible]))[order]
        return cls(
            found.sediment, found.dissolved, tuple(zip(length[visible][order].tolist(), factor.tolist(), strict=True))
        )

    def absorption(self, nanometres: Sequence[float | int] | np.ndarray) -> Float[np.ndarray, " b"]:
        """1/m at each wavelength."""
        length = _wavelengths(nanometres)
        pure = np.exp(np.interp(length, _TABLE[:, 0], np.log(_TABLE[:, 1])))
        mineral = 0.015 * float(self.sediment) * np.exp(-0.011 * (length - 443))
        return pure + mineral + float(self.dissolved) * np.exp(-0.0176 * (length - 443))

    def backscatter(self, nanometres: Sequence[float | int] | np.ndarray) -> Float[np.ndarray, " b"]:
        """1/m at each wavelength."""
        return 0.012 * float(self.sediment) * (550 / _wavelengths(nanometres)) ** 0.6

    def reflectance(self, nanometres: Sequence[float | int] | np.ndarray) -> Float[np.ndarray, " b"]:
        """Of water so deep that no bottom is seen: pi times radiance over irradiance, above the surface, without what it mirrors."""
        known = above_water(0.084 * (u := self._share(nanometres)) + 0.17 * u**2)
        return known * np.interp(_wavelengths(nanometres), *np.array(self.tint).T) if self.tint else known

    def attenuation(
        self, nanometres: Sequence[float | int] | np.ndarray, sun_elevation: float | int = 50.0
    ) -> Float[np.ndarray, " b"]:
        """1/m of depth, on the way down from the sun and straight up again."""
        u, down = self._share(nanometres), math.cos(math.radians(90 - float(sun_elevation)))
        under = math.sqrt(1 - (1 - down**2) / REFRACTION**2)
        both = self.absorption(nanometres) + self.backscatter(nanometres)
        return both * (1 / under + 1.03 * np.sqrt(1 + 2.4 * u))

    def _share(self, nanometres: Sequence[float | int] | np.ndarray) -> np.ndarray:
        back = self.backscatter(nanometres)
        return back / (self.absorption(nanometres) + back)


def above_water(under: np.ndarray) -> np.ndarray:
    """Reflectance (pi L / E) above a surface of what has ``r = L / E`` in 1/sr right under it (Lee et al. 1998, eq. 21)."""
    return math.pi * 0.518 * under / (1 - 1.562 * under)


def fresnel(cosine: Float[np.ndarray, "*n"] | float | int) -> Float[np.ndarray, "*n"]:
    """Share of unpolarised light that a water surface mirrors; ``cosine`` of the angle to its normal, in air, 0 to 1."""
    into = np.clip(np.asarray(cosine, np.float64), 0, 1)
    under = np.sqrt(1 - (1 - into**2) / REFRACTION**2)
    along = (REFRACTION * into - under) / (REFRACTION * into + under)
    across = (into - REFRACTION * under) / (into + REFRACTION * under)
    return np.asarray((along**2 + across**2) / 2)


def _wavelengths(nanometres: Sequence[float | int] | np.ndarray) -> np.ndarray:
    length = np.asarray(nanometres, np.float64)
    if not ((length >= 350) & (length <= 2500)).all():
        raise InputError(
            f"wavelengths {length.tolist()} are not between 350 and 2500; give nanometres of reflected light"
        )
    return length


WATERS: Mapping[str, Water] = {
    "clear": Water(0.5, 0.05),
    "lake": Water(8.0, 0.6),
    "river": Water(30.0, 0.8),
    "silt": Water(180.0, 1.5),
    "mud": Water(1000.0, 4.0),
}
"""Waters by name, from clear to brown."""
