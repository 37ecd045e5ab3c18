"""Images to latents and back through any VAE, in tiles where they are large.

Tiles lie on a lattice fixed to the grid and are coded with a halo of neighbouring cells that is cut off again. With the project's own
autoencoder (finite receptive field, ``encoder_halo`` and ``decoder_halo``) tiled coding equals whole coding; other VAEs look at the whole
tile, and ``seam_error`` measures what that costs.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.diffusion.windows import Window, WindowPlan


class Codec:
    """Encodes images (b, bands, H, W) in [-1, 1] to latents as the denoiser wants them, and decodes them.

    ``tile`` and ``halo`` count latent cells; images larger than ``whole`` cells on a side are encoded and decoded in tiles.
    """

    def __init__(self, vae: Any, *, tile: int = 32, halo: int | None = None, whole: int = 64):
        self.vae, self.tile, self.whole = vae, tile, whole
        self.halo = halo if halo is not None else getattr(vae, "decoder_halo", 8)

    @property
    def factor(self) -> int:
        """Pixels per latent cell."""
        return self.vae.factor if hasattr(self.vae, "factor") else 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.vae.config.latent_channels

    @property
    def exact(self) -> bool:
        """Whether tiled decoding equals whole decoding (to rounding)."""
        return hasattr(self.vae, "decoder_halo") and self.halo >= self.vae.decoder_halo

    def encode(
        self, images: Float[Tensor, "b c h w"], origin: tuple[int, int] = (0, 0), *, wrap: bool = False
    ) -> Float[Tensor, "b z hh ww"]:
        """Mode of the latent distribution, normalised; ``origin`` (row, column) is the first cell on the grid; ``wrap`` as of ``decode``."""
        cells, width = max(images.shape[-2:]) // self.factor, images.shape[-1]
        halo = -(-getattr(self.vae, "encoder_halo", self.halo * self.factor) // self.factor)
        if wrap:
            images = images[..., torch.arange(-halo * self.factor, width + halo * self.factor) % width]
            inner = self.encode(images, (origin[0], origin[1] - halo))
            return inner[..., halo : halo + width // self.factor]
        x = self._placed(images)
        z = self._encode(x) if cells <= self.whole else self._tiled(self._encode, x, origin, halo, self.factor, 1)
        z = z.float()
        if hasattr(self.vae, "normalise"):
            return self.vae.normalise(z)
        shift, scale = self._affine()
        return (z - shift) * scale

    def decode(
        self, latents: Float[Tensor, "b z h w"], origin: tuple[int, int] = (0, 0), *, wrap: bool = False
    ) -> Float[Tensor, "b c hh ww"]:
        """Images in [-1, 1], float32; ``origin`` (row, column) is the first cell on the grid; ``wrap`` joins the left and right edges."""
        if hasattr(self.vae, "denormalise"):
            z = self.vae.denormalise(latents.float())
        else:
            shift, scale = self._affine()
            z = latents.float() / scale + shift
        width = z.shape[-1]
        if wrap:
            z = z[..., torch.arange(-self.halo, width + self.halo) % width]
            origin = (origin[0], origin[1] - self.halo)
        z = self._placed(z)
        small = max(z.shape[-2], width) <= self.whole
        image = self._decode(z) if small else self._tiled(self._decode, z, origin, self.halo, 1, self.factor)
        if wrap:
            image = image[..., self.halo * self.factor :][..., : width * self.factor]
        return image.float().clamp(-1, 1)

    @torch.no_grad()
    def seam_error(self, latents: Float[Tensor, "b z h w"]) -> float:
        """Largest difference (0..1 scale of an image) between tiled and whole decoding of these latents."""
        whole = Codec(self.vae, tile=self.tile, halo=self.halo, whole=max(latents.shape[-2:])).decode(latents)
        tiled = Codec(self.vae, tile=self.tile, halo=self.halo, whole=0).decode(latents)
        return float((whole - tiled).abs().max() / 2)

    def _affine(self) -> tuple[float, float]:
        """Shift and scale of a VAE of diffusers: its denoiser sees (z - shift) * scale."""
        return getattr(self.vae.config, "shift_factor", None) or 0.0, self.vae.config.scaling_factor

    def _placed(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the VAE and where it runs, which is not where its weights lie while it is offloaded."""
        parameter = next(self.vae.parameters())
        device = getattr(getattr(self.vae, "_hf_hook", None), "execution_device", None)
        return x.to(parameter.device if device is None else device, parameter.dtype)

    def _encode(self, x: Tensor) -> Tensor:
        return self.vae.encode(x).latent_dist.mode()

    def _decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z, return_dict=False)[0]

    def _tiled(
        self, code: Callable[[Tensor], Tensor], x: Tensor, origin: tuple[int, int], halo: int, fine: int, out: int
    ) -> Tensor:
        """``code`` tile by tile: ``fine`` samples of ``x`` and ``out`` samples of the result to a latent cell."""
        canvas = Window(0, 0, x.shape[-2] // fine, x.shape[-1] // fine)
        result: Tensor | None = None
        for tile in WindowPlan(self.tile, self.tile, whole=0).windows(canvas.height, canvas.width, origin):
            inner = tile.clipped(canvas)
            outer = inner.grown(halo).clipped(canvas)
            rows, cols = outer.scaled(fine).within(canvas.scaled(fine))
            part = code(x[:, :, rows, cols])
            if result is None:
                result = part.new_empty((*part.shape[:2], canvas.height * out, canvas.width * out))
            rows, cols = inner.scaled(out).within(outer.scaled(out))
            to_rows, to_cols = inner.scaled(out).within(canvas.scaled(out))
            result[:, :, to_rows, to_cols] = part[:, :, rows, cols]
        assert result is not None  # a canvas has at least one tile
        return result
