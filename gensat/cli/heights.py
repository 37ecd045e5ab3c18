"""``gensat heights``: an estimate of heights from an image from above."""

from __future__ import annotations

import time as clock
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries
from gensat.errors import InputError

_SUN, _OUT = "Sun", options.WRITING


class Method(str, Enum):
    """Where the heights come from."""

    model = "model"
    shadow = "shadow"
    constant = "constant"


def heights(
    image: options.Picture,
    out: Annotated[Path, typer.Option("--out", "-o", help="Surface model, .tif, metres.", rich_help_panel=_OUT)],
    method: Annotated[
        Method, typer.Option(help="model; shadow: lengths of shadows; constant: one height, to compare with.")
    ] = Method.model,
    model: Annotated[
        str,
        typer.Option(
            help="Height model, or a converted Sat2Density folder: shipped name, folder or cached hub id.",
            rich_help_panel=options.RUNNING,
        ),
    ] = "gensat-heights",
    terrain: Annotated[
        str | None, typer.Option(help="Bare ground (DTM): a raster, or a number of metres; level at 0.")
    ] = None,
    gsd: options.PictureGsd = None,
    sun: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Where the sun stood: degrees clockwise from true north, degrees up.",
            metavar="AZ EL",
            rich_help_panel=_SUN,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Or when the image was taken: 2024-06-21T09:00Z.", rich_help_panel=_SUN),
    ] = None,
    spread: Annotated[
        Path | None,
        typer.Option(help="Also write how unsure it is: .tif, metres, 68 percent.", rich_help_panel=_OUT),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Estimate heights from an image alone. A surface model of the place, where there is one, is always better.

    gensat heights city.tif --time 2024-06-21T09:00Z --terrain dtm.tif -o dsm.tif --spread spread.tif
    """
    screen = Screen(quiet, json)
    check_request(out, spread, method.value, overwrite=overwrite)
    began = clock.perf_counter()
    from gensat.geo.sun import SunPosition
    from gensat.pipelines.heights import estimate_heights
    from gensat.render.request import number_or_path

    hush_libraries()
    with screen.listening():
        found = estimate_heights(
            image,
            method=method.value,
            model=model,
            gsd=gsd,
            sun=None if sun is None else SunPosition(*sun),
            time=time,
            terrain=None if terrain is None else number_or_path(terrain),
            device=device,
        )
    for note in found.notes:
        screen.note(f"note: {note}")
    found.save(out, overwrite=overwrite)
    if spread is not None:
        found.save(spread, "spread", overwrite=overwrite)
    seconds = clock.perf_counter() - began
    data = summary(found, out, spread, seconds)
    text = (
        f"{out}  {data['width']} x {data['height']}, {data['lowest']:.1f} to {data['highest']:.1f} m above ground, "
        f"by {data['method']} in {seconds:.1f} s"
    )
    screen.result(data, text)


def check_request(out: Path, spread: Path | None, method: str, *, overwrite: bool) -> None:
    """Raise InputError for what can be found wrong before anything is read."""
    from gensat.files import check_output

    for path in (out, *([spread] if spread is not None else [])):
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise InputError(f"{path.name} cannot hold heights; end it with .tif")
        check_output(path, overwrite)
    if spread is not None and method != "model":
        raise InputError(f"method {method} says nothing of its spread; leave --spread out")
    if spread is not None and spread.absolute() == out.absolute():
        raise InputError("heights and spread have the same name; give --spread another")


def summary(found: Any, out: Path, spread: Path | None, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints."""
    import numpy as np

    low, middle, high = (float(v) for v in np.nanpercentile(found.above, (0, 50, 100)))
    return {
        "output": str(out),
        "spread": None if spread is None else str(spread),
        "method": found.provenance["method"],
        "model": found.provenance.get("model"),
        "accuracy": found.provenance.get("accuracy"),
        "width": found.image.width,
        "height": found.image.height,
        "lowest": low,
        "median": middle,
        "highest": high,
        "mean_spread": None if found.spread is None else float(np.nanmean(found.spread)),
        "sun": found.provenance["sun"],
        "notes": list(found.notes),
        "seconds": round(seconds, 3),
    }


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(heights)
