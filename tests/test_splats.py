"""Splats in a scene: where their surfaces are, from any camera, and what they carry along."""

import math

import numpy as np
import pytest
import torch
from solid_toys import FRAME, village

from gensat.errors import InputError
from gensat.geo.classes import BUILDING
from gensat.render.cameras import Camera, OrthographicCamera, Panorama
from gensat.render.gbuffers import render
from gensat.render.mesh import joined
from gensat.render.rays import TERRAIN, WALL
from gensat.render.splat_raster import rotation_matrices
from gensat.render.splats import Splats, quats_towards
from gensat.render.triangles import grid_mesh, scene_points, sphere_mesh


@pytest.fixture(scope="module")
def splats():
    return Splats.from_scene(village(), 0.4)


def plane_and_ball(spacing=0.1):
    ground = grid_mesh(np.linspace(-6, 6, 13), np.linspace(6, -6, 13), np.zeros((13, 13)), FRAME)
    ball = sphere_mesh((0.0, 3.0, 1.5), 1.5, 4, FRAME)
    return Splats.from_points(joined([ground, ball]).points(spacing), spacing, opacity=0.95)


def test_a_sphere_on_a_plane_is_where_it_is():
    """Distances to the analytic sphere and plane: within the size of the splats, nearer as each hides what is behind."""
    made = plane_and_ball()
    camera = Camera.looking(FRAME, (0.0, -3.0, 1.7), heading=FRAME.heading(0.0), pitch=-10, fov=50, width=64, height=48)
    view = made.render(camera)
    rays = camera.rays()
    o, d = rays.origins, rays.directions
    to = o - torch.tensor([0.0, 3.0, 1.5])
    b = (to * d).sum(-1)
    root = b * b - (to * to).sum(-1) + 1.5**2
    ball = torch.where(root > 0, -b - root.clamp(min=0).sqrt(), torch.inf)
    plane = torch.where(d[..., 2] < 0, -o[..., 2] / d[..., 2].clamp(max=-1e-9), torch.inf)
    edge = o + plane[..., None] * d
    plane = torch.where((edge[..., :2].abs() < 6).all(-1), plane, torch.inf)
    wanted = torch.minimum(ball, plane)
    inside = torch.isfinite(wanted)
    for axis in (0, 1):  # away from silhouettes by two pixels, where a splat stands over the edge
        for shift in (-2, -1, 1, 2):
            near = torch.roll(wanted, shift, axis)
            inside &= torch.isfinite(near) & ((near - wanted).abs() < 0.5)
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    error = (view.distance - wanted)[inside]
    assert inside.sum() > 1000 and not view.sky[inside].any()
    assert float(error.abs().median()) < 0.09 and float(error.abs().quantile(0.99)) < 0.4
    facing = (view.normals * -d).sum(-1)[inside]
    assert float(facing.min()) > 0
    on_ball = inside & (ball < plane)
    outward = torch.nn.functional.normalize(o + ball[..., None] * d - torch.tensor([0.0, 3.0, 1.5]), dim=-1)
    assert float((outward * view.normals).sum(-1)[on_ball].median()) > 0.995


@pytest.mark.parametrize("kind", ["perspective", "orthographic", "panorama"])
def test_depth_on_planes_is_exact_at_a_slant(kind):
    """Discs on a slope of 1:2: the depth of centres is short of the plane, that of planes is the plane's to float32."""
    x, y = np.linspace(-8, 8, 17), np.linspace(20, -2, 23)
    slope = grid_mesh(x, y, np.broadcast_to(0.5 * y[:, None], (23, 17)), FRAME)
    made = Splats.from_points(slope.points(0.2), 0.4, opacity=0.95)
    eye = np.array([0.5, 2.0, 4.0])
    if kind == "perspective":
        camera = Camera.looking(FRAME, eye, heading=FRAME.heading(5.0), pitch=-5, fov=50, width=64, height=48)
    elif kind == "orthographic":
        camera = OrthographicCamera.above((0.3, 9.0, 30.0), 40, 40, 0.2)
    else:
        camera = Panorama(256, 128, eye, 0.0)
    rays = camera.rays(dtype=torch.float64)
    o, d = rays.origins, rays.directions
    wanted = (0.5 * o[..., 1] - o[..., 2]) / (d[..., 2] - 0.5 * d[..., 1])
    there = o + wanted[..., None] * d
    on = (wanted > 0) & (there[..., 0].abs() < 7) & (there[..., 1] > -1) & (there[..., 1] < 18.5)
    assert on.sum() > 800
    errors = {}
    for depth in ("plane", "centre"):
        view = made.render(camera, depth=depth)
        errors[depth] = (view.distance.double() - wanted).abs()[on & (view.opacity > 0.99)]
    # a panorama interpolates between the pixels of its faces
    assert float(errors["plane"].max()) < (0.1 if kind == "panorama" else 2e-4)
    assert float(errors["plane"].median()) < 0.05 * float(errors["centre"].median())


def test_from_above_the_image_comes_back(splats):
    scene = village()
    camera = OrthographicCamera.above((0, 0, 60.0), 32, 32, 1.0)
    view = splats.render(camera)
    error = (view.rgb - scene.image).abs()[2:-2, 2:-2]
    assert float(error.median()) < 0.01  # the splats of a pixel of 1 m are 40 cm apart
    assert float(view.opacity[1:-1, 1:-1].min()) > 0.95
    rows, columns = torch.tensor([10, 16, 28]), torch.tensor([20, 10, 20])
    torch.testing.assert_close(60 - view.depth[16, 11], torch.tensor(8.0), atol=0.1, rtol=0)  # the roof
    assert (view.classes[16, 10:13] == BUILDING).all() and view.seen[rows, columns].all()
    x, y = scene.grid.centres()
    ground = (scene.classes != BUILDING) & (((x - 11) ** 2 + (y - 9) ** 2) > 9)
    assert float((60 - view.depth - 0.05 * x)[ground][200:].abs().median()) < 0.05


def test_walls_are_invented_and_roofs_were_seen(splats):
    south = Camera.looking(FRAME, (0.0, -15.0, 2.0), heading=FRAME.heading(0.0), pitch=-10, fov=70, width=48, height=32)
    view = splats.render(south, background=torch.tensor([0.5, 0.7, 1.0]))
    wall = view.classes[10, 20:28]
    assert (wall == BUILDING).all() and not view.seen[10, 20:28].any()
    assert view.seen[30].all() and view.sky[0, 0] and view.opacity[0, 0] < 0.5
    plain = splats.render(south)
    torch.testing.assert_close(
        view.rgb - plain.rgb, (1 - view.opacity[..., None]) * torch.tensor([0.5, 0.7, 1.0]), atol=1e-5, rtol=0
    )
    assert torch.isinf(view.distance[view.sky]).all() and (view.classes[view.sky] == 0).all()
    assert 9.5 < float(view.distance[10, 24]) < 10.3 and view.provenance["renderer"] == "splats"


def test_panorama_and_perspective_agree_where_they_overlap():
    made = plane_and_ball(0.15)
    position = (0.3, -2.0, 1.7)
    panorama = Panorama.looking(FRAME, position, heading=20.0, width=256, height=128)
    around = made.render(panorama)
    camera = Camera.looking(FRAME, position, heading=10.0, pitch=-8.0, fov=60, width=80, height=60)
    view = made.render(camera)
    rays = camera.rays()
    points = rays.origins + 5 * rays.directions
    places, _, inside = panorama.project(points)
    assert inside.all()
    grid = places / torch.tensor([256.0, 128.0]) * 2 - 1
    sampled = torch.nn.functional.grid_sample(around.rgb.permute(2, 0, 1)[None], grid[None], align_corners=False)[0]
    assert float((sampled.permute(1, 2, 0) - view.rgb).abs().median()) < 0.01
    near = torch.nn.functional.grid_sample(around.distance[None, None], grid[None], mode="nearest", align_corners=False)
    both = ~view.sky & torch.isfinite(near[0, 0])
    assert both.sum() > 2000 and float((near[0, 0] / view.distance - 1)[both].abs().median()) < 0.03


def test_a_panorama_has_no_holes_or_seams():
    """Inside a ball every direction meets it at its radius, across all twelve edges of the cube of faces."""
    made = Splats.from_points(sphere_mesh((0.0, 0.0, 0.0), 4.0, 5, FRAME).points(0.12), 0.12, opacity=0.95)
    view = made.render(Panorama(192, 96, np.zeros(3), 33.0))
    assert float(view.opacity.min()) > 0.8 and float(view.opacity.quantile(0.01)) > 0.9
    assert float((view.distance - 4).abs().max()) < 0.12 and float((view.distance - 4).abs().median()) < 0.06


def test_colours_of_higher_degree_depend_on_where_one_looks_from():
    made = Splats.from_points(scene_points(village(), 1.0), 1.0, degree=1)
    assert made.degree == 1 and made.sh.shape[1:] == (4, 3)
    made.sh[:, 2, 0] = 1.0  # redder when seen along +z
    up = made.render(OrthographicCamera.above((0, 0, 60.0), 16, 16, 2.0))
    flat = Splats.from_points(scene_points(village(), 1.0), 1.0).render(
        OrthographicCamera.above((0, 0, 60.0), 16, 16, 2.0)
    )
    assert float((flat.rgb - up.rgb)[8, 8, 0]) == pytest.approx(0.4886 * float(up.opacity[8, 8]), abs=0.1)


@pytest.mark.parametrize("depth", ["centre", "plane"])
def test_gradients_reach_everything(splats, depth):
    made = splats.part(torch.arange(0, len(splats), 7)).detach()
    for name in ("means", "quats", "scales", "opacities", "sh"):
        getattr(made, name).requires_grad_()
    view = made.render(Panorama(48, 24, np.array([0.0, -12.0, 3.0])), depth=depth)
    (view.rgb.sum() + view.opacity.sum() + view.distance[~view.sky].sum()).backward()
    for name in ("means", "quats", "scales", "opacities", "sh"):
        gradient = getattr(made, name).grad
        assert torch.isfinite(gradient).all() and (gradient != 0).any(), name
    assert not made.detach().means.requires_grad and made.part(made.classes == BUILDING).classes.unique() == BUILDING


def test_quaternions_turn_z_to_the_normal():
    normals = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    normals = torch.cat([normals, torch.tensor([[0, 0, 1.0], [0, 0, -1.0], [1e-4, 0, -1.0]])])
    turned = rotation_matrices(quats_towards(normals))[:, :, 2]
    torch.testing.assert_close(turned, torch.nn.functional.normalize(normals, dim=1), atol=3e-4, rtol=0)
    made = Splats(
        torch.zeros(503, 3),
        quats_towards(normals),
        torch.tensor([[1.0, 1, 0.1]]).repeat(503, 1),
        torch.ones(503),
        torch.zeros(503, 1, 3),
        FRAME,
    )
    assert float((made.normals * normals).sum(-1).abs().min()) > 0.999


def test_bad_input_is_one_sentence(splats):
    points = scene_points(village(), 2.0)
    with pytest.raises(InputError, match="'centre' or 'plane'"):
        splats.render(Panorama(8, 4, np.zeros(3)), depth="median")
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="spacing"):
            Splats.from_points(points, wrong)
    with pytest.raises(InputError, match="at least one point"):
        Splats.from_points(points.part(points.kinds == 99), 1.0)
    assert (points.kinds == TERRAIN).any()


def test_views_agree_with_the_exact_renderer():
    """The same scene by rays and by splats: sky, kinds of surface, colours and distances."""
    scene = village()
    made = Splats.from_scene(scene, 0.25)
    camera = Camera.looking(
        FRAME, (1.0, -14.0, 4.0), heading=FRAME.heading(10.0), pitch=-8, fov=70, width=64, height=40
    )
    exact, view = render(scene, camera), made.render(camera)
    side = (exact.kind == WALL) & (exact.index < 0)  # of the block that the scene is cut from
    both = ~exact.sky & ~view.sky & ~side
    assert float((exact.sky == view.sky)[~side].float().mean()) > 0.97
    assert float((exact.classes == view.classes)[both].float().mean()) > 0.95
    assert float((exact.seen == view.seen)[both].float().mean()) > 0.95
    assert float((view.distance / exact.distance - 1)[both].abs().median()) < 0.015
    assert float((view.rgb - exact.rgb)[both].abs().median()) < 0.01
    assert float((view.normals * exact.normals).sum(-1)[both].median()) > 0.99
