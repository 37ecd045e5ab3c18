"""Changes of the ground from what a person types: an image, a mask, a kind of change and its options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from gensat.errors import InputError, require_number
from gensat.geo.canvas import Canvas
from gensat.geo.masks import read_mask, read_shares
from gensat.geo.raster import open_image
from gensat.render.change_optics import burn, melt
from gensat.render.forest_optics import reforest
from gensat.render.wavelengths import read_wavelengths
from gensat.types import GeoImage

KINDS = {"burn": burn, "melt": melt, "reforest": reforest}
"""What may happen to the ground, by name."""


@dataclass(frozen=True, eq=False)
class Masked:
    """An image and where it is to change.

    Args:
        image: before.
        mask: (H, W) True where it changes.
        gsd: metres per pixel of an image without a georeference.
        wavelengths: nanometres of its bands, None where their names say them.
        notes: what the user should know.
    """

    image: GeoImage
    mask: Bool[np.ndarray, "h w"]
    gsd: float | int | None = None
    wavelengths: Sequence[float | int] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        image: GeoImage | str | os.PathLike[str],
        mask: str | os.PathLike[str] | Bool[np.ndarray, "h2 w2"],
        *,
        gsd: float | int | None = None,
        wavelengths: Sequence[float | int] | None = None,
    ) -> Masked:
        """Reads both and brings the mask to the image.

        Args:
            image: in memory, or a file, whose band tags may say wavelengths.
            mask: as :func:`gensat.geo.masks.read_mask` takes it, or on the image's pixels.
            gsd: metres per pixel of an image without a georeference; 0.5 when not given.
            wavelengths: nanometres of each band, NaN for thermal ones; go before the file's.

        Raises:
            InputError: unreadable files, a mask of another place or size, or a gsd for an image that has one.
        """
        if not isinstance(image, GeoImage):
            path, image = Path(image), open_image(image)
            wavelengths = read_wavelengths(path) if wavelengths is None else wavelengths
        if gsd is not None and image.crs is not None:
            raise InputError("a gsd was given for an image that has a georeference; leave it out")
        if isinstance(mask, np.ndarray):
            return cls(image, mask, gsd, wavelengths)
        laid, notes = read_mask(mask, _canvas(image, gsd))
        return cls(image, laid, gsd, wavelengths, tuple(notes))

    def changed(self, kind: str, *, seed: int = 0, **options: Any) -> GeoImage:
        """The image after a change of ``KINDS``; the severity of ``burn`` may be the name of a raster of it.

        Raises InputError for an unknown kind, or as its function.
        """
        if kind not in KINDS:
            raise InputError(f"there is no change {kind!r}; give one of {', '.join(KINDS)}")
        if isinstance(options.get("severity"), str):
            try:
                options["severity"] = float(options["severity"])
            except ValueError:
                options["severity"], _ = read_shares(options["severity"], _canvas(self.image, self.gsd))
        how = {"wavelengths": self.wavelengths, "gsd": self.gsd, "seed": seed}
        return KINDS[kind](self.image, self.mask, **how, **options)  # type: ignore[operator, no-any-return]


def _canvas(image: GeoImage, gsd: float | int | None) -> Canvas:
    if image.crs is None and gsd is not None:
        return Canvas.local(image.width, image.height, require_number(gsd, "gsd"))
    return Canvas.like(image)
