"""Does a painted view keep the edges of its geometry? Where depth jumps, the picture should change, and there rather than beside it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.metrics.base import Measurement

REACH = 4
"""Pixels on each side of a depth edge in which the picture's own edge is looked for."""

FAR = 1e4
"""Metres at which the sky counts as lying."""


@dataclass(frozen=True)
class EdgeMeasurement(Measurement):
    """``value`` is F1, ``n`` the number of depth edges."""

    precision: float = 0.0
    recall: float = 0.0


def depth_edge_f1(
    rgb: Float[Tensor, "b h w 3"],
    distance: Float[Tensor, "b2 h2 w2"],
    *,
    jump: float | int = 0.25,
    contrast: float | int = 0.03,
    tolerance: int = 1,
) -> EdgeMeasurement:
    """F1 of the picture's edges at the depth edges of its G-buffer.

    A depth edge lies between two neighbouring pixels, in a row or a column, of which the farther is more than ``jump`` (a share) and half a
    metre behind the nearer, sky being 10 km away. Along the line of pixels through it the strongest change of colour (mean absolute
    difference of display values) within four pixels is the picture's edge. It is found when it is at least ``contrast`` and lies within
    ``tolerance`` pixels. Precision: found of those edges that have the contrast; recall: found of all. Depth edges between surfaces of one
    colour, which no picture shows, lower the recall of the truth as well: give its figure beside that of a painted view.

    Raises:
        InputError: sizes that differ, or no depth edge at all.
    """
    here, shown, right = _edges(rgb, distance, float(jump), float(contrast), tolerance)
    precision, recall = right.sum() / shown.sum().clamp(min=1), right.sum() / here.sum()
    return _f1("depth_edge_f1", precision, recall, int(here.sum()))


def depth_edges_kept(
    rgb: Float[Tensor, "b h w 3"],
    before: Float[Tensor, "b h w 3"],
    distance: Float[Tensor, "b2 h2 w2"],
    *,
    jump: float | int = 0.25,
    contrast: float | int = 0.03,
    tolerance: int = 1,
) -> EdgeMeasurement:
    """F1 of the depth edges that a painted picture shows against those that the render it was painted from showed in their place.

    Edges as in :func:`depth_edge_f1`. Recall: of the render's edges, those that the picture still shows; precision: of the picture's, those
    that the render showed. Edges that no picture of the scene shows do not count, so 1 is in reach; ``n`` is the number of the render's.

    Raises:
        InputError: sizes that differ, or a render that shows no depth edge.
    """
    was = _edges(before, distance, float(jump), float(contrast), tolerance)[2]
    now = _edges(rgb, distance, float(jump), float(contrast), tolerance)[2]
    if not was.any():
        raise InputError("the render shows no depth edges; give views with something in front of something else")
    both = (was & now).sum()
    return _f1("depth_edges_kept", both / now.sum().clamp(min=1), both / was.sum(), int(was.sum()))


def _edges(
    rgb: Tensor, distance: Tensor, jump: float, contrast: float, tolerance: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which places between neighbours, rows first and then columns, are depth edges; at which the picture has an edge near; and right there."""
    if rgb.shape[:-1] != distance.shape:
        raise InputError(f"pictures {tuple(rgb.shape)} and distances {tuple(distance.shape)} differ in size")
    far = distance.nan_to_num(posinf=FAR).clamp(max=FAR)
    found = []
    for colour, metres in ((rgb, far), (rgb.transpose(1, 2), far.transpose(1, 2))):
        change = (colour[:, :, 1:] - colour[:, :, :-1]).abs().mean(-1)
        near, beyond = (
            torch.minimum(metres[:, :, 1:], metres[:, :, :-1]),
            torch.maximum(metres[:, :, 1:], metres[:, :, :-1]),
        )
        jumps = (beyond > near * (1 + jump)) & (beyond - near > 0.5)
        if change.shape[2] <= 2 * REACH:
            continue
        around = change.unfold(2, 2 * REACH + 1, 1)  # windows whose middle is an edge that has four on both sides
        here = jumps[:, :, REACH:-REACH]
        strength, where = around.max(-1)
        shown = here & (strength >= contrast)
        right = shown & ((where - REACH).abs() <= tolerance)
        found.append(torch.stack([here, shown, right]).flatten(1))
    if not found or not any(part[0].any() for part in found):
        raise InputError("the views have no depth edges; give views with something in front of something else")
    here, shown, right = torch.cat(found, 1)
    return here, shown, right


def _f1(name: str, precision: Tensor, recall: Tensor, count: int) -> EdgeMeasurement:
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return EdgeMeasurement(name, float(f1), count, precision=float(precision), recall=float(recall))
