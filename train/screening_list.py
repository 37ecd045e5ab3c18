"""The list of training samples that are left out (``left_out.json``), as ``screening`` makes it."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

FILE = "left_out.json"


@cache
def kept_list() -> dict[str, Any]:
    """The list as it is kept: ``found`` and ``seen``, each source to key to reason."""
    return json.loads((files(__package__) / FILE).read_text(encoding="utf-8"))


def left_out(source: str, key: str) -> str | None:
    """Why a training sample is left out; None where it is not."""
    listed = kept_list()
    return listed["seen"].get(source, {}).get(key) or listed["found"].get(source, {}).get(key)
