"""All training and held-out samples of the data folder, with Houston's neighbouring tiles stitched to 256 pixels where they fit."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..errors import InputError
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
    root: str | Path | None = None, split: str = "train", *, sources: Iterable[str] | None = None, mosaics: bool = False
) -> list[Sample]:
    """Every sample of one split; see ``read_samples``."""
    return list(read_samples(root, split, sources=sources, mosaics=mosaics))


def read_samples(
    root: str | Path | None = None, split: str = "train", *, sources: Iterable[str] | None = None, mosaics: bool = False
) -> Iterator[Sample]:
    """One sample after the other of one split ("train" or "heldout"), in a fixed order.

    ``mosaics`` adds 256x256 Houston mosaics stitched from tiles of the same date and split.
    """
    if split not in ("train", "heldout"):
        raise InputError(f"split must be 'train' or 'heldout', not {split!r}.")
    wanted = tuple(sources) if sources is not None else SOURCES
    if unknown := set(wanted) - set(SOURCES):
        raise InputError(f"Unknown data sources {sorted(unknown)}; choose from {', '.join(SOURCES)}.")
    root = data_root(root)
    for source in wanted:
        if source == "rasters":
            yield from raster_tiles(root, split)
            continue
        found = (s for s in READERS[source](root) if s.held_out == (split == "heldout"))
        if source == "houston" and mosaics:
            tiles = list(found)
            yield from tiles
            for when in ("pre", "post"):
                yield from stitch([s for s in tiles if s.key.endswith(when)])
        else:
            yield from found


def stitch(tiles: list[Sample], *, size: int = 256, min_cover: float = 1.0) -> Iterator[Sample]:
    """Mosaics of overlapping north-up tiles of one date: one around each tile whose ``size`` window is covered by its neighbours.

    Tiles are placed by their centre coordinates on the local metric plane, nearest tile centre winning, so seams
    lie where both tiles show the same ground.
    """
    if not tiles:
        return
    places = [t.place for t in tiles if t.place is not None]
    if len(places) < len(tiles):
        raise InputError("tiles without a place cannot be stitched; leave them out")
    lonlat = np.array([(p.lon, p.lat) for p in places])
    gsd = float(np.median([t.acquisition.gsd for t in tiles]))
    metres = np.array([111320.0 * np.cos(np.radians(lonlat[:, 1].mean())), 110850.0])
    xy = lonlat * metres / gsd  # pixels, x east, y north
    tree = cKDTree(xy)
    half = tiles[0].image.shape[0] // 2
    used = np.zeros(len(tiles), dtype=int)
    for i, centre in enumerate(xy):
        if used[i] > 2:  # already inside several mosaics: neighbouring windows would repeat it
            continue
        near = sorted(tree.query_ball_point(centre, size), key=lambda k: -np.abs(xy[k] - centre).max())
        canvas = np.zeros((size, size, 3), np.uint8)
        covered = np.zeros((size, size), bool)
        best = np.full((size, size), np.inf)
        rows, cols = np.mgrid[:size, :size]
        members = []
        for k in near:
            dx, dy = xy[k] - centre
            c0, r0 = round(dx + size / 2 - half), round(-dy + size / 2 - half)
            r1, r2, c1, c2 = max(r0, 0), min(r0 + 2 * half, size), max(c0, 0), min(c0 + 2 * half, size)
            if r1 >= r2 or c1 >= c2:
                continue
            members.append(k)
            distance = np.maximum(np.abs(rows - r0 - half), np.abs(cols - c0 - half))[r1:r2, c1:c2]
            nearer = distance < best[r1:r2, c1:c2]
            canvas[r1:r2, c1:c2][nearer] = tiles[k].image[r1 - r0 : r2 - r0, c1 - c0 : c2 - c0][nearer]
            best[r1:r2, c1:c2] = np.minimum(best[r1:r2, c1:c2], distance)
            covered[r1:r2, c1:c2] = True
        if covered.mean() >= min_cover:
            used[members] += 1
            t = tiles[i]
            yield Sample(t.source, f"{t.key}.mosaic", canvas, t.caption, None, t.place, t.acquisition)
