"""How long a person waits before anything happens, each beside a peer: ``python -m benchmarks.startup [--model FOLDER]``."""

import argparse
import subprocess
import sys
from collections.abc import Callable

from .common import machine, pairs, table

TORCH = "import torch"
PEER = "from diffusers import StableDiffusionPipeline"


def process(*arguments: str) -> Callable[[], object]:
    """A function that runs one Python process to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gensat-small", help="shipped name or folder")
    parser.add_argument("--runs", type=int, default=7, help="pairs a row")
    options = parser.parse_args()
    load = f"import gensat; pipe = gensat.load({options.model!r})"
    cases = [  # name, process, name of the peer, its process
        ("import gensat", ("-c", "import gensat"), "python -c pass", ("-c", "pass")),
        ("gensat --help", ("-m", "gensat", "--help"), TORCH, ("-c", TORCH)),
        ("gensat.load()", ("-c", load), PEER, ("-c", PEER)),
        ("load and one image", ("-c", f"{load}; pipe('a harbor', seed=1)"), "gensat.load()", ("-c", load)),
    ]
    rows = []
    for name, ours, other, theirs in cases:
        compared = pairs(process(*ours), process(*theirs), runs=options.runs)
        rows.append((name, f"{compared.first:.2f}", other, f"{compared.second:.2f}", compared.text()))
    print(f"{machine()}; {options.model}; {options.runs} pairs\n")
    print(table(rows, ("command", "seconds", "beside", "seconds", "ratio")))


if __name__ == "__main__":
    main()
