"""Points as PLY and LAS, surfaces from above as a GeoTIFF."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Float

from gensat.errors import InputError
from gensat.files import atomic_write, check_output, write_bytes
from gensat.geo.classes import BUILDING, LOW_VEGETATION, OTHER_GROUND, ROAD, WATER, WOODLAND
from gensat.render.export.place import place_of
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.mesh import Points
from gensat.types import Band, GeoImage

ASPRS = {BUILDING: 6, ROAD: 11, WATER: 9, WOODLAND: 5, LOW_VEGETATION: 3, OTHER_GROUND: 2}
"""LAS classification codes of layout classes (ASPRS LAS 1.4, table 17); the others are 2, ground."""

_LETTERS = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}


def save_points(points: Points, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes ``.ply`` (local metres, normals, colours, class, seen) or ``.las`` / ``.laz`` (true coordinates, CRS, ASPRS classes).

    Raises:
        InputError: no points, another extension, LAS without a CRS, or as :func:`gensat.files.check_output`.
        OutputError: the disk is full or the folder not writable.
    """
    path = check_output(path, overwrite)
    if not len(points):
        raise InputError("there are no points to export; give a smaller spacing or a scene with a surface")
    suffix = path.suffix.lower()
    if suffix == ".ply":
        rgb = np.round(points.colors.clip(0, 1) * 255)
        columns = {name: points.positions[:, k] for k, name in enumerate("xyz")}
        columns |= {name: points.normals[:, k] for k, name in enumerate(("nx", "ny", "nz"))}
        kinds = dict.fromkeys(columns, "f4")
        columns |= {name: rgb[:, k] for k, name in enumerate(("red", "green", "blue"))}
        columns |= {"class": points.classes, "seen": points.seen}
        write_bytes(
            path, encode_ply(columns, {**dict.fromkeys(columns, "u1"), **kinds}, place_of(points.frame)), overwrite
        )
    elif suffix in (".las", ".laz"):
        _save_las(points, path, overwrite)
    else:
        raise InputError(f"{path} is no name for points; end it with .ply, .las or .laz")


def save_dsm(
    heights: Float[np.ndarray, "h w"],
    grid: Grid,
    frame: SceneFrame,
    path: str | os.PathLike[str],
    *,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes heights on a grid of the scene as a GeoTIFF: float32 metres of the datum the scene's heights have, NaN for holes.

    Args:
        heights: local z, row 0 north.
        grid: where they lie in the frame.
        frame: of the scene.
        path: ending in ``.tif``.

    Raises:
        InputError: another extension, or as :func:`gensat.files.check_output`.
    """
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{path} is no name for a surface model; end it with .tif")
    left, _, _, top = grid.bounds
    x, y = frame.to_crs(left, top)
    step = grid.step / frame.metre
    values = (np.asarray(heights, np.float64) + frame.origin[2]).astype(np.float32)
    facts = {**(provenance or {}), "height_origin": frame.origin[2]}
    image = GeoImage(
        values,
        bands=[Band("height", unit="m")],
        crs=frame.crs,
        transform=Affine(step, 0, float(x), 0, -step, float(y)),
        provenance=facts,
    )
    image.save(path, overwrite=overwrite)


def encode_ply(columns: dict[str, np.ndarray], kinds: dict[str, str], place: dict[str, Any]) -> bytes:
    """Binary little-endian PLY of one element ``vertex``; ``kinds`` are f4, f8, u1 or i4 by column; the place is in comments."""
    count = len(next(iter(columns.values())))
    table = np.empty(count, dtype=[(name, "<" + kinds[name]) for name in columns])
    for name, values in columns.items():
        table[name] = values
    head = ["ply", "format binary_little_endian 1.0"]
    head += [f"comment gensat {name} {json.dumps(value)}" for name, value in place.items()]
    head += [f"element vertex {count}", *(f"property {_LETTERS[kinds[name]]} {name}" for name in columns), "end_header"]
    return ("\n".join(head) + "\n").encode("ascii") + table.tobytes()


def place_in(comments: list[str]) -> dict[str, Any]:
    """The place that :func:`encode_ply` wrote into the comments of a file; empty if none."""
    found = {}
    for comment in comments:
        words = comment.split(" ", 2)
        if len(words) == 3 and words[0] == "gensat":
            try:
                found[words[1]] = json.loads(words[2])
            except ValueError:
                continue
    return found


def _save_las(points: Points, path: Path, overwrite: bool) -> None:
    import laspy

    if points.frame.crs is None:
        raise InputError(
            "LAS holds true coordinates and this scene lies on no place; export .ply, or give an image with a CRS"
        )
    x, y = points.frame.to_crs(points.positions[:, 0], points.positions[:, 1])
    z = points.positions[:, 2] + points.frame.origin[2]
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.offsets = np.floor([x.min(), y.min(), z.min()])
    header.scales = np.full(3, 0.001)
    header.add_crs(points.frame.crs)
    header.generating_software = "gensat"
    made = laspy.LasData(header)
    made.x, made.y, made.z = x, y, z
    rgb = np.round(points.colors.clip(0, 1) * 65535).astype(np.uint16)
    made.red, made.green, made.blue = rgb.T
    codes = np.full(256, 2, np.uint8)
    for layout, code in ASPRS.items():
        codes[layout] = code
    made.classification = codes[points.classes]
    made.synthetic = np.ones(len(points), bool)
    with atomic_write(path, overwrite) as part:
        with part.open("wb") as file:
            made.write(file, do_compress=path.suffix.lower() == ".laz")
