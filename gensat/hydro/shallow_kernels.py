"""One explicit step of the full shallow-water equations over the tiles that matter; numba, on the CPU.

The arithmetic is that of :mod:`gensat.hydro.shallow_torch`. A tile loads three more rows and columns around it into scratch that
stays in the cache, computes the fluxes of its own cells and of one ring around them (a neighbour that runs dry holds back
what comes in), and writes its own cells. Nothing is read that another tile writes, so the result does not depend on the
number of threads.
"""

from __future__ import annotations

from typing import no_type_check  # numba compiles the function itself, not a wrapper that checks types

import numba as nb
import numpy as np

from gensat.hydro.inertial_kernels import inverse_cube_root
from gensat.hydro.shallow_flux_kernels import (
    BEFORE,
    BEGIN,
    END,
    FX,
    FY,
    LINES,
    OPTIONS,
    PLANES,
    PUSH_X,
    PUSH_Y,
    RING,
    SHARE,
    THERE,
    THERE_BEFORE,
    WX,
    WY,
    E,
    H,
    U,
    V,
    X,
    fluxes,
    outside,
    over_walls,
    states,
)

TILE = (32, 128)
"""Rows and columns of a tile."""


@nb.njit(**OPTIONS)
@no_type_check
def _scale(s, plane, i, a, b, before, behind):
    """Only the share of its cell leaves with each flux of the faces a .. b of row i."""
    water, low, high = s[plane, i, a:b], s[plane + 1, i, a:b], s[plane + 2, i, a:b]
    along, carried = s[plane + 3, i, a:b], s[plane + 4, i, a:b]
    for j in range(b - a):
        part = before[j] if water[j] > 0 else behind[j]
        kept = (1 - part) * water[j] * carried[j]
        water[j] *= part
        low[j] -= kept
        high[j] -= kept
        along[j] *= part


@nb.njit(**OPTIONS)
@no_type_check
def _load(r0, c0, rows, columns, z, exists, h, qx, qy, dry, s):
    """Fills the planes of depth, surface, velocities and extent of a tile and its rings; False if all of it is dry."""
    height, width = z.shape
    a, b = max(c0 - RING, 0), min(c0 + columns + RING, width)
    o = a - (c0 - RING)
    wet_cells = 0
    for i in range(rows + 2 * RING):
        r = r0 - RING + i
        s[H : X + 1, i] = 0.0
        if r < 0 or r >= height:
            continue
        hr, zr, xr, yr, er = h[r, a:b], z[r, a:b], qx[r, a:b], qy[r, a:b], exists[r, a:b]
        hs, es, us, vs, xs = s[H, i, o:], s[E, i, o:], s[U, i, o:], s[V, i, o:], s[X, i, o:]
        for j in range(b - a):
            d = hr[j]
            hs[j] = d
            es[j] = d + zr[j]
            xs[j] = 1.0 if er[j] else 0.0
            wet = d > dry
            inverse = 1.0 / (d if wet else 1.0)
            us[j] = xr[j] * inverse if wet else 0.0
            vs[j] = yr[j] * inverse if wet else 0.0
        for j in range(b - a):
            wet_cells += 1 if hr[j] > 0 else 0
    return wet_cells > 0


@nb.njit(**OPTIONS)
@no_type_check
def _load_weirs(r0, c0, rows, columns, weirs, s):
    """Fills the planes of weirs; False if there are none."""
    across, down = weirs
    if across.shape[0] == 1 and down.shape[0] == 1:
        return False
    height, width = across.shape[0], down.shape[1]
    a, b = max(c0 - RING, 0), min(c0 + columns + RING, width)
    o = a - (c0 - RING)
    some = 0.0
    for i in range(rows + 2 * RING):
        r = r0 - RING + i
        s[WX, i] = 0.0
        s[WY, i] = 0.0
        if 0 <= r < height:
            for j in range(b - a):
                s[WX, i, o + j] = across[r, a + j]
                s[WY, i, o + j] = down[r, a + j]
                some += s[WX, i, o + j] + s[WY, i, o + j]
    return some > 0


@nb.njit(**OPTIONS)
@no_type_check
def _eastwards(s, lines, rows, columns, kinds, levels, theta, dry, g, k, walls):
    """Fluxes of the faces between cells of a row, of all rows of the tile and one ring around them."""
    a, b = 1, columns + 5  # the cells that have states
    first, last = RING, RING + columns - 1
    begin, end = lines[BEGIN : BEGIN + 4], lines[END : END + 4]
    for i in range(RING - 1, rows + RING + 1):
        states(s, i, False, a, b, lines, BEGIN, END, theta, dry, g)
        lines[THERE] = s[X, i]
        if kinds[3] > 0:
            begin[2, first] = end[2, first] = s[U, i, first]
            outside(kinds[3], levels[3], begin, end, first, first - 1, 1, -1.0, s[X, i], g)
            lines[THERE, first - 1] = 1.0
        if kinds[1] > 0:
            begin[2, last] = end[2, last] = s[U, i, last]
            outside(kinds[1], levels[1], end, begin, last, last + 1, 1, 1.0, s[X, i], g)
            lines[THERE, last + 1] = 1.0
        fluxes(lines, END, BEGIN, 1, a + 1, b, s, FX, i, g)
        if walls:
            over_walls(lines, END, BEGIN, 1, a + 1, b, s, FX, i, g, k)


@nb.njit(**OPTIONS)
@no_type_check
def _southwards(s, lines, rows, columns, kinds, levels, theta, dry, g, k, walls):
    """Fluxes of the faces between rows, as :func:`_eastwards`."""
    a, b = RING - 1, columns + RING + 1
    first, last = RING, RING + rows - 1
    begin, before, after = lines[BEGIN : BEGIN + 4], BEFORE, END
    for i in range(1, rows + 5):
        # The ends of the row above are in the lines ``before``, those of this one in ``after``.
        states(s, i, True, a, b, lines, BEGIN, after, theta, dry, g)
        lines[THERE] = s[X, i]
        past = lines[before : before + 4]
        if (kinds[0] > 0 and i == first) or (kinds[2] > 0 and i == last):
            lines[BEGIN + 2, a:b] = s[V, i, a:b]
            lines[after + 2, a:b] = s[V, i, a:b]
        if kinds[0] > 0 and i == first:
            outside(kinds[0], levels[0], begin, past, a, a, b - a, -1.0, s[X, i], g)
            lines[THERE_BEFORE] = 1.0
        if kinds[2] > 0 and i == last + 1:
            outside(kinds[2], levels[2], past, begin, a, a, b - a, 1.0, s[X, last], g)
            lines[THERE] = 1.0
        if i > 1:
            fluxes(lines, before, BEGIN, 0, a, b, s, FY, i, g)
            if walls:
                over_walls(lines, before, BEGIN, 0, a, b, s, FY, i, g, k)
        lines[THERE_BEFORE] = lines[THERE]
        before, after = after, before


@nb.njit(**OPTIONS)
@no_type_check
def _hold_back(s, rows, columns, k):
    """No cell gives more than it has: its fluxes out are scaled, where they ask for more."""
    a, b = RING - 1, columns + RING + 1
    held = 0
    for i in range(RING - 1, rows + RING + 1):
        h, x, share = s[H, i, a:b], s[X, i, a:b], s[SHARE, i, a:b]
        w, e = s[FX, i, a:b], s[FX, i, a + 1 : b + 1]
        n, t = s[FY, i, a:b], s[FY, i + 1, a:b]
        for j in range(b - a):
            out = (e[j] if e[j] > 0 else 0.0) + (-w[j] if w[j] < 0 else 0.0)
            out = k * (out + ((t[j] if t[j] > 0 else 0.0) + (-n[j] if n[j] < 0 else 0.0)))
            much = out > h[j] and x[j] > 0
            share[j] = h[j] / out if much else 1.0
            held += 1 if much else 0
    if held == 0:
        return
    a, b = RING, columns + RING
    for i in range(RING, rows + RING + 1):
        if i < rows + RING:
            _scale(s, FX, i, a, b + 1, s[SHARE, i, a - 1 : b], s[SHARE, i, a : b + 1])
        _scale(s, FY, i, a, b, s[SHARE, i - 1, a:b], s[SHARE, i, a:b])


@nb.njit(**OPTIONS)
@no_type_check
def _update(r0, c0, rows, columns, s, exists, n, water, later, k, g_dt, dry, blend):
    """Writes the cells of a tile; returns whether any is wet."""
    h, qx, qy = water
    h2, qx2, qy2 = later
    a, b, c1 = RING, columns + RING, c0 + columns
    nv = 1 if n.shape[0] > 1 else 0
    wet_cells = 0
    for i in range(RING, rows + RING):
        r = r0 + i - RING
        hr, xr, yr, er, nr = h[r, c0:c1], qx[r, c0:c1], qy[r, c0:c1], exists[r, c0:c1], n[r * nv, c0:c1]
        new_h, new_x, new_y = h2[r, c0:c1], qx2[r, c0:c1], qy2[r, c0:c1]
        w0, e0, e1, w2 = s[FX, i, a:b], s[FX, i, a + 1 : b + 1], s[FX + 1, i, a + 1 : b + 1], s[FX + 2, i, a:b]
        w3, e3 = s[FX + 3, i, a:b], s[FX + 3, i, a + 1 : b + 1]
        m0, p0, p1, m2 = s[FY, i, a:b], s[FY, i + 1, a:b], s[FY + 1, i + 1, a:b], s[FY + 2, i, a:b]
        m3, p3 = s[FY + 3, i, a:b], s[FY + 3, i + 1, a:b]
        push_x, push_y, hs, xs, ys = s[PUSH_X, i, a:b], s[PUSH_Y, i, a:b], s[H, i, a:b], s[U, i, a:b], s[V, i, a:b]
        for j in range(columns):
            d = hr[j] - k * ((e0[j] - w0[j]) + (p0[j] - m0[j]))
            d = d if d > 0 else 0.0
            hs[j] = d if er[j] else 0.0
        for j in range(columns):
            xs[j] = xr[j] - k * (e1[j] - w2[j] + push_x[j] + (p3[j] - m3[j]))
        for j in range(columns):
            ys[j] = yr[j] - k * (p1[j] - m2[j] + push_y[j] + (e3[j] - w3[j]))
        for j in range(columns):
            d = hs[j]
            wet = d > dry
            root = inverse_cube_root(d if wet else 1.0)
            cube = root * root * root
            # h^(-7/3) is (h^(-1/3))^7.
            drag = g_dt * nr[j] * nr[j] * np.sqrt(xs[j] * xs[j] + ys[j] * ys[j]) * (cube * cube * root)
            held = 2.0 / (1.0 + np.sqrt(1.0 + 4.0 * drag))
            held = held if wet else 0.0
            xs[j] *= held
            ys[j] *= held
        if blend:
            for j in range(columns):
                new_h[j] = 0.5 * (new_h[j] + hs[j])
                new_x[j] = 0.5 * (new_x[j] + xs[j])
                new_y[j] = 0.5 * (new_y[j] + ys[j])
        else:
            for j in range(columns):
                new_h[j] = hs[j]
                new_x[j] = xs[j]
                new_y[j] = ys[j]
        for j in range(columns):
            wet_cells += 1 if new_h[j] > 0 else 0
    return wet_cells > 0


@nb.njit(**OPTIONS)
@no_type_check
def _tile(r0, c0, ground, water, later, kinds, levels, numbers, dt, blend, s, lines, inflow):
    """Steps one tile; returns whether any of it is wet."""
    z, exists, n, weirs = ground
    height, width = z.shape
    rows, columns = min(TILE[0], height - r0), min(TILE[1], width - c0)
    g, theta, dry, dx = numbers[0], numbers[1], numbers[2], numbers[3]
    mine = (
        kinds[0] * (r0 == 0), kinds[1] * (c0 + columns == width), kinds[2] * (r0 + rows == height), kinds[3] * (c0 == 0)
    )  # fmt: skip
    wet = _load(r0, c0, rows, columns, z, exists, water[0], water[1], water[2], dry, s)
    if not wet and not (mine[0] == 2 or mine[1] == 2 or mine[2] == 2 or mine[3] == 2):
        deepest = 0.0
        for array in later:
            array[r0 : r0 + rows, c0 : c0 + columns] *= 0.5 if blend else 0.0
        for r in range(r0, r0 + rows):
            for c in range(c0, c0 + columns):
                deepest = max(deepest, later[0][r, c])
        return deepest > 0
    walls = _load_weirs(r0, c0, rows, columns, weirs, s)
    _eastwards(s, lines, rows, columns, mine, levels, theta, dry, g, dt / dx, walls)
    _southwards(s, lines, rows, columns, mine, levels, theta, dry, g, dt / dx, walls)
    _hold_back(s, rows, columns, dt / dx)
    a, b, c, d = RING, RING + rows, RING, RING + columns
    if mine[0]:
        inflow[0] = s[FY, a, c:d].sum()
    if mine[1]:
        inflow[1] = -s[FX, a:b, d].sum()
    if mine[2]:
        inflow[2] = -s[FY, b, c:d].sum()
    if mine[3]:
        inflow[3] = s[FX, a:b, c].sum()
    return _update(r0, c0, rows, columns, s, exists, n, water, later, dt / dx, g * dt, dry, blend)


@nb.njit(**OPTIONS)
@no_type_check
def _share(worker, workers, active, ground, water, later, kinds, levels, numbers, dt, blend, wet, inflow):
    """The tiles of one worker, with scratch of its own."""
    s = np.zeros((PLANES, TILE[0] + 2 * RING, TILE[1] + 2 * RING))
    lines = np.zeros((LINES, TILE[1] + 2 * RING))
    across = (ground[0].shape[1] + TILE[1] - 1) // TILE[1]
    for i in range(worker, len(active), workers):
        row, column = active[i] // across, active[i] % across
        wet[active[i]] = _tile(
            row * TILE[0],
            column * TILE[1],
            ground,
            water,
            later,
            kinds,
            levels,
            numbers,
            dt,
            blend,
            s,
            lines,
            inflow[i],
        )


@nb.njit(parallel=True, cache=True, **OPTIONS)
@no_type_check
def stage(active, z, exists, n, weirs, h, qx, qy, h2, qx2, qy2, kinds, levels, numbers, dt, blend, wet, workers):
    """One step of Euler of the tiles that are named, or the second one of Heun's method.

    Args:
        active: (k) numbers of tiles, row by row.
        z: (h, w) bed, 0 where ``exists`` is False.
        exists: (h, w) bool.
        n: (h, w) or (1, w) Manning's n.
        weirs: (h, w + 1) and (h + 1, w) of ``weirs.weir_faces``, or twice (1, 1) where there are none.
        h: (h, w) depth, and the momenta ``qx`` and ``qy``.
        qx: see there.
        qy: see there.
        h2: (h, w) with ``qx2`` and ``qy2``, written where the tiles are; with ``blend`` they hold the water of before
            both steps and get the mean of that and the result.
        qx2: see there.
        qy2: see there.
        kinds: (4) of the northern, eastern, southern and western edge.
        levels: (4) metres of stages.
        numbers: (4) g, theta of the limiter, dry, dx.
        dt: seconds.
        blend: whether to take the mean.
        wet: (tiles) bool, set where water is left.
        workers: in how many parts the tiles are dealt out; changes no result.

    Returns:
        (4) cubic metres that came in over the edges.
    """
    inflow = np.zeros((len(active), 4))
    for worker in nb.prange(workers):
        ground, water, later = (z, exists, n, weirs), (h, qx, qy), (h2, qx2, qy2)
        _share(worker, workers, active, ground, water, later, kinds, levels, numbers, dt, blend, wet, inflow)
    total = np.zeros(4)
    for i in range(len(active)):
        total += inflow[i]
    return total * dt * numbers[3]


@nb.njit(parallel=True, cache=True, **OPTIONS)
@no_type_check
def fastest(h, qx, qy, g, dry):
    """(h) m/s of the fastest wave along either axis in each row, 0 where it is dry, NaN where a depth is NaN."""
    rows, columns = h.shape
    best = np.zeros(rows)
    for r in nb.prange(rows):
        most, bad = 0.0, 0
        for c in range(columns):
            d = h[r, c]
            if d > dry:
                x, y = abs(qx[r, c]), abs(qy[r, c])
                most = max(most, (x if x > y else y) / d + np.sqrt(g * d))
            elif d != d:
                bad += 1
        best[r] = np.nan if bad > 0 else most
    return best
