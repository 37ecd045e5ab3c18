"""Scenes from files: an image and what is known of heights, brought onto one metric grid.

The origin of the frame is the centre of the image; its z is the lowest ground, rounded down to a metre, so that local
heights are small numbers. Heights in the datum of the file are ``z + frame.origin[2]``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import shapely
import torch
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo.buildings import read_buildings
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING
from gensat.geo.display import to_rgb
from gensat.geo.elevation import HeightMap
from gensat.geo.layout import LayoutMap, load_layout
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.scene import SURFACE_MODEL, Scene
from gensat.render.trees import LOWEST, trees
from gensat.types import GeoImage

Path_: TypeAlias = str | os.PathLike[str]
Heights: TypeAlias = HeightMap | Path_
Layout: TypeAlias = LayoutMap | np.ndarray | Path_

_EAVES = 2.0  # metres around footprints in which a surface model still shows the building
_LOW = 10  # percentile of the edge of a surface model that is taken for ground, to go on beyond it


def scene_from_dsm(
    image: GeoImage | Path_,
    dsm: Heights,
    *,
    surface: Literal["bilinear", "columns"] = "columns",
    classes: Layout | None = None,
    gsd: float | int | None = None,
    unit: str | None = None,
) -> Scene:
    """Scene over a bare surface model, which holds buildings and trees.

    Args:
        image: as seen from above; metric CRS, or none together with ``gsd``.
        dsm: heights of the uppermost surface; brought onto the grid of the image.
        surface: ``"columns"``: flat cells with vertical walls, each pixel as high as the nearest cell; ``"bilinear"``: smooth.
        classes: layout of the place, anything :func:`gensat.geo.layout.load_layout` reads; default unknown.
        gsd: metres per pixel of an image without a georeference.
        unit: of the heights, if the file does not say it or says it wrongly.

    Raises:
        InputError: what :meth:`gensat.geo.elevation.HeightMap.on`, :class:`gensat.geo.canvas.Canvas` and
            :func:`gensat.geo.layout.load_layout` refuse.
    """
    picture, canvas = _canvas(image, gsd)
    heights, notes = _heights(dsm, canvas, unit, nearest=surface == "columns")
    rim = np.concatenate([heights[0], heights[-1], heights[:, 0], heights[:, -1]])
    frame, grid, field = _ground(canvas, heights, surface, float(np.percentile(rim, _LOW)))
    return _scene(picture, canvas, frame, grid, field, Prisms.none(), classes, notes, SURFACE_MODEL)


def scene_from_terrain(
    image: GeoImage | Path_,
    terrain: Heights | float | int = 0.0,
    *,
    classes: Layout | None = None,
    gsd: float | int | None = None,
    unit: str | None = None,
) -> Scene:
    """Scene over bare ground: heights of a terrain model, or one number for a level plane. Arguments as above."""
    picture, canvas = _canvas(image, gsd)
    heights, notes = _heights(terrain, canvas, unit)
    frame, grid, field = _ground(canvas, heights, "bilinear", None)
    return _scene(picture, canvas, frame, grid, field, Prisms.none(), classes, notes, "terrain")


def scene_from_buildings(
    image: GeoImage | Path_,
    buildings: Path_,
    terrain: Heights | float | int = 0.0,
    *,
    classes: Layout | None = None,
    gsd: float | int | None = None,
    unit: str | None = None,
    height: str | None = None,
    default_height: float | int | None = None,
    canopy: Heights | None = None,
) -> Scene:
    """Scene of bare ground with prisms over footprints, and trees.

    Each building stands on the lowest ground under its corners.

    Args:
        image: as seen from above, with a metric CRS.
        buildings: vector file of footprints, see :func:`gensat.geo.buildings.read_buildings`.
        terrain: heights of the bare ground, or one number for a level plane.
        classes: layout of the place; default building where footprints are, else unknown.
        gsd: metres per pixel of an image without a georeference, on which no footprints can be placed.
        unit: of the terrain heights.
        height: attribute that holds the height of a building in metres.
        default_height: metres of buildings without one.
        canopy: heights of the uppermost surface; trees stand for what is 2.5 m or more above the ground and 2 m from footprints
            (:func:`gensat.render.trees.trees`). Default no trees.

    Raises:
        InputError: as :func:`scene_from_dsm` and :func:`gensat.geo.buildings.read_buildings`.
    """
    picture, canvas = _canvas(image, gsd)
    if canvas.crs is None:
        raise InputError("footprints need an image with a place; give an image with a CRS")
    found = read_buildings(buildings, canvas, height=height, default=default_height)
    heights, notes = _heights(terrain, canvas, unit)
    frame, grid, field = _ground(canvas, heights, "bilinear", None)
    local = [
        shapely.transform(shape, lambda xy: np.stack(frame.from_crs(xy[:, 0], xy[:, 1]), axis=1))
        for shape in found.footprints
    ]
    base = np.array([_foot(field, shape) for shape in local])
    prisms = Prisms.of(local, base + found.heights, base, attributes=found.attributes)
    drawn = rasterize(
        [(shape, BUILDING) for shape in found.footprints], (canvas.height, canvas.width), transform=canvas.transform
    )
    notes += found.notes
    plants = Objects.none()
    if canopy is not None:
        surface, more = _heights(canopy, canvas, unit)
        covered = rasterize(
            [(shapely.buffer(shape, _EAVES), 1) for shape in found.footprints],
            drawn.shape,
            transform=canvas.transform,
            all_touched=True,
        )
        plants, count = trees(surface - heights, grid, covered > 0, field)
        notes += [
            *more,
            f"{count} trees stand for what the surface model holds {LOWEST:g} m above ground outside the footprints",
        ]
    return _scene(picture, canvas, frame, grid, field, prisms, classes, notes, "footprints", drawn, plants)


def _canvas(image: GeoImage | Path_, gsd: float | int | None) -> tuple[GeoImage, Canvas]:
    picture = image if isinstance(image, GeoImage) else GeoImage.open(image)
    canvas = Canvas.like(picture)
    if canvas.crs is None:
        gsd = gsd or picture.gsd
        if gsd is None:
            raise InputError("the image has no georeference, so its scale is unknown; give --gsd in metres per pixel")
        canvas = Canvas.local(picture.width, picture.height, gsd)
    elif gsd is not None and canvas.ground_gsd is not None and not math.isclose(gsd, canvas.ground_gsd, rel_tol=0.02):
        raise InputError(f"the image has {canvas.ground_gsd:.4g} m per pixel by its georeference; leave --gsd out")
    return picture, canvas


def _heights(
    source: Heights | float | int, canvas: Canvas, unit: str | None, *, nearest: bool = False
) -> tuple[np.ndarray, list[str]]:
    if isinstance(source, float | int):
        if not math.isfinite(source):
            raise InputError(f"ground height {source} is not finite; give metres")
        level = np.full((canvas.height, canvas.width), source, dtype=np.float32)
        return level, ["no terrain was given; the ground is a level plane"]
    name = "the heights" if isinstance(source, HeightMap) else f"heights {Path(source).name}"
    read = source if isinstance(source, HeightMap) else HeightMap.open(source, unit=unit)
    laid = read.on(canvas, name, nearest=nearest)
    return laid.heights, list(laid.notes)


def _ground(
    canvas: Canvas, heights: np.ndarray, surface: Literal["bilinear", "columns"], beyond: float | None
) -> tuple[SceneFrame, Grid, HeightField]:
    """Frame, grid and surface; ``beyond`` in the datum of the heights, None for edges that go on."""
    zero = float(math.floor(heights.min()))
    placed = canvas.image(np.zeros((canvas.height, canvas.width, 1), np.uint8))
    frame = SceneFrame.around(placed, zero)
    grid = Grid.centred(canvas.height, canvas.width, canvas.transform.a * frame.metre)
    local = torch.from_numpy((heights.astype(np.float64) - zero).astype(np.float32))
    return frame, grid, HeightField(local, grid, surface, "edge" if beyond is None else beyond - zero)


def _foot(field: HeightField, shape: shapely.Polygon) -> float:
    x, y = torch.as_tensor(shapely.get_coordinates(shape)).T
    return float(field.height_at(x, y).min())


def _scene(
    picture: GeoImage,
    canvas: Canvas,
    frame: SceneFrame,
    grid: Grid,
    terrain: HeightField,
    buildings: Prisms,
    classes: Layout | None,
    notes: list[str],
    geometry: str,
    drawn: np.ndarray | None = None,
    objects: Objects | None = None,
) -> Scene:
    known = drawn if drawn is not None else np.zeros((canvas.height, canvas.width), np.uint8)
    if classes is not None:
        layout = classes if isinstance(classes, LayoutMap) else load_layout(classes, canvas)
        notes = [*notes, *layout.notes]
        # Footprints are where the prisms stand, whatever the layout says.
        known = layout.class_map if drawn is None else np.where(drawn == BUILDING, BUILDING, layout.class_map)
    provenance: dict[str, Any] = {"synthetic": True, "geometry": geometry, "notes": list(dict.fromkeys(notes))}
    made = {key: value for key, value in picture.provenance.items() if key in ("model", "seed", "prompt")}
    return Scene(
        frame,
        torch.from_numpy(to_rgb(picture).astype(np.float32) / 255),
        terrain,
        buildings,
        Objects.none() if objects is None else objects,
        torch.from_numpy(known.astype(np.int64)),
        grid,
        None,
        {**{f"image_{key}": value for key, value in made.items()}, **provenance},
    )
