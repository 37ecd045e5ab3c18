"""Contact sheets of the training data: ``python -m gensat.train.look OUT [split=train] [sources=a,b] [count=96] [left_out=true]``.

One small JPEG a source: samples evenly over its files, each with the end of its key. ``left_out=true`` shows what the list of
``screening`` keeps out of training instead.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from PIL import Image

from ..errors import InputError
from ..files import atomic_write
from ..geo.display import contact_sheet
from .data import SOURCES, load_samples
from .recipe import folder_and_options, program
from .screening_list import left_out
from .sources import Sample

Item = TypeVar("Item")
COLUMNS = 12
_OPTIONS = {"root": "", "split": "train", "sources": ",".join(SOURCES), "count": "96", "left_out": "false"}


def spread(samples: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of them, evenly over the sequence, the first one included."""
    step = max(1.0, len(samples) / count)
    return [samples[int(i * step)] for i in range(min(count, len(samples)))]


def sheet(samples: Iterable[Sample], *, side: int = 112) -> Image.Image:
    """A contact sheet of samples, labelled with the last characters of their keys."""
    shown = list(samples)
    labels = [s.key.rpartition("/")[2][-(side // 7) :] for s in shown]
    return contact_sheet([s.image for s in shown], min(COLUMNS, max(1, len(shown))), side=side, labels=labels)


def main(arguments: list[str]) -> None:
    """Write ``SOURCE.jpg`` for each source that has something to show, and print how many samples stand behind it."""
    out, options = folder_and_options(arguments, _OPTIONS, "sheets")
    if not options["count"].isdigit() or not int(options["count"]):
        raise InputError(f"count is {options['count']!r}; give a whole number, 1 or more")
    only = options["left_out"] == "true"
    out.mkdir(parents=True, exist_ok=True)
    for source in options["sources"].split(","):
        root, split = options["root"] or None, options["split"]
        found = load_samples(root, split, sources=[source], screened=not only)
        if only:
            found = [s for s in found if left_out(s.source, s.key)]
        if not found:
            continue
        path = out / f"{source}.jpg"
        with atomic_write(path, overwrite=True) as fresh:
            sheet(spread(found, int(options["count"]))).save(fresh, "JPEG", quality=85)
        print(f"{path}: {min(int(options['count']), len(found))} of {len(found)}")


if __name__ == "__main__":
    program(main)
