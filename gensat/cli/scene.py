"""``gensat scene export``: the 3-D scene of an image and its heights, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensat.cli import _options as options
from gensat.cli import _scene as scenes
from gensat.cli._console import Screen
from gensat.errors import InputError


@options.spread
def export(
    image: options.Picture,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help=".glb, .obj (meshes), .ply, .las, .laz (points), .splats.ply, .tif (heights).",
            rich_help_panel=options.WRITING,
        ),
    ],
    spacing: Annotated[
        float | None, typer.Option(help="Metres between points or splats; the image's gsd when not given.")
    ] = None,
    facades: scenes.Facades = None,
    *,
    geometry: scenes.Geometry,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the scene for other programs, with its CRS and origin.

    gensat scene export city.tif --buildings footprints.geojson --terrain dtm.tif -o city.glb
    """
    screen = Screen(quiet, json)
    if spacing is not None and not spacing > 0:
        raise InputError(f"--spacing is {spacing:g}; give metres above 0")
    from gensat.files import check_output
    from gensat.render.export.scene import KINDS, save_scene
    from gensat.render.request import open_light
    from gensat.render.streets.dress import DressedLight

    check_output(out, overwrite)
    if not out.name.lower().endswith(tuple(KINDS)):
        raise InputError(f"{out.name} is no format of a scene; end it with one of {', '.join(KINDS)}")
    scene = geometry.scene(image)
    notes = scene.provenance["notes"]
    for note in notes:
        screen.note(f"note: {note}")
    light = None
    if out.suffix.lower() in (".glb", ".obj"):
        light = open_light(scene, facades=facades)
    elif facades is not None:
        raise InputError(f"facades are drawn on meshes; end {out.name} with .glb or .obj, or leave --facades out")
    dressed = light if isinstance(light, DressedLight) else None
    kind = save_scene(scene, out, facades=dressed, spacing=spacing, overwrite=overwrite)
    style = None if dressed is None else dressed.style
    data = {
        "output": str(out),
        "kind": kind,
        "geometry": scene.provenance["geometry"],
        "facades": style,
        "notes": notes,
    }
    screen.result(data, f"{out}  {kind}")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    group = typer.Typer(help="3-D scenes of an image and its heights.", no_args_is_help=True)
    group.command()(export)
    app.add_typer(group, name="scene")
