"""A flood that travels: depth rasters of several moments, such as a solver keeps them, and the scene at any time between."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from gensat.errors import InputError
from gensat.geo.crs import crs_name, from_lonlat, parse_crs
from gensat.geo.provenance import read_provenance
from gensat.geo.raster import open_dataset, open_image
from gensat.render.flood_scene import flooded
from gensat.render.scene import Scene
from gensat.types import GeoImage

_KEPT = "steps"  # where gensat flood simulate --every keeps depths
_RASTERS = (".tif", ".tiff")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s?s$")


@dataclass(frozen=True, eq=False)
class FloodSteps:
    """Depths of several moments on one grid.

    Args:
        files: rasters of depth in metres, one band, 0 where dry.
        seconds: of each, rising.
    """

    files: tuple[Path, ...]
    seconds: Float[np.ndarray, " t"]
    _read: dict[int, GeoImage] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> FloodSteps:
        """Finds the rasters; nothing but their headers is read.

        Args:
            folder: of ``gensat flood simulate --every``, whose ``steps`` are taken; or any folder of GeoTIFFs that say their time: in the tag
                GENSAT_SECONDS, or at the end of the name (``depth_0060.5s.tif``).

        Raises:
            InputError: no such folder, no rasters, one without a time, times that do not rise with the names, or grids that differ.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give one with the depths of a flood, or a raster")
        inner = folder / _KEPT if (folder / _KEPT).is_dir() else folder
        files = sorted((f for f in inner.iterdir() if f.suffix.lower() in _RASTERS), key=_order)
        if inner is folder and (folder / "run.json").exists() and (folder / "depth.tif").exists():
            raise InputError(
                f"{folder} keeps the flood at its highest only; give {folder / 'depth.tif'}, or simulate it again with --every MINUTES"
            )
        if not files:
            raise InputError(
                f"{inner} holds no depth rasters (.tif); give the folder of a flood simulated with --every"
            )
        seconds, first = [], None
        for file in files:
            with open_dataset(file) as source:
                crs = parse_crs(source.crs)
                grid = (
                    source.width,
                    source.height,
                    tuple(source.transform)[:6],
                    None if crs is None else crs_name(crs),
                )
                seconds.append(_seconds(file, source.tags()))
            first = first or grid
            if grid != first:
                raise InputError(
                    f"{file.name} is on another grid than {files[0].name}; give depths of one flood, all of the same cells"
                )
        for k in range(1, len(files)):
            if not seconds[k] > seconds[k - 1]:
                raise InputError(
                    f"the times in {inner} do not rise: {files[k].name} is of {seconds[k]:g} s, after {files[k - 1].name} of "
                    f"{seconds[k - 1]:g} s; give the moments of one flood"
                )
        return cls(tuple(files), np.array(seconds))

    def __len__(self) -> int:
        return len(self.files)

    def depth(self, k: int) -> GeoImage:
        """Depths of one moment. Raises InputError for a file that cannot be read or has several bands."""
        if k not in self._read:
            image = open_image(self.files[k])
            if image.array.shape[2] != 1:
                raise InputError(
                    f"{self.files[k].name} has {image.array.shape[2]} bands; give one band of depth in metres"
                )
            for old in list(self._read)[:-1]:  # a film needs two at a time
                del self._read[old]
            self._read[k] = image
        return self._read[k]

    def at(self, seconds: float | int) -> GeoImage:
        """Depths at a time, one band of float32 metres.

        Where it is wet before and after, the depth changes evenly. A cell that becomes wet is reached by the surface of the water next to it, which
        rises evenly too; where nothing beside it rises that much, its own depth grows evenly from none. Falling is the same backward. So a
        level surface that rises evenly is exact at all times.

        Raises:
            InputError: a time before the first moment or after the last.
        """
        if not self.seconds[0] <= seconds <= self.seconds[-1]:
            raise InputError(
                f"minute {seconds / 60:g} is not of this flood; give one from {self.seconds[0] / 60:g} to {self.seconds[-1] / 60:g}"
            )
        k = int(np.searchsorted(self.seconds, seconds, side="right")) - 1
        before = self.depth(k)
        if self.seconds[k] == seconds:
            return before
        after = self.depth(k + 1)
        share = (float(seconds) - self.seconds[k]) / (self.seconds[k + 1] - self.seconds[k])
        values = between(before.physical()[:, :, 0], after.physical()[:, :, 0], share)
        return GeoImage(values, before.bands, before.crs, before.transform)

    def scene(self, dry: Scene, seconds: float | int) -> Scene:
        """The scene at a time; without water while its part of the flood is dry. Raises InputError as :meth:`at` and ``flooded``."""
        return flooded(dry, self.at(seconds), dry=True)

    def scenes(self, dry: Scene, frames: int) -> Iterator[tuple[Scene, float]]:
        """So many scenes, from the first moment to the last in equal steps of time, with the seconds of each."""
        if len(self) < 2 or frames < 2:
            raise InputError(f"{len(self)} moments in {frames} frames do not move; give 2 or more of both")
        for seconds in np.linspace(self.seconds[0], self.seconds[-1], frames):
            yield self.scene(dry, float(seconds)), float(seconds)

    def depths_at(self, scene: Scene, x: float | int, y: float | int) -> Float[np.ndarray, " t"]:
        """Metres at a local point at each moment: the deepest of the cell there and its neighbours; 0 outside of the rasters."""
        row, column = self._cell(scene, float(x), float(y))
        found = []
        for k in range(len(self)):
            values = self.depth(k).physical()[:, :, 0]
            near = values[max(row - 1, 0) : max(row + 2, 0), max(column - 1, 0) : max(column + 2, 0)]
            found.append(float(np.nan_to_num(near, nan=0.0).max(initial=0.0)))
        return np.array(found)

    def deepest(self, scene: Scene, *points: tuple[float, float]) -> float:
        """Seconds of the moment at which it is deepest at the first of some local points that gets wet at all; at which there is most water where none does."""
        for x, y in points:
            depths = self.depths_at(scene, x, y)
            if depths.max() > 0:
                return float(self.seconds[depths.argmax()])
        return float(self.seconds[np.argmax([np.nansum(self.depth(k).physical()) for k in range(len(self))])])

    def _cell(self, scene: Scene, x: float, y: float) -> tuple[int, int]:
        first = self.depth(0)
        if first.crs is None or first.transform is None or scene.frame.crs is None:
            row, column = (scene.grid.top - y) / scene.grid.step, (x - scene.grid.left) / scene.grid.step
        else:
            lon, lat = scene.frame.lonlat(x, y)
            column, row = ~first.transform @ from_lonlat(first.crs, lon, lat)
        return int(np.floor(row)), int(np.floor(column))


def between(
    before: Float[np.ndarray, "h w"], after: Float[np.ndarray, "h w"], share: float
) -> Float[np.ndarray, "h w"]:
    """Depths at a share of the time from one moment to the next, as :meth:`FloodSteps.at` says; NaN where either is."""
    made = (1 - share) * before + share * after
    wet = (before > 0) & (after > 0)
    for depth, other, left in ((after, before, 1 - share), (before, after, share)):
        alone = (depth > 0) & (other == 0)
        if alone.any():
            change = np.zeros_like(depth)
            if wet.any():
                row, column = ndimage.distance_transform_edt(~wet, return_distances=False, return_indices=True)
                change = (depth - other)[row, column]
            made = np.where(alone, np.maximum(depth - left * np.maximum(depth, change), 0), made)
    return made.astype(np.float32)


def _order(file: Path) -> list[tuple[int, float, str]]:
    """Names with the numbers in them as numbers."""
    parts = re.split(r"(\d+(?:\.\d+)?)", file.stem.lower())
    return [(0, float(part), "") if k % 2 else (1, 0.0, part) for k, part in enumerate(parts)]


def _seconds(file: Path, tags: dict[str, str]) -> float:
    said = read_provenance(tags).get("seconds")
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        return float(said)
    found = _SECONDS.search(file.stem)
    if found is None:
        raise InputError(
            f"{file.name} says no time; end its name with its seconds (depth_0060s.tif), or give the folder of a flood simulated with --every"
        )
    return float(found[1])
