"""``gensat generate``: satellite images from words, a place, a date and a map."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen
from gensat.errors import InputError, Interrupted
from gensat.team import Team

if TYPE_CHECKING:
    from gensat.cli._output import Output
    from gensat.types import GeoImage

_WHERE, _WHAT, _HOW, _RUN, _OUT = "Where", "What", "How", options.RUNNING, options.WRITING


class Format(str, Enum):
    """Formats of the files in a folder."""

    tif = "tif"
    png = "png"
    jpg = "jpg"


def generate(
    prompt: Annotated[str, typer.Argument(help="What to see, in words; may be empty.", show_default=False)],
    out: Annotated[str, typer.Option("--out", "-o", help="File (.tif, .png, .jpg) or folder.", rich_help_panel=_OUT)],
    lon: Annotated[
        float | None, typer.Option(help="Longitude of the centre, degrees east.", rich_help_panel=_WHERE)
    ] = None,
    lat: Annotated[
        float | None, typer.Option(help="Latitude of the centre, degrees north.", rich_help_panel=_WHERE)
    ] = None,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            help="Box in degrees instead of a centre.", metavar="WEST SOUTH EAST NORTH", rich_help_panel=_WHERE
        ),
    ] = None,
    gsd: Annotated[float | None, typer.Option(help="Metres per pixel.", rich_help_panel=_WHERE)] = None,
    width: Annotated[int | None, typer.Option(help="Pixels across.", rich_help_panel=_WHERE)] = None,
    height: Annotated[int | None, typer.Option(help="Pixels down.", rich_help_panel=_WHERE)] = None,
    crs: Annotated[
        str | None, typer.Option(help="Projected CRS in metres; default: the UTM zone.", rich_help_panel=_WHERE)
    ] = None,
    snap: Annotated[
        bool, typer.Option("--snap", help="Move the origin onto the noise grid.", rich_help_panel=_WHERE)
    ] = False,
    date: Annotated[str | None, typer.Option(help="YYYY, YYYY-MM or YYYY-MM-DD.", rich_help_panel=_WHAT)] = None,
    cloud: Annotated[float | None, typer.Option(help="Cloud cover, 0 to 1.", rich_help_panel=_WHAT)] = None,
    sensor: Annotated[str | None, typer.Option(help="A sensor the model knows.", rich_help_panel=_WHAT)] = None,
    layout: Annotated[
        Path | None, typer.Option(help="Class map: GeoTIFF, PNG, GeoJSON, GeoPackage ...", rich_help_panel=_WHAT)
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="What its codes mean: a name or a file.", rich_help_panel=_WHAT)
    ] = None,
    edges: Annotated[Path | None, typer.Option(help="Edge picture of the image's size.", rich_help_panel=_WHAT)] = None,
    negative: Annotated[str, typer.Option(help="What not to see, in words.", rich_help_panel=_WHAT)] = "",
    controlnet_scale: Annotated[
        float | None, typer.Option(help="Strength of layout and edges; 1 is normal.", rich_help_panel=_HOW)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=_HOW)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is off.", rich_help_panel=_HOW)] = None,
    place_guidance: Annotated[
        float | None, typer.Option(help="Guidance scale of the place alone.", rich_help_panel=_HOW)
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="euler, ddim, dpm or flow.", rich_help_panel=_HOW)] = None,
    lora: Annotated[Path | None, typer.Option(help="LoRA file or folder.", rich_help_panel=_HOW)] = None,
    model: options.Model = "gensat-small",
    seed: options.Seed = None,
    count: Annotated[int, typer.Option(help="Number of images.", rich_help_panel=_RUN)] = 1,
    batch: Annotated[int, typer.Option(help="Images at a time: speed against memory.", rich_help_panel=_RUN)] = 4,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    format: Annotated[Format, typer.Option(help="Of the files in a folder.", rich_help_panel=_OUT)] = Format.tif,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make satellite images of a place, georeferenced and marked as synthetic.

    gensat generate "a harbor with boats" --lon -95.36 --lat 29.76 --gsd 0.5 -o harbor.tif
    """
    from gensat.cli import _request as request
    from gensat.cli._output import plan_output
    from gensat.cli._pipeline import load_pipeline
    from gensat.types import Acquisition, Place

    team = Team.here()
    screen = Screen(quiet, json, silent=team.rank > 0)
    with screen.listening():
        if (lon is None) != (lat is None):
            raise InputError("a place needs both --lon and --lat; give both, or --bbox")
        if batch < 1:
            raise InputError(f"--batch is {batch}; give 1 or more")
        if seed is None and team.size > 1:
            raise InputError(f"{team.size} processes make these images together; give --seed, so that they agree on it")
        place = None if lon is None or lat is None else Place(lon, lat)
        acquisition = Acquisition(gsd, date, cloud, sensor)
        seeds = request.choose_seeds(seed, count)
        output = plan_output(out, seeds, suffix=f".{format.value}", overwrite=overwrite)
        chosen = request.inspect_model(model)
        where: dict[str, Any] = {"place": place, "bbox": bbox, "gsd": gsd, "crs": crs, "width": width, "height": height}
        maps: dict[str, Any] = {"layout": layout, "legend": legend, "edges": edges}
        request.check_conditions(
            chosen, prompt, **where, **maps, acquisition=acquisition, controlnet_scale=controlnet_scale
        )
        request.check_sampling(
            chosen, steps=steps, guidance=guidance, place_guidance=place_guidance, scheduler=scheduler
        )
        adapter = None if lora is None else request.check_lora(lora)
        call = {
            **where,
            **maps,
            "date": acquisition.date,
            "cloud_cover": cloud,
            "sensor": acquisition.sensor,
            "snap": snap,
            "negative_prompt": negative,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "place_guidance_scale": place_guidance,
            "controlnet_conditioning_scale": 1.0 if controlnet_scale is None else controlnet_scale,
        }
        began = time.perf_counter()
        pipe = load_pipeline(chosen, device=device, dtype=dtype.value, scheduler=scheduler, lora=adapter)
        loaded = time.perf_counter()
        outputs, notes, sheet = _make(pipe, prompt, call, seeds, batch, output, screen, team)
    for note in notes:
        screen.note(f"note: {note}")
    spec = chosen.spec
    data = {
        "model": {"name": spec.name, "version": spec.version, "licence": spec.licence},
        "prompt": prompt,
        "outputs": outputs,
        "contact_sheet": None if sheet is None else str(sheet),
        "notes": notes,
        "load_seconds": round(loaded - began, 3),
        "seconds": round(time.perf_counter() - loaded, 3),
    }
    lines = [_line(one) for one in outputs] + ([f"contact sheet {sheet}"] if sheet else [])
    screen.result(data, "\n".join(lines))


def _make(
    pipe: Any,
    prompt: str,
    call: Mapping[str, Any],
    seeds: list[int],
    batch: int,
    output: Output,
    screen: Screen,
    team: Team,
) -> tuple[list[dict[str, Any]], list[str], Path | None]:
    """Makes and writes this process's share of the images, ``batch`` at a time.

    Returns what all processes wrote, the notes of their pipelines, and the contact sheet, which process 0 writes.
    """
    from gensat.cli._output import ContactSheet

    outputs: list[dict[str, Any]] = []
    notes: list[str] = []
    sheet = ContactSheet()
    numbered = list(enumerate(seeds))
    groups = team.share([numbered[i : i + batch] for i in range(0, len(seeds), batch)])
    steps = (call["num_inference_steps"] or pipe.spec.defaults.steps) * len(groups)
    try:
        with screen.progress(steps, "generating") as advance:

            def on_step(_pipe: Any, _index: int, _time: Any, _values: dict) -> dict:
                advance()
                return {}

            for group in groups:
                own = [seed for _, seed in group]
                made = pipe([prompt] * len(group), seed=own, callback_on_step_end=on_step, **call)
                notes += [note for note in made.notes if note not in notes]
                for scene, (index, seed) in zip(made.scenes, group, strict=True):
                    path = output.save(index, scene)
                    if output.folder is not None:
                        sheet.add(scene, seed)
                    outputs.append(_describe(path, scene, seed))
    except KeyboardInterrupt:
        raise Interrupted(_interrupted(len(outputs), seeds, team)) from None
    if team.size > 1:
        screen.note(f"process {team.rank} of {team.size} made {len(outputs)} images")
    outputs = sorted(team.gather(outputs), key=lambda one: one["seed"])
    notes = list(dict.fromkeys(team.gather(notes)))
    sheet = ContactSheet.joined(team.gather([sheet]))
    return outputs, notes, output.save_sheet(sheet) if team.rank == 0 else None


def _interrupted(done: int, seeds: list[int], team: Team) -> str:
    """What was done, and how to have the rest."""
    count = len(seeds)
    if team.size > 1:
        return f"interrupted, process {team.rank} after {done} images; run it again with --overwrite"
    rest = f"--seed {seeds[min(done, count - 1)]} --count {max(count - done, 1)}"
    return f"interrupted after writing {done} of {count} images; {rest} makes the rest"


def _describe(path: Path, scene: GeoImage, seed: int) -> dict[str, Any]:
    """One written image for ``--json``: the CRS is a code or WKT, bounds are (left, bottom, right, top) in its units."""
    from gensat.geo.crs import crs_text

    placed = scene.crs is not None
    return {
        "path": str(path),
        "seed": seed,
        "width": scene.width,
        "height": scene.height,
        "gsd": scene.gsd,
        "crs": crs_text(scene.crs) if scene.crs is not None else None,
        "bounds": list(scene.bounds) if placed and scene.bounds is not None else None,
        "place": {name: round(value, 9) for name, value in scene.place.to_dict().items()} if scene.place else None,
    }


def _line(one: Mapping[str, Any]) -> str:
    gsd = "" if one["gsd"] is None else f" at {one['gsd']:.6g} m"
    where = one["crs"] or "no place"
    where = "own CRS" if where.endswith("]") else where  # WKT is for programs
    return f"{one['path']}  {one['width']} x {one['height']}{gsd}, {where}, seed {one['seed']}"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(generate)
