"""Bathtub floods of DEMs larger than memory: read, joined and written block by block.

The file may be of any size; what is held is one block and the labels along the edges of blocks. The result is that of the
whole raster, bit for bit. Holes of such a DEM are not filled: enclosed ones stay walls without a value, and are counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.windows import Window

from gensat import __version__
from gensat.errors import InputError
from gensat.files import atomic_write, check_output, not_written, write_bytes
from gensat.geo.crs import crs_text, ground_sampling_distance
from gensat.geo.provenance import provenance_tags
from gensat.hydro.bathtub import depth_of, edge_of
from gensat.hydro.blocks import Blocks, Reached, reached_by_blocks
from gensat.hydro.domain import Domain
from gensat.hydro.large_dem import LargeDem
from gensat.hydro.picture import DepthPicture
from gensat.hydro.sea import Sea, level_on
from gensat.hydro.surge import Surge

_PREVIEW = 800  # cells of a side of the picture


def flood_large(
    dem: LargeDem,
    folder: Path,
    level: float | int | Surge,
    *,
    points: Sequence[tuple[int, int]] = (),
    sea: str | os.PathLike[str] | None = None,
    neighbours: int = 4,
    void_share: float | int = 0.05,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The bathtub of a level over a large DEM, as depth.tif, wse.tif, extent.tif, preview.png and run.json in a folder.

    Args:
        dem: open.
        folder: where to; made if missing.
        level: metres above the datum of the DEM, or the levels of a surge.
        points: (row, column) of cells from which water comes.
        sea: file of the sea, as of :class:`gensat.hydro.sea.Sea`.
        neighbours: 4 or 8.
        void_share: share of cells, 0 to 1, that may be holes inside the DEM.
        facts: how the flood came to be, for tags and run.json.
        overwrite: whether files may exist.
        progress: called after each of ``3 * len(dem.blocks)`` blocks.

    Returns:
        What run.json holds.

    Raises:
        InputError: no water can enter, too many voids, or a file exists.
        OutputError: the disk is full.
    """
    folder = Path(folder)
    names = ("depth.tif", "wse.tif", "extent.tif", "preview.png", "run.json")
    for name in names if folder.is_dir() else ():
        check_output(folder / name, overwrite)
    blocks = dem.blocks
    mask = Sea(sea, dem.canvas) if sea is not None else None

    def levels(at: tuple[int, int]) -> Any:
        window = blocks.window(*at)
        return level_on(level, dem.canvas.crop(window.row_off, window.col_off, window.height, window.width))

    outside, voids = _outside(dem, progress)
    inside = blocks.height * blocks.width - voids[1]
    if voids[0] > void_share * inside:
        raise InputError(
            f"{voids[0]} cells of {dem.name} ({100 * voids[0] / inside:.3g} percent) are voids, more than "
            f"{100 * void_share:.3g} percent; fill them with gdal_fillnodata, or allow it with --voids"
        )
    sources = _Sources(dem, levels, points, mask, outside, voids[1] > 0)

    def cells(at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        bed = dem.read(blocks.window(*at))
        with np.errstate(invalid="ignore"):
            return bed < levels(at), sources.of(at, bed)

    found = reached_by_blocks(blocks, cells, neighbours=neighbours, on_block=progress)
    return _write(
        dem, folder, found, levels, {**(facts or {}), "source": sources.how}, voids, sources.notes, overwrite, progress
    )


def _outside(dem: LargeDem, progress: Callable[[], None]) -> tuple[Reached, tuple[int, int]]:
    """Cells without a height that reach the edge of the raster; how many others there are, and how many of these."""
    blocks = dem.blocks
    holes = outside = 0

    def cells(at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        window = blocks.window(*at)
        unknown = np.isnan(dem.read(window))
        return unknown, unknown & _rim(blocks, window)

    found = reached_by_blocks(blocks, cells, on_block=progress)
    for at in blocks:
        if np.isnan(bed := dem.read(blocks.window(*at))).any():
            reached = found.block(at)
            outside += int(reached.sum())
            holes += int((np.isnan(bed) & ~reached).sum())
    return found, (holes, outside)


def _rim(blocks: Blocks, window: Window) -> np.ndarray:
    """Cells of a window at the edge of the raster."""
    rows = np.arange(window.height)[:, None] + window.row_off
    columns = np.arange(window.width)[None] + window.col_off
    return (rows == 0) | (rows == blocks.height - 1) | (columns == 0) | (columns == blocks.width - 1)


class _Sources:
    """Where water comes from, by the rules of :func:`gensat.hydro.bathtub.find_sources`, block by block."""

    def __init__(
        self,
        dem: LargeDem,
        levels: Any,
        points: Sequence[tuple[int, int]],
        sea: Sea | None,
        outside: Reached,
        gaps: bool,
    ) -> None:
        self.dem, self.levels, self.points, self.sea, self.outside, self.gaps = dem, levels, points, sea, outside, gaps
        self.low: bool | None = None
        self.notes: list[str] = []
        if points or sea is not None:
            self.how = " and ".join(
                [*([f"{len(points)} points"] if points else []), *(["the sea"] if sea is not None else [])]
            )
            self._check_points()
            if sea is not None and not any(sea.cells(dem.blocks.window(*at)).any() for at in dem.blocks):
                raise InputError("the sea has no cells on the DEM; give the sea of the place, or --from LON LAT")
            return
        low = below = False
        for at in dem.blocks:
            bed = dem.read(dem.blocks.window(*at))
            edge = self._edge(at)
            with np.errstate(invalid="ignore"):
                under = edge & (bed < levels(at))
            below |= bool(under.any())
            low |= bool((under & (bed <= 0)).any())
        if not below:
            raise InputError(
                "no cell at the edge of the DEM is below the level, so no water can enter; "
                "give --from LON LAT, --sea FILE or a higher level"
            )
        self.low = low
        self.how = "cells at or below 0 m at the edge" if low else "cells below the level at the edge"
        if not low:
            self.notes.append(
                "no cell at the edge is at or below 0 m, so water enters wherever the edge is below the level; "
                "give --from LON LAT or --sea FILE if it comes from elsewhere"
            )

    def of(self, at: tuple[int, int], bed: np.ndarray) -> np.ndarray:
        if self.low is None:
            window = self.dem.blocks.window(*at)
            cells = np.zeros(bed.shape, bool) if self.sea is None else self.sea.cells(window)
            for row, column in self.points:
                r, c = row - window.row_off, column - window.col_off
                if 0 <= r < bed.shape[0] and 0 <= c < bed.shape[1]:
                    cells[r, c] = True
            return cells
        edge = self._edge(at)
        with np.errstate(invalid="ignore"):
            return edge & (bed <= 0 if self.low else bed < self.levels(at))

    def _edge(self, at: tuple[int, int]) -> np.ndarray:
        """Cells of the DEM beside its outside, which needs the cells around a block."""
        blocks = self.dem.blocks
        window = blocks.window(*at)
        if not self.gaps:
            return _rim(blocks, window)
        # Enclosed voids are no outside: with them as ground, the outermost cells are those of bathtub.edge_of.
        around = np.zeros((window.height + 2, window.width + 2), bool)
        around[1:-1, 1:-1] = ~self.outside.block(at)
        for i, j, to, of in (
            (-1, 0, (0, slice(1, -1)), (-1, slice(None))),
            (1, 0, (-1, slice(1, -1)), (0, slice(None))),
            (0, -1, (slice(1, -1), 0), (slice(None), -1)),
            (0, 1, (slice(1, -1), -1), (slice(None), 0)),
        ):
            near = at[0] + i, at[1] + j
            if 0 <= near[0] * blocks.side < blocks.height and 0 <= near[1] * blocks.side < blocks.width:
                around[to] = (~self.outside.block(near))[of]
        return edge_of(around)[1:-1, 1:-1]

    def _check_points(self) -> None:
        blocks = self.dem.blocks
        for row, column in self.points:
            at = row // blocks.side, column // blocks.side
            window = blocks.window(*at)
            height = self.dem.read(Window(column, row, 1, 1))[0, 0]
            level = np.broadcast_to(self.levels(at), (window.height, window.width))
            reaches = level[row - window.row_off, column - window.col_off]
            if np.isnan(height):
                raise InputError("water cannot come from outside the DEM; give --from a point on it")
            if not height < reaches:
                raise InputError(
                    f"the ground at row {row}, column {column} is {height:.2f} m, not below the level of {reaches:.2f} m; "
                    "give --from a point where the water stands"
                )


def _write(
    dem: LargeDem,
    folder: Path,
    found: Reached,
    levels: Any,
    facts: dict[str, Any],
    voids: tuple[int, int],
    notes: Sequence[str],
    overwrite: bool,
    progress: Callable[[], None],
) -> dict[str, Any]:
    blocks = dem.blocks
    area = (ground_sampling_distance(dem.crs, dem.transform, blocks.height, blocks.width) or dem.transform.a) ** 2
    cells = land = 0
    volume = deepest = 0.0
    profile = {
        "driver": "GTiff", "height": blocks.height, "width": blocks.width, "count": 1, "transform": dem.transform,
        "crs": rasterio.crs.CRS.from_wkt(dem.crs.to_wkt()), "tiled": True, "blockxsize": 256, "blockysize": 256,
        "compress": "deflate", "BIGTIFF": "IF_SAFER", "interleave": "band",
    }  # fmt: skip
    kinds = {
        "depth.tif": ("float32", 3, np.nan, "m", "depth"),
        "wse.tif": ("float32", 3, np.nan, "m", "water_surface"),
        "extent.tif": ("uint8", 2, 255, "", "flooded"),
    }
    tags = {"simulated": True, "software": f"gensat {__version__}", **facts}
    parts = {name: folder / f".{name}.part.tif" for name in kinds}
    try:
        folder.mkdir(exist_ok=True)
        if overwrite:
            (folder / "run.json").unlink(missing_ok=True)
        with ExitStack() as stack:
            files = {}
            for name, (dtype, predictor, nodata, unit, quantity) in kinds.items():
                file = stack.enter_context(
                    rasterio.open(parts[name], "w", dtype=dtype, predictor=predictor, nodata=nodata, **profile)
                )
                datum = {"vertical_datum": dem.datum or "unknown"}
                if dem.datum is None:
                    datum["warning"] = "vertical datum of the DEM unknown: levels are above the same datum as the DEM"
                file.update_tags(**provenance_tags({**tags, **datum, "quantity": quantity}))
                file.units, file.descriptions = (unit,), (quantity,)
                files[name] = file
            for at in blocks:
                window = blocks.window(*at)
                bed, wet = dem.read(window), found.block(at)
                depth = depth_of(bed, np.asarray(levels(at), np.float64), wet)
                files["depth.tif"].write(depth, 1, window=window)
                files["wse.tif"].write(np.where(wet, bed + depth, np.nan).astype(np.float32), 1, window=window)
                files["extent.tif"].write(np.where(np.isnan(bed), 255, wet).astype(np.uint8), 1, window=window)
                cells, land = cells + int(wet.sum()), land + int((wet & (bed > 0)).sum())
                volume += float(depth[wet].sum(dtype=np.float64)) * area
                deepest = max(deepest, float(depth[wet].max(initial=0)))
                progress()
        for name, part in parts.items():
            with atomic_write(folder / name, overwrite) as target:
                how = "NEAREST" if name == "extent.tif" else "AVERAGE"
                rasterio.shutil.copy(
                    part, target, driver="COG", compress="deflate", predictor="YES", blocksize=256, overview_resampling=how,
                    BIGTIFF="IF_SAFER",
                )  # fmt: skip
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
    _preview(dem, folder, deepest, overwrite)
    if voids[0]:
        notes = [*notes, f"{voids[0]} cells of {dem.name} are voids inside the DEM; they are walls without a value"]
    said = {
        "gensat": __version__, **facts, "blocks": len(blocks), "crs": crs_text(dem.crs), "transform": list(dem.transform)[:6],
        "width": blocks.width, "height": blocks.height, "vertical_datum": dem.datum or "unknown",
        "flooded_cells": cells, "flooded_km2": round(cells * area / 1e6, 6), "flooded_above_0_km2": round(land * area / 1e6, 6),
        "volume_m3": round(volume, 3), "max_depth_m": round(deepest, 4),
        "notes": [*dem.said(), *notes], "files": [*kinds, "preview.png"],
    }  # fmt: skip
    write_bytes(folder / "run.json", json.dumps(said, indent=2, allow_nan=False).encode(), overwrite)
    return said


def _preview(dem: LargeDem, folder: Path, deepest: float, overwrite: bool) -> None:
    """The picture, from the overviews of what was written."""
    blocks = dem.blocks
    scale = max(1.0, max(blocks.height, blocks.width) / _PREVIEW)
    shape = max(1, round(blocks.height / scale)), max(1, round(blocks.width / scale))
    with rasterio.open(folder / "depth.tif") as file:
        depth = file.read(1, out_shape=shape)
    bed = dem.source.read(1, out_shape=shape).astype(np.float64)
    known = (dem.source.read_masks(1, out_shape=shape) > 0) & np.isfinite(bed) & np.isfinite(depth)
    if not known.any():
        known = np.ones(shape, bool)
    small = Domain.flat(*shape, dem.transform.a * scale, bed=np.where(known, bed, 0.0), exists=known)
    with atomic_write(folder / "preview.png", overwrite) as part:
        Image.fromarray(DepthPicture(small, deepest)(np.nan_to_num(depth))).save(part)
