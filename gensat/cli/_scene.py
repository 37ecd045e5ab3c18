"""Options of commands that work on a scene: an image, heights, light (:mod:`gensat.render.request` says what they mean)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HEIGHTS, LIGHT = "Heights", "Light"

Picture = Annotated[Path, typer.Argument(help="Satellite or aerial image: GeoTIFF, or a picture with --gsd.")]
Surface = Annotated[
    Path | None, typer.Option("--heights", help="Surface model (DSM): a raster in metres.", rich_help_panel=HEIGHTS)
]
Footprints = Annotated[
    Path | None, typer.Option("--buildings", help="Footprints with heights, any vector file.", rich_help_panel=HEIGHTS)
]
Terrain = Annotated[
    str | None,
    typer.Option(
        "--terrain", help="Bare ground: a raster in metres, or a number for level ground.", rich_help_panel=HEIGHTS
    ),
]
Smooth = Annotated[
    bool,
    typer.Option("--smooth", help="--heights as a smooth surface, not as columns with walls.", rich_help_panel=HEIGHTS),
]
Attribute = Annotated[
    str | None, typer.Option("--height-field", help="Attribute with the height of a building.", rich_help_panel=HEIGHTS)
]
DefaultHeight = Annotated[
    float | None,
    typer.Option("--default-height", help="Metres of buildings without a height.", rich_help_panel=HEIGHTS),
]
Unit = Annotated[
    str | None, typer.Option("--unit", help="Of the heights: m or ft, if the file says none.", rich_help_panel=HEIGHTS)
]
Gsd = Annotated[float | None, typer.Option("--gsd", help="Metres per pixel of an image without a georeference.")]
Layout = Annotated[Path | None, typer.Option("--layout", help="Class map of the image, as for generate.")]
Time = Annotated[
    str | None, typer.Option("--time", help="Sun and sky of a moment: 2024-06-21T09:00Z.", rich_help_panel=LIGHT)
]
Panorama = Annotated[
    Path | None,
    typer.Option("--light", help="Sun and sky of a panorama (.exr, .hdr, .jpg ...).", rich_help_panel=LIGHT),
]
Clouds = Annotated[
    float | None, typer.Option("--cloud", help="Cloud cover with --time, 0 to 1.", rich_help_panel=LIGHT)
]
Facades = Annotated[
    str | None,
    typer.Option(
        "--facades",
        help="Invent facades for --buildings: perimeter, suburb, downtown, terraces, industrial, village, ...",
        rich_help_panel=LIGHT,
    ),
]
Style = Annotated[int, typer.Option("--seed", help="Of what is invented.", rich_help_panel=LIGHT)]
Haze = Annotated[
    float | None, typer.Option("--visibility", help="Metres that one can see through the air.", rich_help_panel=LIGHT)
]
