"""Plain, slow ray casters: every cell, every building, one ray at a time, in float64. What the fast paths must equal."""

import numpy as np
import shapely

BIG = 1e8


def slab(lo, hi, o, d):
    """Where a ray is between two planes along one axis: arrays of lo and hi -> (t in, t out)."""
    if abs(d) < 1e-15:
        within = (lo <= o) & (o <= hi)
        return np.where(within, -np.inf, np.inf), np.where(within, np.inf, -np.inf)
    a, b = (lo - o) / d, (hi - o) / d
    return np.minimum(a, b), np.maximum(a, b)


def boxes_of(rows, columns, left, top, step):
    """Cells and the endless ones around them: (x0, x1, y0, y1), each (rows + 2, columns + 2)."""
    x = np.concatenate([[-BIG], left + np.arange(columns + 1) * step, [BIG]])
    y = np.concatenate([[BIG], top - np.arange(rows + 1) * step, [-BIG]])
    shape = (rows + 2, columns + 2)
    return [np.broadcast_to(v, shape) for v in (x[None, :-1], x[None, 1:], y[1:, None], y[:-1, None])]


def columns_hit(heights, left, top, step, ring, origin, direction):
    """Distance to the first column (tops and walls)."""
    tops = ring(heights)
    x0, x1, y0, y1 = boxes_of(*heights.shape, left, top, step)
    ax, bx = slab(x0, x1, origin[0], direction[0])
    ay, by = slab(y0, y1, origin[1], direction[1])
    az, bz = slab(np.full_like(tops, -np.inf), tops, origin[2], direction[2])
    enters, leaves = np.maximum(np.maximum(ax, ay), np.maximum(az, 0)), np.minimum(np.minimum(bx, by), bz)
    hit = (enters <= leaves) & np.isfinite(tops)
    return enters[hit].min() if hit.any() else np.inf


def patches_hit(heights, left, top, step, origin, direction):
    """Distance to a bilinear surface through cell centres, flat to the edge and endless beyond it."""
    nodes = np.pad(heights, 1, mode="edge")
    rows, columns = heights.shape
    # nodes at cell centres; those around lie far away at the same height
    x = np.concatenate([[-BIG], left + (np.arange(columns) + 0.5) * step, [BIG]])
    y = np.concatenate([[BIG], top - (np.arange(rows) + 0.5) * step, [-BIG]])
    best = np.inf
    ox, oy, oz = origin
    dx, dy, dz = direction
    for r in range(rows + 1):
        for c in range(columns + 1):
            ax, bx = slab(x[c], x[c + 1], ox, dx)
            ay, by = slab(y[r + 1], y[r], oy, dy)
            lo, hi = max(ax, ay, 0.0), min(bx, by)
            if lo > hi:
                continue
            # z on the patch along the ray is a quadratic: found from three samples of the surface
            w, h = x[c + 1] - x[c], y[r] - y[r + 1]
            hi = min(hi, lo + 4000.0)
            ts = np.array([lo, (lo + hi) / 2, hi])
            u, v = (ox + ts * dx - x[c]) / w, (y[r] - oy - ts * dy) / h
            n = nodes[r : r + 2, c : c + 2]
            z = (1 - v) * ((1 - u) * n[0, 0] + u * n[0, 1]) + v * ((1 - u) * n[1, 0] + u * n[1, 1])
            above = oz + ts * dz - z
            if hi - lo < 1e-9:
                continue
            s = (ts - lo) / (hi - lo)
            roots = np.roots(np.trim_zeros(np.polyfit(s, above, 2), "f"))
            for root in roots:
                if abs(root.imag) < 1e-9 and -1e-9 <= root.real <= 1 + 1e-9:
                    best = min(best, lo + root.real * (hi - lo))
    return best


def prisms_hit(polygons, tops, origin, direction, reach=5000.0):
    """Distance to vertical prisms: the stretches of the ray over each footprint by shapely's overlay."""
    best = np.inf
    flat = np.hypot(direction[0], direction[1])
    for polygon, top in zip(polygons, tops, strict=True):
        if flat < 1e-12:
            over = shapely.contains_xy(polygon, origin[0], origin[1])
            if over and direction[2] < 0 and origin[2] >= top:
                best = min(best, origin[2] - top)
            continue
        line = shapely.LineString([origin[:2], np.asarray(origin[:2]) + reach / flat * np.asarray(direction[:2])])
        for part in shapely.get_parts(shapely.intersection(line, polygon)):
            xy = shapely.get_coordinates(part)
            if len(xy) < 2:
                continue
            t = np.sort(np.hypot(*(xy - origin[:2]).T) / flat)
            if t[0] < 1e-9:  # it begins over the footprint
                assert origin[2] > top
            z_in, z_out = origin[2] + t[0] * direction[2], origin[2] + t[-1] * direction[2]
            if z_in <= top and t[0] > 1e-9:
                best = min(best, t[0])
            elif z_in > top >= z_out:
                best = min(best, (top - origin[2]) / direction[2])
    return best


def implicit_hit(inside, origin, direction, far, step=1e-3):
    """Distance at which a ray first is inside, by small steps and bisection."""
    t = np.arange(0, far, step)
    points = origin + t[:, None] * direction
    within = inside(points)
    if not within.any():
        return np.inf
    hi = t[within.argmax()]
    lo = hi - step
    for _ in range(40):
        mid = (lo + hi) / 2
        lo, hi = (lo, mid) if inside((origin + mid * direction)[None])[0] else (mid, hi)
    return hi
