"""How a sample is written: our members, DiffusionSat's (fMoW), or GeoSynth's files."""

import io
import json
from typing import Any

import numpy as np
from PIL import Image

from ...errors import InputError
from ...geo.display import to_rgb
from ...geo.raster import encode_geotiff
from ...types import GeoImage
from .record import Record, safe_key

SCHEMES = ("gensat", "diffusionsat", "geosynth")
FORMATS = ("auto", "jpg", "png", "tif")


def encode(image: GeoImage, form: str, quality: int) -> tuple[str, bytes]:
    """Extension and bytes of a tile: ``auto`` is JPEG for one or three bands of bytes, else GeoTIFF.

    Raises:
        InputError: the format cannot hold these pixels.
    """
    count = image.array.shape[2]
    plain = image.array.dtype == np.uint8 and count in (1, 3)
    if form == "auto":
        form = "jpg" if plain else "tif"
    if form == "tif":
        return "tif", encode_geotiff(image)
    if not plain:
        raise InputError(
            f"{form} cannot hold {count} bands of {image.array.dtype}; choose 1 or 3 with --bands and give --scale, or --format tif"
        )
    shown = image.array if image.valid is None else np.where(image.valid[:, :, None], image.array, 0).astype(np.uint8)
    made = Image.fromarray(shown[:, :, 0] if count == 1 else np.ascontiguousarray(shown))
    buffer = io.BytesIO()
    if form == "png":
        made.save(buffer, "PNG", optimize=False)
    else:
        made.save(buffer, "JPEG", quality=quality, subsampling=0)
    return form, buffer.getvalue()


def png(array: np.ndarray) -> bytes:
    """A PNG of classes (H, W) or of a picture (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def gensat_members(
    record: Record, extension: str, data: bytes, layout: np.ndarray | None, split: str
) -> dict[str, bytes]:
    """The image as it is, ``layout.png`` with classes 0 to 10, and ``json``."""
    members = {extension: data}
    if layout is not None:
        members["layout.png"] = png(layout)
    members["json"] = text(record.describe(split))
    return members


def diffusionsat_members(
    record: Record, pixels: np.ndarray, layout: np.ndarray | None, split: str, classes: list[str]
) -> dict[str, bytes]:
    """``input.npy`` (H, W, 3) uint8, ``output.cls`` (number of the class in ``classes``) and ``metadata.json`` as of fMoW, cloud cover in percent.

    ``timestamp`` is written for whole dates only, as DiffusionSat has no unknown month or day.
    """
    known, date = record.describe(split), record.acquisition.date
    about: dict[str, Any] = {
        "img_filename": record.path.name,
        "gsd": known.get("gsd_m"),
        "cloud_cover": None if "cloud_cover" not in known else 100 * known["cloud_cover"],
        "timestamp": f"{date}T00:00:00Z" if date.year and date.month and date.day else None,
        **{
            name: known.get(name)
            for name in (
                "date",
                "lon",
                "lat",
                "class",
                "caption",
                "sensor",
                "source",
                "split",
                "crs",
                "transform",
                "bounds",
                "licence",
            )
        },
    }
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(pixels))
    members = {"input.npy": buffer.getvalue(), "output.cls": str(classes.index(record.klass or "")).encode()}
    if layout is not None:
        members["layout.png"] = png(layout)
    members["metadata.json"] = text({name: value for name, value in about.items() if value is not None})
    return members


def diffusionsat_key(record: Record, number: int) -> str:
    """Key as fMoW has it: its data code chooses the preprocessing by the first word."""
    return f"fmow-{safe_key(record.klass or '')}-{number:06d}"


def rgb(image: GeoImage, record: Record) -> np.ndarray:
    """(H, W, 3) uint8 of a tile, stretched as its scene is."""
    display = record.more.get("display")
    return to_rgb(image, stretch=tuple(display) if display else None)


def text(values: dict[str, Any]) -> bytes:
    """A JSON member; the same values give the same bytes."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
