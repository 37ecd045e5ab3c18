"""The findings of a check as lines for a screen, and as a folder: page, contact sheet, map and JSON."""

import json
from collections.abc import Mapping
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from ...files import write_bytes
from ...geo.classes import CLASSES
from ...geo.display import contact_sheet
from .check import Findings
from .map import draw_map

FILES = ("index.html", "findings.json", "contact_sheet.png", "layouts.png", "map.png")
_BAR = 24  # characters
_ROWS = 12
_COLUMNS = 8
_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:1100px}td{padding:1px 10px;vertical-align:top}img{max-width:100%}"
    "i{display:inline-block;height:10px;background:#1f5ab4}.n{text-align:right}h2{margin-top:1.6em}.bad{color:#b02a10}"
)


def lines(found: Findings) -> str:
    """What was found, for a person."""
    text = [f"{found.samples} samples in {len(found.shards)} shards: " + ("clean" if found.clean else "NOT clean")]
    for name, count in found.describe()["counts"].items():
        if list(count) in (["(none)"], ["(unknown)"]):
            text.append(f"{name}: {next(iter(count)).strip('()')}")
            continue
        text.append(name)
        top = max(count.values())
        shown = list(count.items()) if len(count) <= _ROWS else sorted(count.items(), key=lambda x: -x[1])[:_ROWS]
        wide = max(len(label) for label, _ in shown)
        text += [f"  {label:<{wide}} {n:>7} {'#' * max(1, round(_BAR * n / top))}" for label, n in shown]
        if len(count) > len(shown):
            text.append(f"  and {len(count) - len(shown)} more")
    if found.layouts:
        total = sum(found.layouts.values())
        shares = ", ".join(f"{CLASSES[code]} {100 * n / total:.3g} %" for code, n in sorted(found.layouts.items()))
        text.append(f"layout pixels: {shares}")
    text += _listed("broken", [f"{name}: {reason}" for name, reason in found.broken.items()])
    text += _listed("left out by readers", [f"{name}: {reason}" for name, reason in found.left_out.items()])
    text += _listed("keys that repeat", found.repeated_keys)
    text += _listed(
        "training and held-out samples that share ground or pixels", [f"{a} and {b}" for a, b in found.overlaps]
    )
    text += _listed("samples with the same pixels", [", ".join(same) for same in found.duplicates])
    if found.uncheckable and len(found.counts["split"]) > 1:
        text.append(f"{found.uncheckable} samples have no known extent: their overlap was not checked")
    return "\n".join(text)


def write(found: Findings, folder: Path, *, overwrite: bool = False) -> None:
    """Writes :data:`FILES` into an existing folder. Raises OutputError: the disk is full."""
    for name, thumbs in (("contact_sheet.png", found.thumbs), ("layouts.png", found.maps)):
        if thumbs:
            sheet = contact_sheet([one for _, one in thumbs], _COLUMNS, labels=[key[-18:] for key, _ in thumbs])
            write_bytes(folder / name, _png(sheet), overwrite)
    if found.places:
        write_bytes(folder / "map.png", _png(draw_map(found.places)), overwrite)
    write_bytes(folder / "findings.json", json.dumps(found.describe(), indent=1).encode() + b"\n", overwrite)
    write_bytes(folder / "index.html", page(found).encode(), overwrite)


def page(found: Findings) -> str:
    """The report as HTML, which shows the pictures beside it."""
    state = "clean" if found.clean else "<span class=bad>not clean</span>"
    parts = [f"<h1>{found.samples} samples in {len(found.shards)} shards: {state}</h1>"]
    for title, rows in (
        ("Broken", [f"{name}: {reason}" for name, reason in found.broken.items()]),
        ("Left out by readers", [f"{name}: {reason}" for name, reason in found.left_out.items()]),
        ("Keys that repeat", found.repeated_keys),
        ("Training and held-out samples that share ground or pixels", [f"{a} and {b}" for a, b in found.overlaps]),
        ("Samples with the same pixels", [", ".join(same) for same in found.duplicates]),
    ):
        if rows:
            parts.append(
                f"<h2>{title} ({len(rows)})</h2><ul>" + "".join(f"<li>{escape(row)}</li>" for row in rows) + "</ul>"
            )
    if found.thumbs:
        parts.append("<h2>Contact sheet</h2><img src='contact_sheet.png'>")
    if found.maps:
        parts.append("<h2>Layouts over their pictures</h2><img src='layouts.png'>")
    if found.places:
        parts.append("<h2>Places</h2><img src='map.png'>")
    parts += [_table(name, count) for name, count in found.describe()["counts"].items()]
    if found.layouts:
        parts.append(_table("layout pixels", {CLASSES[code]: n for code, n in sorted(found.layouts.items())}))
    parts.append(_table("shards", found.shards))
    return f"<!doctype html><meta charset=utf-8><title>shards</title><style>{_STYLE}</style>{''.join(parts)}\n"


def _table(name: str, count: Mapping[str, int]) -> str:
    top = max(count.values(), default=0) or 1
    rows = "".join(
        f"<tr><td>{escape(label)}<td class=n>{n}<td><i style='width:{300 * n / top:.0f}px'></i>"
        for label, n in count.items()
    )
    return f"<h2>{escape(name)}</h2><table>{rows}</table>"


def _listed(title: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    more = [f"  and {len(rows) - 20} more (all with --json or -o)"] if len(rows) > 20 else []
    return [f"{title}: {len(rows)}", *(f"  {row}" for row in rows[:20]), *more]


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
