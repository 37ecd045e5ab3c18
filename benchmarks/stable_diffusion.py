"""Stable Diffusion with random weights, for timing: a small one for two CPU cores, and the size of version 2.1; as diffusers runs it and as we do."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import gensat
from gensat.hub.spec import Defaults, ModelSpec, Signal


@dataclass(frozen=True)
class Size:
    """Widths and depths; the text encoder has the right width and few layers, it runs once an image."""

    unet: tuple[int, ...]
    heads: int | tuple[int, ...]
    layers: int
    text: int
    vae: tuple[int, ...]
    linear: bool

    @property
    def attends(self) -> tuple[bool, ...]:
        """Which levels of the U-Net attend to text: all but the last."""
        return (*(True for _ in self.unet[1:]), False)


SMALL = Size((64, 128, 256), 8, 1, 256, (32, 64, 64, 64), False)
SD21 = Size((320, 640, 1280, 1280), (5, 10, 20, 20), 2, 1024, (128, 256, 512, 512), True)


def components(size: Size, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """All parts of a pipeline; the weights are drawn with seed 0 on ``device``."""
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=64,
            block_out_channels=size.unet,
            layers_per_block=size.layers,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in size.attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(size.attends)),
            cross_attention_dim=size.text,
            attention_head_dim=size.heads,
            use_linear_projection=size.linear,
        )
        vae = AutoencoderKL(
            block_out_channels=size.vae,
            layers_per_block=size.layers,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
        )
        tokenizer = _tokenizer()
        words = tokenizer.get_vocab()
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=size.text,
                intermediate_size=2 * size.text,
                num_hidden_layers=4,
                num_attention_heads=4,
                bos_token_id=words["<|startoftext|>"],
                eos_token_id=words["<|endoftext|>"],
                pad_token_id=words["<|endoftext|>"],
            )
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    networks = {"unet": unet, "vae": vae, "text_encoder": text}
    return {k: v.to(dtype).eval() for k, v in networks.items()} | {"scheduler": scheduler, "tokenizer": tokenizer}


def _tokenizer() -> CLIPTokenizer:
    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def stock(parts: dict[str, Any]) -> StableDiffusionPipeline:
    """diffusers' pipeline of these parts."""
    pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ours(parts: dict[str, Any], steps: int) -> gensat.SatellitePipeline:
    """Our pipeline of these parts."""
    spec = ModelSpec(
        name="benchmark",
        signals={"prompt": Signal("tokens", null="empty_text")},
        size_limits=(64, 512),
        multiple=8,
        defaults=Defaults(steps=steps, guidance_scale=7.5, prompt_tokens=77),
    )
    pipe = gensat.SatellitePipeline(**parts, spec=spec)
    pipe.set_progress_bar_config(disable=True)
    return pipe
