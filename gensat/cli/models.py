"""``gensat models``: which models are here, what one of them takes, and those of others as folders that load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen

if TYPE_CHECKING:
    from gensat.cli._request import Model
    from gensat.hub.spec import Signal


def list_models(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the models that ship with the package: name, licence, size, and the signals they take."""
    from gensat.hub.registry import models
    from gensat.hub.resolve import shipped

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "licence": spec.licence,
            "bytes": _size(shipped()[name]),
            "signals": list(spec.signals),
            "description": spec.description,
        }
        for name, spec in models().items()
    ]
    lines = [
        f"{row['name']}  {row['licence']}  {row['bytes'] / 1e6:.1f} MB  takes {', '.join(row['signals']) or 'nothing'}"
        for row in rows
    ]
    Screen(quiet, json).result({"models": rows}, "\n".join(lines) or "no models ship with this installation")


def show(
    name: Annotated[str, typer.Argument(help="Shipped name, folder or cached hub id.")] = "gensat-small",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a model takes and how: its spec."""
    from gensat.cli._request import inspect_model

    model = inspect_model(name)
    data = {
        **model.spec.to_dict(),
        "folder": str(model.folder),
        "bytes": _size(model.folder),
        "components": list(model.components),
        "schedulers": model.schedulers,
        "sensors": list(model.sensors),
    }
    Screen(quiet, json).result(data, "\n".join(_readable(model)))


def convert(
    source: Annotated[Path, typer.Argument(help="A published checkpoint (.pth, .safetensors), or the folder with it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.", rich_help_panel=options.WRITING)],
    variant: Annotated[
        str | None, typer.Option(help="Data set it was trained on, where the file does not say: cvact, cvusa, vigor.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, kept in the model's spec.")] = None,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a published checkpoint (Sat2Density, Sat2Density++, Sat3DGen) to a model folder of safetensors; no code in it is run."""
    from gensat.hub.convert import convert as convert_model

    screen = Screen(quiet, json)
    with screen.listening():
        made = convert_model(source, out, variant=variant, licence=licence, overwrite=overwrite)
    for note in made.notes:
        screen.note(f"note: {note}")
    for reason, names in made.left_out.items():
        screen.note(f"note: {len(names)} tensors left out ({reason})")
    data = {
        "model": made.spec.name,
        "folder": str(out),
        "class": type(made.model).__name__,
        "parameters": sum(p.numel() for p in made.model.parameters()),
        "licence": made.spec.licence,
        "left_out": {reason: list(names) for reason, names in made.left_out.items()},
        "notes": list(made.notes),
    }
    screen.result(data, f"{out}: {made.spec.description}; licence {made.spec.licence}")


def _readable(model: Model) -> list[str]:
    spec, defaults = model.spec, model.spec.defaults
    low, high = spec.size_limits
    rows = {
        "name": f"{spec.name} {spec.version}",
        "licence": spec.licence,
        "about": spec.description,
        "size": f"{_size(model.folder) / 1e6:.1f} MB in {model.folder}",
        "components": ", ".join(model.components),
        "image": f"{spec.native_size} x {spec.native_size} pixels, {low} to {high} in one piece, "
        f"multiples of {spec.multiple}; larger ones in windows of {spec.window} every {spec.window_stride}",
        "bands": ", ".join(spec.bands),
        "gsd": f"{spec.gsd_range[0]:g} to {spec.gsd_range[1]:g} m per pixel, {defaults.gsd:g} when not given",
        "sampling": f"{defaults.steps} steps, guidance {defaults.guidance_scale:g}"
        + ("" if defaults.place_guidance_scale is None else f", of the place {defaults.place_guidance_scale:g}"),
        "schedulers": ", ".join(model.schedulers),
        "sensors": ", ".join(model.sensors) or "none",
    }
    lines = [f"{label:<11} {text}" for label, text in rows.items() if text]
    return [*lines, "signals", *(f"  {name:<12} {_signal(signal)}" for name, signal in spec.signals.items())]


def _signal(signal: Signal) -> str:
    parts = [f"as {signal.route.replace('_', ' ')}"]
    if signal.values:
        values = ", ".join(f"{v.name} ({v.unit})" if v.unit else v.name for v in signal.values)
        parts.append(f"of {values}")
    if signal.range is not None:
        parts.append(f"in {signal.range[0]:g} to {signal.range[1]:g}")
    if signal.spatial != "none":
        parts.append(f"on the {signal.spatial}" + (f" ({signal.resampling})" if signal.resampling != "none" else ""))
    return " ".join(parts) + f"; unknown is {signal.null.replace('_', ' ')}, guidance: {signal.unconditional}"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def register(app: typer.Typer) -> None:
    """Adds the commands ``models list``, ``models show`` and ``models convert``."""
    group: Any = typer.Typer(help="Which models are here, what they take, and converting those of others.")
    group.command("list")(list_models)
    group.command("show")(show)
    group.command("convert")(convert)
    app.add_typer(group, name="models")
