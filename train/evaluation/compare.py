"""Two reports side by side: the difference of each figure with its interval, and whether it is better or worse.

The intervals of two independent estimates give that of their difference (Zou and Donner 2008, Construction of
confidence limits about effect measures, equation 3). Figures that stand on the same real images are not independent, so
that the interval is wider than need be: "cannot tell" is said too often, "better" not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .report import Report, figure, measurements, short, table, title

LOWER = frozenset(
    {"frechet_64", "frechet", "kernel_distance", "cmmd", "gaussian_mmd", "elpd", "lpips", "spectral_angle", "ergas",
     "geolocation_km"}
)  # fmt: skip
HIGHER = frozenset(
    {"psnr", "ssim", "psnr_bands", "ssim_bands", "precision_recall", "class_consistency", "place_consistency",
     "gsd_response", "layout_miou", "clip_score", "spatial_relations"}
)  # fmt: skip
NOT_THE_MODEL = ("floor", "real images", "_real", "the same again", "another seed")
"""Figures of real images, nulls and floors: they are the yardstick, not what is judged."""


@dataclass(frozen=True)
class Difference:
    """``new`` - ``old`` of one figure; ``verdict`` is "better", "worse", "cannot tell" or why there is none."""

    name: str
    old: str
    new: str
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {
            "old": self.old,
            "new": self.new,
            "difference": self.difference,
            "interval": self.interval,
            "verdict": self.verdict,
        }


def difference_interval(
    a: float, a_interval: Sequence[float], b: float, b_interval: Sequence[float]
) -> tuple[float, float]:
    """The interval of a - b from the intervals of independent a and b, which need not be symmetric."""
    low = a - b - math.hypot(a - a_interval[0], b_interval[1] - b)
    high = a - b + math.hypot(a_interval[1] - a, b - b_interval[0])
    return low, high


def compare(new: Report, old: Report) -> list[Difference]:
    """Every figure that both reports have, in the order of ``new``; unlike ones are listed with the reason."""
    before: dict[tuple[str, str], dict] = {}
    for name, m in measurements(old.figures):
        before.setdefault((name, m["metric"]), m)
    other_data = _data(new) is not None and _data(old) is not None and _data(new) != _data(old)
    out = []
    for name, m in measurements(new.figures):
        was = before.get((name, m["metric"]))
        if was is None or any(name.endswith(end) for end in NOT_THE_MODEL):
            continue
        out.append(_difference(title(name, m), m, was, other_data))
    return out


def _difference(name: str, new: dict, old: dict, other_data: bool) -> Difference:
    texts = figure(old), figure(new)
    reason = None
    if new.get("extractor") != old.get("extractor"):
        reason = f"not comparable: by {old.get('extractor')} and {new.get('extractor')}"
    elif new["n"] != old["n"]:
        reason = f"not comparable: N {old['n']} and {new['n']}"
    elif other_data and new["metric"] not in ("gsd_response", "spatial_relations", "grey levels"):
        reason = "not comparable: measured on other images"
    elif new.get("value") is None or old.get("value") is None:
        reason = "not comparable: a figure is not finite"
    if reason:
        return Difference(name, *texts, None, None, reason)
    change = new["value"] - old["value"]
    if not new.get("interval") or not old.get("interval"):
        return Difference(name, *texts, change, None, "cannot tell (no interval)")
    low, high = difference_interval(new["value"], new["interval"], old["value"], old["interval"])
    metric = new["metric"].removesuffix(" (forced)").partition(" (")[0]
    if low <= 0 <= high:
        verdict = "cannot tell"
    elif metric in LOWER:
        verdict = "better" if high < 0 else "worse"
    elif metric in HIGHER:
        verdict = "better" if low > 0 else "worse"
    else:
        verdict = "differs"
    return Difference(name, *texts, change, (low, high), verdict)


def comparison_lines(differences: Sequence[Difference]) -> list[tuple[str, ...]]:
    """Rows of (what, old, new, difference, verdict)."""
    lines: list[tuple[str, ...]] = []
    for d in differences:
        change = "" if d.difference is None else f"{d.difference:+.3g}"
        if d.interval is not None:
            change += f" [{short(d.interval[0])}, {short(d.interval[1])}]"
        lines.append((d.name, d.old, d.new, change, d.verdict))
    return lines


def comparison_markdown(differences: Sequence[Difference], old: str, new: str) -> str:
    """The comparison as a Markdown table."""
    head = ("what", old, new, "difference", "verdict")
    return table(head, comparison_lines(differences)) if differences else "The two reports share no figure.\n"


def _data(report: Report) -> str | None:
    return (report.about.get("data") or {}).get("digest")
