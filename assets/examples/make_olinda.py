"""Makes ``olinda_dem.tif``: heights of Olinda, Brazil, in whole metres, 90 m a cell, from the data folder's DEM (public domain, USGS).

Run ``python -m gensat.assets.examples.make_olinda DATA_FOLDER`` after changing it.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio


def main(data: str) -> None:
    """Write the file beside this one."""
    with rasterio.open(Path(data) / "rasters" / "olinda_dem.tif") as source:
        heights, crs, transform = source.read(1), source.crs, source.transform
    whole = heights.astype(np.int16)
    if not np.array_equal(whole, heights):
        raise SystemExit("the heights are no whole metres any more")
    shape = {"height": heights.shape[0], "width": heights.shape[1], "count": 1, "dtype": "int16"}
    path = Path(__file__).with_name("olinda_dem.tif")
    with rasterio.open(
        path, "w", "GTiff", compress="deflate", predictor=2, crs=crs, transform=transform, **shape
    ) as file:
        file.write(whole, 1)
        file.units, file.descriptions = ("m",), ("elevation",)
        file.update_tags(TIFFTAG_COPYRIGHT="public domain (USGS)")


if __name__ == "__main__":
    main(sys.argv[1])
