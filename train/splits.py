"""The one split of the data (``splits.json``): which samples are held out, by place or by number."""

import json
from functools import cache
from importlib.resources import files

Box = tuple[float, float, float, float]


@cache
def _rules() -> dict:
    return json.loads((files(__package__) / "splits.json").read_text())


def held_out(source: str, *, lon: float | None = None, number: int | None = None) -> bool:
    """Whether a sample of ``source`` belongs to the held-out part; ``lon`` in degrees, ``number`` as in its file name."""
    for rule in _rules()[source]:
        if "lon_above" in rule and lon is not None and lon > rule["lon_above"]:
            return True
        if "lon_below" in rule and lon is not None and lon < rule["lon_below"]:
            return True
        if "lon_between" in rule and lon is not None and rule["lon_between"][0] <= lon <= rule["lon_between"][1]:
            return True
        if (
            "number_between" in rule
            and number is not None
            and rule["number_between"][0] <= number <= rule["number_between"][1]
        ):
            return True
    return False


def held_out_boxes(raster: str) -> list[Box]:
    """Held-out boxes (west, south, east, north) of a raster or raster folder, in the raster's CRS; [] when all of it trains."""
    return [(float(w), float(s), float(e), float(n)) for w, s, e, n in _rules()["rasters"].get(raster, [])]
