"""Merewether: stages at the five observation points after 1000 s against three reference models."""

import pytest
import torch
from conftest import DATA
from merewether import SECONDS, merewether

from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import run


@pytest.mark.data
def test_the_site_is_read_as_it_was_surveyed():
    """405 x 310 cells of 1 m, the road, the houses; the inflow falls on the disc, the points are inside."""
    site = merewether(DATA / "rasters" / "merewether")
    assert site.domain.shape == (405, 310) and site.domain.dx == pytest.approx(1, abs=1e-3)
    assert 9000 < (site.domain.manning == 0.02).sum() < 11000 and set(site.points) == set("01234")
    assert len(site.forcing.inflows[0].cells) == pytest.approx(314, abs=8)


@pytest.mark.data
@pytest.mark.slow
def test_stages_are_those_of_the_reference_models():
    """Full shallow water: each stage inside the envelope of the three models +- 0.15 m; what came in is there or left."""
    site = merewether(DATA / "rasters" / "merewether")
    solver = ShallowWater(site.domain, site.boundaries)
    flow = run(solver, solver.start(), site.forcing, seconds=SECONDS, gauges=site.points)
    assert flow.gauges is not None
    found = dict(zip(flow.gauges.names, flow.gauges.level[-1].tolist(), strict=True))
    for name, known in site.stages.items():
        assert min(known) - 0.15 <= found[name] <= max(known) + 0.15, (name, found[name], known)
    assert abs(float(flow.balance.relative)) < 1e-12
    assert float(flow.balance.inflow) == pytest.approx(19.7 * SECONDS, rel=1e-12)
    assert torch.isfinite(flow.state.depth).all() and float(flow.peaks.depth.max()) < 4
