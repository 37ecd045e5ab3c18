"""An evaluation as a Markdown table and as one HTML page with its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from .evaluate import Report


def rows(figures: Any, name: str = "") -> Iterator[tuple[str, dict]]:
    """(name, measurement) of every measurement in nested figures."""
    if isinstance(figures, dict) and "metric" in figures:
        yield name, figures
    elif isinstance(figures, dict):
        for key, value in figures.items():
            yield from rows(value, f"{name} / {key}" if name else key)
    elif isinstance(figures, list):
        for value in figures:
            yield from rows(value, name)


def line(name: str, m: dict) -> tuple[str, str, str, str, str]:
    """One row: what, figure with its interval, N, extractor, what belongs beside it."""
    value = f"{m['value']:.3g}"
    if m.get("interval"):
        value += f" [{m['interval'][0]:.3g}, {m['interval'][1]:.3g}]"
    beside = {
        k: m[k]
        for k in ("floor", "recall", "vote", "chance", "ceiling", "median_ratio", "share_below", "accuracy")
        if m.get(k) is not None
    }
    text = ", ".join(f"{k} {_short(v)}" for k, v in beside.items())
    return f"{name}: {m['metric']}", value, str(m["n"]), m.get("extractor") or "", text


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return "/".join(_short(v) for v in value)
    return str(value)


def markdown(report: Report) -> str:
    """Every figure as a row of one table."""
    head = "| what | figure | N | by | beside it |\n| --- | --- | --- | --- | --- |\n"
    body = "".join("| " + " | ".join(line(name, m)) + " |\n" for name, m in rows(report.figures))
    return f"Model {report.model['name']}, 95 % intervals in brackets.\n\n{head}{body}"


def write_html(report: Report, path: Path) -> None:
    """The table and the pictures on one page beside the picture files."""
    cells = "".join(
        "<tr>" + "".join(f"<td>{escape(c)}</td>" for c in line(n, m)) + "</tr>" for n, m in rows(report.figures)
    )
    pictures = "".join(f"<h2>{escape(title)}</h2><img src='{name}'>" for title, name in report.pictures.items())
    style = "body{font:15px sans-serif;margin:2em}td{padding:2px 10px;border-top:1px solid #ccc}img{max-width:100%}"
    table = f"<table><tr><th>what</th><th>figure</th><th>N</th><th>by</th><th>beside it</th></tr>{cells}</table>"
    title = f"<title>{escape(report.model['name'])}</title>"
    path.write_text(
        f"<!doctype html><meta charset=utf-8>{title}<style>{style}</style><h1>{escape(str(report.model))}</h1>{table}{pictures}\n"
    )
