"""Which water is seen from above."""

import numpy as np
import pytest

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, WOODLAND
from gensat.hydro.open_water import open_water, soft_edge

DEPTH = np.array([[0.0, 0.01, 0.5], [3.0, 5.0, np.nan]], np.float32)


def test_what_rises_above_the_water_hides_it() -> None:
    assert open_water(DEPTH).tolist() == [[False, False, True], [True, True, False]]
    heights = np.array([[9.0, 0.0, 0.4], [3.5, 4.9, 0.0]], np.float32)
    assert open_water(DEPTH, heights=heights).tolist() == [[False, False, True], [False, True, False]]


def test_classes_stand_in_for_heights() -> None:
    classes = np.array([[0, 0, BUILDING], [BUILDING, BUILDING, 0]])
    assert open_water(DEPTH, classes=classes).tolist() == [[False, False, False], [False, True, False]]
    trees = np.full(DEPTH.shape, WOODLAND)
    assert not open_water(DEPTH, classes=trees).any()
    assert open_water(DEPTH, classes=trees, heights=np.zeros_like(DEPTH)).any()  # heights go before classes


def test_the_soft_edge_lies_inside() -> None:
    water = np.zeros((9, 9), bool)
    water[2:, 2:] = True
    alpha = soft_edge(water, 2)
    assert (alpha[~water] == 0).all() and (alpha[water] > 0).all()
    assert alpha[2, 5] == pytest.approx(1 / 3) and alpha[5, 5] == 1 and alpha[8, 8] == 1
    assert soft_edge(np.ones((4, 4), bool)).min() == 1
    assert np.array_equal(soft_edge(water, 0) > 0, water)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="differ in size"):
        open_water(DEPTH, heights=np.zeros((3, 3), np.float32))
    with pytest.raises(InputError, match="below 0"):
        open_water(-DEPTH)
