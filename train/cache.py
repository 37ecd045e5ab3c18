"""Encoded samples on disk, so that the next run (or the ControlNet's) starts at once: one safetensors file per image size.

Latents, images and layouts are stacked; captions, places and acquisitions are JSON in the file's header.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors import safe_open
from safetensors.numpy import save_file

from ..types import Acquisition, Place
from .checkpoint import sync
from .latents import Entry


def cached(folder: str | Path | None, key: str, encode: Callable[[], list[Entry]]) -> list[Entry]:
    """The entries kept in ``folder`` under ``key``, else those of ``encode()``, which are then kept; None keeps nothing.

    ``key`` names everything the entries depend on: a folder with another key is encoded again.
    """
    if folder is None:
        return encode()
    folder = Path(folder)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():  # of several processes one encodes
        if _complete(found := sorted(folder.glob("size-*.safetensors")), key):
            return [entry for path in found for entry in load_entries(path)]
        entries = encode()
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*found, *folder.glob(".size-*")):
            path.unlink()
        sizes = sorted({e.image.shape[0] for e in entries})
        for size in sizes:
            same = [e for e in entries if e.image.shape[0] == size]
            save_entries(folder / f"size-{size:04d}.safetensors", same, key, files=len(sizes))
        return entries


def _complete(found: Sequence[Path], key: str) -> bool:
    """Whether these are all files of one encoding: a run may have been killed between two of them."""
    headers = [_header(path) for path in found]
    return bool(found) and all(h.get("key") == key and h.get("files") == str(len(found)) for h in headers)


def save_entries(path: Path, entries: Sequence[Entry], key: str, *, files: int = 1) -> None:
    """Entries of one image size as one file of ``files``, written beside, synced and renamed."""
    mapped = [i for i, e in enumerate(entries) if e.layout is not None]
    tensors = {
        # np.stack keeps channels-last strides, safetensors writes memory as it lies
        "latent": np.ascontiguousarray(np.stack([e.latent for e in entries])),
        "image": np.ascontiguousarray(np.stack([e.image for e in entries])),
        "layout": np.array([entries[i].layout for i in mapped], np.uint8),
        "layout_of": np.array(mapped, np.int64),
    }
    about = [
        {
            "source": e.source,
            "key": e.key,
            "captions": e.captions,
            "place": None if e.place is None else e.place.to_dict(),
            "acquisition": e.acquisition.to_dict(),
            "layout_origin": e.layout_origin,
        }
        for e in entries
    ]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, fresh, {"key": key, "files": str(files), "about": json.dumps(about)})
    sync(fresh)
    fresh.rename(path)


def load_entries(path: Path) -> list[Entry]:
    """Inverse of ``save_entries``."""
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["about"])
        latent, image, layout, layout_of = (file.get_tensor(n) for n in ("latent", "image", "layout", "layout_of"))
    layouts = dict(zip(layout_of.tolist(), layout, strict=True))
    return [
        Entry(
            a["source"],
            latent[i],
            a["captions"],
            None if a["place"] is None else Place.from_dict(a["place"]),
            Acquisition.from_dict(a["acquisition"]),
            image[i],
            layouts.get(i),
            a.get("key", ""),
            a.get("layout_origin", "map"),
        )
        for i, a in enumerate(about)
    ]


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return file.metadata() or {}
