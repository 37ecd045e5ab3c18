"""Trees stand where a surface model has them: their number, heights, places, and what they do to views."""

import numpy as np
import pytest
import torch

from gensat.geo.classes import WOODLAND
from gensat.render.cameras import OrthographicCamera
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.trees import tree_tops, trees

GRID = Grid.centred(80, 80, 1.0)
NOTHING = np.zeros((80, 80), bool)


def canopy(tops, radius=4.0):
    """Round crowns of given (x, y, height) on the grid."""
    x, y = (v.numpy() for v in GRID.centres())
    return np.max([h * np.clip(1 - ((x - a) ** 2 + (y - b) ** 2) / radius**2, 0, 1) for a, b, h in tops], axis=0)


def test_lone_trees_are_found_with_their_heights():
    tops = [(-20.5, 10.5, 14.0), (12.5, 13.5, 9.0), (20.5, -25.5, 20.0)]
    places, heights, radii = tree_tops(canopy(tops), GRID, NOTHING)
    found = {tuple(p): h for p, h in zip(places.tolist(), heights, strict=True)}
    for a, b, h in tops:
        assert found[(a, b)] == pytest.approx(h)
    assert heights[0] == 20 and (np.diff(heights[:3]) < 0).all()  # the highest first
    np.testing.assert_allclose(radii[:3], (3.09632 + 0.00895 * heights[:3] ** 2) / 2)
    assert len(places) <= 3 * 8  # and what fills their flanks


def test_a_closed_canopy_is_filled_and_nobody_stands_in_anothers_trunk():
    above = np.full((80, 80), 12.0)
    covered = NOTHING.copy()
    covered[:, 60:] = True
    places, heights, radii = tree_tops(above, GRID, covered)
    assert (places[:, 0] < 20).all() and (heights == 12).all()
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(len(places)) * 99
    assert gaps.min() >= 1.39 * radii[0]
    assert len(places) * np.pi * radii[0] ** 2 > 0.4 * 60 * 80  # crowns over at least two fifths of the ground


def test_what_is_low_or_far_too_high_is_no_tree():
    above = np.zeros((80, 80))
    above[10, 10], above[40:44, 40:44] = 80.0, 2.0
    assert not len(tree_tops(above, GRID, NOTHING)[0])


def test_trees_reach_the_heights_of_the_surface_model_and_keep_the_images_colour():
    x, _ = GRID.centres()
    ground = HeightField((0.1 * x).float(), GRID, "bilinear", None)
    objects, count = trees(canopy([(-20.5, 10.5, 14.0)], 3.0), GRID, NOTHING, ground, seed=5)
    again, _ = trees(canopy([(-20.5, 10.5, 14.0)], 3.0), GRID, NOTHING, ground, seed=5)
    assert torch.equal(objects.centre, again.centre) and 1 <= count <= 4
    near = torch.hypot(objects.centre[:, 0] + 20.5, objects.centre[:, 1] - 10.5) < 2.5
    top = (objects.centre + objects.half)[near, 2].max() - 0.1 * -20.5
    assert 0.85 * 14 < top <= 1.05 * 14
    low = (objects.centre - objects.half)[near, 2].min() - 0.1 * -20.5
    assert low == pytest.approx(0, abs=0.05)
    assert (objects.classes == WOODLAND).all() and torch.isnan(objects.colour).any() and (objects.label >= 0).all()


def test_from_above_the_image_is_seen_through_the_crowns_as_it_is():
    from dataclasses import replace

    from solid_toys import village

    scene = village()
    above = np.zeros((32, 32))
    above[4:10, 3:9] = 7.0
    plants, _ = trees(above, scene.grid, np.zeros((32, 32), bool), scene.terrain)
    wooded = replace(scene, objects=plants)
    camera = OrthographicCamera.above((0.0, 0.0, 60.0), 32, 32, 1.0)
    view = render(wooded, camera)
    leaves = (view.kind == 4) & view.seen
    assert leaves.sum() > 5
    torch.testing.assert_close(view.rgb[view.seen], scene.image[view.seen], atol=1e-5, rtol=0)
