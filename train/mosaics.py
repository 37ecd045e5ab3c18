"""Larger images of Houston from neighbouring tiles, on square pixels.

The tiles are cut from one image whose pixels are equal steps of longitude and latitude: matched by what they show, 1,430 overlapping pairs
lie where ``PER_DEGREE`` puts them, to 0.3 pixels on average. So a pixel is 0.433 m wide and 0.498 m high (the data say 0.467 m), which a mosaic undoes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial import cKDTree

from ..errors import InputError
from ..types import Place
from .sources import Sample

PER_DEGREE = 222_790.0
"""Pixels of Houston's tiles in a degree of longitude, and of latitude."""

GSD = 110_860.0 / PER_DEGREE
"""Metres a pixel of mosaics: the height of the tiles' own, by the length of a degree of latitude at 30 degrees."""

_SLACK = 1  # pixels by which a rounded place may be off
_COMPARED = 125  # of every other pixel of overlap, from which two tiles are compared
_UNLIKE = 12.0  # grey levels by which an overlap differs that is not the same image


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Which pixel of which tile stands where in a window; laid once, for all that the tiles hold.

    Args:
        centre: number of the tile in the middle.
        place: of the middle.
        size: pixels a side of what is made.
        gsd: its metres a pixel.
        tile: (h, w) int, number of the tile of each pixel of the window, before it is made square.
        pixel: (2, h, w) int, row and column in it.
    """

    centre: int
    place: Place
    size: int
    gsd: float
    tile: np.ndarray
    pixel: np.ndarray

    def take(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The window of what the tiles hold: (size, size, ...) from one (128, 128, ...) array a tile; masks by the nearest pixel."""
        first = arrays[int(self.tile[0, 0])]
        window = np.empty((*self.tile.shape, *first.shape[2:]), first.dtype)
        for k in np.unique(self.tile):
            here = self.tile == k
            rows, columns = self.pixel[:, here]
            window[here] = arrays[k][rows, columns]
        if window.dtype == bool:
            across = ((np.arange(self.size) + 0.5) * window.shape[1] / self.size).astype(int)
            return window[:, across]
        smooth = Image.fromarray(window).resize((self.size, self.size), Image.Resampling.LANCZOS)
        return np.asarray(smooth)


def mosaics(
    places: Sequence[Place], images: Sequence[np.ndarray], *, size: int = 256, repeats: int = 2
) -> Iterator[Mosaic]:
    """One around each tile whose window is covered by its neighbours; pixels come from the tile whose centre is nearest.

    Args:
        places: of the tiles' centres.
        images: (128, 128, 3) uint8 of one date: by them tiles are brought to the pixel, and what does not fit is left out.
        size: pixels a side.
        repeats: windows in which a tile may be before no further one is centred on it.
    """
    if not places:
        return
    half = images[0].shape[0] // 2
    at = np.array([(p.lon, -p.lat) for p in places]) * PER_DEGREE  # x east, y south
    tree = cKDTree(at)
    used = np.zeros(len(places), int)
    likely = _cornered(tree, at, size, half)
    for i, place in enumerate(places):
        if used[i] > repeats or not likely[i]:
            continue
        wide = math.cos(math.radians(place.lat))  # a pixel's width over its height
        shape = (size, round(size / wide))
        near = [k for k in tree.query_ball_point(at[i], max(shape) / 2 + half, p=np.inf) if k != i]
        near = [i, *sorted(near, key=lambda k: float(np.abs(at[k] - at[i]).max()))]
        corners = np.round((at[near] - at[i])[:, ::-1] + np.array(shape) / 2 - half).astype(int)
        if not _covered(corners, 2 * half, shape):
            continue
        laid = _laid(near, corners, images, shape)
        if laid is not None:
            used[np.unique(laid[0])] += 1
            yield Mosaic(i, place, size, GSD, *laid)


def _cornered(tree: cKDTree, at: Float[np.ndarray, "n 2"], size: int, half: int) -> np.ndarray:
    """(n) bool: whether all four corners of the window around each tile lie on some tile; most windows fall here, at little cost."""
    near = np.ones(len(at), bool)
    for across in (-1, 1):
        for down in (-1, 1):
            corner = at + np.array((across, down)) * (size / 2 - _SLACK)
            near &= tree.query(corner, p=np.inf)[0] <= half + 1
    return near


def _covered(corners: np.ndarray, side: int, shape: tuple[int, int]) -> bool:
    known = np.zeros(shape, bool)
    for corner in corners:
        known[_overlap(corner, side, shape)[0]] = True
    return bool(known.all())


def _laid(
    tiles: Sequence[int], corners: np.ndarray, images: Sequence[np.ndarray], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Tile and pixel of each place of a window; None where some are not covered."""
    side = images[0].shape[0]
    owner, pixel = np.full(shape, -1), np.zeros((2, *shape), int)
    nearest = np.full(shape, np.inf)
    shown = np.zeros((*shape, 3), np.uint8)
    local = np.mgrid[:side, :side]
    away = np.abs(local - (side - 1) / 2).max(0)
    for k, corner in zip(tiles, corners, strict=True):
        corner = _matched(images[k], corner, shown, owner >= 0)
        if corner is None:
            continue
        window, cut = _overlap(corner, side, shape)
        nearer = away[cut] < nearest[window]
        owner[window][nearer] = k
        pixel[:, window[0], window[1]][:, nearer] = local[:, cut[0], cut[1]][:, nearer]
        shown[window][nearer] = images[k][cut][nearer]
        nearest[window][nearer] = away[cut][nearer]
    return (owner, pixel) if (owner >= 0).all() else None


def _matched(image: np.ndarray, corner: np.ndarray, shown: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """Where a tile fits best on what is laid already, a pixel around its place; None where it fits nowhere."""
    found: list[tuple[float, np.ndarray]] = []
    for row in range(-_SLACK, _SLACK + 1):
        for column in range(-_SLACK, _SLACK + 1):
            here = corner + np.array((row, column))
            window, cut = _overlap(here, len(image), known.shape)
            both = known[window][::2, ::2]  # every other pixel says enough
            if both.sum() >= _COMPARED:
                apart = np.abs(shown[window][::2, ::2][both].astype(np.float32) - image[cut][::2, ::2][both]).mean()
                found.append((float(apart), here))
    if not found:
        return corner
    apart, best = min(found, key=lambda one: one[0])
    return best if apart < _UNLIKE else None


def _overlap(corner: np.ndarray, side: int, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Of a tile whose first pixel lies at ``corner``: its part of a window, and that part of the tile."""
    first = np.clip(corner, 0, shape)
    last = np.clip(corner + side, 0, shape)
    window = slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))
    cut = first - corner, last - corner
    return window, (slice(int(cut[0][0]), int(cut[1][0])), slice(int(cut[0][1]), int(cut[1][1])))


def stitch(tiles: Sequence[Sample], *, size: int = 256) -> Iterator[Sample]:
    """Samples of ``size`` pixels from overlapping north-up tiles of one date and source, on square pixels.

    Raises:
        InputError: tiles without a place.
    """
    places = [t.place for t in tiles if t.place is not None]
    if len(places) < len(tiles):
        raise InputError("tiles without a place cannot be stitched; leave them out")
    images = [t.image for t in tiles]
    for found in mosaics(places, images, size=size):
        tile = tiles[found.centre]
        known = replace(tile.acquisition, gsd=found.gsd)
        yield Sample(tile.source, f"{tile.key}.mosaic", found.take(images), tile.caption, None, tile.place, known)
