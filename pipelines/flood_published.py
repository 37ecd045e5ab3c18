"""Floods by a published generator that repaints an image under a mask: pix2pixHD of the Earth Intelligence Engine."""

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..diffusion.windows import Blend, Window
from ..errors import InputError
from ..geo.canvas import Canvas
from ..hub.fingerprint import fingerprint
from ..hub.spec import ModelSpec
from ..hydro.open_water import soft_edge
from ..types import GeoImage
from .one_network import OneNetworkPipeline
from .parts import start_pixels


class PublishedFloodPipeline(OneNetworkPipeline):
    """From an image and a mask of its water to an image of the flood. Component: ``model``, a ``Pix2PixHD``."""

    def __init__(self, model: nn.Module, spec: ModelSpec | None = None):
        super().__init__(model, spec)

    @torch.inference_mode()
    def __call__(
        self,
        image: GeoImage,
        seen: np.ndarray,
        *,
        edge: float | int = 2.0,
        whole: bool = False,
        window: int | None = None,
    ) -> GeoImage:
        """Paint the water of one image.

        Args:
            image: before the flood, with bands red, green and blue: 8-bit, or floats in 0 to 1. Other bands stay as they are.
            seen: (H, W) bool, True where water is seen (:func:`gensat.hydro.open_water.open_water`).
            edge: pixels over which the water sets in, inside of it.
            whole: keep all that the generator painted, as its authors do; it repaints dry ground too. Else dry pixels stay as they were, bit
                for bit.
            window: pixels painted in one piece, at most; default the spec's. Larger images are painted in overlapping windows and blended,
                each with norms of its own, which shows as slow changes of tone.

        Raises:
            InputError: sizes that differ, no water, pixels without a value, or a window that cannot be.
        """
        if seen.shape != image.array.shape[:2] or seen.dtype != bool:
            raise InputError(
                f"the mask is {seen.dtype} {seen.shape}, the image {image.array.shape[:2]}; give one bool a pixel"
            )
        if not seen.any():
            raise InputError(
                "no pixel of the image is under water; check that the depth is of this place and in metres"
            )
        bands = self.spec.bands
        pixels = start_pixels(image, bands, Canvas.like(image))
        painted = self.paint(pixels, torch.from_numpy(seen)[None], window)
        share = torch.ones(1) if whole else torch.from_numpy(soft_edge(seen, edge))
        mixed = (pixels + share * (painted - pixels)).clamp(-1, 1)[0] / 2 + 0.5
        array = image.array.copy()
        for name, values in zip(bands, mixed.numpy(), strict=True):
            band = image.index(name)
            stored = np.rint(values * 255) if array.dtype == np.uint8 else values
            array[..., band] = np.where(seen | whole, stored, array[..., band]).astype(array.dtype)
        provenance = {
            **image.provenance,
            "synthetic": True,
            "software": f"gensat {__version__}",
            "model": self.spec.name,
            "model_hash": fingerprint(self),
            "model_licence": self.spec.licence,
            "flood": "pix2pixhd",
            "water_share": round(float(seen.mean()), 6),
            "whole": whole,
        }
        return GeoImage(array, image.bands, image.crs, image.transform, image.valid, image.acquisition, provenance)

    def paint(self, pixels: Tensor, flooded: Tensor, window: int | None = None) -> Tensor:
        """(1, 3, H, W) in [-1, 1] as the generator paints it, in windows where it is larger than ``window``; ``flooded`` is (1, H, W) bool."""
        side = self.spec.window if window is None else window
        multiple = self.model.multiple
        if side < multiple or side % multiple:
            raise InputError(f"a window of {side} pixels cannot be; give a multiple of {multiple}")
        height, width = pixels.shape[-2:]
        high, wide = min(side, height), min(side, width)
        blend = Blend(Window(0, 0, height, width))
        device, dtype = self.model.device, self.model.dtype
        for row in _starts(height, side, multiple):
            for col in _starts(width, side, multiple):
                cut = (..., slice(row, row + high), slice(col, col + wide))
                made = self.model(pixels[cut].to(device, dtype), flooded[cut].to(device)).float().cpu()
                blend.add(Window(row, col, high, wide), made)
        return blend.result()


def _starts(size: int, side: int, multiple: int) -> list[int]:
    """Where windows begin, three quarters of one apart; the last ends with the image: what lies beyond would count in the norms."""
    stride = max(multiple, side * 3 // 4 // multiple * multiple)
    return [*range(0, max(size - side, 0), stride), max(size - side, 0)]


__all__ = ["PublishedFloodPipeline"]
