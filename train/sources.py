"""Readers of the project's data folders: every source yields the same ``Sample``, whatever its files look like."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from pyproj import Transformer
from rasterio.windows import Window
from rasterio.windows import bounds as window_bounds

from ..errors import InputError
from ..geo.legend import LEGENDS
from ..types import Acquisition, GeoImage, PartialDate, Place
from .splits import held_out, held_out_boxes
from .tars import tar_groups

NON_COMMERCIAL = {"houston", "poland"}  # CC BY-NC imagery: left out of the public-domain and CC BY variant


@dataclass
class Sample:
    """One image with what is known of it.

    ``image`` (H, W, 3) uint8, row 0 north; ``layout`` (H, W) uint8 in the legend of ``gensat.geo.legend`` or None;
    ``klass`` the land-use class or None; unknown place and acquisition fields are None. ``raster`` holds all bands as stored, where
    there are more than ``image`` shows. ``layout_origin`` is "map", or "read" where a network read the layout off the image, and ``seen``
    the class that a network is sure to see (``readings``).
    """

    source: str
    key: str
    image: np.ndarray
    caption: str
    klass: str | None = None
    place: Place | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    layout: np.ndarray | None = None
    number: int | None = None
    raster: GeoImage | None = None
    layout_origin: str = "map"
    seen: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether the split keeps this sample out of training (tar sources; rasters are split while cutting)."""
        return held_out(self.source, lon=self.place.lon if self.place else None, number=self.number)


def shards(root: Path, name: str) -> list[Path]:
    """The WebDataset shards ``name``-000.tar, ``name``-001.tar, ... under the data folder."""
    found = sorted(root.glob(f"{name}-[0-9]*.tar"))
    if not found:
        raise InputError(f"{root} holds no {name}-000.tar; restore the data folder, or leave that source out")
    return found


def _pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def number_of(source: str, key: str) -> int | None:
    """The number by which a source without places is split; None where it is split by place."""
    return int(re.findall(r"\d+", key)[-1]) if source in ("ucmerced", "poland") else None


def _ucmerced(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    acquisition = Acquisition(gsd=info["gsd_m"], sensor="aerial", cloud_cover=0.0)
    number = number_of("ucmerced", key)
    yield Sample("ucmerced", key, _pixels(m["jpg"]), info["caption"], info["class"], None, acquisition, None, number)


def _houston(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    place = Place(lon=info["lon"], lat=info["lat"])
    for when in ("pre", "post"):
        if f"{when}.jpg" not in m:
            continue
        date = str(info["pre_year"]) if when == "pre" else info["post_date"]
        acquisition = Acquisition(gsd=info["gsd_m"], date=date, sensor="vhr", cloud_cover=0.0)
        image, caption = _pixels(m[f"{when}.jpg"]), info[f"caption_{when}"]
        yield Sample("houston", f"{key}.{when}", image, caption, None, place, acquisition)


def _uganda(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    layout = LEGENDS["uganda"].to_classes(np.asarray(Image.open(io.BytesIO(m["building.png"]))))
    acquisition = Acquisition(gsd=info["gsd_m"], sensor="drone", cloud_cover=0.0)
    place = Place(lon=info["lon"], lat=info["lat"])
    yield Sample("uganda", key, _pixels(m["jpg"]), info["caption"], None, place, acquisition, layout)


def _poland(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    layout = LEGENDS["landcover.ai"].to_classes(np.asarray(Image.open(io.BytesIO(m["landcover.png"]))))
    acquisition = Acquisition(sensor="aerial", cloud_cover=0.0)  # 0.25 or 0.5 m, not known which
    number = number_of("poland", key)
    yield Sample("poland", key, _pixels(m["jpg"]), info["caption"], None, None, acquisition, layout, number)


def _sentinel2(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    image = _pixels(m["jpg"])
    if (image.max(axis=2) == 0).mean() > 0.02:  # swath edge
        return
    acquisition = Acquisition(gsd=info["gsd_m"], date=info["date"], sensor="sentinel-2", cloud_cover=0.0)
    caption = "a Sentinel-2 satellite image of Europe"
    yield Sample("sentinel2", key, image, caption, None, Place(lon=info["lon"], lat=info["lat"]), acquisition)


def _landsat(key: str, m: dict[str, bytes], info: dict[str, Any]) -> Iterator[Sample]:
    states = {"AZ": "Arizona", "CA": "California"}
    image = _pixels(m["png"])
    if (image.min(axis=2) == 255).mean() > 0.1:  # outside the scene
        return
    acquisition = Acquisition(gsd=info["gsd_m"], sensor="landsat-8", cloud_cover=0.0)
    caption = f"a Landsat image of a power plant in {states[info['state']]}"
    yield Sample("landsat", key, image, caption, None, Place(lon=info["lon"], lat=info["lat"]), acquisition)


Decoder = Callable[[str, dict[str, bytes], dict[str, Any]], Iterator[Sample]]

TARS: dict[str, tuple[str, tuple[str, ...], Decoder]] = {
    "ucmerced": ("ucmerced", ("scenes/ucmerced-train",), _ucmerced),
    "houston": ("houston", ("houston/houston-train", "houston/houston-post-train"), _houston),
    "openaerialmap-uganda": ("uganda", ("buildings/uganda-train",), _uganda),
    "landcover.ai": ("poland", ("landcover/poland-train",), _poland),
    "sentinel-2": ("sentinel2", ("sentinel2/europe-train",), _sentinel2),
    "landsat-8": ("landsat", ("landsat/powerplants-train",), _landsat),
}
"""What the ``source`` of the data folder's json members says: our name of the source, its shards, and how its members become samples
(none from a picture that is mostly empty)."""


def _reader(names: tuple[str, ...], decode: Decoder) -> Callable[[Path], Iterator[Sample]]:
    def read(root: Path) -> Iterator[Sample]:
        for shard in (shard for name in names for shard in shards(root, name)):
            for key, members in tar_groups(shard):
                yield from decode(key, members, json.loads(members["json"]))

    return read


# file or folder -> (RGB bands, sensor, gsd in m, date, caption)
_RASTERS = {
    "foz_landsat8_2020-05-18.tif": ((1, 2, 3), "landsat-8", "2020-05-18", "a Landsat image of Foz do Iguacu, Brazil"),
    "itaipu_landsat8_2020-05-18.tif": ((1, 2, 3), "landsat-8", "2020-05-18", "a Landsat image of Itaipu, Brazil"),
    "saltlake_landsat7.tif": ((1, 2, 3), "landsat-7", None, "a Landsat image of Salt Lake City, Utah"),
    "olinda_landsat7_6band.tif": ((3, 2, 1), "landsat-7", None, "a Landsat image of Olinda, Brazil"),
    "south_africa/landsat8_30m.tif": (
        (3, 2, 1),
        "landsat-8",
        None,
        "a Landsat image of a river valley in South Africa",
    ),
    "south_africa/sentinel2_10m.tif": (
        (1, 2, 3),
        "sentinel-2",
        None,
        "a Sentinel-2 image of a river valley in South Africa",
    ),
    "south_africa/aerial_5m_*.tif": ((1, 2, 3), "aerial", None, "an aerial image of a river valley in South Africa"),
    "north_dakota/naip_*.tif": ((1, 2, 3), "aerial", "name", "an aerial image of wetlands and fields in North Dakota"),
    "sites/*/rgb.tif": ((1, 2, 3), "sentinel-2", None, "a Sentinel-2 image"),
}


def _overlaps(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def raster_tiles(root: Path, split: str, *, size: int = 256, stride: int = 128) -> Iterator[Sample]:
    """Tiles of the GeoTIFF scenes: training tiles touch no held-out box, held-out tiles touch one (they lie inside or across it)."""
    for pattern, (bands, sensor, date, caption) in _RASTERS.items():
        for path in sorted((root / "rasters").glob(pattern)):
            name = path.relative_to(root / "rasters").as_posix()
            boxes = held_out_boxes(name) or held_out_boxes(str(Path(name).parent))
            with rasterio.open(path) as src:
                image = np.moveaxis(src.read(bands), 0, -1)
                layout = None
                if pattern.startswith("sites/"):
                    with rasterio.open(path.with_name("landcover.tif")) as lc:
                        layout = LEGENDS["sites"].to_classes(lc.read(1))
                metres = src.res[0] * (111320.0 if src.crs.is_geographic else 1.0)
                when = re.sub(r".*_(\d{4})(\d\d)(\d\d)", r"\1-\2-\3", path.stem) if date == "name" else date
                to_lonlat = Transformer.from_crs(src.crs.to_wkt(), 4326, always_xy=True)
                size_ = min(size, src.height, src.width) // 8 * 8
                for row in range(0, src.height - size_ + 1, stride):
                    for col in range(0, src.width - size_ + 1, stride):
                        box = window_bounds(Window(col, row, size_, size_), src.transform)
                        touches = any(_overlaps(box, b) for b in boxes)
                        inside = any(
                            b[0] <= (box[0] + box[2]) / 2 <= b[2] and b[1] <= (box[1] + box[3]) / 2 <= b[3]
                            for b in boxes
                        )
                        if touches if split == "train" else not inside:
                            continue
                        tile = image[row : row + size_, col : col + size_]
                        if ((tile.max(axis=2) == 0) | (tile.min(axis=2) == 255)).mean() > 0.01:
                            continue
                        lon, lat = to_lonlat.transform((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                        yield Sample(
                            "rasters",
                            f"{Path(name).with_suffix('')}-{row}-{col}",
                            np.ascontiguousarray(tile),
                            caption,
                            None,
                            Place(lon=lon, lat=lat),
                            Acquisition(gsd=metres, date=PartialDate.parse(when), sensor=sensor, cloud_cover=0.0),
                            None if layout is None else layout[row : row + size_, col : col + size_],
                        )


READERS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    name: _reader(names, decode) for name, names, decode in TARS.values()
}
