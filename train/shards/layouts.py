"""Layouts for tiles: one map for all of them (vectors or a raster), or a folder with one file a picture."""

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import pyogrio.raw
from pyogrio.errors import DataLayerError, DataSourceError

from ...errors import InputError
from ...geo import vectors
from ...geo.canvas import Canvas
from ...geo.layout import load_layout
from ...geo.legend import load_legend
from ...types import GeoImage
from .record import Record

_KEPT = 2**26  # bytes of class maps that are kept
_SUFFIXES = (".png", ".tif", ".tiff")


class Layouts:
    """Class maps of tiles. Use as a context: a GeoJSON is copied once into a file with a spatial index, and removed at the end.

    Args:
        source: map of all tiles; a folder with a file of the same name for each picture; or None (then records bring their own).
        legend: what codes or attributes mean, as ``load_legend`` reads it.
        min_share: of known pixels that a layout needs to be kept.

    Raises:
        InputError: no such file or legend.
    """

    def __init__(self, source: Path | None, legend: str | None = None, *, min_share: float = 0.0) -> None:
        if source is not None and not source.exists():
            raise InputError(f"layout {source} does not exist; check the path")
        self.source, self.min_share = source, min_share
        self.legend = None if legend is None else load_legend(legend)
        self.reason: InputError | None = None
        self._kept: dict[tuple, np.ndarray | None] = {}  # the same ground on other dates has the same map
        self._copy: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "Layouts":
        if self.source is not None and self.source.suffix.lower() in (".geojson", ".json") and self.source.is_file():
            self._copy = tempfile.TemporaryDirectory(prefix="gensat-layout-")
            self.source = _indexed(self.source, Path(self._copy.name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copy is not None:
            self._copy.cleanup()

    def of(self, record: Record, image: GeoImage | None) -> np.ndarray | None:
        """(H, W) classes 0 to 10 of a sample, or None where no map says anything about it.

        Raises:
            InputError: the map is unreadable, or has codes that the legend does not know.
        """
        source = record.layout or self._beside(record)
        if source is None or record.size is None:
            return None
        placed = image is not None and image.crs is not None and image.transform is not None
        canvas = Canvas.like(image) if placed and image is not None else Canvas.local(record.size[1], record.size[0])
        name = (source, record.crs, canvas.transform, record.size)
        if name not in self._kept:
            if len(self._kept) * canvas.height * canvas.width > _KEPT:
                self._kept.clear()
            self._kept[name] = self._draw(source, canvas)
        return self._kept[name]

    def _draw(self, source: Path, canvas: Canvas) -> np.ndarray | None:
        try:
            found = load_layout(source, canvas, legend=self.legend)
        except vectors.NothingHere as error:
            self.reason = error
            return None
        return None if found.coverage <= 0 or found.coverage < self.min_share else found.class_map

    def _beside(self, record: Record) -> Path | None:
        if self.source is None or not self.source.is_dir():
            return self.source
        for suffix in _SUFFIXES:
            for name in (record.path.stem, record.key):
                if (found := self.source / f"{name}{suffix}").is_file():
                    return found
        return None


def _indexed(path: Path, folder: Path) -> Path:
    """A GeoPackage of the layers of a file: a GeoJSON would be read whole for every tile."""
    target = folder / f"{path.stem}.gpkg"
    try:
        for name, kind in pyogrio.list_layers(path):
            if kind is None:
                continue
            meta, _, geometry, columns = pyogrio.raw.read(path, layer=name, force_2d=True)
            names = [f if f.lower() not in ("fid", "ogc_fid", "geom") else f"{f}_" for f in map(str, meta["fields"])]
            pyogrio.raw.write(
                target,
                geometry,
                columns,
                names,
                layer=str(name),
                driver="GPKG",
                geometry_type="Unknown",
                crs=meta["crs"],
            )
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read as a vector file; check that it is complete") from error
    return target if target.exists() else path
