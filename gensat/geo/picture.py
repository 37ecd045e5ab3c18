"""PNG and JPEG that keep place, acquisition and provenance: PNG in text chunks, JPEG in the EXIF user comment.

Both carry the tags of a GeoTIFF, and ``GEO_CRS`` (an authority code or WKT), ``GEO_TRANSFORM`` (six numbers
a, b, c, d, e, f of the affine from pixel corners to CRS) and, where the defaults do not fit, ``GEO_BANDS``.
"""

from __future__ import annotations

import io
import json
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from gensat.errors import InputError
from gensat.geo.crs import crs_text, parse_crs
from gensat.geo.provenance import acquisition_tags, provenance_tags, read_acquisition, read_provenance
from gensat.types import Band, GeoImage

_MAX_EXIF = 60_000  # an EXIF block is one JPEG segment of at most 65,533 bytes
_MAX_SIDE = 65_500  # of a JPEG; no use in longer PNGs either
_ASCII = b"ASCII\0\0\0"
_WORLD = (".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".wld")
_log = logging.getLogger(__name__)


def encode_picture(image: GeoImage, suffix: str, *, quality: int = 95) -> bytes:
    """A PNG or JPEG file, tags included.

    Args:
        image: uint8 with 1 or 3 bands (PNG also uint16 with 1); invalid pixels become transparent in PNG.
        suffix: ``.png``, ``.jpg`` or ``.jpeg``.
        quality: of a JPEG, 1 to 100.

    Raises:
        InputError: bands, pixel type, invalid pixels or tags that the format cannot hold; the message names ``.tif``.
    """
    png = suffix == ".png"
    height, width, count = image.array.shape
    deep = png and image.array.dtype == np.uint16 and count == 1 and image.valid is None
    if image.array.dtype != np.uint8 and not deep:
        raise InputError(f"{suffix} cannot hold {image.array.dtype} pixels; save as .tif, or convert them to uint8")
    if count not in (1, 3):
        raise InputError(f"{suffix} cannot hold {count} bands; save as .tif, or choose 1 or 3 of them")
    if image.valid is not None and not png:
        raise InputError(f"{suffix} cannot mark pixels as not valid; save as .tif or .png")
    if height * width > (Image.MAX_IMAGE_PIXELS or math.inf) or max(height, width) > _MAX_SIDE:
        raise InputError(f"{height} x {width} pixels are too many for {suffix}; save as .tif")
    array = image.array
    if image.valid is not None:
        array = np.concatenate([array, np.where(image.valid, 255, 0).astype(np.uint8)[:, :, None]], axis=2)
    picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))
    tags = {**_geo_tags(image), **acquisition_tags(image.acquisition), **provenance_tags(image.provenance)}
    buffer = io.BytesIO()
    if png:
        info = PngInfo()
        for key, text in tags.items():
            info.add_text(key, text)
        picture.save(buffer, "PNG", pnginfo=info)
    else:
        picture.save(buffer, "JPEG", quality=quality, subsampling=0, exif=_exif(image, tags))
    return buffer.getvalue()


def read_picture(path: Path) -> GeoImage:
    """Reads a PNG or JPEG, ours or foreign.

    Transparent pixels become invalid ones, a palette becomes RGB, and what another program wrote is turned upright by
    its EXIF orientation. A world file beside it is not read, as it names no CRS, and the log says so.

    Raises:
        InputError: the file is no picture, is truncated, or is absurdly large.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            tags = read_tags(picture)
            upright = ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as an image ({reason}); check that the file is complete") from error
    array, valid = pixels(upright)
    try:
        bands = [Band(**band) for band in json.loads(tags["GEO_BANDS"])] if "GEO_BANDS" in tags else None
        transform = Affine(*json.loads(tags["GEO_TRANSFORM"])) if "GEO_TRANSFORM" in tags else None
        crs = parse_crs(tags.get("GEO_CRS"))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} has damaged GEO_ tags ({error}); save it again from the .tif") from error
    if transform is None and (world := [w.name for suffix in _WORLD if (w := path.with_suffix(suffix)).exists()]):
        _log.warning(
            "%s has no place: its world file %s names no CRS; make a GeoTIFF with gdal_translate -a_srs", path, world[0]
        )
    return GeoImage(array, bands, crs, transform, valid, read_acquisition(tags), read_provenance(tags))


def pixels(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W, C) uint8 or uint16 of a PIL image, and (H, W) bool of those that are not transparent, or None."""
    if picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.uint16)[:, :, None], None
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        if picture.mode == "1":
            picture = picture.convert("L")
        else:
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    array = np.asarray(picture)
    array = array[:, :, None] if array.ndim == 2 else array
    if picture.mode in ("LA", "RGBA"):
        valid = array[:, :, -1] > 0
        return np.ascontiguousarray(array[:, :, :-1]), None if valid.all() else valid
    return array.copy(), None


def _geo_tags(image: GeoImage) -> dict[str, str]:
    tags = {}
    if image.crs is not None:
        tags["GEO_CRS"] = crs_text(image.crs)
    if image.transform is not None:
        tags["GEO_TRANSFORM"] = json.dumps(tuple(image.transform)[:6])
    if image.bands != GeoImage(image.array).bands:
        tags["GEO_BANDS"] = json.dumps([asdict(band) for band in image.bands])
    return tags


def _exif(image: GeoImage, tags: dict[str, str]) -> Image.Exif:
    exif = Image.Exif()
    if image.provenance.get("synthetic") is True:
        exif[ExifTags.Base.ImageDescription] = "Synthetic image, not an observation (gensat)"
    comment = json.dumps(tags)
    if len(comment) > _MAX_EXIF:
        raise InputError(
            f".jpg cannot hold {len(comment)} bytes of tags, only {_MAX_EXIF}; save as .tif or .png, or shorten them"
        )
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _ASCII + comment.encode("ascii")
    return exif


def read_tags(picture: Image.Image) -> dict[str, str]:
    """The tags of an opened PNG or JPEG, ours and other text chunks; its pixels are not read."""
    tags: dict[str, Any] = dict(getattr(picture, "text", {}))
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if isinstance(comment, bytes) and comment.startswith(_ASCII + b"{"):
        try:
            tags.update(json.loads(comment[len(_ASCII) :].rstrip(b"\0 ")))
        except ValueError:
            pass  # a comment of another program that only looks like ours
    return {key: text for key, text in tags.items() if isinstance(text, str)}
