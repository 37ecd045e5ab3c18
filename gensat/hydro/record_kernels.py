"""The highest values of a run, cell by cell in one pass over the wet tiles; numba, on the CPU.

:meth:`gensat.hydro.record.Peaks.look` has the same in plain torch.
"""

from __future__ import annotations

from typing import no_type_check  # numba compiles the function itself, not a wrapper that checks types

import numba as nb
import numpy as np

from gensat.hydro.record import ARRIVED, DEEP, SWIFT
from gensat.hydro.state import THIN

TILE = (32, 256)
"""Rows and columns of a tile where the solver knows of none."""


@nb.njit(inline="always")
@no_type_check
def _speed(before, after, ha, hb, h):
    """Speed at a cell from the discharges on both its faces and their flow depths."""
    both = ha + hb
    return (before + after) / both if both > 2 * THIN and h > 0 else 0.0


@nb.njit(inline="always")
@no_type_check
def _flow_depth(z0, h0, z1, h1):
    return max(z0 + h0, z1 + h1) - max(z0, z1)


@nb.njit(error_model="numpy", nogil=True)
@no_type_check
def _faces(r, c, z, h, x, y):
    """(u, v) of a cell of a staggered grid."""
    rows, columns = h.shape
    here, bed = h[r, c], z[r, c]
    west = _flow_depth(z[r, c - 1], h[r, c - 1], bed, here) if c > 0 else here
    east = _flow_depth(bed, here, z[r, c + 1], h[r, c + 1]) if c < columns - 1 else here
    north = _flow_depth(z[r - 1, c], h[r - 1, c], bed, here) if r > 0 else here
    south = _flow_depth(bed, here, z[r + 1, c], h[r + 1, c]) if r < rows - 1 else here
    return _speed(x[r, c], x[r, c + 1], west, east, here), _speed(y[r, c], y[r + 1, c], north, south, here)


@nb.njit(error_model="numpy", parallel=True, nogil=True, cache=True)
@no_type_check
def look(tiles, tall, wide, z, h, x, y, time, gravity, depth, speed, hazard, arrival):
    """Takes the wet tiles of a state into account.

    Args:
        tiles: (k) numbers of tiles, row by row.
        tall: rows of a tile.
        wide: columns of a tile.
        z: (h, w) bed.
        h: (h, w) depth.
        x: (h, w + 1) discharges on faces, or (h, w) momenta at cells.
        y: (h + 1, w) or (h, w).
        time: seconds.
        gravity: metres a second squared.
        depth: (h, w), raised.
        speed: (h, w), raised.
        hazard: (h, w), raised.
        arrival: (h, w), lowered.

    Returns:
        Largest Froude number of deep water, and the share of its volume that is swift.
    """
    rows, columns = h.shape
    across = (columns + wide - 1) // wide
    froude, deep, swift = np.zeros(len(tiles)), np.zeros(len(tiles)), np.zeros(len(tiles))
    staggered = x.shape[1] == columns + 1
    for k in nb.prange(len(tiles)):
        r0, c0 = tiles[k] // across * tall, tiles[k] % across * wide
        highest = 0.0
        water = fast = 0.0
        for r in range(r0, min(r0 + tall, rows)):
            for c in range(c0, min(c0 + wide, columns)):
                d = h[r, c]
                if d <= 0:
                    continue
                if staggered:
                    u, v = _faces(r, c, z, h, x, y)
                elif d > THIN:
                    u, v = x[r, c] / d, y[r, c] / d
                else:
                    u, v = 0.0, 0.0
                squared = u * u + v * v
                s = np.sqrt(squared)
                if d > depth[r, c]:
                    depth[r, c] = d
                if s > speed[r, c]:
                    speed[r, c] = s
                if d * (s + 0.5) > hazard[r, c]:
                    hazard[r, c] = d * (s + 0.5)
                if d >= ARRIVED and time < arrival[r, c]:
                    arrival[r, c] = time
                if d >= DEEP:
                    water += d
                    f = squared / (gravity * d)
                    highest = max(highest, f)
                    if f > SWIFT * SWIFT:
                        fast += d
        froude[k], deep[k], swift[k] = np.sqrt(highest), water, fast
    if len(tiles) == 0:
        return 0.0, 0.0
    total = deep.sum()
    return froude.max(), swift.sum() / total if total > 0 else 0.0
