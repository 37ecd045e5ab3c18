"""The report as one HTML file that needs no other: pictures inside, readable on a phone, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from .compare import Difference, comparison_lines
from .report import Report, as_row, measurements, region_tables

_STYLE = """
:root { color-scheme: light dark; --line: #d0d4da; --soft: #f3f5f7; --good: #17743a; --bad: #a4262c; --dim: #5d6670 }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4149; --soft: #1d2126; --good: #63c987; --bad: #f08a8e; --dim: #98a2ad }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p, li { max-width: 48rem } .dim { color: var(--dim); font-size: .9rem }
nav a { margin-right: .8rem; white-space: nowrap }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; padding: .35rem .6rem; border-top: 1px solid var(--line); vertical-align: top }
th { border-top: 0; color: var(--dim); font-weight: 600 } td.number { font-variant-numeric: tabular-nums }
tr.few td { background: var(--soft) } td.better { color: var(--good) } td.worse { color: var(--bad) }
img { max-width: 100%; height: auto; display: block; border: 1px solid var(--line) } figure { margin: 0 0 1.5rem }
figcaption { margin-bottom: .3rem } code { overflow-wrap: anywhere }
@media (max-width: 42rem) {
  table, tbody, tr, td { display: block } thead { display: none }
  tr { border-top: 2px solid var(--line); padding: .4rem 0 }
  td { border: 0; padding: .1rem 0 } td[data-name]::before { content: attr(data-name) ": "; color: var(--dim) }
  td:empty { display: none } td:first-child { font-weight: 600 } td:first-child::before { content: none }
}
"""


def page(report: Report, folder: Path, differences: Sequence[Difference] | None = None, old: str | None = None) -> str:
    """The whole report; pictures are read from ``folder`` and put into the page."""
    name = escape(str(report.model["name"]))
    parts = [f"<h1>{name}</h1>", _about(report)]
    links = [(part, f"part-{part}") for part in report.figures]
    links += [("compared", "compared")] if differences else []
    links += [("left out", "left-out")] if report.left_out else []
    links += [("pictures", "pictures")] if report.pictures else []
    parts.append("<nav>" + "".join(f"<a href='#{escape(at)}'>{escape(t)}</a>" for t, at in links) + "</nav>")
    parts.append("<p class='dim'>Intervals in brackets hold with 95 %. Figures are comparable only at the same N and "
                 "by the same network.</p>")  # fmt: skip
    for part, figures in report.figures.items():
        rows = [as_row(n, m) for n, m in measurements(figures)]
        if not rows and not isinstance(figures, Mapping):
            continue
        lines = [(r.name or part, r.figure, r.n, r.extractor, r.beside) for r in rows]
        parts.append(f"<h2 id='part-{escape(part)}'>{escape(part)}</h2>")
        parts.append(html_table(("what", "figure", "N", "by", "beside it"), lines))
    tables = list(region_tables(report))
    for title, head, region_lines in tables:
        parts.append(f"<h2>{escape(title)}</h2>" + html_table(head, region_lines, few="(fewest)"))
    if differences:
        head = ("what", old or "before", str(report.model["name"]), "difference", "verdict")
        parts.append("<h2 id='compared'>Compared</h2>" + html_table(head, comparison_lines(differences)))
    if report.left_out:
        items = "".join(f"<li><b>{escape(n)}</b>: {escape(w)}</li>" for n, w in report.left_out.items())
        parts.append(f"<h2 id='left-out'>Left out</h2><ul>{items}</ul>")
    if report.pictures:
        parts.append("<h2 id='pictures'>Pictures</h2>")
        parts += [_picture(title, folder / file) for title, file in report.pictures.items()]
    return document(name, parts)


_SAME = "asked"
"""The one picture that shows real images, which all reports of a run share."""


def overview(reports: Mapping[str, Report], out: Path, found: Mapping[str, Sequence[Difference]], old: str) -> str:
    """Several reports on one page: links to each, what changed against ``old``, and their pictures (in ``out/NAME``) one
    below the other.
    """
    links = "".join(f"<li><a href='{escape(name)}/index.html'>{escape(name)}</a></li>" for name in reports)
    parts = ["<h1>" + escape(", ".join(reports)) + "</h1>", f"<ul>{links}</ul>"]
    for name, differences in found.items():
        parts.append(f"<h2>{escape(name)} against {escape(old)}</h2>")
        head = ("what", old, name, "difference", "verdict")
        parts.append(html_table(head, comparison_lines(differences)))
    for title in dict.fromkeys(t for report in reports.values() for t in report.pictures):
        parts.append(f"<h2>{escape(title)}</h2>")
        showing = [(name, report.pictures[title]) for name, report in reports.items() if title in report.pictures]
        if title == _SAME:
            parts.append(_picture("real images", out / showing[0][0] / showing[0][1]))
        else:
            parts += [_picture(name, out / name / file) for name, file in showing]
    return document(escape(", ".join(reports)), parts)


def document(title: str, parts: Iterable[str]) -> str:
    """An HTML page; ``title`` is escaped already."""
    head = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
    )
    return head + "<body>" + "\n".join(parts) + "</body></html>\n"


def html_table(head: Sequence[str], lines: Sequence[Sequence[str]], *, few: str = "") -> str:
    """A table; on a phone each line becomes a block. Lines whose first cell holds ``few`` are marked."""
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = []
    for line in lines:
        cells = ""
        for i, (name, text) in enumerate(zip(head, line, strict=True)):
            kind = text if text in ("better", "worse") else "number" if i in (1, 2) else ""
            label = f" data-name='{escape(name, quote=True)}'" if text else ""
            cells += f"<td{label}{f' class={kind}' if kind else ''}>{escape(text)}</td>"
        marked = " class='few'" if few and few in line[0] else ""
        body.append(f"<tr{marked}>{cells}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _about(report: Report) -> str:
    said = {k: v for k, v in report.model.items() if k != "name"}
    data, versions = report.about.get("data"), report.about.get("versions", {})
    lines = [", ".join(f"{escape(str(k)).replace('_', ' ')} {escape(str(v))}" for k, v in said.items())]
    if data:
        lines.append(f"Real images: {escape(str(data['name']))}, {data['images']} ({escape(data['digest'])})")
    if report.about.get("command"):
        lines.append(f"<code>{escape(report.about['command'])}</code>")
    if versions:
        lines.append("Made by " + ", ".join(f"{escape(k)} {escape(str(v))}" for k, v in versions.items()))
    return "<p class='dim'>" + "<br>".join(lines) + "</p>"


def _picture(title: str, path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(title, quote=True)
    return (
        f"<figure><figcaption>{text}</figcaption>"
        f"<img alt='{text}' loading='lazy' src='data:image/{kind};base64,{data}'></figure>"
    )
