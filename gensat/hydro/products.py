"""What a flood leaves behind: a folder of georeferenced rasters, polygons, a picture and the record of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float
from PIL import Image
from rasterio.features import shapes
from scipy.ndimage import label, maximum

from gensat import __version__
from gensat.errors import OutputError
from gensat.files import atomic_write, check_output, write_bytes
from gensat.geo.crs import crs_text, to_lonlat
from gensat.hydro.domain import Domain
from gensat.hydro.gauges import gauges_csv
from gensat.hydro.picture import DepthPicture
from gensat.types import Band, GeoImage

HAZARDS = {"low": 0.0, "moderate": 0.75, "significant": 1.25, "extreme": 2.0}
"""Lower bounds of the classes of d (v + 0.5) in square metres a second, without debris (Defra and Environment Agency 2006,
FD2321: caution; danger for some, children; for most; for all)."""

STATIC = ("depth.tif", "wse.tif", "extent.tif", "extent.geojson", "preview.png")
DYNAMIC = ("depth_end.tif", "arrival.tif", "velocity.tif", "hazard.tif")
GAUGES, RECORD = "gauges.csv", "run.json"


@dataclass(frozen=True, eq=False)
class FloodProducts:
    """The results of one flood on a domain.

    Args:
        domain: where.
        depth: (h, w) metres, 0 where dry: the largest over time of a flood that moves. What is outside the domain does not
            matter.
        depth_end: (h, w) metres at the end, or None of a flood without time.
        arrival: (h, w) seconds from the start until a cell gets wet, NaN where it never does; or None.
        velocity: (h, w) largest speed in metres a second; or None.
        hazard: (h, w) largest d (v + 0.5) in square metres a second; or None.
        probability: (h, w) share of an ensemble in which a cell is wet, 0 to 1; or None.
        gauges: seconds, and the level in metres at them of each gauge; or None.
        wet: metres from which a cell counts as part of the extent; 0: every cell with water.
        facts: how the flood came to be, for the tags of every raster; JSON-like values.
        notes: what the user should know; sentences without a full stop.
    """

    domain: Domain
    depth: Float[np.ndarray, "h w"]
    depth_end: Float[np.ndarray, "h w"] | None = None
    arrival: Float[np.ndarray, "h w"] | None = None
    velocity: Float[np.ndarray, "h w"] | None = None
    hazard: Float[np.ndarray, "h w"] | None = None
    probability: Float[np.ndarray, "h w"] | None = None
    gauges: tuple[Sequence[float], Mapping[str, Sequence[float]]] | None = None
    wet: float | int = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def extent(self) -> Bool[np.ndarray, "h w"]:
        """Cells that are part of the flood."""
        depth = np.where(self.domain.exists, np.nan_to_num(self.depth), 0)
        return depth > 0 if self.wet <= 0 else depth >= self.wet

    def rasters(self) -> Iterator[tuple[str, GeoImage]]:
        """File names and what belongs into them: metres, seconds and so on; nodata only outside the domain.

        Where it is dry, depth, velocity and hazard are 0; water surface and arrival have no value there.
        """
        depth = np.nan_to_num(self.depth)
        most = "largest over time" if self.depth_end is not None else "depth"
        yield "depth.tif", self._raster(depth, "depth", "m", most)
        surface = np.where(self.extent, self.domain.bed + depth, np.nan)
        yield "wse.tif", self._raster(surface, "water_surface", "m", f"bed plus {most}", valid=self.extent)
        yield "extent.tif", self._raster(self.extent.astype(np.uint8), "flooded", "", "1 flooded, 0 dry")
        if self.depth_end is not None:
            yield "depth_end.tif", self._raster(np.nan_to_num(self.depth_end), "depth", "m", "at the end")
        if self.arrival is not None:
            came = np.isfinite(self.arrival)
            how = "seconds from the start until the cell is wet; none where it never is"
            yield "arrival.tif", self._raster(self.arrival, "arrival", "s", how, valid=came)
        if self.velocity is not None:
            yield "velocity.tif", self._raster(np.nan_to_num(self.velocity), "speed", "m/s", "largest over time")
        if self.hazard is not None:
            how = "largest over time of depth x (speed + 0.5), FD2321 without debris"
            yield "hazard.tif", self._raster(np.nan_to_num(self.hazard), "hazard", "m2/s", how)
        if self.probability is not None:
            how = "share of the ensemble in which the cell is flooded"
            yield "probability.tif", self._raster(np.nan_to_num(self.probability), "probability", "", how)

    def polygons(self) -> dict[str, Any]:
        """The extent as GeoJSON in lon/lat: one feature a connected piece, with its area, depth and volume."""
        extent, depth = self.extent, np.nan_to_num(self.depth)
        pieces, count = label(extent)
        features = []
        if count and self.domain.crs is not None and self.domain.transform is not None:
            numbers = np.arange(1, count + 1)
            cells = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
            water = np.bincount(pieces.ravel(), np.where(extent, depth, 0).ravel(), minlength=count + 1)[1:]
            deepest = np.atleast_1d(maximum(depth, pieces, numbers))
            crs = self.domain.crs
            for shape, number in shapes(pieces.astype(np.int32), pieces > 0, 4, self.domain.transform):
                i = int(number) - 1
                drawn = shapely.transform(
                    shapely.geometry.shape(shape), lambda xy: np.stack(to_lonlat(crs, xy[:, 0], xy[:, 1]), axis=1)
                )
                features.append(
                    {
                        "type": "Feature",
                        "properties": {
                            "area_m2": round(float(cells[i] * self.domain.area), 1),
                            "max_depth_m": round(float(deepest[i]), 3),
                            "mean_depth_m": round(float(water[i] / cells[i]), 3),
                            "volume_m3": round(float(water[i] * self.domain.area), 1),
                        },
                        "geometry": json.loads(shapely.to_geojson(shapely.set_precision(drawn, 1e-8))),
                    }
                )
            features.sort(key=lambda one: -one["properties"]["area_m2"])
        return {"type": "FeatureCollection", "features": features}

    def summary(self) -> dict[str, Any]:
        """Areas, volume and depths of the flood in numbers."""
        extent, depth, area = self.extent, np.nan_to_num(self.depth), self.domain.area
        land = extent & (self.domain.bed > 0)
        found: dict[str, Any] = {
            "cells": int(self.domain.exists.sum()),
            "cell_m": round(float(self.domain.dx), 6),
            "flooded_cells": int(extent.sum()),
            "flooded_km2": round(float(extent.sum() * area / 1e6), 6),
            "flooded_above_0_km2": round(float(land.sum() * area / 1e6), 6),
            "volume_m3": round(float(depth[extent].sum(dtype=np.float64) * area), 3),
            "max_depth_m": round(float(depth[extent].max(initial=0)), 4),
            "mean_depth_m": round(float(depth[extent].mean(dtype=np.float64)) if extent.any() else 0.0, 4),
        }
        if self.velocity is not None:
            found["max_speed_m_s"] = round(float(np.nan_to_num(self.velocity)[self.domain.exists].max(initial=0)), 4)
        if self.hazard is not None:
            worst, bounds = np.nan_to_num(self.hazard)[extent], [*HAZARDS.values(), np.inf]
            counts, _ = np.histogram(worst, bounds)
            found["hazard_km2"] = {
                name: round(float(n * area / 1e6), 6) for name, n in zip(HAZARDS, counts, strict=True)
            }
        if self.probability is not None:
            likely = np.nan_to_num(self.probability)[self.domain.exists]
            found["flooded_km2_by_probability"] = {
                f">={share:g}": round(float((likely >= share).sum() * area / 1e6), 6) for share in (0.05, 0.5, 0.95)
            }
        return found

    def preview(self, text: str = "") -> np.ndarray:
        """(y, x, 3) uint8: the depth over the shaded terrain, or the chance of an ensemble."""
        if self.probability is not None:
            return DepthPicture(self.domain, 1.0, ("0 %", "100 %"))(
                self.probability, f"chance; {text}" if text else "chance"
            )
        shown = np.where(self.extent, self.depth, 0)
        deepest = np.percentile(shown[self.extent], 99) if self.extent.any() else 1.0
        return DepthPicture(self.domain, float(deepest))(shown, text)

    @property
    def names(self) -> list[str]:
        """The files that :meth:`save` writes."""
        return file_names(
            dynamic=self.depth_end is not None,
            ensemble=self.probability is not None,
            placed=self.domain.crs is not None,
            gauges=self.gauges is not None,
        )

    def save(
        self, folder: Path, *, record: Mapping[str, Any] | None = None, text: str = "", overwrite: bool = False
    ) -> list[Path]:
        """Writes everything into a folder, which is made if missing; ``run.json`` comes last, and says that all is there.

        Args:
            folder: where to.
            record: what ``run.json`` holds beside facts, summary, notes and files.
            text: under the preview.
            overwrite: whether files may exist.

        Raises:
            InputError: one of the files exists, and ``overwrite`` is false.
            OutputError: the disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        if folder.is_dir():
            for name in self.names:
                check_output(folder / name, overwrite)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"folder {folder} could not be made ({error.strerror}); choose another") from error
        if overwrite:
            (folder / RECORD).unlink(missing_ok=True)  # it would belong to other files for a while
        files = []
        for name, image in self.rasters():
            image.save(folder / name, overwrite=overwrite, cog=True)
            files.append(folder / name)
        if "extent.geojson" in self.names:
            write_bytes(folder / "extent.geojson", json.dumps(self.polygons()).encode(), overwrite)
            files.append(folder / "extent.geojson")
        if self.gauges is not None:
            write_bytes(folder / GAUGES, gauges_csv(*self.gauges), overwrite)
            files.append(folder / GAUGES)
        with atomic_write(folder / "preview.png", overwrite) as part:
            Image.fromarray(self.preview(text)).save(part)
        files.append(folder / "preview.png")
        crs = self.domain.crs
        said = {
            "gensat": __version__,
            **self.facts,
            "crs": None if crs is None else crs_text(crs),
            "transform": None if self.domain.transform is None else list(self.domain.transform)[:6],
            "width": self.domain.shape[1],
            "height": self.domain.shape[0],
            "vertical_datum": self.domain.datum or "unknown",
            "wet_from_m": float(self.wet),
            **self.summary(),
            **(record or {}),
            "notes": list(dict.fromkeys([*self.domain.notes, *self.notes])),
            "files": [path.name for path in files],
        }
        write_bytes(folder / RECORD, json.dumps(said, indent=2, allow_nan=False).encode(), overwrite)
        return [*files, folder / RECORD]

    def _raster(
        self, values: np.ndarray, name: str, unit: str, meaning: str, *, valid: np.ndarray | None = None
    ) -> GeoImage:
        tags = {"simulated": True, "quantity": meaning, "software": f"gensat {__version__}", **self.facts}
        if self.domain.datum is None:
            tags["warning"] = "vertical datum of the DEM unknown: levels are above the same datum as the DEM"
        if self.wet > 0 and name in ("flooded", "water_surface", "arrival", "probability"):
            tags["wet_from_m"] = float(self.wet)
        made = self.domain.raster(values, name=name, unit=unit, provenance=tags)
        if valid is None:
            return made
        return GeoImage(made.array, [Band(name, unit=unit)], made.crs, made.transform, valid, None, made.provenance)


def file_names(*, dynamic: bool, ensemble: bool = False, placed: bool = True, gauges: bool = False) -> list[str]:
    """The files of a folder, known before anything is computed."""
    return [
        *(name for name in STATIC if placed or name != "extent.geojson"),
        *(DYNAMIC if dynamic else ()),
        *(("probability.tif",) if ensemble else ()),
        *((GAUGES,) if gauges else ()),
        RECORD,
    ]
