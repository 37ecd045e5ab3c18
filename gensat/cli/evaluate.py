"""``gensat evaluate``: how good a model is, or a folder of images, as JSON, Markdown and one HTML page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries
from gensat.errors import InputError

DEFAULT = "gensat-small"
FILES = ("figures.json", "report.md", "index.html")
WHAT, NETWORKS = "What is measured", "Networks (nothing is downloaded)"


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Shipped names or folders of models, gensat-small when none; the first is compared with."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("evaluation"),
    real: Annotated[
        Path | None, typer.Option(help="Folder of real images, to compare with --fake.", rich_help_panel=WHAT)
    ] = None,
    lora: Annotated[
        list[Path] | None,
        typer.Option(
            help="LoRA, measured on the first model and compared with it. May be repeated.", rich_help_panel=WHAT
        ),
    ] = None,
    fake: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of generated images; no model is run. May be repeated.", rich_help_panel=WHAT),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Held-out images: a folder, or WebDataset shards; the project's data (GENSAT_DATA) when not given.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Training images, a folder or shards: for memorisation.", rich_help_panel=WHAT),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: autoencoder, distribution, second, text, relations, wording, regions, place, layout, gsd, conditions; "
            "for folders distribution, pairs, text, relations, regions, place. All when not given.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="Images a side; all when not given, of a model at most 320.", min=5, rich_help_panel=WHAT),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(help="GeoJSON of named polygons; cells of 10 degrees when not given.", rich_help_panel=WHAT),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="figures.json of an earlier evaluation, to compare with.", rich_help_panel=WHAT),
    ] = None,
    extractor: Annotated[
        str, typer.Option(help="lite0, lite2, inception:FILE or clip:FOLDER.", rich_help_panel=NETWORKS)
    ] = "lite0",
    clip: Annotated[
        Path | None, typer.Option(help="Folder of a CLIP: CLIP score and CMMD.", rich_help_panel=NETWORKS)
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(help="File of torchvision's AlexNet: LPIPS.", rich_help_panel=NETWORKS)
    ] = None,
    geolocator: Annotated[
        str | None,
        typer.Option(help="geoclip:CLIP_FOLDER or plonk:FOLDER,DINOV2_FOLDER.", rich_help_panel=NETWORKS),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own when not given.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; the model's own when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of all noise and all draws.")] = 0,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure models, or folders of images: distances to real images, perceptual and spectral errors, captions, relations, regions, places, layouts, copies of training images."""
    from gensat.cli import _request as request
    from gensat.cli._output import check_folder

    screen = Screen(quiet=quiet, json=json)
    for option, given in (("--data", data), ("--train", train)):
        if given is not None and not given.exists() and not set(str(given)) & set("*?[{"):
            raise InputError(f"{option} {given} does not exist; give a folder of images or WebDataset shards")
    request.choose_seeds(seed, count or 320)
    names = subjects(models, real, fake, lora)
    several = len(names) > 1
    check_folder(out, FILES, overwrite=overwrite)
    for name in names if several and out.is_dir() else ():
        check_folder(out / name, FILES, overwrite=overwrite)
    chosen = [] if fake else [request.inspect_model(model) for model in models or [DEFAULT]]
    for model in chosen:
        request.check_sampling(model, steps=steps, guidance=guidance, place_guidance=None, scheduler=None)
    adapters = [request.check_lora(path) for path in lora or []]
    hush_libraries()

    from gensat.cli._pipeline import load_pipeline
    from gensat.diffusion.precision import choose
    from gensat.train.evaluation.networks import Networks
    from gensat.train.evaluation.parts import OF_A_MODEL, OF_FOLDERS, check_parts
    from gensat.train.evaluation.prepare import about, of_folders, of_models
    from gensat.train.evaluation.publish import publish
    from gensat.train.evaluation.regions import read_regions
    from gensat.train.evaluation.report import Report

    every = OF_FOLDERS if fake else OF_A_MODEL
    wanted = list(every) if parts is None else [part.strip() for part in parts.split(",") if part.strip()]
    check_parts(wanted)
    earlier = None if against is None else Report.load(against)
    shared: dict[str, Any] = {
        "region": None if regions is None else read_regions(regions),
        "seed": seed,
        "say": screen.note,
        "about": about(),
    }
    networks = Networks(extractor, clip, lpips, geolocator, str(choose(device=device).device))
    with screen.listening():
        if fake:
            assert real is not None
            networks.check()
            evaluations = of_folders(real, dict(zip(names, fake, strict=True)), out, train, count, networks, **shared)
        else:
            call: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
            load = partial(load_pipeline, device=device, dtype=dtype.value)
            loaders = [partial(load, model) for model in chosen]
            loaders += [partial(load, chosen[0], lora=file) for file in adapters]
            evaluations = of_models(
                dict(zip(names, loaders, strict=True)),
                out,
                data,
                train,
                count,
                networks,
                **shared,
                **{k: v for k, v in call.items() if v is not None},
            )
        reports = {}
        for name, evaluation in evaluations:
            reports[name] = evaluation.run(wanted)
        found = publish(reports, out, earlier)
    screen.result(found.data, found.text + f"\nwith pictures: {out / 'index.html'}")


def subjects(
    models: list[str] | None, real: Path | None, fake: list[Path] | None, loras: list[Path] | None = None
) -> list[str]:
    """A name for each model and LoRA, or folder of generated images, none of them twice. Raises InputError."""
    if (real is None) != (not fake):
        raise InputError("--real and --fake belong together; give both, or neither and a model")
    if fake and (models or loras):
        raise InputError(
            f"model {(models or loras or [''])[0]} came with --fake, which runs no model; give one of the two"
        )
    if fake and real is not None:
        for folder in (real, *fake):
            if not folder.is_dir():
                raise InputError(f"{folder} is no folder; give a folder of images")
    named = [*(fake or models or [DEFAULT]), *(loras or [])]
    names = [
        Path(x).resolve().name if Path(x).is_dir() else Path(x).stem if x in (loras or []) else str(x) for x in named
    ]
    return [f"{name}-{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(evaluate)
