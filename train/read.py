"""Read layouts and class words off training images that nobody mapped or described: ``python -m gensat.train.read OUT [every=8]``.

Of each only what is sure (``sure_layouts``, ``sure_words``). The folder holds the fingerprint of the networks and rules that made it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..geo.display import contact_sheet
from ..geo.legend import CLASSES, UNKNOWN, colourise
from ..models.features import EfficientNetLite0
from ..models.probe import SceneProbe
from ..models.segmenter import LayoutSegmenter
from . import sure_layouts, sure_words
from .data import load_samples
from .evaluation.networks import load_net
from .look import spread
from .readings import Readings, write_json, write_layouts
from .recipe import folder_and_options, program
from .sources import Sample

SOURCES = ("houston", "ucmerced")
"""Sources without maps, at a resolution that the segmenter knows."""

_OPTIONS = {"root": "", "sources": ",".join(SOURCES), "every": "1", "sheet": "48"}
_SHEET_COLUMNS = 6


def fingerprint(*networks: torch.nn.Module) -> str:
    """Of the networks' weights and of the rules by which they are believed."""
    found = hashlib.sha256((sure_layouts.rules() + sure_words.rules()).encode())
    for network in networks:
        for name, tensor in sorted(network.state_dict().items()):
            found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def known_share(maps: Sequence[np.ndarray]) -> dict[str, float]:
    """Share of all pixels that is known, and that is of each class."""
    counts = sum((np.bincount(m.ravel(), minlength=len(CLASSES)) for m in maps), np.zeros(len(CLASSES)))
    shares = counts / max(1.0, counts.sum())
    classes = {CLASSES[c]: round(float(s), 4) for c, s in enumerate(shares) if s and c != UNKNOWN}
    return {"known": round(1 - float(shares[UNKNOWN]), 4), **classes}


def main(arguments: list[str]) -> None:
    """Read the sources that are not read yet, and print the calibration and what came of it."""
    folder, options = folder_and_options(arguments, _OPTIONS, "readings")
    for name in ("every", "sheet"):
        if not options[name].isdigit() or not int(options[name]):
            raise InputError(f"{name} is {options[name]!r}; give a whole number, 1 or more")
    read(
        folder,
        root=options["root"] or None,
        sources=options["sources"].split(","),
        every=int(options["every"]),
        sheet=int(options["sheet"]),
    )


def read(folder: Path, *, root: str | None, sources: Sequence[str], every: int = 1, sheet: int = 48) -> Readings:
    """Calibrate on held-out samples, then read one in ``every`` training samples of the sources.

    Sources that the folder has already, read by the same networks and rules as often, are left as they are.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = EfficientNetLite0.from_installed(size=None).to(device)
    segmenter: LayoutSegmenter = load_net(LayoutSegmenter, "segmenter").to(device)
    probe: SceneProbe = load_net(SceneProbe, "probe-class").to(device)
    made_by = f"{fingerprint(segmenter, probe)} every {every}"
    try:
        before = Readings(folder)
        counts, words = (dict(before.about["counts"]), before.words) if before.about["by"] == made_by else ({}, {})
    except InputError:
        counts, words = {}, {}
    if not (todo := [source for source in sources if source not in counts]):
        return Readings(folder)
    folder.mkdir(parents=True, exist_ok=True)
    layout_reader = sure_layouts.LayoutReader(segmenter, backbone)
    held = load_samples(root, "heldout", sources=["poland", "uganda"])
    table = ["| held-out source | class | threshold | precision | kept of the true pixels |", "| --- " * 5 + "|"]
    table += [row.text() for row in sure_layouts.calibrate(layout_reader, held)]
    word_reader = sure_words.WordReader(probe, backbone)
    table += ["", *sure_words.calibrate(word_reader, root)]
    print("\n".join(table), flush=True)
    for source in todo:
        samples = [s for s in load_samples(root, "train", sources=[source], mosaics=True) if s.layout is None]
        samples = some(samples, every)
        maps = list(layout_reader.read(samples, batch=64 if device == "cuda" else 8))
        write_layouts(folder, source, samples, maps)
        undescribed = [s for s in samples if s.klass is None]
        words[source] = word_reader.read(undescribed)
        write_json(folder / "words.json", words)
        counts[source] = {"read": len(samples), "words": len(words[source]), "pixels": known_share(maps)}
        about = {"fingerprint": made_by.split()[0], "by": made_by, "counts": counts, "calibration": table}
        write_json(folder / "about.json", about)
        print(f"{source}: {json.dumps(counts[source])}", flush=True)
        pictures(folder, source, samples, maps, words[source], count=sheet)
    return Readings(folder)


def some(samples: Sequence[Sample], every: int) -> list[Sample]:
    """One in ``every``, drawn with a fixed seed, in their order: images before and after the storm take turns, which a stride would follow."""
    drawn = np.random.default_rng(0).permutation(len(samples))[: -(-len(samples) // every)]
    return [samples[i] for i in sorted(drawn.tolist())]


def pictures(
    folder: Path,
    source: str,
    samples: Sequence[Sample],
    maps: Sequence[np.ndarray],
    words: dict[str, str],
    *,
    count: int,
) -> None:
    """Contact sheets to judge by: images beside their layouts, and images over their words."""
    shown = spread(list(zip(samples, maps, strict=True)), count)
    both = [np.concatenate([s.image, colourise(m)], axis=1) for s, m in shown]
    contact_sheet(both, _SHEET_COLUMNS, side=256).save(folder / f"layouts-{source}.jpg", quality=85)
    named = spread([s for s in samples if s.key in words], count)
    if named:
        sheet = contact_sheet([s.image for s in named], 2 * _SHEET_COLUMNS, labels=[words[s.key] for s in named])
        sheet.save(folder / f"words-{source}.jpg", quality=85)


if __name__ == "__main__":
    program(main)
