"""The animation of a flood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from gensat.hydro.domain import Domain
    from gensat.hydro.products import FloodProducts
    from gensat.hydro.scenario import Scenario

_RISING = 40  # frames of a rising level


def animate(
    domain: Domain, scenario: Scenario, made: FloodProducts, out: Path, animation: str, *, overwrite: bool
) -> Path:
    """Writes ``animation.gif`` or ``.mp4`` of the kept depths, or of a level that rises to the one that was asked for."""
    import numpy as np

    from gensat.hydro import picture

    path = out / f"animation.{animation}"
    deepest = float(np.percentile(made.depth[made.extent], 99)) if made.extent.any() else 1.0
    if scenario.moves:
        from gensat.hydro.moments import moments
        from gensat.types import GeoImage

        files = moments(out)

        def frames() -> Iterator[tuple[str, np.ndarray]]:
            for file in files:
                image = GeoImage.open(file)
                yield f"{float(image.provenance['seconds']) / 60:.3g} min", image.physical()[:, :, 0]

        picture.animate(domain, frames(), path, deepest=deepest, total=len(files), overwrite=overwrite)
        return path
    picture.animate(domain, _rising(domain, scenario), path, deepest=deepest, total=_RISING, overwrite=overwrite)
    return path


def _rising(domain: Domain, scenario: Scenario) -> Iterator[tuple[str, np.ndarray]]:
    """A level from where it wets the first cells to the one that was asked for, and the depths at each."""
    import numpy as np

    from gensat.hydro.bathtub import bathtub
    from gensat.hydro.coast import ground_level
    from gensat.hydro.simulate import simulate as flood

    if scenario.chosen == "hand":
        stage = scenario.water()
        assert isinstance(stage, float)
        for share in np.linspace(0, 1, _RISING + 1)[1:]:
            level = float(share) * stage
            yield (
                f"{level:.2f} m above the channels",
                flood(domain, replace(scenario, level=level, datum_offset=0.0))[0].depth,
            )
        return
    bed, field, sources = ground_level(domain, scenario)
    top = float(np.max(field))
    low = min(
        float(np.nanmin(bed[sources.cells])) if np.isfinite(bed[sources.cells]).any() else float(np.nanmin(bed)), top
    )
    for level in np.linspace(max(low, top - 50), top, _RISING):
        yield f"{level:.2f} m", bathtub(bed, field - (top - level), sources.cells, neighbours=scenario.neighbours)
