"""``gensat evaluate``: the measured quality of a model on the held-out split, as JSON, Markdown and an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries

FILES = ("figures.json", "report.md", "index.html")


def evaluate(
    model: Annotated[str, typer.Argument(help="Shipped name or folder of a model.")] = "gensat-small",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("evaluation"),
    parts: Annotated[
        str, typer.Option(help="Comma-separated: autoencoder,distribution,place,layout,gsd,conditions.")
    ] = "autoencoder,distribution,place,layout,gsd,conditions",
    count: Annotated[int, typer.Option(help="Images of the distribution part; Frechet-64 needs 320.", min=16)] = 320,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own when not given.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; the model's own when not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; GENSAT_DATA when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 0,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a model: reconstruction, Frechet-64, memorisation, class, place, layout and gsd consistency."""
    from gensat.cli import _request as request
    from gensat.cli._output import check_folder
    from gensat.files import atomic_write, write_bytes

    screen = Screen(quiet=quiet, json=json)
    request.choose_seeds(seed, count)
    check_folder(out, FILES, overwrite=overwrite)
    chosen = request.inspect_model(model)
    request.check_sampling(chosen, steps=steps, guidance=guidance, place_guidance=None, scheduler=None)
    from gensat.hub.load import load
    from gensat.train.data import data_root
    from gensat.train.evaluate import Evaluation, check_parts
    from gensat.train.report import markdown, write_html

    wanted = [part.strip() for part in parts.split(",") if part.strip()]
    check_parts(wanted)
    root = data_root(data)
    hush_libraries()
    with screen.listening():
        pipe = load(chosen.folder, device=device, dtype=dtype.value)
        pipe.set_progress_bar_config(disable=True)
        call: dict[str, Any] = {
            k: v for k, v in (("num_inference_steps", steps), ("guidance_scale", guidance)) if v is not None
        }
        evaluation = Evaluation(pipe, out, root=root, count=count, seed=seed, say=screen.note, **call)
        report = evaluation.run(wanted)
    write_bytes(out / "report.md", markdown(report).encode(), overwrite=True)
    with atomic_write(out / "index.html", overwrite=True) as part:
        write_html(report, part)
    screen.result(
        {"model": report.model, **report.figures}, markdown(report) + f"\nwith pictures: {out / 'index.html'}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(evaluate)
