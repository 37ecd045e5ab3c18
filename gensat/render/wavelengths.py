"""Which light the bands of an image show: as a person types it, as a file's tags say it, and which band shows a light."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import Float

from gensat.errors import InputError
from gensat.geo.raster import open_dataset


def bands_at(nanometres: Float[np.ndarray, " b"], *lengths: float, within: float = 60.0) -> list[int] | None:
    """The band nearest to each length; None if one is not ``within`` so many nanometres."""
    found = [int(np.abs(nanometres - length).argmin()) for length in lengths]
    near = all(abs(float(nanometres[i]) - length) <= within for i, length in zip(found, lengths, strict=True))
    return found if near else None


def parse_wavelengths(text: str) -> list[float]:
    """Nanometres of a text such as ``485,560,660,nan``, NaN for thermal bands. Raises InputError for what is none."""
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or any(0 < v < 100 or v <= 0 for v in found):
        raise InputError(
            f"wavelengths {text!r} are not understood; give nanometres with commas between, such as 485,560,660"
        )
    return found


def read_wavelengths(path: str | os.PathLike[str]) -> list[float] | None:
    """Nanometres of each band of a raster, where the tags of all say them: GDAL's CENTRAL_WAVELENGTH_UM (micrometres), or wavelength with its unit."""
    try:
        with open_dataset(Path(path)) as source:
            found = [_wavelength(source, band) for band in source.indexes]
    except InputError:  # a picture, or what the reader of images will complain about
        return None
    return None if any(v is None for v in found) else [v for v in found if v is not None]


def _wavelength(source: rasterio.DatasetReader, band: int) -> float | None:
    tags = {k.lower(): v for domain in (None, "IMAGERY") for k, v in source.tags(band, ns=domain).items()}
    micro = tags.get("central_wavelength_um")
    text = micro if micro is not None else tags.get("wavelength", "")
    found = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    if found is None:
        return None
    unit = (text[found.end() :].strip() or tags.get("wavelength_units", "")).lower()
    length = float(found[1])
    nano = unit.startswith("nano") or unit == "nm" or (not unit and length > 100)
    return length if nano and micro is None else 1000 * length
