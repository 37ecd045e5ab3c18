"""Fills that are no water, for training and testing the reader of flood water: paint, gradients, noise, ground blurred or washed brown.

A reader that was shown real images alone takes any flat brown for water. Here is what it has to be shown besides, each with colours of real
water, so that colour alone does not give them away, and with hard and soft edges; :func:`transplanted` is the counterpart that keeps it
honest: real water with the same edges. ``HELD_OUT`` are never trained on: they say whether more was learned than the list.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from ..hydro.open_water import soft_edge

PAINT = (153, 141, 111)
"""#998d6f, with which the baseline of Luetjens et al. paints water."""

_GRAIN = 2.0  # pixels: finer than that is grain
_EDGES = (0.0, 1.0, 2.0, 4.0)  # pixels over which a fill sets in


def laid_in(
    before: UInt8[np.ndarray, "h w 3"],
    inside: Float[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 3"],
    water: Bool[np.ndarray, "h w"],
    edge: float | int = 2.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """``before`` with the pixels of ``inside`` where there is water, setting in over ``edge`` pixels within its shore (0: a hard edge)."""
    alpha = soft_edge(water, edge)[..., None]
    return np.rint(before + alpha * (inside.astype(np.float32) - before)).clip(0, 255).astype(np.uint8)


def painted(before: UInt8[np.ndarray, "h w 3"], water: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The hand-painted baseline: one brown where there is water."""
    return laid_in(before, np.broadcast_to(np.array(PAINT, np.uint8), before.shape), water, edge=0)


def _flat(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(colour, ground.shape)


def _gradient(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From one colour to another in a direction that is drawn."""
    height, width = ground.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.add.outer(np.sin(angle) * np.linspace(-1, 1, height), np.cos(angle) * np.linspace(-1, 1, width))
    return colour + along[..., None] * rng.normal(0, 14, 3)


def _noise(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise, grey or in colours."""
    channels = 3 if rng.random() < 0.3 else 1
    return colour + rng.normal(0, rng.uniform(1, 12), (*ground.shape[:2], channels))


def _clouds(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smooth patches of several sizes."""
    made = np.zeros(ground.shape[:2])
    for size in (3, 7, 16):
        made += rng.uniform(0, 8) * _unit(ndimage.gaussian_filter(rng.normal(size=made.shape), size))
    return colour + made[..., None]


def _blurred(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ground itself, out of focus and tinted."""
    side = rng.uniform(1.5, 6)
    return colour + rng.uniform(0.15, 0.6) * (_low(ground, side) - ground.mean((0, 1)))


def _washed(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ground under a brown that lets it through."""
    return colour + rng.uniform(0.1, 0.6) * (ground.astype(np.float32) - colour)


def _grainy(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A gradient with grain of one to three pixels."""
    grain = _unit(ndimage.gaussian_filter(rng.normal(size=ground.shape[:2]), rng.uniform(0.6, 1.4)))
    return _gradient(ground, colour, rng) + rng.uniform(3, 8) * grain[..., None]


def _ripples(ground: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Straight even waves."""
    rows, columns = np.indices(ground.shape[:2])
    angle, length = rng.uniform(0, np.pi), rng.uniform(3, 9)
    phase = 2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / length
    return colour + rng.uniform(3, 8) * np.sin(phase)[..., None]


Fill = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

TRAINED: dict[str, Fill] = {
    "flat": _flat,
    "gradient": _gradient,
    "noise": _noise,
    "clouds": _clouds,
    "blurred ground": _blurred,
    "washed ground": _washed,
}
HELD_OUT: dict[str, Fill] = {"gradient with grain": _grainy, "even ripples": _ripples}


def cheated(
    kind: str,
    image: UInt8[np.ndarray, "h w 3"],
    where: Bool[np.ndarray, "h w"],
    colour: Float[np.ndarray, " 3"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    """``image`` with a fill that is no water laid in, its edge hard or soft.

    Args:
        kind: a name of ``TRAINED`` or ``HELD_OUT``.
        image: RGB.
        where: the pixels to fill.
        colour: RGB, 0 to 255, that it has on average.
        rng: what is left open.
    """
    fill = (TRAINED | HELD_OUT)[kind](image, colour, rng)
    return laid_in(image, np.asarray(fill, np.float32), where, float(rng.choice(_EDGES)))


def transplanted(
    image: UInt8[np.ndarray, "h w 3"],
    where: Bool[np.ndarray, "h w"],
    donor: UInt8[np.ndarray, "k k 3"],
    wet: Bool[np.ndarray, "k k"],
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Real water of another place laid in, its edge hard or soft, and where it came to lie.

    Args:
        image: RGB.
        where: the pixels to fill.
        donor: a square image with water in it, at least as large.
        wet: which of its pixels are water.
        rng: what is left open.
    """
    rows, columns = image.shape[:2]
    turns = int(rng.integers(4))
    inside = where & np.rot90(wet, turns)[:rows, :columns]
    return laid_in(image, np.rot90(donor, turns)[:rows, :columns], inside, float(rng.choice(_EDGES))), inside


def real_grain(
    before: UInt8[np.ndarray, "h w 3"],
    after: UInt8[np.ndarray, "h w 3"],
    water: Bool[np.ndarray, "h w"],
    phases: np.random.Generator | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The hand-painted brown with the grain (what is finer than some four pixels) of the real water of the place.

    Args:
        before, after: RGB.
        water: in ``after``, and to be painted in ``before``.
        phases: draws the phases of the grain anew: noise of its very spectrum, without its shapes.
    """
    grain = np.where(water[..., None], after - _low(after, _GRAIN), 0)
    if phases is not None:
        share = float(water.mean())
        turn = np.exp(1j * np.angle(np.fft.fft2(phases.normal(size=water.shape))))
        grain = (
            np.fft.ifft2(np.fft.fft2(grain, axes=(0, 1)) * turn[..., None], axes=(0, 1)).real / max(share, 1e-9) ** 0.5
        )
    return laid_in(before, np.array(PAINT) + grain, water)


def blob(shape: tuple[int, int], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """A region that has nothing to do with what the image shows."""
    heights = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(5, 16))
    return heights > np.quantile(heights, rng.uniform(0.4, 0.85))


def recompressed(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image after JPEG."""
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def mean_colours(images: Sequence[np.ndarray], water: Sequence[np.ndarray]) -> Float[np.ndarray, "n 3"]:
    """The mean RGB of the water of each image that has some."""
    return np.stack([a[w].mean(0) for a, w in zip(images, water, strict=True) if w.any()])


def _low(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))


def _unit(field: np.ndarray) -> np.ndarray:
    return field / (field.std() + 1e-9)
