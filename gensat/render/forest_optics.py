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

_POINTS = 2**21  # that are worked on at a time
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
    if finer**2 * int(mask.sum()) > 2**27:
        raise InputError(
            f"pixels of {pixel:g} m are too coarse for trees {spacing:g} m apart on so many; give a larger spacing"
        )
    before = reading.reflectance()
    leaves = np.interp(reading.nanometres, *np.array(LEAVES).T)
    left = np.where(reading.nanometres <= 690, _SHADED, 2 * _SHADED)
    relief = open_light(before, reading.nanometres, mask, left=RELIEF)
    after = before.copy()
    covered, lit_crown, lit_ground, dim_crown = _canopy(
        x, y, mask, finer, pixel, float(cover), float(spacing), float(height), sun, seed
    )
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


def _canopy(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, finer: int, pixel: float | int, cover: float, spacing: float, height: float, sun: SunPosition, seed: int,
) -> np.ndarray:  # fmt: skip
    """(4, H, W) shares of each pixel: under crowns; crowns in the sun, by how bright they are; ground in the sun; crowns in shade likewise.

    In strips of rows, over the columns of the mask alone: finer points of a large image would not fit into memory.
    """
    found = np.zeros((4, *mask.shape))
    found[2] = 1.0
    across = np.flatnonzero(mask.any(0))
    columns = slice(max(int(across[0]) - 1, 0), int(across[-1]) + 2)
    _, north, up = sun.direction()
    margin = math.ceil((1.3 * height * abs(north) / up + 2 * spacing) / pixel) + 1
    rows = max(margin, _POINTS // (finer**2 * (columns.stop - columns.start)) - 2 * margin)
    down = np.flatnonzero(mask.any(1))
    for first in range(int(down[0]), int(down[-1]) + 1, rows):
        last = min(first + rows, int(down[-1]) + 1)
        low, high = max(first - margin, 0), min(last + margin, len(mask))
        part = (slice(low, high), columns)
        strip = _strip(x[part], y[part], mask[part], finer, pixel, cover, spacing, height, sun, seed)
        found[:, first:last, columns] = strip[:, first - low : last - low]
    return found


def _strip(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, finer: int, pixel: float | int, cover: float, spacing: float, height: float, sun: SunPosition, seed: int,
) -> np.ndarray:  # fmt: skip
    """The same of a part of the image."""
    fx, fy = (_finer(v, finer, axis) for v, axis in ((x, 1), (y, 0)))
    inside = np.kron(mask, np.ones((finer, finer), bool))
    crown, top, facing, tone = _crowns(fx, fy, inside, x, y, cover, spacing, height, sun, seed, mask)
    shade = _shadows(np.where(crown, top, 0.0), pixel / finer, sun)
    sunny = np.where(crown, facing, 1.0) * ~shade
    values = np.stack([crown, crown * sunny * tone, ~crown * sunny, crown * (1 - sunny) * tone]).astype(np.float64)
    return np.asarray(values.reshape(4, mask.shape[0], finer, mask.shape[1], finer).mean((2, 4)))


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
    left, low = int(column.min()) - reach, int(row.min()) - reach
    cells = np.meshgrid(np.arange(left, column.max() + reach + 1), np.arange(low, row.max() + reach + 1))
    trees = [hashed(*map(torch.from_numpy, cells), seed * 8 + k).double().numpy() for k in range(4)]
    column, row = column - left, row - low
    for down in range(-reach, reach + 1):
        for over in range(-reach, reach + 1):
            r, c = row + down, column + over
            jx, jy, size = (values[r, c] for values in trees[:3])
            wide = radius * (0.75 + 0.5 * size)
            dx, dy = x - (c + left + jx) * spacing, y - (r + low + jy) * spacing
            under = np.nonzero((dx**2 + dy**2 < wide**2) & inside)
            if not len(under[0]):
                continue
            size, wide, dx, dy = (v[under] for v in (size, wide, dx, dy))
            cx, cy = x[under] - dx, y[under] - dy
            # A tree stands where its root is in the mask.
            i = np.floor((cy - py[0, 0]) / step_y + 0.5).astype(int)
            j = np.floor((cx - px[0, 0]) / step_x + 0.5).astype(int)
            rooted = (i >= 0) & (i < mask.shape[0]) & (j >= 0) & (j < mask.shape[1])
            rooted &= mask[i.clip(0, mask.shape[0] - 1), j.clip(0, mask.shape[1] - 1)]
            tall = height * (0.7 + 0.6 * size)
            dx, dy = dx / wide, dy / wide
            up = np.sqrt((1 - dx**2 - dy**2).clip(0))
            z = tall * (0.4 + 0.6 * up)
            normal = np.stack([dx / wide, dy / wide, up / (0.6 * tall)])
            lit = (normal * to_sun[:, None]).sum(0) / np.linalg.norm(normal, axis=0).clip(1e-9)
            here = rooted & (z > top[under])
            at = tuple(v[here] for v in under)
            crown[at], top[at] = True, z[here]
            facing[at] = (lit[here] / to_sun[2]).clip(0, 1.25)
            tone[at] = 0.7 + 0.6 * trees[3][r, c][under][here]
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
