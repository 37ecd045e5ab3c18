"""Cut the data folder into parts that can be carried one by one: ``python -m gensat.train.pack OUT [limit_mb=21]``.

Each part is a folder of the same layout with smaller shards, so copying the parts over each other gives a data folder again. Part 0 also
holds the states of all captions (``text_states.safetensors``), for machines that the text encoder cannot be carried to.
"""

import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..conditioning.text import load_minilm
from ..errors import InputError
from .captions import all_captions
from .data import data_root, read_samples
from .latents import TextBank, variants
from .recipe import program
from .sources import Sample
from .sure_layouts import kind
from .sure_words import BELIEVED, KINDS
from .tars import tar_groups

TARS = ("scenes", "houston", "buildings", "landcover", "sentinel2", "landsat")


def split_tar(path: Path, limit: int) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Names and members of smaller shards of a tar, whole samples each, at most ``limit`` bytes."""
    with tarfile.open(path) as tar:
        members = {m.name: m for m in tar.getmembers()}
    base, number = path.name.rsplit("-", 1)[0], 0
    group: list[tarfile.TarInfo] = []
    size = 0
    for key, parts in tar_groups(path):
        own = [members[f"{key}.{extension}"] for extension in parts]
        weight = sum(1024 + -(-m.size // 512) * 512 for m in own)
        if group and size + weight + 10240 > limit:
            yield f"{base}-{number:03d}.tar", group
            group, size, number = [], 0, number + 1
        group += own
        size += weight
    yield f"{base}-{number:03d}.tar", group


def captions_of(samples: Iterable[Sample]) -> set[str]:
    """All captions of the samples as they are encoded (``latents.variants``): at half their size, without the map under clouds, and
    with the words that may be read off them (``gensat.train.read``).
    """
    found: set[str] = set()
    asked: set[tuple[str, ...]] = set()  # captions are made of the facts, which few pictures have for themselves
    for sample in samples:
        made = variants(sample, np.random.default_rng(0), clouds=0.0)
        for one in (*made, replace(made[0], layout=None)):
            own = tuple(all_captions(one))
            found.update(own)
            if kind(one) in KINDS and own not in asked:
                asked.add(own)
                found.update(c for seen in BELIEVED for c in all_captions(replace(one, seen=seen)))
    return found


def main(arguments: list[str]) -> None:
    """Write the parts and print what each weighs."""
    if not arguments or "=" in arguments[0]:
        raise InputError("give the folder for the parts: python -m gensat.train.pack OUT")
    out = Path(arguments[0])
    options = dict(a.split("=", 1) for a in arguments[1:])
    limit = int(float(options.get("limit_mb", 21)) * 2**20)
    root = data_root(options.get("root"))
    if out.exists() and any(out.iterdir()):
        raise InputError(f"folder {out} is not empty; choose another or empty it")
    sizes: list[int] = []

    def place(size: int) -> Path:
        """The first part with room for ``size`` bytes."""
        for i, used in enumerate(sizes):
            if used + size <= limit:
                sizes[i] += size
                return out / str(i)
        sizes.append(size)
        return out / str(len(sizes) - 1)

    captions = captions_of(read_samples(root, "train", mosaics=True))
    states = out / "0" / "text_states.safetensors"
    states.parent.mkdir(parents=True)
    TextBank.encode(captions, load_minilm()).save(states)
    place(states.stat().st_size)
    for folder in TARS:
        for path in sorted((root / folder).glob("*.tar")):
            for name, members in split_tar(path, limit):
                target = place(sum(1024 + -(-m.size // 512) * 512 for m in members) + 10240) / folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with tarfile.open(path) as source, tarfile.open(target, "w") as tar:
                    for member in members:
                        tar.addfile(member, source.extractfile(member))
    for path in sorted((root / "rasters").rglob("*.tif")):
        target = place(path.stat().st_size) / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for part in sorted(out.iterdir()):
        print(part, f"{sum(f.stat().st_size for f in part.rglob('*') if f.is_file()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    program(main)
