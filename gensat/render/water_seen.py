"""The water of an image itself, for a flood that shall have its colour: of its largest body of water, or of a mask.

Open water is where the normalised difference water index (green - nir) / (green + nir) is above 0 (McFeeters 1996, Int. J. Remote Sens. 17), of
reflectances; without near infrared nothing tells it from shadow, and a mask is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.masks import read_mask
from gensat.geo.raster import open_image, require_file
from gensat.render.change_optics import checked_mask
from gensat.render.radiometry import Radiometry
from gensat.render.water_optics import WATERS, Water
from gensat.render.wavelengths import bands_at, parse_wavelengths, read_wavelengths
from gensat.types import GeoImage

IMAGE = "image"
"""Stands for the largest body of water in the image."""

_FEWEST = 30  # pixels of a body of water whose colour means something
_BLACK = 2e-3  # least reflectance of water: what the air alone adds is not known better
_LAND = 1.5  # near infrared over green from which it is no water, be it ever so muddy
_GREEN_AND_NEAR = (560.0, 840.0)  # nanometres


def is_seen(water: Water | str | float | int) -> bool:
    """Whether the text means water of the image: ``IMAGE``, or a file of a mask, rather than a preset or g/m3 of sediment."""
    if not isinstance(water, str) or water in WATERS:
        return False
    try:
        float(water)
    except ValueError:
        return True
    return False


def require_water(water: str) -> None:
    """Raises InputError, before anything is read, for a text that is no preset, no number, not ``IMAGE`` and no file."""
    if is_seen(water) and water != IMAGE and not os.path.exists(water):
        raise InputError(
            f"there is no water {water!r}; choose one of {', '.join(WATERS)}, g/m3 of sediment, {IMAGE!r} for the largest water in the image, "
            "or a file of a mask of water in it"
        )


def water_of(water: str, picture: str | os.PathLike[str], wavelengths: str | None = None) -> Water:
    """The water that a text means: by name, in g/m3 of sediment, or as a picture shows it.

    Args:
        water: see :func:`require_water`.
        picture: file of the image.
        wavelengths: nanometres of its bands, commas between; default what the file says.

    Raises:
        InputError: no such water, or as of :class:`SeenWater`.
    """
    if not is_seen(water):
        return Water.named(water)
    image = open_image(picture)
    lengths = read_wavelengths(picture) if wavelengths is None else parse_wavelengths(wavelengths)
    canvas = Canvas.local(image.width, image.height) if image.crs is None else None
    return SeenWater.of(image, water, canvas=canvas, wavelengths=lengths).water


@dataclass(frozen=True, eq=False)
class SeenWater:
    """Water that an image shows.

    Args:
        water: what looks like it.
        reading: of the image, its exposure measured on what is neither this water nor the flood; render with the same.
        where: (H, W) the pixels it was seen on.
    """

    water: Water
    reading: Radiometry
    where: Bool[np.ndarray, "h w"]

    @classmethod
    def of(
        cls,
        image: GeoImage,
        source: str | os.PathLike[str] | Bool[np.ndarray, "h w"] = IMAGE,
        *,
        canvas: Canvas | None = None,
        flooded: Bool[np.ndarray, "h w"] | None = None,
        wavelengths: Sequence[float | int] | None = None,
    ) -> SeenWater:
        """The water of an image.

        Args:
            image: before the flood.
            source: ``IMAGE``; or a mask of water in the image, a file as :func:`gensat.geo.masks.read_mask` takes it, or its pixels.
            canvas: of the image, if it has no georeference.
            flooded: pixels that are to be under water, which may be anything.
            wavelengths: nanometres of each band, as of :meth:`gensat.render.radiometry.Radiometry.of`.

        Raises:
            InputError: no near infrared to find water by, no water, a mask of nothing or of land, or no visible band.
        """
        valid = np.ones(image.array.shape[:2], bool) if image.valid is None else image.valid
        dry = valid if flooded is None else valid & ~flooded
        if isinstance(source, str) and source == IMAGE:
            where = largest_water(Radiometry.of(image, wavelengths=wavelengths, dry=dry)) & valid
        else:
            on = canvas or Canvas.like(image)
            mask = source if isinstance(source, np.ndarray) else read_mask(require_file(source), on)[0]
            where = checked_mask(image, mask)
        reading = Radiometry.of(image, wavelengths=wavelengths, dry=dry & ~where)
        seen = np.median(reading.reflectance()[where], axis=0).clip(_BLACK, 0.99)
        pair = bands_at(reading.nanometres, *_GREEN_AND_NEAR)
        if pair is not None and seen[pair[1]] > _LAND * seen[pair[0]]:
            raise InputError(
                f"what lies under the mask is brighter in near infrared ({seen[pair[1]]:.2f}) than in green ({seen[pair[0]]:.2f}), so it is land; "
                "give a mask that is not 0 where the image shows water"
            )
        return cls(Water.like(seen, reading.nanometres), reading, where)


def largest_water(reading: Radiometry) -> Bool[np.ndarray, "h w"]:
    """The largest connected body of open water of an image, without the pixels of its shore.

    Raises:
        InputError: no green or near infrared band, or no water of ``_FEWEST`` pixels.
    """
    pair = bands_at(reading.nanometres, *_GREEN_AND_NEAR)
    if pair is None:
        raise InputError(
            "water is found by green and near infrared, and the image does not have both; give a mask of water in it (raster or polygons) instead"
        )
    green, near = (reading.reflectance()[:, :, i].clip(_BLACK) for i in pair)
    wet = ndimage.binary_erosion((green > near) & np.isfinite(green + near))
    bodies, count = ndimage.label(wet)
    sizes = np.bincount(bodies.ravel(), minlength=count + 1)[1:]
    if not count or sizes.max() < _FEWEST:
        raise InputError(
            f"no open water of {_FEWEST} pixels or more is found in the image; give a mask of it, or a water by name: {', '.join(WATERS)}"
        )
    return np.asarray(bodies == sizes.argmax() + 1)
