"""A scene and its light from what a person types: on the command line, in a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gensat.errors import InputError
from gensat.geo.elevation import HeightMap
from gensat.geo.sun import SunPosition, parse_time, sun_position
from gensat.render.environment import PanoramaLight
from gensat.render.light import SkyLight
from gensat.render.lighting import SceneLight
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.streets.dress import DressedLight, style_of
from gensat.render.streets.styles import STREET_TYPES
from gensat.types import GeoImage

NO_FACADES = "none"
"""What is said for plain walls."""

_DAY = SunPosition(150.0, 42.0)  # where nobody says when


def open_scene(
    image: GeoImage | Path,
    *,
    heights: Path | HeightMap | None = None,
    buildings: Path | None = None,
    terrain: str | None = None,
    smooth: bool = False,
    height_field: str | None = None,
    default_height: float | None = None,
    unit: str | None = None,
    gsd: float | None = None,
    layout: Path | None = None,
) -> Scene:
    """The scene that a person describes.

    Args:
        image: as seen from above.
        heights: a surface model; alone, or with footprints and terrain, where it shows the trees.
        buildings: footprints with heights.
        terrain: bare ground: a file, or a number of metres as text.
        smooth: the surface model as a smooth surface, not as columns.
        height_field: attribute of the height of a building.
        default_height: metres of buildings without one.
        unit: of the heights, where the file does not say it.
        gsd: metres per pixel of an image without a georeference.
        layout: class map of the image.

    Raises:
        InputError: options that do not go together, or as :class:`gensat.render.scene.Scene` makes them.
    """
    if heights is not None and (buildings is None) != (terrain is None):
        raise InputError(
            "heights are a surface model, which holds ground, buildings and trees; give them alone, or with both buildings and terrain"
        )
    if heights is None and buildings is None and terrain is None:
        raise InputError(
            "nothing is known of heights; give heights (a DSM), buildings with terrain (a DTM), or terrain 0 for level ground"
        )
    if smooth and (heights is None or buildings is not None):
        raise InputError("smooth is for heights of a surface model alone; leave it out")
    if (height_field or default_height is not None) and buildings is None:
        raise InputError("height-field and default-height are for buildings; leave them out, or give footprints")
    shared: dict[str, Any] = {"classes": layout, "gsd": gsd, "unit": unit}
    if heights is not None and buildings is None:
        return Scene.from_dsm(image, heights, surface="bilinear" if smooth else "columns", **shared)
    ground = 0.0 if terrain is None else number_or_path(terrain)
    if buildings is None:
        return Scene.from_terrain(image, ground, **shared)
    return Scene.from_buildings(
        image, buildings, ground, height=height_field, default_height=default_height, canopy=heights, **shared
    )


def open_light(
    scene: Scene,
    *,
    time: str | None = None,
    light: Path | None = None,
    cloud: float | None = None,
    visibility: float | None = None,
    facades: str | None = None,
    seed: int = 0,
) -> SceneLight | None:
    """What illuminates the scene; None leaves the light that the image was taken in.

    ``facades`` names a kind of street whose walls the buildings get (:class:`gensat.render.streets.dress.DressedLight`), drawn from ``seed``;
    ``none`` leaves walls plain, and by default footprints get what suits their size (:func:`gensat.render.streets.dress.style_of`). Without a time or a light
    they stand in a clear day's. Raises InputError for options that do not go together, a time that is none, or a sun for a scene on no place.
    """
    if time is not None and light is not None:
        raise InputError("time and light both say where the sun is; give one of them")
    style = facades_of(scene, facades)
    if time is None and light is None and style is None:
        if cloud is not None or visibility is not None:
            raise InputError("cloud and visibility need a sun and a sky; give a time, or a light with visibility")
        return None
    if light is not None and cloud is not None:
        raise InputError("the panorama of the light shows its own clouds; leave cloud out")
    sky: Any
    if light is not None:
        sky = PanoramaLight.open(light)
    else:
        sun = _DAY if time is None else _sun(scene, time)
        sky = SkyLight(Sky(sun.direction(scene.frame.convergence()), cloud_cover=0.0 if cloud is None else cloud))
    air: dict[str, Any] = {} if visibility is None else {"visibility": visibility}
    if style is not None:
        return DressedLight(scene, sky, style=style, seed=seed, **air)
    return SceneLight(sky, **air)


def facades_of(scene: Scene, facades: str | None) -> str | None:
    """The style of facades that a scene gets: the one that is named, by default the one that suits its footprints; None for plain walls.

    Raises:
        InputError: facades for a scene without footprints, or a style that there is not.
    """
    if facades == NO_FACADES:
        return None
    if not len(scene.buildings):
        if facades is not None:
            raise InputError("facades are for footprints; give buildings, or leave facades out")
        return None
    if facades is not None and facades not in STREET_TYPES:
        raise InputError(f"there is no style {facades!r} of facades; choose one of {', '.join(STREET_TYPES)}, or none")
    return style_of(scene) if facades is None else facades


def _sun(scene: Scene, time: str) -> SunPosition:
    moment = parse_time(time)
    if scene.frame.crs is None:
        raise InputError("the image has no georeference, so a time says nothing of the sun; give a light, or neither")
    return sun_position(scene.frame.place(0.0, 0.0), moment)


def number_or_path(text: str) -> float | Path:
    """What terrain was given as: metres of level ground, or a file."""
    try:
        return float(text)
    except ValueError:
        return Path(text)
