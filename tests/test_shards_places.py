"""Splits by place: nothing that is held out shares ground with what is trained on, and more data moves nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from gensat.errors import InputError
from gensat.train.shards.places import Holdout, divide, overlapping
from gensat.train.shards.record import Record, box_around, on_globe, outline, safe_key, unique_keys
from gensat.types import Acquisition, Place


def tile(key, lon, lat, *, size=0.01, **more) -> Record:
    """A square of ``size`` degrees around a place."""
    record = Record(key, Path("x.tif"), "toy", place=Place(lon, lat), acquisition=Acquisition(10.0), **more)
    half = size / 2
    record.footprint = on_globe(lon + half * np.array([-1, 1, 1, -1]), lat + half * np.array([-1, -1, 1, 1]))
    return record


def grid(n=12, step=0.01, size=0.01, lon=5.0, lat=50.0) -> list[Record]:
    return [tile(f"{i}-{j}", lon + step * j, lat + step * i, size=size) for i in range(n) for j in range(n)]


def sides(records, rule) -> dict[str, str | None]:
    return dict(zip((r.key for r in records), divide(records, rule).splits, strict=True))


@settings(max_examples=10, deadline=None)
@given(
    share=st.floats(0.05, 0.8),
    block=st.floats(0.5, 8),
    seed=st.integers(0, 99),
    size=st.sampled_from([0.01, 0.017, 0.004]),
)
def test_no_training_tile_shares_ground_with_a_held_out_one(share, block, seed, size):
    records = grid(size=size)
    division = divide(records, Holdout(share=share, block_km=block, seed=seed))
    train, held = (
        [r.footprint for r, s in zip(records, division.splits, strict=True) if s == side]
        for side in ("train", "heldout")
    )
    area = size**2
    assert all(
        shapely.area(shapely.intersection(a, b)) < 1e-4 * area for a in train for b in held
    )  # all pairs, no tree
    assert division.overlaps == 0
    assert sum(division.counts.values()) + sum(division.dropped.values()) == len(records)
    if size <= 0.01:  # neighbours that only share an edge are no overlap
        assert not division.dropped


def test_more_data_moves_no_sample_between_the_splits():
    rule, small, large = Holdout(share=0.3, block_km=2), grid(8), grid(20)
    before, after = sides(small, rule), sides(large, rule)
    for i in range(8):
        for j in range(8):
            assert before[f"{i}-{j}"] == after[f"{i}-{j}"]
    assert set(before.values()) == {"train", "heldout"}


def test_the_share_is_that_of_the_ground():
    rng = np.random.default_rng(0)
    places = [
        (lon, math.degrees(math.asin(z)))
        for lon, z in zip(rng.uniform(-180, 180, 1500), rng.uniform(-1, 1, 1500), strict=True)
    ]
    records = [Record(str(i), Path("x"), "toy", place=Place(*place)) for i, place in enumerate(places)]
    share = divide(records, Holdout(share=0.25, block_km=50)).counts["heldout"] / 1500
    assert share == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 1500))
    assert sides(records, Holdout(share=0.25, seed=1)) != sides(records, Holdout(share=0.25))


@pytest.mark.parametrize("lat", [0.0, 45.0, 75.0])
def test_blocks_are_square_on_the_ground(lat):
    """Along a parallel and a meridian a block is left after as many kilometres as it is wide."""
    for dlon, dlat in ((1, 0), (0, 1)):
        metre = 1 / 111_320
        km = np.arange(0, 400, 0.5)
        lons = 10 + dlon * km * 1000 * metre / math.cos(math.radians(lat))
        records = [
            Record(str(i), Path("x"), "toy", place=Place(float(lon), float(lat + dlat * k * 1000 * metre)))
            for i, (k, lon) in enumerate(zip(km, lons, strict=True))
        ]
        splits = np.array(divide(records, Holdout(share=0.5, block_km=8)).splits)
        changes = km[1:][splits[1:] != splits[:-1]]
        gaps = np.diff(changes) / 8
        assert (
            len(gaps) > 5 and np.abs(gaps - np.round(gaps)).max() < 0.13
        )  # whole blocks, to the half kilometre sampled


def test_boxes_hold_out_what_is_inside_and_drop_what_straddles():
    records = grid(6, step=0.01)
    inside = Holdout(boxes=((4.994, 49.994, 5.016, 50.016),))
    split = sides(records, inside)
    assert {k for k, s in split.items() if s == "heldout"} == {"0-0", "0-1", "1-0", "1-1"}
    assert {k for k, s in split.items() if s is None} == {"2-0", "2-1", "2-2", "0-2", "1-2"}
    assert divide(records, inside).dropped == {"across the edge of a held-out box": 5}
    taken = sides(records, Holdout(boxes=inside.boxes, straddle="heldout"))
    assert sum(s == "heldout" for s in taken.values()) == 9 and None not in taken.values()


def test_columns_and_numbers_hold_out_and_their_neighbours_on_the_same_ground_are_dropped():
    records = [
        tile("a-01", 5, 50),
        tile("b-70", 5.004, 50),
        tile("c-71", 7, 50),
        tile("d-03", 9, 50, split="heldout"),
        tile("e-04", 9, 50),
    ]
    assert sides(records, Holdout(numbers=(70, 79))) == {
        "a-01": None,
        "b-70": "heldout",
        "c-71": "heldout",
        "d-03": "heldout",
        "e-04": None,
    }


def test_samples_without_a_place_are_drawn_by_their_key_and_counted():
    records = [Record(f"k{i}", Path("x"), "toy") for i in range(400)]
    division = divide(records, Holdout(share=0.5))
    assert 150 < division.counts["heldout"] < 250 and division.unplaced == 400
    assert sides(records[:50], Holdout(share=0.5)).items() <= sides(records, Holdout(share=0.5)).items()


def test_across_the_antimeridian_ground_is_still_the_same_ground():
    near = [
        tile("west", 179.999, 10, size=0.02),
        tile("east", -179.999, 10, size=0.02, split="heldout"),
        tile("far", 179.9, 10),
    ]
    assert sides(near, Holdout()) == {"west": None, "east": "heldout", "far": "train"}
    ring = near[0].footprint
    assert shapely.bounds(ring).tolist() == [-180, 9.99, 180, 10.01] and shapely.area(ring) == pytest.approx(
        0.0004, rel=1e-3
    )


def test_overlap_is_of_areas_not_of_edges():
    a, b, c = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(0.9, 0, 1.9, 1)
    assert overlapping([a], [b]) == ([], []) and overlapping([a, b], [c]) == ([0, 1], [(0, 0), (1, 0)])
    assert overlapping([], [a]) == ([], [])


def test_outlines():
    footprint = outline(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 100, 200)
    west, south, east, north = shapely.bounds(footprint)
    assert (east - west) * 111_320 * math.cos(math.radians(45.1)) == pytest.approx(2000, rel=0.01)
    assert (north - south) * 111_140 == pytest.approx(1000, rel=0.01)
    around = shapely.bounds(box_around(Place(15.0, 45.1), 10.0, 100, 200))
    assert around[2] - around[0] == pytest.approx(east - west, rel=0.01)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"boxes": ((1, 95, 2, 96),)}, "latitude 95"), ({"boxes": ((2, 1, 1, 2),)}, "is empty"), ({"share": 1.0}, "no share"),
        ({"share": -0.1}, "no share"), ({"block_km": 0}, "0.01 to 5000"), ({"straddle": "keep"}, "straddle"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(rule, words):
    with pytest.raises(InputError, match=words):
        Holdout(**rule)


def test_keys_are_safe_and_unique():
    assert safe_key("a b/c", "d.1.jpg") == "a_b_c-d_1_jpg" and safe_key("...") == "x"
    records = [Record(key, Path("x"), "toy") for key in ("a", "a", "a-1", "a")]
    unique_keys(records)
    assert [r.key for r in records] == ["a", "a-2", "a-1", "a-3"] or len({r.key for r in records}) == 4
