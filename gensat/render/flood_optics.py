"""A flood painted onto an image by optics alone: no network, nothing learned.

For each pixel of open water, seen from straight above (Lee et al. 1999; :mod:`gensat.render.water_optics`):

    R(H) = R_deep + (R_bottom - R_deep) exp(-K H)          colour of water of depth H over the ground that the image shows
    R    = R(H) x light + F L_sky pi / E + glint           what stands in shadow stays so; the surface mirrors the sky and the sun

Glint is that of Cox and Munk 1954 (eq. 1 of Kay et al. 2009, Remote Sens. 1): pi p(slope) F / (4 cos(sun) cos^4(tilt)); waves that pixels resolve
move the slopes, finer ones widen their distribution. Under 5 cm of water and over the soft edge all of it sets in by and by, so that no water is no change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from gensat import __version__
from gensat.errors import InputError, require_number
from gensat.geo.sun import SunPosition
from gensat.hydro.open_water import soft_edge
from gensat.render.radiometry import Encoding, Radiometry, ground_metres, open_light
from gensat.render.streets.noise import fractal
from gensat.render.water_optics import Water, above_water, fresnel
from gensat.render.waves import Waves
from gensat.types import GeoImage

SUN = SunPosition(150.0, 50.0)
"""Where the sun stands when nobody says: a late morning."""

FILM = 0.05
"""Metres of water over which its surface closes."""

_CLEAR_SKY = (
    (400.0, 0.075),
    (480.0, 0.055),
    (560.0, 0.038),
    (650.0, 0.027),
    (840.0, 0.016),
    (1610.0, 0.004),
    (2500.0, 0.002),
)
"""Radiance of a clear sky near the zenith over irradiance, 1/sr, by nanometres: sun 50 degrees high, little haze."""

_SHADE = 0.4  # light that is left to water in the shadow of something, by the sky and from lit water around
_CAST = 14.0  # metres that a shadow reaches
_STANDS = 0.1  # metres of water in which something must stand to count; shallower water is only not seen
_STREAKS = ((90.0, 1.0), (12.0, 0.5))  # metres: water is stirred unevenly


def render_flood(
    image: GeoImage,
    depth: Float[np.ndarray, "h2 w2"],
    seen: Bool[np.ndarray, "h3 w3"],
    *,
    water: Water | str | float | int = "silt",
    wind: float | int = 5.0,
    sun: SunPosition = SUN,
    cloud: float | int = 0.2,
    edge: float | int = 2.0,
    shadows: bool = True,
    streaks: float | int = 0.25,
    wavelengths: Sequence[float | int] | None = None,
    encoding: Encoding | None = None,
    gsd: float | int | None = None,
    seed: int = 0,
    reading: Radiometry | None = None,
) -> GeoImage:
    """An image with the flood in it. Pixels that are not ``seen`` stay as they were, bit for bit, as do bands of emitted light.

    Args:
        image: before the flood; any dtype, any bands of reflected light (infrared is absorbed as water does).
        depth: metres of water, on the image's pixels.
        seen: where open water is seen (:func:`gensat.hydro.open_water.open_water`): the water of the result is exactly this.
        water: what is in it: a :class:`~gensat.render.water_optics.Water`, a name of ``WATERS`` or g/m3 of sediment.
        wind: metres per second, for waves and glint; 0 is a mirror.
        sun: direction to it; what the image's own shadows say is for the user to know.
        cloud: cover of the sky, 0 to 1: clouds are mirrored, and hide the sun's glint.
        edge: pixels over which the water sets in, inside its shore.
        shadows: whether what is dark and not green, within 14 m of something that stands in the water and rises out of it (it has a depth but is
            not ``seen``), counts as its shadow, which lies on the water too.
        streaks: how unevenly sediment is spread, as a share; 0 is even.
        wavelengths, encoding: see :meth:`gensat.render.radiometry.Radiometry.of`.
        gsd: metres per pixel of an image without a georeference (default 0.5), for waves and streaks.
        seed: of waves and streaks, which are tied to the place.
        reading: of the image, where its exposure is known better than from its land; ``wavelengths`` and ``encoding`` are in it then.

    Raises:
        InputError: sizes that differ, no pixel seen, a depth that is not known or below 0, or values that cannot be.
    """
    if depth.shape != image.array.shape[:2] or seen.shape != depth.shape or seen.dtype != bool:
        raise InputError(
            f"image {image.array.shape[:2]}, depth {depth.shape} and mask {seen.dtype} {seen.shape} do not fit; "
            "bring the depth to the image (gensat.hydro.resample.depth_on) and give a bool mask"
        )
    if image.valid is not None:
        seen = seen & image.valid
    if not seen.any():
        raise InputError("no pixel of the image is under water; check that the depth is of this place and in metres")
    if not (np.isfinite(depth[seen]).all() and (depth[seen] >= 0).all()):
        raise InputError("a depth where water is seen is below 0 or not known; give metres there")
    for name, share in (("cloud", cloud), ("streaks", streaks)):
        if not 0 <= require_number(share, name) <= 1:
            raise InputError(f"{name} is {share:g}; give a share from 0 to 1")
    if not sun.elevation > 0:
        raise InputError(
            f"the sun is {sun.elevation:g} degrees high; nothing is seen from above at night, give more than 0"
        )
    what = Water.named(water)
    if reading is None:
        reading = Radiometry.of(image, wavelengths=wavelengths, encoding=encoding, dry=~seen)
    nm, ground = reading.nanometres, reading.reflectance()
    metres = np.where(seen, depth, 0.0)[seen].astype(np.float64)
    x, y, pixel = ground_metres(image, gsd)
    x, y = x[seen], y[seen]

    amount: np.ndarray | float = 1.0
    if streaks:
        points = torch.from_numpy(np.stack([x, y], 1))
        noise = sum(w * (fractal(points, size, seed + 7).double().numpy() - 0.5) for size, w in _STREAKS)
        amount = np.exp(2 * float(streaks) * noise / sum(w for _, w in _STREAKS) * 2)
    deep = _deep(what, nm, amount)
    kept = np.exp(-what.attenuation(nm, sun.elevation) * metres[:, None])
    body = deep + (_wet(ground[seen]) - deep) * kept
    if shadows:
        stands = ~seen & (np.nan_to_num(depth) > _STANDS)
        away = ndimage.distance_transform_edt(~stands) * pixel if stands.any() else np.full(seen.shape, np.inf)
        light = open_light(ground, nm, seen, ((_CAST - away) / (0.5 * _CAST)).clip(0, 1), _SHADE)[seen]
        # What the bottom shows is in its own shadow already.
        body = deep * light[:, None] + (_wet(ground[seen]) - deep * light[:, None]) * kept
    surface = body + _mirrored(x, y, nm, sun, wind, float(cloud), pixel, seed)
    share = soft_edge(seen, edge)[seen].astype(np.float64) * (metres / FILM).clip(0, 1)
    made = ground
    made[seen] += share[:, None] * (surface - made[seen])
    provenance: dict[str, Any] = {
        **image.provenance,
        "synthetic": True,
        "software": f"gensat {__version__}",
        "flood": "optical",
        "water": {"sediment": float(what.sediment), "dissolved": float(what.dissolved)},
        "wind": float(wind),
        "sun": [float(sun.azimuth), float(sun.elevation)],
        "water_share": round(float(seen.mean()), 6),
        "depth_max": round(float(metres.max()), 3),
        "seed": seed,
    }
    array = reading.painted(made, seen & _changed(seen, share))
    return GeoImage(array, image.bands, image.crs, image.transform, image.valid, image.acquisition, provenance)


def _changed(seen: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Pixels on which water has a share; the others are not written again, so that rounding cannot touch them."""
    some = np.zeros(seen.shape, bool)
    some[seen] = share > 0
    return some


def _wet(ground: np.ndarray) -> np.ndarray:
    """Reflectance of the ground through the surface: darker, as wet ground is (Lee et al. 1998)."""
    return above_water(ground.clip(0, 0.95) / math.pi)


def _deep(what: Water, nm: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    """Of deep water with so many times the sediment, by a table over amounts."""
    if np.ndim(amount) == 0:
        return what.reflectance(nm)[None]
    levels = np.exp(np.linspace(math.log(float(np.min(amount))), math.log(float(np.max(amount))) + 1e-9, 17))
    table = np.stack([replace(what, sediment=float(what.sediment) * float(k)).reflectance(nm) for k in levels])
    return np.stack([np.interp(amount, levels, column) for column in table.T], 1)


def _mirrored(
    x: np.ndarray,
    y: np.ndarray,
    nm: np.ndarray,
    sun: SunPosition,
    wind: float | int,
    cloud: float | int,
    pixel: float | int,
    seed: int,
) -> np.ndarray:
    """Reflectance (pi L / E) of sky and sun on the surface, (n, b), seen from straight above."""
    clear = np.interp(nm, *np.array(_CLEAR_SKY).T)
    sky = fresnel(1.0) * math.pi * (cloud / math.pi + (1 - cloud) * clear)
    waves = Waves(wind, longest=max(3.0, 8 * pixel), seed=seed)
    if not waves.variance or cloud >= 1:
        return np.broadcast_to(sky, (len(x), len(nm)))
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    slopes, rest = waves.slopes(tx, ty, torch.full_like(tx, pixel))
    east, north, up = sun.direction()
    # The facet that throws the sun straight up: its normal is half way between both.
    need = np.array([-east, -north]) / (1 + up)
    # Most of the variance is always left: facets are not flat, and waves of two sizes do not make a sea.
    spread = rest.numpy().clip(0.8 * waves.variance)
    away = ((slopes.numpy() - need) ** 2).sum(1)
    chance = np.exp(-away / spread) / (math.pi * spread)
    tilt = 1 / (1 + float((need**2).sum()))  # cos^2 of the facet's tilt
    glint = math.pi * chance * float(fresnel(math.sqrt((1 + up) / 2))) / (4 * up * tilt**2)
    return sky + (1 - cloud) * glint[:, None].clip(0, 3)
