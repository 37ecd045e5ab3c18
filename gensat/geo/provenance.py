"""How an image came to be, as flat text tags in GeoTIFF, PNG and JPEG, and back with the types it had.

``{"synthetic": True, "seed": 7, "prompt": "a harbor"}`` becomes ``GENSAT_SYNTHETIC=yes``, ``GENSAT_SEED=7``,
``GENSAT_PROMPT=a harbor``; lists and dictionaries become JSON. Text that would be read back as something else (``"7"``,
``"yes"``, an empty or padded string) is written as a JSON string. What is known of the acquisition goes to
``ACQUISITION_GSD``, ``_DATE``, ``_CLOUD_COVER`` and ``_SENSOR``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gensat.errors import InputError
from gensat.types import Acquisition

PREFIX = "GENSAT_"
ACQUISITION_PREFIX = "ACQUISITION_"

_KEY = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = {"yes": True, "no": False, "null": None}


def provenance_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Provenance to tags.

    Args:
        provenance: values under lower-case keys: None, bool, int, finite float, str, and lists and string-keyed
            dictionaries of these (tuples come back as lists).

    Raises:
        InputError: a key or value that a tag cannot hold.
    """
    tags = {}
    for key, value in provenance.items():
        if not _KEY.fullmatch(key):
            raise InputError(f"provenance key {key!r} cannot be a tag; use lower-case letters, digits and underscores")
        tags[PREFIX + key.upper()] = _encode(_plain(value, key))
    return tags


def read_provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    """Inverse of :func:`provenance_tags`; other tags are ignored."""
    return {key[len(PREFIX) :].lower(): _decode(text) for key, text in tags.items() if key.startswith(PREFIX)}


def acquisition_tags(acquisition: Acquisition) -> dict[str, str]:
    """What is known of an acquisition, as ``ACQUISITION_*`` tags."""
    return {ACQUISITION_PREFIX + name.upper(): str(value) for name, value in acquisition.to_dict().items()}


def read_acquisition(tags: Mapping[str, str]) -> Acquisition:
    """Inverse of :func:`acquisition_tags`; what a file of another program got wrong is left unknown."""
    found: dict[str, Any] = {}
    for name, convert in (("gsd", float), ("date", str), ("cloud_cover", float), ("sensor", str)):
        text = tags.get(ACQUISITION_PREFIX + name.upper())
        if not text:
            continue
        one: dict[str, Any] = {}
        try:
            one[name] = convert(text)
            Acquisition(**one)
        except ValueError:  # InputError included
            continue
        found |= one
    return Acquisition(**found)


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, key) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(item, key) for name, item in value.items()}
    raise InputError(
        f"provenance {key!r} holds {value!r:.60}, which a tag cannot; use text, finite numbers, lists and dictionaries"
    )


def _encode(value: Any) -> str:
    if isinstance(value, str):
        plain = value and value == value.strip() and value.isprintable() and _decode(value) == value
        return value if plain else json.dumps(value)
    for word, meaning in _WORDS.items():
        if value is meaning:
            return word
    return json.dumps(value)


def _decode(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in tuple('{["-0123456789'):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
