"""Spatial relations: what a prompt asks, where things are, and the shares counted by hand."""

import pytest
import torch

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, WATER, WOODLAND
from gensat.metrics.relations import DIRECTIONS, Relation, centres_of_classes, parse_relations, spatial_relations


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a lake left of a forest", [Relation("lake", "left of", "forest")]),
        ("an aerial image of a lake to the north of a warehouse", [Relation("lake", "north of", "warehouse")]),
        ("A village on the western side of the river", [Relation("village", "west of", "river")]),
        ("trees north-east of houses", [Relation("trees", "northeast of", "houses")]),
        (
            "a forest above a road and a pond below the road",
            [
                Relation("forest", "above", "road"),
                Relation("pond", "below", "road"),
            ],
        ),
        ("a lake and a forest", []),
        ("a unicorn left of a forest", []),
        ("an aerial image of houses", []),
    ],
)
def test_relations_are_read_from_prompts(prompt, expected):
    assert parse_relations(prompt) == expected


def test_other_things_can_be_asked_for():
    assert parse_relations("a tank east of a crane", ["tank", "crane"]) == [Relation("tank", "east of", "crane")]


def test_north_is_up_and_every_direction_excludes_its_opposite():
    centre = (50.0, 50.0)
    assert Relation("a", "north of", "b").holds((10.0, 50.0), centre)
    assert Relation("a", "above", "b").holds((10.0, 90.0), centre)
    assert Relation("a", "west of", "b").holds((50.0, 10.0), centre)
    assert Relation("a", "southeast of", "b").holds((60.0, 60.0), centre)
    assert not Relation("a", "southeast of", "b").holds((60.0, 40.0), centre)
    g = torch.Generator().manual_seed(0)
    for where in DIRECTIONS:
        relation = Relation("a", where, "b")
        assert relation.opposite().opposite() == relation
        assert not relation.holds(centre, centre)
        for row, column in torch.rand(20, 2, generator=g).tolist():
            p, q = (row, column), (0.5, 0.5)
            assert not (relation.holds(p, q) and relation.opposite().holds(p, q))
            assert relation.holds(p, q) == relation.opposite().holds(q, p)


def test_shares_are_those_counted_by_hand():
    left, north = Relation("lake", "left of", "forest"), Relation("lake", "north of", "forest")
    centres = [
        {"lake": (5.0, 1.0), "forest": (5.0, 9.0)},  # left: right
        {"lake": (5.0, 9.0), "forest": (5.0, 1.0)},  # left: the opposite
        {"lake": (1.0, 5.0), "forest": (9.0, 5.0)},  # north: right
        {"lake": (1.0, 5.0)},  # no forest
    ]
    result = spatial_relations([left, left, north, north], centres, extractor="toy", confidence=0.9)
    assert (result.value, result.found, result.opposite) == (0.5, 0.75, 0.25)
    assert result.conditional == pytest.approx(2 / 3)
    assert result.per_relation == {"left of": 0.5, "north of": 0.5}
    assert result.interval[0] <= 0.5 <= result.interval[1]
    assert spatial_relations([left], [{}]).conditional is None
    with pytest.raises(InputError, match="one relation per image"):
        spatial_relations([left], [])


def test_the_centre_is_that_of_the_largest_patch_and_specks_are_not_found():
    codes = torch.zeros(40, 40, dtype=torch.uint8)
    codes[2:12, 20:30] = WATER
    codes[30:33, 1:4] = WATER  # smaller
    codes[39, 39] = BUILDING  # a speck
    found = centres_of_classes(codes, ["lake", "river", "house", "forest"])
    assert found == {"lake": (6.5, 24.5), "river": (6.5, 24.5)}
    codes[20:30, 10:20] = WOODLAND
    assert centres_of_classes(codes, ["forest"])["forest"] == (24.5, 14.5)
    with pytest.raises(InputError, match="'unicorn' is no thing"):
        centres_of_classes(codes, ["unicorn"])
