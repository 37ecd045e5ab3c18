"""``gensat scene export``: the 3-D scene of an image and its heights, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensat.cli import _options as options
from gensat.cli import _scene as scenes
from gensat.cli._console import Screen
from gensat.errors import InputError


def export(
    image: scenes.Picture,
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
    heights: scenes.Surface = None,
    buildings: scenes.Footprints = None,
    terrain: scenes.Terrain = None,
    smooth: scenes.Smooth = False,
    height_field: scenes.Attribute = None,
    default_height: scenes.DefaultHeight = None,
    unit: scenes.Unit = None,
    gsd: scenes.Gsd = None,
    layout: scenes.Layout = None,
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
    from gensat.render.request import open_scene

    check_output(out, overwrite)
    if not out.name.lower().endswith(tuple(KINDS)):
        raise InputError(f"{out.name} is no format of a scene; end it with one of {', '.join(KINDS)}")
    scene = open_scene(
        image,
        heights=heights,
        buildings=buildings,
        terrain=terrain,
        smooth=smooth,
        height_field=height_field,
        default_height=default_height,
        unit=unit,
        gsd=gsd,
        layout=layout,
    )
    notes = scene.provenance["notes"]
    for note in notes:
        screen.note(f"note: {note}")
    kind = save_scene(scene, out, spacing=spacing, overwrite=overwrite)
    data = {"output": str(out), "kind": kind, "geometry": scene.provenance["geometry"], "notes": notes}
    screen.result(data, f"{out}  {kind}")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    group = typer.Typer(help="3-D scenes of an image and its heights.", no_args_is_help=True)
    group.command()(export)
    app.add_typer(group, name="scene")
