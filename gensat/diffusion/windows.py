"""The fixed window lattice: where a large canvas is cut is decided by the grid, never by the request.

Positions count latent cells; a ``Window`` is relative to the canvas origin and may reach outside the canvas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError


@dataclass(frozen=True)
class Window:
    """Cells [row, row + height) x [col, col + width), relative to the canvas origin."""

    row: int
    col: int
    height: int
    width: int

    def within(self, outer: "Window") -> tuple[slice, slice]:
        """Row and column slices of this window in an array that covers ``outer``."""
        top, left = self.row - outer.row, self.col - outer.col
        return slice(top, top + self.height), slice(left, left + self.width)

    def scaled(self, factor: int) -> "Window":
        """The same area counted in units ``factor`` times smaller (cells to pixels)."""
        return Window(self.row * factor, self.col * factor, self.height * factor, self.width * factor)


def _starts(origin: int, length: int, window: int, stride: int) -> range:
    """Starts (relative to ``origin``) of the lattice windows at absolute multiples of ``stride`` that meet [0, length)."""
    first = (origin - window) // stride + 1
    last = -((-(origin + length)) // stride) - 1
    return range(first * stride - origin, last * stride - origin + 1, stride)


@dataclass(frozen=True)
class WindowPlan:
    """Windows of ``size`` cells every ``stride`` cells on the lattice through the grid's cell (0, 0).

    A canvas that is no larger than ``whole`` cells on either side is one window, itself; ``whole=0`` always uses the lattice.
    """

    size: int = 32
    stride: int = 16
    whole: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise InputError(
                f"window stride must lie in 1 .. {self.size}, not {self.stride}; choose half of the window."
            )

    def windows(self, height: int, width: int, origin: tuple[int, int] = (0, 0)) -> list[Window]:
        """Windows needed for a canvas of (height, width) cells whose first cell is ``origin`` on the grid, in row-major order."""
        if max(height, width) <= self.whole:
            return [Window(0, 0, height, width)]
        rows = _starts(origin[0], height, self.size, self.stride)
        cols = _starts(origin[1], width, self.size, self.stride)
        return [Window(r, c, self.size, self.size) for r in rows for c in cols]

    def halo(self, steps: int) -> int:
        """Cells beyond which a cell of a windowed canvas cannot feel where the canvas ends, after ``steps`` denoising steps.

        A cell's windows all belong to the plan; the cells of those windows, size - 1 away, must be exact one step earlier, and so on.
        """
        return max(0, steps - 1) * (self.size - 1)


def bounding(windows: Sequence[Window]) -> Window:
    """The smallest window that holds all of them."""
    top, left = min(w.row for w in windows), min(w.col for w in windows)
    bottom, right = max(w.row + w.height for w in windows), max(w.col + w.width for w in windows)
    return Window(top, left, bottom - top, right - left)


def taper(height: int, width: int, *, device: torch.device | None = None) -> Float[Tensor, "1 1 h w"]:
    """Blending weight of a window: a squared-sine hill, positive everywhere, that sums to one over a lattice of half-window stride."""
    rows = torch.sin((torch.arange(height, device=device) + 0.5) * torch.pi / height).square()
    cols = torch.sin((torch.arange(width, device=device) + 0.5) * torch.pi / width).square()
    return (rows[:, None] * cols[None, :])[None, None]


class Blend:
    """Weighted mean of window predictions over a canvas."""

    def __init__(self, area: Window, like: Tensor):
        shape = (like.shape[0], like.shape[1], area.height, area.width)
        self.area, self.total = area, torch.zeros(shape, device=like.device)
        self.weight = torch.zeros((1, 1, area.height, area.width), device=like.device)

    def add(self, window: Window, value: Float[Tensor, "b c h w"]) -> None:
        """Add the prediction of one window."""
        weight = taper(window.height, window.width, device=value.device)
        rows, cols = window.within(self.area)
        self.total[:, :, rows, cols] += value.float() * weight
        self.weight[:, :, rows, cols] += weight

    def result(self) -> Float[Tensor, "b c h w"]:
        """The mean; every cell of the area must have been covered."""
        return self.total / self.weight
