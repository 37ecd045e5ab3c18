"""3x3 convolutions with fewer multiplications, exact up to rounding: for networks that run unchanged on a CPU many times.

``ReflectConv`` is a padded convolution that uses Winograd's F(2x2, 3x3) (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308):
4 instead of 9 products a pixel. ``UpsampledConv`` is nearest upsampling by two and a padded 3x3 convolution: along one axis,
with x the pixels before and w the kernel, the two outputs of a pixel are w0 (x[-1] - x[0]) + s x[0] and
w2 (x[1] - x[0]) + s x[0], s = w0 + w1 + w2, so three products serve two outputs and nine instead of 36 four of them.
Transformed kernels are kept (16/9 of the weights' memory) until the weights change. Used where it pays: float32 on a CPU
without gradients; everywhere else the plain form, which is also what tests compare with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MIN_WORK = 2**20
"""Weights of a layer from which Winograd's transforms cost less than they save."""


class _Prepared:
    """A transformed kernel and what it was made from."""

    def __init__(self) -> None:
        self.key: tuple | None = None
        self.kernel: Tensor | None = None

    def get(self, weight: Tensor, transform: Tensor) -> Tensor:
        version = 0 if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.shape)
        if self.kernel is None or self.key != key:
            self.key, self.kernel = key, _transformed(weight, transform)
        return self.kernel

    def __deepcopy__(self, memo: dict) -> _Prepared:  # copies of a layer make their own
        return _Prepared()


def _transformed(weight: Tensor, transform: Tensor) -> Tensor:
    """(o, c, 3, 3) to (p * p, o, c): transform @ kernel @ transform^T."""
    both = torch.kron(transform, transform).to(weight)
    return (both @ weight.detach().reshape(-1, 9).T).reshape(-1, *weight.shape[:2])


_WINOGRAD = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_UPSAMPLED = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 1]])


class ReflectConv(nn.Conv2d):
    """Convolution with reflected borders."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1):
        super().__init__(channels, out, kernel, stride, kernel // 2, padding_mode="reflect")
        self._prepared = _Prepared()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Convolve; by Winograd where it pays."""
        simple = self.kernel_size == (3, 3) and self.stride == (1, 1) and not (x.shape[2] % 2 or x.shape[3] % 2)
        if not (simple and self.weight.numel() >= MIN_WORK and _pays(x, self.weight)):
            return super().forward(x)
        kernel = self._prepared.get(self.weight, _WINOGRAD)
        return _biased(winograd(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel), self.bias)


class UpsampledConv(nn.Conv2d):
    """Nearest upsampling by two, then a 3x3 convolution with reflected borders."""

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 3, 1, 1, padding_mode="reflect")
        self._prepared = _Prepared()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o 2*h 2*w"]:
        """Upsample and convolve; in one where it pays."""
        if not _pays(x, self.weight):
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        kernel = self._prepared.get(self.weight, _UPSAMPLED)
        # reflecting the upsampled picture repeats the pixels at its border
        return _biased(upsampled(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel), self.bias)


def _pays(x: Tensor, weight: Tensor) -> bool:
    grad = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not grad


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def winograd(padded: Float[Tensor, "b c h w"], kernel: Float[Tensor, "16 o c"]) -> Float[Tensor, "b o h-2 w-2"]:
    """Valid 3x3 convolution of a picture with even sides by the kernel of F(2x2, 3x3)."""

    def split(x: Tensor, dim: int) -> list[Tensor]:
        d0, d1, d2, d3 = x.unfold(dim, 4, 2).unbind(-1)
        return [d0 - d2, d1 + d2, d2 - d1, d1 - d3]

    tiles = torch.stack([cell for row in split(padded, 2) for cell in split(row, 3)])  # (16, b, c, h / 2, w / 2)
    made = _products(kernel, tiles).unflatten(0, (4, 4))
    rows = (made[0] + made[1] + made[2], made[1] - made[2] - made[3])
    return _interleaved([(r[0] + r[1] + r[2], r[1] - r[2] - r[3]) for r in rows])


def upsampled(padded: Float[Tensor, "b c h w"], kernel: Float[Tensor, "9 o c"]) -> Float[Tensor, "b o h2 w2"]:
    """Nearest upsampling of the inner part of ``padded`` and its 3x3 convolution."""

    def split(x: Tensor, dim: int) -> list[Tensor]:
        count = x.shape[dim] - 2
        before, here, after = (x.narrow(dim, i, count) for i in range(3))
        return [before - here, here, after - here]

    tiles = torch.stack([cell for row in split(padded, 2) for cell in split(row, 3)])  # (9, b, c, h, w)
    made = _products(kernel, tiles).unflatten(0, (3, 3))
    rows = (made[0] + made[1], made[2] + made[1])
    return _interleaved([(r[0] + r[1], r[2] + r[1]) for r in rows])


def _products(kernel: Tensor, tiles: Tensor) -> Tensor:
    """(p, o, c) times (p, b, c, h, w), summed over c: (p, b, o, h, w)."""
    p, b, c, h, w = tiles.shape
    columns = tiles.transpose(1, 2).reshape(p, c, b * h * w)
    return torch.bmm(kernel, columns).reshape(p, -1, b, h, w).transpose(1, 2)


def _interleaved(cells: list[tuple[Tensor, Tensor]]) -> Tensor:
    """2 x 2 pictures (b, o, h, w) of every second pixel to one (b, o, 2h, 2w)."""
    rows = torch.stack([torch.stack(pair, -1).flatten(-2) for pair in cells], -2)  # (b, o, h, 2, 2w)
    return rows.flatten(-3, -2)
