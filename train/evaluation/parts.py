"""The parts of an evaluation by name. A part takes the ``Evaluation`` and gives its figures; it raises ``LeftOut`` where
it cannot be measured. To add one, write the function and name it here.
"""

from collections.abc import Callable, Sequence

from ...errors import InputError
from .controls import conditions, gsd, layout
from .distribution import distribution, second
from .places import place
from .reconstruction import autoencoder, pairs
from .regions import regions
from .session import Evaluation
from .wording import wording
from .words import relations, text

PARTS: dict[str, Callable[[Evaluation], dict]] = {
    "autoencoder": autoencoder,
    "distribution": distribution,
    "second": second,
    "pairs": pairs,
    "text": text,
    "relations": relations,
    "wording": wording,
    "regions": regions,
    "place": place,
    "layout": layout,
    "gsd": gsd,
    "conditions": conditions,
}
OF_A_MODEL = tuple(name for name in PARTS if name != "pairs")
OF_FOLDERS = ("distribution", "second", "pairs", "text", "relations", "regions", "place")


def check_parts(parts: Sequence[str]) -> None:
    """Raises InputError for a part that there is none of, and where none is named."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        what = f"no part of the evaluation is called {unknown[0]!r}" if unknown else "no part is named"
        raise InputError(f"{what}; use some of {', '.join(PARTS)}")
