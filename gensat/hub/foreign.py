"""Published models that come without ``gensat.json``: a spec read off the configs of a Stable Diffusion folder of diffusers."""

import json
from pathlib import Path
from typing import Any

from gensat.errors import ModelError
from gensat.hub.spec import Defaults, ModelSpec, Signal

STABLE_DIFFUSION = ("StableDiffusionPipeline",)
"""Pipelines of diffusers whose parts (UNet2DConditionModel, AutoencoderKL, CLIP) gensat's satellite pipeline runs by itself."""


def foreign_spec(folder: Path) -> ModelSpec | None:
    """The spec of a Stable Diffusion folder, which takes words and nothing else; None for any other folder.

    Raises:
        ModelError: a config that cannot be read.
    """
    if _read(folder / "model_index.json").get("_class_name") not in STABLE_DIFFUSION:
        return None
    unet, vae = _read(folder / "unet" / "config.json"), _read(folder / "vae" / "config.json")
    tokens = int(_read(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length") or 77)
    factor = 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)
    size = unet.get("sample_size") or 64
    native = factor * int(size if isinstance(size, int) else min(size))
    multiple = factor * 2 ** (len(unet.get("block_out_channels", (0,) * 4)) - 1)
    native = max(multiple, native // multiple * multiple)
    return ModelSpec(
        name=folder.name,
        licence="unknown (see the model's own card)",
        description="a Stable Diffusion model; it knows words, no places and no ground sampling distances",
        signals={"prompt": Signal("tokens", null="empty_text", component="text_encoder")},
        native_size=native,
        size_limits=(multiple, max(native, multiple) * 3 // 2 // multiple * multiple),
        multiple=multiple,
        window=native,
        window_stride=max(multiple, native // 2 // multiple * multiple),
        gsd_range=(0.01, 10_000.0),
        defaults=Defaults(gsd=1.0, steps=30, guidance_scale=7.5, prompt_tokens=min(77, tokens)),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no object")
        return values
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); restore the file") from error
