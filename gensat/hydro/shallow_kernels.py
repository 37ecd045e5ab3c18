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

TILE = (32, 128)
"""Rows and columns of a tile."""

_RING = 3
# Planes of a tile's scratch, rows and columns with their rings: depth, surface, velocities, extent; the share of its
# water that a cell can give, the bed's push; five of the faces before each cell to the east, and five to the south.
_H, _E, _U, _V, _X, _SHARE, _PUSH_X, _PUSH_Y, _FX, _FY, _PLANES = 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 18
# Lines of a sweep: four each of the states at the beginning of cells, at their end, and at the end of the row before.
_BEGIN, _END, _BEFORE, _THERE, _THERE_BEFORE, _LINES = 0, 4, 8, 12, 13, 14
_OPTIONS = dict(error_model="numpy", nogil=True, fastmath={"contract", "nsz"})


@nb.njit(inline="always")
@no_type_check
def _slope(back, ahead, theta):
    """The generalised minmod of the differences to both neighbours."""
    a, b = abs(back), abs(ahead)
    least = theta * (a if a < b else b)
    middle = 0.5 * abs(back + ahead)
    least = least if least < middle else middle
    least = least if back > 0 else -least
    return least if back * ahead > 0 else 0.0


@nb.njit(**_OPTIONS)
@no_type_check
def _states(s, i, down, a, b, lines, begin, end, theta, dry, g):
    """States at both ends of the cells a .. b of row i along an axis: that to the south if ``down``, else to the east.

    Four lines from ``begin`` on and four from ``end`` on get depth, surface, velocity through and along the face at the
    beginning and the end of cells; the plane of the axis gets the bed's push.
    """
    before, behind, left, right = (i - 1, i + 1, 0, 0) if down else (i, i, -1, 1)
    # Slices of one row of an array in one piece are what the compiler turns into vector instructions.
    xm, xp = s[_X, before, a + left : b + left], s[_X, behind, a + right : b + right]
    hm, h0, hp = s[_H, before, a + left : b + left], s[_H, i, a:b], s[_H, behind, a + right : b + right]
    em, e0, ep = s[_E, before, a + left : b + left], s[_E, i, a:b], s[_E, behind, a + right : b + right]
    through, along, plane = (_V, _U, _PUSH_Y) if down else (_U, _V, _PUSH_X)
    push, bh, be, eh, ee = (
        s[plane, i, a:b],
        lines[begin, a:b],
        lines[begin + 1, a:b],
        lines[end, a:b],
        lines[end + 1, a:b],
    )
    for j in range(b - a):
        back = h0[j] - hm[j] if xm[j] > 0 else 0.0
        ahead = hp[j] - h0[j] if xp[j] > 0 else 0.0
        slope = _slope(back, ahead, theta)
        back = e0[j] - em[j] if xm[j] > 0 else 0.0
        ahead = ep[j] - e0[j] if xp[j] > 0 else 0.0
        rise = _slope(back, ahead, theta)
        bh[j] = h0[j] - 0.5 * slope
        eh[j] = h0[j] + 0.5 * slope
        be[j] = e0[j] - 0.5 * rise
        ee[j] = e0[j] + 0.5 * rise
        push[j] = g * h0[j] * (rise - slope)
    um, u0, up = s[through, before, a + left : b + left], s[through, i, a:b], s[through, behind, a + right : b + right]
    vm, v0, vp = s[along, before, a + left : b + left], s[along, i, a:b], s[along, behind, a + right : b + right]
    bu, bv, eu, ev = lines[begin + 2, a:b], lines[begin + 3, a:b], lines[end + 2, a:b], lines[end + 3, a:b]
    for j in range(b - a):
        depth_m = hm[j] if xm[j] > 0 else h0[j]
        depth_p = hp[j] if xp[j] > 0 else h0[j]
        least = depth_m if depth_m < depth_p else depth_p
        least = least if least < h0[j] else h0[j]
        back = u0[j] - um[j] if xm[j] > 0 else 2 * u0[j]
        ahead = up[j] - u0[j] if xp[j] > 0 else -2 * u0[j]
        change = _slope(back, ahead, theta)
        change = change if least > dry else 0.0
        bu[j] = u0[j] - 0.5 * change
        eu[j] = u0[j] + 0.5 * change
        back = v0[j] - vm[j] if xm[j] > 0 else 0.0
        ahead = vp[j] - v0[j] if xp[j] > 0 else 0.0
        change = _slope(back, ahead, theta)
        change = change if least > dry else 0.0
        bv[j] = v0[j] - 0.5 * change
        ev[j] = v0[j] + 0.5 * change


@nb.njit(inline="always")
@no_type_check
def _thrust(h, towards, above, g, inverse):
    """What a step pushes back on water that runs against it, as ``shallow_torch._thrust``."""
    c = np.sqrt(g * h)
    back, other = c - towards, c + 0.5 * towards
    back = back if back > other else other
    return h * towards * (towards + back) if above > towards * towards * inverse else 0.0


@nb.njit(**_OPTIONS)
@no_type_check
def _fluxes(lines, end, begin, back, a, b, s, plane, i, g):
    """Through the faces before the cells a .. b of row i, from the lines at the end of those before and at their beginning.

    ``back`` is 1 where the cells before are those of the same row, 0 for those of the row above. Five planes get: water,
    momentum as the cell before and as the cell behind feels it, momentum along the face, and the velocity that the water
    takes along.
    """
    n = b - a
    there_l = lines[_THERE if back else _THERE_BEFORE, a - back : b - back]
    there_r = lines[_THERE, a:b]
    lh, le = lines[end, a - back : b - back], lines[end + 1, a - back : b - back]
    lu, lv = lines[end + 2, a - back : b - back], lines[end + 3, a - back : b - back]
    rh, re, ru, rv = lines[begin, a:b], lines[begin + 1, a:b], lines[begin + 2, a:b], lines[begin + 3, a:b]
    water, low, high = s[plane, i, a:b], s[plane + 1, i, a:b], s[plane + 2, i, a:b]
    along, carried = s[plane + 3, i, a:b], s[plane + 4, i, a:b]
    half, inverse = 0.5 * g, 0.5 / g
    for j in range(n):
        il, ir = there_l[j] > 0, there_r[j] > 0
        h_l, h_r = lh[j] if il else rh[j], rh[j] if ir else lh[j]
        e_l, e_r = le[j] if il else re[j], re[j] if ir else le[j]
        u_l, u_r = lu[j] if il else -ru[j], ru[j] if ir else -lu[j]
        v_l, v_r = lv[j] if il else rv[j], rv[j] if ir else lv[j]
        z_l, z_r = e_l - h_l, e_r - h_r
        sill = z_l if z_l > z_r else z_r
        a, b = e_l - sill, e_r - sill
        a = a if a > 0 else 0.0
        b = b if b > 0 else 0.0
        a = a if a < h_l else h_l
        b = b if b < h_r else h_r
        c_l, c_r = np.sqrt(g * a), np.sqrt(g * b)
        middle = 0.5 * (u_l + u_r) + c_l - c_r
        c = 0.5 * (c_l + c_r) + 0.25 * (u_l - u_r)
        c = c if c > 0 else 0.0
        s_l, s_r = u_l - c_l, u_r + c_r
        other_l, other_r = middle - c, middle + c
        s_l = s_l if s_l < other_l else other_l
        s_r = s_r if s_r > other_r else other_r
        s_l, s_r = s_l if a > 0 else u_r - 2 * c_r, s_r if b > 0 else u_l + 2 * c_l
        s_l, s_r = s_l if b > 0 else u_l - c_l, s_r if a > 0 else u_r + c_r
        s_l = s_l if s_l < 0 else 0.0
        s_r = s_r if s_r > 0 else 0.0
        span = s_r - s_l
        some = (
            a > 0 or b > 0
        )  # not span > 0: still water's velocities are as small as 1e-310, whose inverse is infinite
        scale = 1.0 / (span if some else 1.0)
        scale = scale if some else 0.0
        q_l, q_r = a * u_l, b * u_r
        w = (s_r * q_l - s_l * q_r + s_l * s_r * (b - a)) * scale
        t = (s_r * (q_l * u_l + half * a * a) - s_l * (q_r * u_r + half * b * b) + s_l * s_r * (q_r - q_l)) * scale
        water[j] = w
        low[j] = t + half * (h_l * h_l - a * a) + _thrust(h_l, u_l, sill - e_l, g, inverse)
        high[j] = t + half * (h_r * h_r - b * b) + _thrust(h_r, -u_r, sill - e_r, g, inverse)
        along[j] = w * (v_l if w > 0 else v_r)
        carried[j] = u_l if w > 0 else u_r


@nb.njit(**_OPTIONS)
@no_type_check
def _outside(kind, level, inside, beyond, a, b, count, outwards, exists, g):
    """States just outside an edge from ``count`` of those just inside, as ``shallow_torch._outside``: into column b + i from a + i."""
    for i in range(count):
        h, e, u, v = inside[0, a + i], inside[1, a + i], inside[2, a + i], inside[3, a + i]
        if exists[a + i] == 0:
            h, e, u, v = 0.0, e, 0.0, 0.0
        elif kind == 1:
            u = outwards * abs(u)
        else:
            out, c = outwards * u, np.sqrt(g * h)
            if not (out >= c and h > 0):
                depth = max(level - (e - h), 0.0)
                c_level = np.sqrt(g * depth)
                e = e - h + depth
                h, u, v = depth, outwards * max(out + 2 * (c - c_level), -c_level), 0.0
        beyond[0, b + i], beyond[1, b + i], beyond[2, b + i], beyond[3, b + i] = h, e, u, v


@nb.njit(**_OPTIONS)
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


@nb.njit(**_OPTIONS)
@no_type_check
def _load(r0, c0, rows, columns, z, exists, h, qx, qy, dry, s):
    """Fills the planes of depth, surface, velocities and extent of a tile and its rings; False if all of it is dry."""
    height, width = z.shape
    a, b = max(c0 - _RING, 0), min(c0 + columns + _RING, width)
    o = a - (c0 - _RING)
    wet_cells = 0
    for i in range(rows + 2 * _RING):
        r = r0 - _RING + i
        s[_H : _X + 1, i] = 0.0
        if r < 0 or r >= height:
            continue
        hr, zr, xr, yr, er = h[r, a:b], z[r, a:b], qx[r, a:b], qy[r, a:b], exists[r, a:b]
        hs, es, us, vs, xs = s[_H, i, o:], s[_E, i, o:], s[_U, i, o:], s[_V, i, o:], s[_X, i, o:]
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


@nb.njit(**_OPTIONS)
@no_type_check
def _eastwards(s, lines, rows, columns, kinds, levels, theta, dry, g):
    """Fluxes of the faces between cells of a row, of all rows of the tile and one ring around them."""
    a, b = 1, columns + 5  # the cells that have states
    first, last = _RING, _RING + columns - 1
    begin, end = lines[_BEGIN : _BEGIN + 4], lines[_END : _END + 4]
    for i in range(_RING - 1, rows + _RING + 1):
        _states(s, i, False, a, b, lines, _BEGIN, _END, theta, dry, g)
        lines[_THERE] = s[_X, i]
        if kinds[3] > 0:
            begin[2, first] = end[2, first] = s[_U, i, first]
            _outside(kinds[3], levels[3], begin, end, first, first - 1, 1, -1.0, s[_X, i], g)
            lines[_THERE, first - 1] = 1.0
        if kinds[1] > 0:
            begin[2, last] = end[2, last] = s[_U, i, last]
            _outside(kinds[1], levels[1], end, begin, last, last + 1, 1, 1.0, s[_X, i], g)
            lines[_THERE, last + 1] = 1.0
        _fluxes(lines, _END, _BEGIN, 1, a + 1, b, s, _FX, i, g)


@nb.njit(**_OPTIONS)
@no_type_check
def _southwards(s, lines, rows, columns, kinds, levels, theta, dry, g):
    """Fluxes of the faces between rows, as :func:`_eastwards`."""
    a, b = _RING - 1, columns + _RING + 1
    first, last = _RING, _RING + rows - 1
    begin, before, after = lines[_BEGIN : _BEGIN + 4], _BEFORE, _END
    for i in range(1, rows + 5):
        # The ends of the row above are in the lines ``before``, those of this one in ``after``.
        _states(s, i, True, a, b, lines, _BEGIN, after, theta, dry, g)
        lines[_THERE] = s[_X, i]
        past = lines[before : before + 4]
        if (kinds[0] > 0 and i == first) or (kinds[2] > 0 and i == last):
            lines[_BEGIN + 2, a:b] = s[_V, i, a:b]
            lines[after + 2, a:b] = s[_V, i, a:b]
        if kinds[0] > 0 and i == first:
            _outside(kinds[0], levels[0], begin, past, a, a, b - a, -1.0, s[_X, i], g)
            lines[_THERE_BEFORE] = 1.0
        if kinds[2] > 0 and i == last + 1:
            _outside(kinds[2], levels[2], past, begin, a, a, b - a, 1.0, s[_X, last], g)
            lines[_THERE] = 1.0
        if i > 1:
            _fluxes(lines, before, _BEGIN, 0, a, b, s, _FY, i, g)
        lines[_THERE_BEFORE] = lines[_THERE]
        before, after = after, before


@nb.njit(**_OPTIONS)
@no_type_check
def _hold_back(s, rows, columns, k):
    """No cell gives more than it has: its fluxes out are scaled, where they ask for more."""
    a, b = _RING - 1, columns + _RING + 1
    held = 0
    for i in range(_RING - 1, rows + _RING + 1):
        h, x, share = s[_H, i, a:b], s[_X, i, a:b], s[_SHARE, i, a:b]
        w, e = s[_FX, i, a:b], s[_FX, i, a + 1 : b + 1]
        n, t = s[_FY, i, a:b], s[_FY, i + 1, a:b]
        for j in range(b - a):
            out = (e[j] if e[j] > 0 else 0.0) + (-w[j] if w[j] < 0 else 0.0)
            out = k * (out + ((t[j] if t[j] > 0 else 0.0) + (-n[j] if n[j] < 0 else 0.0)))
            much = out > h[j] and x[j] > 0
            share[j] = h[j] / out if much else 1.0
            held += 1 if much else 0
    if held == 0:
        return
    a, b = _RING, columns + _RING
    for i in range(_RING, rows + _RING + 1):
        if i < rows + _RING:
            _scale(s, _FX, i, a, b + 1, s[_SHARE, i, a - 1 : b], s[_SHARE, i, a : b + 1])
        _scale(s, _FY, i, a, b, s[_SHARE, i - 1, a:b], s[_SHARE, i, a:b])


@nb.njit(**_OPTIONS)
@no_type_check
def _update(r0, c0, rows, columns, s, exists, n, water, later, k, g_dt, dry, blend):
    """Writes the cells of a tile; returns whether any is wet."""
    h, qx, qy = water
    h2, qx2, qy2 = later
    a, b, c1 = _RING, columns + _RING, c0 + columns
    nv = 1 if n.shape[0] > 1 else 0
    wet_cells = 0
    for i in range(_RING, rows + _RING):
        r = r0 + i - _RING
        hr, xr, yr, er, nr = h[r, c0:c1], qx[r, c0:c1], qy[r, c0:c1], exists[r, c0:c1], n[r * nv, c0:c1]
        new_h, new_x, new_y = h2[r, c0:c1], qx2[r, c0:c1], qy2[r, c0:c1]
        w0, e0, e1, w2 = s[_FX, i, a:b], s[_FX, i, a + 1 : b + 1], s[_FX + 1, i, a + 1 : b + 1], s[_FX + 2, i, a:b]
        w3, e3 = s[_FX + 3, i, a:b], s[_FX + 3, i, a + 1 : b + 1]
        m0, p0, p1, m2 = s[_FY, i, a:b], s[_FY, i + 1, a:b], s[_FY + 1, i + 1, a:b], s[_FY + 2, i, a:b]
        m3, p3 = s[_FY + 3, i, a:b], s[_FY + 3, i + 1, a:b]
        push_x, push_y, hs, xs, ys = s[_PUSH_X, i, a:b], s[_PUSH_Y, i, a:b], s[_H, i, a:b], s[_U, i, a:b], s[_V, i, a:b]
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


@nb.njit(**_OPTIONS)
@no_type_check
def _tile(r0, c0, ground, water, later, kinds, levels, numbers, dt, blend, s, lines, inflow):
    """Steps one tile; returns whether any of it is wet."""
    z, exists, n = ground
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
    _eastwards(s, lines, rows, columns, mine, levels, theta, dry, g)
    _southwards(s, lines, rows, columns, mine, levels, theta, dry, g)
    _hold_back(s, rows, columns, dt / dx)
    a, b, c, d = _RING, _RING + rows, _RING, _RING + columns
    if mine[0]:
        inflow[0] = s[_FY, a, c:d].sum()
    if mine[1]:
        inflow[1] = -s[_FX, a:b, d].sum()
    if mine[2]:
        inflow[2] = -s[_FY, b, c:d].sum()
    if mine[3]:
        inflow[3] = s[_FX, a:b, c].sum()
    return _update(r0, c0, rows, columns, s, exists, n, water, later, dt / dx, g * dt, dry, blend)


@nb.njit(**_OPTIONS)
@no_type_check
def _share(
    worker, workers, active, z, exists, n, h, qx, qy, h2, qx2, qy2, kinds, levels, numbers, dt, blend, wet, inflow
):
    """The tiles of one worker, with scratch of its own."""
    s = np.zeros((_PLANES, TILE[0] + 2 * _RING, TILE[1] + 2 * _RING))
    lines = np.zeros((_LINES, TILE[1] + 2 * _RING))
    ground, water, later = (z, exists, n), (h, qx, qy), (h2, qx2, qy2)
    across = (z.shape[1] + TILE[1] - 1) // TILE[1]
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


@nb.njit(parallel=True, cache=True, **_OPTIONS)
@no_type_check
def stage(active, z, exists, n, h, qx, qy, h2, qx2, qy2, kinds, levels, numbers, dt, blend, wet, workers):
    """One step of Euler of the tiles that are named, or the second one of Heun's method.

    Args:
        active: (k) numbers of tiles, row by row.
        z: (h, w) bed, 0 where ``exists`` is False.
        exists: (h, w) bool.
        n: (h, w) or (1, w) Manning's n.
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
        _share(
            worker,
            workers,
            active,
            z,
            exists,
            n,
            h,
            qx,
            qy,
            h2,
            qx2,
            qy2,
            kinds,
            levels,
            numbers,
            dt,
            blend,
            wet,
            inflow,
        )
    total = np.zeros(4)
    for i in range(len(active)):
        total += inflow[i]
    return total * dt * numbers[3]


@nb.njit(parallel=True, cache=True, **_OPTIONS)
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
