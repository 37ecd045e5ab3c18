"""The reports of one run, and their comparison, as files and as what the command prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import write_bytes
from .compare import Difference, compare, comparison_markdown
from .page import overview, page
from .report import FIGURES, PAGE, TABLE, Report, markdown


@dataclass(frozen=True)
class Published:
    """What was found, for a program (``data``) and for a person (``text``)."""

    data: dict[str, Any]
    text: str


def publish(reports: Mapping[str, Report], out: Path, earlier: Report | None = None) -> Published:
    """Write ``figures.json``, ``report.md`` and ``index.html`` of each report; of several also an overview, in which
    every one is compared with the first. ``earlier`` is what all are compared with instead.
    """
    several = len(reports) > 1
    base = earlier or (next(iter(reports.values())) if several else None)
    found: dict[str, list[Difference]] = {}
    texts = []
    for name, report in reports.items():
        folder = out / name if several else out
        differences = compare(report, base) if base is not None and report is not base else None
        text = markdown(report)
        if differences is not None and base is not None:
            found[name] = differences
            text += "\nCompared:\n\n" + comparison_markdown(differences, label(base), label(report))
        report.save(folder)
        _write(folder / TABLE, text)
        _write(folder / PAGE, page(report, folder, differences, None if base is None else label(base)))
        texts.append(text)
    data = {name: report.to_dict() for name, report in reports.items()}
    whole: dict[str, Any] = data if several else next(iter(data.values()))
    if found:
        whole = {**whole, "compared": {n: {d.name: d.to_dict() for d in ds} for n, ds in found.items()}}
    if several:
        _write(out / FIGURES, json.dumps({"model": {"name": ", ".join(reports)}, **whole}, indent=1) + "\n")
        _write(out / TABLE, "\n\n".join(texts))
        _write(out / PAGE, overview(reports, out, found, label(base) if base is not None else ""))
    return Published(whole, "\n\n".join(texts))


def label(report: Report) -> str:
    """Its name in a comparison."""
    return str(report.model["name"])


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode(), overwrite=True)
