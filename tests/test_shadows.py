"""Heights from shadows: exact renders of boxes under a known sun, and what is refused."""

import functools
import math

import numpy as np
import pytest
import shapely
import torch

from gensat.errors import InputError
from gensat.geo.shadows import colour_patches, heights_from_shadows, shadow_mask, shadow_runs
from gensat.geo.sun import SunPosition
from gensat.render.cameras import OrthographicCamera
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

GSD = 0.5
BOXES = {12.0: shapely.box(-25, -5, -15, 9), 5.0: shapely.box(8, 8, 20, 18), 15.0: shapely.box(12, -24, 22, -14)}


@functools.cache
def lit(azimuth, elevation):
    """What a camera above sees of three boxes on level ground, and their numbers."""
    grid = Grid.centred(200, 200, GSD)
    image = torch.full((200, 200, 3), 0.55)
    numbers = np.zeros((200, 200), np.int64)
    x, y = (v.numpy() for v in grid.centres())
    for number, box in enumerate(BOXES.values(), 1):
        inside = shapely.contains_xy(box, x, y)
        numbers[inside] = number
        image[torch.from_numpy(inside)] = torch.tensor([0.75, 0.45, 0.3])
    prisms = Prisms.of(list(BOXES.values()), list(BOXES), [0.0] * len(BOXES))
    field = HeightField(torch.zeros(200, 200), grid)
    classes = torch.ones(200, 200, dtype=torch.int64)
    scene = Scene(SceneFrame(None), image, field, prisms, Objects.none(), classes, grid)
    light = SceneLight(SkyLight(Sky(SunPosition(azimuth, elevation).direction())))
    camera = OrthographicCamera.above((0.0, 0.0, 60.0), 200, 200, GSD)
    return render(scene, camera, light=light).rgb.clamp(0, 1).numpy(), numbers


@pytest.mark.parametrize(("azimuth", "elevation"), [(180.0, 45.0), (135.0, 40.0), (250.0, 55.0), (20.0, 35.0)])
@pytest.mark.parametrize("given", [True, False])
def test_boxes_have_the_heights_of_their_shadows(azimuth, elevation, given):
    rgb, numbers = lit(azimuth, elevation)
    sun = SunPosition(azimuth, elevation)
    found = heights_from_shadows(rgb, sun, GSD, numbers if given else None)
    pixel = GSD * math.sqrt(2) * math.tan(math.radians(elevation))
    for number, height in enumerate(BOXES, 1):
        assert np.median(found.heights[numbers == number]) == pytest.approx(height, abs=pixel)
    ground = found.heights[numbers == 0]
    assert (ground == 0).mean() > 0.98 and found.measured == 3


def test_the_mask_is_where_the_renderer_put_shadows():
    rgb, _ = lit(150.0, 40.0)
    mask = shadow_mask(rgb)
    dark = rgb.mean(axis=2) < 0.35
    assert (mask != dark).mean() < 0.01 and 0.02 < mask.mean() < 0.2


def test_without_a_sun_in_the_picture_nothing_is_a_shadow():
    rng = np.random.default_rng(0)
    flat = np.clip(rng.normal(0.5, 0.05, (64, 64, 3)), 0, 1).astype(np.float32)
    found = heights_from_shadows(flat, SunPosition(150, 40), GSD)
    assert not found.shadows.any() and not found.heights.any() and found.measured == 0


def test_runs_go_away_from_the_sun_and_end_at_the_border():
    mask = np.zeros((12, 12), bool)
    mask[3:8, 4] = True  # sun in the north: it begins in row 3
    starts, lengths = shadow_runs(mask, 0.0)
    assert np.argwhere(starts).tolist() == [[3, 4]] and lengths[3, 4] == 5
    starts, lengths = shadow_runs(mask, 180.0)
    assert np.argwhere(starts).tolist() == [[7, 4]] and lengths[7, 4] == 5
    mask[3:, 4] = True
    starts, lengths = shadow_runs(mask, 0.0)
    assert np.isnan(lengths[3, 4]) and shadow_runs(mask, 180.0)[1][5, 4] == 3


def test_patches_are_the_boxes():
    rgb, numbers = lit(135.0, 40.0)
    patches = colour_patches(rgb, shadow_mask(rgb), GSD)
    for number in (1, 2, 3):
        inside = patches[numbers == number]
        label = np.bincount(inside).argmax()
        overlap = ((patches == label) & (numbers == number)).sum() / ((patches == label) | (numbers == number)).sum()
        assert label > 0 and overlap > 0.8  # the edge of a box may be of its neighbour


def test_a_sun_too_low_is_refused():
    with pytest.raises(InputError, match=r"2\.0 degrees high"):
        heights_from_shadows(np.zeros((8, 8, 3), np.float32), SunPosition(90, 2), GSD)
