"""Ground views on a GPU: the same geometry as on the CPU, and a refiner in half precision that paints the same picture."""

import pytest
import torch
from solid_toys import FRAME, village
from test_ground_pipeline import FEW, pipe, standing  # noqa: F401  # pipe is a fixture

from gensat.geo.sun import SunPosition
from gensat.render.cameras import Panorama
from gensat.render.gbuffers import render
from gensat.render.light import SkyLight
from gensat.render.lighting import SceneLight
from gensat.render.sky import Sky
from gensat.render.streets.dress import DressedLight

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("lit", ["image light", "sun", "facades"])
def test_a_panorama_is_that_of_the_cpu(lit):
    scene = village(64, 0.5)
    camera = Panorama.looking(FRAME, (0.0, -13.0, 1.7), width=512, height=256)
    views = []
    for device in ("cpu", "cuda"):
        placed, sky = scene.to(device), SkyLight(Sky(SunPosition(150, 42)))
        light = {"sun": SceneLight(sky), "facades": DressedLight(placed, sky, style="village")}.get(lit)
        views.append(render(placed, camera, light=light))
    here, there = views
    assert there.rgb.device.type == "cuda"
    same = here.kind == there.kind.cpu()
    assert same.float().mean() > 0.999  # rays along an edge may pass it on its other side
    near = same & torch.isfinite(here.distance)
    assert ((here.distance - there.distance.cpu()).abs()[near] < 0.01).float().mean() > 0.999
    assert ((here.rgb - there.rgb.cpu()).abs().amax(-1)[same] < 0.02).float().mean() > 0.995


def test_half_precision_paints_the_same(pipe):  # noqa: F811
    raw = render(village(64, 0.5), standing())
    full = pipe(raw, **FEW).views[0].rgb
    half = pipe.to("cuda", torch.float16)(raw, **FEW).views[0].rgb
    pipe.to("cpu", torch.float32)
    assert -10 * torch.log10((full - half).square().mean()) > 35
