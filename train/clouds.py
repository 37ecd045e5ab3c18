"""Procedural clouds: no source says how cloudy it is, so cloud cover is learned from clouds laid over clear images.

The card says so. Cloud is fractal noise above a level that leaves the wanted fraction of the image covered, with its shadow beside it.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, shift, zoom


def fractal(rng: np.random.Generator, size: int, *, scale: float, octaves: int = 5) -> np.ndarray:
    """(size, size) sum of smooth noise octaves, the coarsest with features of ``scale`` pixels, each finer one of half the strength."""
    total = np.zeros((size, size))
    for octave in range(octaves):
        cells = max(2, int(np.ceil(size / (scale / 2**octave))) + 2)
        coarse = rng.standard_normal((cells, cells))
        fine = zoom(coarse, (size + 16) / cells, order=3)[8 : size + 8, 8 : size + 8]
        total += fine[:size, :size] * 0.55**octave
    return total


def add_clouds(image: np.ndarray, cover: float, gsd: float, rng: np.random.Generator) -> np.ndarray:
    """A copy of ``image`` (H, W, 3) uint8 with ``cover`` (0..1) of its pixels under cloud; ``gsd`` in metres sets the clouds' size."""
    height, width = image.shape[:2]
    size = max(height, width)
    scale = float(
        np.clip(900.0 / gsd, size / 3, 2 * size)
    )  # cumulus of about a kilometre; fog banks in sub-metre images
    field = fractal(rng, size, scale=scale)[:height, :width]
    level = np.quantile(field, 1 - cover)
    alpha = (
        np.clip((field - level) / (0.35 * field.std()) + 0.5, 0, 1) ** 1.2
        if cover < 1
        else np.clip(0.8 + 0.1 * field, 0.6, 1)
    )
    alpha = alpha * 0.96
    shadow = gaussian_filter(shift(alpha, (0.04 * scale, -0.06 * scale), order=1, mode="nearest"), 1.5)
    white = 235 + 12 * gaussian_filter(field, 2)[..., None] / max(field.std(), 1e-6)
    ground = image * (1 - 0.45 * shadow * (1 - alpha))[..., None]
    return np.clip(ground * (1 - alpha[..., None]) + white * alpha[..., None], 0, 255).astype(np.uint8)
