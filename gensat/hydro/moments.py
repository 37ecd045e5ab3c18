"""Depths that a flood leaves while it runs: a folder of rasters named by their seconds, which the street view and animations read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gensat.errors import OutputError
from gensat.hydro.domain import Domain
from gensat.hydro.scenario import Scenario

STEPS = "steps"
"""The folder of moments, in the folder of a flood."""


def keeper(domain: Domain, scenario: Scenario, out: str | os.PathLike[str]) -> Callable[[float, np.ndarray], None]:
    """What :func:`gensat.hydro.simulate.simulate` calls as ``on_output``: writes the depths (h, w) of a moment into ``out/steps``.

    The result raises OutputError where that cannot be written.
    """
    folder = Path(out) / STEPS

    def keep(seconds: float, depth: np.ndarray) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"folder {folder} could not be made ({error.strerror}); choose another") from error
        tags = {"simulated": True, "quantity": "depth", "seconds": seconds, **scenario.facts()}
        image = domain.raster(depth.astype("float32"), name="depth", unit="m", provenance=tags)
        image.save(folder / f"depth_{seconds:09.1f}s.tif", overwrite=True)  # sorted by name is sorted by time

    return keep


def moments(out: str | os.PathLike[str]) -> list[Path]:
    """The rasters that were kept, by time."""
    return sorted((Path(out) / STEPS).glob("depth_*s.tif"))


def forget(out: str | os.PathLike[str]) -> None:
    """Removes the depths of an earlier run, which would get among those of this one."""
    for file in moments(out):
        file.unlink()
