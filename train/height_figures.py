"""How far heights are off: the model, and what it has to beat, over buildings, trees and ground.

Intervals are of whole streets redrawn (the pixels of one are no independent samples). Two baselines are told more than an image says:
the mean height of each class needs to know the class, and shadows of known objects need their outlines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage

from ..geo.shadows import heights_from_shadows
from ..metrics.bootstrap import bootstrap
from ..models.height import HeightModel
from .height_pairs import GROUPS, HeightPair

METHODS = {
    "model": "model, sun known where there are shadows",
    "model_without_sun": "model, sun not known",
    "flat": "nothing stands anywhere (0 m)",
    "constant": "mean height of the training streets",
    "class_constant": "mean height of the class (class known)",
    "shadow": "shadow lengths, objects by colour",
    "shadow_outlines": "shadow lengths (outlines of buildings and trees known)",
}
"""What is measured, and how it is called in tables."""


def measure(model: HeightModel, pairs: Sequence[HeightPair], means: Mapping[str, float]) -> dict[str, Any]:
    """Figures of all methods on streets; shadows are measured on those that have some.

    Args:
        model: on any device.
        pairs: images with true heights.
        means: of the training streets, see :func:`gensat.train.height_pairs.mean_heights`.

    Returns:
        Per method and group (``ground``, ``building``, ``tree``, ``all``) the mean absolute and root mean square error in metres, each
        with its 95 percent interval, and the numbers of streets and pixels; for the model also how many heights lie within its
        68 percent interval (``coverage``).
    """
    levels = np.array([means[name] for name in GROUPS], np.float32)
    seen = [_read(model, pair) for pair in pairs]
    guesses: dict[str, list[np.ndarray]] = {
        "model": [median for median, _, _ in seen],
        "model_without_sun": [_read(model, replace(p, sun=None))[0] for p in pairs],
        "flat": [np.zeros_like(p.heights) for p in pairs],
        "constant": [np.full_like(p.heights, means["all"]) for p in pairs],
        "class_constant": [levels[p.groups] for p in pairs],
    }
    figures: dict[str, Any] = {
        name: errors([(guess, p.heights, p.groups) for guess, p in zip(made, pairs, strict=True)])
        for name, made in guesses.items()
    }
    if lit := [p for p in pairs if p.sun is not None]:
        for name, outlines in (("shadow", False), ("shadow_outlines", True)):
            figures[name] = errors([(_shadows(p, outlines=outlines), p.heights, p.groups) for p in lit])
    figures["model"]["coverage"] = _coverage([(low, high) for _, low, high in seen], pairs)
    return figures


def errors(samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Errors per group of (estimated, true, group codes) of several streets, in metres."""
    found: dict[str, Any] = {}
    for code, name in [*enumerate(GROUPS), (None, "all")]:
        rows = []  # absolute and squared error, and pixels, of each street
        for estimated, true, groups in samples:
            mine = np.ones(true.shape, bool) if code is None else groups == code
            off = (estimated - true)[mine].astype(np.float64)
            if off.size:
                rows.append([np.abs(off).sum(), (off**2).sum(), off.size])
        if not rows:
            continue
        sums = torch.tensor(rows, dtype=torch.float64)
        found[name] = {
            "streets": len(rows),
            "pixels": int(sums[:, 2].sum()),
            "mae": _figure(sums, _mae),
            "rmse": _figure(sums, _rmse),
        }
    return found


def table(figures: Mapping[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| mean absolute error, m (rmse) | N | buildings | trees | ground | all |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, label in METHODS.items():
        if name in figures:
            cells = [_cell(figures[name].get(group)) for group in ("building", "tree", "ground", "all")]
            lines.append(f"| {label} | {figures[name]['all']['streets']} | {' | '.join(cells)} |")
    lines.append("")
    lines.append("Brackets: 95 percent interval of the mean absolute error, by streets redrawn; N: streets.")
    if coverage := figures.get("model", {}).get("coverage"):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in coverage.items())
        lines.append(f"Within the model's 68 percent interval lie of the true heights: {shares}.")
    return "\n".join(lines)


def _read(model: HeightModel, pair: HeightPair) -> tuple[Float[np.ndarray, "h w"], np.ndarray, np.ndarray]:
    """Median, and the ends of the middle 68 percent."""
    picture = torch.from_numpy(pair.rgb).movedim(-1, 0).float() / 255
    found = model.predict(picture, pair.sun)
    low, high = found.interval()
    return found.median()[0].numpy(), low[0].numpy(), high[0].numpy()


def _coverage(intervals: Sequence[tuple[np.ndarray, np.ndarray]], pairs: Sequence[HeightPair]) -> dict[str, float]:
    inside, count = np.zeros(len(GROUPS)), np.zeros(len(GROUPS))
    for (low, high), pair in zip(intervals, pairs, strict=True):
        held = (pair.heights >= low) & (pair.heights <= high)
        inside += np.bincount(pair.groups[held], minlength=len(GROUPS))
        count += np.bincount(pair.groups.ravel(), minlength=len(GROUPS))
    shares = {name: float(i / n) for name, i, n in zip(GROUPS, inside, count, strict=True) if n}
    return {**shares, "all": float(inside.sum() / count.sum())}


def _shadows(pair: HeightPair, *, outlines: bool) -> np.ndarray:
    assert pair.sun is not None
    rgb, objects = pair.rgb.astype(np.float32) / 255, None
    if outlines:
        objects, count = ndimage.label(pair.groups == GROUPS.index("building"))
        trees, _ = ndimage.label(pair.groups == GROUPS.index("tree"))
        objects = np.where(trees > 0, trees + count, objects)
    if not pair.sun.elevation > 3:
        return np.zeros_like(pair.heights)
    return heights_from_shadows(rgb, pair.sun, pair.gsd, objects).heights


def _figure(sums: torch.Tensor, statistic: Callable[[torch.Tensor], float]) -> dict[str, Any]:
    interval = bootstrap(statistic, sums) if len(sums) > 1 else None
    return {"value": statistic(sums), "interval": None if interval is None else list(interval)}


def _mae(sums: torch.Tensor) -> float:
    return float(sums[:, 0].sum() / sums[:, 2].sum())


def _rmse(sums: torch.Tensor) -> float:
    return float((sums[:, 1].sum() / sums[:, 2].sum()).sqrt())


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    mae, rmse = figure["mae"], figure["rmse"]["value"]
    around = "" if mae["interval"] is None else f" [{mae['interval'][0]:.2f}, {mae['interval'][1]:.2f}]"
    return f"{mae['value']:.2f}{around} ({rmse:.2f})"
