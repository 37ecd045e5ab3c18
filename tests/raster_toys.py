"""Images of known content, for tests of reading and writing."""

import numpy as np
from affine import Affine
from pyproj import CRS

from gensat.types import Acquisition, GeoImage

UTM15 = CRS.from_epsg(32615)
GRID = Affine(0.5, 0, 271_740.791, 0, -0.5, 3_294_589.4867784805)
OWN = CRS.from_proj4("+proj=tmerc +lat_0=0 +lon_0=25 +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +units=m +no_defs")
PROVENANCE = {
    "synthetic": True,
    "seed": 7,
    "guidance": 7.0,
    "model": "gensat-small",
    "prompt": 'a harbor = "boats" & <quays>, Zürich 😀\nsecond line',
    "negative": "",
    "number_as_text": "7",
    "word_as_text": "yes",
    "padded": " x ",
    "cloud_cover": None,
    "snapped": False,
    "place": {"lon": -95.36, "lat": 29.76},
    "crops": [[1, 2.0], [], {"a": None, "b": [True]}],
}


def toy_image(dtype="uint8", count=3, size=(20, 30), **values):
    rng = np.random.default_rng(0)
    array = rng.random((*size, count), dtype=np.float32)
    if dtype != "float32":
        array = (array * np.iinfo(dtype).max).astype(dtype)
    values = {"crs": UTM15, "transform": GRID, "provenance": PROVENANCE, **values}
    return GeoImage(array, acquisition=Acquisition(0.5, "2017-08", 0.1, "worldview"), **values)
