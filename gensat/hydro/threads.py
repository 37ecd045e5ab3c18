"""How many threads a kernel should use: as many as have work enough to be worth waiting for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_CELLS = 150_000
"""Cells a step that one thread does alone: a few milliseconds, many times what meeting the others costs."""


@contextmanager
def threads_for(cells: int) -> Iterator[int]:
    """Meanwhile numba uses as many threads as there is work for; results do not depend on their number."""
    import numba

    before = numba.get_num_threads()
    count = max(1, min(before, cells // _CELLS))
    numba.set_num_threads(count)
    try:
        yield count
    finally:
        numba.set_num_threads(before)
