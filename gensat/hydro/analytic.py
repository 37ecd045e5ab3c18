"""Exact solutions of the shallow-water equations: what the solvers are held against, in tests and in the docs.

Metres, seconds, m2/s for unit discharges; ``g`` in m/s2. Positions and times may be arrays that broadcast; what comes
back is float64. References by solution; Delestre et al. 2013 (SWASHES) collects most of them with these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

GRAVITY = 9.80665
"""m/s2, as :data:`gensat.hydro.solver.GRAVITY`."""

Values = np.ndarray | float | int
Pair = tuple[np.ndarray, np.ndarray]


def seiche(x: Values, t: Values, *, length: float, depth: float, amplitude: float, g: float = GRAVITY) -> Pair:
    """Surface above rest (m) and velocity (m/s) of the first standing wave of a closed flat basin, by linear theory.

    ``eta = A cos(pi x / L) cos(pi c t / L)`` with ``c = sqrt(g depth)``: the period is 2 L / c. What is left out is of
    the order of amplitude / depth.
    """
    x, t = np.asarray(x, float), np.asarray(t, float)
    speed = math.sqrt(g * depth)
    wave, beat = math.pi / length, math.pi * speed / length
    return (
        amplitude * np.cos(wave * x) * np.cos(beat * t),
        amplitude * math.sqrt(g / depth) * np.sin(wave * x) * np.sin(beat * t),
    )


def uniform_depth(discharge: float, slope: float, manning: float) -> float:
    """Depth (m) at which ``discharge`` (m2/s) runs steadily down ``slope`` (m/m): Manning's ``(q n / sqrt S)^(3/5)``."""
    return (abs(discharge) * manning / math.sqrt(slope)) ** 0.6


def flat_bed_wave(x: Values, t: Values, *, speed: float, manning: float) -> np.ndarray:
    """Depth (m) of a wave of constant velocity over a flat bed that was dry; its front is at ``speed * t``.

    ``h = (7/3 n^2 u^2 (u t - x))^(3/7)`` (Hunter et al. 2005). It solves the full equations: at the tip, where the
    Froude number grows without bound, a solver without advection is not to be held against it.
    """
    behind = np.maximum(speed * np.asarray(t, float) - np.asarray(x, float), 0)
    return np.asarray((7 / 3 * manning**2 * speed**2 * behind) ** (3 / 7))


def sloping_bed_wave(x: Values, t: float, *, speed: float, manning: float, slope: float) -> np.ndarray:
    """The same wave over a bed that rises by ``slope`` (m/m) along x: depth (m) from ``dh/dx = -S - n^2 u^2 h^(-4/3)``.

    The equation is integrated upstream from the front, from the depth of the flat bed close behind it, where friction
    is all there is (Hunter et al. 2005). A slope downwards is negative; the depth then tends to Manning's.
    """
    x = np.asarray(x, float)
    front = speed * t
    near = 1e-6 * max(front, 1e-9)
    begin = flat_bed_wave(front - near, t, speed=speed, manning=manning)
    friction = manning**2 * speed**2
    behind = np.maximum(front - x, 0)
    far = max(float(behind.max()), 2 * near)
    path = solve_ivp(
        lambda _, h: slope + friction * h ** (-4 / 3),
        (near, far),
        [float(begin)],
        method="LSODA",
        rtol=1e-10,
        atol=1e-12,
        dense_output=True,
    )
    deep = path.sol(np.clip(behind, near, far).ravel())[0].reshape(x.shape)
    return np.where(behind > near, deep, flat_bed_wave(x, t, speed=speed, manning=manning))


def ritter(x: Values, t: float, *, depth: float, g: float = GRAVITY) -> Pair:
    """Depth (m) and velocity (m/s) after a dam at x = 0 fell, ``depth`` to its left and a dry flat bed to its right.

    ``h = (2 c - x/t)^2 / (9 g)`` between ``-c t`` and ``2 c t`` (Ritter 1892); t > 0.
    """
    x = np.asarray(x, float)
    c = math.sqrt(g * depth)
    along = np.clip(x / t, -c, 2 * c)
    h = (2 * c - along) ** 2 / (9 * g)
    return h, np.where(x / t < 2 * c, 2 / 3 * (along + c), 0.0)


def stoker(x: Values, t: float, *, left: float, right: float, g: float = GRAVITY) -> Pair:
    """Depth (m) and velocity (m/s) after a dam at x = 0 fell, with water on both sides, ``left`` > ``right`` > 0.

    A rarefaction, a plateau and a bore (Stoker 1957); t > 0. The depth of the plateau is where the velocity behind the
    rarefaction, ``2 (c_l - c)``, is that behind the bore.
    """
    x = np.asarray(x, float)
    c_left = math.sqrt(g * left)

    def bore(h: float) -> float:
        return (h - right) * math.sqrt(g / 2 * (h + right) / (h * right))

    between = brentq(lambda h: 2 * (c_left - math.sqrt(g * h)) - bore(h), right, left, xtol=1e-15, rtol=1e-14)
    speed = bore(between)
    shock = between * speed / (between - right)
    edge = speed - math.sqrt(g * between)
    along = np.clip(x / t, -c_left, edge)
    h = (2 * c_left - along) ** 2 / (9 * g)
    u = 2 / 3 * (along + c_left)
    plateau, ahead = (x / t > edge) & (x / t <= shock), x / t > shock
    return np.select([plateau, ahead], [between, right], h), np.select([plateau, ahead], [speed, 0.0], u)


def bowl(x: Values, y: Values, *, radius: float, depth: float) -> np.ndarray:
    """Bed (m) of Thacker's paraboloid about (0, 0): ``-depth`` in the middle, 0 at ``radius``."""
    return np.asarray(-depth * (1 - (np.asarray(x, float) ** 2 + np.asarray(y, float) ** 2) / radius**2))


def thacker_planar(
    x: Values, y: Values, t: float, *, radius: float, depth: float, shift: float, g: float = GRAVITY
) -> tuple[np.ndarray, float, float, float]:
    """A planar surface that goes round in a :func:`bowl`: depth (m), both velocities (m/s) and the period (s).

    ``shift`` is the radius (m) of the circle on which the middle of the wet disc of ``radius`` moves; the velocity is
    the same wherever there is water (Thacker 1981).
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    turn = math.sqrt(2 * g * depth) / radius
    along, across = math.cos(turn * t), math.sin(turn * t)
    surface = shift * depth / radius**2 * (2 * x * along + 2 * y * across - shift)
    h = np.maximum(surface - bowl(x, y, radius=radius, depth=depth), 0)
    return h, -shift * turn * across, shift * turn * along, 2 * math.pi / turn


def thacker_radial(
    x: Values, y: Values, t: float, *, radius: float, depth: float, rim: float, g: float = GRAVITY
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A curved surface that rises and falls in a :func:`bowl`: depth (m), both velocities (m/s) and the period (s).

    The shoreline is at ``rim`` (m) from the middle at t = 0, where the water stands still (Thacker 1981). Velocities
    are those of the formula where it is dry, too.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    turn = math.sqrt(8 * g * depth) / radius
    a = (radius**2 - rim**2) / (radius**2 + rim**2)
    below = 1 - a * math.cos(turn * t)
    r2 = (x**2 + y**2) / radius**2
    surface = depth * (math.sqrt(1 - a**2) / below - 1 - r2 * ((1 - a**2) / below**2 - 1))
    h = np.maximum(surface - bowl(x, y, radius=radius, depth=depth), 0)
    rate = 0.5 * turn * a * math.sin(turn * t) / below
    return h, rate * x, rate * y, 2 * math.pi / turn


def bump(x: Values) -> np.ndarray:
    """Bed (m) of the usual channel of 25 m: a parabola of 0.2 m height and 4 m length about x = 10 m."""
    return np.asarray(np.maximum(0, 0.2 - 0.05 * (np.asarray(x, float) - 10) ** 2))


def over_bump(
    x: Values, *, discharge: float, downstream: float | None, middle: float = 10.0, g: float = GRAVITY
) -> np.ndarray:
    """Depth (m) of a steady frictionless flow of ``discharge`` (m2/s, along x) over :func:`bump`.

    The head is constant (Bernoulli) but for a hydraulic jump. With ``downstream`` None the flow is critical on the crest
    and supercritical beyond; a downstream depth (m) that leaves the crest subcritical gives subcritical flow all along;
    a lower one gives a flow that is critical on the crest, with a jump behind it where momentum is conserved.

    Raises:
        ValueError: the depth downstream is that of a supercritical flow, or no jump stands behind the crest.
    """
    x = np.asarray(x, float)
    bed, crest = bump(x), float(bump(middle))
    critical = (discharge**2 / g) ** (1 / 3)
    least = crest + 1.5 * critical  # the head with which the flow is critical on the crest

    def subcritical(head: float, z: Values) -> np.ndarray:
        return _alternate(np.asarray(head - z), discharge, g, 0)

    def supercritical(head: float, z: Values) -> np.ndarray:
        return _alternate(np.asarray(head - z), discharge, g, 1)

    if downstream is None:
        return np.where(x < middle, subcritical(least, bed), supercritical(least, bed))
    if downstream <= critical:
        raise ValueError(f"depth downstream {downstream:g} m is not above the critical depth {critical:.4g} m")
    head = downstream + discharge**2 / (2 * g * downstream**2)
    if head >= least:
        return subcritical(head, bed)

    def thrust(h: np.ndarray) -> float:
        return float(g * h**2 / 2 + discharge**2 / h)

    def surplus(place: float) -> float:
        z = bump(place)
        return thrust(supercritical(least, z)) - thrust(subcritical(head, z))

    foot = middle + 2.0
    lowest = brentq(lambda p: head - float(bump(p)) - 1.5 * critical, middle, foot)  # subcritical flow exists from here
    if surplus(lowest + 1e-9) * surplus(foot) > 0:
        raise ValueError(f"no jump stands behind the crest for {downstream:g} m downstream; give another depth")
    jump = brentq(surplus, lowest + 1e-9, foot, xtol=1e-12)
    before = np.where(x < middle, subcritical(least, bed), supercritical(least, bed))
    # Before the jump the lower head may not carry the flow over the crest at all.
    after = subcritical(head, np.minimum(bed, bump(jump)))
    return np.where(x < jump, before, after)


def _alternate(energy: np.ndarray, discharge: float, g: float, root: int) -> np.ndarray:
    """Root of ``h + q^2 / (2 g h^2) = energy``: 0 the subcritical depth, 1 the supercritical one."""
    turn = np.arccos(np.clip(1 - 27 * discharge**2 / (4 * g * energy**3), -1, 1))
    return np.asarray(energy / 3 * (1 + 2 * np.cos((turn + 4 * math.pi * root) / 3)))


def macdonald_bed(
    x: Values,
    depth: Callable[[float], float],
    steepness: Callable[[float], float],
    *,
    discharge: float,
    manning: float,
    g: float = GRAVITY,
) -> np.ndarray:
    """The bed (m, 0 at the largest x) on which a steady flow has a depth chosen beforehand (MacDonald et al. 1997).

    ``dz/dx = (q^2 / (g h^3) - 1) dh/dx - n^2 q^2 h^(-10/3)``, integrated by quadrature.

    Args:
        x: ascending positions in metres.
        depth: metres of water at a position.
        steepness: its derivative, m/m.
        discharge: m2/s, along x.
        manning: s/m^(1/3).
        g: m/s2.
    """
    x = np.asarray(x, float)

    def slope(place: float) -> float:
        h = depth(place)
        inertia = (discharge**2 / (g * h**3) - 1) * steepness(place)
        return inertia - manning**2 * discharge**2 * h ** (-10 / 3)

    rises = [quad(slope, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pairwise(x)]
    return np.concatenate([-np.cumsum(rises[::-1])[::-1], [0.0]])
