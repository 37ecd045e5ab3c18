"""New forest painted onto an image by geometry and optics: crowns in the sun, their shaded sides, and shadows on the ground between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage

from gensat.errors import InputError, require_number
from gensat.geo.sun import SunPosition
from gensat.render.change_optics import RELIEF, checked_mask, mean_ratio, remade, strewn
from gensat.render.flood_optics import SUN
from gensat.render.radiometry import Encoding, Radiometry, ground_metres, open_light
from gensat.render.streets.noise import hashed
from gensat.types import GeoImage

LEAVES = ((400.0, 0.02), (480.0, 0.025), (560.0, 0.075), (650.0, 0.03), (690.0, 0.05), (750.0, 0.40), (840.0, 0.45), (1240.0, 0.42),
          (1450.0, 0.12), (1610.0, 0.22), (1940.0, 0.05), (2200.0, 0.10), (2500.0, 0.04))  # fmt: skip
"""Reflectance of a broadleaf crown in the sun: chlorophyll takes red and blue, water 1450 and 1940 nm, leaves throw back the near infrared."""

_SHADED = 0.28  # light of crowns and ground that the sun does not reach, in visible bands; twice that in the infrared, where leaves let it through


def reforest(
    image: GeoImage,
    mask: Bool[np.ndarray, "h w"],
    *,
    cover: float | int = 0.8,
    spacing: float | int = 6.0,
    height: float | int = 12.0,
    sun: SunPosition = SUN,
    wavelengths: Sequence[float | int] | None = None,
    encoding: Encoding | None = None,
    gsd: float | int | None = None,
    seed: int = 0,
) -> GeoImage:
    """New forest: crowns with sunlit and shaded sides and shadows on the ground between them (the geometric view of Li and Strahler 1985).

    Crowns are half ellipsoids on a jittered lattice of the place, each rooted in the mask. The image is worked out on pixels of at most a
    fifth of a spacing and averaged, so that coarse images get the mean of fine ones. Shadows end with the mask.

    Args:
        image: before; any dtype, any bands of reflected light.
        mask: (H, W) True where trees are planted.
        cover: share of the ground under crowns, 0 to 0.9.
        spacing: metres between trees.
        height: metres of the trees.
        sun: direction to it, for shading and shadows.
        wavelengths, encoding, gsd, seed: as :func:`gensat.render.flood_optics.render_flood`.

    Raises:
        InputError: sizes that differ, an empty mask, or values that cannot be.
    """
    mask = checked_mask(image, mask)
    if (
        not 0 <= require_number(cover, "cover") <= 0.9
        or not 0.5 <= float(spacing) <= 50
        or not 0 < float(height) <= 100
    ):
        raise InputError(
            f"cover {cover:g}, spacing {spacing:g} m and height {height:g} m are no forest; give 0 to 0.9, 0.5 to 50 m, and up to 100 m"
        )
    if not sun.elevation > 5:
        raise InputError(f"the sun is {sun.elevation:g} degrees high; give more than 5")
    reading = Radiometry.of(image, wavelengths=wavelengths, encoding=encoding)
    x, y, pixel = ground_metres(image, gsd)
    finer = max(1, math.ceil(pixel / (float(spacing) / 5)))
    if finer**2 * mask.size > 2**27:
        raise InputError(
            f"pixels of {pixel:g} m are too coarse for trees {spacing:g} m apart on so many; give a larger spacing"
        )
    fx, fy = (_finer(v, finer, axis) for v, axis in ((x, 1), (y, 0)))
    crown, top, facing, tone = _crowns(
        fx,
        fy,
        np.kron(mask, np.ones((finer, finer), bool)),
        x,
        y,
        float(cover),
        float(spacing),
        float(height),
        sun,
        seed,
        mask,
    )
    shade = _shadows(np.where(crown, top, 0.0), pixel / finer, sun)
    before = reading.reflectance()
    leaves = np.interp(reading.nanometres, *np.array(LEAVES).T)
    left = np.where(reading.nanometres <= 690, _SHADED, 2 * _SHADED)
    sunny = np.where(crown, facing, 1.0) * ~shade

    def mean(values: np.ndarray) -> np.ndarray:
        rows, columns = mask.shape
        return values.reshape(rows, finer, columns, finer).mean((1, 3))

    relief = open_light(before, reading.nanometres, mask, left=RELIEF)
    after = before.copy()
    covered = mean(crown.astype(np.float64))
    lit_crown, lit_ground = mean(crown * sunny * tone), mean(~crown * sunny)
    dim_crown = mean(crown * (1 - sunny) * tone)
    for i, (leaf, dark) in enumerate(zip(leaves, left, strict=True)):
        trees = leaf * (lit_crown + dark * dim_crown) * relief
        floor = before[:, :, i] * (lit_ground + dark * (1 - covered - lit_ground))
        after[:, :, i] = trees + floor
    touched = mask & ((covered > 0) | (lit_ground < 1))
    told: dict[str, Any] = {"change": "reforest", "crown_cover": round(float(covered[mask].mean()), 4)}
    for name, one in (("ndvi_before", before), ("ndvi_after", after)):
        if (value := mean_ratio(one[mask], reading.nanometres, 840.0, 650.0)) is not None:
            told[name] = round(value, 4)
    return remade(image, reading, after, touched, told, seed)


def _crowns(
    x: np.ndarray, y: np.ndarray, inside: np.ndarray, px: np.ndarray, py: np.ndarray, cover: float | int, spacing: float | int,
    height: float | int, sun: SunPosition, seed: int, mask: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Whether a point lies under a crown, how high that is, how much its surface faces the sun (1: fully), and how bright its leaves are."""
    crown, top = np.zeros(x.shape, bool), np.zeros(x.shape)
    facing, tone = np.ones(x.shape), np.ones(x.shape)
    radius = spacing * _radius(cover)
    if not radius:
        return crown, top, facing, tone
    to_sun = np.array(sun.direction())
    step_x, step_y = (
        (px[0, 1] - px[0, 0] if px.shape[1] > 1 else 1.0),
        (py[1, 0] - py[0, 0] if py.shape[0] > 1 else -1.0),
    )
    reach = math.ceil(1.25 * radius / spacing + 0.5)
    column, row = np.floor(x / spacing).astype(np.int64), np.floor(y / spacing).astype(np.int64)
    for down in range(-reach, reach + 1):
        for over in range(-reach, reach + 1):
            c, r = torch.from_numpy(column + over), torch.from_numpy(row + down)
            jx, jy, size, light = (hashed(c, r, seed * 8 + k).double().numpy() for k in range(4))
            cx, cy = (c.numpy() + jx) * spacing, (r.numpy() + jy) * spacing
            wide = radius * (0.75 + 0.5 * size)
            dx, dy = (x - cx) / wide, (y - cy) / wide
            away = dx**2 + dy**2
            # A tree stands where its root is in the mask.
            i, j = (
                np.floor((cy - py[0, 0]) / step_y + 0.5).astype(int),
                np.floor((cx - px[0, 0]) / step_x + 0.5).astype(int),
            )
            rooted = (i >= 0) & (i < mask.shape[0]) & (j >= 0) & (j < mask.shape[1])
            rooted &= mask[i.clip(0, mask.shape[0] - 1), j.clip(0, mask.shape[1] - 1)]
            tall = height * (0.7 + 0.6 * size)
            up = np.sqrt((1 - away).clip(0))
            z = tall * (0.4 + 0.6 * up)
            here = (away < 1) & rooted & inside & (z > top)
            deep = 0.6 * tall
            normal = np.stack([dx / wide, dy / wide, up / deep])
            lit = (normal * to_sun[:, None, None]).sum(0) / np.linalg.norm(normal, axis=0).clip(1e-9)
            crown |= here
            top = np.where(here, z, top)
            facing = np.where(here, (lit / to_sun[2]).clip(0, 1.25), facing)
            tone = np.where(here, 0.7 + 0.6 * light, tone)
    grain = strewn(x.ravel(), y.ravel(), ((1.1, 1.0),), seed + 5).reshape(x.shape)
    return crown, top, (facing * (1 + grain)).clip(0, 1.5), tone


@cache
def _radius(cover: float | int) -> float:
    """Mean radius of crowns, in spacings, that cover this share of a lattice; found on 60 x 60 trees."""
    if not cover:
        return 0.0
    rng = np.random.default_rng(0)
    points = rng.random((6000, 2)) * 60
    nearest = np.full(len(points), np.inf)
    cells = np.floor(points).astype(np.int64)
    for down in range(-2, 3):
        for over in range(-2, 3):
            c, r = torch.from_numpy(cells[:, 0] + over), torch.from_numpy(cells[:, 1] + down)
            jx, jy, size = (hashed(c, r, k).double().numpy() for k in range(3))
            away = np.hypot(points[:, 0] - c.numpy() - jx, points[:, 1] - r.numpy() - jy)
            nearest = np.minimum(nearest, away / (0.75 + 0.5 * size))
    return float(np.quantile(nearest, cover))


def _shadows(top: np.ndarray, pixel: float | int, sun: SunPosition) -> np.ndarray:
    """Which points something between them and the sun hides it from."""
    east, north, up = sun.direction()
    across = math.hypot(east, north)
    hidden, tallest = np.zeros(top.shape, bool), float(top.max())
    steps = math.ceil(tallest / (up / max(across, 1e-9)) / pixel)
    for k in range(1, steps + 1):
        rows, columns = round(-north / across * k), round(east / across * k)
        above = ndimage.shift(top, (-rows, -columns), order=0, cval=0.0)
        hidden |= above > top + k * pixel * up / across + 0.2
    return hidden


def _finer(values: np.ndarray, times: int, axis: int) -> np.ndarray:
    """Coordinates of centres of pixels so many times finer; ``axis`` is the one along which they change."""
    step = (
        np.take(values, 1, axis) - np.take(values, 0, axis)
        if values.shape[axis] > 1
        else np.ones(values.shape[1 - axis])
    )
    large = np.repeat(np.repeat(values, times, 0), times, 1)
    inner = (np.arange(large.shape[axis]) % times + 0.5) / times - 0.5
    return large + float(np.asarray(step).flat[0]) * (inner[None, :] if axis else inner[:, None])
