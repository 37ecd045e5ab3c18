"""Class words for images whose captions have none: the evaluation's probe, and of what it says only what it is sure of.

``calibrate`` takes one threshold of probability from held-out UC Merced. Elsewhere that is not enough: in Houston the probe is sure of
intersections, rivers and baseball diamonds that are none, and of "a single house" in a street of houses. Only the classes in
``BELIEVED`` were right by eye; a wrong word is worse than none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..models.features import EfficientNetLite0, over_images
from ..models.probe import SceneProbe
from .data import load_samples
from .sources import Sample
from .sure_layouts import kind

GRID = (0.85, 0.9, 0.95, 0.98, 0.99)
"""Thresholds that are tried: below, mobile homes were none, whatever UC Merced says."""

WANTED = 0.98
"""Share of right answers on held-out images that the threshold has to reach."""

KINDS = ("houston pre",)
"""What is asked about: images (``sure_layouts.kind``) whose captions name no class. Under flood water the probe sees nothing it knows."""

BELIEVED = ("buildings", "mediumresidential", "mobilehomepark", "storagetanks")


@dataclass
class WordReader:
    """The probe with its backbone, and the probability from which its likeliest class is said."""

    probe: SceneProbe
    backbone: EfficientNetLite0
    threshold: float = 1.0

    def probabilities(self, images: Sequence[np.ndarray]) -> Float[Tensor, "n k"]:
        """Of the probe's classes, for images of any size."""
        device = next(self.probe.parameters()).device
        describe = lambda x: self.probe(self.probe.describe(x, backbone=self.backbone)).softmax(1)  # noqa: E731
        return over_images(describe, images, device=device)

    def read(self, samples: Sequence[Sample]) -> dict[str, str]:
        """Class by key of the samples where it is sure and believed."""
        asked = [s for s in samples if kind(s) in KINDS and s.klass is None and not s.key.endswith(".mosaic")]
        if not asked:
            return {}
        best, index = self.probabilities([s.image for s in asked]).max(1)
        names = [self.probe.outputs[i] for i in index.tolist()]
        return {
            s.key: name
            for s, name, sure in zip(asked, names, (best >= self.threshold).tolist(), strict=True)
            if sure and name in BELIEVED
        }


def choose(best: Float[Tensor, " n"], right: Bool[Tensor, " n"], *, wanted: float = WANTED) -> float:
    """The lowest threshold of ``GRID`` from which on the share of right answers is at least ``wanted``; above 1 where none is."""
    for threshold in GRID:
        said = best >= threshold
        if said.any() and float(right[said].float().mean()) >= wanted:
            return threshold
    return 2.0


def calibrate(reader: WordReader, root: str | None = None) -> list[str]:
    """Set the reader's threshold by held-out UC Merced; the lines that speak for it."""
    held = [s for s in load_samples(root, "heldout", sources=["ucmerced"]) if s.klass in reader.probe.outputs]
    best, index = reader.probabilities([s.image for s in held]).max(1)
    right = torch.tensor([reader.probe.outputs[i] == s.klass for s, i in zip(held, index.tolist(), strict=True)])
    reader.threshold = choose(best, right)
    lines = ["| class words from a probability of | said | right |", "| --- | --- | --- |"]
    for threshold in GRID:
        said = best >= threshold
        if said.any():
            mark = " (taken)" if threshold == reader.threshold else ""
            lines.append(
                f"| {threshold:g}{mark} | {float(said.float().mean()):.0%} | {float(right[said].float().mean()):.1%} |"
            )
    return lines


def rules() -> str:
    """What beside the weights decides what is said, for a fingerprint."""
    return json.dumps([GRID, WANTED, KINDS, BELIEVED])
