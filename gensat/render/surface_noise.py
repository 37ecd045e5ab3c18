"""Noise that lies on the surfaces of a scene: two views of one wall share it, whatever the cameras.

The world-anchored field (:mod:`gensat.diffusion.noise`) in three dimensions. The cell of a latent takes the noise of the small cube
of space in which its central ray ends; cubes are as large as the cell is there, in steps of two, so that neighbouring cells rarely share one.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.diffusion.noise import normals
from gensat.render.view import View

_SKY = 1e4  # metres at which the sky is taken to lie
_AWAY = 2**21  # cubes between a cell and the next one beside the view


class SurfaceNoise:
    """Noise of one view's latent cells, as :class:`gensat.diffusion.noise.Noise`.

    Args:
        view: whose pixels end where.
        seed: of the field.
        factor: pixels of a cell.
    """

    def __init__(self, view: View, seed: int, factor: int = 8):
        height, width = view.distance.shape
        rows = torch.arange(factor // 2, max(height, factor), factor).clamp(max=height - 1)
        columns = torch.arange(factor // 2, max(width, factor), factor).clamp(max=width - 1)
        rays = view.camera.rays(view.distance.device)
        direction = rays.directions[rows][:, columns].double()
        distance = view.distance[rows][:, columns].double().nan_to_num(posinf=_SKY).clamp(max=_SKY)
        points = (rays.origins[rows][:, columns].double() + distance[..., None] * direction).cpu().numpy()
        across = rays.directions[height // 2, width // 2] - rays.directions[height // 2, max(0, width // 2 - 1)]
        size = distance.cpu().numpy() * max(float(across.norm()), 1e-9) * factor
        level = np.floor(np.log2(np.maximum(size, 1e-6) / 1.5)).astype(np.int64)
        self.cubes = np.floor(points / np.exp2(level)[..., None]).astype(np.int64)
        self.level, self.seed = level, seed

    def __call__(
        self, row: int, col: int, height: int, width: int, channels: int, draw: int = 0
    ) -> Float[Tensor, "1 c h w"]:
        """Noise of the cells [row, row + height) x [col, col + width); beside the view, where windows reach, of cubes far from the scene."""
        rows, columns = np.arange(row, row + height), np.arange(col, col + width)
        inner = [n.clip(0, size - 1) for n, size in zip((rows, columns), self.level.shape, strict=True)]
        cubes = self.cubes[np.ix_(*inner)].copy()
        cubes[..., 2] += _AWAY * (rows - inner[0])[:, None] + _AWAY // 2**10 * (columns - inner[1])[None]
        return self._of(cubes, self.level[np.ix_(*inner)], channels, draw)[None]

    def _of(
        self, cubes: Int[np.ndarray, "h w 3"], level: Int[np.ndarray, "h w"], channels: int, draw: int
    ) -> Float[Tensor, "c h w"]:
        digest = blake2b(f"{self.seed}|surfaces".encode(), digest_size=8).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        x, y, z = ((cubes[..., k] & 0xFFFFFFFF).astype(np.uint64) for k in range(3))
        groups = np.arange((channels + 3) // 4, dtype=np.uint64)[:, None, None]
        about = ((level & 0xFF).astype(np.uint64) << np.uint64(24)) | (np.uint64(draw) << np.uint64(8))
        values = normals(tuple(np.broadcast_arrays(x[None], y[None], z[None], about[None] | groups)), key)
        return torch.from_numpy(values[:channels])
