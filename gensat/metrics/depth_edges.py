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
    if rgb.shape[:-1] != distance.shape:
        raise InputError(f"pictures {tuple(rgb.shape)} and distances {tuple(distance.shape)} differ in size")
    far = distance.nan_to_num(posinf=FAR).clamp(max=FAR)
    edges = strong = found = 0
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
        edges, strong, found = edges + int(here.sum()), strong + int(shown.sum()), found + int(right.sum())
    if not edges:
        raise InputError("the views have no depth edges; give views with something in front of something else")
    precision, recall = found / max(1, strong), found / edges
    f1 = 2 * precision * recall / max(1e-12, precision + recall)
    return EdgeMeasurement("depth_edge_f1", f1, edges, precision=precision, recall=recall)
