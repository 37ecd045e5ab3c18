"""Trajectories of Sat2Density, Sat2Density++ and Sat3DGen: csv files of places on a tile's picture with the direction of travel."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

from gensat.errors import InputError

COLUMNS = (("w", "h"), ("x", "y", "angle"))
"""Columns that such a file has to have: of Sat2Density++ and Sat3DGen, and of Sat2Density."""
TILE = 256
"""Pixels of the pictures that paths are drawn on."""


@dataclass(frozen=True)
class PixelPose:
    """A camera on a picture: continuous row and column in its pixels, heading in degrees clockwise from its top, None if not told."""

    row: float
    col: float
    heading: float | None


def read_pixel_path(
    path: str | os.PathLike[str],
    *,
    drawn_on: int | tuple[int, int] = TILE,
    size: int | tuple[int, int] = TILE,
) -> list[PixelPose]:
    """Read ``w,h,angle`` (radians, 0 to the right, growing downwards) or ``x,y,angle`` (degrees clockwise from the top).

    ``w`` and ``h`` (``x`` and ``y``) are pixels from the upper left corner, as the published programs write them. Where all
    of them lie within -1 to 1 they are shares of half the picture from its middle, eastward and southward, as those programs have
    places inside. ``angle`` may be missing beside ``w`` and ``h``.

    Args:
        path: of the csv file.
        drawn_on: (width, height) or side of the picture that a path in pixels was drawn on, such as 640 for tiles of VIGOR.
        size: (width, height) or side of the picture that rows and columns are returned for.

    Raises:
        InputError: no such columns, no rows, values that are no numbers, or places outside of the picture.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); give a csv file") from error
    columns = {str(name).strip().lower(): name for name in rows[0]} if rows else {}
    names = next((n for n in COLUMNS if columns.keys() >= set(n)), None)
    if names is None:
        raise InputError(f"{path} has no rows with the columns w, h, angle (or x, y, angle); add the header line")
    chosen = [columns[name] for name in (*names[:2], "angle") if name in columns]
    table = [_numbers([row[name] for name in chosen], number, path) for number, row in enumerate(rows, 2)]
    shares = max(abs(v) for row in table for v in row[:2]) <= 1
    (wide, high), (width, height) = (v if isinstance(v, tuple) else (v, v) for v in (drawn_on, size))
    poses = []
    for number, (across, down, *angle) in enumerate(table, 2):
        right, below = ((across + 1) / 2, (down + 1) / 2) if shares else (across / wide, down / high)
        if not (0 <= right <= 1 and 0 <= below <= 1):
            raise InputError(
                f"line {number} of {path.name} lies outside of a picture of {wide} x {high} pixels; say how large the one was that "
                "the path was drawn on (drawn_on)"
            )
        heading = None
        if angle:
            heading = (math.degrees(angle[0]) + 90 if names[0] == "w" else angle[0]) % 360
        poses.append(PixelPose(below * height, right * width, heading))
    return poses


def _numbers(cells: list[str | None], number: int, path: Path) -> list[float]:
    try:
        values = [float(cell) for cell in cells]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"line {number} of {path.name} holds no {len(cells)} numbers; correct it") from None
    if not all(map(math.isfinite, values)):
        raise InputError(f"line {number} of {path.name} is not finite; correct it")
    return values
