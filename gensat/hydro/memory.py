"""Whether a flood fits into the memory, asked before it begins."""

from __future__ import annotations

import math

from gensat.errors import InputError
from gensat.hydro.domain import Domain

_SPARE = 0.9  # of the memory that is free


def require_memory(domain: Domain, needed: int, *, other: str = "") -> None:
    """Raises InputError, with a cell size that would do, unless so many bytes of the main memory are free.

    Args:
        domain: what takes them.
        needed: bytes.
        other: what else could be done, such as ``--dtype float32``.
    """
    import psutil  # of the extra flood

    free = psutil.virtual_memory().available
    if needed > _SPARE * free:
        height, width = domain.shape
        coarser = float(domain.dx) * math.sqrt(needed / (_SPARE * free)) * 1.05
        advice = f"give --gsd {coarser:.2g} or more" + (
            f", a smaller DEM, or {other}" if other else " or a smaller DEM"
        )
        raise InputError(
            f"{width} x {height} cells need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; {advice}"
        )
