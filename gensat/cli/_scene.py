"""Options of commands that work on a scene, and what they mean: an image, heights, light."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.render.scene import Scene

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
Haze = Annotated[
    float | None, typer.Option("--visibility", help="Metres that one can see through the air.", rich_help_panel=LIGHT)
]


def open_scene(
    image: Path,
    *,
    heights: Path | None = None,
    buildings: Path | None = None,
    terrain: str | None = None,
    smooth: bool = False,
    height_field: str | None = None,
    default_height: float | None = None,
    unit: str | None = None,
    gsd: float | None = None,
    layout: Path | None = None,
) -> Scene:
    """The scene that the options describe. Raises InputError for options that do not go together."""
    from gensat.render.scene import Scene

    if heights is not None and (buildings is not None or terrain is not None):
        raise InputError(
            "--heights is a surface model, which holds ground and buildings; give it alone, or --buildings and --terrain"
        )
    if heights is None and buildings is None and terrain is None:
        raise InputError(
            "nothing is known of heights; give --heights DSM, --buildings FILE with --terrain DTM, or --terrain 0 for level ground"
        )
    if smooth and heights is None:
        raise InputError("--smooth is for --heights; leave it out")
    if (height_field or default_height is not None) and buildings is None:
        raise InputError("--height-field and --default-height are for --buildings; leave them out, or give footprints")
    shared: dict[str, Any] = {"classes": layout, "gsd": gsd, "unit": unit}
    if heights is not None:
        return Scene.from_dsm(image, heights, surface="bilinear" if smooth else "columns", **shared)
    ground = 0.0 if terrain is None else _number_or_path(terrain)
    if buildings is None:
        return Scene.from_terrain(image, ground, **shared)
    return Scene.from_buildings(image, buildings, ground, height=height_field, default_height=default_height, **shared)


def open_light(
    scene: Scene,
    *,
    time: str | None = None,
    panorama: Path | None = None,
    cloud: float | None = None,
    visibility: float | None = None,
) -> Any:
    """What illuminates the scene; None leaves the light that the image was taken in.

    Raises InputError for options that do not go together, a time that is none, or a sun for a scene on no place.
    """
    if time is not None and panorama is not None:
        raise InputError("--time and --light both say where the sun is; give one of them")
    if time is None and panorama is None:
        if cloud is not None or visibility is not None:
            raise InputError("--cloud and --visibility need a sun and a sky; give --time, or --light with --visibility")
        return None
    if panorama is not None and cloud is not None:
        raise InputError("the panorama of --light shows its own clouds; leave --cloud out")
    from gensat.geo.sun import parse_time, sun_position
    from gensat.render.environment import PanoramaLight
    from gensat.render.light import SkyLight
    from gensat.render.lighting import SceneLight
    from gensat.render.sky import Sky

    if panorama is not None:
        light: Any = PanoramaLight.open(panorama)
    else:
        assert time is not None
        moment = parse_time(time)
        if scene.frame.crs is None:
            raise InputError(
                "the image has no georeference, so --time says nothing of the sun; use --light, or neither"
            )
        sun = sun_position(scene.frame.place(0.0, 0.0), moment)
        light = SkyLight(Sky(sun.direction(scene.frame.convergence()), cloud_cover=0.0 if cloud is None else cloud))
    return SceneLight(light, **({} if visibility is None else {"visibility": visibility}))


def _number_or_path(text: str) -> float | Path:
    try:
        return float(text)
    except ValueError:
        return Path(text)
