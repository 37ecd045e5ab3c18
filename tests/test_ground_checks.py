"""One ball 50 m away as solid, mesh, density field and splats; rendered panoramas against py360convert; heights of every kind on the command line."""

import json
import math

import numpy as np
import pytest
import torch
from pyproj import CRS
from solid_toys import FRAME, village

from gensat.geo.classes import WOODLAND
from gensat.render.cameras import Camera, Panorama
from gensat.render.density import DensityVolume
from gensat.render.gbuffers import render
from gensat.render.objects import Objects
from gensat.render.splats import Splats
from gensat.render.triangles import sphere_mesh

CENTRE, RADIUS = np.array([4.0, 55.0, 6.0]), 5.0
EYE = (0.0, 5.0, 1.7)


def rays(count=15):
    """At the ball's outline and inside it, from 50 m away (float64)."""
    camera = Camera.looking(FRAME, EYE, heading=FRAME.heading(4.6, 0, 5), pitch=4.9, fov=14, width=count, height=count)
    return camera, camera.rays(dtype=torch.float64)


def ball(found):
    """Metres to the ball along each ray, infinite beside it: the quadratic equation."""
    to = found.origins.numpy() - CENTRE
    b = (to * found.directions.numpy()).sum(-1)
    root = b**2 - (to**2).sum(-1) + RADIUS**2
    return np.where(root > 0, -b - np.sqrt(np.maximum(root, 0)), np.inf)


def test_the_solid_ball_is_where_it_is():
    _, found = rays()
    wanted = ball(found)
    solid = Objects.ellipsoids(torch.tensor(CENTRE[None]), torch.full((1, 3), RADIUS), classes=WOODLAND)
    hits = solid.cast(found.flat()).reshape(*found.shape)
    np.testing.assert_allclose(hits.t.numpy(), wanted, atol=1e-5)
    single = solid.cast(found.flat().to(dtype=torch.float32)).reshape(*found.shape).t.double().numpy()
    both = np.isfinite(single) & np.isfinite(wanted)
    assert both.sum() > 80 and np.abs(single - wanted)[both].max() < 0.01
    assert (np.isfinite(single) == np.isfinite(wanted)).all()


def test_the_mesh_of_the_ball_is_within_a_centimetre():
    """Every ray against every triangle (Moller and Trumbore 1997): nothing of ours but the vertices."""
    _, found = rays()
    wanted = ball(found)
    mesh = sphere_mesh(CENTRE.tolist(), RADIUS, 5, FRAME)
    corners = mesh.vertices[mesh.faces]
    first, along, across = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    for origin, way, far in zip(
        found.origins.reshape(-1, 3).numpy(), found.directions.reshape(-1, 3).numpy(), wanted.ravel(), strict=True
    ):
        p = np.cross(way, across)
        scale = (along * p).sum(1)
        to = origin - first
        u = (to * p).sum(1) / scale
        q = np.cross(to, along)
        v, t = (q @ way) / scale, (across * q).sum(1) / scale
        met = t[(u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)]
        grazing = math.isfinite(far) and np.linalg.norm(np.cross(CENTRE - origin, way)) > 0.99 * RADIUS
        if not grazing:
            assert bool(len(met)) == math.isfinite(far)
            assert not len(met) or abs(met.min() - far) < 0.01


def test_the_density_of_the_ball_is_within_a_centimetre():
    """Cells of 25 cm whose density rises steeply from the surface; a ray's mean distance is where it is absorbed."""
    size, cell = 48, 0.25
    middles = (np.arange(size) + 0.5) * cell - size * cell / 2
    z, y, x = np.meshgrid(middles, -middles, middles, indexing="ij")
    inside = RADIUS - np.sqrt(x**2 + y**2 + z**2)
    density = torch.tensor(
        1e6 * np.clip(inside, -2 * cell, None)
    )  # also negative: the zero of the field is the surface
    half = size * cell / 2
    volume = DensityVolume(density, (*(CENTRE - half).tolist(), *(CENTRE + half).tolist()))
    _, found = rays(9)
    wanted = ball(found)
    for origin, way, far in zip(
        found.origins.reshape(-1, 3), found.directions.reshape(-1, 3), wanted.ravel(), strict=True
    ):
        t = torch.arange(44.0, 58.0, 0.002, dtype=torch.float64)
        thickness = volume.sample(origin + t[:, None] * way).clamp(min=0) * 0.002
        spent = 1 - torch.exp(-thickness.cumsum(0))
        beside = float(np.linalg.norm(np.cross(CENTRE - origin.numpy(), way.numpy())))
        if beside > 1.02 * RADIUS:
            assert spent[-1] < 0.01
        elif beside < 0.9 * RADIUS:
            weights = torch.diff(spent, prepend=spent.new_zeros(1))
            assert spent[-1] > 0.999 and abs(float((weights * t).sum()) - far) < 0.01


def test_the_splats_of_the_ball_are_within_a_centimetre():
    """Discs of 7 cm every 5 cm, pixels of 5 cm, up to where the ball is seen at 64 degrees; depth where rays meet their planes."""
    splats = Splats.from_points(sphere_mesh(CENTRE.tolist(), RADIUS, 6, FRAME).points(0.05), 0.12, opacity=0.95)
    camera, found = rays(256)
    wanted = ball(found)
    beside = np.linalg.norm(np.cross(CENTRE - np.array(EYE), found.directions.numpy()), axis=-1)
    facing = beside < 0.9 * RADIUS
    apart = {
        depth: splats.render(camera, depth=depth).distance.double().numpy() - wanted for depth in ("plane", "centre")
    }
    assert facing.sum() > 25_000 and np.abs(apart["plane"][facing]).max() < 0.01
    assert np.median(np.abs(apart["centre"][facing])) > 0.05  # as gsplat has it: the nearest discs hide the others


@pytest.fixture(scope="module")
def around():
    """The village all around from one place, 4 pixels a degree."""
    scene = village()
    camera = Panorama.looking(FRAME, scene.stand((6.0, -12.0)), heading=40, width=1440, height=720)
    return scene, render(scene, camera)


@pytest.mark.parametrize(("heading", "pitch"), [(0, 0), (100, 15), (255, -20)])
def test_a_rendered_panorama_is_one_for_py360convert(around, heading, pitch):
    """Its perspective views of a panorama of ours show what our camera shows: silhouettes within half a pixel of the panorama."""
    py360convert = pytest.importorskip("py360convert")
    (scene, panorama), size = around, 120
    eye = panorama.camera.position
    view = render(scene, Camera.looking(FRAME, eye, heading=40 + heading, pitch=pitch, fov=70, width=size, height=size))
    fov = 2 * math.degrees(math.atan(math.tan(math.radians(35)) * (size - 1) / size))  # its corners are pixel centres
    kind = np.stack([(panorama.kind == k).numpy() for k in range(6)], axis=-1).astype(float)
    theirs = py360convert.e2p(kind, (fov, fov), heading, pitch, (size, size), mode="bilinear")
    ours = np.stack([(view.kind == k).numpy() for k in range(6)], axis=-1)
    sure = theirs.max(-1) > 0.999
    assert sure.mean() > 0.93 and (theirs.argmax(-1) == ours.argmax(-1))[sure].mean() > 0.999
    near = np.where(panorama.sky, 0.0, 1 / panorama.distance.numpy())[..., None]
    inverse = py360convert.e2p(near, (fov, fov), heading, pitch, (size, size), mode="bilinear")[..., 0]
    mine = np.where(view.sky, 0.0, 1 / view.distance.numpy())
    assert np.median(np.abs(inverse - mine)[sure] / np.maximum(mine[sure], 1e-3)) < 2e-3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("feet", "is in ft and was converted"),
        ("another CRS", "from EPSG:3857"),
        ("holes", "6 cells"),
        ("coarser", "2 metre a cell"),
    ],
)
def test_heights_of_every_kind_give_the_same_view_and_say_so(kind, words, tmp_path, capsys):
    """A surface model in feet, in Web Mercator, with holes, of 2 m: the block stands 18 m ahead and 20 m high."""
    import rasterio
    from affine import Affine
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    from gensat.cli import run
    from gensat.geo.crs import to_lonlat
    from gensat.types import GeoImage

    crs, left, top = "EPSG:32633", 500_000.0, 5_500_000.0
    GeoImage(np.full((64, 64, 3), 120, np.uint8), crs=crs, transform=Affine(1, 0, left, 0, -1, top)).save(
        tmp_path / "image.tif"
    )
    heights = np.full((64, 64), 12, np.float32)
    heights[4:14, 20:44] = 32
    grid, system = Affine(1, 0, left, 0, -1, top), crs
    if kind == "feet":
        heights = heights / 0.3048
    elif kind == "holes":
        heights[50:52, 30:33] = np.nan
    elif kind == "coarser":
        heights, grid = heights[::2, ::2].copy(), grid @ Affine.scale(2)
    elif kind == "another CRS":
        system = "EPSG:3857"
        grid, wide, high = calculate_default_transform(
            crs, system, 64, 64, left, top - 64, left + 64, top, resolution=0.5
        )
        warped = np.full((high, wide), np.nan, np.float32)
        reproject(
            heights, warped, src_transform=Affine(1, 0, left, 0, -1, top), src_crs=crs, dst_transform=grid, dst_crs=system,
            dst_nodata=np.nan, resampling=Resampling.nearest,
        )  # fmt: skip
        heights = warped
    with rasterio.open(
        tmp_path / "dsm.tif", "w", driver="GTiff", width=heights.shape[1], height=heights.shape[0], count=1, dtype="float32",
        crs=system, transform=grid, nodata=np.nan,
    ) as file:  # fmt: skip
        file.write(heights, 1)
        file.set_band_unit(1, "ft" if kind == "feet" else "m")
    lon, lat = to_lonlat(CRS.from_string(crs), left + 32, top - 32)
    asked = [
        "ground",
        str(tmp_path / "image.tif"),
        "--heights",
        str(tmp_path / "dsm.tif"),
        "--at",
        f"{lon:.9f}",
        f"{lat:.9f}",
    ]
    asked += ["--width", "90", "--height", "90", "--samples", "1", "-o", str(tmp_path / "a.npz"), "--json"]
    assert run(asked) == 0
    said = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert words in said
    found = np.load(tmp_path / "a.npz")
    apart = 0.01 if kind in ("feet", "holes", "coarser") else 0.8  # half a cell of Web Mercator, rounded to ours
    assert abs(float(found["depth"][40, 45]) - 18) < apart
    wall = found["kind"][:45, 45] != 0
    assert wall.all()  # 18.3 m above the eye at 18 m: higher than the picture
