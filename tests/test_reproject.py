"""One view brought to another camera, its error, and noise that lies on surfaces."""

from dataclasses import replace

import pytest
import torch
from solid_toys import FRAME, village

from gensat.errors import InputError
from gensat.render.cameras import Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.reproject import reproject, reprojection_error
from gensat.render.surface_noise import SurfaceNoise


@pytest.fixture(scope="module")
def scene():
    return village(64, 0.5)


def standing(x, y, heading=0.0, **more):
    size = {"width": 96, "height": 64} | more
    return Camera.looking(FRAME, (x, y, 1.7 + 0.05 * x), heading=heading, fov=70, **size)


def test_a_view_shows_itself(scene):
    view = render(scene, standing(0, -13))
    rgb, shown = reproject(view, view)
    assert torch.equal(shown, ~view.sky)
    assert (rgb - view.rgb).abs()[shown].max() < 1e-4
    found = reprojection_error(view, view)
    assert found.error < 1e-4 and found.share == 1 and found.pixels == int((~view.sky).sum())


def test_a_step_aside_shows_the_same_world_and_hidden_points_are_not_shown(scene):
    one, other = render(scene, standing(-1.0, -13)), render(scene, standing(-0.6, -12.6))
    found = reprojection_error(one, other)
    assert found.error < 0.02 and found.share > 0.75
    behind = render(scene, standing(0, 13, heading=180))  # the other side of the house
    _, shown = reproject(one, behind)
    assert not shown[(behind.kind == 3) & (behind.normals[..., 1] > 0.9)].any()  # no wall that faces north


def test_a_panorama_shows_what_a_camera_at_its_place_sees(scene):
    where = (0.0, -13.0, 1.7)
    around = render(scene, Panorama.looking(FRAME, where, heading=170, width=1024, height=512))
    view = render(scene, Camera.looking(FRAME, where, heading=0, fov=60, width=96, height=64))
    found = reprojection_error(around, view)  # the heading's seam lies in the middle of the view
    assert found.share > 0.97 and found.error < 0.01


def test_painted_frames_differ_by_what_was_painted(scene):
    one, other = render(scene, standing(-1.0, -13)), render(scene, standing(-0.9, -13))
    flat = replace(one, rgb=torch.full_like(one.rgb, 0.3))
    assert reprojection_error(flat, replace(other, rgb=torch.full_like(one.rgb, 0.5))).error == pytest.approx(0.2)


def test_views_of_different_scenes_have_nothing_in_common(scene):
    view = render(scene, standing(0, -13))
    elsewhere = replace(view, frame=SceneFrame(FRAME.crs, (0.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="different scenes"):
        reproject(view, elsewhere)


def test_noise_on_surfaces_is_standard_normal_and_its_own_for_each_seed_and_draw(scene):
    view = render(scene, standing(0, -13, width=256, height=256))
    noise = SurfaceNoise(view, seed=3)
    x = noise(0, 0, 32, 32, 8)
    assert x.shape == (1, 8, 32, 32) and x.mean().abs() < 0.04 and (x.std() - 1).abs() < 0.03
    assert torch.equal(x, noise(0, 0, 32, 32, 8)) and torch.equal(x[..., 5:9, 7:20], noise(5, 7, 4, 13, 8))
    assert not torch.equal(x, noise(0, 0, 32, 32, 8, 1))
    assert not torch.equal(x, SurfaceNoise(view, seed=4)(0, 0, 32, 32, 8))
    beside = noise(-8, -8, 48, 48, 8)  # windows may reach beside the view
    assert beside[..., 8:40, 8:40].equal(x) and (beside.std() - 1).abs() < 0.03
    assert beside.reshape(8, -1).unique(dim=1).shape[1] > 0.98 * 2304
    same = (x[0, :, :, 1:] == x[0, :, :, :-1]).all(0).float().mean()
    assert same < 0.02  # neighbours hardly ever share a cube


def test_two_frames_of_one_wall_share_their_noise(scene):
    frames = [render(scene, standing(x, -13, width=256, height=128)) for x in (0.0, 0.0, 0.004, 5.0)]
    first, again, near, far = (SurfaceNoise(f, seed=1)(0, 0, 16, 32, 8) for f in frames)
    assert torch.equal(first, again)
    share = [(first == other).all(1).float().mean() for other in (near, far)]
    assert share[0] > 0.8 and share[1] < 0.5  # the sky is the same from everywhere
