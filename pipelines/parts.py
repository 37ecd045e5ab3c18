"""Parts of a call that pipelines share: seeds, prompts, noise, start images and masks, checked and in the form the loop takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..conditioning.bag import PromptMap
from ..diffusion.noise import GivenNoise, Noise, NoiseBatch, NoiseField, randn
from ..errors import InputError
from ..geo.canvas import Canvas
from ..types import GeoImage


def spread_seeds(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """One seed per image: seed, seed + 1, ... from one number, or the numbers given; random ones from None."""
    if seed is None:
        seed = int(torch.randint(0, 2**31 - 1, (1,)))
    seeds = [seed + i for i in range(count)] if isinstance(seed, (int, np.integer)) else seed
    listed = isinstance(seeds, Sequence) and not isinstance(seeds, str)
    if not listed or not all(isinstance(s, (int, np.integer)) for s in seeds):
        raise InputError(f"seed is {seed!r}; give a whole number, or a list of one per image")
    if len(seeds) != count:
        raise InputError(f"{len(seeds)} seeds for {count} images; give one, or one per image")
    return [int(s) for s in seeds]


def spread_prompts(
    prompt: str | Sequence[str] | PromptMap | None, negative: str | Sequence[str] | None, repeat: int
) -> tuple[list[str] | PromptMap, list[str]]:
    """Prompt (or its map) and negative prompt of each image, ``repeat`` images per prompt."""
    if repeat < 1:
        raise InputError(f"num_images_per_prompt is {repeat}; give 1 or more")
    words: list[str] | PromptMap
    if callable(prompt):
        words, count = prompt, repeat
    else:
        words = [p for p in ([prompt or ""] if isinstance(prompt, str | None) else prompt) for _ in range(repeat)]
        count = len(words)
        if wrong := [p for p in words if not isinstance(p, str)]:
            raise InputError(f"a prompt is {wrong[0]!r}; give a text, an empty one for no words")
    if not count:
        raise InputError("the list of prompts is empty; give one prompt per image, or an empty string for no words")
    if negative is None or isinstance(negative, str):
        return words, [negative or ""] * count
    listed = [n for n in negative for _ in range(repeat)]
    if len(listed) != count:
        raise InputError(f"{len(negative)} negative prompts for {count // repeat} prompts; give one, or one per prompt")
    return words, listed


def choose_noise(
    seeds: Sequence[int],
    grid: str,
    shape: tuple[int, int, int],
    *,
    origin: tuple[int, int] = (0, 0),
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    latents: Float[Tensor, "b c h w"] | None = None,
) -> tuple[Noise, str]:
    """The noise of a call and its name for the tags: the world-anchored field of ``grid``, unless a generator or latents replace it.

    ``shape`` is (channels, rows, columns) of the canvas in latent cells, ``origin`` its first cell on the grid.
    """
    if latents is None and generator is None:
        return NoiseBatch(tuple(NoiseField(seed, grid) for seed in seeds)), grid
    generators = (
        () if generator is None else (generator,) if isinstance(generator, torch.Generator) else tuple(generator)
    )
    if len(generators) not in (0, 1, len(seeds)):
        raise InputError(f"{len(generators)} generators for {len(seeds)} images; give one, or one per image")
    wanted = (len(seeds), *shape)
    if latents is None:
        return GivenNoise(randn(wanted, generators), generators, origin), "generator"
    if tuple(latents.shape) != wanted:
        raise InputError(f"latents are {tuple(latents.shape)}, this call needs {wanted}; give latents of that shape")
    return GivenNoise(latents, generators or None, origin), "latents"


def image_size(image: GeoImage | Image.Image | np.ndarray | Tensor) -> tuple[int, int]:
    """(width, height) of a start image; InputError for what is none."""
    if isinstance(image, Image.Image):
        return image.size
    if isinstance(image, Tensor) and image.ndim in (3, 4):
        return image.shape[-1], image.shape[-2]
    pixels = image.array if isinstance(image, GeoImage) else image
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3):
        kind = type(image).__name__
        raise InputError(
            f"the image is a {kind}; give a GeoImage, a PIL image, an array (H, W, bands) or a tensor (1, bands, H, W)"
        )
    return pixels.shape[1], pixels.shape[0]


def start_pixels(
    image: GeoImage | Image.Image | np.ndarray | Tensor,
    bands: Sequence[str],
    canvas: Canvas,
    mask: Tensor | None = None,
) -> Tensor:
    """(1, bands, H, W) in [-1, 1] of an image that has the size (and, if it has one, the place) of the canvas.

    Bands of a GeoImage are taken by name. Arrays (H, W, bands) hold 8-bit or float values in [0, 1], tensors (1, bands, H, W) floats in [0, 1], as in
    diffusers. Raises InputError for anything else, and for pixels without a value that ``mask`` (1, 1, H, W) does not make anew.
    """
    image_size(image)  # refuses what is no image
    if isinstance(image, GeoImage):
        _require_same_ground(image, canvas)
        if image.valid is not None and (kept := ~image.valid & (mask is None or (mask[0, 0] < 1).numpy())).any():
            raise InputError(
                f"{kept.mean():.1%} of the image are pixels without a value; give a mask that makes them anew, or fill them"
            )
        pixels = np.stack([image.band(name) for name in bands], axis=-1)
    elif isinstance(image, Image.Image):
        pixels = np.asarray(image.convert("RGB") if len(bands) == 3 else image)
    elif isinstance(image, Tensor):
        pixels = image.detach().cpu().float().reshape(image.shape[-3:]).permute(1, 2, 0).numpy()
    else:
        pixels = image
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    wanted = (canvas.height, canvas.width, len(bands))
    if pixels.shape != wanted:
        shapes = [" x ".join(map(str, shape)) for shape in (pixels.shape, wanted)]
        raise InputError(f"the image is {shapes[0]}, the canvas needs {shapes[1]}; resize it, or change the size")
    if pixels.dtype == np.uint8:
        pixels = pixels / np.float32(255)
    elif pixels.dtype.kind != "f" or not (pixels.min() >= 0 and pixels.max() <= 1):  # written so that NaN fails too
        raise InputError(
            f"the image is {pixels.dtype} from {pixels.min():g} to {pixels.max():g}; give 8-bit pixels or floats in 0 to 1"
        )
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] * 2 - 1


def _require_same_ground(image: GeoImage, canvas: Canvas) -> None:
    if image.transform is None or image.crs is None or canvas.crs is None:
        return
    apart = np.subtract(image.transform[:6], canvas.transform[:6])
    if image.crs != canvas.crs or np.abs(apart).max() > 0.5 * canvas.transform.a:
        raise InputError("the image lies elsewhere than the canvas; leave out place, bbox and size to take its own")


def mask_pixels(mask: np.ndarray | Image.Image, canvas: Canvas) -> Tensor:
    """(1, 1, H, W) in [0, 1], 1 where the image is to be made anew; from bool, 0..1, 0..255 or a grey picture."""
    area = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    area = area / 255.0 if area.dtype.kind in "ui" and area.max(initial=0) > 1 else area
    if area.shape != (canvas.height, canvas.width):
        raise InputError(
            f"the mask is {' x '.join(map(str, area.shape))}, the canvas {canvas.height} x {canvas.width}; "
            "give a mask of the image's size"
        )
    if not (area.min() >= 0 and area.max() <= 1):  # written so that NaN fails too
        raise InputError(f"the mask goes from {area.min():g} to {area.max():g}; give 0 to keep and 1 to make anew")
    return torch.from_numpy(np.ascontiguousarray(area, dtype=np.float32))[None, None]


def describe(source: Any) -> str:
    """What a tag says of an input: its file name, or what kind of object it was."""
    if isinstance(source, (str, Path)):
        return Path(source).name
    return f"{type(source).__name__} in memory"


def active_loras(denoiser: Any) -> dict[str, float] | None:
    """Weight of every LoRA that changes the denoiser's output now, by adapter name; None where there is none."""
    if not getattr(denoiser, "peft_config", None):
        return None
    from peft.tuners.lora import LoraLayer

    weights: dict[str, float] = {}
    for layer in denoiser.modules():
        if isinstance(layer, LoraLayer) and not layer.disable_adapters:
            for name in layer.active_adapters:
                if name in layer.scaling:
                    trained = layer.lora_alpha[name] / layer.r[name]  # the scaling that is weight 1
                    weights[name] = round(layer.scaling[name] / trained, 6)
    return weights or None
