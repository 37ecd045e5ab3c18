"""What an evaluation found: figures by part, what was left out and why, and how all of it was obtained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import write_bytes
from ...metrics.regions import FEWEST

FIGURES, TABLE, PAGE = "figures.json", "report.md", "index.html"
_ABOUT = ("model", "about", "left out", "pictures")  # keys of the JSON that are no parts
# What stands beside a figure in tables, in this order, where the measurement has it.
_BESIDE = (
    "floor", "null", "gain", "preferred", "recall", "vote", "chance", "ceiling", "median_ratio", "share_below",
    "accuracy", "unbiased", "found", "conditional", "opposite", "within", "smallest", "lowest", "highest", "worst",
    "dims",
)  # fmt: skip


@dataclass
class Report:
    """Figures by part (nested dictionaries that end in measurements), and what belongs to them.

    ``model`` names what was measured, ``about`` the command, seed, data and versions; ``left_out`` gives, by name, why
    something was not measured and what to give; ``pictures`` maps titles to files beside the report.
    """

    model: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What ``figures.json`` holds: the parts at the top, beside "model", "about", "left out" and "pictures"."""
        beside = {"about": self.about, "left out": self.left_out, "pictures": self.pictures}
        return {"model": self.model, **self.figures, **{k: v for k, v in beside.items() if v}}

    def save(self, folder: Path) -> None:
        """Write ``figures.json``, whole or not at all."""
        write_bytes(folder / FIGURES, (json.dumps(self.to_dict(), indent=1) + "\n").encode(), overwrite=True)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a ``figures.json``, or the folder that holds one. Raises InputError."""
        path = Path(path)
        path = path / FIGURES if path.is_dir() else path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
                raise ValueError("no report")
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no report; give the {FIGURES} of a gensat evaluate") from error
        figures = {k: v for k, v in values.items() if k not in _ABOUT}
        return cls(
            values["model"],
            figures,
            values.get("pictures", {}),
            values.get("left out", {}),
            values.get("about", {}),
        )


@dataclass(frozen=True)
class Row:
    """One line of a table, as text."""

    name: str
    figure: str
    n: str
    extractor: str
    beside: str


def measurements(figures: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, measurement) of every measurement in nested figures."""
    if isinstance(figures, Mapping) and "metric" in figures:
        yield name, dict(figures)
    elif isinstance(figures, Mapping):
        for key, value in figures.items():
            yield from measurements(value, f"{name} / {key}" if name else str(key))
    elif isinstance(figures, list):
        for value in figures:
            yield from measurements(value, name)


def as_row(name: str, m: Mapping[str, Any]) -> Row:
    """A measurement as a line: what, figure with its interval, N, extractor, what belongs beside it."""
    beside = ", ".join(f"{k.replace('_', ' ')} {short(m[k])}" for k in _BESIDE if m.get(k) not in (None, "", {}))
    return Row(title(name, m), figure(m), str(m["n"]), m.get("extractor") or "", beside)


def title(name: str, m: Mapping[str, Any]) -> str:
    """Where a measurement stands and what it is, once where the two begin alike ("frechet_64" and its metric)."""
    above, _, last = name.rpartition(" / ")
    if not last or not str(m["metric"]).startswith(last):
        return f"{name}: {m['metric']}"
    return f"{above} / {m['metric']}" if above else str(m["metric"])


def figure(m: Mapping[str, Any]) -> str:
    """Value with its interval and unit."""
    if m.get("value") is None:
        return "not finite"
    text = short(m["value"])
    if m.get("interval"):
        text += f" [{short(m['interval'][0])}, {short(m['interval'][1])}]"
    return f"{text} {m['unit']}" if m.get("unit") else text


def short(value: Any) -> str:
    """A number to three digits; lists and dictionaries of them in one line."""
    if isinstance(value, float):
        if abs(value) < 1e-9:
            return "0"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {short(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "/".join(short(v) for v in value)
    return str(value)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [list(head), ["---"] * len(head), *(list(line) for line in lines)]
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in cells)


def markdown(report: Report) -> str:
    """Every figure as a row of one table, each region's figures in their own, and what was left out."""
    rows = [as_row(name, m) for name, m in measurements(report.figures)]
    text = f"{report.model['name']}, 95 % intervals in brackets.\n\n"
    text += table(
        ("what", "figure", "N", "by", "beside it"), [(r.name, r.figure, r.n, r.extractor, r.beside) for r in rows]
    )
    for name, head, lines in region_tables(report):
        text += f"\n{name}\n\n" + table(head, lines)
    if report.left_out:
        text += "\nLeft out:\n\n" + "".join(f"- {name}: {why}\n" for name, why in report.left_out.items())
    return text


def region_tables(report: Report) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """(title, head, lines) of each per-region figure; the region with the fewest images is marked."""
    for name, m in measurements(report.figures):
        if not m.get("per_region"):
            continue
        lines: list[tuple[str, ...]] = [
            (region + (" (fewest)" if region == m["smallest"] else ""), figure(one), str(one["n"]))
            for region, one in m["per_region"].items()
        ]
        lines += [
            (f"{region} (fewer than {FEWEST} on a side)", "", str(n)) for region, n in m.get("too_few", {}).items()
        ]
        yield f"{name}: {m['metric']}", ("region", "figure", "N"), lines
