"""Prisms and simple solids against overlays, small steps, closed forms and finite differences."""

import math

import numpy as np
import pytest
import shapely
import torch
from ray_reference import implicit_hit, prisms_hit
from test_heightfield import D, some_rays

from gensat.errors import InputError
from gensat.render.cameras import Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.rays import OBJECT, ROOF, SKY, WALL, Rays

COURT = shapely.Polygon([(-5, -4), (6, -4), (6, 5), (-5, 5)], [[(-2, -1), (3, -1), (3, 2), (-2, 2)]])
ELL = shapely.Polygon([(10, 0), (18, 0), (18, 3), (13, 3), (13, 9), (10, 9)])
SPLINTER = shapely.Polygon([(-14.3, -9.1), (-8.2, -13.7), (-9.9, -6.4)])


def town(dtype=D):
    return Prisms.of([COURT, ELL, SPLINTER], [7.0, 11.0, 4.5], [0.0, 0.0, 0.0], dtype=dtype)


def test_prisms_equal_an_overlay():
    rays = some_rays(3000, 21, low=0.5, high=16, spread=22)
    x, y, z = rays.origins.numpy().T
    out = np.array(
        [not any(shapely.contains_xy(p, a, b) for p in (COURT, ELL, SPLINTER)) for a, b in zip(x, y, strict=True)]
    )
    rays = Rays(rays.origins[out | (z > 11)], rays.directions[out | (z > 11)])
    expected = [
        prisms_hit([COURT, ELL, SPLINTER], [7.0, 11.0, 4.5], o, d)
        for o, d in zip(rays.origins.numpy(), rays.directions.numpy(), strict=True)
    ]
    prisms = town()
    hits = prisms.cast(rays)
    assert np.isfinite(expected).mean() > 0.1
    # a ray that comes in between roof and crease may be a wall here and a roof there: a tenth of a millimetre
    np.testing.assert_allclose(hits.t.numpy(), expected, atol=3e-3)
    met = np.isfinite(expected)
    assert (np.abs(hits.t.numpy()[met] - np.array(expected)[met]) < 1e-6).mean() > 0.99
    assert set(hits.kind.unique().tolist()) == {SKY, ROOF, WALL} and set(hits.index.unique().tolist()) == {-1, 0, 1, 2}
    walls = hits.kind == WALL
    assert ((hits.normal * rays.directions).sum(-1)[walls] < 0).all()
    at, ends = rays.at(hits.t)[walls], prisms.edges[hits.edge[walls]]
    along = torch.nn.functional.normalize(ends[:, 2:] - ends[:, :2], dim=1)
    off = (at[:, :2] - ends[:, :2] - ((at[:, :2] - ends[:, :2]) * along).sum(1, keepdim=True) * along).norm(dim=1)
    assert off.max() < 1e-6 and (prisms.owner[hits.edge[walls]] == hits.index[walls]).all()


def test_walls_are_watertight():
    """Nothing gets through the corners of a round tower, at whatever corner it is aimed, in float32."""
    angle = np.linspace(0, 2 * np.pi, 361)[:-1]
    tower = shapely.Polygon(np.column_stack([50 + 10 * np.cos(angle), 20 * np.ones(360) + 10 * np.sin(angle)]))
    prisms = Prisms.of([tower], [30.0], [0.0])
    corners = prisms.edges[:, :2]
    origin = torch.tensor([-37.3, -81.1, 1.7])
    towards = torch.cat([corners - origin[:2], torch.zeros(len(corners), 1)], dim=1)
    centre = torch.tensor([50.0, 20.0]) - origin[:2]
    side = (towards[:, 0] * centre[1] - towards[:, 1] * centre[0]).abs() / towards.norm(dim=1)
    rays = Rays(origin.expand(len(towards), 3), torch.nn.functional.normalize(towards, dim=1))
    assert prisms.cast(rays).hit[side < 9.9].all()


def test_box_and_silhouette():
    """A box 50 m away: depth to a centimetre, its outline to half a pixel."""
    prisms = Prisms.of([shapely.box(-8, 50, 8, 60)], [12.0], [0.0])
    camera = Camera.looking(SceneFrame(None), (0.0, 0.0, 1.7), fov=60, width=320, height=240)
    rays = camera.rays()
    hits = prisms.cast(rays.flat()).reshape(240, 320)
    depth = hits.t * camera.forward(rays)
    assert (depth[hits.hit] - 50).abs().max() < 0.01 and (hits.kind[hits.hit] == WALL).all()
    corners = torch.tensor([[-8.0, 50, 12], [8.0, 50, 12]])
    (left, top), (right, _) = camera.project(corners)[0].tolist()
    columns, rows = hits.hit.any(dim=0).nonzero()[:, 0], hits.hit.any(dim=1).nonzero()[:, 0]
    assert abs(columns.min() - left) <= 0.5 and abs(columns.max() + 1 - right) <= 0.5 and abs(rows.min() - top) <= 0.5


def test_street_canyon():
    """Between two long walls 12 m apart and 15 m high: distance and skyline of a panorama in closed form."""
    prisms = Prisms.of([shapely.box(-30, -3e3, -6, 3e3), shapely.box(6, -3e3, 30, 3e3)], [15.0, 15.0], [0.0, 0.0])
    pano = Panorama(360, 180, np.array([0.0, 0.0, 1.7]))
    hits = prisms.cast(pano.rays().flat()).reshape(180, 360)
    azimuth = torch.deg2rad((torch.arange(360) + 0.5) / 360 * 360 - 180).to(D)
    across = azimuth.sin().abs()
    skyline = torch.rad2deg(torch.atan2(13.3 * across, torch.tensor(6.0, dtype=D)))
    level = hits.t[89] * math.cos(math.radians(0.5))  # the row just above the horizon
    aside = across > 0.1
    assert (level[aside] - 6 / across[aside]).abs().max() < 0.01
    seen = hits.hit[:90].sum(dim=0)  # rows of wall above the horizon, one degree each
    assert (seen[aside] - skyline[aside]).abs().max() <= 0.5 + 1e-6


def test_gradients_of_prisms():
    rays = some_rays(300, 22, low=12, high=16, spread=12)
    rays = Rays(rays.origins, torch.nn.functional.normalize(rays.directions - torch.tensor([0, 0, 1.0]), dim=1))
    tops = torch.tensor([7.0, 11.0, 4.5], dtype=D, requires_grad=True)

    def of(top):
        prisms = town()
        hits = Prisms(prisms.footprints, top, prisms.base, prisms.edges, prisms.owner, prisms.along).cast(rays)
        return torch.where(hits.kind == ROOF, hits.t, 0)

    assert (of(tops) > 0).sum() > 20
    assert torch.autograd.gradcheck(of, (tops,), atol=1e-5)


def test_gradients_of_walls():
    prisms = town()
    origins = torch.tensor([[-20.0, 0.3, 1.0], [8.0, -9.0, 2.0], [25.0, 7.0, 3.0]], dtype=D)
    aims = torch.tensor([[0.0, 0.7, 3.0], [14.0, 1.0, 3.0], [11.0, 6.0, 4.0]], dtype=D)
    rays = Rays(origins, torch.nn.functional.normalize(aims - origins, dim=1))
    edges = prisms.edges.clone().requires_grad_()

    def of(edges):
        return Prisms(prisms.footprints, prisms.top, prisms.base, edges, prisms.owner, prisms.along).cast(rays).t

    hits = prisms.cast(rays)
    assert (hits.kind == WALL).all() and len(hits.edge.unique()) == 3
    assert torch.autograd.gradcheck(of, (edges,), atol=1e-5)


def test_over_names_the_building():
    x, y = torch.tensor([0.0, -4.0, 11.0, 17.0, 17.0, 40.0]), torch.tensor([0.0, 0.0, 8.0, 8.0, 1.0, 0.0])
    assert town(torch.float32).over(x, y).tolist() == [-1, 0, 1, -1, 1, -1]
    assert Prisms.none().over(x, y).tolist() == [-1] * 6
    assert not Prisms.none().cast(some_rays(5, 1)).hit.any()


def test_edges_have_the_inside_on_their_left():
    prisms = town()
    middle = (prisms.edges[:, :2] + prisms.edges[:, 2:]) / 2
    along = torch.nn.functional.normalize(prisms.edges[:, 2:] - prisms.edges[:, :2], dim=1)
    left = middle + 0.01 * torch.stack([-along[:, 1], along[:, 0]], dim=1)
    assert prisms.over(*left.unbind(1)).tolist() == prisms.owner.tolist()
    lengths = (prisms.edges[:, 2:] - prisms.edges[:, :2]).norm(dim=1)
    torch.testing.assert_close(prisms.along[1:4], lengths[:3].cumsum(0))


def solids():
    turn = {"yaw": torch.tensor([30.0], dtype=D)}
    return (
        Objects.ellipsoids(torch.tensor([[0.0, 0, 6]], dtype=D), torch.tensor([[3.0, 2, 2.5]], dtype=D), **turn)
        + Objects.cones(torch.tensor([[8.0, 1, 3]], dtype=D), torch.tensor([[2.0, 2, 3]], dtype=D), taper=0.3)
        + Objects.cones(torch.tensor([[-7.0, -5, 2]], dtype=D), torch.tensor([[1.0, 1.5, 2]], dtype=D), **turn)
        + Objects.boxes(torch.tensor([[-4.0, 7, 1]], dtype=D), torch.tensor([[2.5, 1, 1]], dtype=D), **turn)
        + Objects.cones(torch.tensor([[3.0, -8, 4]], dtype=D), torch.tensor([[2.0, 2, 4]], dtype=D), taper=0.0)
        + Objects.gables(torch.tensor([[-11.0, 3, 2]], dtype=D), torch.tensor([[3.0, 2, 1.5]], dtype=D), **turn)
        + Objects.hips(torch.tensor([[9.0, 9, 2]], dtype=D), torch.tensor([[3.0, 2, 1]], dtype=D), taper=0.2, **turn)
    )


def inside_solids(points):
    """The same solids by their inequalities."""

    def own(centre, yaw):
        x, y, z = (points - np.array(centre)).T
        a = math.radians(yaw)
        return math.cos(a) * x - math.sin(a) * y, math.sin(a) * x + math.cos(a) * y, z

    x, y, z = own((0, 0, 6), 30)
    found = (x / 3) ** 2 + (y / 2) ** 2 + (z / 2.5) ** 2 <= 1
    x, y, z = own((8, 1, 3), 0)
    found |= (np.abs(z) <= 3) & (np.hypot(x, y) <= 2 * (1 - 0.7 * (z + 3) / 6))
    x, y, z = own((-7, -5, 2), 30)
    found |= (np.abs(z) <= 2) & (x**2 + (y / 1.5) ** 2 <= 1)
    x, y, z = own((-4, 7, 1), 30)
    found |= (np.abs(x) <= 2.5) & (np.abs(y) <= 1) & (np.abs(z) <= 1)
    x, y, z = own((3, -8, 4), 0)
    found |= (np.abs(z) <= 4) & (np.hypot(x, y) <= 2 * (1 - (z + 4) / 8))
    x, y, z = own((-11, 3, 2), 30)
    found |= (np.abs(z) <= 1.5) & (np.abs(x) <= 3) & (np.abs(y) <= 2 * (1 - (z + 1.5) / 3))
    x, y, z = own((9, 9, 2), 30)
    lost = 2 * 0.8 * (z + 1) / 2  # metres by which each side has come in
    return found | (np.abs(z) <= 1) & (np.abs(x) <= 3 - lost) & (np.abs(y) <= 2 - lost)


def test_solids_equal_small_steps():
    rays = some_rays(1500, 23, low=0.2, high=12, spread=12)
    out = ~inside_solids(rays.origins.numpy())
    centres = solids().centre
    aim = centres[torch.arange(len(rays.origins)) % 7] + 1.5 * rays.directions
    directions = torch.nn.functional.normalize(aim - rays.origins, dim=1)[out][:420]
    rays = Rays(rays.origins[out][:420], directions)
    expected = np.array(
        [
            implicit_hit(inside_solids, o, d, 40.0, 4e-3)
            for o, d in zip(rays.origins.numpy(), rays.directions.numpy(), strict=True)
        ]
    )
    hits = solids().cast(rays)
    t = hits.t.numpy()
    both = np.isfinite(expected)
    assert both.mean() > 0.6 and np.isfinite(t)[both].all()
    assert (np.isfinite(t) == both).mean() > 0.99  # the small steps miss what is thinner than they are
    close = np.abs(t[both] - expected[both]) < 1e-6
    assert close.mean() > 0.99 and set(hits.index[torch.as_tensor(both)].tolist()) == set(range(7))
    # the normal is the direction in which one leaves the solid
    at = rays.at(hits.t)[torch.as_tensor(both)].numpy()
    n = hits.normal[torch.as_tensor(both)].numpy()
    np.testing.assert_allclose(np.linalg.norm(n, axis=1), 1, atol=1e-9)
    assert inside_solids(at - 1e-5 * n).mean() > 0.99 and not inside_solids(at + 1e-5 * n).any()
    assert (hits.kind[torch.as_tensor(both)] == OBJECT).all()


def test_plumb_lines_meet_solids_only_over_their_plan():
    x, y = torch.meshgrid(torch.linspace(-14, 14, 57), torch.linspace(-14, 14, 57), indexing="ij")
    down = torch.tensor([[0.0, 0, -1]]).expand(x.numel(), 3)
    hits = solids().to(dtype=torch.float32).cast(Rays(torch.stack([x, y, 0 * x + 20], dim=-1).reshape(-1, 3), down))
    z = np.linspace(0.01, 12, 400)
    columns = np.stack(np.broadcast_arrays(x.numpy()[..., None], y.numpy()[..., None], z), axis=-1).reshape(-1, 3)
    inside = inside_solids(columns).reshape(-1, 400)
    top = np.where(inside.any(axis=1), z[399 - inside[:, ::-1].argmax(axis=1)], np.nan)
    high = (20 - hits.t).numpy()
    both = hits.hit.numpy() & ~np.isnan(top)
    assert both.sum() > 100 and (hits.hit.numpy() == ~np.isnan(top)).mean() > 0.98
    assert np.abs(high - top)[both].max() < 0.3 and np.median(np.abs(high - top)[both]) < 0.031


def test_gradients_of_solids():
    made = solids()
    rays = Rays(
        torch.tensor([[0.3, -30.0, 5.5], [8.2, -20.0, 2.0], [-4.0, 30.0, 1.2]], dtype=D),
        torch.tensor([[0.0, 1, 0], [0.0, 1, 0], [0.0, -1, 0]], dtype=D),
    )

    def distance(centre, half):
        return (
            Objects(made.shape, centre, half, made.yaw, made.taper, made.classes, made.colour, made.label).cast(rays).t
        )

    inputs = (made.centre.clone().requires_grad_(), made.half.clone().requires_grad_())
    assert torch.isfinite(distance(*inputs)).all()
    assert torch.autograd.gradcheck(distance, inputs, atol=1e-5)


def test_a_thousand_far_spheres_in_float32():
    draw = np.random.default_rng(3)
    centre = torch.tensor(np.column_stack([draw.uniform(-400, 400, (1000, 2)), draw.uniform(1, 20, 1000)]))
    half = torch.full((1000, 3), 1.5, dtype=D)
    rays = some_rays(4000, 24, low=30, high=60, spread=300)
    exact = Objects.ellipsoids(centre, half).cast(rays)
    single = Objects.ellipsoids(centre.float(), half.float()).cast(rays.to(dtype=torch.float32))
    # against all spheres at once
    o, d = rays.origins[:, None] - centre, rays.directions[:, None]
    b, c = (o * d).sum(-1), (o * o).sum(-1) - 1.5**2
    inside = b * b - c
    t = torch.where((inside >= 0) & (b < 0), -b - inside.clamp(min=0).sqrt(), torch.inf).amin(dim=1)
    torch.testing.assert_close(exact.t, t, atol=1e-6, rtol=0)
    both = exact.hit & single.hit
    assert (exact.hit == single.hit).double().mean() > 0.999
    assert ((exact.t - single.t)[both].abs() < 0.01).double().mean() > 0.98


def test_bad_solids():
    with pytest.raises(InputError, match="no size"):
        Objects.boxes(torch.zeros(1, 3), torch.tensor([[1.0, 0, 1]]))
    with pytest.raises(InputError, match="1 footprints have 2 tops"):
        Prisms.of([COURT], [1.0, 2.0], [0.0, 0.0])
