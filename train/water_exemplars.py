"""Exemplars of the grain of water for :class:`gensat.models.water_grain.WaterGrain`: squares of nothing but water, out of images after a flood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from ..models.water_grain import WaterGrain
from .flood_pairs import FloodPair

_COARSEST = 3.0  # pixels: what is coarser the autoencoder hands on
_PEAKED = 5.0  # kurtosis (3 is normal) above which something floats on the water, or a roof was taken for it


def water_grain(pairs: Sequence[FloodPair], *, gsd: float, count: int = 8, size: int = 48) -> WaterGrain:
    """The grain of the ``count`` pairs whose water is nearest to normal, at most one square a pair; of fewer where there are no more."""
    found = [one for pair in pairs if (one := _square(pair, size)) is not None]
    found.sort(key=_kurtosis)
    kept = [one for one in found[:count] if _kurtosis(one) < _PEAKED] or [np.zeros((size, size, 3), np.float32)]
    return WaterGrain.of(kept, gsd)


def _square(pair: FloodPair, size: int) -> Float[np.ndarray, "k k 3"] | None:
    """The grain of a square that is all water, away from the shore as far as there is one; None without such a square."""
    wet = pair.water & pair.valid
    if wet.sum() < size * size:
        return None
    # Of the squares that fit, the one around whose middle the water reaches farthest.
    fits = ndimage.minimum_filter(np.pad(wet, 1), size)[1:-1, 1:-1]
    half = size // 2
    fits[:half], fits[:, :half], fits[wet.shape[0] - half :], fits[:, wet.shape[1] - half :] = (
        False,
        False,
        False,
        False,
    )
    if not fits.any():
        return None
    away = np.where(fits, ndimage.distance_transform_cdt(np.pad(wet, 1))[1:-1, 1:-1], -1)
    row, column = np.unravel_index(int(away.argmax()), away.shape)
    image = pair.after.astype(np.float32) / 127.5
    grain = image - ndimage.gaussian_filter(image, (_COARSEST, _COARSEST, 0))
    return grain[row - half : row - half + size, column - half : column - half + size]


def _kurtosis(grain: np.ndarray) -> float:
    grey = grain.mean(-1)
    return float((grey**4).mean() / max(float((grey**2).mean()) ** 2, 1e-18))
