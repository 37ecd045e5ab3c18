"""Where the water is in an image from after a flood, told from it and the image from before: a mask that is derived, not surveyed.

The pairs come without masks. Points on a grid were labelled by eye (``water_labels.json``), and a small network reads a label from what a
pixel and its surroundings look like before and after. How far that can be trusted is measured by leaving out tiles (``crossvalidate``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from kornia.filters import guided_blur
from scipy import ndimage
from torch import Tensor, nn

LABELS = Path(__file__).with_name("water_labels.json")
SMALLEST = 24
"""Patches of water, and holes in it, of fewer pixels are noise and are left out."""

_STEPS, _MEMBERS = 500, 5
_WINDOW = 13  # of the likeness of before and after, pixels
_GUIDED, _EDGE = 9, 1e-3  # pixels over which scores are smoothed, and the variance of colour that stops it


def pair_features(before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "h w 24"]:
    """Colour and roughness at two scales, of both images, and how alike the two are around a pixel (normalised cross-correlation)."""
    columns: list[Tensor] = []
    greys = []
    for image in (after, before):
        x = torch.from_numpy(np.array(image)).movedim(-1, 0)[None].float() / 255
        for side in (3, 9):
            mean = _mean(x, side)
            total = mean.sum(1, keepdim=True) + 0.02
            columns += [mean.mean(1, keepdim=True) * 3, mean / total * 10]
        grey = x.mean(1, keepdim=True)
        columns += [torch.log(_variance(grey, side).sqrt() + 0.004) for side in (5, 11)]
        greys.append(grey * 255)
    a, b = (g - _mean(g, _WINDOW) for g in greys)
    alike = _mean(a * b, _WINDOW) / (_mean(a * a, _WINDOW) * _mean(b * b, _WINDOW) + 4).sqrt()
    changed = (columns[3] - columns[9]).abs()  # chromaticity at the wider scale
    return torch.cat([*columns, alike * 2, changed], 1)[0].movedim(0, -1)


def _mean(x: Tensor, side: int) -> Tensor:
    padded = F.pad(x, (side // 2,) * 4, mode="reflect")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), stride=1), (1, side), stride=1)  # far faster than both at once


def _variance(x: Tensor, side: int) -> Tensor:
    mean = _mean(x, side)
    return (_mean(x * x, side) - mean * mean).clamp_min(0)


class WaterReader:
    """An ensemble of small networks that reads a probability of open water from ``pair_features``."""

    def __init__(self, rows: Float[Tensor, "n f"], wet: Bool[Tensor, " n"], *, seed: int = 0):
        self.mean, self.scale = rows.mean(0), rows.std(0) + 1e-3
        self.members = [self._fit(self._normalised(rows), wet.float(), seed + i) for i in range(_MEMBERS)]

    def _normalised(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.scale

    @staticmethod
    def _fit(rows: Tensor, wet: Tensor, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            model = nn.Sequential(
                nn.Linear(rows.shape[1], 32), nn.SiLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)
            )
            optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.1)
            for _ in range(_STEPS):
                scores = model(rows + 0.05 * torch.randn_like(rows))[:, 0]
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(scores, wet).backward()
                optimizer.step()
        return model.eval()

    @torch.no_grad()
    def __call__(self, features: Float[Tensor, "h w f"], after: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "h w"]:
        """Probability of open water; scores are smoothed along the colours of the image after (He et al. 2010, guided filter)."""
        x = self._normalised(features)
        scores = torch.stack([m(x)[..., 0] for m in self.members]).mean(0)
        guide = torch.from_numpy(np.array(after)).movedim(-1, 0)[None].float() / 255
        return guided_blur(guide, scores.clamp(-5, 5)[None, None], _GUIDED, _EDGE)[0, 0].sigmoid()


def cleaned(water: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Without patches and holes of fewer than ``SMALLEST`` pixels."""
    for value in (True, False):
        parts, count = ndimage.label(water == value)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        small = sizes < SMALLEST
        small[0] = False
        water = np.where(small[parts], not value, water)
    return water


@lru_cache(maxsize=1)
def read_labels() -> dict[str, Any]:
    """The labelled points: ``rows`` and ``columns`` of the grid in pixels of the image before, the displacement ``shown`` with which the image after
    lay on it, and per tile a string of letters for each row.

    W is open water; T tree, R roof, O other object and N anything else are dry or hide the water; ? could not be told.
    """
    return json.loads(LABELS.read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class LabelledTile:
    """A tile with points that were labelled.

    Args:
        features: of ``pair_features``.
        after: the image after, on the pixels of the one before.
        rows, columns: of the points.
        wet: whether open water is there.
    """

    features: Float[Tensor, "h w f"]
    after: UInt8[np.ndarray, "h w 3"]
    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]
    wet: Bool[Tensor, " n"]

    @property
    def points(self) -> Float[Tensor, "n f"]:
        """Features of the points."""
        return self.features[self.rows, self.columns]

    def said(self, reader: WaterReader) -> Bool[Tensor, " n"]:
        """What a reader says of the points."""
        return reader(self.features, self.after)[self.rows, self.columns] > 0.5


def labelled_tiles(
    tiles: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[int]]], *, held_out: bool
) -> list[LabelledTile]:
    """The labelled tiles of one split; ``tiles`` holds (before, after, valid, the displacement that was undone) by key.

    What was labelled is the image after: points go with it, if it lies elsewhere than when it was looked at.
    """
    labels = read_labels()
    found = []
    for key, letters in labels["held_out" if held_out else "train"].items():
        before, after, valid, shift = tiles[key]
        down, right = (int(was) - int(now) for was, now in zip(labels["shown"][key], shift, strict=True))
        placed = [
            (r + down, c + right, letter == "W")
            for r, line in zip(labels["rows"], letters.split(), strict=True)
            for c, letter in zip(labels["columns"], line, strict=True)
            if letter != "?"
        ]
        height, width = valid.shape
        points = [(r, c, wet) for r, c, wet in placed if 0 <= r < height and 0 <= c < width and valid[r, c]]
        rows, columns, wet = (torch.tensor(v) for v in zip(*points, strict=True))
        found.append(LabelledTile(pair_features(before, after), after, rows, columns, wet.bool()))
    return found


def fit_reader(tiles: Sequence[LabelledTile]) -> WaterReader:
    """A reader that learned from all points of some tiles."""
    return WaterReader(torch.cat([t.points for t in tiles]), torch.cat([t.wet for t in tiles]))


def judged(reader: WaterReader, tiles: Sequence[LabelledTile]) -> dict[str, int | float]:
    """How often a reader is right on tiles it did not learn from: see ``scores``."""
    return scores(torch.cat([t.said(reader) for t in tiles]), torch.cat([t.wet for t in tiles]))


def crossvalidate(tiles: Sequence[LabelledTile], *, folds: int = 7) -> dict[str, int | float]:
    """How often tiles that were left out are read right: see ``scores``."""
    said, true = [], []
    for fold in range(folds):
        reader = fit_reader([t for i, t in enumerate(tiles) if i % folds != fold])
        for tile in tiles[fold::folds]:
            said.append(tile.said(reader))
            true.append(tile.wet)
    return scores(torch.cat(said), torch.cat(true))


def scores(said: Bool[Tensor, " n"], true: Bool[Tensor, " n"]) -> dict[str, int | float]:
    """``points``, ``accuracy``, and of water ``iou``, ``precision`` and ``recall``."""
    both = float((said & true).sum())
    return {
        "points": len(true),
        "accuracy": float((said == true).float().mean()),
        "iou": both / max(float((said | true).sum()), 1),
        "precision": both / max(float(said.sum()), 1),
        "recall": both / max(float(true.sum()), 1),
    }
