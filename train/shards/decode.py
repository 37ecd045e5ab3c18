"""From the members of one sample to a ``Sample``: images, layout and what is known, checked; every damage is one sentence."""

import io
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from PIL import Image
from rasterio.io import MemoryFile

from ...errors import InputError
from ...geo.classes import from_colours
from ...geo.display import to_rgb
from ...geo.legend import LEGENDS, Legend
from ...geo.raster import read_dataset
from ...types import Acquisition, GeoImage, Place
from ..sources import TARS, Sample
from .index import Entry, read_lines, read_parts
from .views import LAYOUTS, description, image_member

_FMOW = re.compile(r"(fmow|spacenet|satlas|xbd|texas)-(?P<klass>.+)-[^-]+")


class MostlyEmpty(InputError):
    """A sample that is whole but of no use: most of its picture lies outside the scene."""


def read_entry(entry: Entry) -> Sample:
    """One image of a shard, decoded.

    Raises:
        InputError: the sample is damaged; the message is the reason.
    """
    if "line" in entry.parts:
        return _geosynth(entry)
    return decode(entry.key, entry.view, read_parts(entry), source=entry.source)


def decode(key: str, view: str, members: dict[str, bytes], *, source: str) -> Sample:
    """Members of a sample to one of its images.

    Args:
        key: of the sample.
        view: which image, as :func:`gensat.train.shards.views.views` names it.
        members: content by extension.
        source: what to say when the json member does not.

    Raises:
        InputError: what is wrong with the sample.
    """
    about = description(members, view)
    info = {} if about is None else _json(members[about], about)
    name = image_member(members, view)
    if info.get("source") in TARS and "split" not in info:
        return _own(key, view, members, info)
    image, raster = _image(members[name], name, info)
    layout = next((_layout(members[m], m, image) for m in LAYOUTS if m in members), None)
    klass = _klass(key, members, info)
    place, acquisition = _facts(info, view, raster)
    caption = info.get(f"caption_{view}") or info.get("caption") or _text(members) or (klass or "").replace("_", " ")
    full = f"{key}.{view}" if view else key
    return Sample(
        str(info.get("source") or source), full, image, str(caption), klass, place, acquisition, layout, raster=raster
    )


def _own(key: str, view: str, members: dict[str, bytes], info: dict[str, Any]) -> Sample:
    """A sample of the project's data folder, with what is known of its sources."""
    others = {"pre": "post.jpg", "post": "pre.jpg"}.get(view)
    parts = {extension: data for extension, data in members.items() if extension != others}
    try:
        found = list(TARS[info["source"]][2](key, parts, info))
    except KeyError as error:
        raise InputError(f"{error.args[0]!r} is missing") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"image cannot be decoded ({_reason(error)})") from error
    if not found:
        raise MostlyEmpty("most of the image is empty, as at the edge of a swath")
    sample = found[0]
    if sample.layout is not None and sample.layout.shape != sample.image.shape[:2]:
        raise _other_size("layout", sample.layout, sample.image)
    return sample


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        read = json.loads(data)
    except ValueError as error:
        raise InputError(f"{name} does not parse ({error})") from error
    if not isinstance(read, dict):
        raise InputError(f"{name} is no JSON object")
    return read


def _image(data: bytes, name: str, info: dict[str, Any]) -> tuple[np.ndarray, GeoImage | None]:
    if name.endswith(".npy"):
        return _array(data, name), None
    if name.endswith(("tif", "tiff")):
        raster = _geotiff(data, name)
        display = info.get("display")
        return to_rgb(raster, stretch=(float(display[0]), float(display[1])) if display else None), raster
    return picture(data, name), None


def picture(data: bytes, name: str) -> np.ndarray:
    """(H, W, 3) uint8 of a JPEG, PNG or WebP. Raises InputError: it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened if opened.mode == "RGB" else opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be decoded ({_reason(error)})") from error


def _geotiff(data: bytes, name: str) -> GeoImage:
    try:
        with warnings.catch_warnings(), MemoryFile(data) as memory, memory.open() as opened:
            warnings.simplefilter("ignore")
            return read_dataset(opened, Path(name))
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{name} cannot be decoded as a GeoTIFF") from error


def _array(data: bytes, name: str) -> np.ndarray:
    """DiffusionSat's arrays: (H, W, 3) uint8, or floats in [0, 1] or [0, 255]; of a series (T, H, W, 3) the first picture."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{name} cannot be decoded ({_reason(error)})") from error
    array = array[0] if array.ndim == 4 else array
    if array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] < 3:
        raise InputError(f"{name} has shape {array.shape}, not (height, width, 3)")
    array = array[:, :, :3]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values")
    scale = 255.0 if array.max() <= 1 else 1.0
    return np.clip(np.round(array * scale), 0, 255).astype(np.uint8)


def _layout(data: bytes, name: str, image: np.ndarray) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            codes = np.asarray(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name} cannot be decoded ({_reason(error)})") from error
    if codes.shape[:2] != image.shape[:2]:
        raise _other_size(name, codes, image)
    if codes.ndim == 3:
        return from_colours(np.ascontiguousarray(codes[:, :, :3]))
    legend = LEGENDS[LAYOUTS[name]]
    assert isinstance(legend, Legend)
    return legend.to_classes(codes.astype(np.uint8))


def _other_size(name: str, layout: np.ndarray, image: np.ndarray) -> InputError:
    (h, w), (height, width) = layout.shape[:2], image.shape[:2]
    return InputError(f"{name} is {w} x {h} pixels, the image {width} x {height}")


def _klass(key: str, members: dict[str, bytes], info: dict[str, Any]) -> str | None:
    for value in (info.get("class"), info.get("category")):
        if value is not None:
            return str(value)
    match = _FMOW.fullmatch(key)
    if match and "output.cls" in members:
        return match["klass"]
    cls = members.get("cls", members.get("output.cls"))
    return None if cls is None else cls.decode(errors="replace").strip()


def _text(members: dict[str, bytes]) -> str:
    return members.get("txt", b"").decode(errors="replace").strip()


def _facts(info: dict[str, Any], view: str, raster: GeoImage | None) -> tuple[Place | None, Acquisition]:
    """Place and acquisition of our json members, and of DiffusionSat's (cloud cover there is in percent)."""
    foreign = "gsd" in info or "timestamp" in info
    date = info.get(f"{view}_date") or info.get(f"{view}_year") or info.get("date") or info.get("timestamp")
    cloud = _number(info.get("cloud_cover"), "cloud_cover")
    if foreign and cloud is not None:
        cloud /= 100
    lon, lat = _number(info.get("lon"), "lon"), _number(info.get("lat"), "lat")
    if lon is None and isinstance(info.get("raw_location"), str):
        with warnings.catch_warnings():
            centre = shapely.from_wkt(info["raw_location"]).centroid
        lon, lat = centre.x, centre.y
    if (lon is None) != (lat is None):
        raise InputError("one of lon and lat is missing")
    place = None if lon is None or lat is None else Place(lon, lat)
    if place is None and raster is not None:
        place = raster.place
    gsd = _number(info.get("gsd_m", info.get("gsd")), "gsd_m")
    return place, Acquisition(gsd, None if date is None else str(date), cloud, info.get("sensor"))


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} is {value!r}, not a number")
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}")
    return float(value)


def _geosynth(entry: Entry) -> Sample:
    """A line {source, target, prompt, class}: target is the image, source the picture of its map, both paths beside the list."""
    row = read_lines(entry.shard)[entry.parts["line"][0]]
    folder = entry.shard.parent
    image = picture(_file(folder / row["target"]), row["target"])
    layout = None
    if isinstance(row.get("layout"), str):
        layout = _layout(_file(folder / row["layout"]), "layout.png", image)
    place, acquisition = _facts(row, "", None)
    number = row.get("class")
    if place is None and isinstance(number, int) and (table := folder / "lonlat.npy").is_file():
        lonlat = np.load(table, allow_pickle=False)
        place = Place(*map(float, lonlat[number])) if np.isfinite(lonlat[number]).all() else None
    caption = str(row.get("prompt", ""))
    return Sample(entry.source, Path(entry.key).stem, image, caption, row.get("category"), place, acquisition, layout)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror})") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
