"""Images of a user: a folder of pictures and GeoTIFFs with what lies beside them, or WebDataset shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...geo.display import to_rgb
from ...geo.raster import open_image
from ...types import Acquisition, GeoImage, Place
from ..shards import ShardReader
from ..shards.index import is_shard
from ..sources import Sample

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_CAPTION = ("caption", "text", "prompt")


@dataclass(frozen=True)
class Picture:
    """An image on disk with what is known of it; its pixels are read when asked for.

    ``key`` is its path below the folder without the extension, by which two folders are paired.
    """

    path: Path
    key: str
    caption: str = ""
    klass: str | None = None
    place: Place | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)

    def image(self) -> GeoImage:
        """All bands. Raises InputError, with the file's name, where it is unreadable."""
        return open_image(self.path)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8; other types than 8 bit are stretched for the eye."""
        return to_rgb(self.image())

    def sample(self) -> Sample:
        """The same with its pixels, as trainings take it."""
        return Sample(
            self.path.parent.name, self.key, self.rgb(), self.caption, self.klass, self.place, self.acquisition
        )


class Lazy(Sequence[np.ndarray]):
    """RGB images of pictures, each read when it is looked at: a folder need not fit into memory."""

    def __init__(self, pictures: Sequence[Picture]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lazy(self.pictures[index])
        return self.pictures[index].rgb()


def find_pictures(folder: str | Path) -> list[Picture]:
    """Every image below a folder, by name.

    What is known comes from the file itself (georeference, our tags), a ``.json`` or ``.txt`` (caption) of the same
    name, or a ``metadata.jsonl`` with ``file_name`` and ``text``, in this order of rank from last to first.

    Raises:
        InputError: no such folder, no image in it, or a sidecar that cannot be read, by name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give a folder of images")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise InputError(f"{root} holds no images ({', '.join(SUFFIXES)}); give a folder that does")
    table = _metadata(root / "metadata.jsonl")
    found = [_picture(p, root, table) for p in paths]
    keys = [p.key for p in found]
    if len(set(keys)) < len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise InputError(f"{root} holds {twice!r} twice, with two extensions; keep one of them")
    return found


def read_source(path: str | Path, *, split: str = "heldout") -> Iterator[Sample]:
    """Samples of a folder of images, of a shard, or of a folder of shards (their ``split``). Raises InputError."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder of images, or WebDataset shards")
    if any(map(is_shard, path.rglob("*") if path.is_dir() else [path])):
        yield from ShardReader(path, split=split).samples()
    else:
        for picture in find_pictures(path):
            yield picture.sample()


def paired(real: Sequence[Picture], fake: Sequence[Picture]) -> list[tuple[Picture, Picture]]:
    """Pictures that have the same key on both sides, in the order of ``real``."""
    by_key = {p.key: p for p in fake}
    return [(p, by_key[p.key]) for p in real if p.key in by_key]


def _picture(path: Path, root: Path, table: Mapping[str, dict]) -> Picture:
    name = path.relative_to(root).as_posix()
    about = dict(table.get(name, {}))
    if (text := path.with_suffix(".txt")).is_file():
        about["caption"] = text.read_text(encoding="utf-8", errors="replace").strip()
    if (sidecar := path.with_suffix(".json")).is_file():
        about.update(_object(sidecar))
    place = acquisition = None
    if path.suffix.lower() in (".tif", ".tiff") or not any(about.get(k) for k in _CAPTION):
        image = open_image(path)
        about.setdefault("caption", image.provenance.get("prompt") or "")
        place, acquisition = (
            image.place,
            Acquisition(image.gsd, image.acquisition.date, image.acquisition.cloud_cover, image.acquisition.sensor),
        )
    try:
        if "lon" in about and "lat" in about:
            place = Place(lon=float(about["lon"]), lat=float(about["lat"]))
        known = acquisition or Acquisition()
        acquisition = Acquisition(
            gsd=about.get("gsd_m", about.get("gsd", known.gsd)),
            date=about.get("date", known.date),
            cloud_cover=about.get("cloud_cover", known.cloud_cover),
            sensor=about.get("sensor", known.sensor),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"what is said of {path} cannot be: {error}") from error
    caption = next((str(about[k]) for k in _CAPTION if about.get(k)), "")
    klass = str(about["class"]) if about.get("class") else None
    return Picture(path, name[: -len(path.suffix)], caption, klass, place, acquisition)


def _metadata(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    table = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            table[str(row["file_name"])] = row
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"line {number} of {path} names no file ({error}); give file_name and text") from error
    return table


def _object(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON; mend or remove it") from error
    return values if isinstance(values, dict) else {}
