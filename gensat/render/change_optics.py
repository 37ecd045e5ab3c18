"""Other changes of the ground painted by optics alone: fire and melting sea ice (new forest: :mod:`gensat.render.forest_optics`). Pixels outside the mask stay as they were, bit for bit.

Each is a model of reflectance by wavelength, on the same reading of an image as floods have (:mod:`gensat.render.radiometry`), so that any bands
change together and indices that people compute from them (NBR, NDVI) move as they do outdoors. What is strewn is tied to the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from gensat import __version__
from gensat.errors import InputError, require_number
from gensat.hydro.open_water import soft_edge
from gensat.render.flood_optics import render_flood
from gensat.render.radiometry import Encoding, Radiometry, ground_metres, open_light
from gensat.render.streets.noise import fractal, hashed
from gensat.render.wavelengths import bands_at
from gensat.types import GeoImage

CHAR = (
    (400.0, 0.03),
    (560.0, 0.04),
    (650.0, 0.045),
    (840.0, 0.06),
    (1240.0, 0.09),
    (1610.0, 0.13),
    (2200.0, 0.17),
    (2500.0, 0.17),
)
"""Reflectance of charred ground by nanometres: dark, rising steadily into the infrared (Smith et al. 2005, Remote Sens. Environ. 98, rounded)."""

ICE = 0.65
"""Mean reflectance of sea ice under snow that begins to melt, by which images of it are read."""

RELIEF = 0.25
"""Light that is left where the image lies in the shadow of mountains and houses; what is painted there stays in it."""

ASH = 0.4
"""Reflectance of white ash at all wavelengths."""


def burn(
    image: GeoImage,
    mask: Bool[np.ndarray, "h w"],
    *,
    severity: float | int | Float[np.ndarray, "h2 w2"] = 0.8,
    ash: float | int = 0.08,
    patches: float | int = 0.5,
    edge: float | int = 2.0,
    wavelengths: Sequence[float | int] | None = None,
    encoding: Encoding | None = None,
    gsd: float | int | None = None,
    seed: int = 0,
) -> GeoImage:
    """Burnt ground: a linear mixture of what stood there, char, and white ash where it burnt hottest.

    ``R = (1 - s) R_before + s ((1 - a) R_char (0.75 + 0.25 R_before / mean) + a R_ash)`` with the burnt share s and ash a: some of the pattern of
    the ground stays in the char.

    Args:
        image: before the fire; any dtype, any bands of reflected light.
        mask: (H, W) True where it burnt.
        severity: burnt share of the surface, 0 to 1, for all or for each pixel.
        ash: share of ash in what burnt completely.
        patches: how unevenly it burnt, as a share of ``severity``; 0 is even.
        edge: pixels over which the burn sets in, inside the mask.
        wavelengths, encoding, gsd, seed: as :func:`gensat.render.flood_optics.render_flood`.

    Raises:
        InputError: sizes that differ, an empty mask, or shares outside 0 to 1.
    """
    mask = checked_mask(image, mask)
    for name, share in (("ash", ash), ("patches", patches)):
        _share(share, name)
    grade = np.broadcast_to(np.asarray(severity, np.float64), mask.shape)
    if not ((grade[mask] >= 0) & (grade[mask] <= 1)).all():
        raise InputError("severity is not between 0 and 1; give the burnt share of the surface")
    reading = Radiometry.of(image, wavelengths=wavelengths, encoding=encoding)
    x, y, _ = ground_metres(image, gsd)
    noise = strewn(x[mask], y[mask], ((60.0, 1.0), (9.0, 0.7)), seed + 21)
    share = (grade[mask] * (1 + 4 * float(patches) * noise)).clip(0, 1) * soft_edge(mask, edge)[mask]
    before = reading.reflectance()
    tone = 1 + 2 * float(patches) * strewn(x[mask], y[mask], ((16.0, 1.0), (3.0, 1.0)), seed + 22)
    char = np.interp(reading.nanometres, *np.array(CHAR).T) * tone[:, None]
    pattern = before[mask] / np.maximum(before[mask].mean(0), 1e-3)
    white = (float(ash) * share**2)[:, None]
    burnt = (1 - white) * char * (0.75 + 0.25 * pattern.clip(0, 3)) + white * ASH
    burnt = burnt * open_light(before, reading.nanometres, mask, left=RELIEF)[mask][:, None]
    after = before.copy()
    after[mask] = before[mask] * (1 - share[:, None]) + burnt * share[:, None]
    told: dict[str, Any] = {"change": "burn", "burnt_share": round(float(share.mean()), 4)}
    if (fall := _nbr(before[mask], reading.nanometres)) is not None:
        told["dnbr"] = round(fall - float(_nbr(after[mask], reading.nanometres) or 0.0), 4)
    return remade(image, reading, after, mask & _some(mask, share > 0), told, seed)


def melt(
    image: GeoImage,
    ice: Bool[np.ndarray, "h w"],
    *,
    share: float | int = 0.5,
    floes: float | int = 40.0,
    water: str = "clear",
    edge: float | int = 1.0,
    gsd: float | int | None = None,
    wavelengths: Sequence[float | int] | None = None,
    encoding: Encoding | None = None,
    seed: int = 0,
    **options: Any,
) -> GeoImage:
    """Sea ice that breaks up: leads open along a pattern of floes until ``share`` of the ice is open water; the ice that is left stays bit for bit.

    More melt opens what less melt opened, and more. Open water is deep, and painted as a flood is (:func:`gensat.render.flood_optics.render_flood`).

    Args:
        image: with the ice.
        ice: (H, W) True where there is ice that may melt.
        share: of the ice that becomes open water, 0 to 1, to a pixel.
        floes: metres of a floe.
        water: preset of the water; the sea is ``clear``.
        edge: pixels over which water sets in along floes.
        gsd, wavelengths, encoding, seed: as ``render_flood``; ``options`` go to it too.

    Raises:
        InputError: as ``render_flood``, or a share outside 0 to 1.
    """
    ice = checked_mask(image, ice)
    _share(share, "share")
    if not require_number(floes, "floes") > 0:
        raise InputError(f"floes of {floes:g} m cannot be; give metres above 0")
    x, y, _ = ground_metres(image, gsd)
    order = _cracks(x[ice], y[ice], float(floes), seed)
    count = round(float(share) * int(ice.sum()))
    open_ = np.zeros_like(ice)
    if count:
        ranked = np.zeros(len(order), bool)
        ranked[np.argsort(order, kind="stable")[:count]] = True
        open_[ice] = ranked
    told = {"change": "melt", "melted_share": round(count / int(ice.sum()), 4)}
    if not count:
        return GeoImage(
            image.array.copy(),
            image.bands,
            image.crs,
            image.transform,
            image.valid,
            image.acquisition,
            image.provenance,
        )
    how: dict[str, Any] = {"wind": 4.0, "streaks": 0.0, "shadows": False, **options}
    reading = Radiometry.of(image, wavelengths=wavelengths, encoding=encoding, dry=ice, bright=ICE)
    how["reading"] = reading
    made = render_flood(image, np.full(ice.shape, 100.0), open_, water=water, edge=edge, gsd=gsd, seed=seed, **how)
    made.provenance.update(told)
    del made.provenance["flood"], made.provenance["depth_max"]
    return made


def _cracks(x: np.ndarray, y: np.ndarray, size: float | int, seed: int) -> np.ndarray:
    """What melts first: the seams of a Voronoi pattern of floes, wide seams where noise is high, then the floes from outside in."""
    best, second = np.full(x.shape, np.inf), np.full(x.shape, np.inf)
    bend = size * 0.35
    bx = x + bend * 2 * strewn(x, y, ((size, 1.0),), seed + 31)
    by = y + bend * 2 * strewn(x, y, ((size, 1.0),), seed + 32)
    column, row = np.floor(bx / size).astype(np.int64), np.floor(by / size).astype(np.int64)
    for down in range(-2, 3):
        for over in range(-2, 3):
            c, r = torch.from_numpy(column + over), torch.from_numpy(row + down)
            jx, jy = (hashed(c, r, seed * 8 + k).double().numpy() for k in (4, 5))
            away = np.hypot(bx - (c.numpy() + jx) * size, by - (r.numpy() + jy) * size)
            second = np.minimum(second, np.maximum(best, away))
            best = np.minimum(best, away)
    return (second - best) / size + 0.8 * strewn(x, y, ((8 * size, 1.0), (size, 0.3)), seed + 33)


def strewn(x: np.ndarray, y: np.ndarray, sizes: Sequence[tuple[float, float]], seed: int) -> np.ndarray:
    """-0.5 to 0.5 at points, hills of so many metres with so much weight."""
    points = torch.from_numpy(np.stack([x, y], 1))
    total = sum(weight * (fractal(points, size, seed).double().numpy() - 0.5) for size, weight in sizes)
    return np.asarray(total / sum(weight for _, weight in sizes))


def _nbr(reflectance: np.ndarray, nanometres: np.ndarray) -> float | None:
    """Mean normalised burn ratio, (NIR - SWIR) / (NIR + SWIR); with the longest shortwave band there is."""
    long = nanometres[nanometres > 1500]
    return mean_ratio(reflectance, nanometres, 840.0, float(long.max())) if len(long) else None


def mean_ratio(reflectance: np.ndarray, nanometres: np.ndarray, one: float | int, other: float | int) -> float | None:
    """Mean normalised difference of the bands next to two wavelengths; None where there are none within 60 nm."""
    found = bands_at(nanometres, one, other)
    if found is None:
        return None
    a, b = (reflectance[:, i].clip(1e-4) for i in found)
    return float(((a - b) / (a + b)).mean())


def checked_mask(image: GeoImage, mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask where the image is valid. Raises InputError for one of another size or type, or an empty one."""
    if mask.shape != image.array.shape[:2] or mask.dtype != bool:
        raise InputError(
            f"the mask is {mask.dtype} {mask.shape}, the image {image.array.shape[:2]}; give one bool a pixel"
        )
    mask = mask if image.valid is None else mask & image.valid
    if not mask.any():
        raise InputError("the mask holds no valid pixel of the image; check that it is of this place")
    return mask


def _share(value: float | int, name: str) -> None:
    if not 0 <= require_number(value, name) <= 1:
        raise InputError(f"{name} is {value:g}; give a share from 0 to 1")


def _some(mask: np.ndarray, which: np.ndarray) -> np.ndarray:
    found = np.zeros_like(mask)
    found[mask] = which
    return found


def remade(
    image: GeoImage, reading: Radiometry, reflectance: np.ndarray, where: np.ndarray, told: dict[str, Any], seed: int
) -> GeoImage:
    """The image with these reflectances in these pixels, and what is told of them in its tags."""
    provenance = {**image.provenance, "synthetic": True, "software": f"gensat {__version__}", **told, "seed": seed}
    array = reading.painted(reflectance, where)
    return GeoImage(array, image.bands, image.crs, image.transform, image.valid, image.acquisition, provenance)
