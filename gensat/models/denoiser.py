"""The default denoiser: convolutions at the latent resolution around a transformer at half of it.

Convolutions carry texture, the transformer carries layout and text; rotary positions let it run at sizes it was not trained on.
"""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gensat.errors import InputError
from gensat.models.autoencoder import PixelNorm, zeroed
from gensat.models.blocks import TimeConvBlock, TimeEmbedding, TransformerBlock

MIXERS = ("attention", "convolution")
"""What lets the cells of the middle speak to each other: all to all, or neighbours (a convolutional U-Net)."""


@dataclass
class DenoiserOutput:
    """``sample``: the prediction (b, out_channels, h, w), of the kind that the scheduler expects."""

    sample: Tensor


class LatentDenoiser(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Predicts noise, velocity or flow of latents (b, in_channels, h, w), h and w multiples of 2 ``patch``.

    ``patch`` cells a side are one to the network, so that latents of 1/4 of the image cost what those of 1/8 do.

    Called like diffusers' UNet2DConditionModel, with ``time_vector`` (place, acquisition) added to the time embedding.
    ControlNet residuals are a tuple: the first is added to the skip at full resolution, number i to the input of transformer block i - 1.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 8,
        out_channels: int = 8,
        extra_channels: int = 0,
        conv_width: int = 128,
        conv_blocks: int = 2,
        width: int = 256,
        depth: int = 5,
        heads: int = 4,
        mlp_ratio: float = 3.0,
        text_dim: int = 384,
        vector_dim: int = 256,
        num_classes: int = 0,
        sample_size: int = 32,
        mixer: str = "attention",
        patch: int = 1,
    ):
        super().__init__()
        if mixer not in MIXERS:
            raise InputError(f"mixer is {mixer!r}; use one of {', '.join(MIXERS)}")
        self.time = TimeEmbedding(vector_dim)
        self.label = nn.Embedding(num_classes, vector_dim) if num_classes else None
        self.modulation = nn.Linear(vector_dim, 6 * width)
        self.text = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, width))
        self.fold, self.unfold = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.conv_in = nn.Conv2d((in_channels + extra_channels) * patch**2, conv_width, 3, padding=1)
        self.down = nn.ModuleList(TimeConvBlock(conv_width, vector_dim) for _ in range(conv_blocks))
        self.to_tokens = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * conv_width, width, 1))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio=mlp_ratio, cross=True, mixer=mixer) for _ in range(depth)
        )
        self.from_tokens = nn.Sequential(PixelNorm(width), nn.Conv2d(width, 4 * conv_width, 1), nn.PixelShuffle(2))
        self.merge = nn.Conv2d(2 * conv_width, conv_width, 1)
        self.up = nn.ModuleList(TimeConvBlock(conv_width, vector_dim) for _ in range(conv_blocks))
        self.norm_out = PixelNorm(conv_width)
        self.conv_out = zeroed(nn.Conv2d(conv_width, out_channels * patch**2, 3, padding=1))

    def forward(
        self,
        sample: Float[Tensor, "b c h w"],
        timestep: Float[Tensor, " b"] | Int[Tensor, " b"] | Float[Tensor, ""] | Int[Tensor, ""],
        encoder_hidden_states: Float[Tensor, "b l d"] | None = None,
        *,
        encoder_attention_mask: Bool[Tensor, "b l"] | None = None,
        time_vector: Float[Tensor, "b v"] | None = None,
        class_labels: Int[Tensor, " b"] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        return_dict: bool = True,
    ) -> DenoiserOutput | tuple[Tensor]:
        """One prediction; ``timestep`` is 0..1000, ``encoder_attention_mask`` is True at real words."""
        if sample.shape[-1] % (multiple := 2 * self.config.patch) or sample.shape[-2] % multiple:
            raise InputError(
                f"The sides of the latent grid must be multiples of {multiple}, not {tuple(sample.shape[-2:])}; use image sides that are multiples of 16."
            )
        time = self.time(timestep.expand(sample.shape[0]).float())
        if time_vector is not None:
            time = time + time_vector.to(time.dtype)
        if self.label is not None and class_labels is not None:
            time = time + self.label(class_labels)
        time = nn.functional.silu(time)
        context = None if encoder_hidden_states is None else self.text(encoder_hidden_states)
        extra = list(down_block_additional_residuals or ())

        x = self.conv_in(self.fold(sample))
        for block in self.down:
            x = block(x, time)
        skip = x + extra[0] if extra else x
        y = self.to_tokens(x)
        grid = (y.shape[2], y.shape[3])
        y = y.flatten(2).transpose(1, 2)
        modulation = self.modulation(time).unflatten(1, (6, -1))
        for i, block in enumerate(self.blocks):
            if i + 1 < len(extra):
                y = y + extra[i + 1].flatten(2).transpose(1, 2)
            y = block(y, modulation, grid, context, encoder_attention_mask)
        y = self.from_tokens(y.transpose(1, 2).unflatten(2, grid))
        x = self.merge(torch.cat([y, skip], dim=1))
        for block in self.up:
            x = block(x, time)
        out = self.unfold(self.conv_out(nn.functional.silu(self.norm_out(x))))
        return DenoiserOutput(out) if return_dict else (out,)
