"""Repeatable randomness at points: hashes and smooth value noise, functions of position and seed only."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF


def hashed(*parts: Int[Tensor, ...] | int) -> Float[Tensor, ...]:
    """Uniform numbers in [0, 1), one for each combination of whole numbers (broadcast; 32 bits of each count)."""
    state: Tensor | int = 0x9E3779B9
    for part in parts:
        state = (state ^ (part & _MASK)) * 0x85EBCA6B & _MASK
        state = (state ^ (state >> 13)) * 0xC2B2AE35 & _MASK
        state = state ^ (state >> 16)
    return (state if isinstance(state, Tensor) else torch.tensor(state)).double().mul(1 / 2**32).float()


def value_noise(points: Float[Tensor, "*shape d"], scale: float | int, seed: int = 0) -> Float[Tensor, "*shape"]:
    """Smooth noise in [0, 1], mean 0.5, whose hills are about ``scale`` metres wide; two or three dimensions."""
    place = points / scale
    cell = place.floor()
    share = place - cell
    share = share * share * (3 - 2 * share)
    whole = cell.long()
    count = points.shape[-1]
    total = torch.zeros_like(place[..., 0])
    for corner in range(2**count):
        steps = [(corner >> axis) & 1 for axis in range(count)]
        weight = torch.ones_like(total)
        for axis, step in enumerate(steps):
            weight = weight * (share[..., axis] if step else 1 - share[..., axis])
        total = total + weight * hashed(*(whole[..., axis] + step for axis, step in enumerate(steps)), seed).to(total)
    return total


def fractal(
    points: Float[Tensor, "*shape d"], scale: float | int, seed: int = 0, octaves: int = 3
) -> Float[Tensor, "*shape"]:
    """Sum of value noises, each half as large and half as strong; about 0.5 on average."""
    total, weights = torch.zeros_like(points[..., 0]), 0.0
    for octave in range(octaves):
        total = total + value_noise(points, scale / 2**octave, seed + octave) / 2**octave
        weights += 1 / 2**octave
    return total / weights


def speckle(
    points: Float[Tensor, "*shape d"], scale: float | int, blur: Float[Tensor, "*shape"], seed: int = 0
) -> Float[Tensor, "*shape"]:
    """Value noise from -0.5 to 0.5 that fades where pixels (``blur`` metres) do not resolve it any more."""
    return (value_noise(points, scale, seed) - 0.5) * ((1 - blur / scale) / 0.6).clamp(0, 1)


def step(
    x: Float[Tensor, "*shape"], edge: Float[Tensor, ...] | float | int, blur: Float[Tensor, ...] | float
) -> Float[Tensor, "*shape"]:
    """0 below an edge, 1 above it, over a width of ``blur`` (the size of a pixel there)."""
    return ((x - edge) / blur + 0.5).clamp(0, 1)


def between(
    x: Float[Tensor, "*shape"],
    low: Float[Tensor, ...] | float | int,
    high: Float[Tensor, ...] | float | int,
    blur: Float[Tensor, ...] | float,
) -> Float[Tensor, "*shape"]:
    """1 from ``low`` to ``high``, 0 elsewhere; an interval narrower than a pixel keeps its share of it."""
    return (step(x, low, blur) - step(x, high, blur)).clamp(min=0)


def stripes(
    x: Float[Tensor, "*shape"],
    period: Float[Tensor, ...] | float | int,
    width: float | int,
    blur: Float[Tensor, ...] | float,
) -> Float[Tensor, "*shape"]:
    """1 in stripes of ``width`` at the start of every ``period``; fades to their share where pixels are larger than a period."""
    blur = blur if isinstance(blur, Tensor) else torch.full_like(x, blur)
    phase = torch.remainder(x, period)
    sharp = between(phase, 0.0, width, blur) + step(phase, period, blur)
    coarse = ((blur / period - 0.35) / 0.5).clamp(0, 1)
    return sharp.clamp(0, 1) * (1 - coarse) + width / period * coarse
