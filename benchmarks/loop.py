"""Our loop against diffusers' StableDiffusionPipeline: same weights, scheduler, steps, initial latents, in one run.

``python -m benchmarks.loop``, on the GPU where there is one. Rows marked "same numerics" give the same latents (the difference
is printed); the others change numerics and say by how much.
"""

import argparse
from dataclasses import replace

import torch

from gensat.conditioning.text import clear_text_cache
from gensat.diffusion.precision import Precision, apply, choose
from gensat.metrics.reconstruction import psnr_each

from .common import Compared, machine, pairs, table
from .stable_diffusion import SMALL, components, ours, stock


def pipelines(steps: int, settings: Precision) -> tuple:
    """diffusers' and ours on the same components."""
    parts = components(SMALL)
    return stock(parts), apply(ours(parts, steps), settings)


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
    theirs_pipe, ours_pipe = pipelines(options.steps, settings)
    _, last = pipelines(options.steps, replace(settings, channels_last=True))  # the same weights, drawn again
    size = {"width": options.side, "height": options.side}

    def runners(count: int) -> tuple:
        cells = (count, 4, options.side // 8, options.side // 8)
        latents = torch.randn(cells, generator=torch.Generator().manual_seed(1)).to(settings.device, settings.dtype)
        call = {"prompt": ["a harbor"] * count, "latents": latents, "num_inference_steps": options.steps, **size}

        def of(pipe):
            return lambda output="pt", **more: pipe(**call, guidance_scale=7.5, output_type=output, **more).images

        return of(theirs_pipe), of(ours_pipe), of(last)

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
