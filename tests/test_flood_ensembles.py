"""Ensembles: errors have the spread and the reach that were asked for, and a beach floods as the normal distribution says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from gensat.errors import InputError
from gensat.hydro.domain import Domain
from gensat.hydro.ensembles import Ensemble, probability
from gensat.hydro.scenario import Scenario


def test_errors_have_their_spread_and_reach():
    ensemble = Ensemble(members=200, dem_error=1.5, correlation=60.0, seed=4)
    fields = np.stack([ensemble.field(i, (64, 48), 10.0) for i in range(200)])
    assert abs(fields.mean()) < 0.1 and fields.std() == pytest.approx(1.5, rel=0.05)
    for lag in (1, 3, 6, 12):  # cells; along rows, along columns and aslant
        expected = np.exp(-lag * 10 / 60)
        for a, b in (
            (fields[:, :, :-lag], fields[:, :, lag:]),
            (fields[:, :-lag], fields[:, lag:]),
        ):
            assert (a * b).mean() / 1.5**2 == pytest.approx(expected, abs=0.05)
        slant = (fields[:, :-lag, :-lag] * fields[:, lag:, lag:]).mean() / 1.5**2
        assert slant == pytest.approx(np.exp(-lag * np.sqrt(2) * 10 / 60), abs=0.05)
    alone = Ensemble(members=2, dem_error=1.0).field(0, (200, 200), 10.0)
    assert abs((alone[:, 1:] * alone[:, :-1]).mean()) < 0.02
    everywhere = Ensemble(members=2, dem_error=1.0, correlation=1e6).field(0, (40, 40), 10.0)
    assert everywhere.std() < 0.1 * abs(everywhere.mean()) or everywhere.std() < 0.15


def test_a_member_is_the_same_however_many_there_are():
    few, many = (Ensemble(members=n, dem_error=1, correlation=50, level_error=0.3, seed=7) for n in (2, 50))
    assert few.level(1) == many.level(1) != many.level(2)
    np.testing.assert_array_equal(few.field(1, (9, 8), 10.0), many.field(1, (9, 8), 10.0))
    assert not np.array_equal(few.field(1, (9, 8), 10.0), few.field(0, (9, 8), 10.0))
    assert few.level(0) != replace(few, seed=8).level(0)


def beach():
    """Ground that rises inland by 5 cm a cell from the sea."""
    return Domain.flat(12, 100, 10.0, bed=np.linspace(-1, 4, 101)[None, :-1])


def test_a_beach_floods_as_the_normal_distribution_says():
    """Where only the level errs, a cell is wet if level + error > bed: P = Phi((level - bed) / sd)."""
    domain, members = beach(), 800
    made, _ = probability(domain, Scenario(level=1.0), Ensemble(members=members, level_error=0.5, seed=1))
    expected = norm.cdf((1.0 - domain.bed) / 0.5)
    assert np.abs(made.probability - expected).max() < 4 * 0.5 / np.sqrt(members)
    assert (np.diff(made.probability, axis=1) <= 0).all()
    thick, _ = probability(domain, Scenario(level=1.0, wet=1e-9), Ensemble(members=members, level_error=0.5, seed=1))
    np.testing.assert_array_equal(thick.probability, made.probability)  # member by member is what one pass says


def test_its_picture_shows_chances():
    """A beach that the level itself leaves dry is coloured where it may flood, and the more the likelier."""
    domain = Domain.flat(40, 400, 10.0, bed=np.linspace(-1, 3, 400)[None])
    made, _ = probability(domain, Scenario(level=1.0), Ensemble(members=40, level_error=0.5, seed=1))
    column = int(np.flatnonzero((made.depth[20] == 0) & (made.probability[20] > 0.1))[0])
    drawn, plain = made.preview(), replace(made, probability=None).preview()
    blue = (drawn.astype(int)[..., 2] - drawn[..., 0])[20, :400]
    assert blue[column] > 30 > abs(int(plain[20, column, 2]) - int(plain[20, column, 0]))
    assert made.probability[20, 399] == 0 and abs(blue[399]) < 30
    assert drawn[20, 5].sum() < drawn[20, column].sum()


def test_an_error_of_the_dem_that_reaches_far_is_one_of_the_level():
    domain, members = beach(), 400
    made, _ = probability(
        domain, Scenario(level=1.0), Ensemble(members=members, dem_error=0.5, correlation=1e6, seed=2)
    )
    expected = norm.cdf((1.0 - domain.bed) / 0.5)
    assert np.abs(made.probability - expected).max() < 4 * 0.5 / np.sqrt(members)
    rough, _ = probability(domain, Scenario(level=1.0), Ensemble(members=40, dem_error=0.5, seed=2))
    assert ((rough.probability > 0.02) & (rough.probability < 0.98)).sum() > 0
    deep, high = domain.bed < -0.6, domain.bed > 3.2
    assert rough.probability[deep].min() > 0.9 and rough.probability[high].max() < 0.05


def test_rain_over_terrains_that_may_be():
    """A hollow that rain fills: sure in its middle, less so at its rim, never on the slopes."""
    rows, columns = np.mgrid[:15, :15]
    domain = Domain.flat(15, 15, 10.0, bed=0.1 * np.hypot(rows - 7, columns - 7), manning=0.03)
    ensemble = Ensemble(members=4, dem_error=0.05, correlation=30.0, seed=3)
    rain = Scenario(rain=400.0, hours=0.15)
    made, _ = probability(domain, rain, ensemble)
    again, _ = probability(domain, rain, ensemble)
    np.testing.assert_array_equal(made.probability, again.probability)
    assert made.probability[7, 7] == 1 and made.probability[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert ((made.probability > 0) & (made.probability < 1)).any()


def test_what_is_kept_and_what_is_refused():
    domain = beach()
    ensemble = Ensemble(members=3, dem_error=0.2, seed=5)
    made, _ = probability(domain, Scenario(level=1.0), ensemble)
    assert made.facts["ensemble"]["dem_error_m"] == 0.2
    assert "probability.tif" in made.names and made.summary()["flooded_km2_by_probability"][">=0.5"] > 0
    for values, message in (
        ({"members": 1, "dem_error": 1}, "2 to"),
        ({"members": 5}, "nothing varies"),
        ({"members": 5, "dem_error": -1}, "DEM error"),
        ({"members": 5, "dem_error": 1, "correlation": float("nan")}, "correlation"),
    ):
        with pytest.raises(InputError, match=message):
            Ensemble(**values)
    with pytest.raises(InputError, match="needs a level"):
        probability(domain, Scenario(rain=10, hours=1), Ensemble(members=2, level_error=1))
