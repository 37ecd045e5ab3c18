"""Pictures of a flood for eyes: depth in blues over the shaded terrain, with a scale; and animations of it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from gensat.hydro.domain import Domain
from gensat.render.video import save_video

_SHALLOW, _DEEP = (190, 226, 244), (8, 48, 107)  # of the scale of depths
_BAR = 14  # pixels of the scale of depths
_TEXT = 16
_SUN = np.deg2rad((315.0, 45.0))  # azimuth and elevation of a hillshade
_LONGEST = 1024  # pixels of a picture
_SHORTEST = 360


def hillshade(domain: Domain) -> Float[np.ndarray, "h w"]:
    """Light on the terrain from the north-west, 0 to 1; heights exaggerated until half of the slopes are seen well."""
    bed = np.where(domain.exists, domain.bed, domain.bed[domain.exists].mean())
    south, east = np.gradient(bed, float(domain.dx)) if min(bed.shape) > 1 else (np.zeros_like(bed),) * 2
    steep = np.hypot(south, east)
    usual = float(np.median(steep[domain.exists & (steep > 0)])) if (steep[domain.exists] > 0).any() else 1.0
    scale = 0.4 / usual
    azimuth, elevation = _SUN
    normal = np.stack([-east * scale, south * scale, np.ones_like(bed)])
    sun = np.array([np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    light = np.tensordot(sun, normal, 1) / np.sqrt((normal**2).sum(0))
    return np.clip(light, 0, 1)


class DepthPicture:
    """Draws depths of one domain, all on one scale.

    Args:
        domain: the terrain under them.
        deepest: metres at the dark end of the scale.
        ends: what is written at the ends of the scale, if it is no depth that is drawn.
    """

    def __init__(self, domain: Domain, deepest: float | int, ends: tuple[str, str] | None = None) -> None:
        height, width = domain.shape
        self.domain = domain
        self.deepest = max(float(deepest), 0.01)
        self.ends = ends or ("0 m", f"{self.deepest:.3g} m")
        zoom = max(1, math.ceil(_SHORTEST / max(height, width)))
        self.every = max(1, math.ceil(max(height, width) / _LONGEST))
        self.zoom = zoom if self.every == 1 else 1
        self.ground = self._sampled(70 + 175 * hillshade(domain))[:, :, None] * np.array([1.0, 0.99, 0.96])
        self.outside = ~self._sampled(domain.exists)

    def __call__(self, depth: Float[np.ndarray, "h w"], text: str = "") -> UInt8[np.ndarray, "y x 3"]:
        """One picture: dry ground in grey, water from light to dark blue, white outside; the scale and a text below."""
        water = np.nan_to_num(self._sampled(depth))
        share = np.sqrt(np.clip(water / self.deepest, 0, 1))[:, :, None]
        blue = np.array(_SHALLOW) + share * (np.array(_DEEP) - np.array(_SHALLOW))
        shaded = 0.75 * blue + 0.25 * blue * self.ground / 245
        picture = np.where((water > 0)[:, :, None], shaded, self.ground)
        picture[self.outside] = 255
        drawn = np.repeat(np.repeat(np.clip(picture, 0, 255).astype(np.uint8), self.zoom, 0), self.zoom, 1)
        return np.concatenate([drawn, self._legend(drawn.shape[1], text)])

    def _sampled(self, values: np.ndarray) -> np.ndarray:
        return values[:: self.every, :: self.every]

    def _legend(self, width: int, text: str) -> np.ndarray:
        strip = Image.new("RGB", (width, _BAR + 2 * _TEXT + 6), "white")
        draw = ImageDraw.Draw(strip)
        along = np.sqrt(np.linspace(0, 1, max(width // 2, 2)))[None, :, None]
        colours = np.array(_SHALLOW) + along * (np.array(_DEEP) - np.array(_SHALLOW))
        bar = np.repeat(colours, _BAR, 0).astype(np.uint8)
        strip.paste(Image.fromarray(bar), (4, 4))
        draw.text((4, _BAR + 5), self.ends[0], fill="black")
        draw.text((max(width // 2 - 44, 40), _BAR + 5), self.ends[1], fill="black")
        draw.text((4, _BAR + _TEXT + 5), text, fill="black")
        return np.asarray(strip)


def animate(
    domain: Domain,
    frames: Iterable[tuple[str, np.ndarray]],
    path: str | os.PathLike[str],
    *,
    deepest: float | int,
    fps: float | int = 8,
    total: int | None = None,
    overwrite: bool = False,
) -> int:
    """Writes depths one after the other as .mp4 or .gif; returns how many.

    Args:
        domain: the terrain.
        frames: a text (time or level) and the depths (h, w) at it.
        path: where to.
        deepest: metres at the dark end of the scale.
        fps: frames a second.
        total: how many there will be, for the bar.
        overwrite: whether the file may exist.

    Raises:
        InputError, OutputError: as :func:`gensat.render.video.save_video`.
    """
    draw = DepthPicture(domain, deepest)

    def pictures() -> Iterator[np.ndarray]:
        for text, depth in frames:
            yield draw(depth, text)

    return save_video(
        pictures(), path, fps=fps, total=total, overwrite=overwrite, comment="simulated flood depths, gensat"
    )
