"""The kinds of street that can be generated: their measures, materials and what stands in them.

Measures are metres and (low, high) ranges that a scene draws from. They follow what is usual for the kind of place, not any one city.
"""

from __future__ import annotations

from dataclasses import dataclass

from gensat.errors import InputError

Range = tuple[float | int, float | int]


@dataclass(frozen=True)
class StreetType:
    """One kind of street.

    Args:
        name: by which it is asked for.
        filler: how blocks are filled, a function of :mod:`gensat.render.streets.blocks`.
        block: length and depth of blocks.
        road: width of the carriageway.
        pavement: width of the pavement on either side; 0 for none.
        floors: number of floors.
        facades: names of facade styles (:mod:`gensat.render.streets.facades`).
        roofs: flat, gable, hip.
        region: (west, south, east, north) in degrees in which the place is drawn; it decides sun and CRS.
        trees: kinds of trees (:mod:`gensat.render.streets.things`).
        avenue: distance of street trees, 0 for none.
        bend: metres by which streets leave the straight line.
        relief: metres between low and high ground.
        parking: share of kerbs where cars stand.
        lamps: distance of street lamps.
        markings: ``eu`` (white), ``us`` (yellow centre line) or ``none``.
        carriageway: material of the road (:mod:`gensat.render.streets.surface`).
        footway: material of the pavement.
        yard: material of what is not built on.
        median: width of a planted strip in the middle of the main street; 0 for none.
        water: whether one side of the main street is water.
        held_out: kept for testing; :class:`gensat.render.streets.scenes.StreetScenes` leaves it out unless asked.
    """

    name: str
    filler: str
    block: tuple[Range, Range]
    road: Range
    pavement: Range
    floors: tuple[int, int]
    facades: tuple[str, ...]
    roofs: tuple[str, ...]
    region: tuple[float | int, float | int, float | int, float | int]
    trees: tuple[str, ...]
    avenue: float | int = 0.0
    bend: float | int = 0.0
    relief: float | int = 1.0
    parking: float | int = 0.5
    lamps: float | int = 28.0
    markings: str = "eu"
    carriageway: str = "asphalt"
    footway: str = "slabs"
    yard: str = "grass"
    median: float | int = 0.0
    water: bool = False
    held_out: bool = False


_EUROPE = (-1.0, 44.0, 20.0, 54.0)
_AMERICA = (-115.0, 31.0, -77.0, 43.0)
_TROPICS = (25.0, -10.0, 40.0, 6.0)

STREET_TYPES: dict[str, StreetType] = {
    kind.name: kind
    for kind in (
        StreetType(
            "perimeter",
            "perimeter",
            ((60, 95), (50, 70)),
            (8, 11),
            (2.5, 4),
            (4, 6),
            ("plaster", "stone", "brick"),
            ("flat", "gable"),
            _EUROPE,
            ("round", "oval"),
            avenue=14,
            bend=2,
            parking=0.75,
            yard="grass",
        ),
        StreetType(
            "suburb",
            "detached",
            ((90, 140), (60, 75)),
            (8, 10),
            (1.2, 1.6),
            (1, 2),
            ("siding", "brickhouse"),
            ("gable", "hip"),
            _AMERICA,
            ("round", "oval", "conifer"),
            avenue=17,
            bend=10,
            relief=3,
            parking=0.12,
            lamps=45,
            markings="none",
            footway="concrete",
        ),
        StreetType(
            "downtown",
            "towers",
            ((70, 100), (60, 80)),
            (13, 17),
            (4, 6),
            (6, 30),
            ("curtain", "concrete", "stone"),
            ("flat",),
            _AMERICA,
            ("round",),
            avenue=18,
            parking=0.5,
            lamps=30,
            markings="us",
            footway="concrete",
            yard="concrete",
        ),
        StreetType(
            "terraces",
            "terraces",
            ((90, 130), (46, 54)),
            (7, 8.5),
            (1.8, 2.4),
            (2, 3),
            ("brickterrace",),
            ("gable",),
            (-4.0, 51.0, 0.5, 54.0),
            ("round", "conifer"),
            bend=5,
            relief=4,
            parking=0.85,
            lamps=30,
            yard="grass",
        ),
        StreetType(
            "industrial",
            "sheds",
            ((110, 150), (80, 110)),
            (10, 13),
            (1.5, 2),
            (1, 1),
            ("metal", "concrete"),
            ("flat", "gable"),
            _EUROPE,
            ("conifer", "round"),
            parking=0.3,
            lamps=40,
            footway="concrete",
            yard="oldasphalt",
        ),
        StreetType(
            "village",
            "village",
            ((70, 110), (60, 90)),
            (5.5, 7),
            (0, 1.4),
            (1, 2),
            ("plaster", "stonehouse", "timber"),
            ("gable",),
            (5.0, 43.0, 20.0, 50.0),
            ("round", "oval", "conifer"),
            bend=16,
            relief=6,
            parking=0.15,
            lamps=38,
            markings="none",
            footway="gravel",
            carriageway="oldasphalt",
        ),
        StreetType(
            "informal",
            "informal",
            ((45, 65), (34, 46)),
            (4.5, 6.5),
            (0, 0),
            (1, 2),
            ("adobe", "block"),
            ("flat", "gable"),
            _TROPICS,
            ("palm", "round"),
            bend=9,
            relief=3,
            parking=0.06,
            lamps=40,
            markings="none",
            carriageway="dirt",
            footway="dirt",
            yard="dirt",
        ),
        StreetType(
            "boulevard",
            "perimeter",
            ((80, 120), (55, 75)),
            (20, 24),
            (5, 7),
            (5, 7),
            ("stone", "plaster"),
            ("flat", "gable"),
            (1.0, 40.0, 17.0, 50.0),
            ("oval", "round"),
            avenue=9,
            parking=0.7,
            lamps=24,
            footway="pavers",
            median=4.0,
        ),
        StreetType(
            "strip",
            "strip",
            ((120, 160), (70, 90)),
            (15, 18),
            (1.5, 2),
            (1, 2),
            ("shed", "concrete", "brickhouse"),
            ("flat",),
            _AMERICA,
            ("round", "palm"),
            parking=0.0,
            lamps=38,
            markings="us",
            footway="concrete",
            yard="asphalt",
            relief=0.5,
        ),
        StreetType(
            "oldtown",
            "perimeter",
            ((34, 52), (30, 44)),
            (4, 6),
            (1, 1.4),
            (3, 4),
            ("plaster", "stonehouse"),
            ("gable",),
            (-8.0, 38.0, 18.0, 46.0),
            ("round",),
            bend=8,
            relief=3,
            parking=0.12,
            lamps=20,
            markings="none",
            carriageway="cobbles",
            footway="slabs",
            yard="pavers",
        ),
        StreetType(
            "estate",
            "slabs",
            ((110, 150), (80, 110)),
            (7, 9),
            (2, 3),
            (5, 11),
            ("panel", "concrete"),
            ("flat",),
            (12.0, 48.0, 37.0, 58.0),
            ("round", "oval", "conifer"),
            avenue=20,
            parking=0.7,
            lamps=34,
            held_out=True,
        ),
        StreetType(
            "waterfront",
            "perimeter",
            ((55, 85), (45, 60)),
            (8, 10),
            (4, 6),
            (4, 6),
            ("plaster", "brick", "stone"),
            ("flat", "gable"),
            (4.0, 40.0, 14.0, 56.0),
            ("oval", "round"),
            avenue=16,
            bend=3,
            parking=0.3,
            lamps=22,
            footway="slabs",
            carriageway="cobbles",
            water=True,
            held_out=True,
        ),
    )
}
"""All street types by name; ``estate`` and ``waterfront`` are held out."""


def street_type(name: str) -> StreetType:
    """A street type by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in STREET_TYPES:
        raise InputError(f"there is no street type {name!r}; choose one of {', '.join(STREET_TYPES)}")
    return STREET_TYPES[name]
