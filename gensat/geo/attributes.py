"""From the attributes of vector features (landuse=forest, highway=residential) to layout classes and line widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gensat.errors import InputError
from gensat.geo.classes import (
    BARE,
    BUILDING,
    CLASSES,
    CROPLAND,
    LOW_VEGETATION,
    OTHER_GROUND,
    ROAD,
    SNOW,
    UNKNOWN,
    WATER,
    WETLAND,
    WOODLAND,
    class_code,
)

DEFAULT_WIDTH = 6.0
"""Metres: how wide a line is drawn whose legend does not say."""

_TABLE_KEYS = {"name", "attribute", "values", "rules", "default", "background", "width", "widths", "skip"}
_RULE_KEYS = {"attribute", "values", "default", "width", "widths"}


@dataclass(frozen=True)
class Rule:
    """What the values of one attribute mean.

    Args:
        attribute: name of the attribute.
        values: class of each value, in lower case.
        default: class of every other value that is present; None leaves such a feature to the next rule.
        widths: metres of a line with that value.
        width: metres of a line with any other value.
    """

    attribute: str
    values: Mapping[str, int]
    default: int | None = None
    widths: Mapping[str, float | int] = field(default_factory=dict)
    width: float | int = DEFAULT_WIDTH


@dataclass(frozen=True)
class AttributeLegend:
    """Attributes of vector features to classes; the first rule that fits counts.

    Args:
        name: appears in messages.
        rules: tried in order.
        default: class of a feature that no rule fits; None leaves it out.
        background: class of pixels that no feature covers, 0 (unknown) unless the layer is known to be complete.
        width: metres of lines of the default class.
        skip: attribute to values of features that cannot be seen from above, such as tunnels.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    default: int | None = None
    background: int = UNKNOWN
    width: float | int = DEFAULT_WIDTH
    skip: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def classify(self, attributes: Mapping[str, Any]) -> tuple[int, float] | None:
        """Class of a feature and its width in metres if it is a line; None when it is to be left out.

        A numeric attribute ``width`` of the feature itself (metres) goes before the width of the legend.
        """
        values = {key: _text(value) for key, value in attributes.items()}
        if any(values.get(attribute, "") in hidden for attribute, hidden in self.skip.items()):
            return None
        for rule in self.rules:
            value = values.get(rule.attribute, "")
            if value in ("", "no"):  # absent, or the OpenStreetMap way to say so
                continue
            code = rule.values.get(value, rule.default)
            if code is not None:
                return code, _own_width(values) or float(rule.widths.get(value, rule.width))
        return None if self.default is None else (self.default, _own_width(values) or float(self.width))


def attribute_legend(table: Mapping[str, Any], name: str) -> AttributeLegend:
    """Legend of a table.

    Args:
        table: ``{"attribute": "landuse", "values": {"forest": "woodland", ...}}`` or several such under ``"rules"``;
            beside them ``default`` (class of features that no rule fits), ``background`` (class where no feature is),
            ``width`` and ``widths`` (metres of lines, by value) and ``skip`` ({attribute: [values]}).
        name: of the legend, for messages.

    Raises:
        InputError: a key or class that does not exist, or a value of the wrong kind.
    """
    unknown = sorted(set(table) - _TABLE_KEYS)
    if unknown:
        raise InputError(f"legend {name!r} has unknown keys {', '.join(unknown)}; use {', '.join(sorted(_TABLE_KEYS))}")
    try:
        # In the short form the default counts for features without the attribute too, so it stays with the legend.
        parts = table.get("rules", [{k: table[k] for k in _RULE_KEYS - {"default"} if k in table}])
        rules = tuple(_rule(part, name) for part in parts if part.get("attribute"))
        default, background = table.get("default"), table.get("background", UNKNOWN)
        return AttributeLegend(
            str(table.get("name", name)),
            rules,
            None if default is None else class_code(default),
            class_code(background),
            float(table.get("width", DEFAULT_WIDTH)),
            {key: frozenset(map(_text, values)) for key, values in table.get("skip", {}).items()},
        )
    except InputError as error:
        raise InputError(f"legend {name!r} is wrong: {error}") from error
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            f"legend {name!r} is no table of attributes ({error}); "
            'write {"attribute": "landuse", "values": {"forest": "woodland"}}'
        ) from error


def is_attribute_table(table: Mapping[Any, Any]) -> bool:
    """Whether a legend table is about attributes of vectors, not codes of rasters."""
    return bool({"attribute", "rules", "background"} & set(table)) or (
        "default" in table and set(table) <= {"name", "default", "width"}
    )


def _rule(part: Mapping[str, Any], name: str) -> Rule:
    unknown = sorted(set(part) - _RULE_KEYS)
    if unknown:
        raise InputError(f"a rule has unknown keys {', '.join(unknown)}; use {', '.join(sorted(_RULE_KEYS))}")
    default = part.get("default")
    return Rule(
        str(part["attribute"]),
        {_text(value): class_code(code) for value, code in part.get("values", {}).items()},
        None if default is None else class_code(default),
        {_text(value): float(width) for value, width in part.get("widths", {}).items()},
        float(part.get("width", DEFAULT_WIDTH)),
    )


def _text(value: Any) -> str:
    """Comparable text of an attribute value: lower case, empty for missing ones, 3.0 as 3."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower()


def _own_width(values: Mapping[str, str]) -> float | None:
    try:
        width = float(values.get("width", "").removesuffix("m"))
    except ValueError:
        return None
    return width if 0 < width <= 100 else None  # a wider line could reach in from beyond vectors._MARGIN


def _all(code: int, *values: str) -> dict[str, int]:
    return dict.fromkeys(values, code)


_LANDUSE = {
    **_all(WOODLAND, "forest"),
    **_all(CROPLAND, "farmland", "orchard", "vineyard", "plant_nursery", "allotments"),
    **_all(
        LOW_VEGETATION, "grass", "meadow", "village_green", "recreation_ground", "cemetery", "greenfield", "flowerbed"
    ),
    **_all(OTHER_GROUND, "residential", "commercial", "industrial", "retail", "railway", "construction", "farmyard"),
    **_all(OTHER_GROUND, "brownfield", "garages", "education", "institutional", "port", "depot", "religious"),
    **_all(BARE, "quarry", "landfill"),
    **_all(WATER, "basin", "reservoir", "salt_pond", "aquaculture"),
}
_NATURAL = {
    **_all(WATER, "water", "bay", "strait", "spring", "hot_spring"),
    **_all(WOODLAND, "wood", "tree_row", "tree_group"),
    **_all(LOW_VEGETATION, "scrub", "grassland", "heath", "fell", "tundra", "shrubbery"),
    **_all(WETLAND, "wetland", "mud"),
    **_all(BARE, "sand", "beach", "shingle", "bare_rock", "scree", "rock", "dune", "shoal", "reef"),
    **_all(SNOW, "glacier"),
}
_HIGHWAY_WIDTHS = {
    "motorway": 12, "motorway_link": 6, "trunk": 10, "trunk_link": 6, "primary": 9, "primary_link": 6,
    "secondary": 8, "secondary_link": 6, "tertiary": 7, "tertiary_link": 6, "unclassified": 6, "residential": 6,
    "road": 6, "busway": 6, "raceway": 10, "living_street": 5, "pedestrian": 5, "service": 4, "track": 3,
    "cycleway": 2.5, "bridleway": 2, "footway": 2, "path": 1.5, "steps": 2,
}  # fmt: skip
_WATERWAY_WIDTHS = {"river": 15, "canal": 10, "tidal_channel": 8, "stream": 3, "drain": 2, "ditch": 1.5}

# The tags of OpenStreetMap as its wiki describes them. Widths are of one carriageway, which is how OpenStreetMap draws
# divided roads. A feature may also say its class itself, by name or number, in an attribute ``class``.
OPENSTREETMAP = AttributeLegend(
    "openstreetmap",
    (
        Rule("building", {}, default=BUILDING),
        Rule("highway", _all(ROAD, *_HIGHWAY_WIDTHS), widths=_HIGHWAY_WIDTHS),
        Rule(
            "aeroway", {**_all(ROAD, "runway", "taxiway"), "apron": OTHER_GROUND}, widths={"runway": 45, "taxiway": 20}
        ),
        Rule("natural", _NATURAL, widths={"tree_row": 8}),
        Rule("waterway", _all(WATER, *_WATERWAY_WIDTHS, "riverbank", "dock"), widths=_WATERWAY_WIDTHS),
        Rule("landuse", _LANDUSE),
        Rule("landcover", {"trees": WOODLAND, "grass": LOW_VEGETATION, "bare": BARE, "water": WATER}),
        Rule(
            "leisure",
            {
                **_all(LOW_VEGETATION, "park", "garden", "golf_course", "common", "pitch", "dog_park"),
                **_all(WATER, "swimming_pool"),
                **_all(OTHER_GROUND, "playground", "track"),
            },
        ),
        Rule("amenity", _all(OTHER_GROUND, "parking", "marketplace")),
        Rule("class", {**{name: code for code, name in enumerate(CLASSES)}, **{str(code): code for code in range(11)}}),
    ),
    skip={"tunnel": frozenset({"yes", "culvert", "building_passage"}), "location": frozenset({"underground"})},
)
"""The legend of vector layers when none is given."""
