"""Timing in pairs: A B A B ..., medians and the ratio run by run, so that a drifting machine does not decide."""

import statistics
import time
from collections.abc import Callable


def pairs(first: Callable[[], object], second: Callable[[], object], *, runs: int = 5) -> tuple[float, float, float]:
    """Median seconds of both after one warm-up each, and the median ratio first / second."""
    first(), second()
    a, b = [], []
    for _ in range(runs):
        a.append(seconds(first))
        b.append(seconds(second))
    return statistics.median(a), statistics.median(b), statistics.median(x / y for x, y in zip(a, b, strict=True))


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def table(rows: list[tuple], header: tuple[str, ...]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
