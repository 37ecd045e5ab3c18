"""How long a person waits before anything happens: ``python -m benchmarks.startup``."""

import statistics
import subprocess
import sys

from .common import seconds, table

CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import gensat": [sys.executable, "-c", "import gensat"],
    "gensat --help": [sys.executable, "-m", "gensat", "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import diffusers' StableDiffusionPipeline": [
        sys.executable,
        "-c",
        "from diffusers import StableDiffusionPipeline",
    ],
    "gensat.load()": [sys.executable, "-c", "import gensat; gensat.load()"],
    "load and one 256 x 256 image": [sys.executable, "-c", "import gensat; gensat.load()('a harbor', seed=1)"],
}


def main() -> None:
    """Print the table."""
    rows = []
    for name, command in CASES.items():
        run = lambda command=command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
        run()
        rows.append((name, f"{statistics.median(seconds(run) for _ in range(5)):.2f}"))
    print(table(rows, ("command", "seconds (median of 5 processes)")))


if __name__ == "__main__":
    main()
