"""The table of docs/ground.md on distillation, made again: how far refined renders bring splats towards a known truth."""

import pytest
import torch
from solid_toys import village

import gensat
from gensat.render.gbuffers import render
from gensat.render.paths import orbit
from gensat.render.rays import WALL
from gensat.render.splats import Splats
from gensat.train.splat_fit import Target, fit, psnr
from gensat.train.splat_priors import Refiner, ScorePrior
from gensat.train.splats import distil, from_above, score

STEPS = 100  # of fitting, an episode


def facade(surfels):
    """Walls with a window every two metres."""
    u, v = surfels.uv.unbind(1)
    window = ((u % 2.0 - 1).abs() < 0.45) & ((v % 2.6 - 1.3).abs() < 0.6)
    wall = torch.where(window[:, None], torch.tensor([0.15, 0.2, 0.3]), torch.tensor([0.85, 0.6, 0.4]))
    return torch.where((surfels.kind == WALL)[:, None], wall, surfels.rgb)


def around(elevation, count, start):
    return orbit((0, 0, 2), radius=42, elevation=elevation, count=count, fov=40, width=64, height=64, start=start)


@pytest.fixture(scope="module")
def known():
    scene = village(64, 0.5)

    def truth(camera):
        view = render(scene, camera, shader=facade)
        return Target(camera, view.rgb, view.opacity * ~((view.kind == WALL) & (view.index < 0)))

    held_out = [truth(camera) for elevation in (65, 45, 30) for camera in around(elevation, 4, 23.0)]
    return truth, held_out, Splats.from_scene(scene, 0.5), [from_above(scene)]


def episodes(known, refine, elevations):
    """PSNR to the held-out views after each elevation."""
    _, held_out, splats, kept = known
    found = []
    for number, elevation in enumerate(elevations):
        cameras = around(elevation, 8, 17.0 * number)
        splats, _ = distil(splats, cameras, kept, refine, steps=STEPS, seed=number)
        found.append(round(psnr(splats, held_out), 2))
    return found


@pytest.mark.slow
def test_the_truth_as_refiner(known):
    truth, held_out, splats, _ = known

    def refine(image, view):
        target = truth(view.camera)
        return torch.where(target.opacity[..., None] > 0, target.image, image)

    found = episodes(known, refine, (75, 55, 35))
    print("truth", round(psnr(splats, held_out), 2), found)
    assert found[0] < found[1] < found[2] and found[2] > psnr(splats, held_out) + 3.5


@pytest.mark.slow
def test_the_shipped_model_as_refiner(known):
    _, held_out, splats, kept = known
    pipe = gensat.load("gensat-small", device="cpu")
    alone = psnr(fit(splats, kept, steps=3 * STEPS), held_out)
    found = episodes(known, Refiner(pipe, "houses", strength=0.2), (85, 75, 65))
    scored = psnr(score(splats, around(75, 8, 0.0), kept, ScorePrior(pipe, "houses"), steps=STEPS), held_out)
    plain = episodes(known, lambda image, view: image, (75, 55, 35))
    print("image alone", round(alone, 2), "model", found, "score", round(scored, 2), "no refiner", plain)
    assert found[2] > alone + 0.1 and scored > psnr(splats, held_out) and found[2] > max(plain)
