"""One noise field for the whole Earth: noise is a pure function of (seed, grid, cell row, cell column, channel, draw).

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3), counter-based: no state, so
the noise of a window is the same whoever asks for it. It runs in integers and float64 on the CPU whatever device the model is on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)


def philox4x32(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Ten rounds of Philox on four broadcastable counter words (uint64 arrays below 2**32) under a 2 x 32-bit key; four words out."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normals(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> Float[np.ndarray, "c h w"]:
    """Four standard normals, float32, for each of the (g, h, w) counters: channels 4 g to 4 g + 3."""
    words = philox4x32(counter, key)
    groups, *size = words[0].shape
    out = np.empty((groups, 4, *size))
    for pair in (0, 2):  # Box and Muller: two uniforms to two normals
        radius = np.sqrt(-2.0 * np.log((words[pair].astype(np.float64) + 0.5) * 2.0**-32))
        angle = (words[pair + 1].astype(np.float64) + 0.5) * (2.0 * np.pi * 2.0**-32)
        out[:, pair], out[:, pair + 1] = radius * np.cos(angle), radius * np.sin(angle)
    return out.reshape(-1, *size).astype(np.float32)


@runtime_checkable
class Noise(Protocol):
    """What the loop draws from: ``draw`` 0 is the initial noise, draw k the k-th one inside the loop."""

    def __call__(
        self, row: int, col: int, height: int, width: int, channels: int, draw: int = 0
    ) -> Float[Tensor, "b c h w"]:
        """Standard normal noise of the cells [row, row + height) x [col, col + width)."""
        ...


@dataclass(frozen=True)
class NoiseField:
    """The field of one seed on one grid, standard normal, float32 on the CPU.

    ``grid`` names the lattice of cells (see ``Canvas.grid_name``); ``wrap`` is the number of columns after which it repeats (panoramas).
    """

    seed: int
    grid: str = "local"
    wrap: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must lie in 0 .. 2**63 - 1, not {self.seed}; use a non-negative integer.")

    def __call__(
        self, row: int, col: int, height: int, width: int, channels: int, draw: int = 0
    ) -> Float[Tensor, "1 c h w"]:
        """Noise of the cells [row, row + height) x [col, col + width); indices may be negative (taken modulo 2**32)."""
        digest = blake2b(f"{self.seed}|{self.grid}".encode(), digest_size=8).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        rows = (np.arange(row, row + height, dtype=np.int64) & 0xFFFFFFFF).astype(np.uint64)
        cols = np.arange(col, col + width, dtype=np.int64)
        if self.wrap:
            cols = cols % self.wrap
        cols = (cols & 0xFFFFFFFF).astype(np.uint64)
        groups = np.arange((channels + 3) // 4, dtype=np.uint64)
        counter = np.broadcast_arrays(cols[None, None, :], rows[None, :, None], groups[:, None, None], np.uint64(draw))
        return torch.from_numpy(normals(tuple(counter), key)[None, :channels])


@dataclass(frozen=True)
class NoiseBatch:
    """One noise stream per sample, stacked: the result for a sample does not depend on its batch."""

    streams: tuple[Noise, ...]

    def __call__(
        self, row: int, col: int, height: int, width: int, channels: int, draw: int = 0
    ) -> Float[Tensor, "b c h w"]:
        """(len(streams), channels, height, width)."""
        return torch.cat([stream(row, col, height, width, channels, draw) for stream in self.streams])


@dataclass(frozen=True)
class GivenNoise:
    """Noise given by the caller (``latents=``) or drawn from torch generators, as in diffusers: it is not anchored to the world.

    ``initial`` (b, c, h, w) is draw 0 of the canvas whose first cell is ``origin``; what windows need beyond the canvas comes from a fixed
    field. Later draws come from ``generators`` (one for the whole batch, or one per sample), else from torch's global one.
    """

    initial: Tensor
    generators: tuple[torch.Generator, ...] | None = None
    origin: tuple[int, int] = (0, 0)

    def __call__(
        self, row: int, col: int, height: int, width: int, channels: int, draw: int = 0
    ) -> Float[Tensor, "b c h w"]:
        """The given latents at their place, or a fresh draw; raises InputError if they do not lie within the cells asked for."""
        batch, own, rows, cols = self.initial.shape
        top, left = self.origin[0] - row, self.origin[1] - col
        if own != channels or not (0 <= top <= height - rows and 0 <= left <= width - cols):
            raise InputError(
                f"latents are {tuple(self.initial.shape)} at {self.origin}, but the canvas needs (batch, {channels}, {height}, {width}) "
                f"at {(row, col)}; give latents of that shape."
            )
        if draw:
            return randn((batch, channels, height, width), self.generators or ())
        if (rows, cols) == (height, width):
            return self.initial.float().cpu()
        around = NoiseField(0, "outside of given latents")(row, col, height, width, channels).repeat(batch, 1, 1, 1)
        around[:, :, top : top + rows, left : left + cols] = self.initial
        return around


def randn(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal float32 on the CPU from torch generators on any device: none (the global one), one, or one per sample."""
    if len(generators) <= 1:
        generator = generators[0] if generators else None
        return torch.randn(shape, generator=generator, device=generator.device if generator else "cpu").cpu()
    return torch.cat([torch.randn((1, *shape[1:]), generator=g, device=g.device).cpu() for g in generators])
