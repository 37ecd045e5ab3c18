"""Rasters in and out: one call for GeoTIFF, PNG and JPEG, with bands, validity, place and provenance."""

from __future__ import annotations

import logging
import math
import os
import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.crs
import rasterio.shutil
from affine import Affine
from pyproj import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.warp import reproject

from gensat.errors import InputError
from gensat.files import check_output, write_bytes
from gensat.geo.crs import pixel_to_world
from gensat.geo.picture import encode_picture, read_picture
from gensat.geo.provenance import acquisition_tags, provenance_tags, read_acquisition, read_provenance
from gensat.types import COLOURS, Band, GeoImage

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""The extensions an image can be saved under."""

_BLOCK = 256
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # PNG, JPEG
_log = logging.getLogger(__name__)


def image_suffix(path: str | os.PathLike[str]) -> str:
    """Lower-case extension of an image file.

    Raises:
        InputError: it is not one of ``SUFFIXES``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{Path(path).name} has no image extension; end it with {', '.join(SUFFIXES)}")
    return suffix


def save(
    image: GeoImage, path: str | os.PathLike[str], *, overwrite: bool = False, cog: bool = False, quality: int = 95
) -> None:
    """Writes an image: ``.tif`` as GeoTIFF, ``.png`` with text chunks, ``.jpg`` with EXIF.

    GeoTIFF keeps everything: band names, scale, offset and unit, colour interpretation, NaN as nodata for float32 or an
    internal mask for integers, CRS, transform, and ``GENSAT_*`` and ``ACQUISITION_*`` tags; deflate, tiled from
    512 x 512 on. Nothing half-written is ever left.

    Args:
        image: what to write.
        path: where to; its extension chooses the format.
        overwrite: whether an existing file may be replaced.
        cog: write a cloud-optimised GeoTIFF, with overviews.
        quality: of a JPEG, 1 to 100.

    Raises:
        InputError: the file exists, its folder does not, or the format cannot hold the image.
        OutputError: the disk is full or the folder not writable.
    """
    suffix = image_suffix(path)
    check_output(path, overwrite)
    geotiff = suffix in (".tif", ".tiff")
    data = encode_geotiff(image, cog=cog) if geotiff else encode_picture(image, suffix, quality=quality)
    write_bytes(path, data, overwrite)


def open_image(path: str | os.PathLike[str]) -> GeoImage:
    """Reads a GeoTIFF (or any raster GDAL reads), PNG or JPEG.

    Pixels of other types than uint8, uint16 and float32 become float32. An alpha band, a mask or nodata becomes
    ``valid``: a pixel is valid where every band is, but an 8-bit picture of several bands where any is. A south-up
    raster is flipped and a rotated one warped north-up, and the log says so. Ground control points and the world files
    of pictures are not read, and the log says that too.

    Raises:
        InputError: no such file, or one that is unreadable or truncated.
    """
    path = require_file(path)
    if is_picture(path):
        return read_picture(path)
    with open_dataset(path) as source:
        return read_dataset(source, path)


def is_picture(path: Path) -> bool:
    """Whether a file is a PNG or JPEG by its first bytes, whatever its extension says."""
    with path.open("rb") as file:
        return file.read(8).startswith(_MAGIC)


def require_file(path: str | os.PathLike[str]) -> Path:
    """Path of an existing, readable file.

    Raises:
        InputError: it is missing, a folder, or not readable.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; check its permissions")
    return path


def open_dataset(path: Path) -> DatasetReader:
    """Opens a raster with rasterio; the log says so if it is placed only by ground control points, which are not read.

    Raises:
        InputError: GDAL cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
    except RasterioError as error:
        raise unreadable(path, error) from error
    if source.gcps[0] and source.transform == Affine.identity():
        _log.warning("%s has no place but ground control points, which are not read; warp it with gdalwarp", path)
    return source


def unreadable(path: Path, error: Exception) -> InputError:
    """The one sentence about a file that GDAL opened or read in vain."""
    _log.debug("reading %s failed: %s", path, error)
    return InputError(f"{path} cannot be read as a raster; check that the file is complete and is an image")


def encode_geotiff(image: GeoImage, *, cog: bool = False) -> bytes:
    """A GeoTIFF file, encoded in memory so that a full disk is noticed when the bytes are written."""
    height, width, count = image.array.shape
    array, kind = image.array, image.array.dtype.kind
    roles = [band.role for band in image.bands]
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": image.array.dtype.name,
        "compress": "deflate",
        "predictor": 3 if kind == "f" else 2,
        "photometric": "RGB" if roles[:3] == ["red", "green", "blue"] and kind == "u" else "MINISBLACK",
        "BIGTIFF": "IF_SAFER",
    }
    if min(height, width) >= 2 * _BLOCK:
        profile |= {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    if image.crs is not None:
        profile["crs"] = rasterio.crs.CRS.from_wkt(image.crs.to_wkt())
    if image.transform is not None:
        profile["transform"] = image.transform
    if kind == "f":
        profile["nodata"] = math.nan
        if image.valid is not None:
            array = np.where(image.valid[:, :, None], array, np.float32(np.nan))
    tags = {**acquisition_tags(image.acquisition), **provenance_tags(image.provenance)}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile) as target:
            target.write(np.moveaxis(array, 2, 0))
            target.descriptions = tuple(band.name for band in image.bands)
            target.scales = tuple(float(band.scale) for band in image.bands)
            target.offsets = tuple(float(band.offset) for band in image.bands)
            target.units = tuple(band.unit for band in image.bands)
            target.colorinterp = tuple(_colour(band.role, first=i == 0) for i, band in enumerate(image.bands))
            target.update_tags(**tags)
            if kind != "f" and image.valid is not None:
                target.write_mask(image.valid)
        if not cog:
            return bytes(memory.getbuffer())
        with MemoryFile(ext=".tif") as optimised:
            # An overview must not mix values that may be classes.
            overview = "NEAREST" if _may_be_classes(array) else "AVERAGE"
            options = {"driver": "COG", "compress": "deflate", "predictor": "YES", "blocksize": _BLOCK}
            options |= {"overview_resampling": overview}
            rasterio.shutil.copy(memory.name, optimised.name, **options)
            return bytes(optimised.getbuffer())


def _may_be_classes(array: np.ndarray) -> bool:
    return array.shape[2] == 1 and array.dtype.kind == "u"


def _colour(role: str | None, *, first: bool) -> ColorInterp:
    if role is not None:
        return ColorInterp[role]
    return ColorInterp.gray if first else ColorInterp.undefined


def read_dataset(source: DatasetReader, path: Path) -> GeoImage:
    """The whole of an open raster as :func:`open_image` gives it; ``path`` is its name in messages. Raises InputError."""
    channels = [i for i, colour in zip(source.indexes, source.colorinterp, strict=True) if colour != ColorInterp.alpha]
    if not channels or any(dtype.startswith("complex") for dtype in source.dtypes):
        raise InputError(f"{path} holds no bands of real numbers; give a raster of pixel values")
    try:
        array = np.moveaxis(source.read(channels), 0, 2)
        valid = _valid(source, channels)
    except RasterioError as error:
        raise unreadable(path, error) from error
    if array.dtype.name not in ("uint8", "uint16", "float32"):
        if array.dtype.name not in ("int8", "int16", "float16"):
            _log.info("%s holds %s pixels, which are read as float32", path, array.dtype)
        array = array.astype(np.float32)
    transform = source.transform
    placed = transform != Affine.identity()  # what rasterio reports for a file without a georeference
    array, valid, north_up = north_up_pixels(array, valid, transform if placed else None, name=str(path))
    tags = source.tags()
    return GeoImage(
        np.ascontiguousarray(array),
        read_bands(source, channels),
        CRS.from_wkt(source.crs.to_wkt()) if source.crs else None,
        north_up,
        None if valid.all() else valid,
        read_acquisition(tags),
        read_provenance(tags),
    )


def _valid(source: DatasetReader, channels: list[int]) -> np.ndarray:
    """(H, W) bool: a pixel is valid where every band is; of an 8-bit picture, where one is, as its nodata is a shade."""
    valid = source.dataset_mask() > 0
    picture = len(channels) > 1 and all(source.dtypes[i - 1] == "uint8" for i in channels)
    return valid if picture else valid & (source.read_masks(channels) > 0).all(axis=0)


def read_bands(source: DatasetReader, channels: list[int]) -> list[Band]:
    """Names, scales, units and colours of bands (numbers from 1); a band without a name is called by its colour or number."""
    bands: list[Band] = []
    for i in channels:
        colour: str | None = source.colorinterp[i - 1].name
        colour = colour if colour in COLOURS else None
        default = colour or ("gray" if len(channels) == 1 else f"band{i}")
        name = (source.descriptions[i - 1] or "").strip() or default
        if name.lower() in (band.name.lower() for band in bands):
            name = f"{name} ({i})"
        scale = source.scales[i - 1] or 1.0
        unit = source.units[i - 1] or ""
        bands.append(Band(name, scale, source.offsets[i - 1], unit, None if name.lower() == colour else colour))
    return bands


def north_up_pixels(
    array: np.ndarray, valid: np.ndarray, transform: Affine | None, *, name: str
) -> tuple[np.ndarray, np.ndarray, Affine | None]:
    """Turns pixels so that row 0 is north and column 0 is west, and says so in the log.

    Mirrored axes are flipped exactly. A rotated grid is resampled within its own CRS to pixels of the same area:
    bilinear, but nearest for a single band of integers, which may be classes.

    Args:
        array: (H, W, C) pixels.
        valid: (H, W) bool.
        transform: affine of the file, or None (nothing is done).
        name: of the file, for the log.

    Returns:
        Pixels, validity and the north-up transform.
    """
    if transform is None:
        return array, valid, None
    if transform.b == 0 and transform.d == 0:
        height, width = valid.shape
        if transform.e > 0:
            _log.warning("%s is south-up and was flipped north-up", name)
            array, valid = array[::-1], valid[::-1]
            transform = Affine(transform.a, 0, transform.c, 0, -transform.e, transform.f + height * transform.e)
        if transform.a < 0:
            _log.warning("%s runs from east to west and was flipped", name)
            array, valid = array[:, ::-1], valid[:, ::-1]
            transform = Affine(-transform.a, 0, transform.c + width * transform.a, 0, transform.e, transform.f)
        return array, valid, transform
    _log.warning("%s is rotated and was warped north-up", name)
    return _unrotated(array, valid, transform)


def _unrotated(array: np.ndarray, valid: np.ndarray, transform: Affine) -> tuple[np.ndarray, np.ndarray, Affine]:
    height, width, count = array.shape
    x, y = pixel_to_world(transform, [0.0, width, 0.0, width], [0.0, 0.0, height, height])
    step = math.sqrt(abs(transform.determinant))
    columns, rows = math.ceil(np.ptp(x) / step - 1e-6), math.ceil(np.ptp(y) / step - 1e-6)
    target = Affine(step, 0.0, float(x.min()), 0.0, -step, float(y.max()))
    warped = np.full((count, rows, columns), np.nan, dtype=np.float32)
    plane = "EPSG:3857"  # one and the same on both sides: only the affine transforms count
    reproject(
        np.where(valid, np.moveaxis(array, 2, 0).astype(np.float32), np.float32(np.nan)),
        warped,
        src_transform=transform,
        src_crs=plane,
        src_nodata=math.nan,
        dst_transform=target,
        dst_crs=plane,
        dst_nodata=math.nan,
        resampling=Resampling.nearest if _may_be_classes(array) else Resampling.bilinear,
    )
    covered = np.asarray(np.isfinite(warped).all(axis=0))
    pixels = np.moveaxis(np.where(covered, warped, 0), 0, 2)
    return (np.round(pixels) if array.dtype.kind == "u" else pixels).astype(array.dtype), covered, target
