"""Makes ``village.geojson``: a small invented village by a pond, 128 m x 128 m, drawn in UTM and stored in degrees.

Run ``python -m gensat.assets.examples.make`` after changing it.
"""

import json
from pathlib import Path

from pyproj import Transformer

EAST, NORTH, ZONE = 627_000.0, 5_793_000.0, 32633  # south-west corner, in western Poland

ROAD = [(-10, 38), (60, 52), (140, 60)]
LANE = [(58, 52), (70, 100), (66, 140)]
HOUSES = [
    (18, 58, 11, 9),
    (40, 64, 9, 12),
    (84, 68, 12, 9),
    (104, 72, 10, 10),
    (30, 22, 12, 9),
    (88, 36, 10, 11),
    (80, 92, 9, 9),
    (48, 88, 9, 11),
]
POND = [(92, 2), (126, 4), (128, 26), (112, 30), (98, 22), (90, 12)]
WOOD = [(0, 84), (36, 92), (40, 128), (0, 128)]
GROUND = [(0, 0), (128, 0), (128, 128), (0, 128)]


def main() -> None:
    """Write the file beside this one."""
    to_lonlat = Transformer.from_crs(ZONE, 4326, always_xy=True)

    def degrees(points):
        return [[round(v, 7) for v in to_lonlat.transform(EAST + x, NORTH + y)] for x, y in points]

    def polygon(points, **tags):
        ring = degrees([*points, points[0]])
        return {"type": "Feature", "properties": tags, "geometry": {"type": "Polygon", "coordinates": [ring]}}

    def line(points, **tags):
        return {
            "type": "Feature",
            "properties": tags,
            "geometry": {"type": "LineString", "coordinates": degrees(points)},
        }

    features = [
        polygon(GROUND, landuse="residential"),
        polygon(WOOD, landuse="forest"),
        polygon(POND, natural="water"),
        line(ROAD, highway="secondary"),
        line(LANE, highway="residential"),
    ]
    for x, y, w, h in HOUSES:
        features.append(polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], building="house"))
    text = json.dumps({"type": "FeatureCollection", "features": features}, indent=1)
    (Path(__file__).parent / "village.geojson").write_text(text + "\n")


if __name__ == "__main__":
    main()
