"""One view seen from another place: each pixel's surface point is looked up in an earlier picture of the same scene.

Geometry decides what both show, so this is exact up to resampling: a point counts only where the earlier camera saw it at its own distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from gensat.errors import InputError
from gensat.render.cameras import AnyCamera, Panorama
from gensat.render.view import View

_NEAR = 0.02  # of the distance: how far beside each other two hits may lie and still be one point


def reproject(earlier: View, later: View) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """The colours of ``earlier`` at the pixels of ``later``, and where it shows the same surface.

    Bilinear between the earlier pixels; sky and surfaces that something hides there, or that lie outside, are not shown (colour 0).

    Raises:
        InputError: the views are of different scenes.
    """
    if earlier.frame.crs != later.frame.crs or tuple(earlier.frame.origin) != tuple(later.frame.origin):
        raise InputError("the two views are of different scenes; give views of one scene")
    on = torch.isfinite(later.distance) & ~later.sky
    rays = later.camera.rays(later.rgb.device)
    distance = torch.where(on, later.distance, torch.ones_like(later.distance)).to(rays.directions)
    pixels, far, inside = earlier.camera.project(rays.at(distance))
    there = _sample(earlier.distance.nan_to_num(posinf=1e6)[..., None], pixels, earlier.camera, nearest=True)[..., 0]
    same = (there - far).abs() < _NEAR * far.clamp(min=1.0) + 0.05
    shown = on & inside & same
    rgb = _sample(earlier.rgb, pixels, earlier.camera)
    return torch.where(shown[..., None], rgb, torch.zeros_like(rgb)), shown


def _sample(
    picture: Float[Tensor, "hh ww c"], pixels: Float[Tensor, "h w 2"], camera: AnyCamera, *, nearest: bool = False
) -> Float[Tensor, "h w c"]:
    """A picture at continuous pixels (centres at + 0.5), edge values outside; the columns of a panorama go round."""
    height, width = picture.shape[:2]
    u, v = pixels.unbind(-1)
    source = picture.permute(2, 0, 1)[None]
    if isinstance(camera, Panorama):
        source, u, width = pad(source, (1, 1, 0, 0), mode="circular"), u + 1, width + 2
    grid = torch.stack([2 * u / width - 1, 2 * v / height - 1], -1)[None].to(source)
    how = "nearest" if nearest else "bilinear"
    return grid_sample(source, grid, mode=how, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)


@dataclass(frozen=True)
class Agreement:
    """How two views of one scene agree: mean absolute difference of display values (0 to 1) over the pixels that both show.

    Args:
        error: the mean; NaN where they show nothing in common.
        pixels: how many they have in common.
        share: of the later view's surfaces.
    """

    error: float
    pixels: int
    share: float


def reprojection_error(earlier: View, later: View) -> Agreement:
    """Difference between a view and an earlier one brought to its camera; see ``reproject``.

    A still, matt world gives only what resampling costs; shading that depends on the eye adds to it.
    """
    rgb, shown = reproject(earlier, later)
    surface = int((~later.sky).sum())
    count = int(shown.sum())
    error = float((rgb - later.rgb).abs().mean(-1)[shown].mean()) if count else float("nan")
    return Agreement(error, count, count / max(1, surface))
