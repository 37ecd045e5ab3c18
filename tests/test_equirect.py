"""Panoramas to perspective and back, against py360convert and geometry."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensat.errors import InputError
from gensat.render.equirect import (
    camera_axes,
    equirect_directions,
    equirect_pixels,
    from_perspective,
    perspective_directions,
    rotate_equirect,
    sample_equirect,
    solid_angles,
    to_perspective,
)


def smooth(height=128):
    """A panorama of smooth waves of the direction, so that resampling has little to lose."""
    x, y, z = equirect_directions(height, 2 * height).unbind(-1)
    return torch.stack(
        [0.5 + 0.4 * x * z, 0.5 + 0.3 * torch.sin(3 * y), 0.5 + 0.2 * z + 0.1 * torch.cos(4 * x)], dim=-1
    )


def test_columns_and_rows_look_where_the_contract_says():
    directions = equirect_directions(180, 360, heading=30)
    ahead = directions[89:91, 179:181].mean((0, 1))
    assert math.degrees(math.atan2(ahead[0], ahead[1])) == pytest.approx(30, abs=1e-4)
    assert directions[0, 0, 2] > 0.9999 and directions[-1, 0, 2] < -0.9999
    right = directions[90, 270]  # a quarter to the right: azimuth grows
    assert math.degrees(math.atan2(right[0], right[1])) == pytest.approx(120.5, abs=1e-3)
    band = equirect_directions(10, 20, elevation_max=45, elevation_min=-45)
    assert math.degrees(math.asin(band[0, 0, 2])) == pytest.approx(40.5, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(-400, 400), st.integers(3, 40), st.floats(10, 90), st.floats(-90, -10))
def test_pixels_of_directions_are_the_pixels(heading, height, top, bottom):
    options = {"heading": heading, "elevation_max": top, "elevation_min": bottom}
    columns, rows = equirect_pixels(
        equirect_directions(height, 2 * height, dtype=torch.float64, **options), height, 2 * height, **options
    )
    assert torch.allclose(rows, (torch.arange(height) + 0.5).double()[:, None].expand_as(rows), atol=1e-6)
    assert torch.allclose(columns, (torch.arange(2 * height) + 0.5).double().expand_as(columns), atol=1e-6)


@pytest.mark.parametrize(("heading", "pitch"), [(0, 0), (75, 20), (180, -35), (-100, 60), (179.5, 5)])
def test_perspective_agrees_with_py360convert(heading, pitch):
    """Its centre column looks ahead too, u to the right and v up, in degrees; its corners lie on pixel centres, ours on edges."""
    py360convert = pytest.importorskip("py360convert")
    panorama = smooth()
    ours = to_perspective(panorama, fov=80, width=96, height=96, heading=heading, pitch=pitch)
    fov = 2 * math.degrees(
        math.atan(math.tan(math.radians(40)) * 95 / 96)
    )  # its rays go through the outer pixels' centres
    theirs = py360convert.e2p(panorama.double().numpy(), (fov, fov), heading, pitch, (96, 96), mode="bilinear")
    assert np.abs(ours.numpy() - theirs).max() < 6e-3


def test_seams_and_poles_are_continuous():
    """A pinhole across the date line of the panorama and over its pole sees the same smooth world."""
    panorama = smooth()
    for heading, pitch in ((180, 0), (0, 90), (40, -90)):
        directions = perspective_directions(64, 64, fov=70, heading=heading, pitch=pitch)
        x, y, z = directions.unbind(-1)
        exact = torch.stack(
            [0.5 + 0.4 * x * z, 0.5 + 0.3 * torch.sin(3 * y), 0.5 + 0.2 * z + 0.1 * torch.cos(4 * x)], dim=-1
        )
        got = sample_equirect(panorama, directions)
        assert (got - exact).abs().max() < 2e-3


def test_perspective_and_back():
    panorama = smooth()
    view = to_perspective(panorama, fov=90, width=300, height=300, heading=-160, pitch=25, roll=10)
    back, covered = from_perspective(view, fov=90, height=128, width=256, heading=-160, pitch=25, roll=10)
    assert (back - panorama)[covered].abs().max() < 5e-3 and (back[~covered] == 0).all()
    share = (covered * solid_angles(128, 256)[:, None]).sum() / (4 * math.pi)
    assert float(share) == pytest.approx(1 / 6, abs=0.004)  # a 90 degree square view is a face of the cube


def test_turning_and_turning_back():
    panorama = smooth()
    assert torch.equal(rotate_equirect(panorama, heading=90)[:, 128], panorama[:, 192])
    there = rotate_equirect(panorama, heading=33.3, pitch=-20, roll=70)
    ahead = perspective_directions(1, 1, fov=1, heading=33.3, pitch=-20, roll=70)[0, 0]
    assert torch.allclose(there[63:65, 127:129].mean((0, 1)), sample_equirect(panorama, ahead), atol=2e-3)
    axes = camera_axes(33.3, -20, 70)
    x, y, z = equirect_directions(128, 256, dtype=torch.float64).unbind(-1)
    level = torch.stack([x, -z, y], dim=-1) @ axes  # where each pixel of the turned panorama looked
    assert torch.allclose(there.double(), sample_equirect(panorama.double(), level), atol=1e-5)


def test_camera_axes_are_a_rotation_with_the_right_hand_rule():
    axes = camera_axes(123, 34, -56)
    assert torch.allclose(axes @ axes.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(torch.linalg.cross(axes[0], axes[1]), axes[2])
    tilted = camera_axes(0, 0, 90)  # clockwise: right of the picture points down
    assert torch.allclose(tilted[0], torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64), atol=1e-12)


def test_sampling_is_differentiable():
    panorama = smooth(8).double().requires_grad_()
    directions = perspective_directions(3, 3, fov=60).double()
    assert torch.autograd.gradcheck(lambda p: sample_equirect(p, directions), panorama)


def test_solid_angles_add_to_the_sphere():
    assert float(solid_angles(50, 100).sum() * 100) == pytest.approx(4 * math.pi, rel=1e-5)


def test_panoramas_that_cannot_be():
    with pytest.raises(InputError, match="elevation_min < elevation_max"):
        equirect_directions(4, 8, elevation_max=-10, elevation_min=10)
    with pytest.raises(InputError, match="empty"):
        equirect_directions(0, 8)
    with pytest.raises(InputError, match="field of view"):
        perspective_directions(4, 4, fov=180)
