"""Manning's roughness n of the ground: by number, by raster, by land cover, by polygons.

The tables hold the middle of the ranges that the HEC-RAS 2D User's Manual gives for the classes of the United States' land
cover (NLCD), and Chow (1959, Open-Channel Hydraulics, table 5-6) for asphalt. Ranges are wide (0.10 to 0.20 under trees), and
shallow flow is rougher than deep flow: treat n as what a calibration would change first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rasterio.enums import Resampling
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo import vectors
from gensat.geo.canvas import Canvas
from gensat.geo.classes import (
    BARE,
    BUILDING,
    CROPLAND,
    LOW_VEGETATION,
    OTHER_GROUND,
    ROAD,
    SNOW,
    UNKNOWN,
    WATER,
    WETLAND,
    WOODLAND,
)
from gensat.geo.layout import load_layout
from gensat.geo.legend import Legend
from gensat.geo.raster import open_image, require_file
from gensat.geo.warp import warped
from gensat.types import GeoImage

DEFAULT = 0.035
"""n where nothing is known: short grass."""

LOWEST, HIGHEST = 0.005, 1.0
"""Glass is 0.01, dense brush under a thin sheet of water 0.8; what lies beyond is a slip of the unit."""

BY_CLASS: Mapping[int, float] = {
    UNKNOWN: DEFAULT,
    BUILDING: 0.15,  # built-up blocks whose buildings are not raised
    WOODLAND: 0.15,
    WATER: 0.035,
    ROAD: 0.016,
    LOW_VEGETATION: 0.04,
    CROPLAND: 0.035,
    WETLAND: 0.07,
    BARE: 0.027,
    SNOW: 0.02,
    OTHER_GROUND: 0.03,
}
"""n of the classes of :mod:`gensat.geo.classes`."""

BY_CODE: Mapping[str, Mapping[int, float]] = {
    "nlcd": {
        11: 0.035, 12: 0.02, 21: 0.04, 22: 0.09, 23: 0.12, 24: 0.16, 31: 0.027, 41: 0.15, 42: 0.12, 43: 0.14,
        51: 0.115, 52: 0.115, 71: 0.04, 72: 0.04, 73: 0.04, 74: 0.04, 81: 0.04, 82: 0.035, 90: 0.1, 95: 0.07,
    },
    "worldcover": {
        0: DEFAULT, 10: 0.14, 20: 0.115, 30: 0.04, 40: 0.035, 50: 0.12, 60: 0.027, 70: 0.02, 80: 0.035, 90: 0.07, 95: 0.1,
        100: 0.04,
    },
    "corine": {
        111: 0.16, 112: 0.09, 121: 0.12, 122: 0.016, 123: 0.12, 124: 0.02, 131: 0.03, 132: 0.04, 133: 0.03, 141: 0.04,
        142: 0.04, 211: 0.035, 212: 0.035, 213: 0.035, 221: 0.06, 222: 0.1, 223: 0.1, 231: 0.04, 241: 0.04, 242: 0.04,
        243: 0.05, 244: 0.1, 311: 0.15, 312: 0.12, 313: 0.14, 321: 0.04, 322: 0.115, 323: 0.115, 324: 0.12, 331: 0.027,
        332: 0.03, 333: 0.027, 334: 0.03, 335: 0.02, 411: 0.07, 412: 0.07, 421: 0.07, 422: 0.035, 423: 0.03, 511: 0.035,
        512: 0.035, 521: 0.03, 522: 0.03, 523: 0.03,
    },
}  # fmt: skip
"""n by the codes of land-cover maps whose classes are finer than gensat's."""

ATTRIBUTES = ("n", "manning", "mannings_n", "manning_n", "roughness")
"""Attributes of polygons that hold n; case does not matter."""


def check_manning(values: Any, name: str = "Manning's n") -> None:
    """InputError if any value is no roughness of a ground."""
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not LOWEST <= low <= high <= HIGHEST:  # NaN fails too
        wrong = low if not low >= LOWEST else high
        raise InputError(f"{name} is {wrong:g}; give {LOWEST:g} (smooth) to {HIGHEST:g} (dense brush) s m^(-1/3)")


def manning_on(
    canvas: Canvas,
    source: float | int | str | os.PathLike[str] | GeoImage,
    *,
    legend: str | os.PathLike[str] | Mapping[Any, Any] | None = None,
    background: float | int = DEFAULT,
) -> tuple[Float[np.ndarray, "h w"], list[str]]:
    """Manning's n on the grid of a canvas.

    Args:
        canvas: the grid of a domain.
        source: a number for everywhere; a raster of n (floating values); a raster of land-cover codes or a layout; or
            polygons with an attribute of ``ATTRIBUTES`` or, without one, with the classes of a map.
        legend: of the codes: ``nlcd``, ``worldcover`` or ``corine`` for ``BY_CODE``, a table ``{code: n}`` with values
            below 1, or what :func:`gensat.geo.legend.load_legend` takes, whose classes get ``BY_CLASS``. Default the
            classes 0 to 10 themselves.
        background: n where the source says nothing.

    Returns:
        (h, w) float64, and notes.

    Raises:
        InputError: no such file, unknown codes, n out of range, or no overlap with the canvas.
    """
    if isinstance(source, bool) or source is None:
        raise InputError(f"roughness {source!r} is none; give Manning's n or a file")
    if isinstance(source, (int, float)):
        check_manning(source)
        return np.full((canvas.height, canvas.width), float(source)), []
    if not isinstance(source, GeoImage):
        path = require_file(source)
        if path.suffix.lower() in vectors.SUFFIXES:
            found = _of_polygons(path, canvas, background) if legend is None else None
            return found or _of_classes(path, canvas, legend)
        source = open_image(path)
        name = path.name
    else:
        name = "the roughness"
    if source.array.shape[2] == 1 and source.array.dtype.kind == "f" and legend is None:
        return _of_values(source, canvas, name, background)
    table = BY_CODE.get(legend.lower()) if isinstance(legend, str) else None
    if table is None and isinstance(legend, Mapping):
        table = _number_table(legend)
    if table is None:
        return _of_classes(source, canvas, legend)
    return _of_codes(source, canvas, table, name)


def _of_classes(source: Any, canvas: Canvas, legend: Any) -> tuple[np.ndarray, list[str]]:
    layout = load_layout(source, canvas, legend=legend)
    table = np.array([BY_CLASS[code] for code in range(len(BY_CLASS))])
    return table[layout.class_map], list(layout.notes)


def _of_codes(image: GeoImage, canvas: Canvas, table: Mapping[int, float], name: str) -> tuple[np.ndarray, list[str]]:
    """By a table of codes."""
    if image.array.shape[2] != 1:
        raise InputError(f"{name} has {image.array.shape[2]} bands; give one band of land-cover codes")
    values = sorted(set(table.values()))
    check_manning(values)
    codes = np.rint(image.physical()[:, :, 0])
    valid = np.isfinite(codes)
    unknown = sorted(set(np.unique(codes[valid]).astype(int).tolist()) - set(table))
    if unknown:
        listed = ", ".join(map(str, unknown[:10]))
        raise InputError(
            f"{name} holds codes {listed} that the table of roughness does not list; add them with their n"
        )
    n = np.full(codes.shape, np.nan)
    for code, value in table.items():
        n[codes == code] = value
    made = GeoImage(n.astype(np.float32), crs=image.crs, transform=image.transform, valid=valid)
    return _of_values(made, canvas, name, DEFAULT)


def _of_values(image: GeoImage, canvas: Canvas, name: str, background: float | int) -> tuple[np.ndarray, list[str]]:
    """Floating values as they are: the nearest, or their mean where the canvas is coarser."""
    values = image.physical()[:, :, 0]
    check_manning(values[np.isfinite(values)], f"Manning's n of {name}")
    if image.crs is None or image.transform is None or canvas.crs is None:
        if values.shape != (canvas.height, canvas.width):
            raise InputError(
                f"{name} of {values.shape[1]} x {values.shape[0]} cells has no place in common with the DEM of "
                f"{canvas.width} x {canvas.height}; give the same size, or both with a CRS"
            )
        n = values
    else:
        coarser = (canvas.ground_gsd or 1.0) / (image.gsd or 1.0) > 1.5
        how = Resampling.average if coarser else Resampling.nearest
        n = warped(values, image.transform, image.crs, canvas, how)
    known = np.isfinite(n)
    if not known.any():
        raise InputError(f"{name} does not overlap the DEM; give the roughness of the place")
    missing = 100 * (1 - known.mean())
    notes = (
        [f"{name} says nothing of {missing:.3g} percent of the domain, where n is {background:g}"] if missing else []
    )
    return np.round(np.where(known, n, background).astype(np.float64), 6), notes  # float32 has no 0.15


def _of_polygons(path: Path, canvas: Canvas, background: float | int) -> tuple[np.ndarray, list[str]] | None:
    shapes, attributes, notes = vectors.read_polygons(path, canvas)
    found = []
    for shape, values in zip(shapes, attributes, strict=True):
        lower = {key.lower(): value for key, value in values.items()}
        value = next((lower[key] for key in ATTRIBUTES if lower.get(key) is not None), None)
        if value is not None:
            try:
                found.append((shape, float(value)))
            except (TypeError, ValueError):
                raise InputError(f"{path.name} holds a roughness of {value!r}; give numbers") from None
    if not found:
        return None
    check_manning([value for _, value in found], f"Manning's n of {path.name}")
    n = np.full((canvas.height, canvas.width), float(background))
    rasterize(sorted(found, key=lambda item: -item[0].area), out=n, transform=canvas.transform)
    return n, [*notes, f"outside the polygons of {path.name} n is {background:g}"]


def _number_table(table: Mapping[Any, Any]) -> Mapping[int, float] | None:
    """A table {code: n}; None if its values are classes."""
    try:
        read = {int(code): float(value) for code, value in table.items()}
    except (TypeError, ValueError):
        return None
    return None if isinstance(table, Legend) or any(value >= 1 or value == 0 for value in read.values()) else read
