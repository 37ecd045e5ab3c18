"""The space that a published ground-view model makes of an image, as densities on a grid: heights, meshes, images larger than a tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..render.density import DensityVolume, heights_from_density
from ..render.frame import SceneFrame
from ..render.mesh import Mesh
from ..render.rays import OBJECT, TERRAIN
from ..types import GeoImage
from .density import DensityGroundPipeline
from .density_tile import DensityTile, cut_tile, image_extent

LARGEST = 2**29
"""Cells of a field: 2 GiB."""
_EDGE = 0.01  # least weight of a window's densities, so that none is divided by 0


@dataclass(frozen=True, eq=False)
class DensityField:
    """Densities in true coordinates.

    Args:
        volume: per metre in metres of ``frame``, with the image as colours.
        frame: its origin is the centre of the image or tile, at the bottom of the model's space.
        tile: whose ``geo`` puts arrays on the grid.
        surface: density per metre at which a mesh is drawn.
        colours: points (n, 3) of the frame to colours of the network; None where there was more than one tile.
        provenance: how it came to be.
    """

    volume: DensityVolume
    frame: SceneFrame
    tile: DensityTile
    surface: float
    colours: Callable[[Tensor], Tensor] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def heights(self) -> GeoImage:
        """Metres over the bottom of the model's space, where half of the light from straight above has ended.

        The models know no datum, and where the ground lies over the bottom is what they learned: compare differences.
        """
        volume = self.volume
        metres = heights_from_density(volume.density, volume.bounds[2], volume.bounds[5])
        return self.tile.geo(
            metres.float().cpu().numpy(), bands=["height"], provenance={**self.provenance, "view": "heights in metres"}
        )

    @torch.inference_mode()
    def mesh(self, surface: float | None = None) -> Mesh:
        """The surface of one density by marching cubes (Lewiner et al. 2003), closed, in colours.

        Faces on top are textured by the image; of the others the network says the colour, where there was one tile.

        Args:
            surface: density per metre; by default as the authors of Sat2Density++ and Sat3DGen draw theirs.

        Raises:
            InputError: no cell is as dense as this, or scikit-image is not installed.
        """
        try:
            from skimage.measure import marching_cubes
        except ImportError as error:
            raise InputError("drawing a mesh needs scikit-image; pip install 'gensat[ground]'") from error
        volume, level = self.volume, self.surface if surface is None else surface
        dense = np.pad(volume.density.float().cpu().numpy(), 1)
        if not 0 < level < float(dense.max()):
            raise InputError(
                f"no surface of {level:g} per metre: densities reach {float(dense.max()):.3g}; choose a surface between 0 and that"
            )
        corners, faces, _, _ = marching_cubes(dense, level)
        west, south, bottom, east, north, top = volume.bounds
        levels, rows, cols = volume.density.shape
        up, down, across = (corners - 0.5).T  # the padding put cell 0 at 1; cells have their values at their centres
        places = np.stack(
            [
                west + across * (east - west) / cols,
                north - down * (north - south) / rows,
                bottom + up * (top - bottom) / levels,
            ],
            axis=1,
        )
        a, b, c = (places[faces[:, k]] for k in range(3))
        if float(np.einsum("nd,nd->", a, np.cross(b, c))) < 0:  # six times the volume inside
            faces = faces[:, ::-1]
        mesh = Mesh.of(places, faces, OBJECT, frame=self.frame)
        highest = np.full((rows, cols), -np.inf)
        middle = places[faces].mean(1)
        row = np.clip((north - middle[:, 1]) / (north - south) * rows, 0, rows - 1).astype(int)
        col = np.clip((middle[:, 0] - west) / (east - west) * cols, 0, cols - 1).astype(int)
        np.maximum.at(highest, (row, col), middle[:, 2])
        on_top = middle[:, 2] > highest[row, col] - (top - bottom) / levels
        mesh = replace(mesh, kinds=np.where(on_top, TERRAIN, OBJECT), provenance=dict(self.provenance))
        if self.colours is not None:
            told = self.colours(torch.from_numpy(places).float())
            mesh = replace(mesh, colors=told.double().cpu().numpy())
        image = None
        if volume.colours is not None:
            image = (volume.colours.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
        return mesh.painted(image, (west, south, east, north))


@torch.inference_mode()
def tile_field(
    pipe: DensityGroundPipeline, image: GeoImage | Image.Image | np.ndarray | DensityTile, cell: float | None = None
) -> DensityField:
    """The densities of one tile.

    Args:
        pipe: the model.
        image: a tile, as :meth:`DensityGroundPipeline.read` makes it, or what it takes.
        cell: metres of a cell; a 256th of the tile by default.

    Raises:
        InputError: more than ``LARGEST`` cells, or as ``read``.
    """
    tile = image if isinstance(image, DensityTile) else pipe.read(image)
    cell = tile.metres / 256 if cell is None else cell
    side, levels = _cells(tile.metres, cell), _cells(pipe.ground.top, cell)
    _require_few(levels * side * side, cell)
    half = tile.metres / 2
    bounds = (-half, -half, 0.0, half, half, pipe.ground.top)
    level_heights, across = _centres(bounds, levels, side, side)
    density = torch.stack([_dense(pipe, tile, across, z) for z in level_heights])
    colours = _resized(tile.pixels, side, side)
    volume = DensityVolume(density, bounds, colours)
    return DensityField(
        volume, tile.frame, tile, pipe.ground.surface, lambda points: pipe.ground.colours(tile, points), pipe.about()
    )


@torch.inference_mode()
def image_field(
    pipe: DensityGroundPipeline,
    image: GeoImage,
    cell: float | None = None,
    *,
    stride: float = 0.5,
    margin: float = 0.125,
    progress: Callable[[int, int], None] | None = None,
) -> DensityField:
    """The densities of an image larger than a tile, from overlapping windows.

    What lies near a window's border is dropped, except at the border of the image, as published; the rest is averaged with
    weights that fall off towards the borders, so that no window's edge shows.

    Args:
        pipe: the model.
        image: with coordinates, or with a gsd.
        cell: metres of a cell; a 256th of a tile by default.
        stride: from one window to the next at most, as a share of its width.
        margin: dropped on each side, likewise.
        progress: told the windows that are done, and all.

    Raises:
        InputError: the image has no scale or is smaller than a tile, windows leave gaps, or there are too many cells.
    """
    if not (0 < stride <= 1 - 2 * margin and margin >= 0):
        raise InputError(
            f"windows every {stride:g} of their width without {margin:g} on each side leave gaps; use 0.5, 0.125"
        )
    ground, metres = pipe.ground, pipe.ground.tile_metres
    cell = metres / 256 if cell is None else cell
    wide, high, frame = image_extent(image)
    if min(wide, high) < metres:
        raise InputError(
            f"the image covers {wide:.1f} x {high:.1f} m, the model's tile is {metres:g} m wide; give a larger image"
        )
    cols, rows, levels = _cells(wide, cell), _cells(high, cell), _cells(ground.top, cell)
    _require_few(levels * rows * cols, cell)
    bounds = (-wide / 2, -high / 2, 0.0, wide / 2, high / 2, ground.top)
    level_heights, across = _centres(bounds, levels, rows, cols)
    density, weights = torch.zeros(levels, rows, cols), torch.zeros(rows, cols)
    windows = [(x, y) for y in _offsets(high, metres, stride) for x in _offsets(wide, metres, stride)]
    for number, (x, y) in enumerate(windows):
        tile = ground.hold(cut_tile(image, metres, ground.tile_size, offset=(x, y), bicubic=ground.bicubic), None)
        down = _weights(across[:, 0, 1] - y, high, y, metres, margin)
        own = down[:, None] * _weights(across[0, :, 0] - x, wide, x, metres, margin)
        row, col = (torch.nonzero(own.amax(1 - axis))[:, 0] for axis in (0, 1))
        box = slice(int(row[0]), int(row[-1]) + 1), slice(int(col[0]), int(col[-1]) + 1)
        here = across[box] - torch.tensor([x, y], dtype=torch.float64)
        weights[box] += own[box]
        for level, z in zip(density, level_heights, strict=True):
            level[box] += own[box] * _dense(pipe, tile, here, z).cpu()
        if progress is not None:
            progress(number + 1, len(windows))
    density /= weights  # above 0 everywhere, as windows leave no gaps
    whole = cut_tile(image, (wide, high), (cols, rows), bicubic=ground.bicubic)
    volume = DensityVolume(density, bounds, whole.pixels)
    about = {**pipe.about(), "windows": len(windows)}
    return DensityField(volume, frame, whole, ground.surface, None, about)


def _dense(pipe: DensityGroundPipeline, tile: DensityTile, across: Float[Tensor, "rows cols 2"], z: float) -> Tensor:
    """Densities per metre of one level."""
    flat = torch.nn.functional.pad(across.reshape(-1, 2), (0, 1), value=z).float()
    return pipe.ground.densities(tile, flat).float().reshape(across.shape[:-1])


def _cells(metres: float, cell: float) -> int:
    if not (math.isfinite(cell) and cell > 0):
        raise InputError(f"cells of {cell:g} m cannot be; give metres above 0")
    return max(1, round(metres / cell))


def _require_few(count: int, cell: float) -> None:
    if count > LARGEST:
        raise InputError(
            f"{count:,} cells of {cell:.2g} m are more than {LARGEST:,}; choose a larger cell, or a smaller image"
        )


def _centres(
    bounds: tuple[float, ...], levels: int, rows: int, cols: int
) -> tuple[list[float], Float[Tensor, "{rows} {cols} 2"]]:
    """Heights of levels, and (x, y) of the centres of cells, row 0 in the north."""
    west, south, bottom, east, north, top = bounds
    x, y, z = (
        low + (torch.arange(n, dtype=torch.float64) + 0.5) * ((high - low) / n)
        for low, high, n in ((west, east, cols), (north, south, rows), (bottom, top, levels))
    )
    return z.tolist(), torch.stack([x.expand(rows, -1), y[:, None].expand(-1, cols)], dim=-1)


def _offsets(extent: float, metres: float, stride: float) -> list[float]:
    """Centres of windows from that of the image, evenly spaced from border to border."""
    count = 1 + math.ceil((extent - metres) / (stride * metres) - 1e-9)
    return [(extent - metres) * (i / max(count - 1, 1) - 0.5) for i in range(count)]


def _weights(apart: Tensor, extent: float, centre: float, metres: float, margin: float) -> Tensor:
    """Weights of cells by how far they lie from a window's centre along one axis; 0 for those that are dropped."""
    low = -metres / 2 + (0 if centre - metres / 2 <= -extent / 2 + 1e-6 else margin * metres)
    high = metres / 2 - (0 if centre + metres / 2 >= extent / 2 - 1e-6 else margin * metres)
    kept = (apart >= low - 1e-9) & (apart <= high + 1e-9)
    return torch.where(kept, (1 - apart.abs() / (metres / 2)).clamp_min(_EDGE), 0.0).float()


def _resized(pixels: Tensor, rows: int, cols: int) -> Tensor:
    return torch.nn.functional.interpolate(pixels[None], (rows, cols), mode="area")[0]
