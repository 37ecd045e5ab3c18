"""Splats fitted to pictures and distilled from a diffusion model, on scenes whose truth is known."""

import json

import numpy as np
import pytest
import torch
from solid_toys import FRAME, village
from toys import toy_pipeline

from gensat.errors import InputError
from gensat.render.cameras import OrthographicCamera, Panorama
from gensat.render.export.splats import load_splats, save_splats
from gensat.render.gbuffers import render
from gensat.render.paths import orbit
from gensat.render.rays import WALL
from gensat.render.splats import Splats
from gensat.render.triangles import scene_points
from gensat.train.recipe import load_recipe
from gensat.train.splat_fit import Target, colour_points, fit, photometric_loss, psnr
from gensat.train.splat_priors import Refiner, ScorePrior, view_gsd
from gensat.train.splats import distil, from_above, score, train

torch.manual_seed(0)


def facade(surfels):
    """Walls with windows, which no satellite sees and the splats do not begin with."""
    u, v = surfels.uv.unbind(1)
    window = ((u % 4.0 - 2).abs() < 0.9) & ((v % 4.0 - 2).abs() < 1.1)
    wall = torch.where(window[:, None], torch.tensor([0.1, 0.15, 0.3]), torch.tensor([0.9, 0.6, 0.35]))
    return torch.where((surfels.kind == WALL)[:, None], wall, surfels.rgb)


def around(elevation, count, start=0.0, size=32):
    return orbit((0, 0, 2), radius=42, elevation=elevation, count=count, fov=45, width=size, height=size, start=start)


@pytest.fixture(scope="module")
def scene():
    return village()


@pytest.fixture(scope="module")
def splats(scene):
    return Splats.from_scene(scene, 0.85)


def truth(scene, cameras):
    """Exact views; the sides of the block that the scene is cut from count as sky."""
    made = []
    for camera in cameras:
        view = render(scene, camera, shader=facade)
        side = (view.kind == WALL) & (view.index < 0)
        made.append(Target(camera, view.rgb, view.opacity * ~side))
    return made


@pytest.fixture(scope="module")
def held_out(scene):
    return truth(scene, [*around(50, 3, 23.0), *around(30, 3, 51.0)])


def test_fitting_brings_views_that_were_not_fitted_nearer(scene, splats, held_out):
    before = psnr(splats, held_out)
    losses = []
    made = fit(
        splats,
        truth(scene, [*around(60, 4), *around(35, 4, 11.0)]),
        steps=60,
        on_step=lambda _, loss: losses.append(loss),
    )
    assert psnr(made, held_out) > before + 1.5
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10]) and len(losses) == 60
    assert (made.means - splats.means[: len(made)]).abs().max() > 0 and torch.equal(
        splats.opacities, torch.full_like(splats.opacities, 0.9)
    )
    assert not made.means.requires_grad and made.frame == FRAME
    moved = made.means - splats.means if len(made) == len(splats) else torch.zeros(1)
    assert float(moved.abs().max()) < 1.5  # kept near where they began


def test_colouring_leaves_the_geometry_alone(scene, held_out):
    points = scene_points(scene, 0.85)
    plain = Splats.from_points(points, 0.85, opacity=0.95)
    made = colour_points(points, truth(scene, [*around(60, 4), *around(35, 4, 11.0)]), 0.85, steps=50)
    for name in ("means", "quats", "scales", "opacities", "classes", "seen"):
        assert torch.equal(getattr(made, name), getattr(plain, name)), name
    assert psnr(made, held_out) > psnr(plain, held_out) + 0.7
    walls = torch.from_numpy(points.kinds == WALL)
    assert float((made.colors - plain.colors)[walls].abs().mean()) > 0.05


def test_the_loop_learns_from_what_refines_its_renders(scene, splats, held_out):
    """A refiner that knows the truth: the upper bound of what a diffusion model can teach."""
    seen = []

    def refine(image, view):
        assert image.shape == (32, 32, 3) and torch.equal(image, view.rgb)
        seen.append(view.camera)
        (known,) = truth(scene, [view.camera])
        return torch.where(known.opacity[..., None] > 0, known.image, image)

    cameras = around(45, 6)
    made, fresh = distil(splats, cameras, [from_above(scene)], refine, steps=50)
    assert seen == cameras and len(fresh) == 6
    assert psnr(made, held_out) > psnr(splats, held_out) + 0.5
    assert psnr(made, [from_above(scene)]) > psnr(splats, [from_above(scene)]) - 1.0  # the image is not forgotten


def test_the_same_seed_gives_the_same_splats(scene, splats):
    targets = truth(scene, around(60, 3))
    first, again, other = (fit(splats, targets, steps=4, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.sh, again.sh) and torch.equal(first.means, again.means)
    assert not torch.equal(first.sh, other.sh)


def test_loss_of_a_perfect_picture_is_nothing():
    image = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(1))
    target = Target(around(60, 1, size=16)[0], image)
    assert float(photometric_loss(image, torch.ones(16, 16), target)) == pytest.approx(0, abs=1e-5)
    worse = [float(photometric_loss(image + d, torch.ones(16, 16), target)) for d in (0.05, 0.1)]
    assert 0.03 < worse[0] < worse[1]
    assert float(photometric_loss(image, torch.full((16, 16), 0.5), target)) == pytest.approx(0.1, abs=1e-4)


def test_the_image_from_above_is_on_its_own_grid(scene, splats):
    target = from_above(scene)
    exact = render(scene, target.camera)
    assert float((exact.rgb - target.image).abs()[exact.seen].max()) < 2e-3
    assert psnr(splats, [target]) > 20


@pytest.fixture(scope="module")
def pipe():
    return toy_pipeline()


def test_refiner_keeps_size_sky_and_seed(splats, pipe):
    view = splats.render(around(25, 1, size=41)[0], background=torch.tensor([0.2, 0.4, 0.9]))
    assert view.sky.any() and not view.sky.all()
    refine = Refiner(pipe, "houses", strength=0.5, steps=4, seed=3)
    made = refine(view.rgb, view)
    assert made.shape == view.rgb.shape and torch.isfinite(made).all()
    assert torch.equal(made[view.sky], view.rgb[view.sky]) and float((made - view.rgb)[~view.sky].abs().max()) > 0.01
    assert torch.equal(made, refine(view.rgb, view))
    assert not torch.equal(made, Refiner(pipe, "houses", strength=0.5, steps=4, seed=4)(view.rgb, view))


def test_score_of_a_model_that_is_right_is_nothing(splats, pipe, monkeypatch):
    """Where the network predicts the very noise that was added there is no gradient; elsewhere it is (1 - s)(v - (n - x))."""
    prior = ScorePrior(pipe, "houses", guidance_scale=1.0)
    view = splats.render(around(75, 1)[0])
    latents = torch.randn(1, pipe.codec.channels, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(prior, "denoiser", lambda x, t, inputs: noise - latents)
    assert float(prior.direction(latents, noise, 0.4, view).abs().max()) < 1e-6
    given = {}

    def half(x, t, inputs):
        given.update(x=x, t=float(t))
        return noise - latents + 2.0

    monkeypatch.setattr(prior, "denoiser", half)
    torch.testing.assert_close(prior.direction(latents, noise, 0.4, view), torch.full_like(latents, 1.2))
    torch.testing.assert_close(given["x"], 0.6 * latents + 0.4 * noise)
    assert given["t"] == pytest.approx(400.0)


def test_score_reaches_the_splats_and_nothing_else(splats, pipe):
    prior = ScorePrior(pipe, "houses")
    made = splats.part(torch.arange(0, len(splats), 3))
    made.sh.requires_grad_()
    view = made.render(around(75, 1)[0])
    view.rgb.retain_grad()
    prior.loss(view, 5).backward()
    assert torch.isfinite(made.sh.grad).all() and (made.sh.grad != 0).any()
    assert all(p.grad is None for p in pipe.unet.parameters())
    with torch.no_grad():
        assert float(prior.loss(view, 5)) == float(prior.loss(view, 5)) != float(prior.loss(view, 6))
    with pytest.raises(InputError, match="multiples of"):
        prior.loss(splats.render(around(75, 1, size=30)[0]), 0)


def test_score_distillation_of_a_model_that_wants_one_picture(splats, pipe, monkeypatch):
    """A network whose answer points to the latent of one grey picture: the views become that picture, geometry stays."""
    prior = ScorePrior(pipe, "houses", guidance_scale=1.0, noise=(0.4, 0.6))
    wanted = pipe.codec.encode(torch.full((1, 3, 32, 32), 0.2))
    factor = pipe.codec.factor

    def towards(x, t, inputs):  # v = (x_s - x) / s for the wanted x
        assert x.shape[-1] == 32 // factor
        return (x - wanted) / (float(t) / 1000)

    monkeypatch.setattr(prior, "denoiser", towards)
    cameras = around(75, 3)

    def away(made):
        with torch.no_grad():
            return float(
                sum(
                    (pipe.codec.encode(made.render(c).rgb.permute(2, 0, 1)[None] * 2 - 1) - wanted).square().mean()
                    for c in cameras
                )
            )

    made = score(splats, cameras, [], prior, steps=30, weight=1.0)
    assert away(made) < 0.8 * away(splats) and torch.equal(made.means, splats.means)


def small_recipe(tmp_path, **changes):
    values = {
        "out": tmp_path / "run", "splats": tmp_path / "start.ply", "model": tmp_path / "model", "elevations": "[80,60]",
        "radii": "[1.4,1.3]", "views": 2, "size": 32, "steps": 3, "log_every": 2, "tensorboard": "false", **changes,
    }  # fmt: skip
    return load_recipe("splats", [f"{k}={v}" for k, v in values.items()])


@pytest.mark.parametrize("method", ["refine", "score"])
def test_a_recipe_runs_and_goes_on(tmp_path, splats, pipe, method):
    pipe.save_pretrained(tmp_path / "model")
    save_splats(splats.part(torch.arange(0, len(splats), 3)), tmp_path / "start.ply")
    outcome = train(small_recipe(tmp_path, method=method))
    made = load_splats(outcome.weights)
    assert outcome.steps == 6 and len(made) > 100 and made.frame == FRAME
    assert sorted(p.name for p in (tmp_path / "run").glob("*.ply")) == [
        "episode-01.ply",
        "episode-02.ply",
        "splats.ply",
    ]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6] and all(np.isfinite(line["loss"]) for line in lines)
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2
    before = (tmp_path / "run" / "episode-01.ply").stat().st_mtime_ns
    (tmp_path / "run" / "episode-02.ply").unlink()
    again = train(small_recipe(tmp_path, method=method))
    assert (tmp_path / "run" / "episode-01.ply").stat().st_mtime_ns == before
    assert torch.allclose(load_splats(again.weights).sh, made.sh, atol=1e-4)
    with pytest.raises(InputError, match="holds a run with views=2"):
        train(small_recipe(tmp_path, method=method, views=3))


def test_bad_input_is_one_sentence(tmp_path, scene, splats, pipe):
    view = splats.render(Panorama(32, 16, np.array([0.0, -12, 4])))
    camera = around(60, 1)[0]
    save_splats(splats, tmp_path / "start.ply")
    for call, words in [
        (lambda: fit(splats, [], steps=1), "nothing to fit"),
        (lambda: Target.of(view), "panorama"),
        (lambda: Target(camera, torch.zeros(8, 8, 3)), "does not fit its camera"),
        (lambda: Target(camera, torch.full((32, 32, 3), torch.nan)), "not finite"),
        (lambda: Refiner(pipe, strength=0), "strength"),
        (lambda: ScorePrior(pipe, noise=(0.5, 0.2)), "noise levels"),
        (lambda: distil(splats, [camera], [], lambda i, v: i, steps=1, share=2), "share"),
        (lambda: orbit((0, 0, 0), radius=-1, elevation=40, count=3), "orbit"),
        (lambda: train(small_recipe(tmp_path, method="dream")), "refine, score"),
        (lambda: train(small_recipe(tmp_path, elevations="[80]")), "1 elevations come with 2 radii"),
        (lambda: train(small_recipe(tmp_path, elevations="[80,95]")), "elevation 95"),
        (lambda: train(small_recipe(tmp_path, splats="null")), "give splats=FILE.ply, or image="),
        (lambda: train(small_recipe(tmp_path, image="a.tif")), "give splats=FILE.ply, or image="),
    ]:
        with pytest.raises(InputError, match=words):
            call()
    assert not (tmp_path / "run").exists()


def test_orbits_look_at_the_middle():
    for elevation in (90, 60, 10, -10):
        for k, camera in enumerate(orbit((3, -4, 5), radius=20, elevation=elevation, count=4, start=30)):
            pixel, distance, inside = camera.project(torch.tensor([[3.0, -4, 5]]))
            assert inside.all() and float(distance) == pytest.approx(20, abs=1e-4)
            torch.testing.assert_close(pixel, torch.full((1, 2), 128.0), atol=1e-3, rtol=0)
            x, y = camera.position[:2] - [3, -4]
            if elevation < 90:
                assert np.degrees(np.arctan2(x, y)) % 360 == pytest.approx((30 + 90 * k) % 360)


def test_gsd_of_a_view(splats):
    above = splats.render(OrthographicCamera.above((0, 0, 60.0), 16, 16, 2.0))
    assert view_gsd(above) == 2.0
    camera = around(80, 1)[0]
    assert view_gsd(splats.render(camera)) == pytest.approx(42 / camera.fx, rel=0.1)
