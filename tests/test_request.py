"""The canvas of a request and what is refused about it before any work."""

import pytest
from toys import toy_spec

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.hub.request import check_request, make_canvas
from gensat.types import Acquisition, Place

HOUSTON = Place(lon=-95.36, lat=29.76)
BOX = (-95.37, 29.75, -95.3695, 29.7505)


def _check(spec, canvas, **options):
    check_request(spec, canvas, Acquisition(canvas.ground_gsd), **options)


@pytest.mark.parametrize("side", [1, 40, 100, 120, 130, 140, 500])
@pytest.mark.parametrize("smallest", [32, 128])
def test_sizes_that_are_advised_are_accepted(side, smallest):
    spec = toy_spec(size_limits=(smallest, 256))
    with pytest.raises(InputError) as caught:
        _check(spec, Canvas.local(side, 256))
    advised = [int(word) for word in str(caught.value).split("give ")[-1].split("use ")[-1].split() if word.isdigit()]
    for width in {advised[0], advised[-1]} - {spec.multiple}:
        _check(spec, Canvas.local(width, 256))


def test_a_box_takes_the_width_that_its_error_names_and_any_width_alone():
    spec = toy_spec()
    with pytest.raises(InputError, match="give width 50 or leave out"):
        make_canvas(spec, [], bbox=BOX, gsd=1, width=48)
    for sizes in ({"gsd": 1, "width": 50}, {"width": 50}, {"height": 41}):
        _check(spec, make_canvas(spec, [], bbox=BOX, **sizes), cropped=True)


def test_a_canvas_has_a_budget_of_pixels():
    spec = toy_spec(gsd_range=(0.001, 60.0))
    for canvas in (
        Canvas.local(1_000_000, 1_000_000),
        Canvas.around(HOUSTON, 0.1, 1_600_000, 1_600_000),
        Canvas.from_bbox(BOX, 0.001),
    ):
        for cropped in (False, True):
            with pytest.raises(InputError, match=r"pixels, more than 268,435,456 in all; make it smaller"):
                _check(spec, canvas, cropped=cropped)
    _check(spec, Canvas.local(16_384, 16_384))


def test_a_crs_that_stretches_is_noted_and_keeps_the_ends_of_the_gsd_range():
    spec = toy_spec()
    for gsd in spec.gsd_range:
        notes = []
        canvas = make_canvas(spec, notes, place=Place(10, 65), gsd=gsd, crs="EPSG:3857")
        _check(spec, canvas)
        assert canvas.ground_gsd == pytest.approx(gsd)
        assert notes == [
            f"EPSG:3857 stretches distances here: pixels of {gsd:g} m on the ground are {canvas.gsd:.4g} m in it"
        ]
        _check(spec, make_canvas(spec, [], bbox=(10, 65, 10.01, 65.01), gsd=gsd, crs="EPSG:3857"), cropped=True)
    notes = []
    make_canvas(spec, notes, place=HOUSTON, gsd=0.5)
    make_canvas(spec, notes, bbox=BOX, width=48)
    make_canvas(spec, notes, gsd=0.5)
    assert notes == []
