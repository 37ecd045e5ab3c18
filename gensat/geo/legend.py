"""The one layout legend, the tables that bring other maps' codes into it, and the legends of users."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from gensat.errors import InputError
from gensat.geo.attributes import OPENSTREETMAP, AttributeLegend, attribute_legend, is_attribute_table
from gensat.geo.classes import (
    BARE,
    BUILDING,
    CLASSES,
    COLOURS,
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
    colourise,
    from_colours,
)

__all__ = [
    "BARE",
    "BUILDING",
    "CLASSES",
    "COLOURS",
    "CROPLAND",
    "LEGENDS",
    "LOW_VEGETATION",
    "OTHER_GROUND",
    "ROAD",
    "SNOW",
    "UNKNOWN",
    "WATER",
    "WETLAND",
    "WOODLAND",
    "AttributeLegend",
    "Legend",
    "class_code",
    "colourise",
    "from_colours",
    "load_legend",
]


@dataclass(frozen=True)
class Legend:
    """Codes of a class-map raster to classes.

    Args:
        name: what the codes are called; appears in messages.
        codes: class (0 to 10) of each code.
        default: class of every code that is not listed; None makes such a code an error.
    """

    name: str
    codes: Mapping[int, int]
    default: int | None = None

    def to_classes(self, codes: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Classes 0 to 10 of an array of codes.

        Raises:
            InputError: codes that the legend does not list (and it has no default).
        """
        if codes.dtype == np.uint8:  # looking up is faster than sorting the pixels
            present, inverse = np.flatnonzero(np.bincount(codes.ravel(), minlength=256)), codes
        else:
            present, inverse = np.unique(codes, return_inverse=True)
        unknown = [int(code) for code in present if int(code) not in self.codes]
        if unknown and self.default is None:
            listed = ", ".join(map(str, unknown[:10])) + (" ..." if len(unknown) > 10 else "")
            raise InputError(
                f"layout holds codes {listed} that legend {self.name!r} does not know; "
                f"give --legend FILE, or one of {', '.join(LEGENDS)}"
            )
        default = UNKNOWN if self.default is None else self.default
        classes = np.array([self.codes.get(int(code), default) for code in present], dtype=np.uint8)
        if inverse is codes:
            table = np.zeros(256, dtype=np.uint8)
            table[present] = classes
            return table[codes]
        return classes[inverse].reshape(codes.shape)


LEGENDS: dict[str, Legend] = {
    legend.name: legend
    for legend in (
        Legend("gensat", {code: code for code in range(len(CLASSES))}),
        # LandCover.ai (Boguszewski et al. 2021): what is none of its four classes is ground of some other kind.
        Legend("landcover.ai", {0: OTHER_GROUND, 1: BUILDING, 2: WOODLAND, 3: WATER, 4: ROAD}),
        # ESA WorldCover v200 (10 m, 2021). Built-up mixes roofs, streets and yards at 10 m: building comes nearest.
        # Mangroves (95) stand in water: wetland, as flooded vegetation is in the other tables.
        Legend(
            "worldcover",
            {
                0: UNKNOWN,
                10: WOODLAND,
                20: LOW_VEGETATION,
                30: LOW_VEGETATION,
                40: CROPLAND,
                50: BUILDING,
                60: BARE,
                70: SNOW,
                80: WATER,
                90: WETLAND,
                95: WETLAND,
                100: LOW_VEGETATION,
            },
        ),
        # Dynamic World (Brown et al. 2022): water, trees, grass, flooded vegetation, crops, shrub, built, bare, snow.
        Legend(
            "dynamic-world",
            {
                0: WATER,
                1: WOODLAND,
                2: LOW_VEGETATION,
                3: WETLAND,
                4: CROPLAND,
                5: LOW_VEGETATION,
                6: BUILDING,
                7: BARE,
                8: SNOW,
            },
        ),
        # Esri / Impact Observatory 10 m annual land cover, from which "sites" was renumbered; 10 is cloud.
        Legend(
            "esri",
            {
                0: UNKNOWN,
                1: WATER,
                2: WOODLAND,
                4: WETLAND,
                5: CROPLAND,
                7: BUILDING,
                8: BARE,
                9: SNOW,
                10: UNKNOWN,
                11: LOW_VEGETATION,
            },
        ),
        # The landcover.tif of the four example sites (TerraMind's example tiles): the Esri classes numbered without
        # gaps, 0 no data, 1 water, 2 trees, 3 flooded vegetation, 4 crops, 5 built, 6 bare, 7 snow, 8 cloud,
        # 9 rangeland. Established from the names that users of those tiles print, and from the images beside them: 1 is
        # the sea off Brazil and a river in Chile, 2 has NDVI 0.83 beside it, 4 covers the fields, 5 the villages, 6 the
        # bright beach (NDVI 0.1), 7 all of a frozen tundra tile, 9 the scrub. 3 is almost absent, 0 and 8 are.
        Legend(
            "sites",
            {
                0: UNKNOWN,
                1: WATER,
                2: WOODLAND,
                3: WETLAND,
                4: CROPLAND,
                5: BUILDING,
                6: BARE,
                7: SNOW,
                8: UNKNOWN,
                9: LOW_VEGETATION,
            },
        ),
        # Building footprints over drone tiles of Uganda: only buildings were mapped, the rest is unknown, not ground.
        Legend("uganda", {0: UNKNOWN, 1: BUILDING}),
    )
}
"""The legends known by name."""


def read_table(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a legend file: JSON as it is, CSV rows ``code,class`` (a header is skipped) as ``{"codes": {...}}``.

    Raises:
        InputError: no such file, or it is not a JSON object or CSV table.
    """
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
            if rows and not rows[0][0].strip().lstrip("-").isdigit():
                rows = rows[1:]
            return {"codes": {row[0].strip(): row[1] for row in rows}}
        table = json.loads(text)
    except FileNotFoundError:
        raise InputError(f"legend {str(source)!r} is no file; give one, or one of {', '.join(LEGENDS)}") from None
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"legend {path} cannot be read ({error}); give JSON {{code: class}} or CSV code,class"
        ) from error
    if not isinstance(table, dict):
        raise InputError(f"legend {path} is not a table; give JSON {{code: class}} or CSV code,class")
    return table


def raster_legend(table: Mapping[Any, Any], name: str) -> Legend:
    """Legend of a table ``{code: class}`` or ``{"codes": {code: class}, "default": class}``.

    Raises:
        InputError: a code that is no integer, a class that does not exist, or no codes.
    """
    codes = table.get("codes", {key: value for key, value in table.items() if key not in ("name", "default")})
    try:
        read = {int(code): class_code(value) for code, value in codes.items()}
    except (TypeError, AttributeError) as error:
        raise InputError(f"legend {name!r} is not a table of code: class ({error}); give such a table") from error
    except ValueError as error:
        raise InputError(f"legend {name!r} is wrong: {error}") from error
    if not read:
        raise InputError(f"legend {name!r} lists no codes; give JSON {{code: class}} or CSV code,class")
    default = table.get("default")
    return Legend(str(table.get("name", name)), read, None if default is None else class_code(default))


def load_legend(
    source: str | os.PathLike[str] | Mapping[Any, Any] | Legend | AttributeLegend,
) -> Legend | AttributeLegend:
    """Finds a legend by name, reads it from a file, or builds it from a table.

    Args:
        source: a name (one of ``LEGENDS``, ``openstreetmap``, or a class such as ``building`` for vector layers that
            hold nothing else); a ``.json`` or ``.csv`` file; the table such a file holds; or a legend. A table is
            ``{code: class}`` for rasters, and for vectors as :func:`gensat.geo.attributes.attribute_legend` has it.

    Returns:
        Legend for rasters, AttributeLegend for vectors.

    Raises:
        InputError: no such name or file, or a table that makes no sense.
    """
    if isinstance(source, (Legend, AttributeLegend)):
        return source
    if isinstance(source, Mapping):
        table, name = dict(source), "given"
    else:
        name = os.fspath(source)
        known: dict[str, Legend | AttributeLegend] = {**LEGENDS, OPENSTREETMAP.name: OPENSTREETMAP}
        if name.lower() in known:
            return known[name.lower()]
        if not Path(name).exists() and not Path(name).suffix and _is_class(name):
            return AttributeLegend(name, default=class_code(name))
        table = read_table(source)
    return attribute_legend(table, name) if is_attribute_table(table) else raster_legend(table, name)


def _is_class(name: str) -> bool:
    try:
        class_code(name)
    except InputError:
        return False
    return True
