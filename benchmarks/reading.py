"""Images per second out of shards: our reader against webdataset's loop and an ImageFolder-like loop over the same pictures, in one run.

``python -m benchmarks.reading [SHARD ...]``; without shards it makes some of 256 x 256 JPEGs. All give decoded (H, W, 3) uint8 pixels in shuffled order.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from gensat.train.shards import ShardReader
from gensat.train.shards.pack import run
from gensat.train.shards.plan import Options, plan
from gensat.train.shards.record import Record
from gensat.train.shards.tables import Reading
from gensat.train.tars import tar_groups

from .common import machine, pairs, table

BATCH = 16


class Positions(Dataset):
    """The reader as a map-style dataset, as training uses it."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, position: int) -> np.ndarray:
        return self.reader.at(position).image


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def listed(batch: list) -> list:
    return batch


def shards_of_pictures(folder: Path, count: int, side: int) -> list[Path]:
    """Eight shards or so of smooth random pictures: JPEGs of about the size of aerial ones."""
    rng = np.random.default_rng(0)
    (folder / "made").mkdir()
    for i in range(count):
        small = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(
            folder / "made" / f"{i:05d}.jpg", quality=90
        )
    planned = plan(
        [folder / "made"],
        Options(Reading(Record("", Path(), "made")), name="made", max_shard_mb=count * side**2 / 2**20 / 20),
    )
    run(planned, folder / "shards")
    return sorted((folder / "shards").glob("made-*.tar"))


def unpack(shards: list[Path], folder: Path) -> tuple[Path, int]:
    """The pictures of shards as files of one class."""
    (folder / "files" / "all").mkdir(parents=True)
    count = 0
    for key, members in (group for shard in shards for group in tar_groups(shard)):
        name = next((m for m in ("jpg", "png", "post.jpg") if m in members), None)
        if name is not None:
            (folder / "files" / "all" / f"{key.replace('/', '-')}.{name}").write_bytes(members[name])
            count += 1
    return folder / "files", count


def loops(shards: list[Path], files: Path, workers: int) -> dict[str, Callable[[], Iterator]]:
    """Endless or one-epoch iterators over single decoded pictures, by name."""
    import webdataset as wds

    reader = ShardReader(shards, split=None, seed=1)

    def single(dataset: Dataset, **more) -> Iterator:
        loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=listed, **more)
        return (one for batch in loader for one in batch)

    def ours() -> Iterator:
        if not workers:
            return (reader.at(i).image for i in range(len(reader)))
        return single(Positions(reader))

    def webdataset() -> Iterator:
        pipe = (
            wds.WebDataset([str(shard) for shard in shards], shardshuffle=False, empty_check=False)
            .shuffle(100)
            .decode("pil")
        )
        pipe = pipe.rename(image="jpg;png;post.jpg").map(lambda sample: pixels(sample["image"]))
        if not workers:
            return iter(pipe)
        return (
            one
            for batch in wds.WebLoader(pipe, batch_size=BATCH, num_workers=workers, collate_fn=listed)
            for one in batch
        )

    def folder() -> Iterator:
        return (one for one, _ in single(ImageFolder(str(files), transform=pixels), shuffle=True))

    return {"gensat": ours, "webdataset": webdataset, "ImageFolder": folder}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=800, help="pictures a run")
    parser.add_argument("--side", type=int, default=256, help="pixels of the pictures that are made")
    parser.add_argument("--runs", type=int, default=7, help="pairs a row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        shards = options.shards or shards_of_pictures(Path(name), options.count, options.side)
        files, found = unpack(shards, Path(name))
        rows = []
        for workers in (0, 2):
            loop = loops(shards, files, workers)
            count = min(options.count, found)

            def read(start: Callable[[], Iterator], count: int = count) -> Callable[[], object]:
                return lambda: sum(1 for _ in islice(start(), count))

            for other in ("webdataset", "ImageFolder"):
                compared = pairs(read(loop["gensat"]), read(loop[other]), runs=options.runs)
                rates = f"{count / compared.first:.0f}", f"{count / compared.second:.0f}"
                rows.append((f"{workers} workers" if workers else "1 process", *rates, other, compared.text()))
    print(f"{machine()}; {len(shards)} shards such as {shards[0].name}, {count} pictures a run; {options.runs} pairs\n")
    print(table(rows, ("how", "gensat images/s", "other images/s", "other", "time: gensat / other")))


if __name__ == "__main__":
    main()
