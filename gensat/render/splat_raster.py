"""Gaussian splats to pictures, with gsplat's conventions: ours in plain torch everywhere, gsplat itself on CUDA where it is installed.

Projection and blending follow 3D Gaussian Splatting (Kerbl et al. 2023, eqs. 5 and 3): the covariance goes through the Jacobian of the
projection at the mean (EWA, Zwicker et al. 2001), splats are blended front to back in the order of their depth. A pixel's centre lies
at +0.5. What both rasterisers share: at least ``eps2d`` square pixels of variance are added, opacities below 1/255 at a pixel count as
none, are at most 0.999, and blending stops before the transmittance falls to 1e-4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gensat.errors import InputError
from gensat.render.splat_backend import choose_backend

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")
CAMERA_MODELS = ("pinhole", "ortho")

ALPHA_MIN, ALPHA_MAX, STOP = 1 / 255, 0.999, 1e-4
_LOG_MIN = math.log(ALPHA_MIN)
_TILE = 8  # pixels; small, as pairs of a splat and a pixel that it does not reach are what costs
_SEGMENT = 96  # splats of a tile that are blended at once
_PAIRS = 4_000_000  # pairs in memory at once; with gradients more are recomputed instead of kept


@dataclass(frozen=True)
class Projected:
    """Splats as one camera sees them; those behind the camera or outside the picture are left out.

    Args:
        index: (n,) which splats these are, the nearest first.
        means: (n, 2) centres in pixels (column, row).
        covariances: (n, 3) xx, xy, yy in square pixels, ``eps2d`` included.
        depths: (n,) z in the camera, metres.
        opacities: (n,) of the splats, lowered in antialiased mode by how much ``eps2d`` widens them.
        radii: (n, 2) half width and height in pixels of the box outside of which the opacity is below 1/255.
    """

    index: Tensor
    means: Tensor
    covariances: Tensor
    depths: Tensor
    opacities: Tensor
    radii: Tensor


def rasterize(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    colors: Float[Tensor, "n ..."],
    viewmats: Float[Tensor, "c 4 4"],
    Ks: Float[Tensor, "c 3 3"],
    width: int,
    height: int,
    *,
    near_plane: float | int = 0.01,
    far_plane: float | int = 1e10,
    eps2d: float | int = 0.3,
    sh_degree: int | None = None,
    backgrounds: Float[Tensor, "c d"] | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    camera_model: str = "pinhole",
    backend: str = "auto",
) -> tuple[Float[Tensor, "c h w x"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """Pictures of splats from ``c`` cameras; names and meaning of the arguments are those of ``gsplat.rasterization``.

    Args:
        means: centres in world units (metres).
        quats: rotations, w first, of any length above 0.
        scales: standard deviations along the axes, metres.
        opacities: 0 to 1.
        colors: (n, d) of any number of channels, or with ``sh_degree`` (n, k, 3) coefficients of spherical harmonics.
        viewmats: world to camera, OpenCV (x right, y down, z forward).
        Ks: intrinsics in pixels; for ``ortho`` the focal lengths are pixels per metre.
        near_plane, far_plane: depths between which splats are drawn.
        eps2d: square pixels added to the variance of each.
        sh_degree: degree 0 to 3 that is evaluated; colours are then max(0, 0.5 + sum).
        backgrounds: colour where nothing is, blended by the transmittance.
        render_mode: RGB; D (depth, sum of w z); ED (expected depth, that divided by the sum of w); RGB+D; RGB+ED (depth last).
        rasterize_mode: classic, or antialiased: opacities times sqrt(det S / det (S + eps2d)) (Yu et al. 2023, eq. 9).
        camera_model: pinhole or ortho.
        backend: torch, gsplat, or auto: gsplat for CUDA tensors if the package is installed.

    Returns:
        Pictures, opacity, and a dictionary with ``backend`` and, of ours, ``projected``: one :class:`Projected` a camera.

    Raises:
        InputError: a name that is none of the above, or gsplat asked for where it cannot run.
    """
    for name, value, known in (
        ("render_mode", render_mode, RENDER_MODES),
        ("rasterize_mode", rasterize_mode, RASTERIZE_MODES),
        ("camera_model", camera_model, CAMERA_MODELS),
    ):
        if value not in known:
            raise InputError(f"{name} is {value!r}; use one of {', '.join(known)}")
    if sh_degree is None and colors.ndim != 2:
        raise InputError(f"colors have shape {tuple(colors.shape)}; give (n, channels), or coefficients with sh_degree")
    if sh_degree is not None and (colors.ndim != 3 or colors.shape[1] < (sh_degree + 1) ** 2):
        raise InputError(f"degree {sh_degree} needs colors (n, {(sh_degree + 1) ** 2} or more, 3); lower sh_degree")
    planes = {"near_plane": float(near_plane), "far_plane": float(far_plane), "eps2d": float(eps2d)}
    if choose_backend(backend, means.device) == "gsplat":
        from gsplat import rasterization

        modes = {"render_mode": render_mode, "rasterize_mode": rasterize_mode, "camera_model": camera_model}
        picture, alpha, meta = rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height,
            sh_degree=sh_degree, backgrounds=backgrounds, **planes, **modes,
        )  # fmt: skip
        return picture, alpha, {**meta, "backend": "gsplat"}
    pictures, alphas, seen = [], [], []
    for c, (view, K) in enumerate(zip(viewmats, Ks, strict=True)):
        found = project(
            means, quats, scales, opacities, view, K, width, height,
            antialiased=rasterize_mode == "antialiased", camera_model=camera_model, **planes,
        )  # fmt: skip
        channels = _channels(found, means, colors, view, sh_degree, render_mode)
        picture, alpha = blend(found, channels, width, height)
        if render_mode in ("ED", "RGB+ED"):
            depth = picture[..., -1:] / alpha.clamp(min=1e-10)
            picture = torch.cat([picture[..., :-1], depth], dim=-1)
        if backgrounds is not None and render_mode.startswith("RGB"):
            d = backgrounds.shape[-1]
            picture = torch.cat([picture[..., :d] + (1 - alpha) * backgrounds[c], picture[..., d:]], dim=-1)
        pictures.append(picture)
        alphas.append(alpha)
        seen.append(found)
    return torch.stack(pictures), torch.stack(alphas), {"backend": "torch", "projected": seen}


def rotation_matrices(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotations of quaternions, w first, of any length above 0."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def project(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    near_plane: float | int = 0.01,
    far_plane: float | int = 1e10,
    eps2d: float | int = 0.3,
    antialiased: bool = False,
    camera_model: str = "pinhole",
) -> Projected:
    """Splats in one camera; see :func:`rasterize`. Gradients flow to everything but the choice of what is seen."""
    turn, shift = viewmat[:3, :3], viewmat[:3, 3]
    with torch.no_grad():
        depth = means @ turn[2] + shift[2]
        index = ((depth > near_plane) & (depth < far_plane) & (opacities >= ALPHA_MIN)).nonzero()[:, 0]
        index = index[torch.argsort(depth[index], stable=True)]
    x, y, z = (means[index] @ turn.T + shift).unbind(-1)
    axes = turn @ (rotation_matrices(quats[index]) * scales[index, None, :])  # the square root of the covariance
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    if camera_model == "ortho":
        centre = torch.stack([fx * x + cx, fy * y + cy], dim=-1)
        across, down = fx * axes[:, 0], fy * axes[:, 1]
    else:
        centre = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
        # Far outside of the picture the linearisation says nothing: it is taken at most 15 percent of the width beyond the edge.
        wide, high = 0.15 * width / fx, 0.15 * height / fy
        tx = (x / z).clamp(-cx / fx - wide, (width - cx) / fx + wide)
        ty = (y / z).clamp(-cy / fy - high, (height - cy) / fy + high)
        across = fx / z[:, None] * (axes[:, 0] - tx[:, None] * axes[:, 2])
        down = fy / z[:, None] * (axes[:, 1] - ty[:, None] * axes[:, 2])
    xx, xy, yy = (across * across).sum(-1), (across * down).sum(-1), (down * down).sum(-1)
    alpha = opacities[index]
    if antialiased:
        before = (xx * yy - xy * xy).clamp(min=0)
        # the square root has no slope at 0, which a splat seen edge-on reaches
        alpha = alpha * ((before + 1e-12) / ((xx + eps2d) * (yy + eps2d) - xy * xy).clamp(min=1e-10)).sqrt()
    xx, yy = xx + eps2d, yy + eps2d
    with torch.no_grad():  # where opacity * exp(-sigma) reaches 1/255: an ellipse, whose box is exact
        reach = (2 * torch.log((alpha / ALPHA_MIN).clamp(min=1))).sqrt()
        radii = torch.stack([reach * xx.sqrt(), reach * yy.sqrt()], dim=-1)
        low, high_corner = centre - radii, centre + radii
        size = torch.tensor([width, height], dtype=centre.dtype, device=centre.device)
        kept = ((high_corner > 0) & (low < size)).all(-1) & (alpha >= ALPHA_MIN)
    covariances = torch.stack([xx, xy, yy], dim=-1)
    return Projected(index[kept], centre[kept], covariances[kept], z[kept], alpha[kept], radii[kept])


def blend(
    found: Projected, channels: Float[Tensor, "n d"], width: int, height: int
) -> tuple[Float[Tensor, "h w d"], Float[Tensor, "h w 1"]]:
    """Front-to-back blending of projected splats and their channels, in tiles: sum of w c, and the opacity, sum of w."""
    xx, xy, yy = found.covariances.unbind(-1)
    determinant = (xx * yy - xy * xy).clamp(min=1e-10)
    splats = torch.cat([
        found.means,
        torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None],
        found.opacities[:, None],
        channels,
    ], dim=-1)  # fmt: skip
    across, down = -(-width // _TILE), -(-height // _TILE)
    members, first, counts = _bin(found, across, down)
    values = channels.new_zeros(across * down, _TILE * _TILE, channels.shape[1] + 1)
    order = torch.argsort(counts, descending=True, stable=True)
    order = order[counts[order] > 0]
    done, written = 0, []
    while done < len(order):
        longest = min(int(counts[order[done]]), _SEGMENT)
        tiles = order[done : done + max(1, _PAIRS // (longest * _TILE * _TILE))]
        whole = (splats, members, first[tiles], counts[tiles], tiles, across)
        heavy = torch.is_grad_enabled() and splats.requires_grad and int(counts.sum()) * _TILE * _TILE > _PAIRS
        written.append(checkpoint(_tiles, *whole, use_reentrant=False) if heavy else _tiles(*whole))
        done += len(tiles)
    if written:
        values = values.index_copy(0, order, torch.cat(written))
    picture = values.view(down, across, _TILE, _TILE, -1).transpose(1, 2).flatten(0, 1).flatten(1, 2)[:height, :width]
    return picture[..., :-1], picture[..., -1:]


def spherical_harmonics(degree: int, directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n k"]:
    """Real spherical harmonics of unit directions up to ``degree`` (0 to 3), with the signs that 3DGS files use."""
    if degree not in range(4):
        raise InputError(f"degree of spherical harmonics is {degree}; give 0 to 3")
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree > 0:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        values += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
        values += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    if degree > 2:
        values += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        values += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        values += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        values += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return torch.stack(values, dim=-1)


def _channels(
    found: Projected, means: Tensor, colors: Tensor, view: Tensor, sh_degree: int | None, mode: str
) -> Float[Tensor, "n d"]:
    """What is blended of each splat: its colour, from harmonics if asked for, and its depth."""
    parts = []
    if mode.startswith("RGB"):
        shown = colors[found.index]
        if sh_degree is not None:
            eye = -view[:3, :3].T @ view[:3, 3]
            basis = spherical_harmonics(sh_degree, torch.nn.functional.normalize(means[found.index] - eye, dim=-1))
            shown = (torch.einsum("nk,nkd->nd", basis, shown[:, : basis.shape[1]]) + 0.5).clamp(min=0)
        parts.append(shown)
    if mode != "RGB":
        parts.append(found.depths[:, None])
    return torch.cat(parts, dim=-1)


@torch.no_grad()
def _bin(found: Projected, across: int, down: int) -> tuple[Tensor, Tensor, Tensor]:
    """Splats of each tile, the nearest first: members of all tiles in a row, where each tile's begin, and how many it has."""
    limit = torch.tensor([across, down], device=found.means.device)
    low = ((found.means - found.radii) / _TILE).floor().long().clamp(min=0).minimum(limit)
    high = (((found.means + found.radii) / _TILE).floor().long() + 1).clamp(min=0).minimum(limit)
    size = (high - low).clamp(min=0)
    copies = size.prod(-1)
    member = torch.repeat_interleave(torch.arange(len(copies), device=copies.device), copies)
    place = torch.arange(len(member), device=copies.device) - (copies.cumsum(0) - copies)[member]
    wide = size[member, 0].clamp(min=1)
    tile = (low[member, 1] + place // wide) * across + low[member, 0] + place % wide
    tile, order = torch.sort(tile, stable=True)
    counts = torch.bincount(tile, minlength=across * down)
    return member[order], counts.cumsum(0) - counts, counts


def _tiles(splats: Tensor, members: Tensor, first: Tensor, counts: Tensor, tiles: Tensor, across: int) -> Tensor:
    """(tiles, pixels, d + 1) blended channels and opacity of some tiles."""
    # From the middle of the tile, so that the squares below stay small: log(alpha) is one product with (1, x, y, x^2, xy, y^2).
    step = torch.arange(_TILE, device=splats.device, dtype=splats.dtype) + 0.5 - _TILE / 2
    px, py = step.repeat(_TILE), step.repeat_interleave(_TILE)
    powers = torch.stack([torch.ones_like(px), px, py, px * px, px * py, py * py], dim=-1).expand(len(tiles), -1, -1)
    middle = (torch.stack([tiles % across, tiles // across], dim=-1).to(splats.dtype) + 0.5) * _TILE
    through = torch.ones_like(powers[..., :1])
    ended = torch.zeros_like(through, dtype=torch.bool)
    active = torch.arange(
        len(tiles), device=splats.device
    )  # tiles that have more splats, and pixels that let light through
    which, parts = [], []
    for begin in range(0, int(counts.max()), _SEGMENT):
        more = (counts[active] > begin) & ~ended.all(dim=1)[:, 0]
        active, through, ended = active[more], through[more], ended[more]
        if not len(active):
            break
        span = torch.arange(begin, min(begin + _SEGMENT, int(counts[active].max())), device=splats.device)
        there = span < counts[active, None]
        of = splats[members[(first[active, None] + span).clamp(max=len(members) - 1)]]  # (tiles, splats, 6 + d)
        mx, my = (of[..., :2] - middle[active, None]).unbind(-1)
        a, b, c, opacity = of[..., 2:6].unbind(-1)
        start = torch.log(opacity) - 0.5 * (a * mx * mx + c * my * my) - b * mx * my
        start = torch.where(there, start, -1e9)
        factors = torch.stack([start, a * mx + b * my, c * my + b * mx, -0.5 * a, -b, -0.5 * c], dim=-1)
        exponent = powers[: len(active)] @ factors.transpose(1, 2)  # (tiles, pixels, splats)
        alpha = torch.where(exponent >= _LOG_MIN, torch.exp(exponent).clamp(max=ALPHA_MAX), 0.0)
        after = through * torch.cumprod(1 - alpha, dim=-1)
        before = torch.cat([through, after[..., :-1]], dim=-1)
        alive = (after > STOP) & ~ended
        weight = torch.where(alive, alpha * before, 0.0)
        cover = weight.sum(-1, keepdim=True)
        which.append(active)
        parts.append(torch.cat([weight @ of[..., 6:], cover], dim=-1))
        through = through - cover
        ended = ended | ~alive[..., -1:]
    total = splats.new_zeros(len(tiles), _TILE * _TILE, splats.shape[1] - 5)
    return total.index_add(0, torch.cat(which), torch.cat(parts))
