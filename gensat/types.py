"""What everything in gensat passes around: places, dates, acquisitions and georeferenced images.

Coordinates are (lon, lat) in degrees, in that order and named. Images are (H, W, C) with row 0 in the north. Each
condition is optional and "unknown" is a value of its own, never a guess.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Bool, Shaped
from PIL import Image
from pyproj import CRS

from gensat.dates import PartialDate
from gensat.errors import InputError, require_number
from gensat.geo.crs import (
    ground_sampling_distance,
    parse_crs,
    pixel_to_world,
    raster_bounds,
    require_north_up,
    to_lonlat,
)

# The colour interpretations of GDAL that name a part of the spectrum; a band of such a name needs no explicit colour.
COLOURS = ("red", "green", "blue", "coastal", "rededge", "nir", "swir", "mwir", "lwir", "tir", "pan", "yellow", "cyan")

DTYPES = ("uint8", "uint16", "float32")
"""The pixel types of a GeoImage."""


@dataclass(frozen=True)
class Place:
    """A point on the Earth.

    Args:
        lon: longitude in degrees east, -180 to 180.
        lat: latitude in degrees north, -90 to 90.

    Raises:
        InputError: a coordinate is not finite or out of range.
    """

    lon: float | int
    lat: float | int

    def __post_init__(self) -> None:
        object.__setattr__(self, "lon", require_number(self.lon, "longitude"))
        object.__setattr__(self, "lat", require_number(self.lat, "latitude"))
        if not (math.isfinite(self.lon) and math.isfinite(self.lat)):
            raise InputError(f"place lon={self.lon} lat={self.lat} is not finite; give both in degrees")
        if not -90 <= self.lat <= 90:
            swap = abs(self.lon) <= 90 and abs(self.lat) <= 180
            hint = (
                f"; if the two are swapped, give lon={self.lat:g} lat={self.lon:g}" if swap else "; give degrees north"
            )
            raise InputError(f"latitude {self.lat:g} is outside -90 to 90{hint}")
        if not -180 <= self.lon <= 180:
            raise InputError(
                f"longitude {self.lon:g} is outside -180 to 180; "
                f"give degrees east, here perhaps {(self.lon + 180) % 360 - 180:g}"
            )

    def to_dict(self) -> dict[str, float]:
        """Plain dictionary for provenance and JSON."""
        return {"lon": float(self.lon), "lat": float(self.lat)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Place:
        """Inverse of :meth:`to_dict`."""
        return cls(**_known_keys(cls, values))


@dataclass(frozen=True, init=False)
class Acquisition:
    """How an image was taken, or should look as if taken; every field may be unknown.

    Args:
        gsd: ground sampling distance in metres per pixel, above 0.
        date: anything :meth:`PartialDate.parse` reads; stored as a PartialDate (false when unknown).
        cloud_cover: fraction of the image under cloud, 0 to 1.
        sensor: name of the platform or sensor, such as ``"sentinel-2"``; stored in lower case.

    Raises:
        InputError: a value is out of its range.
    """

    gsd: float | None
    date: PartialDate
    cloud_cover: float | None
    sensor: str | None

    def __init__(
        self,
        gsd: float | int | None = None,
        date: str | int | datetime.date | PartialDate | None = None,
        cloud_cover: float | int | None = None,
        sensor: str | None = None,
    ) -> None:
        gsd = None if gsd is None else require_number(gsd, "gsd")
        cloud_cover = None if cloud_cover is None else require_number(cloud_cover, "cloud cover")
        if gsd is not None and not (math.isfinite(gsd) and gsd > 0):
            raise InputError(f"gsd {gsd:g} is not a ground sampling distance; give metres per pixel above 0")
        if cloud_cover is not None and not 0 <= cloud_cover <= 1:
            hint = f"; {cloud_cover:g} percent is {cloud_cover / 100:g}" if 1 < cloud_cover <= 100 else "; give 0 to 1"
            raise InputError(f"cloud cover {cloud_cover:g} is not a fraction from 0 to 1{hint}")
        object.__setattr__(self, "gsd", gsd)
        object.__setattr__(self, "date", PartialDate.parse(date))
        object.__setattr__(self, "cloud_cover", cloud_cover)
        if not isinstance(sensor, str | None):
            raise InputError(f"sensor is {sensor!r}; give its name, such as 'sentinel-2'")
        object.__setattr__(self, "sensor", (sensor or "").strip().lower() or None)

    def __bool__(self) -> bool:
        return bool(self.to_dict())

    def to_dict(self) -> dict[str, float | str]:
        """Plain dictionary of what is known; the date as ISO text."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["date"] = str(self.date) or None
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Acquisition:
        """Inverse of :meth:`to_dict`; missing keys are unknown, an unknown key is an InputError."""
        return cls(**_known_keys(cls, values))


@dataclass(frozen=True)
class Band:
    """One band of an image: physical value = stored value * scale + offset.

    Args:
        name: unique within its image, such as ``"red"``, ``"nir"``, ``"B8A"``.
        scale: factor from stored to physical values, finite and not 0.
        offset: added after scaling, in physical units.
        unit: unit of the physical value, such as ``"m"``; empty for none.
        colour: the part of the spectrum, one of ``COLOURS``; None when the name says it already or none fits.

    Raises:
        InputError: an empty name, a scale of 0, or a colour that is not in ``COLOURS``.
    """

    name: str
    scale: float | int = 1.0
    offset: float | int = 0.0
    unit: str = ""
    colour: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("a band has an empty name; name it after what it holds, such as red or nir")
        if not (math.isfinite(self.scale) and self.scale != 0 and math.isfinite(self.offset)):
            raise InputError(
                f"band {self.name!r} has scale {self.scale} and offset {self.offset}; "
                "give finite numbers and a scale other than 0"
            )
        if self.colour is not None and self.colour not in COLOURS:
            raise InputError(f"band {self.name!r} has colour {self.colour!r}; give one of {', '.join(COLOURS)}")

    @property
    def role(self) -> str | None:
        """The part of the spectrum, from ``colour`` or else from the name; None when neither says."""
        return self.colour or (self.name.lower() if self.name.lower() in COLOURS else None)


@dataclass(eq=False, init=False, repr=False)
class GeoImage:
    """An image that knows where it lies, when it was taken and how it was made.

    Args:
        array: (H, W, C) or (H, W), uint8, uint16 or float32; row 0 is north, column 0 is west.
        bands: one Band or band name per channel; default ``red, green, blue`` for 3 channels, ``gray`` for 1, else
            ``band1, band2, ...``. Stored as a tuple of Band.
        crs: anything pyproj reads, or None when the image has no place. Stored as a ``pyproj.CRS``.
        transform: affine from pixel corners (column, row) to CRS coordinates, north-up; or None.
        valid: (H, W) bool, False where pixels hold nothing; None when all are valid. A pixel with a NaN or infinite
            value in any band becomes invalid.
        acquisition: gsd, date, cloud cover and sensor, as far as known.
        provenance: how the image came to be: JSON-like values under lower-case keys; written to ``GENSAT_*`` tags.

    Raises:
        InputError: wrong shape or pixel type, names that repeat, a transform that is rotated or south-up.
    """

    array: Shaped[np.ndarray, "h w c"]
    bands: tuple[Band, ...]
    crs: CRS | None
    transform: Affine | None
    valid: Bool[np.ndarray, "h w"] | None
    acquisition: Acquisition
    provenance: dict[str, Any]

    def __init__(
        self,
        array: np.ndarray,
        bands: Sequence[Band | str] | None = None,
        crs: Any = None,
        transform: Affine | None = None,
        valid: np.ndarray | None = None,
        acquisition: Acquisition | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        array = array[:, :, None] if array.ndim == 2 else array
        if array.ndim != 3 or 0 in array.shape:
            raise InputError(f"image array has shape {array.shape}; give (height, width, channels), none of them 0")
        if array.dtype.name not in DTYPES:
            raise InputError(f"image array has type {array.dtype}; convert it to one of {', '.join(DTYPES)}")
        if transform is not None:
            if not (isinstance(transform, Affine) and np.isfinite(transform[:6]).all()):
                raise InputError(f"transform is {transform!r}; give a finite affine.Affine, as rasterio does")
            require_north_up(transform)
        if valid is not None and (valid.shape != array.shape[:2] or valid.dtype != bool):
            raise InputError(
                f"valid mask is {valid.dtype} {valid.shape}; give bool {array.shape[:2]}, the shape of the image"
            )
        if array.dtype.kind == "f":
            finite = np.isfinite(array).all(axis=2)
            if not finite.all():
                valid = finite if valid is None else valid & finite
        self.array = array
        self.bands = _bands(bands, array.shape[2])
        self.crs = parse_crs(crs)
        self.transform = transform
        self.valid = valid
        self.acquisition = acquisition or Acquisition()
        self.provenance = dict(provenance or {})

    def __repr__(self) -> str:
        names = ", ".join(band.name for band in self.bands)
        where = self.crs.to_string()[:40] if self.crs is not None else "no CRS"
        return f"GeoImage({self.height} x {self.width} {self.array.dtype}: {names}; {where})"

    @property
    def height(self) -> int:
        """Rows."""
        return self.array.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.array.shape[1]

    @property
    def georeferenced(self) -> bool:
        """Whether both CRS and transform are known."""
        return self.crs is not None and self.transform is not None

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance in metres per pixel: from the georeference, else the acquisition, else None."""
        if self.crs is not None and self.transform is not None:
            return ground_sampling_distance(self.crs, self.transform, self.height, self.width)
        return self.acquisition.gsd

    @property
    def place(self) -> Place | None:
        """Centre of the image, or None without a georeference."""
        if self.crs is None or self.transform is None:
            return None
        lon, lat = to_lonlat(self.crs, *pixel_to_world(self.transform, self.width / 2, self.height / 2))
        return Place(float(lon), float(lat)) if np.isfinite(lon) and np.isfinite(lat) else None

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """(left, bottom, right, top) in units of the CRS, or None without a transform."""
        if self.transform is None:
            return None
        return raster_bounds(self.transform, self.height, self.width)

    def index(self, name: str) -> int:
        """Channel of a band, by name or else by role (case does not matter).

        Raises:
            InputError: no band of that name.
        """
        names = [band.name.lower() for band in self.bands]
        roles = [band.role for band in self.bands]
        for known in (names, roles):
            if name.lower() in known:
                return known.index(name.lower())
        raise InputError(f"there is no band {name!r}; choose one of {', '.join(band.name for band in self.bands)}")

    def band(self, name: str) -> Shaped[np.ndarray, "h w"]:
        """Stored values of one band, (H, W), a view of the array."""
        return self.array[:, :, self.index(name)]

    def physical(self) -> Shaped[np.ndarray, "h w c"]:
        """(H, W, C) float32 of stored * scale + offset, NaN where a pixel is not valid."""
        scale = np.array([band.scale for band in self.bands])
        offset = np.array([band.offset for band in self.bands])
        values = (self.array.astype(np.float64) * scale + offset).astype(np.float32)
        if self.valid is not None:
            values[~self.valid] = np.nan
        return values

    def to_pil(self, *, stretch: tuple[float | int, float | int] | None = None) -> Image.Image:
        """RGB picture for eyes; see :func:`gensat.geo.display.to_rgb` for the choice of bands and the stretch."""
        from gensat.geo.display import to_rgb

        return Image.fromarray(to_rgb(self, stretch=stretch))

    def save(self, path: str | os.PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Writes the image by the extension of ``path``; see :func:`gensat.geo.raster.save` for formats and errors."""
        from gensat.geo.raster import save

        save(self, path, overwrite=overwrite, **options)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GeoImage:
        """Reads a GeoTIFF, PNG or JPEG; see :func:`gensat.geo.raster.open_image`."""
        from gensat.geo.raster import open_image

        return open_image(path)


def _bands(bands: Sequence[Band | str] | None, count: int) -> tuple[Band, ...]:
    defaults = {1: ("gray",), 3: ("red", "green", "blue")}
    chosen = bands if bands is not None else defaults.get(count) or [f"band{i + 1}" for i in range(count)]
    made = tuple(Band(band) if isinstance(band, str) else band for band in chosen)
    names = [band.name.lower() for band in made]
    if len(made) != count:
        raise InputError(f"{len(made)} bands are named for {count} channels; name each channel once")
    if len(set(names)) != count:
        raise InputError(f"band names {', '.join(names)} repeat; give each band its own name")
    return made


def _known_keys(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = [f.name for f in fields(cls)]
    unknown = [key for key in values if key not in names]
    if unknown:
        raise InputError(f"{cls.__name__} has no field {', '.join(map(str, unknown))}; it has {', '.join(names)}")
    return dict(values)


__all__ = ["COLOURS", "DTYPES", "Acquisition", "Band", "GeoImage", "PartialDate", "Place"]
