"""Timing in pairs, so that a drifting machine does not decide; peak memory; quality; tables."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch


class Compared(NamedTuple):
    """Median seconds of two things, and the ratio first / second: its median over the pairs, and its quartiles."""

    first: float
    second: float
    ratio: float
    low: float
    high: float

    def text(self, scale: float = 1.0) -> str:
        """The ratio times ``scale`` with its quartiles."""
        return f"{self.ratio * scale:.2f} [{self.low * scale:.2f}, {self.high * scale:.2f}]"


def pairs(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    runs: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> Compared:
    """Both timed one after the other, ``runs`` times, in turns who begins, after one warm-up each.

    ``clock``: ``time.process_time`` counts processor time, which other programs on the machine change less than wall time.
    """
    first(), second()
    times = np.empty((runs, 2))
    for i in range(runs):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            times[i, which] = seconds((first, second)[which], clock)
    low, ratio, high = np.percentile(times[:, 0] / times[:, 1], (25, 50, 75))
    return Compared(*np.median(times, axis=0), ratio, low, high)


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall time of one call, what it left to do on a GPU included; or by another clock."""
    synchronise()
    started = clock()
    run()
    synchronise()
    return clock() - started


def synchronise() -> None:
    """Wait until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mb(run: Callable[[], object]) -> float:
    """Megabytes at most while it runs: allocated on the GPU where there is one, else of the whole process up to now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / 2**20
    import resource  # not on Windows

    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> str:
    """What it runs on, for the line above a table."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}"


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
