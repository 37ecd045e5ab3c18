"""The Merewether flood of the ANUGA project's validation tests: an urban creek after the storm of 8 June 2007."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gensat.hydro.boundary import OPEN, Boundaries
from gensat.hydro.domain import Domain
from gensat.hydro.forcing import Forcing, Inflow

INFLOW, MIDDLE, RADIUS, SECONDS = 19.7, (382265.0, 6354280.0), 10.0, 1000.0


@dataclass(frozen=True)
class Merewether:
    """What is run, and the stages that three models of the ARR project found."""

    domain: Domain
    boundaries: Boundaries
    forcing: Forcing
    points: dict[str, tuple[int, int]]  # (row, column) of the observation points, by their number
    stages: dict[str, tuple[float, float, float]]  # metres: draft report, ANUGA final, TUFLOW final


def merewether(folder: Path) -> Merewether:
    """The set-up of the validation: houses raised by 3 m, n of 0.02 on the road and 0.04 elsewhere, dry at the start, the
    western and southern edge reflective, the others transmissive."""
    domain = Domain.open(folder / "dem_1m.tif", extent=folder / "extent.csv", buildings=folder / "houses.geojson")
    domain = domain.roughened(np.ones(domain.shape, dtype=bool), 0.04)
    domain = domain.roughened(domain.polygon(folder / "RoadPolygon.csv"), 0.02)
    forcing = Forcing(inflows=[Inflow.over(domain, domain.disc(*MIDDLE, RADIUS), INFLOW)])
    points, stages = {}, {}
    with (folder / "ObservationPoints.csv").open() as file:
        for x, y, name, *found in list(csv.reader(file))[1:]:
            points[name.strip()] = domain.cell_at(float(x), float(y))
            stages[name.strip()] = tuple(float(stage) for stage in found)
    return Merewether(domain, Boundaries(north=OPEN, east=OPEN), forcing, points, stages)
