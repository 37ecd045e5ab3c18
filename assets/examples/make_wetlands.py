"""Makes ``wetlands.geojson``: ponds and open ground of the place in North Dakota of the data folder, derived from its ten aerial pictures.

Water is what is dark, and not greener than it is blue, in the median of all dates: ponds green with algae are missed and count as farmland. The road was drawn along what can be seen.
Run ``python -m gensat.assets.examples.make_wetlands DATA_FOLDER`` after changing it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import shapes
from rasterio.vrt import WarpedVRT
from scipy.ndimage import gaussian_filter

from gensat.geo.crs import parse_crs, to_lonlat

CRS, GRID, HEIGHT, WIDTH = "EPSG:26914", Affine(5, 0, 485_905, 0, -5, 5_209_240), 718, 930
DARK, GREEN = 78, 12  # median brightness below which a pixel may be water, and how much greener than blue it may be
SMALLEST, SMOOTH = 1500.0, 7.5  # square metres; metres
ROADS = [[(485_905, 5_206_118), (490_555, 5_206_104)]]


def main(data: Path) -> None:
    """Write the file beside this one."""
    dates = []
    for path in sorted((data / "rasters" / "north_dakota").glob("naip_*.tif")):
        with (
            rasterio.open(path) as scene,
            WarpedVRT(scene, crs=CRS, transform=GRID, height=HEIGHT, width=WIDTH) as grid,
        ):
            dates.append(grid.read([1, 2, 3]))
    red, green, blue = gaussian_filter(np.median(dates, axis=0), (0, 1.5, 1.5))
    water = ((red + green + blue) / 3 < DARK) & (green - blue < GREEN)
    found = [shapely.geometry.shape(s) for s, value in shapes(water.astype(np.uint8), mask=water, transform=GRID)]
    ponds = [shapely.simplify(p.buffer(-SMOOTH).buffer(SMOOTH), 4) for p in found if p.area > SMALLEST]
    ground = shapely.box(GRID.c, GRID.f - 5 * HEIGHT, GRID.c + 5 * WIDTH, GRID.f)
    features = [feature(ground, landuse="farmland")]
    features += [feature(pond, natural="water") for pond in ponds if not pond.is_empty]
    features += [feature(shapely.LineString(road), highway="tertiary") for road in ROADS]
    text = json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"))
    Path(__file__).with_name("wetlands.geojson").write_text(text + "\n")


def feature(shape: shapely.Geometry, **tags: str) -> dict:
    """A shape of the grid's CRS as GeoJSON in degrees, to about a decimetre."""
    crs = parse_crs(CRS)
    assert crs is not None
    degrees = shapely.transform(shape, lambda xy: np.round(np.stack(to_lonlat(crs, xy[:, 0], xy[:, 1]), axis=1), 6))
    return {"type": "Feature", "properties": tags, "geometry": shapely.geometry.mapping(degrees)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
