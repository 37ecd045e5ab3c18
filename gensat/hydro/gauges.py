"""Points at which the level of a flood is read while it runs: from a file, and to a csv."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyogrio.raw
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from gensat.errors import InputError
from gensat.geo.crs import parse_crs, project
from gensat.geo.raster import require_file
from gensat.hydro.domain import Domain

_NAMES = ("name", "id", "gauge", "station", "code")


def read_gauges(path: str | os.PathLike[str], domain: Domain) -> dict[str, tuple[int, int]]:
    """(row, column) of the cells of points, by name.

    Args:
        path: a csv with columns lon, lat (degrees) or x, y (in the CRS of the domain), or a vector file of points; a column
            ``name`` or ``id`` names them, else they are numbered from 0.
        domain: where.

    Raises:
        InputError: unreadable, no points, or a point outside the domain.
    """
    path = require_file(path)
    try:
        meta, _, geometry, columns = pyogrio.raw.read(path, force_2d=True)
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as points; give a csv with lon, lat or x, y, or a vector file"
        ) from error
    values = {str(n).strip().lower(): v for n, v in zip(meta["fields"], columns, strict=True)}
    named = next((values[name] for name in _NAMES if name in values), None)
    if geometry is not None and len(geometry):
        points = shapely.centroid(shapely.from_wkb(geometry))
        x, y, crs = shapely.get_x(points), shapely.get_y(points), parse_crs(meta["crs"])
    else:
        degrees = {"lon", "lat"} <= set(values)
        pair = [values.get(name) for name in (("lon", "lat") if degrees else ("x", "y"))]
        try:
            x, y = (np.asarray([float(str(v)) for v in one]) for one in pair if one is not None)
        except (TypeError, ValueError):
            raise InputError(f"{path.name} has no numbers under lon and lat, or x and y; name its columns so") from None
        crs = parse_crs("EPSG:4326") if degrees else domain.crs
    if not len(x):
        raise InputError(f"{path.name} holds no points; give some in the domain")
    if domain.crs is not None and crs is not None:
        x, y = project(crs, domain.crs, x, y)
    found: dict[str, tuple[int, int]] = {}
    for i in range(len(x)):
        name = str(named[i]).strip() if named is not None else str(i)
        if name in found:
            raise InputError(f"gauge {name!r} is in {path.name} twice; give each its own name")
        try:
            found[name] = domain.cell_at(float(x[i]), float(y[i]))
        except InputError as error:
            raise InputError(f"gauge {name!r}: {error}") from error
    return found


def gauges_csv(times: Sequence[float], levels: Mapping[str, Sequence[float]]) -> bytes:
    """A csv of seconds and one column of levels in metres for each gauge."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seconds", *levels])
    for i, time in enumerate(times):
        writer.writerow([f"{time:g}", *(f"{one[i]:.4f}" for one in levels.values())])
    return text.getvalue().encode()
