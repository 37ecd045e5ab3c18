"""Light from a photographed panorama: HDR pictures as surroundings, and the sky histogram of Sat2Density++.

An HDR panorama becomes a :class:`PanoramaLight`: its sun, when it has one, is the brightest spot and casts shadows; what is left lights by
spherical harmonics. A panorama's own north is unknown, so ``heading`` says where its centre column looks.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gensat.errors import InputError
from gensat.render.equirect import equirect_directions, sample_equirect, solid_angles
from gensat.render.harmonics import illuminance, project_panorama
from gensat.render.light import decode_srgb
from gensat.render.sky import LUMINANCE

SKY_BINS = 270
"""Length of a sky histogram: 90 bins in each of R, G and B."""

_SUN_REACH = math.radians(3.0)  # light within it of the brightest spot is the sun's
_SUN_CONTRAST = 40.0  # a sun is so many times brighter than the sphere's mean; cloudy skies stay below


def read_panorama(path: str | os.PathLike[str]) -> Float[Tensor, "h w 3"]:
    """Linear RGB of a panorama, 2:1, float32: OpenEXR as it is stored, other pictures (PNG, JPEG) through the inverse of sRGB.

    Raises:
        InputError: it is missing, unreadable, not 2:1, holds NaN, or OpenEXR is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"panorama {path} does not exist; give an equirectangular .exr, .png or .jpg")
    pixels = _read_exr(path) if path.suffix.lower() == ".exr" else _read_picture(path)
    if pixels.shape[1] != 2 * pixels.shape[0]:
        raise InputError(
            f"panorama {path.name} has {pixels.shape[1]} x {pixels.shape[0]} pixels; "
            "give a whole equirectangular one, twice as wide as high"
        )
    bad = int((~np.isfinite(pixels)).any(axis=2).sum())
    if bad:
        raise InputError(f"panorama {path.name} has {bad} pixels that are not finite; repair it or give another")
    return torch.from_numpy(np.ascontiguousarray(pixels)).clamp(min=0.0)


def _read_exr(path: Path) -> np.ndarray:
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError("reading .exr needs OpenEXR; pip install 'gensat[ground]'") from error
    try:
        with OpenEXR.File(str(path)) as file:
            channels = {name: np.asarray(channel.pixels) for name, channel in file.channels().items()}
    except Exception as error:  # its binding raises bare RuntimeErrors
        raise InputError(f"panorama {path.name} cannot be read as OpenEXR ({error}); it may be truncated") from error
    for name in ("RGB", "RGBA"):
        if name in channels:
            return channels[name][..., :3].astype(np.float32)
    if {"R", "G", "B"} <= set(channels):
        return np.stack([channels[name] for name in "RGB"], axis=-1).astype(np.float32)
    raise InputError(f"panorama {path.name} has channels {', '.join(channels)}; give one with R, G and B")


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            display = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"panorama {path.name} cannot be read ({error}); give an .exr, .png or .jpg") from error
    return decode_srgb(torch.from_numpy(display)).numpy()


@dataclass(frozen=True, eq=False)
class PanoramaLight:
    """Surroundings from a panorama.

    Args:
        panorama: (h, w, 3) linear RGB, elevations 90 to -90, any unit.
        heading: degrees clockwise from the scene's y to which its centre column looks.
    """

    panorama: Float[Tensor, "h w 3"]
    heading: float | int = 0.0

    @classmethod
    def open(cls, path: str | os.PathLike[str], heading: float | int = 0.0) -> PanoramaLight:
        """Reads :func:`read_panorama`."""
        return cls(read_panorama(path), heading)

    @cached_property
    def _sun(self) -> tuple[tuple[float, float, float] | None, tuple[float, float, float], Tensor]:
        """Direction, illuminance, and the panorama with the sun replaced by what surrounds it."""
        return split_sun(self.panorama, heading=self.heading)

    @property
    def sun_direction(self) -> tuple[float, float, float] | None:
        """To the brightest spot if it is a sun; None under cloud."""
        return self._sun[0]

    @property
    def sun_illuminance(self) -> tuple[float, float, float]:
        """Of the brightest spot on a surface that faces it."""
        return self._sun[1]

    def luminance(self, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """The panorama itself."""
        return sample_equirect(self.panorama.to(directions), directions, heading=self.heading)

    @cached_property
    def _harmonics(self) -> Tensor:
        return project_panorama(self._sun[2], heading=self.heading)

    def ambient(self, normals: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
        """Illuminance by spherical harmonics of all but the sun."""
        return illuminance(self._harmonics.to(normals), normals)


def split_sun(
    panorama: Float[Tensor, "h w 3"], *, heading: float | int = 0.0
) -> tuple[tuple[float, float, float] | None, tuple[float, float, float], Float[Tensor, "h w 3"]]:
    """Finds the sun as the brightest spot and takes it out.

    Returns:
        Unit direction (None when the brightest spot is not 40 times brighter than the sphere's mean, or is below the horizon), its
        illuminance on a surface facing it (radiance above the surroundings x solid angle within 3 degrees), and the panorama without it.
    """
    height, width = panorama.shape[:2]
    brightness = panorama @ panorama.new_tensor(LUMINANCE)
    angles = solid_angles(height, width).to(panorama)[:, None]
    mean = float((brightness * angles).sum() / (4 * math.pi))
    upper = brightness[: height // 2]
    directions = equirect_directions(height, width, heading=heading).to(panorama)
    peak = directions[: height // 2].reshape(-1, 3)[int(upper.argmax())]
    if not float(upper.max()) > _SUN_CONTRAST * mean:
        return None, (0.0, 0.0, 0.0), panorama
    near = directions @ peak > math.cos(_SUN_REACH)
    ring = (directions @ peak > math.cos(2 * _SUN_REACH)) & ~near
    around = panorama[ring].median(dim=0).values
    excess = (panorama - around).clamp(min=0.0) * (near[..., None] * angles[..., None])
    total = excess.sum((0, 1))
    weights = excess @ excess.new_tensor(LUMINANCE)
    centre = torch.nn.functional.normalize((directions * weights[..., None]).sum((0, 1)), dim=0)
    without = torch.where(near[..., None], torch.minimum(panorama, around), panorama)
    return tuple(centre.tolist()), tuple(total.tolist()), without


def sky_histogram(picture: Float[Tensor, "h w 3"], sky: Bool[Tensor, "h w"]) -> Float[Tensor, 270]:
    """Normalised sky histogram of a reference panorama, as Sat2Density++ conditions its sky and light on.

    Per channel R, G, B: 2 x value of sky pixels and 0 elsewhere, counted in 100 bins over [0, 2], the first 10 bins dropped (they hold what is
    not sky), divided by the sum. A channel with nothing in the other bins is all 0.

    Args:
        picture: display values, 0 to 1.
        sky: which pixels are sky.

    Raises:
        InputError: no pixel is sky.
    """
    if not bool(sky.any()):
        raise InputError("the reference panorama shows no sky; give another, or its sky mask")
    values = (2 * picture * sky[..., None]).float()
    parts = []
    for channel in values.unbind(-1):
        counts = torch.histc(channel, bins=100, min=0.0, max=2.0)[10:]
        parts.append(counts / counts.sum().clamp(min=1.0))
    return torch.cat(parts)


def histogram_colour(histogram: Float[Tensor, 270]) -> Float[Tensor, 3]:
    """Mean display colour of the sky a histogram was made from, to the width of a bin (0.01) where the sky is brighter than 0.1."""
    centres = (torch.arange(10, 100, device=histogram.device) + 0.5) / 100
    return histogram.reshape(3, 90) @ centres.to(histogram)
