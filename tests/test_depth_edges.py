"""Edges of a picture against those of its depth: right, displaced, missing, beside texture."""

import pytest
import torch

from gensat.errors import InputError
from gensat.metrics.depth_edges import depth_edge_f1, depth_edges_kept


def box(shift=0, contrast=0.5, background=0.3):
    """A box 5 m away before the sky, and its picture, moved by ``shift`` pixels."""
    distance = torch.full((1, 48, 64), torch.inf)
    distance[:, 12:36, 16:48] = 5.0
    rgb = torch.full((1, 48, 64, 3), background)
    rgb[:, 12 + shift : 36 + shift, 16 + shift : 48 + shift] = background + contrast
    return rgb, distance


def test_a_picture_that_keeps_its_edges_has_an_f1_of_one():
    found = depth_edge_f1(*box())
    assert found.value == found.precision == found.recall == 1 and found.n == 2 * 24 + 2 * 32
    assert depth_edge_f1(*box(shift=1)).value > 0.97  # within the tolerance, but for corners
    assert depth_edge_f1(*box(shift=1), tolerance=0).value == 0


def test_displaced_edges_are_neither_precise_nor_found():
    found = depth_edge_f1(*box(shift=3))
    assert found.precision < 0.1 and found.recall < 0.1  # corners may find the other side


def test_edges_that_the_picture_does_not_show_lower_the_recall_only():
    rgb, distance = box()
    rgb[:, :, 32:] = 0.3  # the right half of the box has the colour of the sky
    found = depth_edge_f1(rgb, distance)
    assert found.precision > 0.9 and 0.4 < found.recall < 0.7


def test_texture_inside_a_surface_does_not_count_and_a_slope_is_no_edge():
    rgb, distance = box()
    rgb[:, 20:28, 24:40] = 0.0  # more than four pixels inside
    assert depth_edge_f1(rgb, distance).value == 1
    ground = torch.linspace(2, 40, 48)[None, :, None].expand(1, 48, 64)
    with pytest.raises(InputError, match="no depth edges"):
        depth_edge_f1(torch.rand(1, 48, 64, 3), ground)
    with pytest.raises(InputError, match="differ in size"):
        depth_edge_f1(rgb, distance[:, :10])


def test_edges_that_were_not_shown_before_need_not_be_kept():
    render, distance = box()
    render[:, :, 32:] = 0.3  # the right half of the box has the colour of the sky
    assert depth_edges_kept(render, render, distance).value == 1
    assert depth_edges_kept(1 - render, render, distance).value == 1  # other colours, the same edges
    half = depth_edges_kept(box()[0], render, distance)  # the picture shows the other half too
    assert half.recall > 0.95 and 0.4 < half.precision < 0.7
    lost = depth_edges_kept(render, box()[0], distance)
    assert lost.precision > 0.95 and 0.4 < lost.recall < 0.7
    assert depth_edges_kept(torch.full_like(render, 0.5), render, distance).value == 0
    with pytest.raises(InputError, match="shows no depth edges"):
        depth_edges_kept(render, torch.full_like(render, 0.5), distance)
