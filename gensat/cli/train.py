"""``gensat train``: runs a recipe, with values changed on the command line."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries
from gensat.errors import InputError


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe (--list), or a .yaml file.", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder of the run.", rich_help_panel=options.WRITING)
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Name the recipes and leave.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train or fine-tune a model: from scratch, as a LoRA, a ControlNet for layouts, or a few-step student.

    gensat train lora data.shards=shards/ steps=500 --out runs/my-lora. Run again, it goes on where it was.
    """
    screen = Screen(quiet, json)
    from gensat.train.recipe import load_recipe, recipes

    if show or recipe is None:
        if not show:
            raise InputError("no recipe was given; gensat train --list names them")
        known = recipes()
        screen.result(known, "\n".join(f"{name:12} {about}" for name, about in known.items()))
        return
    chosen = load_recipe(recipe, changes)
    if out is not None:
        key = "out" if "out" in chosen else "save"
        chosen[key] = out
    hush_libraries()
    from gensat.train import logs

    logs.quiet = quiet
    name = chosen.get("training")
    if not isinstance(name, str) or name not in TRAININGS:
        raise InputError(f"the recipe says training: {name!r}; use one of {', '.join(TRAININGS)}")
    with screen.listening():
        outcome = import_module(f"gensat.train.{name}").train(chosen)
    screen.result(outcome.to_dict(), outcome.text())


TRAININGS = (
    "autoencoder",
    "denoiser",
    "controlnet",
    "compare",
    "finetune",
    "distill",
    "segmenter",
    "probe",
    "perceptual",
    "splats",
    "water",
    "flood",
    "flood_report",
    "heights",
    "street_pairs",
    "finisher",
    "refiner",
    "refiner_report",
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)
