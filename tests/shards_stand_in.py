"""A small shard of coloured squares with captions, places and layouts, as ``gensat data pack`` would write it."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}


def picture(data: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(data).save(file, kind)
    return file.getvalue()


def write_shard(path: Path, count: int = 12, side: int = 64, **known) -> Path:
    """``count`` samples of ``side`` pixels, red and blue in turns with some noise; the left half is water (class 3)."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for k in range(count):
            name = list(COLOURS)[k % 2]
            image = np.clip(np.array(COLOURS[name]) + rng.normal(0, 20, (side, side, 3)), 0, 255).astype(np.uint8)
            layout = np.full((side, side), 5, np.uint8)
            layout[:, : side // 2] = 3
            about = {"source": "mine", "caption": f"a {name} river", "lon": -95.3 + 0.01 * k, "lat": 29.7, "gsd_m": 0.5}
            members = {
                "png": picture(image, "PNG"),
                "layout.png": picture(layout, "PNG"),
                "json": json.dumps({**about, "split": "train", **known}).encode(),
            }
            for extension, data in members.items():
                item = tarfile.TarInfo(f"sample{k:03d}.{extension}")
                item.size = len(data)
                tar.addfile(item, io.BytesIO(data))
    return path
