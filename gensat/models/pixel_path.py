"""Trajectories of the published programs: csv files of pixels on the tile with the direction of travel."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

from gensat.errors import InputError


@dataclass(frozen=True)
class PixelPose:
    """A camera on a tile: continuous row and column in its pixels, heading in degrees clockwise from the tile's north."""

    row: float
    col: float
    heading: float


def read_pixel_path(path: str | os.PathLike[str], *, drawn_on: int = 256, size: int = 256) -> list[PixelPose]:
    """Read ``w,h,angle`` (Sat2Density++ and Sat3DGen: radians, 0 to the right, growing downwards) or ``x,y,angle``
    (Sat2Density: degrees clockwise from the top).

    Args:
        path: of the csv file.
        drawn_on: pixels across the picture that the path was drawn on, such as 640 for tiles of VIGOR.
        size: pixels across the tile that rows and columns are returned for.

    Raises:
        InputError: no such columns, no rows, or values that are no numbers.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); give a csv file") from error
    columns = set(rows[0]) if rows else set()
    names = next((n for n in (("w", "h", "angle"), ("x", "y", "angle")) if columns >= set(n)), None)
    if names is None:
        raise InputError(f"{path} has no rows with the columns w, h, angle (or x, y, angle); add the header line")
    poses = []
    for number, row in enumerate(rows, 2):
        try:
            across, down, angle = (float(row[name]) for name in names)
        except (TypeError, ValueError):
            raise InputError(f"line {number} of {path} holds no three numbers; correct it") from None
        if not all(map(math.isfinite, (across, down, angle))):
            raise InputError(f"line {number} of {path} is not finite; correct it")
        heading = math.degrees(angle) + 90 if names[0] == "w" else angle
        poses.append(PixelPose(down * size / drawn_on, across * size / drawn_on, heading % 360))
    return poses
