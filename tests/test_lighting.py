"""A light on a rendered scene: shadows as long as they should be, air, and the picture's own colours in the open."""

import math
import re
from pathlib import Path

import pytest
import shapely
import torch

import gensat
from gensat.geo.sun import SunPosition
from gensat.render.cameras import Camera, OrthographicCamera
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.light import SkyLight
from gensat.render.lighting import SceneLight
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.scene import Scene
from gensat.render.sky import Sky


@pytest.fixture(scope="module")
def scene():
    """Grey level ground, 80 m x 80 m, and a block 10 m x 10 m and 8 m high in its middle."""
    grid = Grid.centred(160, 160, 0.5)
    return Scene(
        frame=SceneFrame(None),
        image=torch.full((160, 160, 3), 0.45),
        terrain=HeightField(torch.zeros(160, 160), grid),
        buildings=Prisms.of([shapely.box(-5, -5, 5, 5)], [8.0], [0.0]),
        objects=Objects.none(),
        classes=torch.ones(160, 160, dtype=torch.int64),
        grid=grid,
    )


def documented(section):
    """The Python of a section of docs/ground.md."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "ground.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    return code


def above():
    return OrthographicCamera.above((0.0, 0.0, 50.0), 160, 160, 0.5)


@pytest.mark.parametrize(("azimuth", "elevation"), [(180, 60), (90, 30)], ids=["noon", "morning"])
def test_the_shadow_of_a_block(scene, azimuth, elevation):
    """8 m high: to the north at noon 8 / tan(60) = 4.62 m, to the west in the morning 8 / tan(30) = 13.86 m, both 10 m wide."""
    view = render(scene, above(), light=SceneLight(SkyLight(Sky(SunPosition(azimuth, elevation), turbidity=2))))
    lit = view.rgb.mean(-1)
    dark = (lit < 0.75 * lit[2, 2]) & (view.kind == 1)
    x, y = (v[dark] for v in scene.grid.centres())
    length = 8 / math.tan(math.radians(elevation))
    along = (y if azimuth == 180 else -x).max() + 0.25 - 5
    across = x if azimuth == 180 else y
    assert float(along) == pytest.approx(length, abs=0.5) and float(across.max() - across.min()) + 0.5 == pytest.approx(
        10, abs=0.6
    )
    assert int(dark.sum()) * 0.25 == pytest.approx(10 * length, rel=0.08)


def test_open_ground_keeps_the_colour_of_the_image(scene):
    view = render(scene, above(), light=SceneLight(SkyLight(Sky(SunPosition(180, 50))), shadows=True))
    assert torch.allclose(view.rgb[4, 4].mean(), torch.tensor(0.45), atol=0.02) and bool(view.seen[4, 4])


def test_the_documented_light_runs(scene):
    pytest.importorskip("pvlib")
    names = {"gensat": gensat, "scene": scene, "camera": above(), "render": render}
    exec(documented("Light"), names)
    assert names["view"].rgb.shape == (160, 160, 3) and names["sun"].azimuth < 180  # a morning in Virginia


@pytest.mark.slow
def test_the_documented_streets_run(tmp_path, monkeypatch):
    pytest.importorskip("pvlib")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(documented("Streets"), names)
    assert (
        names["view"].rgb.shape == (256, 512, 3) and len(names["views"]) == 4 and (tmp_path / "village.tif").is_file()
    )


def test_fog_hides_what_is_far(scene):
    camera = Camera.looking(scene.frame, (0.0, -39.0, 1.7), heading=0, fov=60, width=64, height=64)
    sky = Sky(SunPosition(180, 50), cloud_cover=1.0)
    clear, foggy = (render(scene, camera, light=SceneLight(SkyLight(sky), visibility=far)) for far in (50_000, 40))
    wall = clear.kind == 3
    air = foggy.rgb[foggy.sky][-64:].mean(0)
    assert wall.any() and (foggy.rgb[wall] - air).abs().mean() < 0.4 * (clear.rgb[wall] - air).abs().mean()
    assert torch.equal(foggy.distance, clear.distance)


def test_night_has_no_shadows_and_a_sky(scene):
    view = render(scene, above(), light=SceneLight(SkyLight(Sky(SunPosition(0, -8)))))
    assert (
        torch.isfinite(view.rgb).all() and 0.2 < float(view.rgb[4, 4].mean()) < 0.7
    )  # exposed for what light there is


def test_soft_shadows_have_a_penumbra(scene):
    hard, soft = (
        render(scene, above(), light=SceneLight(SkyLight(Sky(SunPosition(90, 20), turbidity=2)), samples=n)).rgb.mean(
            -1
        )
        for n in (1, 8)
    )
    levels = soft[80, :70].mul(100).round().unique()
    assert len(levels) >= len(hard[80, :70].mul(100).round().unique()) and (soft - hard).abs().max() > 0.005
