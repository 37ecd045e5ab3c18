"""Small waves of still water as the wind makes them: slopes at any point, tied to the Earth, and what is too fine to be seen.

A sum of plane waves of random phase. The total of their slope variance is that which Cox and Munk measured from the glitter of the sun
(1954, J. Opt. Soc. Am. 44, eq. 7 of the clean surface): 0.003 + 0.00512 W. It is shared evenly over octaves of wavelength, as short waves
of the k^-4 range have it. Depth and currents change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError, require_number

_COUNT = 64  # plane waves: enough that nobody sees a repetition
_SHORTEST = 0.06  # metres; shorter ripples are left to ``unresolved``
_SPREAD = 1.0  # radians, of the waves' directions about the wind's
_GRAVITY, _TENSION = 9.81, 7.3e-5  # m/s2, and surface tension over density, m3/s2


@dataclass(frozen=True)
class Waves:
    """Waves on water.

    Args:
        wind: metres per second over the water, 0 (a mirror) to 30.
        azimuth: degrees clockwise from the y axis towards which it blows.
        longest: metres of the longest waves; between houses there is no room for more than a few.
        origin: coordinates of local (0, 0) on the map, metres, so that waves are those of the place and not of the frame.
        seed: of phases and directions.

    Raises:
        InputError: a wind or length that cannot be.
    """

    wind: float | int = 1.5
    azimuth: float | int = 60.0
    longest: float | int = 3.0
    origin: tuple[float, float] = (0.0, 0.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= require_number(self.wind, "wind") <= 30:
            raise InputError(f"wind of {self.wind:g} m/s is not one for a flood; give 0 (a mirror) to 30")
        if not _SHORTEST < require_number(self.longest, "longest wave"):
            raise InputError(f"longest wave of {self.longest:g} m is none; give metres above {_SHORTEST:g}")

    @property
    def variance(self) -> float:
        """Mean squared slope, both directions together (Cox and Munk 1954); 0 without wind."""
        return 0.003 + 0.00512 * float(self.wind) if self.wind > 0 else 0.0

    @cached_property
    def _table(self) -> tuple[np.ndarray, ...]:
        """Wavelength, wave vector (2), phase at the local origin and angular frequency of each wave, float64."""
        rng = np.random.default_rng(self.seed)
        length = _SHORTEST * (float(self.longest) / _SHORTEST) ** ((np.arange(_COUNT) + rng.random(_COUNT)) / _COUNT)
        towards = math.radians(self.azimuth) + _SPREAD * rng.standard_normal(_COUNT)
        number = 2 * np.pi / length
        vector = np.stack([np.sin(towards), np.cos(towards)]) * number
        phase = 2 * np.pi * rng.random(_COUNT) + self.origin[0] * vector[0] + self.origin[1] * vector[1]
        return length, vector, np.mod(phase, 2 * np.pi), np.sqrt(_GRAVITY * number + _TENSION * number**3)

    def slopes(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " n"], footprint: Float[Tensor, " n"], time: float | int = 0.0
    ) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
        """dz/dx and dz/dy of waves that pixels resolve, and the mean squared slope of those that they do not.

        Args:
            x, y: local metres.
            footprint: size of a pixel there, metres: waves up to that length are not resolved, from 2.5 times it on they are.
            time: seconds; each wave runs at its own speed (gravity and surface tension, deep water).
        """
        slopes = torch.zeros(len(x), 2, dtype=x.dtype, device=x.device)
        unresolved = torch.zeros_like(x)
        if not self.wind > 0:
            return slopes, unresolved
        each = self.variance / _COUNT
        for length, kx, ky, phase, speed in zip(self._table[0], *self._table[1], *self._table[2:], strict=True):
            shown = ((length / footprint - 1) / 1.5).clamp(0, 1)
            turn = math.fmod(float(phase - speed * time), 2 * math.pi)
            wave = torch.cos(x * kx + y * ky + turn) * (shown * math.sqrt(2 * each))
            slopes = slopes + wave[:, None] * slopes.new_tensor([kx, ky]) / math.hypot(kx, ky)
            unresolved = unresolved + each * (1 - shown**2)
        return slopes, unresolved
