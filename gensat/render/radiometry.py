"""Between the numbers of an image and what the ground throws back: a reflectance for every band, and the way back without loss.

Nobody knows the exposure of an image. Counts of a sensor are read so that land is as bright as land is on average (a mean of 0.08 in visible
bands, one factor for all of them, which keeps the balance of colours). Pictures show towns, which are brighter (0.17), and are exposed much
alike; a small one may show nothing but concrete: theirs is the geometric mean of that factor and the usual one. The darkest pixels give what the
air alone adds to each band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from gensat.errors import InputError, require_number
from gensat.render.light import decode_srgb, encode_srgb
from gensat.render.water_optics import NANOMETRES
from gensat.types import GeoImage

LAND = {"srgb": {"visible": 0.17, "nir": 0.27, "swir": 0.22}, "linear": {"visible": 0.08, "nir": 0.22, "swir": 0.20}}
"""Mean reflectance of land by part of the spectrum: of pictures of towns, and of scenes of sensors in orbit. The latter is the mean of three places
whose Sentinel-2 reflectance is known (visible 0.055, 0.084 and 0.119; near infrared 0.18 to 0.26; shortwave 0.12 to 0.33)."""

_VISIBLE, _NEAR = 690.0, 1300.0  # nanometres at which visible light and near infrared end
_NEAR_BAND = 40.0  # nanometres by which sensors' greens, reds and near infrareds differ
_DARKEST = 0.5  # percentile of a band that shows the air alone
_USUAL = 0.5  # linear display value of reflectance 1 in aerial pictures of towns and fields
_AIR = {
    "srgb": 0.3,
    "linear": 0.8,
}  # of the mean, which the air alone gives at most; pictures had it taken off, most of it
_THERMAL = ("mwir", "lwir", "tir")

Encoding = Literal["srgb", "linear", "reflectance"]


@dataclass(frozen=True, eq=False)
class Radiometry:
    """How stored values of an image become reflectances and back.

    Args:
        channels: of the image that show reflected light, in order.
        nanometres: of each of them.
        encoding: "srgb" (a picture), "linear" (counts of a sensor) or "reflectance" (physical values are reflectances).
        gain: linear value of reflectance 1, per channel.
        air: linear value of black ground, per channel.
    """

    image: GeoImage
    channels: tuple[int, ...]
    nanometres: Float[np.ndarray, " b"]
    encoding: Encoding
    gain: Float[np.ndarray, " b"]
    air: Float[np.ndarray, " b"]

    @classmethod
    def of(
        cls,
        image: GeoImage,
        *,
        wavelengths: Sequence[float | int] | None = None,
        encoding: Encoding | None = None,
        dry: Bool[np.ndarray, "h w"] | None = None,
        bright: float | int | None = None,
    ) -> Radiometry:
        """Reads an image.

        Args:
            image: any GeoImage.
            wavelengths: nanometres of each band; by default from the bands' names and colours. NaN for a band of emitted light, which is kept.
            encoding: by default "srgb" for pictures (8-bit or floats in 0 to 1, of gray or red, green and blue), "reflectance" for
                bands with a scale whose values lie in 0 to 2, else "linear".
            dry: pixels that are land, which the exposure is measured on; default all valid ones.
            bright: mean reflectance of those pixels, where it is known that they are something else than land, such as ice.

        Raises:
            InputError: a band of which nobody says which light it shows, or nothing valid to measure on.
        """
        lengths = _lengths(image, wavelengths)
        channels = tuple(i for i, length in enumerate(lengths) if np.isfinite(length))
        if not channels:
            raise InputError(
                "the image has no band of reflected light; give one that shows red, green, blue or infrared"
            )
        nanometres = np.array([lengths[i] for i in channels])
        valid = np.ones(image.array.shape[:2], bool) if image.valid is None else image.valid
        on = valid if dry is None or not (valid & dry).any() else valid & dry
        if not on.any():
            raise InputError("no pixel of the image is valid; give another image")
        physical = image.physical()[:, :, list(channels)]
        if encoding is None:
            picture = image.array.dtype == np.uint8 or (
                image.array.dtype.kind == "f" and 0 <= physical[on].min() <= physical[on].max() <= 1
            )
            scaled = any(image.bands[i].scale != 1 for i in channels)
            if picture and len(image.bands) in (1, 3) and not scaled:
                encoding = "srgb"
            else:
                encoding = "reflectance" if scaled and np.percentile(physical[on], 99) <= 2 else "linear"
        first = cls(image, channels, nanometres, encoding, np.ones(len(channels)), np.zeros(len(channels)))
        if encoding == "reflectance":
            return first
        every = first._linear()
        linear = every[on]
        air = np.minimum(np.percentile(every[valid], _DARKEST, axis=0), _AIR[encoding] * linear.mean(axis=0))
        gain = np.empty(len(channels))
        for name, part in _parts(nanometres).items():
            if part.any():
                gain[part] = max(float((linear - air)[:, part].mean()) / LAND[encoding][name], 1e-6)
        if bright is not None:
            return cls(image, channels, nanometres, encoding, linear.mean(0).clip(1e-6) / float(bright), 0 * air)
        if encoding == "srgb":
            gain = np.sqrt(gain * _USUAL)
        return cls(image, channels, nanometres, encoding, gain, air)

    def reflectance(self) -> Float[np.ndarray, "h w b"]:
        """Of every pixel, float64; NaN where it is not valid. What is darker than the air alone is slightly negative."""
        return (self._linear() - self.air) / self.gain

    def painted(
        self, reflectance: Float[np.ndarray, "h w b"], where: Bool[np.ndarray, "h w"]
    ) -> Shaped[np.ndarray, "h w c"]:
        """The array of the image with these reflectances ``where`` it is so, in its own type; all other values are the image's own."""
        array = self.image.array.copy()
        linear = reflectance[where] * self.gain + self.air
        limits = (0, np.iinfo(array.dtype).max) if array.dtype.kind == "u" else (-np.inf, np.inf)
        for i, channel in enumerate(self.channels):
            band = self.image.bands[channel]
            if self.encoding == "srgb":
                values = encode_srgb(torch.from_numpy(linear[:, i].clip(0, 1))).numpy() * self._full
            else:
                values = linear[:, i]
            stored = (values - band.offset) / band.scale
            stored = np.rint(stored).clip(*limits) if array.dtype.kind == "u" else stored
            array[where, channel] = stored.astype(array.dtype)
        return array

    @property
    def _full(self) -> float:
        return 255.0 if self.image.array.dtype == np.uint8 else 1.0

    def _linear(self) -> np.ndarray:
        values = self.image.physical()[:, :, list(self.channels)].astype(np.float64)
        if self.encoding != "srgb":
            return values
        return decode_srgb(torch.from_numpy(values / self._full)).numpy()


def _parts(nanometres: np.ndarray) -> Mapping[str, np.ndarray]:
    return {
        "visible": nanometres <= _VISIBLE,
        "nir": (nanometres > _VISIBLE) & (nanometres <= _NEAR),
        "swir": nanometres > _NEAR,
    }


def _lengths(image: GeoImage, wavelengths: Sequence[float | int] | None) -> list[float]:
    if wavelengths is not None:
        if len(wavelengths) != len(image.bands):
            raise InputError(
                f"{len(wavelengths)} wavelengths were given for {len(image.bands)} bands; give one for each, NaN for thermal ones"
            )
        return [float(v) for v in wavelengths]
    lengths = []
    for band in image.bands:
        role = band.role or band.name.lower()
        if role not in NANOMETRES and role not in _THERMAL:
            raise InputError(
                f"nothing says which light band {band.name!r} shows; name the bands (red, nir, swir, ...) or give wavelengths in nanometres"
            )
        lengths.append(NANOMETRES.get(role, float("nan")))
    return lengths


def ground_metres(
    image: GeoImage, gsd: float | int | None = None
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"], float]:
    """x and y of pixel centres in metres of the map, so that what is drawn by them meets at the edges of images, and the size of a pixel.

    Args:
        image: any GeoImage.
        gsd: metres per pixel of one without a georeference; 0.5 if not given.
    """
    rows, columns = np.mgrid[: image.height, : image.width] + 0.5
    pixel = image.gsd or (0.5 if gsd is None else require_number(gsd, "gsd"))
    if image.crs is None or image.transform is None:
        return columns * pixel, -rows * pixel, float(pixel)
    step = pixel / abs(image.transform.a)  # metres per unit, for CRSs in degrees as well
    x, y = image.transform @ (columns, rows)
    return x * step, y * pixel / abs(image.transform.e), float(pixel)


def open_light(
    reflectance: Float[np.ndarray, "h w b"],
    nanometres: Float[np.ndarray, " b"],
    where: Bool[np.ndarray, "h w"],
    likely: Float[np.ndarray, "h w"] | float | int = 1.0,
    left: float | int = 0.4,
) -> Float[np.ndarray, "h w"]:
    """Share of open light on each pixel as the image shows it: 1, and down to ``left`` where it is much darker than most of ``where`` and not green.

    Args:
        reflectance: of an image, as :meth:`Radiometry.reflectance` gives it.
        nanometres: of its bands.
        where: pixels whose median is taken as bright.
        likely: 0 to 1, how far something may lie in shadow at all.
        left: light in full shadow.
    """
    visible = nanometres <= _VISIBLE
    bright = np.nan_to_num(reflectance[:, :, visible if visible.any() else slice(None)].mean(2), nan=1.0)
    middle = float(np.median(bright[where]))
    dark = ((0.6 * middle - bright) / (0.3 * max(middle, 1e-6))).clip(0, 1) * likely
    # Green over red of plants is above 1.35, near infrared over red above 2.5; of soils it is below 1.15 and 1.7.
    for plant, other, most, ramp in ((560.0, 650.0, 1.35, 0.2), (840.0, 650.0, 2.5, 0.8)):
        bands = [int(np.abs(nanometres - v).argmin()) for v in (plant, other)]
        if all(abs(nanometres[band] - v) <= _NEAR_BAND for band, v in zip(bands, (plant, other), strict=True)):
            green, red = (reflectance[:, :, band] for band in bands)
            dark = dark * ((most - np.nan_to_num(green / np.maximum(red, 1e-3))) / ramp).clip(0, 1)
    return ndimage.gaussian_filter(1 - (1 - left) * dark, 0.7)
