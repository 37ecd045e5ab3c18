"""Seconds and peak memory per image by size and batch, and what changes numerics with its quality: ``python -m benchmarks.speed``.

Every row is a process of its own, so that its peak memory is its own, and is timed in turns with the first row. The first
row is what ``gensat.load`` chooses here: float16 on a GPU, float32 on a CPU, torch attention.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import gensat
from gensat.cli._console import hush_libraries
from gensat.diffusion import precision
from gensat.hub.resolve import model_folder
from gensat.metrics.reconstruction import psnr_each
from gensat.models.features import to_tensor

from .common import machine, pairs, peak_mb, table

BASE = {"side": 256, "batch": 1, "steps": 20, "guidance": 3.0, "dtype": "auto", "attention": "torch", "compile": False}


class Case(NamedTuple):
    """A row: how it differs from the first one, whether its numerics do, and why it cannot be made here if so."""

    name: str
    changes: dict[str, Any] = {}  # noqa: RUF012
    other_numerics: bool = False
    impossible: str = ""


def cases(gpu: bool, no_xformers: str) -> list[Case]:
    """The rows of a machine; ``no_xformers`` says why its kernels do not run there."""
    found = [
        Case("256 px"),
        Case("256 px, batch 4", {"batch": 4}),
        Case("128 px", {"side": 128}),
        Case("512 px", {"side": 512}),
        Case("768 px (in windows)", {"side": 768}),
        Case("10 steps", {"steps": 10}, True),
        Case("no guidance", {"guidance": 1.0}, True),
        Case("bfloat16", {"dtype": "bfloat16"}, True),
    ]
    on_gpu = [
        Case("256 px, batch 16", {"batch": 16}),
        Case("float32", {"dtype": "float32"}, True),
        Case("torch.compile", {"compile": True}, True),
        Case("xformers attention", {"attention": "xformers"}, True, no_xformers),
    ]
    return found + on_gpu * gpu


@cache
def pipeline(model: str, dtype: str, attention: str, compile: bool) -> Any:
    """The model, loaded once for each way to run it."""
    pipe = gensat.load(model, dtype=dtype, attention=attention, compile=compile)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def request(model: str, how: dict[str, Any]) -> Callable[[], np.ndarray]:
    """A function that makes the images of a row and returns the first."""
    pipe = pipeline(model, how["dtype"], how["attention"], how["compile"])

    def run() -> np.ndarray:
        precision._attention = how["attention"]  # one setting for the process, and two pipelines take turns in it
        size = {"width": how["side"], "height": how["side"]}
        call = {"num_inference_steps": how["steps"], "guidance_scale": how["guidance"], "max_batch": 64}
        return pipe(["a harbor"] * how["batch"], seed=1, **size, **call).scenes[0].array

    return run


def measure(model: str, base: dict[str, Any], case: Case, runs: int) -> list[str]:
    """The cells of one row after its name."""
    how = {**base, **case.changes}
    run = request(model, how)
    peak = peak_mb(run)  # before the first row's model comes into this process
    first = request(model, base)
    quality = "other size" if how["side"] != base["side"] else "same"
    if case.other_numerics:
        quality = f"PSNR {float(psnr_each(to_tensor([run()]), to_tensor([first()]))):.1f} dB"
    compared, batch = pairs(run, first, runs=runs), how["batch"]
    return [f"{compared.first / batch:.3f}", compared.text(base["batch"] / batch), f"{peak:.0f}", quality]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gensat-small", help="shipped name or folder")
    parser.add_argument("--steps", type=int, default=BASE["steps"])
    parser.add_argument("--runs", type=int, default=7, help="pairs a row")
    parser.add_argument("--row", type=int, help="only this one, as JSON")
    options = parser.parse_args()
    model_folder(options.model)  # no model: said once, not by every row
    base = {**BASE, "steps": options.steps}
    chosen = precision.choose()
    rows = cases(chosen.device.type == "cuda", precision.why_no_xformers())
    if options.row is not None:
        hush_libraries()
        print(json.dumps(measure(options.model, base, rows[options.row], options.runs)))
        return
    print(f"{machine()}; {options.model}, {options.steps} steps, first row {chosen.describe()}; {options.runs} pairs\n")
    cells = []
    for i, case in enumerate(rows):
        if case.impossible:
            cells.append([case.name, f"not here: {case.impossible}", "", "", ""])
            continue
        command = [sys.executable, "-m", "benchmarks.speed", *sys.argv[1:], "--row", str(i)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{case.name}: {done.stderr[-2000:]}", file=sys.stderr)
            cells.append([case.name, "failed", "", "", ""])
        else:
            cells.append([case.name, *json.loads(done.stdout.splitlines()[-1])])
    print(table(cells, ("case", "seconds per image", "ratio per image", "peak MB", "image against the first row's")))


if __name__ == "__main__":
    main()
