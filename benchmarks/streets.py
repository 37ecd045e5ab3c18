"""Generated streets on one core: seconds of processor time to make one, and for one view of 256 x 256 with all buffers: ``python -m benchmarks.streets``."""

import argparse
import statistics
import time

import torch

from gensat.render.streets.scenes import Street
from gensat.render.streets.styles import STREET_TYPES

from .common import machine, table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--views", type=int, default=3, help="views a street, after one that warms up")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, every = [], []
    for name in STREET_TYPES:
        start = time.process_time()
        street = Street.make(name, options.seed, weather="clear", samples=1)
        made, seconds = time.process_time() - start, []
        for camera in street.cameras(options.views + 1):
            start = time.process_time()
            street.view(camera)
            seconds.append(time.process_time() - start)
        every += seconds[1:]
        scene = street.scene
        rows.append(
            (name, len(scene.buildings), len(scene.objects), f"{made:.1f}", f"{statistics.mean(seconds[1:]):.2f}")
        )
    print(f"{machine()}; one thread, processor time\n")
    print(table(rows, ("street", "buildings", "solids", "make and satellite (s)", "view (s)")))
    print(f"\nviews: mean {statistics.mean(every):.2f} s, {1 / statistics.mean(every):.2f} a second")


if __name__ == "__main__":
    main()
