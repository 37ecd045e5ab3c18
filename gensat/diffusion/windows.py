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

    def within(self, outer: "Window", *, wrap: bool = False) -> tuple[slice, slice | Tensor]:
        """Row and column indices of this window in an array that covers ``outer``; with ``wrap`` columns go round."""
        top, left = self.row - outer.row, self.col - outer.col
        cols: slice | Tensor = slice(left, left + self.width)
        if wrap and not 0 <= left <= outer.width - self.width:
            cols = torch.arange(left, left + self.width) % outer.width
        return slice(top, top + self.height), cols

    def scaled(self, factor: int) -> "Window":
        """The same area counted in units ``factor`` times smaller (cells to pixels)."""
        return Window(self.row * factor, self.col * factor, self.height * factor, self.width * factor)

    def grown(self, margin: int) -> "Window":
        """The area with ``margin`` cells more on every side."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def clipped(self, outer: "Window") -> "Window":
        """The part of the area that lies in ``outer``."""
        top, left = max(self.row, outer.row), max(self.col, outer.col)
        bottom = min(self.row + self.height, outer.row + outer.height)
        right = min(self.col + self.width, outer.col + outer.width)
        return Window(top, left, max(0, bottom - top), max(0, right - left))


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

    def windows(self, height: int, width: int, origin: tuple[int, int] = (0, 0), *, wrap: bool = False) -> list[Window]:
        """Windows needed for a canvas of (height, width) cells whose first cell is ``origin`` on the grid, in row-major order.

        With ``wrap`` the last column is a neighbour of the first (a panorama): the lattice goes round, whatever the size.
        Raises InputError for a width that no lattice goes round.
        """
        if wrap:
            if width % self.stride or width < self.size:
                raise InputError(
                    f"{width} columns cannot be closed into a circle of windows; "
                    f"use a multiple of {self.stride} from {self.size} on."
                )
            cols = range(-origin[1] % self.stride, width, self.stride)
        elif max(height, width) <= self.whole:
            return [Window(0, 0, height, width)]
        else:
            cols = _starts(origin[1], width, self.size, self.stride)
        rows = _starts(origin[0], height, self.size, self.stride)
        return [Window(r, c, self.size, self.size) for r in rows for c in cols]

    def area(self, height: int, width: int, origin: tuple[int, int] = (0, 0), *, wrap: bool = False) -> Window:
        """The smallest window that holds all those of a canvas: what is computed so that the canvas is complete."""
        area = bounding(self.windows(height, width, origin, wrap=wrap))
        return Window(area.row, 0, area.height, width) if wrap else area

    def halo(self, evaluations: int) -> int:
        """Cells from the edge of a windowed canvas beyond which nothing depends on where the canvas ends.

        After the first evaluation of the denoiser a window that reaches outside may be wrong in all its cells, of which the canvas holds at
        most size - 1 in a row. From then on the wrong region ends where a window of the lattice ends, and every evaluation takes it
        to the end of the last window that starts in it.
        """
        growth = (self.size - 1) // self.stride * self.stride
        return self.size - 1 + (evaluations - 1) * growth if evaluations > 0 else 0


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
    """Weighted mean of window predictions over an area; of a single window that covers it, the prediction itself, bit for bit."""

    def __init__(self, area: Window, *, wrap: bool = False):
        self.area, self.wrap = area, wrap
        self.only: Tensor | None = None
        self.total: Tensor | None = None
        self.weight: Tensor | None = None

    def add(self, window: Window, value: Float[Tensor, "b c h w"]) -> None:
        """Add the prediction of one window."""
        if window == self.area and not self.wrap:
            self.only = value
            return
        if self.total is None or self.weight is None:
            shape = (self.area.height, self.area.width)
            self.total = torch.zeros((*value.shape[:2], *shape), device=value.device)
            self.weight = torch.zeros((1, 1, *shape), device=value.device)
        weight = taper(window.height, window.width, device=value.device)
        rows, cols = window.within(self.area, wrap=self.wrap)
        self.total[:, :, rows, cols] += value.float() * weight
        self.weight[:, :, rows, cols] += weight

    def result(self) -> Float[Tensor, "b c h w"]:
        """The mean; every cell of the area must have been covered."""
        if self.only is not None:
            return self.only
        assert self.total is not None and self.weight is not None  # something was added
        return self.total / self.weight
