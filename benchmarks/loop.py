"""Our loop against diffusers' StableDiffusionPipeline: same weights, scheduler, steps, initial latents, in one run.

``python -m benchmarks.loop``, on the GPU where there is one. Rows marked "same numerics" give the same latents (the difference
is printed); the others change numerics and say by how much.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import gensat
from gensat.conditioning.text import clear_text_cache
from gensat.diffusion.precision import Precision, apply, choose
from gensat.hub.spec import Defaults, ModelSpec, Signal
from gensat.metrics.reconstruction import psnr_each

from .common import Compared, machine, pairs, table


def components() -> dict:
    """A Stable Diffusion at a size two cores can run: random weights, real classes."""
    torch.manual_seed(0)
    letters = [chr(c) for c in range(97, 123)]
    vocabulary = {
        t: i for i, t in enumerate([*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"])
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=256,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {
        "unet": unet.eval(),
        "vae": vae.eval(),
        "scheduler": scheduler,
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text).eval(),
    }


def pipelines(steps: int, settings: Precision) -> tuple:
    """diffusers' and ours on the same components."""
    parts = components()
    stock = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    spec = ModelSpec(
        name="benchmark",
        signals={"prompt": Signal("tokens", null="empty_text")},
        size_limits=(64, 512),
        multiple=8,
        defaults=Defaults(steps=steps, guidance_scale=7.5, prompt_tokens=77),
    )
    ours = apply(gensat.SatellitePipeline(**parts, spec=spec), settings)
    for pipe in (stock, ours):
        pipe.set_progress_bar_config(disable=True)
    return stock, ours


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=9, help="pairs a row")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", help="of both")
    options = parser.parse_args()
    settings = replace(choose(options.device, options.dtype), channels_last=False)
    stock, ours = pipelines(options.steps, settings)
    _, last = pipelines(options.steps, replace(settings, channels_last=True))  # the same weights, drawn again
    size = {"width": options.side, "height": options.side}

    def runners(count: int) -> tuple:
        cells = (count, 4, options.side // 8, options.side // 8)
        latents = torch.randn(cells, generator=torch.Generator().manual_seed(1)).to(settings.device, settings.dtype)
        call = {"prompt": ["a harbor"] * count, "latents": latents, "num_inference_steps": options.steps, **size}

        def of(pipe):
            return lambda output="pt", **more: pipe(**call, guidance_scale=7.5, output_type=output, **more).images

        return of(stock), of(ours), of(last)

    def row(name: str, compared: Compared, quality: str) -> None:
        rows.append((name, f"{compared.first:.2f}", f"{compared.second:.2f}", compared.text(), quality))

    def latents_apart(theirs, mine) -> str:
        return f"latents differ by {float((theirs('latent') - mine('latent')).abs().max()):.1e}"

    rows: list[tuple] = []
    for count in (1, 4):
        theirs, mine, _ = runners(count)
        row(f"same numerics, batch {count}", pairs(mine, theirs, runs=options.runs), latents_apart(theirs, mine))
    theirs, mine, _ = runners(1)
    fresh = lambda: (clear_text_cache(), mine())  # noqa: E731
    row("same numerics, batch 1, prompts not cached", pairs(fresh, theirs, runs=options.runs), "same")
    half = lambda: mine(guidance_interval=(0.0, 0.5))  # noqa: E731
    quality = f"PSNR {float(psnr_each(half().float().cpu(), mine().float().cpu())):.1f} dB"
    row("guidance on the first half of the steps", pairs(half, theirs, runs=options.runs), quality)
    theirs, _, mine = runners(4)
    row("channels-last, batch 4", pairs(mine, theirs, runs=options.runs), latents_apart(theirs, mine))
    what = f"{settings.describe()}, {options.steps} steps, {options.side} x {options.side}"
    print(f"{machine()}; {what}; {options.runs} pairs\n")
    print(table(rows, ("case", "gensat s", "diffusers s", "ratio", "against diffusers' (PSNR: our full guidance)")))


if __name__ == "__main__":
    main()
