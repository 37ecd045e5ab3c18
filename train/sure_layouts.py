"""Layouts read off images that have no map: the evaluation's segmenter, and of what it says only what it is sure of.

A pixel is said where the mean probability of the four quarter turns reaches its class's threshold. ``calibrate`` takes the thresholds from
held-out images with maps. What was never mapped is another matter: on crop rows, runways and tennis courts the segmenter is sure and wrong.
``ALLOWED`` says which classes are believed where it is known what a picture shows, and roads are long (``LONG``): a short one is a roof.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import find_objects, label
from torch import Tensor

from ..geo.legend import BUILDING, CLASSES, OTHER_GROUND, ROAD, UNKNOWN, WATER, WOODLAND
from ..models.features import EfficientNetLite0, to_tensor
from ..models.segmenter import LayoutSegmenter
from .segmenter import FOOTPRINTS
from .sources import Sample

GRID = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Thresholds that are tried."""

WANTED, LEAST, FLOOR = 0.95, 0.85, 0.8
"""Precision that is aimed at; what a class must reach to be said at all; the lowest threshold, as other places are harder."""

LONG = 20.0
"""Metres from one end to the other of what may be called a road."""

_ENOUGH = 1000  # pixels of a class in a source, from which its precision says something
_RESIDENTIAL = frozenset({OTHER_GROUND, BUILDING, ROAD, WOODLAND})
ALLOWED: dict[str, frozenset[int]] = {
    "houston pre": _RESIDENTIAL,  # dark roofs and shadows are taken for water
    "houston post": frozenset({BUILDING, WOODLAND}),  # brown water for ground and roads, trees and roofs for water
    "agricultural": frozenset({WOODLAND}),
    "baseballdiamond": frozenset({OTHER_GROUND, WOODLAND}),
    "beach": frozenset({WATER}),
    "buildings": frozenset({BUILDING, ROAD}),
    "harbor": frozenset({WATER}),
    "intersection": frozenset({ROAD, WOODLAND}),
    "mediumresidential": _RESIDENTIAL,
    "mobilehomepark": _RESIDENTIAL,
    "overpass": frozenset({ROAD, WOODLAND}),
    "river": frozenset({WATER, WOODLAND, OTHER_GROUND}),
    "sparseresidential": _RESIDENTIAL,
    "storagetanks": _RESIDENTIAL,
    "tenniscourt": frozenset({OTHER_GROUND, WOODLAND}),
}
"""Classes that are believed of a kind of picture (``kind``); none of those that are not named."""


def kind(sample: Sample) -> str:
    """What a sample is known to show, as ``ALLOWED`` names it: its class, or when it was taken; else its source."""
    if sample.source == "houston":
        return "houston post" if ".post" in sample.key else "houston pre"
    return sample.klass or sample.source


@dataclass(frozen=True)
class Row:
    """Of held-out pixels that are read as ``code`` of ``source`` with at least ``threshold``: ``precision``, ``pixels`` said, ``kept`` of the true ones."""

    source: str
    code: int
    threshold: float
    precision: float
    kept: float
    pixels: int

    def text(self) -> str:
        """A line of a Markdown table."""
        return f"| {self.source} | {CLASSES[self.code]} | {self.threshold:g} | {self.precision:.3f} | {self.kept:.0%} |"


@dataclass
class LayoutReader:
    """The segmenter with its backbone, and the ``thresholds`` by class (none: nothing is said of the others)."""

    segmenter: LayoutSegmenter
    backbone: EfficientNetLite0
    thresholds: Mapping[int, float] = field(default_factory=dict)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "b k h w"]:
        """Mean over the four quarter turns, on the CPU; the images are of one size."""
        x = to_tensor(list(images)).to(next(self.segmenter.parameters()).device)
        total = torch.zeros(())
        for k in range(4):
            scores = self.segmenter.scores(torch.rot90(x, k, dims=(-2, -1)), backbone=self.backbone)
            total = total + torch.rot90(scores.softmax(1), -k, dims=(-2, -1)).cpu()
        return total / 4

    def read(self, samples: Sequence[Sample], *, batch: int = 8) -> Iterator[UInt8[np.ndarray, "_ _"]]:
        """The map of each sample: classes of the legend where they are sure and allowed, ``UNKNOWN`` elsewhere."""
        for i in range(0, len(samples), batch):
            part = samples[i : i + batch]
            same = len({s.image.shape for s in part}) == 1
            for group in [part] if same else [[s] for s in part]:
                read = self.probabilities([s.image for s in group]).numpy()
                for sample, probability in zip(group, read, strict=True):
                    allowed = ALLOWED.get(kind(sample), frozenset())
                    bars = {c: bar for c, bar in self.thresholds.items() if c in allowed}
                    yield long_roads(sure(probability, self.segmenter.classes, bars), sample.acquisition.gsd)


def sure(
    probability: Float[np.ndarray, "k h w"], classes: Sequence[int], bars: Mapping[int, float]
) -> UInt8[np.ndarray, "h w"]:
    """The likeliest class of each pixel where it reaches its bar, else ``UNKNOWN``."""
    codes = np.array(classes, np.uint8)[probability.argmax(0)]
    bar = np.full(256, np.inf)
    bar[list(bars)] = list(bars.values())
    return np.where(probability.max(0) >= bar[codes], codes, np.uint8(UNKNOWN))


def long_roads(layout: UInt8[np.ndarray, "h w"], gsd: float | None) -> UInt8[np.ndarray, "h w"]:
    """The map without patches of road that are shorter than ``LONG`` (the longer side of their box, at ``gsd`` metres a pixel)."""
    if gsd is None:
        return layout
    patches, _ = label(layout == ROAD)
    out = layout.copy()
    for number, box in enumerate(find_objects(patches), 1):
        if max(side.stop - side.start for side in box) * gsd < LONG:
            out[box][patches[box] == number] = UNKNOWN
    return out


def precision_rows(
    probabilities: Sequence[Float[np.ndarray, "k _ _"]], samples: Sequence[Sample], classes: Sequence[int]
) -> list[Row]:
    """How right the likeliest class is at each threshold of ``GRID``, by source; of footprint maps only buildings."""
    counts: dict[tuple[str, int, float], np.ndarray] = {}
    for probability, sample in zip(probabilities, samples, strict=True):
        if sample.layout is None:
            continue
        codes, best = np.array(classes)[probability.argmax(0)], probability.max(0)
        footprints = sample.source in FOOTPRINTS
        known = np.ones_like(sample.layout, bool) if footprints else sample.layout != UNKNOWN
        for code in (BUILDING,) if footprints else classes:
            true = sample.layout == code
            for threshold in GRID:
                said = (codes == code) & (best >= threshold) & known
                found = np.array([(said & true).sum(), said.sum(), true.sum()])
                counts[sample.source, code, threshold] = counts.get((sample.source, code, threshold), 0) + found
    return [
        Row(source, code, threshold, hits / max(1, said), hits / max(1, true), int(said))
        for (source, code, threshold), (hits, said, true) in sorted(counts.items())
    ]


def choose(
    rows: Sequence[Row], *, wanted: float = WANTED, least: float = LEAST, floor: float = FLOOR
) -> dict[int, float]:
    """Threshold of each class: the lowest from ``floor`` on with precision ``wanted`` in every source that has it, else the most precise one.

    A class whose best is below ``least`` is left out.
    """
    found = {}
    for code in sorted({r.code for r in rows}):
        worst: dict[float, float] = {}
        for row in rows:
            if row.code == code and row.threshold >= floor and row.pixels >= _ENOUGH:
                worst[row.threshold] = min(row.precision, worst.get(row.threshold, 1.0))
        reached = [threshold for threshold, precision in sorted(worst.items()) if precision >= wanted]
        best = reached[0] if reached else max(worst, key=lambda t: worst[t], default=None)
        if best is not None and worst[best] >= least:
            found[code] = best
    return found


def calibrate(reader: LayoutReader, heldout: Sequence[Sample]) -> list[Row]:
    """Set the reader's thresholds by held-out samples with maps; the rows that speak for them."""
    mapped = [s for s in heldout if s.layout is not None]
    read = [reader.probabilities([s.image])[0].numpy() for s in mapped]
    rows = precision_rows(read, mapped, reader.segmenter.classes)
    reader.thresholds = choose(rows)
    return [r for r in rows if reader.thresholds.get(r.code) == r.threshold]


def rules() -> str:
    """What beside the weights decides what is said, for a fingerprint."""
    return json.dumps([GRID, WANTED, LEAST, FLOOR, LONG, {k: sorted(v) for k, v in ALLOWED.items()}])
