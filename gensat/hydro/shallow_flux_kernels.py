"""States at the faces of cells and the fluxes through them, a row at a time; numba, on the CPU.

The arithmetic is that of :mod:`gensat.hydro.shallow_torch`; :mod:`gensat.hydro.shallow_kernels` steps tiles with it.
"""

from __future__ import annotations

from typing import no_type_check  # numba compiles the function itself, not a wrapper that checks types

import numba as nb
import numpy as np

from gensat.hydro.inertial_kernels import weir
from gensat.hydro.weirs import EVEN

RING = 3
# Planes of a tile's scratch, rows and columns with their rings: depth, surface, velocities, extent; the share of its
# water that a cell can give, the bed's push; five of the faces before each cell to the east, and five to the south; and what
# both carry as weirs.
H, E, U, V, X, SHARE, PUSH_X, PUSH_Y, FX, FY, WX, WY, PLANES = 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 18, 19, 20
# Lines of a sweep: four each of the states at the beginning of cells, at their end, and at the end of the row before.
BEGIN, END, BEFORE, THERE, THERE_BEFORE, LINES = 0, 4, 8, 12, 13, 14
OPTIONS = dict(error_model="numpy", nogil=True, fastmath={"contract", "nsz"})


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


@nb.njit(**OPTIONS)
@no_type_check
def states(s, i, down, a, b, lines, begin, end, theta, dry, g):
    """States at both ends of the cells a .. b of row i along an axis: that to the south if ``down``, else to the east.

    Four lines from ``begin`` on and four from ``end`` on get depth, surface, velocity through and along the face at the
    beginning and the end of cells; the plane of the axis gets the bed's push.
    """
    before, behind, left, right = (i - 1, i + 1, 0, 0) if down else (i, i, -1, 1)
    # Slices of one row of an array in one piece are what the compiler turns into vector instructions.
    xm, xp = s[X, before, a + left : b + left], s[X, behind, a + right : b + right]
    hm, h0, hp = s[H, before, a + left : b + left], s[H, i, a:b], s[H, behind, a + right : b + right]
    em, e0, ep = s[E, before, a + left : b + left], s[E, i, a:b], s[E, behind, a + right : b + right]
    through, along, plane = (V, U, PUSH_Y) if down else (U, V, PUSH_X)
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


@nb.njit(**OPTIONS)
@no_type_check
def fluxes(lines, end, begin, back, a, b, s, plane, i, g):
    """Through the faces before the cells a .. b of row i, from the lines at the end of those before and at their beginning.

    ``back`` is 1 where the cells before are those of the same row, 0 for those of the row above. Five planes get: water,
    momentum as the cell before and as the cell behind feels it, momentum along the face, and the velocity that the water
    takes along.
    """
    n = b - a
    there_l = lines[THERE if back else THERE_BEFORE, a - back : b - back]
    there_r = lines[THERE, a:b]
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
        some = a > 0 or b > 0  # not span > 0: still water's velocities are as small as 1e-310, of infinite inverse
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


@nb.njit(**OPTIONS)
@no_type_check
def over_walls(lines, end, begin, back, a, b, s, plane, i, g, k):
    """What falls over the faces of row i that are weirs, after :func:`fluxes`, as ``weirs.weir_flux``; ``k`` is dt / dx."""
    weirs = WX if back else WY
    for j in range(a, b):
        if s[weirs, i, j] == 0:
            continue
        m, n = (i, j - 1) if back else (i - 1, j)
        e_l, e_r = s[E, m, n], s[E, i, j]
        crest = max(e_l - s[H, m, n], e_r - s[H, i, j])
        before, behind, w = e_l - crest, e_r - crest, s[plane, i, j]
        if before <= 0 and behind <= 0:
            continue
        law, fall = s[weirs, i, j] * weir(before, behind, g), max(before, 0.0) - max(behind, 0.0)
        sign = 1.0 if fall > 0 else (-1.0 if fall < 0 else 0.0)
        passes = min(law, EVEN * abs(fall) / k) * sign
        if w * sign > abs(passes):
            passes = min(max(w, -law), law)
            if passes == w:
                continue
        h_l, h_r = lines[end, j - back], lines[begin, j]
        u = lines[end + 2, j - back] if passes > 0 else lines[begin + 2, j]
        v = lines[end + 3, j - back] if passes > 0 else lines[begin + 3, j]
        s[plane, i, j] = passes
        s[plane + 1, i, j] = 0.5 * g * h_l * h_l + passes * u
        s[plane + 2, i, j] = 0.5 * g * h_r * h_r + passes * u
        s[plane + 3, i, j] = passes * v
        s[plane + 4, i, j] = u


@nb.njit(**OPTIONS)
@no_type_check
def outside(kind, level, inside, beyond, a, b, count, outwards, exists, g):
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
