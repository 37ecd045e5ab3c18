"""What is kept out of training, and why: ``left_out.json``, which ``python -m gensat.train.screening [root=FOLDER]`` makes again.

``found`` is what the command finds: flawed pictures, all but the first of those that are the same, and training pictures that show what
a held-out one shows. ``seen`` was judged by eye and is left as it is. Held-out pictures are never left out.
"""

import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ..errors import InputError
from ..files import atomic_write
from .data import SOURCES, load_samples
from .duplicates import Pair, duplicates, groups, overlaps
from .flaws import flaw
from .recipe import program
from .screening_list import FILE, kept_list
from .sources import Sample


def screen(train: Sequence[Sample], heldout: Sequence[Sample], *, placed: bool = True) -> dict[str, str]:
    """Keys of the training samples of one source to leave out, each with the reason.

    Args:
        train: in a fixed order; of those that are the same the first stays.
        heldout: that no training sample may show.
        placed: whether the split is by place. Where it is not, parts of one larger image are looked for across the split.
    """
    samples = [*heldout, *train]
    images, first = [s.image for s in samples], len(heldout)
    pairs = list(duplicates(images))
    found: dict[str, str] = {}
    across = [p for p in pairs if p.first < first <= p.second]
    if heldout and train and not placed:
        across += overlaps(images, range(first), range(first, len(samples)))
    for pair in across:
        found[samples[pair.second].key] = _shows(pair, samples)
    for group in groups([p for p in pairs if p.first >= first]):
        stays, *again = [k for k in group if samples[k].key not in found] or [group[0]]
        for k in again:
            found[samples[k].key] = f"same as {samples[stays].key}"
    for sample in train:
        if wrong := flaw(sample.image):
            found[sample.key] = wrong
    return dict(sorted(found.items()))


def _shows(pair: Pair, samples: Sequence[Sample]) -> str:
    return f"shows {pair.share:.0%} of held-out {samples[pair.first].key}"


def main(arguments: list[str]) -> None:
    """Screen the data folder, write the list, and print how many of each source are left out for what."""
    given = dict(a.partition("=")[::2] for a in arguments)
    if unknown := set(given) - {"root", "sources"}:
        raise InputError(f"there is no {', '.join(sorted(unknown))}=; it takes root= and sources=")
    listed = {**kept_list()}
    listed["found"] = dict(listed["found"])
    for source in given.get("sources", ",".join(SOURCES)).split(","):
        train, heldout = (
            load_samples(given.get("root"), split, sources=[source], screened=False) for split in ("train", "heldout")
        )
        found = screen(train, heldout, placed=all(s.place is not None for s in train))
        listed["found"][source] = found
        why = Counter(reason.split(" ")[0] for reason in found.values())
        seen = len(listed["seen"].get(source, {}))
        print(
            f"{source}: {len(train)} training, {len(heldout)} held out; left out {dict(why)}, by eye {seen}", flush=True
        )
    with atomic_write(Path(str(files(__package__) / FILE)), overwrite=True) as fresh:
        fresh.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    program(main)
