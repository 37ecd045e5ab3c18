"""Distortions of known strength, for calibrating and checking perceptual distances.

Each takes an image (H, W, 3) float32 in [0, 1], a strength in [0, 1] (0: nothing happens) and a random generator, and
gives an image of the same size; a stronger one does more of the same.
"""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy import ndimage

Picture = Float[np.ndarray, "h w 3"]
Distortion = Callable[[Picture, float, np.random.Generator], np.ndarray]
WHITE = 1.0


def rounded(image: np.ndarray) -> np.ndarray:
    """The image as 8-bit values give it back."""
    return np.asarray(image.clip(0, 1) * 255).round().astype(np.float32) / 255


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared difference."""
    return float(np.square(a.astype(np.float64) - b).mean())


def _blur(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(x, (4 * s, 4 * s, 0)) if s > 0 else x


def _noise(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0, 0.2 * s, x.shape).astype(np.float32)


def _jpeg(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    if s <= 0:
        return x
    buffer = io.BytesIO()
    quality = round(90 * (5 / 90) ** s)  # 90 down to 5, evenly in its logarithm
    Image.fromarray((rounded(x) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def _coarse(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    if s <= 0:
        return x
    height, width = x.shape[:2]
    size = max(1, round(width / 8**s)), max(1, round(height / 8**s))
    picture = Image.fromarray((rounded(x) * 255).astype(np.uint8))
    small = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255


def brighten(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    """Add up to 0.3 to every value, towards the side with more room."""
    return x + 0.3 * s * (1 if x.mean() < 0.5 else -1)


def flatten(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink contrast around the mean by up to 70 %."""
    return x.mean((0, 1)) + (1 - 0.7 * s) * (x - x.mean((0, 1)))


def _grey(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    return x + s * (x.mean(2, keepdims=True) - x)


def _cast(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    direction = rng.permutation([1.0, 0.0, -1.0]).astype(np.float32)
    return x + 0.25 * s * direction


def shifted(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    """Move by up to 8 pixels in a random direction; the edge repeats."""
    angle = rng.uniform(0, 2 * np.pi)
    return ndimage.shift(x, (8 * s * np.sin(angle), 8 * s * np.cos(angle), 0), order=1, mode="nearest")


def _warp(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[:2]
    field = ndimage.gaussian_filter(rng.normal(size=(2, height, width)), (0, 8, 8))
    field *= 6 * s / np.abs(field).max()
    at = np.mgrid[:height, :width] + field
    return np.stack([ndimage.map_coordinates(x[..., i], at, order=1, mode="nearest") for i in range(3)], 2)


def _holes(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    out, side = x.copy(), max(4, x.shape[0] // 8)
    cells = [(r, c) for r in range(0, x.shape[0] - side + 1, side) for c in range(0, x.shape[1] - side + 1, side)]
    for i in rng.permutation(len(cells))[: round(0.4 * s * len(cells))]:
        r, c = cells[i]
        out[r : r + side, c : c + side] = x.mean((0, 1))
    return out


def _bands(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    steps = 64 / 16**s
    return np.round(x * steps) / steps if s > 0 else x


def _motion(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.uniform_filter1d(x, 1 + 2 * round(7 * s), axis=int(rng.integers(2)), mode="nearest")


def _pepper(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    hit = rng.random(x.shape[:2]) < 0.15 * s
    return np.where(hit[..., None], rng.integers(0, 2, (*x.shape[:2], 1)).astype(np.float32), x)


def _haze(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    veil = ndimage.gaussian_filter(rng.random(x.shape[:2]), x.shape[0] / 8)
    veil = (veil - veil.min()) / max(float(np.ptp(veil)), 1e-9)
    return x + (0.9 * s * veil[..., None] * (WHITE - x)).astype(np.float32)


def _stripes(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    return x + (0.2 * s * rng.normal(size=(1, x.shape[1], 1))).astype(np.float32)


def _shuffle(x: Picture, s: float, rng: np.random.Generator) -> np.ndarray:
    out, side = x.copy(), max(4, x.shape[0] // 8)
    cells = [(r, c) for r in range(0, x.shape[0] - side + 1, side) for c in range(0, x.shape[1] - side + 1, side)]
    chosen = rng.permutation(len(cells))[: 2 * round(0.25 * s * len(cells))]
    for i, j in zip(chosen[::2], chosen[1::2], strict=True):
        (r, c), (q, p) = cells[i], cells[j]
        out[r : r + side, c : c + side], out[q : q + side, p : p + side] = (
            x[q : q + side, p : p + side],
            x[r : r + side, c : c + side],
        )
    return out


CALIBRATION: dict[str, Distortion] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "coarse pixels": _coarse,
    "brightness": brighten,
    "contrast": flatten,
    "saturation": _grey,
    "colour cast": _cast,
    "shift": shifted,
    "warp": _warp,
    "missing blocks": _holes,
    "banding": _bands,
}
"""What the weights are fitted on."""
HELD_OUT: dict[str, Distortion] = {
    "motion blur": _motion,
    "salt and pepper": _pepper,
    "haze": _haze,
    "stripes": _stripes,
    "swapped blocks": _shuffle,
}
"""What they are checked on and never saw."""
DAMAGING = ("blur", "noise", "jpeg")
"""At equal squared error these look worse than a change of brightness or contrast or a shift by a pixel (Wang et al.
2004, Image quality assessment: from error visibility to structural similarity, figure 2)."""


def at_error(
    distortion: Distortion, image: Picture, error: float, *, seed: int, tolerance: float = 0.05
) -> np.ndarray | None:
    """The distortion at the strength whose mean squared error is ``error`` (bisection), or None where it has none."""
    low, high = 0.0, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        out = rounded(distortion(image, middle, np.random.default_rng(seed)))
        found = mse(out, image)
        if abs(found / error - 1) < tolerance:
            return out
        low, high = (middle, high) if found < error else (low, middle)
    return None
