"""Where the water runs: bed, roughness and extent on square cells of metres."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from jaxtyping import Bool, Float
from pyproj import CRS
from rasterio.features import rasterize

from gensat.errors import InputError
from gensat.geo.buildings import read_buildings
from gensat.geo.canvas import Canvas
from gensat.geo.crs import (
    from_lonlat,
    ground_sampling_distance,
    pixel_to_world,
    shifted,
)
from gensat.geo.elevation import HeightMap
from gensat.geo.raster import require_file
from gensat.geo.vectors import read_polygons
from gensat.hydro.manning import DEFAULT, check_manning, manning_on
from gensat.hydro.metres import on_metres, reaches_edge
from gensat.types import Band, GeoImage, Place

if TYPE_CHECKING:
    from gensat.hydro.solver import Solver

WALL = 1e4
"""Metres that cells outside the domain stand above its highest cell: solvers see a wall that no water passes."""

_BEYOND = "have no height and are outside, behind walls"


@dataclass(frozen=True, eq=False)
class Domain:
    """A terrain for solvers. Build one with :meth:`open` or :meth:`of`.

    Args:
        bed: (h, w) float64 metres above ``datum``; where ``exists`` is False, any value.
        dx: metres on the ground of the side of a cell.
        exists: (h, w) bool, False outside the DEM or the extent: no water is there, and its rim is a wall.
        manning: (h, w) float64, Manning's n in s m^(-1/3).
        crs: projected CRS, or None for a plane of its own.
        transform: from pixel corners (column, row) to the CRS, north-up.
        datum: vertical datum of the bed, None if the file does not say.
        notes: what the user should know; sentences without a full stop.
        walls: (h, w) bool, cells that are raised to a crest which is short beside a cell: water runs over as over a weir
            (:mod:`gensat.hydro.weirs`); None for none.

    Raises:
        InputError: shapes that differ, a bed that is not finite, a roughness out of range, or no cells.
    """

    bed: Float[np.ndarray, "h w"]
    dx: float | int
    exists: Bool[np.ndarray, "h w"]
    manning: Float[np.ndarray, "h w"]
    crs: CRS | None = None
    transform: Affine | None = None
    datum: str | None = None
    notes: tuple[str, ...] = ()
    walls: Bool[np.ndarray, "h w"] | None = None

    def __post_init__(self) -> None:
        if not self.bed.shape == self.exists.shape == self.manning.shape:
            raise InputError(
                f"bed {self.bed.shape}, exists {self.exists.shape} and manning {self.manning.shape} differ; "
                "give arrays of one shape"
            )
        if self.walls is not None and self.walls.shape != self.bed.shape:
            raise InputError(f"walls {self.walls.shape} and bed {self.bed.shape} differ; give arrays of one shape")
        if not (math.isfinite(self.dx) and self.dx > 0):
            raise InputError(f"a cell of {self.dx} m is none; give metres above 0")
        if not self.exists.any():
            raise InputError("the domain has no cells; give an extent that lies on the DEM")
        if not np.isfinite(self.bed[self.exists]).all():
            raise InputError("the bed is not finite everywhere; fill its holes or take them out of the domain")
        check_manning(self.manning[self.exists])

    @classmethod
    def flat(
        cls, height: int, width: int, dx: float | int, *, bed: Any = 0.0, manning: Any = DEFAULT, exists: Any = True
    ) -> Domain:
        """A domain on no place, its arrays broadcast to (height, width)."""
        return cls(
            np.array(np.broadcast_to(bed, (height, width)), dtype=np.float64),
            dx,
            np.array(np.broadcast_to(exists, (height, width)), dtype=bool),
            np.array(np.broadcast_to(manning, (height, width)), dtype=np.float64),
            transform=Affine(dx, 0.0, 0.0, 0.0, -dx, height * dx),
        )

    @classmethod
    def of(
        cls,
        heights: HeightMap,
        *,
        crs: Any = None,
        gsd: float | int | None = None,
        manning: float | int = DEFAULT,
        void_share: float | int = 0.05,
        name: str = "the DEM",
    ) -> Domain:
        """The domain of heights, on their own grid if its cells are square metres, else warped to the UTM zone.

        Holes that reach the raster's edge are outside of the DEM; others are filled and counted.

        Args:
            heights: in metres, NaN in holes.
            crs: projected CRS in metres of the domain; default that of the heights.
            gsd: metres a cell; default that of the heights. Coarser cells take the mean height. Heights without a CRS
                need it, and are then cells of this size.
            manning: n everywhere.
            void_share: share of cells, 0 to 1, that may be filled.
            name: of the heights, in messages.

        Raises:
            InputError: too many voids, no CRS and no gsd, or a CRS that is not defined there.
        """
        outside = reaches_edge(np.isnan(heights.heights))
        inner = int((np.isnan(heights.heights) & ~outside).sum())
        inside = int((~outside).sum())
        if inner > void_share * inside:
            raise InputError(
                f"{inner} cells of {name} ({100 * inner / inside:.3g} percent) are voids, more than "
                f"{100 * void_share:.3g} percent; fill them, or allow it with --voids (void_share={inner / inside:.2g})"
            )
        whole = heights.without_holes(name) if inner else heights
        values = np.where(outside, np.nan, whole.heights)
        notes = list(whole.notes)
        if heights.crs is None or heights.transform is None:
            if gsd is None:
                raise InputError(f"{name} has no CRS, so the size of its cells is not known; give gsd in metres")
            bed, place, transform, dx = values, None, Affine(gsd, 0.0, 0.0, 0.0, -gsd, len(values) * gsd), float(gsd)
        else:
            bed, place, transform, note = on_metres(values, heights.crs, heights.transform, crs, gsd, name)
            notes += [note] if note else []
            dx = ground_sampling_distance(place, transform, *bed.shape) or transform.a
        exists = np.isfinite(bed)
        if not exists.all():
            notes.append(f"{int((~exists).sum())} cells of {name} along its edge {_BEYOND}")
        bed = np.where(exists, bed, 0).astype(np.float64)
        return cls(bed, dx, exists, np.full(bed.shape, float(manning)), place, transform, whole.datum, tuple(notes))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        crs: Any = None,
        unit: str | None = None,
        gsd: float | int | None = None,
        extent: str | os.PathLike[str] | shapely.Polygon | None = None,
        buildings: str | os.PathLike[str] | None = None,
        building_height: float | int = 3.0,
        roughness: float | int | str | os.PathLike[str] | GeoImage | None = None,
        legend: str | os.PathLike[str] | Mapping[Any, Any] | None = None,
        void_share: float | int = 0.05,
    ) -> Domain:
        """The domain of a DEM file.

        Args:
            path: GeoTIFF or any raster with one band that GDAL reads.
            crs: projected CRS in metres of the domain, as of :meth:`of`.
            unit: of the heights, one of :data:`gensat.geo.elevation.UNITS`; goes before what the file says.
            gsd: metres a cell, as of :meth:`of`.
            extent: polygon in the CRS of the domain, a csv of its corners (x, y), or a vector file; beyond it there is
                nothing, and the grid is cut to it. The edges of the cut grid are edges of the domain.
            buildings: footprints in a vector file; their cells are raised.
            building_height: metres by which footprints are raised that have no height of their own.
            roughness: Manning's n everywhere, or a raster or vector file as :func:`gensat.hydro.manning.manning_on`
                takes it.
            legend: what the codes of a land-cover raster mean, as there.
            void_share: as of :meth:`of`.

        Raises:
            InputError: as of :meth:`of` and of the readers, before any heavy work.
        """
        heights = HeightMap.open(path, unit=unit)
        domain = cls.of(heights, crs=crs, gsd=gsd, void_share=void_share, name=Path(path).name)
        if extent is not None:
            domain = domain.within(domain.polygon(extent))
        if buildings is not None:
            domain = domain.with_buildings(buildings, building_height)
        if roughness is not None:
            manning, notes = manning_on(domain.canvas, roughness, legend=legend)
            domain = replace(domain, manning=manning, notes=(*domain.notes, *notes))
        return domain

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bed.shape[0], self.bed.shape[1]

    @property
    def area(self) -> float:
        """Square metres of a cell."""
        return float(self.dx) ** 2

    @property
    def canvas(self) -> Canvas:
        """The grid as a canvas."""
        height, width = self.shape
        if self.crs is None or self.transform is None:
            local = Canvas.local(width, height, self.dx)
            return replace(local, transform=self.transform or local.transform)
        return Canvas(width, height, self.transform.a, self.crs, self.transform)

    @property
    def walled(self) -> Float[np.ndarray, "h w"]:
        """(h, w) the bed with a wall of ``WALL`` metres above the highest cell where the domain does not exist."""
        return np.where(self.exists, self.bed, self.bed[self.exists].max() + WALL)

    def within(self, polygon: shapely.Polygon) -> Domain:
        """The domain inside a polygon (by cell centres), cut to its box.

        Raises:
            InputError: they do not overlap.
        """
        inside = self.cells_in(polygon) & self.exists
        if not inside.any():
            raise InputError("the extent does not overlap the DEM; give it in the CRS of the DEM")
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        r0, c0 = int(rows[0]), int(columns[0])
        cut = slice(r0, int(rows[-1]) + 1), slice(c0, int(columns[-1]) + 1)
        transform = shifted(self.transform, r0, c0) if self.transform is not None else None
        kept = inside[cut]
        return replace(
            self,
            bed=self.bed[cut].copy(),
            exists=kept,
            manning=self.manning[cut].copy(),
            walls=None if self.walls is None else self.walls[cut].copy(),
            transform=transform,
            notes=tuple(note for note in self.notes if not (kept.all() and note.endswith(_BEYOND))),
        )

    def raised(self, area: shapely.Geometry | Bool[np.ndarray, "h w"], metres: float | int) -> Domain:
        """With the bed higher by so much in a polygon or in cells: buildings, walls, dykes; or lower."""
        return replace(self, bed=np.where(self._mask(area), self.bed + float(metres), self.bed))

    def roughened(self, area: shapely.Geometry | Bool[np.ndarray, "h w"], n: float | int) -> Domain:
        """With another Manning's n in a polygon or in cells."""
        return replace(self, manning=np.where(self._mask(area), float(n), self.manning))

    def without(self, area: shapely.Geometry | Bool[np.ndarray, "h w"]) -> Domain:
        """With cells taken out, as solid as a wall of any height."""
        return replace(self, exists=self.exists & ~self._mask(area))

    def with_buildings(self, path: str | os.PathLike[str], height: float | int = 3.0) -> Domain:
        """With the cells of footprints raised by their own height, or by ``height`` metres where the file has none.

        Raises:
            InputError: as of :func:`gensat.geo.buildings.read_buildings`.
        """
        found = read_buildings(path, self.canvas, default=height)
        raised = np.zeros(self.shape)
        order = np.argsort(found.heights)  # the higher one counts where footprints overlap
        shapes = [(found.footprints[i], float(found.heights[i])) for i in order]
        rasterize(shapes, out=raised, transform=self.canvas.transform)
        note = f"{int((raised > 0).sum())} cells of {len(shapes)} footprints are raised as obstacles"
        return replace(self, bed=self.bed + raised, notes=(*self.notes, *found.notes, note))

    def polygon(self, source: str | os.PathLike[str] | shapely.Polygon) -> shapely.Polygon:
        """A polygon in the CRS of the domain from a csv of corners (x, y) in that CRS, or from a vector file.

        Raises:
            InputError: it cannot be read, or is no polygon.
        """
        if isinstance(source, shapely.Geometry):
            return source
        path = require_file(source)
        if path.suffix.lower() != ".csv":
            return shapely.union_all(read_polygons(path, self.canvas)[0])
        try:
            corners = np.loadtxt(path, delimiter=",", ndmin=2, comments="#")
            shape = shapely.Polygon(corners[:, :2])
        except (ValueError, IndexError):
            raise InputError(f"{path} is not a table of corners; give lines of x,y, three or more") from None
        return shape if shape.is_valid else shapely.make_valid(shape)

    def cells_in(self, area: shapely.Geometry) -> Bool[np.ndarray, "h w"]:
        """(h, w) bool, cells whose centre lies in a polygon of the CRS (of the local plane on no place)."""
        found = rasterize([(area, 1)], self.shape, transform=self.canvas.transform) if not area.is_empty else 0
        return np.asarray(np.broadcast_to(found, self.shape) == 1)

    def disc(self, x: float | int, y: float | int, radius: float | int) -> Bool[np.ndarray, "h w"]:
        """(h, w) bool, cells whose centre is at most ``radius`` metres from a point of the CRS."""
        transform = self.canvas.transform
        height, width = self.shape
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        across, down = pixel_to_world(transform, columns, rows)
        scale = self.dx / transform.a  # metres on the ground of a metre of the CRS
        return np.asarray(np.hypot(across - x, down - y) * scale <= radius)

    def cell_at(self, x: float | int, y: float | int) -> tuple[int, int]:
        """(row, column) of the cell that covers a point of the CRS.

        Raises:
            InputError: it lies outside the domain.
        """
        column, row = (float(v) for v in pixel_to_world(~self.canvas.transform, x, y))
        known = math.isfinite(row) and math.isfinite(column)
        r, c = (math.floor(row), math.floor(column)) if known else (-1, -1)
        if not (0 <= r < self.shape[0] and 0 <= c < self.shape[1]) or not self.exists[r, c]:
            raise InputError(f"point ({x:g}, {y:g}) lies outside the domain {self._box()}; give one in it")
        return r, c

    def cell_at_lonlat(self, lon: float | int, lat: float | int) -> tuple[int, int]:
        """(row, column) of the cell that covers a place in degrees.

        Raises:
            InputError: the domain lies on no place, or the place outside it.
        """
        place = Place(lon, lat)
        if self.crs is None:
            raise InputError("the domain lies on no place; give a DEM with a CRS")
        x, y = (float(v) for v in from_lonlat(self.crs, place.lon, place.lat))
        try:
            return self.cell_at(x, y)
        except InputError:
            raise InputError(
                f"lon={lon:g} lat={lat:g} lies outside the domain {self._box()}; give a place in it"
            ) from None

    def raster(
        self,
        values: np.ndarray,
        *,
        name: str,
        unit: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> GeoImage:
        """Values (h, w) on the grid as a GeoImage; outside the domain there is nodata.

        Floating values become float32 with NaN outside; integers and bool become uint8 with a mask.
        """
        kept = np.asarray(values)
        if kept.dtype.kind == "f":
            kept = np.where(self.exists, kept, np.nan).astype(np.float32)
        else:
            kept = np.where(self.exists, kept, 0).astype(np.uint8)
        placed = self.transform if self.crs is not None else None
        facts = {"vertical_datum": self.datum or "unknown", **(provenance or {})}
        valid = None if self.exists.all() else self.exists
        return GeoImage(kept, [Band(name, unit=unit)], self.crs, placed, valid, provenance=facts)

    def memory(self, solver: Solver, batch: int = 1) -> int:
        """Bytes that ``batch`` scenarios take at most with a solver, its state and what a run keeps."""
        return solver.memory(batch)

    def _mask(self, area: shapely.Geometry | np.ndarray) -> np.ndarray:
        return self.cells_in(area) if isinstance(area, shapely.Geometry) else area

    def _box(self) -> str:
        if self.crs is None:
            left, bottom, right, top = self.canvas.bounds
            return f"x {left:g} to {right:g} y {bottom:g} to {top:g}"
        west, south, east, north = self.canvas.lonlat_bounds or (math.nan,) * 4
        return f"lon {west:.6f} to {east:.6f} lat {south:.6f} to {north:.6f}"
