"""One explicit step of the full shallow-water equations in plain torch: the reference, and what runs on a GPU.

Second order in space by slopes of depth, surface and velocity under a limiter (MUSCL); bed slope by hydrostatic
reconstruction (Audusse et al. 2004, in its second-order form of Audusse and Bristeau 2005), which keeps a lake at rest over
any bed; fluxes by HLLC; friction implicit. Both axes are one function: y is x with rows and columns exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.hydro.riemann import hllc
from gensat.hydro.weirs import Weirs, weir_flux

CLOSED, OPEN, STAGE = 0, 1, 2


@dataclass(frozen=True)
class Scheme:
    """Numbers of the scheme.

    Args:
        g: m/s2.
        limiter: 0 for no slopes (first order), else theta of the generalised minmod limiter: 1 minmod, 2 the steepest.
        dry: metres below which a cell has no velocity.
    """

    g: float
    limiter: float
    dry: float


@dataclass(frozen=True)
class Ground:
    """What does not change: arrays (h, w), 0 where ``exists`` is False; ``dx`` in metres; ``weirs`` as of ``weirs.weir_faces``."""

    bed: Float[Tensor, "h w"]
    exists: Bool[Tensor, "h w"]
    manning: Float[Tensor, "h w"]
    dx: float
    weirs: Weirs | None = None


@dataclass(frozen=True)
class Faces:
    """Fluxes through the n + 1 faces along the last axis, and what the drain of a cell needs to know.

    ``low`` and ``high`` are the momentum through the face as the cell before and behind it feels it, which differ by the
    bed's push; ``u_low``, ``u_high`` the velocities through the face on both sides.
    """

    water: Tensor
    low: Tensor
    high: Tensor
    along: Tensor
    u_low: Tensor
    u_high: Tensor


Water = tuple[Float[Tensor, "*b h w"], Float[Tensor, "*b h w"], Float[Tensor, "*b h w"]]


def velocity(depth: Tensor, momentum: Tensor, dry: float) -> Tensor:
    """m/s; 0 where the depth is not above ``dry``."""
    wet = depth > dry
    return torch.where(wet, momentum / torch.where(wet, depth, 1), 0)


def euler(
    water: Water,
    ground: Ground,
    scheme: Scheme,
    dt: Float[Tensor, "*b"],
    kinds: tuple[int, int, int, int],
    levels: Float[Tensor, "*b 4"],
) -> tuple[Water, Float[Tensor, "*b 4"]]:
    """A forward step of Euler with implicit friction.

    Args:
        water: depth (m) and the momenta u h (east) and v h (south), (\\*b, h, w) in m2/s.
        ground: bed, extent and roughness.
        scheme: the scheme's numbers.
        dt: (\\*b) seconds.
        kinds: of the north, east, south and west edge: ``CLOSED``, ``OPEN`` or ``STAGE``.
        levels: (\\*b, 4) of stages, above the datum of ``ground.bed``.

    Returns:
        The water later, and (\\*b, 4) cubic metres that came in over the edges, in float64.
    """
    h, qx, qy = water
    u, v = velocity(h, qx, scheme.dry), velocity(h, qy, scheme.dry)
    step = dt.to(h)[..., None, None] / ground.dx
    north, east, south, west = kinds
    level = levels.to(h).unbind(-1)
    # The order of a sweep's edges is low, high.
    across, down = (None, None) if ground.weirs is None else (ground.weirs[0], ground.weirs[1].mT)
    x, push_x = _sweep(h, ground.bed, u, v, ground.exists, scheme, ((west, level[3]), (east, level[1])), across, step)
    ends = ((north, level[0]), (south, level[2]))
    y, push_y = _sweep(h.mT, ground.bed.mT, v.mT, u.mT, ground.exists.mT, scheme, ends, down, step)

    leaving = step * (_leaving(x.water) + _leaving(y.water).mT)
    share = torch.where(leaving > h, h / torch.where(leaving > h, leaving, 1), 1)
    x, y = _held_back(x, share, u_along=v), _held_back(y, share.mT, u_along=u.mT)

    depth = (h - step * (_gain(x.water) + _gain(y.water).mT)).clamp_min(0)
    qx = qx - step * (x.low[..., 1:] - x.high[..., :-1] + push_x + _gain(y.along).mT)
    qy = qy - step * ((y.low[..., 1:] - y.high[..., :-1] + push_y).mT + _gain(x.along))
    depth = torch.where(ground.exists, depth, 0)
    held = _friction(depth, (qx * qx + qy * qy).sqrt(), ground.manning, dt.to(h)[..., None, None], scheme)
    volumes = torch.stack(
        [
            y.water[..., 0].sum(-1, dtype=torch.float64),
            -x.water[..., -1].sum(-1, dtype=torch.float64),
            -y.water[..., -1].sum(-1, dtype=torch.float64),
            x.water[..., 0].sum(-1, dtype=torch.float64),
        ],
        dim=-1,
    )
    return (depth, qx * held, qy * held), volumes * dt.double()[..., None] * ground.dx


def _friction(depth: Tensor, size: Tensor, manning: Tensor, dt: Tensor, scheme: Scheme) -> Tensor:
    """Factor of the momentum after dt of Manning's friction, backwards: ``q' = q - dt g n^2 |q'| q' / h^(7/3)``; 0 if dry.

    A steady flow whose push and friction balance stays one, whatever dt.
    """
    wet = depth > scheme.dry
    h = torch.where(wet, depth, 1)
    drag = dt * scheme.g * manning**2 * size / (h * h * h.pow(1 / 3))
    return torch.where(wet, 2 / (1 + (1 + 4 * drag).sqrt()), 0)


def _gain(faces: Tensor) -> Tensor:
    return faces[..., 1:] - faces[..., :-1]


def _leaving(water: Tensor) -> Tensor:
    """Of each cell over both its faces, m2/s."""
    return water[..., 1:].clamp_min(0) + (-water[..., :-1]).clamp_min(0)


def _held_back(faces: Faces, share: Tensor, u_along: Tensor) -> Faces:
    """Only ``share`` of the water leaves a cell, and only that share carries its momentum away; nothing else changes."""
    one = torch.ones_like(share[..., :1])
    before, behind = torch.cat([one, share], -1), torch.cat([share, one], -1)
    part = torch.where(faces.water > 0, before, behind)
    kept = (1 - part) * faces.water
    carried = kept * torch.where(faces.water > 0, faces.u_low, faces.u_high)
    return Faces(
        part * faces.water,
        faces.low - carried,
        faces.high - carried,
        part * faces.along,
        faces.u_low,
        faces.u_high,
    )


def _slopes(back: Tensor, ahead: Tensor, theta: float) -> Tensor:
    """The generalised minmod of the differences to both neighbours: metres (or m/s) a cell."""
    both = back * ahead > 0
    least = torch.minimum(theta * torch.minimum(back.abs(), ahead.abs()), (back + ahead).abs() / 2)
    return torch.where(both, torch.copysign(least, back), 0)


def _differences(a: Tensor, exists: Tensor, mirrored: bool, edges: tuple) -> tuple[Tensor, Tensor]:
    """To the cell before and behind; a wall mirrors (velocities through it turn round), over other edges all is even."""
    step = _gain(a)
    wall = 2 * a if mirrored else torch.zeros_like(a)
    there = exists[..., 1:] & exists[..., :-1]
    (low, _), (high, _) = edges
    first, last = wall[..., :1] * (low == CLOSED), wall[..., -1:] * (high == CLOSED)
    back = torch.cat([first, torch.where(there, step, wall[..., 1:])], -1)
    ahead = torch.cat([torch.where(there, step, -wall[..., :-1]), -last], -1)
    return back, ahead


def _sweep(
    h: Tensor,
    bed: Tensor,
    u: Tensor,
    v: Tensor,
    exists: Tensor,
    scheme: Scheme,
    edges: tuple,
    weirs: Tensor | None,
    step: Tensor,
) -> tuple[Faces, Tensor]:
    """Fluxes along the last axis, and the bed's push on each cell (m3/s2)."""
    eta = h + bed
    wet = h > scheme.dry
    theta = scheme.limiter
    sh, se = (_slopes(*_differences(a, exists, False, edges), theta) for a in (h, eta))
    sh = torch.maximum(torch.minimum(sh, 2 * h), -2 * h)
    alike = wet & _neighbours_wet(wet, exists)
    su = torch.where(alike, _slopes(*_differences(u, exists, True, edges), theta), 0)
    sv = torch.where(alike, _slopes(*_differences(v, exists, False, edges), theta), 0)
    # Of each cell: at its end (the face behind it) and at its beginning.
    end = [a + s / 2 for a, s in ((h, sh), (eta, se), (u, su), (v, sv))]
    begin = [a - s / 2 for a, s in ((h, sh), (eta, se), (u, su), (v, sv))]
    push = scheme.g * h * (se - sh)

    (low_kind, low_level), (high_kind, high_level) = edges
    outside_low = _outside(low_kind, low_level, [a[..., 0] for a in begin], -1, exists[..., 0], scheme.g)
    outside_high = _outside(high_kind, high_level, [a[..., -1] for a in end], 1, exists[..., -1], scheme.g)
    left = [torch.cat([o[..., None], a], -1) for o, a in zip(outside_low, end, strict=True)]
    right = [torch.cat([a, o[..., None]], -1) for o, a in zip(outside_high, begin, strict=True)]
    yes = torch.ones_like(exists[..., :1])
    in_left, in_right = torch.cat([yes, exists], -1), torch.cat([exists, yes], -1)
    sign = (1, 1, -1, 1)
    left, right = (
        [torch.where(in_left, a, s * b) for a, b, s in zip(left, right, sign, strict=True)],
        [torch.where(in_right, b, s * a) for a, b, s in zip(left, right, sign, strict=True)],
    )

    (h_l, e_l, u_l, v_l), (h_r, e_r, u_r, v_r) = left, right
    sill = torch.maximum(e_l - h_l, e_r - h_r)
    over_l, over_r = (torch.minimum((e - sill).clamp_min(0), a) for e, a in ((e_l, h_l), (e_r, h_r)))
    water, through, along = hllc((over_l, u_l, v_l), (over_r, u_r, v_r), g=scheme.g)
    half = scheme.g / 2
    low = through + half * (h_l * h_l - over_l * over_l) + _thrust(h_l, u_l, sill - e_l, scheme.g)
    high = through + half * (h_r * h_r - over_r * over_r) + _thrust(h_r, -u_r, sill - e_r, scheme.g)
    if weirs is not None:
        crest = torch.maximum(bed[..., :-1], bed[..., 1:])
        takes, passes = weir_flux(
            water[..., 1:-1], eta[..., :-1] - crest, eta[..., 1:] - crest, weirs[..., 1:-1], scheme.g, step
        )
        takes, passes = (torch.nn.functional.pad(a, (1, 1)) for a in (takes, passes))
        carried = passes * torch.where(passes > 0, u_l, u_r)
        water = torch.where(takes, passes, water)
        low = torch.where(takes, half * h_l * h_l + carried, low)
        high = torch.where(takes, half * h_r * h_r + carried, high)
        along = torch.where(takes, passes * torch.where(passes > 0, v_l, v_r), along)
    return Faces(water, low, high, along, u_l, u_r), push


def _thrust(h: Tensor, towards: Tensor, above: Tensor, g: float) -> Tensor:
    """What a step pushes back on water that runs against it, beyond the water's weight, where it is a wall (m3/s2).

    A step is a wall to water whose head does not reach its top, ``above`` metres over the surface: the flow is thrown back
    as by its mirror image (HLLC's). The reconstruction of the bed alone knows the weight only, as if houses were dents.
    """
    back = torch.maximum((g * h).sqrt() - towards, (g * h).sqrt() + towards / 2)
    return torch.where(above > towards * towards / (2 * g), h * towards * (towards + back), 0)


def _neighbours_wet(wet: Tensor, exists: Tensor) -> Tensor:
    """Whether no neighbour along the last axis is dry; what does not exist counts as wet."""
    fine = wet | ~exists
    yes = torch.ones_like(fine[..., :1])
    return torch.cat([yes, fine[..., :-1]], -1) & torch.cat([fine[..., 1:], yes], -1)


def _outside(
    kind: int, level: Tensor, inside: list[Tensor], outwards: int, exists: Tensor, g: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth, surface, velocities through and along just outside an edge, from those just inside.

    An open edge lets out what goes out, and is a wall to what would come in. A stage takes the velocity that the
    wave running out brings along (its Riemann invariant), at most critical where it flows in; supercritical flow that goes
    out is not held up by the level.
    """
    h, eta, u, v = inside
    out = outwards * u
    if kind != STAGE:
        speed = -out if kind == CLOSED else out.abs()
        return h, eta, outwards * speed, v
    bed = eta - h
    depth = (level[..., None] - bed).clamp_min(0)
    c, c_level = (g * h).sqrt(), (g * depth).sqrt()
    speed = torch.maximum(out + 2 * (c - c_level), -c_level)
    free = (out >= c) & (h > 0)
    depth = torch.where(free, h, depth)
    speed = torch.where(free, out, speed)
    return (
        torch.where(exists, depth, 0),
        torch.where(exists, depth + bed, eta),
        torch.where(exists, outwards * speed, 0),
        torch.where(free, v, 0),
    )
