"""A layout as the picture a ControlNet reads: one channel per class, edges, and what of both is known."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import one_hot

from ..errors import InputError
from ..geo.legend import CLASSES, UNKNOWN

LAYOUT_CHANNELS = (*CLASSES[1:], "known", "edges", "edges known")
"""Names of the 13 channels in order: the classes 1 to 10, the known mask, the edges and their known mask."""


def encode_layout(
    class_map: Integer[Tensor, "*b h w"], edges: Float[Tensor, "*b h w"] | None = None
) -> Float[Tensor, "n 13 h w"]:
    """Channels of a class map (codes 0 to 10 of gensat.geo.legend), as (B, H, W) or one (H, W); see LAYOUT_CHANNELS.

    Unknown is all zeros: no class and no ``known`` where the class is 0, no ``edges known`` where no edges are given or
    they are NaN. So a known pixel without an edge differs from one of which nothing is said. Edges are in [0, 1]; a
    class map of zeros goes with edges alone. Each pixel is encoded by itself, so any crop of the result is the result
    of the crop. Float32, on the class map's device.

    Raises InputError for codes that are no class and for edges outside [0, 1].
    """
    if class_map.numel() and not (class_map.min() >= 0 and class_map.max() < len(CLASSES)):
        codes = class_map.unique().tolist()
        wrong = ", ".join(str(code) for code in codes if not 0 <= code < len(CLASSES))
        raise InputError(f"the layout holds codes {wrong} that are no class; give 0 to {len(CLASSES) - 1}, or a legend")
    classes = class_map.reshape(-1, *class_map.shape[-2:]).long()
    edges = torch.full(classes.shape, torch.nan) if edges is None else edges.reshape(classes.shape)
    edges = edges.to(classes.device, torch.float32)
    edges_known = ~edges.isnan()
    edges = edges.nan_to_num(0.0)
    if edges.numel() and not (edges.min() >= 0 and edges.max() <= 1):
        raise InputError(f"the edges go from {edges.min():g} to {edges.max():g}; scale them to 0..1")
    channels = [
        one_hot(classes, len(CLASSES))[..., 1:].movedim(-1, 1),
        (classes != UNKNOWN)[:, None],
        edges[:, None],
        edges_known[:, None],
    ]
    return torch.cat([channel.to(torch.float32) for channel in channels], 1)
