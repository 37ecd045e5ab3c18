"""Ground and roof materials: a colour, a photographic texture that tiles, and variation over metres.

Textures come from ``gensat.assets.streets`` (its README names sources and licences); they have mipmaps, so that a pixel sees their mean over its footprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gensat.geo import classes as layout
from gensat.render.light import decode_srgb
from gensat.render.streets.noise import fractal, hashed, value_noise

TEXTURES = {
    "asphalt": 1.6,
    "pavers": 1.6,
    "gravel": 1.4,
    "grass": 2.0,
    "slabs": 2.4,
    "hedge": 1.5,
    "canopy": 14.4,
    "field": 28.8,
}
"""Textures and the metres one tile covers."""

_SIZE = 128


@dataclass(frozen=True)
class Material:
    """What ground is made of.

    Args:
        colour: albedo, linear RGB.
        texture: name in ``TEXTURES``.
        contrast: how much of the texture shows.
        patches: how strongly the brightness varies over metres.
        land: layout class.
    """

    colour: tuple[float, float, float]
    texture: str
    contrast: float | int
    patches: float | int
    land: int


MATERIALS: dict[str, Material] = {
    "asphalt": Material((0.085, 0.085, 0.088), "asphalt", 0.9, 0.25, layout.ROAD),
    "oldasphalt": Material((0.145, 0.142, 0.135), "asphalt", 1.0, 0.40, layout.ROAD),
    "cobbles": Material((0.16, 0.15, 0.14), "slabs", 1.4, 0.25, layout.ROAD),
    "concrete": Material((0.34, 0.33, 0.31), "asphalt", 0.7, 0.20, layout.OTHER_GROUND),
    "slabs": Material((0.28, 0.27, 0.255), "slabs", 0.8, 0.15, layout.OTHER_GROUND),
    "pavers": Material((0.27, 0.20, 0.165), "pavers", 1.0, 0.20, layout.OTHER_GROUND),
    "kerb": Material((0.36, 0.35, 0.33), "asphalt", 0.6, 0.15, layout.OTHER_GROUND),
    "gravel": Material((0.26, 0.235, 0.20), "gravel", 0.8, 0.25, layout.OTHER_GROUND),
    "dirt": Material((0.25, 0.165, 0.10), "gravel", 0.45, 0.45, layout.BARE),
    "grass": Material((0.075, 0.115, 0.032), "grass", 0.9, 0.45, layout.LOW_VEGETATION),
    "drygrass": Material((0.18, 0.16, 0.07), "grass", 0.8, 0.4, layout.LOW_VEGETATION),
    "field": Material((0.19, 0.155, 0.07), "field", 0.9, 0.3, layout.CROPLAND),
    "water": Material((0.012, 0.022, 0.024), "asphalt", 0.0, 0.0, layout.WATER),
}
"""Materials by name."""

NAMES = tuple(MATERIALS)
"""Their names in the order of their numbers."""


@lru_cache(maxsize=4)
def pyramid(device: torch.device | None = None) -> tuple[Float[Tensor, "t 3 s s"], ...]:
    """All textures, linear with mean 0.5, at 128, 64 ... 1 pixels a side."""
    if device is not None and device.type != "cpu":
        return tuple(level.to(device) for level in pyramid())
    folder = resources.files("gensat.assets.streets")
    levels = []
    for name in TEXTURES:
        with folder.joinpath(f"{name}.jpg").open("rb") as file, Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
        linear = decode_srgb(torch.from_numpy(pixels)).permute(2, 0, 1)[None]
        if name == "asphalt":  # petals lay on it, which would come again with every tile
            linear = linear.clamp(max=1.12 * float(linear.median()))
            linear = linear * (0.5 / linear.mean())
        levels.append(functional.interpolate(linear, size=(_SIZE, _SIZE), mode="area")[0])
    stack = [torch.stack(levels)]
    while stack[-1].shape[-1] > 1:
        stack.append(functional.avg_pool2d(stack[-1], 2))
    return tuple(stack)


def texture(
    name: str, u: Float[Tensor, " n"], v: Float[Tensor, " n"], footprint: Float[Tensor, " n"], seed: int = 0
) -> Float[Tensor, "n 3"]:
    """A texture's value relative to its mean (1 on average) at ``u`` and ``v`` metres, averaged over ``footprint`` metres."""
    side = TEXTURES[name]
    number = list(TEXTURES).index(name)
    levels = pyramid(u.device)
    blur = torch.log2((footprint / (side / _SIZE)).clamp(min=1.0)).clamp(max=len(levels) - 1.001)
    low = blur.floor()
    share = (blur - low)[:, None]
    found = torch.zeros(len(u), 3, dtype=u.dtype, device=u.device)
    for level, pixels in enumerate(levels):
        for other, weight in ((level, 1 - share), (level - 1, share)):
            chosen = torch.nonzero(low == other)[:, 0]
            if len(chosen):
                value = _wrapped(pixels[number].to(u), u[chosen] / side, v[chosen] / side)
                found = found.index_add(0, chosen, value * weight[chosen])
    return found * 2


def unrepeated(name: str, where: Float[Tensor, "n 2"], footprint: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """A texture at two scales, turned against each other, which hides that it repeats; 1 on average."""
    turned = where @ where.new_tensor([[0.31, 0.14], [-0.14, 0.31]])
    once = texture(name, where[:, 0], where[:, 1], footprint)
    return 0.55 * once + 0.45 * texture(name, turned[:, 0], turned[:, 1], footprint * 0.34)


def _wrapped(pixels: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear look-up in a picture (3, s, s) that repeats; u and v in tiles."""
    size = pixels.shape[-1]
    x, y = u * size - 0.5, v * size - 0.5
    left, top = x.floor(), y.floor()
    a, b = (x - left)[:, None], (y - top)[:, None]
    i, j = left.long() % size, top.long() % size
    k, m = (i + 1) % size, (j + 1) % size
    flat = pixels.reshape(3, -1).T
    upper = flat[j * size + i] * (1 - a) + flat[j * size + k] * a
    lower = flat[m * size + i] * (1 - a) + flat[m * size + k] * a
    return upper * (1 - b) + lower * b


def _worn(where: Tensor, blur: Tensor, seed: int) -> Tensor:
    """Repairs and cracks of an old road: rectangles of newer asphalt, and thin dark lines that fade where pixels are larger."""
    turned = where @ where.new_tensor([[0.8, -0.6], [0.6, 0.8]])
    cell = (turned / where.new_tensor([5.2, 2.6])).floor().long()
    mended = hashed(cell[:, 0], cell[:, 1], seed) < 0.05
    lines = (value_noise(where, 1.9, seed + 17) + 0.22 * value_noise(where, 0.35, seed + 18) - 0.61).abs()
    cracked = ((fractal(where, 9.0, seed + 19) - 0.5) * 6).clamp(0, 1) * (0.03 / blur).clamp(max=1)
    return torch.where(mended, 0.74, 1.0) * (1 - 0.5 * cracked * (1 - lines / 0.013).clamp(0, 1))


def ground_albedo(
    number: Int[Tensor, " n"], points: Float[Tensor, "n 2"], footprint: Float[Tensor, " n"], seed: int
) -> Float[Tensor, "n 3"]:
    """Albedo of ground of a material (by number in ``NAMES``) at places, metres."""
    result = torch.zeros(len(points), 3, dtype=points.dtype, device=points.device)
    for one in number.unique().tolist():
        chosen = torch.nonzero(number == one)[:, 0]
        material = MATERIALS[NAMES[one]]
        where, blur = points[chosen], footprint[chosen]
        if material.texture in ("grass", "gravel"):
            detail = unrepeated(material.texture, where, blur)
        else:
            detail = texture(material.texture, where[:, 0], where[:, 1], blur)
        patches = fractal(where, 6.0, seed + one) + 0.5 * value_noise(where, 1.1, seed + 7 + one) - 0.75
        brightness = (1 + material.contrast * (detail - 1)) * (1 + 2 * material.patches * patches)[:, None]
        if material.texture == "asphalt" and material.land == layout.ROAD:
            brightness = brightness * _worn(where, blur, seed)[:, None]
        result = result.index_copy(0, chosen, where.new_tensor(material.colour) * brightness.clamp(min=0.05))
    return result
