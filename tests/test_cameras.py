import math

import numpy as np
import pytest
import torch
from pyproj import CRS, Geod, Proj

from gensat.errors import InputError
from gensat.render.cameras import Camera, OrthographicCamera, Panorama
from gensat.render.frame import SceneFrame
from gensat.types import Place

NOWHERE = SceneFrame(None)
CAMERAS = [
    Camera.looking(NOWHERE, (3.0, -2.0, 10.0), heading=140, pitch=-20, roll=7, fov=75, width=61, height=43),
    OrthographicCamera.looking(NOWHERE, (0.0, 5.0, 0.0), heading=30, pitch=-50, gsd=0.5, width=61, height=43),
    Panorama.looking(NOWHERE, (3.0, -2.0, 10.0), heading=250, width=64, height=32),
    Panorama(64, 20, np.array([0.0, 0.0, 1.7]), 10.0, 30.0, -60.0),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: type(c).__name__)
def test_what_a_ray_meets_projects_back_to_its_pixel(camera):
    rays = camera.rays(dtype=torch.float64)
    assert rays.shape == (camera.height, camera.width)
    assert torch.allclose(rays.directions.norm(dim=-1), torch.ones(rays.shape, dtype=torch.float64))
    t = torch.linspace(1, 90, camera.width, dtype=torch.float64).expand(rays.shape)
    pixels, distance, inside = camera.project(rays.at(t))
    columns = torch.arange(camera.width) + 0.5
    rows = torch.arange(camera.height)[:, None] + 0.5
    assert inside.all() and torch.allclose(distance, t)
    assert (pixels[..., 0] - columns).abs().max() < 1e-6 and (pixels[..., 1] - rows).abs().max() < 1e-6


def test_axes_of_a_camera_looking_north():
    camera = Camera.looking(NOWHERE, (0, 0, 1.7), fov=90, width=100, height=100)
    points = torch.tensor([[0.0, 10, 1.7], [10, 10, 1.7], [0, 10, 11.7], [0, -10, 1.7]])
    pixels, distance, inside = camera.project(points)
    assert torch.allclose(pixels[:3], torch.tensor([[50.0, 50], [100, 50], [50, 0]]), atol=1e-4)
    assert distance[0] == 10 and inside.tolist() == [True, False, True, False]
    assert np.allclose(camera.position, (0, 0, 1.7))


def test_pitch_is_up_and_roll_is_clockwise():
    up = Camera.looking(NOWHERE, (0, 0, 0), pitch=30).rays_at(torch.tensor(256.0), torch.tensor(256.0))
    assert up.directions.tolist() == pytest.approx([0, math.cos(math.radians(30)), 0.5], abs=1e-6)
    rolled = Camera.looking(NOWHERE, (0, 0, 0), roll=90)
    sky, _, _ = rolled.project(
        torch.tensor([[0.0, 10, 5]])
    )  # above the horizon: turned clockwise, the sky is at the left
    assert sky[0, 0] < 256 and sky[0, 1] == pytest.approx(256, abs=1e-3)


def test_a_panorama_looks_along_its_heading_and_grows_to_the_right():
    pano = Panorama.looking(NOWHERE, (0, 0, 0), heading=90, width=360, height=180)
    pixels, _, inside = pano.project(torch.tensor([[10.0, 0, 0], [10, -10, 0], [0, 10, 0], [10, 0, 10.0]]))
    assert torch.allclose(pixels, torch.tensor([[180.0, 90], [225, 90], [90, 90], [180, 45]]), atol=1e-3)
    assert inside.all()
    top = pano.rays_at(torch.tensor(5.0), torch.tensor(0.0)).directions
    assert top[2] == pytest.approx(1)


def test_true_north_where_the_convergence_is_two_degrees():
    """A landmark due true north stands in the centre column of a panorama heading north."""
    lon, lat = -72.0, np.degrees(np.arcsin(2 / 3))
    crs = CRS.from_epsg(32618)
    frame = SceneFrame(crs, (*Proj(crs)(lon, lat), 0.0))
    for heading in (0.0, 123.0):
        far = frame.local(*Geod(ellps="WGS84").fwd(lon, lat, heading, 200.0)[:2])
        point = torch.tensor([[float(far[0]), float(far[1]), 1.7]])
        pano = Panorama.looking(frame, Place(lon, lat), heading=heading, width=3600, height=1800)
        cam = Camera.looking(frame, Place(lon, lat), heading=heading, fov=60, width=1000, height=500)
        assert pano.project(point)[0][0].tolist() == pytest.approx([1800, 900], abs=0.02)
        assert cam.project(point)[0][0].tolist() == pytest.approx([500, 250], abs=0.02)


def test_perspective_and_panorama_of_one_place_have_the_same_rays():
    frame, where = SceneFrame(None), (1.0, 2.0, 3.0)
    cam = Camera.looking(frame, where, heading=77, pitch=13, fov=80, width=32, height=24)
    pano = Panorama.looking(frame, where, heading=20, width=512, height=256)
    rays = cam.rays(dtype=torch.float64)
    pixels, _, inside = pano.project(rays.at(torch.full(rays.shape, 40.0, dtype=torch.float64)))
    again = pano.rays_at(pixels[..., 0], pixels[..., 1], dtype=torch.float64)
    assert inside.all() and (again.directions - rays.directions).abs().max() < 1e-9


def test_the_view_from_above_has_north_up():
    camera = OrthographicCamera.above((0, 0, 100), 20, 10, 2.0)
    rays = camera.rays()
    assert rays.origins[0, 0].tolist() == [-19, 9, 100] and rays.origins[9, 19].tolist() == [19, -9, 100]
    assert torch.allclose(rays.directions, torch.tensor([0.0, 0, -1]), atol=1e-7)


def test_float32_rays_keep_their_precision_far_from_the_axes():
    camera = Camera.looking(NOWHERE, (812.3, -640.1, 21.7), heading=33, fov=60)
    exact, single = camera.rays(dtype=torch.float64), camera.rays()
    assert (
        exact.at(torch.full(exact.shape, 50.0).double()) - single.at(torch.full(single.shape, 50.0))
    ).abs().max() < 1e-3


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Camera.looking(NOWHERE, (0, 0, 0), fov=180), "field of view 180"),
        (lambda: Camera.looking(NOWHERE, (0, 0, 0), pitch=95), "pitch 95"),
        (lambda: Camera.looking(NOWHERE, (0, 0, 0), heading=math.nan), "heading or roll is not a finite"),
        (lambda: Panorama.looking(NOWHERE, (0, 0, 0), heading=math.inf), "heading is not a finite"),
        (lambda: Camera.looking(NOWHERE, (0, 0)), "no point of the scene"),
        (lambda: Camera.looking(NOWHERE, (0, 0, math.nan)), "no point of the scene"),
        (lambda: Camera.looking(NOWHERE, Place(0, 0)), "on no place"),
        (lambda: Camera(10, 10, 5, 5, 5, 5, np.diag([1, 1, -1, 1.0])), "no rigid motion"),
        (lambda: Panorama(10, 5, np.zeros(3), 0, -10, 10), "elevations"),
        (lambda: Panorama(0, 5, np.zeros(3)), "empty"),
        (lambda: OrthographicCamera.above((0, 0, 1), 5, 5, 0.0), "gsd 0"),
    ],
)
def test_bad_cameras(make, words):
    with pytest.raises(InputError, match=words):
        make()
