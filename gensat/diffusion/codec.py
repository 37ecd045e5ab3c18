"""Images to latents and back through any VAE, in tiles where they are large.

Tiles lie on a lattice fixed to the grid and are decoded with a halo of neighbouring cells that is cut off again. With the project's own
autoencoder (finite receptive field, ``decoder_halo``) tiled decoding equals whole decoding; other VAEs look at the whole tile, and
``seam_error`` measures what that costs.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gensat.diffusion.windows import Window, WindowPlan


class Codec:
    """Encodes images (b, bands, H, W) in [-1, 1] to latents as the denoiser wants them, and decodes them.

    ``tile`` and ``halo`` count latent cells; images larger than ``whole`` cells on a side are tiled.
    """

    def __init__(self, vae: nn.Module, *, tile: int = 32, halo: int | None = None, whole: int = 64):
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

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b z hh ww"]:
        """Mode of the latent distribution, normalised."""
        parameter = next(self.vae.parameters())
        z = self.vae.encode(images.to(parameter)).latent_dist.mode().float()
        if hasattr(self.vae, "normalise"):
            return self.vae.normalise(z)
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        return (z - shift) * self.vae.config.scaling_factor

    def decode(
        self, latents: Float[Tensor, "b z h w"], origin: tuple[int, int] = (0, 0), *, wrap: bool = False
    ) -> Float[Tensor, "b c hh ww"]:
        """Images in [-1, 1], float32; ``origin`` (row, column) is the first cell on the grid; ``wrap`` joins the left and right edges."""
        parameter = next(self.vae.parameters())
        if hasattr(self.vae, "denormalise"):
            z = self.vae.denormalise(latents.float())
        else:
            z = latents.float() / self.vae.config.scaling_factor + (
                getattr(self.vae.config, "shift_factor", None) or 0.0
            )
        z = z.to(parameter)
        if wrap:
            z = torch.cat([z[..., -self.halo :], z, z[..., : self.halo]], dim=-1)
            origin = (origin[0], origin[1] - self.halo)
        image = self._tiled(z, origin) if max(z.shape[-2:]) > self.whole else self.vae.decode(z, return_dict=False)[0]
        if wrap:
            image = image[..., self.halo * self.factor : -self.halo * self.factor]
        return image.float().clamp(-1, 1)

    def _tiled(self, z: Tensor, origin: tuple[int, int]) -> Tensor:
        height, width = z.shape[-2:]
        image = None
        for tile in WindowPlan(self.tile, self.tile, whole=0).windows(height, width, origin):
            inner = _clip(tile, height, width)
            outer = _clip(
                Window(
                    inner.row - self.halo,
                    inner.col - self.halo,
                    inner.height + 2 * self.halo,
                    inner.width + 2 * self.halo,
                ),
                height,
                width,
            )
            part = self.vae.decode(
                z[:, :, outer.row : outer.row + outer.height, outer.col : outer.col + outer.width], return_dict=False
            )[0]
            if image is None:
                image = part.new_empty((part.shape[0], part.shape[1], height * self.factor, width * self.factor))
            f = self.factor
            rows, cols = inner.scaled(f).within(outer.scaled(f))
            image[
                :, :, inner.row * f : (inner.row + inner.height) * f, inner.col * f : (inner.col + inner.width) * f
            ] = part[:, :, rows, cols]
        return image

    def seam_error(self, latents: Float[Tensor, "b z h w"]) -> float:
        """Largest difference (0..1 scale of an image) between tiled and whole decoding of these latents."""
        whole = Codec(self.vae, tile=self.tile, halo=self.halo, whole=max(latents.shape[-2:])).decode(latents)
        tiled = Codec(self.vae, tile=self.tile, halo=self.halo, whole=0).decode(latents)
        return float((whole - tiled).abs().max() / 2)


def _clip(window: Window, height: int, width: int) -> Window:
    """The part of a window that lies on a canvas of this size."""
    top, left = max(window.row, 0), max(window.col, 0)
    bottom, right = min(window.row + window.height, height), min(window.col + window.width, width)
    return Window(top, left, bottom - top, right - left)
