"""All training and held-out samples of the data folder, with Houston's neighbouring tiles stitched to 256 pixels where they fit.

Training samples that ``left_out.json`` names (``screening``) are not read.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from .mosaics import stitch
from .screening_list import left_out
from .sources import READERS, Sample, raster_tiles

SOURCES = (*READERS, "rasters")


def data_root(path: str | Path | None = None) -> Path:
    """The data folder: ``path``, else ``GENSAT_DATA``, else ``../shared/data`` beside the checkout."""
    root = Path(path or os.environ.get("GENSAT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not (root / "scenes").is_dir():
        raise InputError(
            f"No data folder at {root}: set GENSAT_DATA to the folder that holds scenes/, houston/ and the rest."
        )
    return root


def load_samples(
    root: str | Path | None = None,
    split: str = "train",
    *,
    sources: Iterable[str] | None = None,
    mosaics: bool = False,
    screened: bool = True,
) -> list[Sample]:
    """Every sample of one split; see ``read_samples``."""
    return list(read_samples(root, split, sources=sources, mosaics=mosaics, screened=screened))


def read_samples(
    root: str | Path | None = None,
    split: str = "train",
    *,
    sources: Iterable[str] | None = None,
    mosaics: bool = False,
    screened: bool = True,
) -> Iterator[Sample]:
    """One sample after the other of one split ("train" or "heldout"), in a fixed order.

    ``mosaics`` adds 256x256 Houston mosaics stitched from tiles of the same date and split. ``screened`` leaves out training samples
    that are flawed or that another one, or a held-out one, already shows.
    """
    if split not in ("train", "heldout"):
        raise InputError(f"split must be 'train' or 'heldout', not {split!r}.")
    wanted = tuple(sources) if sources is not None else SOURCES
    if unknown := set(wanted) - set(SOURCES):
        raise InputError(f"Unknown data sources {sorted(unknown)}; choose from {', '.join(SOURCES)}.")
    root = data_root(root)
    screened = screened and split == "train"
    for source in wanted:
        every = raster_tiles(root, split) if source == "rasters" else READERS[source](root)
        found = (
            s
            for s in every
            if (source == "rasters" or s.held_out == (split == "heldout"))
            and not (screened and left_out(source, s.key))
        )
        if source == "houston" and mosaics:
            tiles = list(found)
            yield from tiles
            for when in ("pre", "post"):
                yield from stitch([s for s in tiles if s.key.endswith(when)])
        else:
            yield from found
