"""Seconds and peak memory of the shipped model by size and batch, and by what changes its numerics: ``python -m benchmarks.speed``."""

import argparse
import json
import statistics
import subprocess
import sys

from .common import table

CHILD = """
import json, resource, sys, time
import gensat, torch
options = json.loads(sys.argv[1])
pipe = gensat.load(options["model"], dtype=options["dtype"])
pipe.set_progress_bar_config(disable=True)
def run():
    start = time.perf_counter()
    size = {"width": options["side"], "height": options["side"]}
    pipe(["a harbor"] * options["batch"], seed=1, num_inference_steps=options["steps"], guidance_scale=options["guidance"], **size)
    return time.perf_counter() - start
run()
print(json.dumps({"seconds": [run() for _ in range(3)], "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main() -> None:
    """Print the table; every case is a process of its own, so that peak memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gensat-small")
    model = parser.parse_args().model
    base = {"model": model, "dtype": "float32", "side": 256, "batch": 1, "steps": 20, "guidance": 3.0}
    cases = [
        ("256 px", {}),
        ("256 px, batch 4", {"batch": 4}),
        ("128 px", {"side": 128}),
        ("512 px", {"side": 512}),
        ("768 px (in windows)", {"side": 768}),
        ("256 px, bfloat16 (other numerics)", {"dtype": "bfloat16"}),
        ("256 px, 10 steps (other numerics)", {"steps": 10}),
        ("256 px, no guidance (other numerics)", {"guidance": 1.0}),
    ]
    rows = []
    for name, changes in cases:
        options = {**base, **changes}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(options)], check=True, capture_output=True, text=True
        )
        result = json.loads(done.stdout.strip().splitlines()[-1])
        each = statistics.median(result["seconds"]) / options["batch"]
        rows.append((name, f"{each:.2f}", f"{result['mb']:.0f}"))
    print(table(rows, ("case", "seconds per image", "peak MB of the process")))


if __name__ == "__main__":
    main()
