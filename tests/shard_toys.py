"""Small shards and scenes that say of every pixel where it comes from."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Transformer

from gensat.train.shards.pack import run
from gensat.train.shards.plan import Options, plan
from gensat.train.shards.record import Record
from gensat.train.shards.scenes import Cut
from gensat.train.shards.tables import Reading


def jpeg(colour, size=(16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for extension, data in members.items():
                item = tarfile.TarInfo(f"{key}.{extension}")
                item.size = len(data)
                tar.addfile(item, io.BytesIO(data))
    return path


def colour(number: int) -> tuple[int, int, int]:
    """Far enough from that of the next number to survive JPEG."""
    return 37 * number % 256, 91 * number % 256, 0


def about(number: int, **more) -> bytes:
    known = {"source": "a", "lon": 10 + 0.1 * number, "lat": 45.0, "gsd_m": 10.0, "caption": f"number {number}"}
    return json.dumps({**known, **more}).encode()


def shard(path: Path, count: int, *, first: int = 0, **more) -> Path:
    """A tar of ``count`` one-coloured pictures; sample i is called ``s000i`` and says so in its caption."""
    numbers = range(first, first + count)
    return write_tar(path, {f"s{i:04d}": {"jpg": jpeg(colour(i)), "json": about(i, **more)} for i in numbers})


def scene(path: Path, array, transform=None, crs="EPSG:32633", **more) -> Path:
    """A GeoTIFF of (C, H, W) pixels; by default of 10 m, with its north-west corner at 500 km east, 5000 km north."""
    array = np.asarray(array)
    transform = transform or Affine(10, 0, 500_000, 0, -10, 5_000_000)
    profile = {"driver": "GTiff", "height": array.shape[1], "width": array.shape[2], "count": array.shape[0]}
    tags = more.pop("tags", {})
    names = more.pop("names", None)
    if array.shape[0] == 3 and array.dtype == np.uint8:
        profile["photometric"] = "RGB"
    with rasterio.open(path, "w", **profile, dtype=array.dtype.name, crs=crs, transform=transform, **more) as target:
        target.write(array)
        target.update_tags(**tags)
        if names:
            target.descriptions = tuple(names)
    return path


def rows_and_columns(height: int, width: int) -> np.ndarray:
    """(3, H, W) uint8 that holds 1 + row / 2, 1 + column / 2 and 128: any tile tells where it was cut."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([1 + rows // 2, 1 + columns // 2, np.full_like(rows, 128)]).astype(np.uint8)


def options(
    cut=None, *, columns=None, cloud_percent=False, date_pattern=None, folders=False, base=None, **more
) -> Options:
    known = Record("", Path(), "toy", **(base or {}))
    reading = Reading(known, columns or {}, cloud_percent, date_pattern, folders)
    return Options(reading, cut or Cut(size=32), name="toy", **more)


def pack(source, out, cut=None, *, overwrite=False, **more):
    sources = [source] if isinstance(source, Path) else source
    return run(plan(sources, options(cut, **more)), out, overwrite=overwrite).describe()


def members(folder: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for item in tar:
                key, _, extension = item.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(item).read()
    return found


def facts(folder: Path) -> dict[str, dict]:
    return {key: json.loads(parts["json"]) for key, parts in members(folder).items()}


def shards(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.tar") if not p.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in shards(folder)}


def picture_folder(folder: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("water" if i % 3 else "park") / f"p {i}.v1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path, quality=90)
        path.with_suffix(".json").write_text(
            json.dumps({"lon": 10 + i, "lat": 40, "gsd_m": 10, "split": "test" if i == 5 else "train"})
        )
        path.with_suffix(".txt").write_text(f"number {i}\n")
    return folder


def polygon(path: Path, left, bottom, right, top, **properties) -> Path:
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    ring = [
        to_lonlat.transform(x, y)
        for x, y in ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ]
    feature = {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path
