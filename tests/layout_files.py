"""Layouts of known pixels, as files."""

import json

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import CRS

from gensat.geo.canvas import Canvas
from gensat.geo.crs import to_lonlat

UTM = CRS.from_epsg(32633)
LEFT, TOP = 500_000.0, 5_500_000.0
CANVAS = Canvas(40, 30, 2.0, UTM, Affine(2, 0, LEFT, 0, -2, TOP))


def square(row, col, height, width):
    """Polygon that covers exactly these pixels of CANVAS, in UTM."""
    x, y = LEFT + 2 * col, TOP - 2 * row
    return shapely.box(x, y - 2 * height, x + 2 * width, y)


def lonlat(shape):
    return shapely.transform(shape, lambda xy: np.stack(to_lonlat(UTM, xy[:, 0], xy[:, 1]), axis=1))


def geojson(path, features, crs=None):
    rows = [
        {"type": "Feature", "properties": tags, "geometry": json.loads(shapely.to_geojson(shape))}
        for shape, tags in features
    ]
    collection = {"type": "FeatureCollection", "features": rows}
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(collection))
    return path


def expected(row, col, height, width, code, fill=0):
    class_map = np.full((30, 40), fill, np.uint8)
    class_map[row : row + height, col : col + width] = code
    return class_map


def geotiff(path, array, transform=CANVAS.transform, crs=UTM, **profile):
    height, width = array.shape[-2:]
    count = array.shape[0] if array.ndim == 3 else 1
    profile = {"crs": crs and crs.to_wkt(), "transform": transform, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=array.dtype, **profile
    ) as file:
        file.write(array.reshape(count, height, width))
    return path
