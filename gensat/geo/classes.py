"""The classes of a layout: names, colours, and class maps as pictures.

A layout is a map of what is where, as classes 0 to 10. Class 0 means that nothing is known; it is not a kind of ground.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer, UInt8

from gensat.errors import InputError

CLASSES = (
    "unknown",
    "other ground",
    "building",
    "road",
    "water",
    "woodland",
    "low vegetation",
    "cropland",
    "bare",
    "wetland",
    "snow",
)
"""Names of the classes; the index is the code."""

UNKNOWN, OTHER_GROUND, BUILDING, ROAD, WATER, WOODLAND, LOW_VEGETATION, CROPLAND, BARE, WETLAND, SNOW = range(11)

COLOURS: UInt8[np.ndarray, "11 3"] = np.array(
    [
        (0, 0, 0),
        (205, 195, 180),
        (215, 48, 39),
        (105, 105, 110),
        (43, 112, 201),
        (22, 101, 52),
        (154, 205, 97),
        (240, 205, 70),
        (176, 124, 74),
        (94, 186, 178),
        (240, 248, 255),
    ],
    dtype=np.uint8,
)
"""RGB of each class, for pictures of layouts and for layouts drawn as pictures."""

_ALIASES = {"ground": OTHER_GROUND, "other": OTHER_GROUND, "buildings": BUILDING, "roads": ROAD, "trees": WOODLAND}


def class_code(value: str | int) -> int:
    """Code of a class given by name (case, ``_`` and ``-`` do not matter) or number.

    Raises:
        InputError: there is no such class.
    """
    if isinstance(value, str) and not value.strip().isdigit():
        name = value.strip().lower().replace("_", " ").replace("-", " ")
        if name in CLASSES:
            return CLASSES.index(name)
        if name in _ALIASES:
            return _ALIASES[name]
    elif not isinstance(value, bool) and 0 <= int(value) < len(CLASSES):
        return int(value)
    raise InputError(f"{value!r} is not a layout class; give 0 to {len(CLASSES) - 1} or one of {', '.join(CLASSES)}")


def colourise(class_map: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture of a class map.

    Raises:
        InputError: a value that is no class.
    """
    if class_map.size and not 0 <= class_map.min() <= class_map.max() < len(CLASSES):
        raise InputError(
            f"class map runs from {class_map.min()} to {class_map.max()}; give classes 0 to {len(CLASSES) - 1}"
        )
    return COLOURS[class_map]


def from_colours(rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Class map of a picture painted in exactly the colours of the legend; inverse of :func:`colourise`.

    Raises:
        InputError: other colours in it, as after lossy compression or smoothing.
    """
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], dtype=np.uint32)).sum(axis=2)
    known = {(int(r) << 16) + (int(g) << 8) + int(b): code for code, (r, g, b) in enumerate(COLOURS)}
    present, inverse = np.unique(packed, return_inverse=True)
    unknown = [f"#{int(colour):06x}" for colour in present if int(colour) not in known]
    if unknown:
        listed = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise InputError(
            f"layout picture holds colours {listed} that are not in the legend; "
            "paint in its colours without smoothing, or give a single band of codes with --legend FILE"
        )
    return np.array([known[int(colour)] for colour in present], dtype=np.uint8)[inverse].reshape(packed.shape)
