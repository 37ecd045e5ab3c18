"""Contact sheets hold every picture, whole and in order."""

import numpy as np
import pytest

from gensat.geo.display import contact_sheet

WHITE = (255, 255, 255)


def plain(value: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_contact_sheet_holds_all_pictures_in_order():
    sheet = contact_sheet([plain(i * 40) for i in range(5)], 3, side=10)
    assert sheet.size == (3 * 12, 2 * 12)
    centres = [sheet.getpixel((i % 3 * 12 + 6, i // 3 * 12 + 6)) for i in range(6)]
    assert centres == [(i * 40,) * 3 for i in range(5)] + [WHITE]


@pytest.mark.parametrize(("height", "width", "size"), [(20, 40, (10, 5)), (40, 20, (5, 10)), (5, 5, (10, 10))])
def test_pictures_keep_their_proportions(height, width, size):
    sheet = contact_sheet([plain(0, height, width)], 1, side=10)
    assert sheet.size == (size[0] + 2, size[1] + 2)
    assert (np.asarray(sheet)[1:-1, 1:-1] == 0).all()


def test_labels_take_a_line_of_their_own():
    pictures = [plain(0, 64, 64)] * 2
    without, labelled = (contact_sheet(pictures, 2, side=64, labels=labels) for labels in ((), (7, 8)))
    assert labelled.height > without.height
    below = np.asarray(labelled)[without.height :]
    assert (below < 128).any() and np.array_equal(np.asarray(labelled)[: without.height], np.asarray(without))
