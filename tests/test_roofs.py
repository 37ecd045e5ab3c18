"""Pitched roofs against their planes: heights, gable ends, normals."""

import math

import pytest
import torch

from gensat.render.objects import Objects
from gensat.render.rays import Rays

HALF = torch.tensor([[5.0, 3.0, 1.25]])


def inside(points, shape, yaw, taper):
    """A slow plain reference: whether points lie in a roof, by the six half-spaces in its own axes."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    x, y, z = c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1], points[..., 2]
    up = (z + 1.25) / 2.5
    wide = 3.0 * (1 - (1 - taper) * up)
    long = 5.0 - (3.0 - wide if shape == "hip" else 0.0)
    return (up >= 0) & (up <= 1) & (y.abs() <= wide) & (x.abs() <= long)


@pytest.mark.parametrize("shape", ["gable", "hip"])
@pytest.mark.parametrize(("yaw", "taper"), [(0.0, 0.0), (35.0, 0.0), (-110.0, 0.6)])
def test_first_hits_are_those_of_marching(shape, yaw, taper):
    make = Objects.gables if shape == "gable" else Objects.hips
    roof = make(torch.zeros(1, 3), HALF, yaw=yaw, taper=taper)
    generator = torch.Generator().manual_seed(1)
    origins = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=1) * 12
    targets = torch.randn(300, 3, generator=generator) * torch.tensor([3.0, 2.0, 0.7])
    rays = Rays(origins, torch.nn.functional.normalize(targets - origins, dim=1))
    steps = torch.arange(0, 26, 0.01)
    there = inside(rays.origins[:, None] + steps[:, None] * rays.directions[:, None], shape, yaw, taper)
    marched = torch.where(there.any(1), steps[there.int().argmax(1)], torch.inf)
    hits = roof.cast(rays)
    both = torch.isfinite(marched) & torch.isfinite(hits.t)
    assert (
        both.sum() > 100 and (torch.isfinite(marched) != torch.isfinite(hits.t)).sum() <= 4
    )  # edges grazed between steps
    assert (marched - hits.t)[both].abs().max() < 0.011
    out = rays.at(hits.t)[both] + 0.01 * hits.normal[both]
    assert (~inside(out, shape, yaw, taper)).float().mean() > 0.99  # normals point outward
    assert torch.allclose(hits.normal[both].norm(dim=1), torch.ones(int(both.sum())))


def test_slopes_of_a_hip_roof_are_equal():
    roof = Objects.hips(torch.zeros(1, 3), HALF)
    down = Rays(torch.tensor([[0.0, 1.5, 9.0], [4.0, 0.0, 9.0]]), torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3))
    hits = roof.cast(down)
    assert (9 - hits.t).tolist() == pytest.approx([0.0, -1.25 + 2.5 / 3])
    slope = math.atan(2.5 / 3)
    assert torch.allclose(
        hits.normal,
        torch.tensor([[0.0, math.sin(slope), math.cos(slope)], [math.sin(slope), 0.0, math.cos(slope)]]),
        atol=1e-5,
    )


def test_height_is_differentiable():
    half = HALF.double().requires_grad_()
    ray = Rays(
        torch.tensor([[0.3, 1.0, 9.0]], dtype=torch.float64), torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    )
    assert torch.autograd.gradcheck(lambda h: Objects.gables(torch.zeros(1, 3).double(), h).cast(ray).t, half)
