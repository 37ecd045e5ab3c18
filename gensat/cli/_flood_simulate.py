"""``gensat flood simulate``: from a DEM and a scenario to depth, extent, arrival, speed and hazard."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _flood_options as given
from gensat.cli import _options as options
from gensat.cli._console import Screen
from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.hydro.domain import Domain
    from gensat.hydro.ensembles import Ensemble
    from gensat.hydro.products import FloodProducts
    from gensat.hydro.scenario import Scenario
    from gensat.hydro.stepping import Progress

CHECKPOINT = "checkpoint.safetensors"
_OUT = options.WRITING
_WHOLE = 150  # bytes a cell that a bathtub of the whole takes, its files and polygons included (measured: 145)


@options.spread
def simulate(
    dem: Annotated[Path, typer.Argument(help="Bare ground: a raster of heights.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.", rich_help_panel=_OUT)],
    *,
    water: given.Water,
    solving: given.Solving,
    ground: given.Ground,
    uncertainty: given.Uncertainty,
    every: Annotated[
        float | None, typer.Option(help="Minutes between depths that are kept.", rich_help_panel=_OUT)
    ] = None,
    animation: Annotated[
        str | None, typer.Option(help="gif or mp4: the water as it comes.", rich_help_panel=_OUT)
    ] = None,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Flood a DEM: by a level, a storm surge, rain, or inflow. An interrupted run goes on with the same command.

    gensat flood simulate dem.tif --level 3.0 -o flood/

    gensat flood simulate dem.tif --rain 80mm/h --hours 2 --buildings houses.geojson -o flood/

    gensat flood simulate dem.tif --inflow -77.05 38.80 20 --hours 1 --boundary E=open -o flood/
    """
    screen = Screen(quiet, json)
    began = clock.perf_counter()
    scenario = given.scenario(water, solving)
    ensemble = uncertainty.made()
    check_request(out, scenario, ensemble, every, animation, overwrite=overwrite)
    with screen.listening():
        if in_blocks(dem, scenario, ground, ensemble, animation):
            data = _large(dem, out, scenario, ground, screen, overwrite=overwrite)
        else:
            domain = ground.domain(dem, corners=not scenario.moves)
            for note in domain.notes:
                screen.note(f"note: {note}")
            made, more = _run(domain, scenario, ensemble, out, every, animation, screen)
            more["command"] = {"dem": dem.name, "seconds": round(clock.perf_counter() - began, 3)}
            files = made.save(out, record=more, text=_caption(scenario), overwrite=overwrite)
            if animation is not None:
                from gensat.cli._flood_files import animate

                files.append(animate(domain, scenario, made, out, animation, overwrite=overwrite))
            (out / CHECKPOINT).unlink(missing_ok=True)
            for note in made.notes:
                screen.note(f"note: {note}")
            data = {"output": str(out), "method": scenario.chosen, **made.summary(), **more}
            data |= {"notes": [*domain.notes, *made.notes], "outputs": [str(file) for file in files]}
    balance = data.get("balance_m3")
    text = f"{out}/  {data['flooded_km2']:.4g} km2 flooded, {data['volume_m3']:.4g} m3, up to {data['max_depth_m']:.2f} m deep, by {scenario.chosen}"
    if balance is not None:
        text += f"; balance off by {abs(balance['relative_error']):.1e} of the water"
    screen.result(data, f"{text} in {clock.perf_counter() - began:.1f} s")


def check_request(
    out: Path,
    scenario: Scenario,
    ensemble: Ensemble | None,
    every: float | None,
    animation: str | None,
    *,
    overwrite: bool,
) -> None:
    """Raise InputError for what can be found wrong before anything is read."""
    from gensat.cli._output import check_folder
    from gensat.hydro.products import file_names

    if out.suffix and not out.is_dir():
        raise InputError(f"{out.name} is a file, but a flood has several; give a folder, such as -o {out.stem}/")
    if animation is not None and animation not in ("gif", "mp4"):
        raise InputError(f"an animation as {animation!r} is not known; give gif or mp4")
    if every is not None and not (scenario.moves and every > 0):
        raise InputError(
            "--every is the minutes between depths of a flood that moves; give it above 0, with --method inertial or swe"
        )
    if animation is not None and scenario.moves and every is None:
        raise InputError("an animation of a flood that moves needs --every, the minutes between its pictures")
    if animation is not None and scenario.chosen == "hand" and not isinstance(scenario.level, float):
        raise InputError("only a stage that is one number can rise; leave --animation out")
    if ensemble is not None and every is not None:
        raise InputError("depths are kept of one flood, not of an ensemble; leave --every or --ensemble out")
    names = file_names(dynamic=scenario.moves, ensemble=ensemble is not None, gauges=scenario.gauges is not None)
    names += [f"animation.{animation}"] if animation is not None else []
    check_folder(out, names, overwrite=overwrite)


def in_blocks(dem: Path, scenario: Scenario, ground: given.Ground, ensemble: Any, animation: str | None) -> bool:
    """Whether a bathtub is to go by blocks: asked for, or because the whole would not fit into memory."""
    if scenario.chosen != "bathtub":
        if ground.block is not None:
            raise InputError(f"--block is for bathtub: {scenario.chosen} needs the DEM as a whole; leave it out")
        return False
    import psutil

    from gensat.geo.raster import open_dataset, require_file

    with open_dataset(require_file(dem)) as file:
        needed, free = file.width * file.height * _WHOLE, psutil.virtual_memory().available
    if ground.block is None and needed < 0.8 * free:
        return False
    ground.require_plain()
    if ensemble is not None or animation is not None:
        raise InputError(
            "ensembles and animations are for DEMs that fit into memory; leave them out, or warp the DEM coarser"
        )
    return True


def _run(
    domain: Domain,
    scenario: Scenario,
    ensemble: Ensemble | None,
    out: Path,
    every: float | None,
    animation: str | None,
    screen: Screen,
) -> tuple[FloodProducts, dict[str, Any]]:
    from gensat.cli._output import make_folder
    from gensat.hydro.moments import forget, keeper
    from gensat.hydro.simulate import simulate as flood

    if ensemble is not None:
        from gensat.hydro.ensembles import probability

        with screen.progress(ensemble.members, "members") as step:
            return probability(domain, scenario, ensemble, on_member=step)
    if not scenario.moves:
        return flood(domain, scenario)
    make_folder(out)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        screen.note(f"note: goes on from {checkpoint}")
    else:
        forget(out)
    keep = None if every is None else keeper(domain, scenario, out)
    try:
        with _bar(screen) as show:
            return flood(
                domain, scenario, every=None if every is None else every * 60, on_output=keep, checkpoint=checkpoint, progress=show
            )  # fmt: skip
    except KeyboardInterrupt:
        if checkpoint.exists():
            screen.note(f"{checkpoint} holds the flood so far; the same command goes on from there")
        raise


def _large(
    dem: Path, out: Path, scenario: Scenario, ground: given.Ground, screen: Screen, *, overwrite: bool
) -> dict[str, Any]:
    import numpy as np

    from gensat.geo.crs import from_lonlat, pixel_to_world
    from gensat.hydro.blocks import BLOCK
    from gensat.hydro.large import flood_large
    from gensat.hydro.large_dem import LargeDem
    from gensat.hydro.surge import Surge

    level = scenario.water()
    with LargeDem.open(dem, unit=ground.unit, side=ground.block or BLOCK) as source:
        if isinstance(level, Surge):
            left, bottom, right, top = source.canvas.bounds
            level.require_near((left + right) / 2, (bottom + top) / 2, source.crs)
        points = []
        for lon, lat in scenario.sources:
            column, row = pixel_to_world(~source.transform, *from_lonlat(source.crs, lon, lat))
            if not (0 <= row < source.blocks.height and 0 <= column < source.blocks.width):
                raise InputError(f"lon={lon:g} lat={lat:g} lies outside the DEM; give --from a point on it")
            points.append((int(np.floor(row)), int(np.floor(column))))
        with screen.progress(3 * len(source.blocks), "blocks") as step:
            data = flood_large(
                source, out, level, points=points, sea=scenario.sea, neighbours=scenario.neighbours, void_share=ground.voids,
                facts=scenario.facts(), overwrite=overwrite, progress=step,
            )  # fmt: skip
    for note in data["notes"]:
        screen.note(f"note: {note}")
    return {"output": str(out), **data, "outputs": [str(out / name) for name in (*data["files"], "run.json")]}


@contextmanager
def _bar(screen: Screen) -> Iterator[Callable[[Progress], None]]:
    """A bar of the flood's time with time step, volume and balance; drawn only on a terminal."""
    import sys

    if screen.quiet or screen.silent or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("flood", total=1.0, said="")

        def show(now: Progress) -> None:
            said = f"{now.time:.0f} of {now.seconds:.0f} s  dt {now.dt:.3g} s  {now.volume:.4g} m3  balance {now.error:+.0e}"
            bar.update(task, completed=now.time / now.seconds, said=said)

        yield show


def _caption(scenario: Scenario) -> str:
    """Under the preview."""
    facts = scenario.facts()
    shown = [
        f"{name} {facts[name]}" for name in ("level", "surge", "tide", "rain", "hyetograph", "hours") if name in facts
    ]
    shown += [f"inflow {sum(one[2] for one in scenario.inflows):g} m3/s"] if scenario.inflows else []
    return f"{facts['method']}: {', '.join(shown)}"
