"""Building blocks that the default denoiser and its ControlNet share."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gensat.diffusion.precision import attention
from gensat.models.autoencoder import PixelNorm, zeroed


class TimeEmbedding(nn.Module):
    """Time step (0..1000) to a vector: sinusoid [cos | sin] in float32, then a two-layer perceptron."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b w"]:
        """(b,) time steps to (b, width)."""
        features = get_timestep_embedding(t.float(), self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.mlp(features.to(self.mlp[0].weight.dtype))


class TimeConvBlock(nn.Module):
    """Residual 3x3 convolutions whose normalised input is scaled and shifted by the time vector; starts as the identity."""

    def __init__(self, channels: int, time_dim: int):
        super().__init__()
        self.norm = PixelNorm(channels)
        self.modulation = zeroed(nn.Linear(time_dim, 2 * channels))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"]) -> Float[Tensor, "b c h w"]:
        """Same shape out; ``time`` is the activated time vector."""
        scale, shift = self.modulation(time)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(x) * (1 + scale) + shift
        return x + self.conv2(F.silu(self.conv1(F.silu(h))))


@lru_cache(maxsize=32)
def _angles(height: int, width: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine (h*w, head_dim/2) of axial rotary angles: the first half turns with the row, the second with the column."""
    frequencies = 100.0 ** (-torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 4))
    rows = torch.arange(height, dtype=torch.float32)[:, None, None] * frequencies
    cols = torch.arange(width, dtype=torch.float32)[None, :, None] * frequencies
    angle = torch.cat([rows.expand(height, width, -1), cols.expand(height, width, -1)], dim=-1).flatten(0, 1)
    return angle.cos().to(device), angle.sin().to(device)


def rotate(x: Float[Tensor, "b n_heads n d"], height: int, width: int) -> Float[Tensor, "b n_heads n d"]:
    """Two-dimensional rotary position embedding (Su et al. 2021, eq. 34, one axis per half of the head): works at any grid size."""
    cos, sin = (a.to(x.dtype) for a in _angles(height, width, x.shape[-1], x.device))
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """Multi-head attention over grid tokens (rotary positions, normalised queries and keys), or from them to a context."""

    def __init__(self, width: int, heads: int, *, cross: bool = False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.norm_q = nn.RMSNorm(width // heads, eps=1e-6)
        self.norm_k = nn.RMSNorm(width // heads, eps=1e-6)
        self.to_out = nn.Linear(width, width)
        if cross:
            zeroed(self.to_out)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        context: Float[Tensor, "b l w"] | None = None,
        mask: Bool[Tensor, "b l"] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Self-attention on a ``grid`` of tokens, or cross-attention to ``context`` under ``mask``."""
        source = x if context is None else context
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
        )
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        if grid is not None:
            q, k = rotate(q, *grid), rotate(k, *grid)
        return self.to_out(attention(q, k, v, mask).transpose(1, 2).flatten(2))


class LocalMixing(nn.Module):
    """A 3x3 convolution in the place of self-attention: what a convolutional U-Net has at this resolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b n w"], *, grid: tuple[int, int]) -> Float[Tensor, "b n w"]:
        """Tokens of a ``grid`` (rows, columns) in row-major order."""
        return F.silu(self.conv(x.transpose(1, 2).unflatten(2, grid))).flatten(2).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Self-attention (or ``mixer="convolution"``), cross-attention to text (optional) and a perceptron, modulated by one shared time vector plus a learned table.

    The modulation is "adaLN-single" of PixArt-alpha (Chen et al. 2023, section 2.3).
    """

    def __init__(self, width: int, heads: int, *, mlp_ratio: float, cross: bool, mixer: str = "attention"):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.RMSNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn1 = LocalMixing(width) if mixer == "convolution" else Attention(width, heads)
        self.attn2 = Attention(width, heads, cross=True) if cross else None
        self.norm2 = nn.RMSNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "b 6 w"],
        grid: tuple[int, int],
        context: Float[Tensor, "b l w"] | None = None,
        mask: Bool[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Tokens of a ``grid`` (rows, columns) in row-major order; ``context`` are projected text states."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            (modulation + self.table.to(modulation.dtype)).unsqueeze(2).unbind(1)
        )
        x = x + gate1 * self.attn1(self.norm1(x).to(x.dtype) * (1 + scale1) + shift1, grid=grid)
        if self.attn2 is not None and context is not None:
            x = x + self.attn2(x, context, mask)
        return x + gate2 * self.mlp(self.norm2(x).to(x.dtype) * (1 + scale2) + shift2)
