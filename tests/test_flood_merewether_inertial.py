"""Merewether with the local inertial solver: where flow is fast it leaves terms out, and still its stages are the others'."""

import pytest
from conftest import DATA
from merewether import SECONDS, merewether

from gensat.hydro.inertial import LocalInertial
from gensat.hydro.solver import run


@pytest.mark.data
@pytest.mark.slow
def test_stages_are_within_those_of_the_three_reference_models():
    """All five points within 0.15 m of the envelope after 1000 s; the water balance to 1e-10."""
    place = merewether(DATA / "rasters" / "merewether")
    solver = LocalInertial(place.domain, place.boundaries)
    flow = run(solver, solver.start(), place.forcing, seconds=SECONDS, gauges=place.points)
    for i, name in enumerate(flow.gauges.names):
        low, high = min(place.stages[name]), max(place.stages[name])
        assert low - 0.15 < float(flow.gauges.level[-1][i]) < high + 0.15, name
    assert abs(float(flow.balance.relative)) < 1e-10
    assert float(flow.balance.edges[2]) == float(flow.balance.edges[3]) == 0 > float(flow.balance.edges[1])
