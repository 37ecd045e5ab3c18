"""GeoTIFF scenes cut into tiles: north-up, in metres, at their own or a wanted gsd, read window by window."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.crs
from affine import Affine
from pyproj import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ...errors import InputError
from ...geo.crs import (
    crs_text,
    from_lonlat,
    ground_metre,
    ground_sampling_distance,
    metric_crs,
    pixel_to_world,
    project,
    require_metric,
    shifted,
    to_lonlat,
)
from ...geo.provenance import read_acquisition
from ...geo.raster import open_dataset, read_bands, unreadable
from ...types import Acquisition, Band, GeoImage, PartialDate, Place
from .record import Record, date_in, outline, safe_key

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
_SAMPLE = 512  # pixels a side at most of the overview that a display range is taken from
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cut:
    """How scenes become tiles.

    Args:
        size: pixels a side.
        stride: pixels from one tile to the next; None: size.
        gsd: metres per pixel on the ground to resample to; None keeps each scene's own.
        crs: to warp to; None keeps a scene's own if it is in metres, else its UTM zone.
        bands: names or numbers (from 1); empty: red, green and blue where a scene says which they are, else all.
        scale: (low, high) in stored values that become 0 and 255; ``"auto"``: the 2nd and 98th percentile of each scene; None: as stored.
        date_pattern: where the date is in a file name, see ``date_in``.
        align: cut all scenes of a CRS and gsd on one lattice, whose tiles begin at multiples of the stride, so that tiles of other dates
            cover exactly the same ground; scenes that lie between its pixels are resampled (bilinear).
    """

    size: int = 256
    stride: int | None = None
    gsd: float | int | None = None
    crs: Any = None
    bands: tuple[str, ...] = ()
    scale: tuple[float | int, float | int] | str | None = None
    date_pattern: str | None = None
    align: bool = False

    def __post_init__(self) -> None:
        if self.size < 8 or (self.stride is not None and self.stride < 1):
            raise InputError(f"tiles of {self.size} pixels every {self.stride} cannot be cut; give a size of 8 or more")
        Acquisition(self.gsd)  # checks its range


@dataclass
class Scene:
    """One raster on the grid that it is cut on: north-up, square pixels, in metres (or without a place)."""

    path: Path
    name: str
    crs: CRS | None
    transform: Affine | None
    height: int
    width: int
    channels: list[int]
    bands: list[Band]
    dtype: str
    warp: Resampling | None
    date: PartialDate
    sensor: str | None
    scale: tuple[float | int, float | int] | None
    display: tuple[float, float] | None
    alpha: bool = False
    notes: list[str] = field(default_factory=list)
    _open: Any = field(default=None, repr=False, compare=False)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def close(self) -> None:
        """Closes the file that :meth:`read` keeps open."""
        self._stack.close()
        self._open = None

    @property
    def picture(self) -> bool:
        """Whether its tiles are plain pictures: one or three bands of bytes."""
        return len(self.channels) in (1, 3) and (self.dtype == "uint8" or self.scale is not None)

    def tiles(self, cut: Cut, base: Record) -> Iterator[Record]:
        """A record per tile, with all that ``base`` says; places and gsd are of the tile's centre."""
        stride = cut.stride or cut.size
        for row in range(0, self.height - cut.size + 1, stride):
            for col in range(0, self.width - cut.size + 1, stride):
                yield self._tile(row, col, cut.size, base)

    def _tile(self, row: int, col: int, size: int, base: Record) -> Record:
        record = Record(f"{self.name}-{row:05d}-{col:05d}", self.path, base.source)
        record.caption, record.klass, record.licence = base.caption, base.klass, base.licence
        record.size, record.window, record.layout = (size, size), (row, col), base.layout
        gsd = base.acquisition.gsd
        if self.crs is not None and self.transform is not None:
            record.transform = shifted(self.transform, row, col)
            record.crs = crs_text(self.crs)
            lon, lat = to_lonlat(self.crs, *pixel_to_world(record.transform, size / 2, size / 2))
            record.place = Place(float(lon), float(lat)) if np.isfinite(lon) and np.isfinite(lat) else None
            record.footprint = outline(self.crs, record.transform, size, size)
            gsd = ground_sampling_distance(self.crs, record.transform, size, size)
        known = base.acquisition
        record.acquisition = Acquisition(gsd, known.date or self.date, known.cloud_cover, known.sensor or self.sensor)
        record.more = {} if self.picture else {"bands": [band.name for band in self.bands]}
        if not self.picture and self.display is not None:
            record.more["display"] = [round(value, 6) for value in self.display]
        return record

    def read(self, window: tuple[int, int], size: int) -> tuple[GeoImage, float]:
        """The pixels of a tile, and the share of them that is empty: not valid, or in all bands 0 or the largest number of the type.

        Raises:
            InputError: the file is damaged there.
        """
        try:
            if self._open is None:  # kept open: its blocks are shared by neighbouring tiles
                self._open = self._stack.enter_context(open_dataset(self.path))
                if self.warp is not None:
                    self._open = self._stack.enter_context(_warped(self._open, self))
            area = Window(window[1], window[0], size, size)
            array = np.moveaxis(self._open.read(self.channels, window=area), 0, 2)
            valid = np.ones(array.shape[:2], bool) if self.alpha else self._open.dataset_mask(window=area) > 0
        except RasterioError as error:
            raise unreadable(self.path, error) from error
        if array.dtype.kind == "f":
            valid = valid & np.isfinite(array).all(axis=2)
        empty = ~valid | (array == 0).all(axis=2)
        if array.dtype.kind == "u":
            empty |= (array == np.iinfo(array.dtype).max).all(axis=2)
        bands = self.bands
        if self.scale is not None:
            low, high = self.scale
            with np.errstate(invalid="ignore"):
                scaled = np.nan_to_num((array.astype(np.float64) - low) / (high - low) * 255)
            array = np.round(np.clip(scaled, 0, 255)).astype(np.uint8)
            bands = [Band(band.name, colour=band.colour) for band in bands]
        elif array.dtype == np.int16 and array.min() >= 0:
            array = array.astype(np.uint16)
        elif array.dtype.name not in ("uint8", "uint16"):
            array = array.astype(np.float32)
        transform = None if self.transform is None else shifted(self.transform, *window)
        image = GeoImage(np.ascontiguousarray(array), bands, self.crs, transform, None if valid.all() else valid)
        return image, float(empty.mean())


def open_scene(path: Path, name: str, cut: Cut) -> Scene:
    """Looks at a raster and decides its grid, bands and range.

    Raises:
        InputError: unreadable, a band that is not there, no CRS where one is needed, or a CRS that does not fit.
    """
    with open_dataset(path) as source:
        if not source.count or any(dtype.startswith("complex") for dtype in source.dtypes):
            raise InputError(f"{path.name} holds no bands of real numbers; leave it out")
        named = read_bands(source, list(source.indexes))
        opaque = [i for i, c in zip(source.indexes, source.colorinterp, strict=True) if c != ColorInterp.alpha]
        channels = _choose(path.name, opaque, named, cut.bands)
        alpha = not set(channels) <= set(opaque)
        bands = [named[i - 1] for i in channels]
        dtypes = {source.dtypes[i - 1] for i in channels}
        crs = CRS.from_wkt(source.crs.to_wkt()) if source.crs else None
        transform = source.transform if crs is not None and source.transform != Affine.identity() else None
        grid = _grid(source, crs, transform, cut, path.name)
        tags = source.tags()
        display = None if dtypes == {"uint8"} else _range(source, channels, bands, path)
    known = read_acquisition(tags)
    scale = display if cut.scale == "auto" else cut.scale
    date = (
        (date_in(path.stem, cut.date_pattern) if cut.date_pattern else PartialDate())
        or known.date
        or date_in(path.stem, None)
        or _tiff_date(tags)
    )
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    return Scene(
        path, safe_key(name), *grid[:4], channels, bands, dtype, grid[4], date, known.sensor,
        None if isinstance(scale, str) else scale, display, alpha, grid[5],
    )  # fmt: skip


def _choose(name: str, opaque: list[int], named: Sequence[Band], wanted: tuple[str, ...]) -> list[int]:
    """Numbers of the bands to read. One that is marked as alpha is read only if it is asked for: some programs mark any fourth band so."""
    if not wanted:
        roles = {named[i - 1].role: i for i in reversed(opaque)}
        colours = ("red", "green", "blue")
        return [roles[c] for c in colours] if set(colours) <= set(roles) else opaque
    chosen = []
    for one in wanted:
        if one.isdigit():
            if not 1 <= int(one) <= len(named):
                raise InputError(f"{name} has no band {one}; it has bands 1 to {len(named)}")
            chosen.append(int(one))
            continue
        known = [band.name.lower() for band in named], [band.role for band in named]
        found = next((names.index(one.lower()) for names in known if one.lower() in names), None)
        if found is None:
            raise InputError(f"{name} has no band {one!r}; it has {', '.join(b.name for b in named)}, or give numbers")
        chosen.append(found + 1)
    if len(set(chosen)) != len(chosen):
        raise InputError(f"bands {','.join(wanted)} name a band twice; name each once")
    return chosen


def _grid(
    source: Any, crs: CRS | None, transform: Affine | None, cut: Cut, name: str
) -> tuple[CRS | None, Affine | None, int, int, Resampling | None, list[str]]:
    """CRS, transform, height, width, resampling (None: as it lies) and notes of the grid that a scene is cut on."""
    if crs is None or transform is None:
        if cut.gsd is not None or cut.crs is not None:
            raise InputError(
                f"{name} has no CRS, so it cannot be brought to another gsd or CRS; give one with gdal_translate -a_srs"
            )
        return None, None, source.height, source.width, None, ["has no CRS: its tiles have no place"]
    x, y = pixel_to_world(transform, source.width / 2, source.height / 2)
    lon, lat = (float(v) for v in to_lonlat(crs, x, y))
    target, notes = _target(crs, transform, cut, lon, lat)
    own = ground_sampling_distance(crs, transform, source.height, source.width)
    cx, cy = (float(v) for v in from_lonlat(target, lon, lat))
    metre = ground_metre(target, cx, cy)
    if not own or not math.isfinite(metre):
        raise InputError(f"{name} lies where its CRS is not defined; check its georeference")
    north_up = transform.b == 0 and transform.d == 0 and transform.a > 0 and transform.e < 0
    square = abs(transform.a + transform.e) <= 1e-3 * abs(transform.a)
    kept = target == crs and square and (cut.gsd is None or math.isclose(cut.gsd, own, rel_tol=1e-6))
    if kept and north_up and not cut.align:
        return crs, transform, source.height, source.width, None, notes
    flipped = kept and transform.b == 0 and transform.d == 0
    step = abs(transform.a) if flipped else (cut.gsd or own) / metre
    along = np.linspace(0, 1, 33)
    columns = np.concatenate([along, along, along * 0, along * 0 + 1]) * source.width
    rows = np.concatenate([along * 0, along * 0 + 1, along, along]) * source.height
    u, v = project(crs, target, *pixel_to_world(transform, columns, rows))
    left, top = float(u.min()), float(v.max())
    on_grid = True
    if cut.align:
        lattice = (cut.stride or cut.size) * step
        own_left, own_top, left, top = (
            left,
            top,
            math.ceil(left / lattice - 1e-9) * lattice,
            math.floor(top / lattice + 1e-9) * lattice,
        )
        offsets = (left - own_left) / step, (own_top - top) / step
        on_grid = all(abs(offset - round(offset)) < 1e-3 for offset in offsets)
    width, height = int((u.max() - left) / step + 1e-6), int((top - v.min()) / step + 1e-6)
    if not north_up:
        notes.append("is south-up or rotated and was turned north-up")
    coarser = step * metre > 1.001 * own
    exact = flipped and on_grid
    resampling = Resampling.nearest if exact else Resampling.average if coarser else Resampling.bilinear
    if cut.gsd is not None and not kept:
        notes.append(f"was resampled from {own:.4g} to {cut.gsd:g} m")
    elif not exact and flipped:
        notes.append("was resampled by part of a pixel to lie on the common lattice")
    return target, Affine(step, 0.0, left, 0.0, -step, top), max(height, 0), max(width, 0), resampling, notes


def _target(crs: CRS, transform: Affine, cut: Cut, lon: float, lat: float) -> tuple[CRS, list[str]]:
    if cut.crs is not None:
        return metric_crs(cut.crs, lon, lat), []
    try:
        return metric_crs(require_metric(crs), lon, lat), []
    except InputError:
        utm = metric_crs(None, lon, lat)
        return utm, [f"is not in metres that fit its place and was warped to {crs_text(utm)}"]


def _warped(source: Any, scene: Scene) -> WarpedVRT:
    assert scene.crs is not None
    alpha = source.nodata is None and ColorInterp.alpha not in source.colorinterp
    return WarpedVRT(
        source,
        crs=rasterio.crs.CRS.from_wkt(scene.crs.to_wkt()),
        transform=scene.transform,
        height=scene.height,
        width=scene.width,
        resampling=scene.warp,
        add_alpha=alpha,
    )


def _range(source: Any, channels: list[int], bands: list[Band], path: Path) -> tuple[float, float]:
    """2nd to 98th percentile of the bands that are shown, from an overview of the whole scene."""
    roles = [band.role for band in bands]
    colours = ("red", "green", "blue")
    shown = (
        [channels[roles.index(c)] for c in colours]
        if set(colours) <= set(roles)
        else channels[:3]
        if len(channels) > 2
        else channels[:1]
    )
    step = max(1, math.ceil(max(source.height, source.width) / _SAMPLE))
    shape = len(shown), max(1, source.height // step), max(1, source.width // step)
    try:
        values = source.read(shown, out_shape=shape, masked=True)
    except RasterioError as error:
        raise unreadable(path, error) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = values.compressed().astype(np.float64)
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        return 0.0, 1.0
    low, high = np.percentile(kept, (2, 98))
    return float(low), float(high) if high > low else float(low) + 1.0


def _tiff_date(tags: dict[str, str]) -> PartialDate:
    """The tag ``TIFFTAG_DATETIME``, ``YYYY:MM:DD HH:MM:SS``; unknown when another program got it wrong."""
    text = tags.get("TIFFTAG_DATETIME", "")[:10].replace(":", "-")
    try:
        return PartialDate.parse(text)
    except InputError:
        return PartialDate()
