"""``gensat data``: pictures, tables and scenes to training shards, and what a shard holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen

_SCENES, _KNOWN, _SPLIT, _SHARDS = "Scenes into tiles", "What is known", "Split", "Shards"
_SHOWN = 5  # wrong rows and notes that are listed on the screen
Sources = Annotated[
    list[Path], typer.Argument(help="Folder of pictures, CSV, GeoJSON or GeoParquet index, or GeoTIFF scenes.")
]
Shards = Annotated[
    list[str], typer.Argument(help="Shards, folders of them, or patterns such as 'data-{000..009}.tar'.")
]


def pack(
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards; made if missing.")],
    kind: Annotated[str, typer.Option(help="auto, pictures, table or scenes.")] = "auto",
    size: Annotated[int, typer.Option(help="Pixels a side of a tile.", rich_help_panel=_SCENES)] = 256,
    stride: Annotated[
        int | None, typer.Option(help="Pixels from tile to tile; the size when not given.", rich_help_panel=_SCENES)
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(help="Metres per pixel to resample scenes to.", rich_help_panel=_SCENES)
    ] = None,
    crs: Annotated[str | None, typer.Option(help="CRS to warp scenes to.", rich_help_panel=_SCENES)] = None,
    align: Annotated[
        bool,
        typer.Option("--align", help="One lattice for all scenes: tiles of all dates match.", rich_help_panel=_SCENES),
    ] = False,
    bands: Annotated[
        str, typer.Option(help="Names or numbers, such as red,green,blue or 4,3,2.", rich_help_panel=_SCENES)
    ] = "",
    scale: Annotated[
        str | None,
        typer.Option(help="LOW,HIGH stored values that become 0 and 255, or auto.", rich_help_panel=_SCENES),
    ] = None,
    max_empty: Annotated[
        float, typer.Option(help="Share of empty pixels a tile may have.", rich_help_panel=_SCENES)
    ] = 0.05,
    layout: Annotated[
        Path | None,
        typer.Option(
            help="Map of all tiles, folder with one a picture, or {folder}/NAME, {stem}.", rich_help_panel=_KNOWN
        ),
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="What the map's codes or attributes mean.", rich_help_panel=_KNOWN)
    ] = None,
    layout_share: Annotated[
        float, typer.Option(help="Share of known pixels a layout needs to be kept.", rich_help_panel=_KNOWN)
    ] = 0.0,
    caption: Annotated[
        str, typer.Option(help="For all; {class}, {date}, {year}, {sensor} are filled in.", rich_help_panel=_KNOWN)
    ] = "",
    klass: Annotated[str | None, typer.Option("--class", help="Of all samples.", rich_help_panel=_KNOWN)] = None,
    folders: Annotated[
        bool, typer.Option("--folder-class", help="The folder of a picture is its class.", rich_help_panel=_KNOWN)
    ] = False,
    date: Annotated[str | None, typer.Option(help="YYYY, YYYY-MM or YYYY-MM-DD.", rich_help_panel=_KNOWN)] = None,
    date_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression with year, month, day groups for file names.", rich_help_panel=_KNOWN),
    ] = None,
    sensor: Annotated[str | None, typer.Option(help="Of all samples.", rich_help_panel=_KNOWN)] = None,
    cloud: Annotated[float | None, typer.Option(help="Cloud cover, 0 to 1.", rich_help_panel=_KNOWN)] = None,
    cloud_percent: Annotated[
        bool, typer.Option("--cloud-percent", help="Tables give cloud cover in percent.", rich_help_panel=_KNOWN)
    ] = False,
    picture_gsd: Annotated[
        float | None, typer.Option(help="Metres per pixel of pictures without one.", rich_help_panel=_KNOWN)
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of all samples.", rich_help_panel=_KNOWN)] = None,
    source: Annotated[
        str | None, typer.Option(help="Short name of where it comes from.", rich_help_panel=_KNOWN)
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="WHAT=COLUMN of a table; repeat it.", rich_help_panel=_KNOWN)
    ] = None,
    heldout: Annotated[
        list[str] | None, typer.Option(help="'WEST SOUTH EAST NORTH' in degrees; repeat it.", rich_help_panel=_SPLIT)
    ] = None,
    heldout_share: Annotated[float, typer.Option(help="Share of the ground, in blocks.", rich_help_panel=_SPLIT)] = 0.0,
    block_km: Annotated[float, typer.Option(help="Side of a block.", rich_help_panel=_SPLIT)] = 2.0,
    heldout_numbers: Annotated[
        str | None, typer.Option(help="FIRST-LAST of the last number in a key.", rich_help_panel=_SPLIT)
    ] = None,
    straddle: Annotated[
        str, typer.Option(help="Tiles across the edge of a box: drop or heldout.", rich_help_panel=_SPLIT)
    ] = "drop",
    split_seed: Annotated[int, typer.Option(help="Of the blocks.", rich_help_panel=_SPLIT)] = 0,
    scheme: Annotated[str, typer.Option(help="gensat, diffusionsat or geosynth.", rich_help_panel=_SHARDS)] = "gensat",
    form: Annotated[str, typer.Option("--format", help="auto, jpg, png or tif.", rich_help_panel=_SHARDS)] = "auto",
    quality: Annotated[int, typer.Option(help="Of a JPEG.", min=1, max=100, rich_help_panel=_SHARDS)] = 95,
    max_shard_mb: Annotated[float, typer.Option(help="Size of a shard.", rich_help_panel=_SHARDS)] = 256.0,
    name: Annotated[
        str | None, typer.Option(help="Of the shards; that of the folder when not given.", rich_help_panel=_SHARDS)
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out wrong rows and damaged pictures, and count them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be packed; write nothing.")] = False,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack pictures, tables or GeoTIFF scenes into WebDataset shards, split by place."""
    from gensat.train.shards.pack import run
    from gensat.train.shards.places import Holdout
    from gensat.train.shards.plan import Options, plan
    from gensat.train.shards.record import Record, safe_key
    from gensat.train.shards.scenes import Cut
    from gensat.train.shards.tables import Reading
    from gensat.types import Acquisition

    screen = Screen(quiet=quiet, json=json)
    title = safe_key(name or out.absolute().name)
    base = Record("", Path(), source or title, caption=caption, klass=klass, licence=licence)
    base.acquisition = Acquisition(picture_gsd, date, cloud, sensor)
    wanted = Options(
        Reading(base, _columns(column or []), cloud_percent, date_pattern, folders),
        Cut(size, stride, gsd, crs, tuple(b.strip() for b in bands.split(",") if b.strip()), _scale(scale), date_pattern, align),
        Holdout(
            tuple(_box(text) for text in heldout or []), heldout_share, block_km, _numbers(heldout_numbers), straddle, split_seed
        ),
        layout, legend, layout_share, kind, scheme, form, quality, max_empty, max_shard_mb, title, skip_bad,
    )  # fmt: skip
    with screen.listening():
        planned = plan(sources, wanted)
        if dry_run:
            counts = planned.division.counts
            facts = {
                "samples": counts,
                "left_out": planned.division.dropped,
                "bad": planned.bad,
                "notes": planned.notes,
            }
            screen.result(facts, _readable(facts, "would be packed"))
            return
        with screen.progress(sum(planned.division.counts.values()), "packing") as tick:
            result = run(planned, out, overwrite=overwrite, tick=tick)
    found = result.describe()
    screen.result({"out": str(out), **found}, _readable(found, f"in {len(found['shards'])} shards in {out}"))


def check(
    shards: Shards,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for a page, contact sheet and map.")] = None,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what shards hold, and name every broken sample, repeated key, duplicate and overlap; exit 1 when not clean."""
    from gensat.cli._output import check_folder, make_folder
    from gensat.train.shards import report
    from gensat.train.shards.check import check as look
    from gensat.train.shards.check import count_samples

    screen = Screen(quiet=quiet, json=json)
    if out is not None:
        check_folder(out, report.FILES, overwrite=overwrite)
    with screen.listening(), screen.progress(count_samples(shards), "checking") as tick:
        found = look(shards, tick=tick)
    text = report.lines(found)
    if out is not None:
        make_folder(out)
        report.write(found, out, overwrite=overwrite)
        text += f"\nwith pictures: {out / 'index.html'}"
    screen.result({"out": None if out is None else str(out), **found.describe()}, text)
    if not found.clean:
        raise typer.Exit(1)


def _readable(found: dict[str, Any], where: str) -> str:
    lines = [
        f"{found['samples'].get('train', 0)} training and {found['samples'].get('heldout', 0)} held-out samples {where}"
    ]
    if found.get("layouts"):
        lines.append(f"{found['layouts']} have a layout")
    if found["left_out"]:
        lines.append("left out: " + ", ".join(f"{count} ({why})" for why, count in found["left_out"].items()))
    bad = list(found["bad"].items())
    lines += [f"wrong: {who}: {why}" for who, why in bad[:_SHOWN]]
    notes = list(found["notes"])
    lines += [f"note: {note}" for note in notes[:_SHOWN]]
    more = max(0, len(bad) - _SHOWN) + max(0, len(notes) - _SHOWN)
    if more:
        lines.append(f"... and {more} more in pack.json")
    return "\n".join(lines)


def _columns(given: list[str]) -> dict[str, str]:
    from gensat.errors import InputError

    pairs = [text.partition("=") for text in given]
    if wrong := [what for what, sign, name in pairs if not (sign and name)]:
        raise InputError(f"--column {wrong[0]} names no column; write WHAT=COLUMN, such as caption=description")
    return {what.strip(): name.strip() for what, _, name in pairs}


def _scale(text: str | None) -> tuple[float, float] | str | None:
    from gensat.errors import InputError

    if text is None or text == "auto":
        return text
    try:
        low, high = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise InputError(f"--scale {text!r} is no range; give LOW,HIGH such as 0,3000, or auto")
    return low, high


def _box(text: str) -> tuple[float, float, float, float]:
    from gensat.errors import InputError

    try:
        west, south, east, north = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"--heldout {text!r} is no box; give 'WEST SOUTH EAST NORTH' in degrees") from None
    return west, south, east, north


def _numbers(text: str | None) -> tuple[int, int] | None:
    from gensat.errors import InputError

    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise InputError(f"--heldout-numbers {text!r} is no range; give FIRST-LAST such as 70-79")
    return int(first), int(last)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    data = typer.Typer(help="Training data: pack it into shards, and check what shards hold.", no_args_is_help=False)
    data.command()(pack)
    data.command()(check)
    app.add_typer(data, name="data")
