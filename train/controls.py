"""What a ControlNet is shown of training samples, class maps and edges, and how much each cell of them counts."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..conditioning.edges import canny_edges
from ..conditioning.layout import encode_layout
from ..geo.legend import CLASSES, UNKNOWN
from .latents import Entry


def controls(entries: Sequence[Entry], rng: np.random.Generator, *, none: float = 0.0) -> Tensor:
    """Control images (b, 13, H, W): the class map, the edges of the image, or both; nothing known with probability ``none``.

    A ControlNet that has learned what nothing means can be guided by its map (``gensat.diffusion.guidance``).
    """
    size = entries[0].image.shape[0]
    maps = np.zeros((len(entries), size, size), np.uint8)
    edges, known = [], []
    for i, e in enumerate(entries):
        hidden = bool(none) and rng.random() < none
        use_map = rng.random() < 0.85 and e.layout is not None
        if use_map and e.layout is not None and not hidden:
            maps[i] = e.layout
        known.append((not use_map or rng.random() < 0.25) and not hidden)
        edges.append(torch.from_numpy(np.array(e.image)).permute(2, 0, 1).float() / 255)
    lines = canny_edges(torch.stack(edges))[:, 0]
    lines[~torch.tensor(known)] = torch.nan  # not given
    return encode_layout(torch.from_numpy(maps).long(), lines)


def class_weights(layouts: Iterable[np.ndarray], power: float) -> Float[Tensor, " classes"]:
    """Weight of each class of the legend: its share of the known pixels to the minus ``power``, 1 on average over them; 1 where absent.

    Small things on a map (houses, roads) are otherwise a percent of the error, and are learned last.
    """
    counts = sum((np.bincount(m.ravel(), minlength=len(CLASSES)) for m in layouts), np.zeros(len(CLASSES)))
    counts[UNKNOWN] = 0
    share = counts / max(1.0, counts.sum())
    weight = np.where(share > 0, np.maximum(share, 1e-12) ** -power, 0.0)
    mean = float((share * weight).sum())
    return torch.from_numpy(np.where(share > 0, weight / mean if mean else 1.0, 1.0)).float()


def cell_weights(
    control: Float[Tensor, "b 13 hh ww"], weights: Tensor, cells: int, trust: Float[Tensor, " b"] | None = None
) -> Float[Tensor, "b 1 h w"]:
    """Weight of each latent cell under a control image: the mean of its pixels' class weights, 1 where nothing is known.

    ``trust`` (0..1) says how far the classes of each image weigh as those of a map do.
    """
    classes = control[:, : len(CLASSES) - 1]
    extra = (classes * (weights[1:] - 1)[None, :, None, None]).sum(1, keepdim=True)
    if trust is not None:
        extra = extra * trust[:, None, None, None]
    return 1 + avg_pool2d(extra, control.shape[-1] // cells)
