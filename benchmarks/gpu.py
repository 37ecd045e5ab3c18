"""Images per second at the size of Stable Diffusion 2.1, ours against stock diffusers: ``python -m benchmarks.gpu``.

512 x 512, 20 steps, guidance 7.5, float16, random weights (the speed does not depend on them), at batch 1 and 8. Every row runs in turns with
diffusers' StableDiffusionPipeline. The share of the card's matrix rate is the denoiser's floating-point operations (counted by torch) over the
time of its calls, over what one large matrix product of the same number format reaches in this run.

``--dry-run`` takes a small network on whatever is here: it shows that every row works, not how fast it is.
"""

import argparse
import copy
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from gensat.diffusion.precision import Precision, apply, choose, why_no_xformers
from gensat.metrics.reconstruction import psnr_each

from .common import machine, pairs, peak_mb, seconds, table
from .stable_diffusion import SD21, SMALL, components, ours, stock

HEADER = (
    "case", "images per second", "times stock", "denoiser ms", "of the matrix rate", "peak MB", "first call s", "PSNR to stock",
)  # fmt: skip


class Case(NamedTuple):
    """A row: what differs from torch attention in plain layout, and why it cannot be made here if so."""

    name: str
    changes: dict[str, Any] = {}  # noqa: RUF012
    impossible: str = ""


def cases(no_xformers: str) -> list[Case]:
    """The rows; each adds to the one before it, xformers apart."""
    layout = {"channels_last": True}
    return [
        Case("gensat, torch attention", {"vae_layout": False}),
        Case("+ channels-last VAE", {"vae_layout": True}),
        Case("+ channels-last denoiser", layout),
        Case("xformers instead of torch attention", {**layout, "attention": "xformers"}, no_xformers),
        Case("+ torch.compile", {**layout, "compile": "default"}),
        Case("+ CUDA graphs and autotuning", {**layout, "compile": "max-autotune"}),
        Case("float32", {**layout, "dtype": torch.float32}),
    ]


def build(parts: dict[str, Any], steps: int, settings: Precision, changes: dict[str, Any]) -> Any:
    """Our pipeline on a copy of the parts, so that no row changes another's networks."""
    changes = dict(changes)
    vae_layout = changes.pop("vae_layout", False)
    own = {k: copy.deepcopy(v) if isinstance(v, torch.nn.Module) else v for k, v in parts.items()}
    pipe = apply(ours(own, steps), replace(settings, **changes))
    if vae_layout:
        pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def matrix_rate(dtype: torch.dtype, device: torch.device, side: int) -> float:
    """Floating-point operations per second of a product of two random (side, side) matrices; the best of ten."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b) for _ in range(10))


def one_prediction(unet: Any, count: int, side: int) -> Callable[[], object]:
    """A call of the denoiser as guidance makes it: both branches of ``count`` images in one batch."""
    like = {"device": unet.device, "dtype": unet.dtype}
    x = torch.randn(2 * count, 4, side // 8, side // 8, **like)
    if unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    tokens = torch.randn(2 * count, 77, unet.config.cross_attention_dim, **like)
    t = torch.tensor(500, device=unet.device)
    return torch.no_grad()(lambda: unet(x, t, encoder_hidden_states=tokens, return_dict=False))


@dataclass(frozen=True)
class Bench:
    """What the rows of one batch size share: the request, stock diffusers' pipeline, and the rate they are held against."""

    count: int
    steps: int
    side: int
    theirs: Any
    rate: float
    runs: int

    @property
    def flops(self) -> int:
        """Floating-point operations of one prediction, counted on stock's U-Net."""
        with FlopCounterMode(display=False) as counter:
            one_prediction(self.theirs.unet, self.count, self.side)()
        return counter.get_total_flops()

    def request(self, pipe: Any) -> Callable[[], torch.Tensor]:
        """A function that makes the images (b, 3, h, w)."""
        cells = (self.count, 4, self.side // 8, self.side // 8)
        latents = torch.randn(cells, generator=torch.Generator().manual_seed(1)).to(pipe.unet.device, pipe.unet.dtype)
        size = {"width": self.side, "height": self.side}
        call = {"num_inference_steps": self.steps, "guidance_scale": 7.5, "latents": latents, "output_type": "pt"}
        return lambda: pipe(["a harbor"] * self.count, **size, **call).images.float().cpu()

    def row(self, name: str, pipe: Any) -> list[str]:
        """The cells of one row."""
        run, stocks = self.request(pipe), self.request(self.theirs)
        ready = seconds(run)
        others = torch.cuda.memory_allocated() / 2**20 - weights_mb(pipe) if torch.cuda.is_available() else 0.0
        peak = peak_mb(run) - others
        compared = pairs(stocks, run, runs=self.runs)
        predict = one_prediction(pipe.unet, self.count, self.side)
        took = min(seconds(predict) for _ in range(10))
        same = pipe is self.theirs
        return [
            name,
            f"{self.count / compared.second:.2f}",
            "1" if same else compared.text(),
            f"{took * 1e3:.1f}",
            f"{self.flops / took / self.rate:.0%}",
            f"{peak:.0f}",
            f"{ready:.1f}",
            "" if same else f"{float(psnr_each(run(), stocks()).mean()):.1f} dB",
        ]


def main() -> int:
    """Print a table for each batch size; 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--runs", type=int, default=5, help="pairs a row")
    parser.add_argument("--rows", default="", help="only rows whose name holds one of these, separated by commas")
    options = parser.parse_args()
    dry = options.dry_run
    if not dry and not torch.cuda.is_available():
        print("there is no CUDA device here; --dry-run shows that the rows work", file=sys.stderr)
        return 2
    steps, side = options.steps or (2 if dry else 20), 64 if dry else 512
    settings = replace(choose(), channels_last=False)
    parts = components(SMALL if dry else SD21, settings.device, settings.dtype)
    rate = matrix_rate(settings.dtype, settings.device, 512 if dry else 8192)
    print(
        f"{machine()}; {settings.describe()}, {steps} steps, {side} x {side}; {rate / 1e12:.3g} TFLOP/s in a product\n"
    )
    rows_wanted = [c for c in cases(why_no_xformers()) if any(part in c.name for part in options.rows.split(","))]
    failed = False
    for count in (int(n) for n in options.batches.split(",")):
        bench = Bench(count, steps, side, stock(parts), rate, options.runs)
        rows = [bench.row("stock diffusers", bench.theirs)]
        for case in rows_wanted:
            if case.impossible:
                rows.append([case.name, f"not here: {case.impossible}", *[""] * (len(HEADER) - 2)])
                continue
            try:
                rows.append(bench.row(case.name, build(parts, steps, settings, case.changes)))
            except Exception:  # the other rows are still wanted
                traceback.print_exc()
                rows.append([case.name, "failed", *[""] * (len(HEADER) - 2)])
                failed = True
            torch.compiler.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        print(f"Batch {count}: {bench.flops / 1e9:.1f} GFLOP a prediction\n\n{table(rows, HEADER)}\n", flush=True)
    return int(failed)


def weights_mb(pipe: Any) -> float:
    """Megabytes of a pipeline's networks."""
    networks = [v for v in pipe.components.values() if isinstance(v, torch.nn.Module)]
    return sum(t.numel() * t.element_size() for m in networks for t in (*m.parameters(), *m.buffers())) / 2**20


if __name__ == "__main__":
    sys.exit(main())
