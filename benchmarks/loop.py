"""Our loop against diffusers' StableDiffusionPipeline: same weights, scheduler, steps, initial latents, in one run.

``python -m benchmarks.loop [--steps 20] [--runs 5]``. Rows marked "same numerics" give the same latents (the difference is printed);
the others change numerics and say by how much.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import gensat
from gensat.diffusion.precision import Precision, apply
from gensat.hub.spec import Defaults, ModelSpec, Signal

from .common import pairs, table

SIDE = 256


def components() -> dict:
    """A Stable Diffusion at a size two cores can run: random weights, real classes."""
    torch.manual_seed(0)
    letters = [chr(c) for c in range(97, 123)]
    vocabulary = {
        t: i for i, t in enumerate([*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"])
    }
    with tempfile.TemporaryDirectory() as folder:
        import json

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    parts = components()
    stock = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    spec = ModelSpec(
        name="benchmark",
        signals={"prompt": Signal("tokens", null="empty_text")},
        size_limits=(64, 512),
        multiple=8,
        defaults=Defaults(steps=options.steps, guidance_scale=7.5, prompt_tokens=77),
    )
    ours = gensat.SatellitePipeline(**parts, spec=spec)
    for pipe in (stock, ours):
        pipe.set_progress_bar_config(disable=True)
    rows = []
    for count in (1, 4):
        latents = torch.randn((count, 4, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(1))
        prompts = ["a harbor"] * count

        def run_stock(output="pt", latents=latents, prompts=prompts):
            size = {"height": SIDE, "width": SIDE}
            return stock(
                prompts,
                latents=latents,
                num_inference_steps=options.steps,
                guidance_scale=7.5,
                output_type=output,
                **size,
            ).images

        def run_ours(output="pt", latents=latents, prompts=prompts, **more):
            return ours(prompts, latents=latents, width=SIDE, height=SIDE, output_type=output, **more).images

        difference = float((run_stock("latent") - run_ours("latent")).abs().max())
        a, b, ratio = pairs(run_ours, run_stock, runs=options.runs)
        rows.append((f"same numerics, batch {count}", f"{a:.2f}", f"{b:.2f}", f"{ratio:.2f}", f"{difference:.1e}"))
        if count == 1:
            half = lambda: run_ours(guidance_interval=(0.0, 0.5))  # noqa: E731
            change = float((run_ours() - half()).abs().mean())
            a, b, ratio = pairs(half, run_stock, runs=options.runs)
            rows.append(
                (
                    "guidance on the first half of the steps",
                    f"{a:.2f}",
                    f"{b:.2f}",
                    f"{ratio:.2f}",
                    f"mean change {change:.3f}",
                )
            )
    apply(ours, Precision(torch.device("cpu"), torch.float32, "torch", channels_last=True))
    a, b, ratio = pairs(run_ours, run_stock, runs=options.runs)
    rows.append(
        ("channels-last for both (shared weights), batch 4", f"{a:.2f}", f"{b:.2f}", f"{ratio:.2f}", "rounding")
    )
    print(f"{torch.get_num_threads()} threads, {options.steps} steps, {SIDE} x {SIDE}, median of {options.runs} runs\n")
    print(table(rows, ("case", "gensat s", "diffusers s", "ratio", "largest latent difference")))


if __name__ == "__main__":
    main()
