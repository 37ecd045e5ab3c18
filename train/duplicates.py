"""Pictures that show the same pixels twice: turned, mirrored, stored again as JPEG, moved by a few pixels, or cut half beside each other.

Small greys name the pairs that may be alike; the correlation of the texture in 128x128 greys decides, every part of the
picture weighing the same, for two runways have the same white lines and are not one picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

ALIKE = 0.8
"""Correlation of textures above which two pictures are one. Copies lie above 0.85; the most alike runways that are not one at 0.77."""

REACH = 4
"""Pixels of 128 by which copies may be apart."""

_COARSE, _SMALL, _SIDE = 12, 64, 128
_CANDIDATE = 0.85  # correlation of 12x12 greys below which two pictures are not compared further
_BLOCK = 1024
_CONTRAST = 4.0  # grey levels: what is weaker is taken as noise

Image8 = UInt8[np.ndarray, "_ _ 3"]  # of many in one list no two need be of one size


@dataclass(frozen=True)
class Pair:
    """Two pictures that show the same: ``first`` < ``second``, how alike (0.8 to 1), and the share of a picture that both show."""

    first: int
    second: int
    alike: float
    share: float = 1.0


def grey(image: Image8, side: int) -> Float[np.ndarray, "s s"]:
    """The picture as ``side`` x ``side`` grey levels 0 to 255, each the mean of its area, whatever its shape."""
    small = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def texture(image: Image8) -> Float[np.ndarray, "128 128"]:
    """What is finer than about eight of 128 pixels, over its own strength there."""
    small = grey(image, _SIDE)
    fine = ndimage.gaussian_filter(small, 0.7) - ndimage.gaussian_filter(small, 4.0)
    return fine / (np.sqrt(ndimage.gaussian_filter(fine * fine, 6.0)) + _CONTRAST)


def symmetry(picture: np.ndarray, k: int) -> np.ndarray:
    """The picture under element ``k`` (0..7) of the symmetries of the square: quarter turns, after a mirror from 4 on."""
    return np.rot90(picture[:, ::-1] if k >= 4 else picture, k % 4)


def duplicates(images: Sequence[Image8]) -> Iterator[Pair]:
    """Pairs that show the same pixels under any turn or mirror, up to ``REACH`` pixels of 128 apart, in a fixed order."""
    if not images:
        return
    textures = lru_cache(4096)(lambda k: texture(images[k]))
    small = [ndimage.gaussian_filter(grey(image, _SMALL), 2.0) for image in images]
    sides = [np.stack([_descriptor(symmetry(one, k)) for one in small]) for k in range(8)]
    for start in range(0, len(images), _BLOCK):
        rows = sides[0][start : start + _BLOCK]
        best = np.full((len(rows), len(images) - start), -1, np.float32)
        which = np.zeros(best.shape, np.int8)
        for k, side in enumerate(sides):
            found = rows @ side[start:].T
            nearer = found > best
            best[nearer], which[nearer] = found[nearer], k
        for i, j in np.argwhere(np.triu(best > _CANDIDATE, 1)):
            a, b = int(i) + start, int(j) + start
            alike = _nearby(textures(a), symmetry(textures(b), int(which[i, j])), 0, 0, REACH)
            if alike > ALIKE:
                yield Pair(a, b, round(alike, 3))


def overlaps(
    images: Sequence[Image8], one: Sequence[int], other: Sequence[int], *, least: float = 0.3
) -> Iterator[Pair]:
    """Pairs of a picture of ``one`` and of ``other`` that share at least ``least`` of their area, cut north up from one image.

    Where they belong is found by phase correlation (Kuglin & Hines 1975).
    """
    textures = {k: texture(images[k]) for k in {*one, *other}}
    spectra = {
        k: scipy.fft.rfft2(t.reshape(_SMALL, 2, _SMALL, 2).mean((1, 3))).astype(np.complex64)
        for k, t in textures.items()
    }
    right = np.stack([spectra[k] for k in other])
    for a in one:
        cross = np.conj(spectra[a]) * right
        cross /= np.sqrt(np.abs(cross)) + 1e-6  # half-way to pure phase, which noise would decide
        peaks = scipy.fft.irfft2(cross, (_SMALL, _SMALL)).reshape(len(other), -1).argmax(1)
        for b, peak in zip(other, peaks, strict=True):
            row, col = divmod(int(peak), _SMALL)
            for down in (row, row - _SMALL):  # the correlation wraps around
                for right_by in (col, col - _SMALL):
                    share = (_SMALL - abs(down)) * (_SMALL - abs(right_by)) / _SMALL**2
                    if share >= least and a != b:
                        alike = _nearby(textures[a], textures[b], 2 * down, 2 * right_by, 2)
                        if alike > ALIKE:
                            yield Pair(min(a, b), max(a, b), round(alike, 3), round(share, 2))


def groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """Pictures that hang together by pairs, each group sorted."""
    root: dict[int, int] = {}

    def find(k: int) -> int:
        while root.setdefault(k, k) != k:
            k = root[k]
        return k

    for pair in pairs:
        low, high = sorted((find(pair.first), find(pair.second)))
        root[high] = low
    found: dict[int, list[int]] = {}
    for k in sorted(root):
        found.setdefault(find(k), []).append(k)
    return list(found.values())


def _descriptor(small: np.ndarray) -> np.ndarray:
    x = np.asarray(
        Image.fromarray(np.ascontiguousarray(small)).resize((_COARSE, _COARSE), Image.Resampling.BOX)
    ).ravel()
    x = x - x.mean()
    return (x / max(float(np.linalg.norm(x)), 1e-6)).astype(np.float32)


def _nearby(a: np.ndarray, b: np.ndarray, row: int, col: int, reach: int) -> float:
    """Greatest correlation at whole shifts of up to ``reach`` around (row, col); what is hopeless at every other one is left."""
    best = -1.0
    for step in (2, 1):
        shifts = range(-reach, reach + 1, step)
        for r in shifts:
            for c in shifts:
                best = max(best, _correlation(a, b, row + r, col + c))
        if best < 0.3:
            return best
    return best


def _correlation(a: np.ndarray, b: np.ndarray, row: int, col: int) -> float:
    """Correlation where ``a`` at p and ``b`` at p + (row, col) both are; 0 where one is flat."""
    height, width = a.shape
    if abs(row) >= height - 8 or abs(col) >= width - 8:
        return 0.0
    x = a[max(0, -row) : height - max(0, row), max(0, -col) : width - max(0, col)]
    y = b[max(0, row) : height - max(0, -row), max(0, col) : width - max(0, -col)]
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / norm if norm > 1e-3 * x.size else 0.0
