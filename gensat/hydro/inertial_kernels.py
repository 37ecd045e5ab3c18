"""One step of the local inertial equations in one pass over the tiles that matter; numba, on the CPU.

Every tile computes the discharges of its own faces and of one more row and column around it, keeps them in a few rows that stay in
the fastest cache, limits them, and writes depths and discharges into a second set of arrays. Nothing is read that another
tile writes, so the result does not depend on the number of threads. :mod:`gensat.hydro.inertial` has the same step in plain torch.
"""

from __future__ import annotations

from typing import no_type_check  # numba compiles the function itself, not a wrapper that checks types

import numba as nb
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from gensat.hydro.weirs import DROWNED, FACTOR

TILE = (32, 256)
"""Rows and columns of a tile."""


@intrinsic
@no_type_check
def _bits(typingctx, x):  # type: ignore[no-untyped-def]
    """The bits of a float64 as int64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), generate


@intrinsic
@no_type_check
def _from_bits(typingctx, x):  # type: ignore[no-untyped-def]
    """The float64 of bits in an int64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), generate


@nb.njit(inline="always")
@no_type_check
def inverse_cube_root(x):
    """x^(-1/3) of a normal positive float64 to the last bit or two, in arithmetic that vector units have.

    A third of the exponent gives 5 percent; each of two fourth-order steps for 1 / y^3 = x takes the error to its fourth
    power.
    """
    third = (_bits(x) >> 32) * 0x55555556 >> 32
    y = _from_bits((0x553EF0FF - third) << 32)
    r = 1.0 - x * y * y * y
    y = y + y * r * (1 / 3 + r * (2 / 9 + r * (14 / 81)))
    r = 1.0 - x * y * y * y
    return y + y * r * (1 / 3 + r * (2 / 9 + r * (14 / 81)))


@nb.njit(inline="always")
@no_type_check
def _discharge(q, before, after, z0, h0, z1, h1, n0, n1, gdt, gdtdx, theta, thin, froude, g, most):
    """New discharge of one face; ``most`` is dx / dt for the limit of steep slopes, or 0 for none."""
    eta0, eta1 = z0 + h0, z1 + h1
    hf = (eta0 if eta0 > eta1 else eta1) - (z0 if z0 > z1 else z1)
    wet = hf > thin
    y = inverse_cube_root(hf if wet else 1.0)
    y2 = y * y
    n = 0.5 * (n0 + n1)
    mean = theta * q + 0.5 * (1.0 - theta) * (before + after)
    new = (mean - gdtdx * hf * (eta1 - eta0)) / (1.0 + gdt * n * n * abs(q) * (y2 * y2 * y2 * y))
    free = abs(new)
    if froude > 0:
        cap = froude * hf * np.sqrt(g * hf if wet else 0.0)
        new = cap if new > cap else (-cap if new < -cap else new)
    if most > 0:
        share = hf * most / 5
        new = (share if new > 0 else -share) if free > hf * most / 4 else new
    return new if wet else 0.0


@nb.njit(error_model="numpy")
@no_type_check
def weir(before, behind, g):
    """As ``weirs.weir``."""
    high, low = (before, behind) if before > behind else (behind, before)
    if high <= 0:
        return 0.0
    low = low if low > 0 else 0.0
    cube = high * np.sqrt(high)
    left = 1 - low * np.sqrt(low) / cube
    return FACTOR * np.sqrt(g) * cube * (left if left > 0 else 0.0) ** DROWNED


@nb.njit(error_model="numpy")
@no_type_check
def _over_walls(faces, out, q, before, after, zl, hl, zh, hh, gdt, gdtdx, theta, thin, froude, g, most):
    """Writes the discharges of those faces of a row again that lie between a wall and a lower cell."""
    for i in range(len(faces)):
        if faces[i] > 0:
            new = _discharge(
                q[i], before[i], after[i], zl[i], hl[i], zh[i], hh[i], 0.0, 0.0, gdt, gdtdx, theta, thin, froude, g, most
            )  # fmt: skip
            sill = max(zl[i], zh[i])
            limit = faces[i] * weir(zl[i] + hl[i] - sill, zh[i] + hh[i] - sill, g)
            out[i] = min(max(new, -limit), limit)


@nb.njit(error_model="numpy", nogil=True)
@no_type_check
def _tile(r0, r1, c0, c1, z, n, weirs, h, qx, qy, edges, options, dt, h2, qx2, qy2):
    """Steps one tile; returns its largest depth, and whether any water or discharge is in it."""
    rows, columns = h.shape
    north, east, south, west = edges
    theta, thin, froude, steep, g, dx = options
    gdt, gdtdx = g * dt, g * dt / dx
    most = dx / dt if steep > 0 else 0.0
    a, b = max(c0 - 1, 0), min(c1 + 1, columns)
    width = b - a
    # Cell a + i is entry i + 1; face a + i is entry i + 1 too. What lies beyond the grid limits nothing: factor 1.
    x = np.zeros((2, width + 3))
    y = np.zeros((3, width + 3))
    factor = np.ones((3, width + 3))
    limited = np.empty(c1 - c0 + 1)
    deepest = 0.0
    moving = 0.0
    first, last = max(r0 - 1, 0), min(r1 + 1, rows)
    across, down = weirs
    walls = across.shape[0] > 1 and (across[first:last, a : b + 1].any() or down[first : last + 1, a:b].any())
    scale = dx / dt
    nv = 1 if n.shape[0] > 1 else 0
    _row_of_y(
        first, a, b, z, n, nv, down, walls, h, qy, north, south, gdt, gdtdx, theta, thin, froude, g, most, y[first % 3]
    )
    for r in range(first, last + 1):
        if r < last:
            xr = x[r % 2]
            fa, fb = max(a, 1), min(b, columns - 1) + 1
            q, hr, zr, nr = qx[r], h[r], z[r], n[r * nv]
            q0, qm, qp = q[fa:fb], q[fa - 1 : fb - 1], q[fa + 1 : fb + 1]
            hl, hh, zl, zh, nl, nh = (
                hr[fa - 1 : fb - 1],
                hr[fa:fb],
                zr[fa - 1 : fb - 1],
                zr[fa:fb],
                nr[fa - 1 : fb - 1],
                nr[fa:fb],
            )
            out = xr[fa - a + 1 :]
            for i in range(fb - fa):
                out[i] = _discharge(
                    q0[i], qm[i], qp[i], zl[i], hl[i], zh[i], hh[i], nl[i], nh[i],
                    gdt, gdtdx, theta, thin, froude, g, most,
                )  # fmt: skip
            if walls:
                _over_walls(
                    across[r, fa:fb], out, q0, qm, qp, zl, hl, zh, hh, gdt, gdtdx, theta, thin, froude, g, most
                )  # fmt: skip
            if a == 0:
                xr[1] = west[r]
            if b == columns:
                xr[width + 1] = east[r]
            yb = y[(r + 1) % 3]
            _row_of_y(
                r + 1, a, b, z, n, nv, down, walls, h, qy, north, south, gdt, gdtdx, theta, thin, froude, g, most, yb
            )  # fmt: skip
            ya = y[r % 3][1 : width + 1]
            ys, xw, xe = yb[1 : width + 1], xr[1 : width + 1], xr[2 : width + 2]
            f, here = factor[r % 3][1 : width + 1], hr[a:b]
            for i in range(width):
                leaving = (
                    (xe[i] if xe[i] > 0 else 0.0) - (xw[i] if xw[i] < 0 else 0.0)
                    + (ys[i] if ys[i] > 0 else 0.0) - (ya[i] if ya[i] < 0 else 0.0)
                )  # fmt: skip
                there = here[i] * scale
                f[i] = there / leaving if leaving > there else 1.0
        elif r == rows:
            factor[r % 3][:] = 1.0
        done = r - 1
        if done < r0 or done >= r1:
            continue
        # Entry i of these is column c0 + i, or its western face.
        k = c0 - a + 1
        size = c1 - c0
        fm, fr, fp = factor[(done + 2) % 3], factor[done % 3], factor[(done + 1) % 3]
        if done == 0:
            fm = np.ones(width + 3)
        xq, left, right = x[done % 2][k:], fr[k - 1 :], fr[k:]
        for i in range(size + 1):
            limited[i] = xq[i] * (left[i] if xq[i] > 0 else right[i])
        yn, ys = y[done % 3][k:], y[(done + 1) % 3][k:]
        above, here, below = fm[k:], fr[k:], fp[k:]
        old, new = h[done, c0:c1], h2[done, c0:c1]
        into = qy2[done, c0:c1]
        most_here = 0.0
        for i in range(size):
            upper = yn[i] * (above[i] if yn[i] > 0 else here[i])
            lower = ys[i] * (here[i] if ys[i] > 0 else below[i])
            value = old[i] + (limited[i] - limited[i + 1] + upper - lower) / scale
            value = value if value > 0 else 0.0
            new[i] = value
            value = new[i]  # as it was rounded to float32
            into[i] = upper
            most_here = value if value > most_here else most_here
            moving += abs(upper)
        deepest = most_here if most_here > deepest else deepest
        target = qx2[done]
        ends = size + 1 if c1 == columns else size
        keep = target[c0:]
        for i in range(ends):
            keep[i] = limited[i]
            moving += abs(limited[i])
        if done == rows - 1:
            foot = qy2[rows, c0:c1]
            for i in range(size):
                foot[i] = ys[i] * (here[i] if ys[i] > 0 else 1.0)
                moving += abs(foot[i])
    return deepest, deepest > 0 or moving > 0


@nb.njit(inline="always")
@no_type_check
def _row_of_y(r, a, b, z, n, nv, down, walls, h, qy, north, south, gdt, gdtdx, theta, thin, froude, g, most, out):
    """New discharges through the faces between rows r - 1 and r, columns a to b, into entries 1 and on."""
    to = out[1:]
    if r == 0:
        for i in range(b - a):
            to[i] = north[a + i]
        return
    if r == h.shape[0]:
        for i in range(b - a):
            to[i] = south[a + i]
        return
    q0, qm, qp = qy[r, a:b], qy[r - 1, a:b], qy[r + 1, a:b]
    hl, hh, zl, zh = h[r - 1, a:b], h[r, a:b], z[r - 1, a:b], z[r, a:b]
    nl, nh = n[(r - 1) * nv, a:b], n[r * nv, a:b]
    for i in range(b - a):
        to[i] = _discharge(
            q0[i], qm[i], qp[i], zl[i], hl[i], zh[i], hh[i], nl[i], nh[i], gdt, gdtdx, theta, thin, froude, g, most
        )  # fmt: skip
    if walls:
        _over_walls(down[r, a:b], to, q0, qm, qp, zl, hl, zh, hh, gdt, gdtdx, theta, thin, froude, g, most)


@nb.njit(error_model="numpy", parallel=True, nogil=True, cache=True)
@no_type_check
def step(active, z, n, weirs, h, qx, qy, edges, options, dt, h2, qx2, qy2, wet):
    """Steps the tiles of a list.

    Args:
        active: (k) numbers of tiles, row by row.
        z: (h, w) bed.
        n: (h, w) Manning's n, or (1, w) where it is the same everywhere.
        weirs: (h, w + 1) and (h + 1, w) of ``weirs.weir_faces``, or twice (1, 1) where there are none.
        h: (h, w) depth.
        qx: (h, w + 1) discharges.
        qy: (h + 1, w) discharges.
        edges: new discharges through the northern (w), eastern (h), southern (w) and western (h) edge.
        options: (theta, thin, froude or 0, 1 for steep slopes, gravity, dx).
        dt: seconds.
        h2: as h, written.
        qx2: as qx, written.
        qy2: as qy, written.
        wet: (tiles) bool, written for the tiles of the list.

    Returns:
        The largest depth.
    """
    rows, columns = h.shape
    across = (columns + TILE[1] - 1) // TILE[1]
    deepest = np.zeros(len(active))
    for k in nb.prange(len(active)):
        tile = active[k]
        r0, c0 = tile // across * TILE[0], tile % across * TILE[1]
        most, any_water = _tile(
            r0, min(r0 + TILE[0], rows), c0, min(c0 + TILE[1], columns),
            z, n, weirs, h, qx, qy, edges, options, dt, h2, qx2, qy2,
        )  # fmt: skip
        deepest[k] = most
        wet[tile] = any_water
    return deepest.max() if len(active) else 0.0
