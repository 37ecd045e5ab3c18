"""What flows through a face between two states of shallow water: exactly, and by HLLC.

States are depth (m), velocity through the face and velocity along it (m/s). The exact solver follows Toro 2001, chapters
5 and 6; it takes dry sides and a bed that falls dry in the middle. HLLC is what :mod:`gensat.hydro.shallow` uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from gensat.hydro.analytic import GRAVITY


@dataclass(frozen=True)
class RiemannProblem:
    """Two states that meet at x = 0 at time 0 over a flat bed.

    Args:
        left_depth: metres, 0 for a dry bed.
        left_speed: m/s along x.
        right_depth: metres, 0 for a dry bed.
        right_speed: m/s along x.
        g: m/s2.
    """

    left_depth: float
    left_speed: float
    right_depth: float
    right_speed: float
    g: float = GRAVITY

    def star(self) -> tuple[float, float] | None:
        """Depth and velocity between the two outer waves; None where the bed is or falls dry there."""
        h_l, h_r = self.left_depth, self.right_depth
        c_l, c_r = math.sqrt(self.g * h_l), math.sqrt(self.g * h_r)
        jump = self.right_speed - self.left_speed
        if min(h_l, h_r) <= 0 or 2 * (c_l + c_r) <= jump:
            return None

        def change(h: float, side: float) -> float:
            if h <= side:
                return 2 * (math.sqrt(self.g * h) - math.sqrt(self.g * side))
            return (h - side) * math.sqrt(self.g / 2 * (h + side) / (h * side))

        high = max(h_l, h_r)
        while change(high, h_l) + change(high, h_r) + jump < 0:
            high *= 2
        h = brentq(lambda d: change(d, h_l) + change(d, h_r) + jump, 0.0, high, xtol=1e-15, rtol=1e-14)
        return h, (self.left_speed + self.right_speed) / 2 + (change(h, h_r) - change(h, h_l)) / 2

    def at(self, speed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depth (m) and velocity (m/s) where x / t is ``speed``; the velocity is 0 where it is dry."""
        xi = np.asarray(speed, float)
        star = self.star()
        left = self._side(xi, self.left_depth, self.left_speed, star)
        # The right side is a left side seen in a mirror.
        mirrored = None if star is None else (star[0], -star[1])
        right = self._side(-xi, self.right_depth, -self.right_speed, mirrored)
        if star is None:
            edge = self.left_speed + 2 * math.sqrt(self.g * self.left_depth) if self.left_depth > 0 else -math.inf
            on_left = xi < edge
        else:
            on_left = xi < star[1]
        return np.where(on_left, left[0], right[0]), np.where(on_left, left[1], -right[1])

    def _side(
        self, xi: np.ndarray, depth: float, speed: float, star: tuple[float, float] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The state left of the contact."""
        g = self.g
        c = math.sqrt(g * depth)
        if depth <= 0:
            return np.zeros_like(xi), np.zeros_like(xi)
        if star is not None and star[0] > depth:
            shock = speed - c * math.sqrt((star[0] + depth) * star[0] / (2 * depth**2))
            return np.where(xi < shock, depth, star[0]), np.where(xi < shock, speed, star[1])
        tail = speed + 2 * c if star is None else star[1] - math.sqrt(g * star[0])
        fan = np.clip(xi, speed - c, max(tail, speed - c))
        h = (speed + 2 * c - fan) ** 2 / (9 * g)
        u = (speed + 2 * c + 2 * fan) / 3
        dry = (star is None) & (xi >= tail)
        return np.where(dry, 0.0, h), np.where(dry, 0.0, u)


Flux = tuple[Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"]]


def hllc(left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor], *, g: float = GRAVITY) -> Flux:
    """Fluxes through faces by HLLC: of water (m2/s), and of momentum through and along the face (m3/s2).

    Wave speeds are those of Fraccarollo and Toro 1995: the outermost of the states' own and of the middle that two
    rarefactions would leave, ``u - 2c`` and ``u + 2c`` of the wet side at a dry one. In the middle the fluxes of water
    and of momentum through the face are HLL's. The third wave of HLLC is the contact, which carries the velocity along the
    face: it is taken from the side the water comes from. A dry pair has no flux.

    Args:
        left: depth, velocity through (towards the right) and along the face, of equal shapes.
        right: the same on the other side.
        g: m/s2.
    """
    (h_l, u_l, v_l), (h_r, u_r, v_r) = left, right
    c_l, c_r = (g * h_l).sqrt(), (g * h_r).sqrt()
    middle, c = (u_l + u_r) / 2 + c_l - c_r, ((c_l + c_r) / 2 + (u_l - u_r) / 4).clamp_min(0)
    s_l = torch.where(h_l > 0, torch.minimum(u_l - c_l, middle - c), u_r - 2 * c_r)
    s_r = torch.where(h_r > 0, torch.maximum(u_r + c_r, middle + c), u_l + 2 * c_l)
    s_l = torch.where(h_r > 0, s_l, u_l - c_l)
    s_r = torch.where(h_l > 0, s_r, u_r + c_r)
    low, high = s_l.clamp_max(0), s_r.clamp_min(0)
    # With the speeds cut at 0 the formula of the middle gives the upwind flux of a supercritical face as well.
    q_l, q_r = h_l * u_l, h_r * u_r
    # Velocities of still water get as small as 1e-310, whose inverse is infinite: depths say whether there is a flux.
    some, span = (h_l > 0) | (h_r > 0), high - low
    scale = torch.where(some, 1 / torch.where(some, span, 1), 0)
    water = (high * q_l - low * q_r + low * high * (h_r - h_l)) * scale
    push_l, push_r = q_l * u_l + g / 2 * h_l * h_l, q_r * u_r + g / 2 * h_r * h_r
    through = (high * push_l - low * push_r + low * high * (q_r - q_l)) * scale
    along = water * torch.where(water > 0, v_l, v_r)
    return water, through, along
