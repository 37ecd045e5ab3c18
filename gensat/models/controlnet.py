"""The ControlNet of the default denoiser: a layout (classes, known mask, edges) to residuals for its skip and its transformer blocks."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from gensat.errors import InputError
from gensat.models.autoencoder import zeroed
from gensat.models.blocks import TimeConvBlock, TimeEmbedding, TransformerBlock
from gensat.models.denoiser import LatentDenoiser

SHARED = ("in_channels", "conv_width", "width", "vector_dim", "patch")
"""Sizes that a ControlNet has in common with its denoiser."""
NEW = ("hint", "skip_out", "block_out")
"""Layers that a denoiser has none of."""


class LayoutControlNet(ModelMixin, ConfigMixin):
    """Control image and latents (b, in_channels, h, w) to a tuple of residuals; a cell of ``patch`` latents a side is 8 pixels of the control image.

    In cells, the first residual (b, conv_width, h, w) belongs to the denoiser's skip, the others (b, width, h/2, w/2) to its first ``depth``
    transformer blocks. The last layers start at zero, so an untrained ControlNet changes nothing (Zhang et al. 2023, section 3.1);
    ``from_denoiser`` begins one.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 8,
        control_channels: int = 13,
        hint_channels: Sequence[int] = (24, 48, 96),
        conv_width: int = 128,
        width: int = 256,
        depth: int = 1,
        heads: int = 4,
        mlp_ratio: float = 3.0,
        vector_dim: int = 256,
        patch: int = 1,
    ):
        super().__init__()
        hint: list[nn.Module] = []
        channels = control_channels
        for out in hint_channels:
            hint += [nn.Conv2d(channels, out, 3, padding=1, stride=2), nn.SiLU()]
            channels = out
        self.hint = nn.Sequential(*hint, nn.Conv2d(channels, conv_width, 3, padding=1))
        self.time = TimeEmbedding(vector_dim)
        self.modulation = nn.Linear(vector_dim, 6 * width)
        self.fold = nn.PixelUnshuffle(patch)
        self.conv_in = nn.Conv2d(in_channels * patch**2, conv_width, 3, padding=1)
        self.down = TimeConvBlock(conv_width, vector_dim)
        self.to_tokens = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * conv_width, width, 1))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio=mlp_ratio, cross=False) for _ in range(depth)
        )
        self.skip_out = zeroed(nn.Conv2d(conv_width, conv_width, 1))
        self.block_out = nn.ModuleList(zeroed(nn.Conv2d(width, width, 1)) for _ in range(depth + 1))

    def forward(
        self,
        sample: Float[Tensor, "b c h w"],
        timestep: Float[Tensor, " b"] | Int[Tensor, " b"] | Float[Tensor, ""] | Int[Tensor, ""],
        controlnet_cond: Float[Tensor, "b k hh ww"],
        *,
        time_vector: Float[Tensor, "b v"] | None = None,
        conditioning_scale: float | int = 1.0,
    ) -> tuple[Tensor, ...]:
        """Residuals times ``conditioning_scale``; ``timestep`` is 0..1000."""
        time = self.time(timestep.expand(sample.shape[0]).float())
        if time_vector is not None:
            time = time + time_vector.to(time.dtype)
        time = nn.functional.silu(time)
        x = self.down(self.conv_in(self.fold(sample)) + self.hint(controlnet_cond), time)
        y = self.to_tokens(x)
        grid = (y.shape[2], y.shape[3])
        modulation = self.modulation(time).unflatten(1, (6, -1))
        residuals = [self.skip_out(x), self.block_out[0](y)]
        y = y.flatten(2).transpose(1, 2)
        for block, out in zip(self.blocks, list(self.block_out)[1:], strict=True):
            y = block(y, modulation, grid)
            residuals.append(out(y.transpose(1, 2).unflatten(2, grid)))
        return tuple(r * conditioning_scale for r in residuals)

    @classmethod
    def from_denoiser(
        cls,
        denoiser: LatentDenoiser,
        *,
        control_channels: int = 13,
        hint_channels: Sequence[int] = (24, 48, 96),
        depth: int = 1,
        mlp_ratio: float | None = None,
    ) -> "LayoutControlNet":
        """A ControlNet that changes nothing yet, of the denoiser's sizes and with its matching layers: time, modulation, first convolutions, first blocks.

        ``mlp_ratio`` is the denoiser's where it is None; with another one the perceptrons of the blocks are new. Raises InputError for a ``depth``
        that is not between 1 and the denoiser's.
        """
        most = len(denoiser.blocks)
        if not 1 <= depth <= most:
            raise InputError(f"depth is {depth}; this denoiser has {most} blocks, so give 1 to {most}")
        sizes = {name: denoiser.config[name] for name in (*SHARED, "heads")}
        ratio = denoiser.config.mlp_ratio if mlp_ratio is None else mlp_ratio
        hints: Any = list(hint_channels)  # a plain list: it goes into config.json
        made = cls(control_channels=control_channels, hint_channels=hints, depth=depth, mlp_ratio=ratio, **sizes)
        own, theirs = made.state_dict(), denoiser.state_dict()
        with torch.no_grad():
            for name, weights in own.items():
                source = theirs.get(name.replace("down.", "down.0.", 1))
                if not name.startswith(NEW) and source is not None and source.shape == weights.shape:
                    weights.copy_(source)
        return made

    def check_fits(self, denoiser: LatentDenoiser) -> None:
        """Raises InputError where it was made for a denoiser of other sizes, which could not add up its residuals."""
        if other := [name for name in SHARED if self.config[name] != denoiser.config[name]]:
            sizes = ", ".join(f"{name} {self.config[name]} instead of {denoiser.config[name]}" for name in other)
            raise InputError(
                f"this ControlNet belongs to another denoiser ({sizes}); take one that was trained on this denoiser"
            )
