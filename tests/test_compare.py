"""Trainings side by side: each variant with its own changes, once, measured alike; and what a denoiser may be trained to predict."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from omegaconf import OmegaConf
from PIL import Image
from shard_toys import shard
from toys import toy_unet

from gensat.errors import InputError
from gensat.hub.resolve import model_folder
from gensat.models.autoencoder import ConvAutoencoder
from gensat.models.blocks import LocalMixing
from gensat.train import compare, judging
from gensat.train.assemble import build, load_denoiser, save_scheduler, scheduler_of
from gensat.train.objective import BatchObjective, Objective, loss
from gensat.train.recipe import load_recipe
from gensat.train.sources import Sample
from gensat.types import Acquisition

TINY = {
    "data.crop": 16,
    "model.encoder_channels": "[8,8]",
    "model.block_channels": "[8,8]",
    "model.decoder_blocks": "[1,1]",
    "model.encoder_blocks": "[1,1]",
    "loss.perceptual": 0,
    "steps": 2,
    "batch": 2,
    "log_every": 1,
    "compile": "false",
    "precision": "no",
}


def held_out(root, split, *, sources):
    rng = np.random.default_rng(len(sources[0]))
    kinds = ["harbor", "river", "parkinglot"] if sources[0] == "ucmerced" else [None]
    return [
        Sample(sources[0], str(i), rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), "", kinds[i % len(kinds)])
        for i in range(6)
    ]


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "load_samples", held_out)
    shard(tmp_path / "toy-000.tar", 6)
    common = [*(f"{k}={v}" for k, v in TINY.items()), f"data.shards={tmp_path}/toy-000.tar"]
    return OmegaConf.create(
        {
            "training": "compare",
            "out": str(tmp_path / "out"),
            "base": "autoencoder",
            "common": common,
            "measure": {"root": None, "sources": ["ucmerced", "poland"], "count": 3, "side": 32},
            "variants": {"four": ["model.latent_channels=4"], "eight": []},
        }
    )


def test_each_variant_is_trained_and_measured_once(comparison, tmp_path, monkeypatch):
    outcome = compare.train(comparison)
    rows = json.loads((tmp_path / "out/rows.json").read_text())
    assert list(rows) == ["four", "eight"] and outcome.steps == 4
    assert rows["four"]["figures"]["latent numbers a pixel"] == 0.25 == 4 / 4**2
    assert rows["eight"]["figures"]["latent numbers a pixel"] == 0.5
    assert {"psnr all", "psnr poland", "psnr boats and cars", "detail all"} <= set(rows["four"]["figures"])
    lines = (tmp_path / "out/table.md").read_text().splitlines()
    assert len(lines) == 4 and all(line.count("|") == lines[0].count("|") for line in lines)

    monkeypatch.setattr(compare, "_trained", None)  # nothing is trained again
    comparison.measure.count = 2
    compare.train(comparison)
    again = json.loads((tmp_path / "out/rows.json").read_text())
    assert again["four"]["cost"] == rows["four"]["cost"] and again["four"]["figures"] != rows["four"]["figures"]


def test_what_cannot_be_compared_is_said_before_anything_is_trained(comparison, tmp_path):
    for change, message in (
        ({"base": "probe"}, "what can be compared"),
        ({"variants": {}}, "no variants"),
        ({"variants": {"four": ["model.latent_chanels=4"]}}, "did you mean 'model.latent_channels'"),
    ):
        with pytest.raises(InputError, match=message):
            compare.train(OmegaConf.merge(comparison, change) if change.get("variants") != {} else _without(comparison))
    assert not (tmp_path / "out").exists()


def _without(comparison):
    return OmegaConf.create({**OmegaConf.to_container(comparison), "variants": {}})


def test_the_shipped_comparisons_take_their_changes():
    for name in ("compare_autoencoder", "compare_denoiser", "compare_latents"):
        recipe = load_recipe(name)
        assert recipe.base in compare.MEASURES and len(recipe.variants) >= 5
        settings = [
            OmegaConf.to_container(load_recipe(recipe.base, compare.changes_of(recipe, v))) for v in recipe.variants
        ]
        assert len({json.dumps({**s, "out": ""}) for s in settings}) == len(settings), "no two are the same"


def test_detail_is_what_a_two_by_two_mean_takes_away():
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    coarse = torch.nn.functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(judging.detail_kept(x, x), torch.ones(3))
    assert torch.allclose(judging.detail_kept(coarse, x), torch.zeros(3), atol=1e-5)
    half = coarse + (x - coarse) / 2
    assert torch.allclose(judging.detail_kept(half, x), torch.full((3,), 0.75), atol=1e-5)


def test_small_things_come_first_and_classes_in_turn():
    samples = [Sample("ucmerced", str(i), np.zeros((8, 8, 3), np.uint8), "", k) for i, k in enumerate("bbbaaa")]
    boats = [Sample("ucmerced", "h", np.zeros((8, 8, 3), np.uint8), "", "harbor")]
    assert [s.klass for s in judging.evenly_by_class([*samples, *boats], 5)] == ["harbor", "a", "b", "a", "b"]


def test_a_network_that_is_right_has_no_loss_and_is_sampled_as_it_was_trained(tmp_path):
    x = torch.randn(4, 4, 8, 8)
    for settings in ({}, {"time": "uniform"}, {"prediction": "v_prediction", "time": "uniform", "snr_gamma": 5.0}):
        objective = BatchObjective(**settings)
        batch = objective(x, np.random.default_rng(0))
        again = objective(x, np.random.default_rng(0))
        assert all(torch.equal(batch[k], again[k]) for k in batch)
        assert float(loss(batch["target"], batch)) == 0 < float(loss(batch["target"] + 0.1, batch))
        folder = tmp_path / str(settings.get("prediction"))
        folder.mkdir(exist_ok=True)
        save_scheduler(objective.scheduler, folder)
        read = scheduler_of(folder)
        assert Objective(read).kind == objective.diffusion.kind == BatchObjective.of(read).diffusion.kind
        # from pure noise a perfect prediction leads to the image
        read.set_timesteps(8)
        noise = torch.randn(1, 4, 8, 8)
        now = noise * getattr(read, "init_noise_sigma", 1.0)
        for t in read.timesteps:
            if objective.diffusion.kind == "flow":
                wanted = noise - x[:1]
            else:
                wanted = objective.diffusion.noised(x[:1], noise, t.reshape(1).float())["target"]
            now = read.step(wanted, t, now).prev_sample
        assert torch.allclose(now, x[:1], atol=1e-3)


@pytest.mark.parametrize("kind", ["flow", "v_prediction", "epsilon", "sample"])
def test_the_clean_latents_can_be_read_off_a_right_answer_at_each_level(kind):
    scheduler = FlowMatchEulerDiscreteScheduler() if kind == "flow" else DDIMScheduler()
    objective = Objective(scheduler, prediction=kind)
    x, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    for share in judging.LEVELS:
        time, signal, spread = objective.at(share)
        batch = objective.noised(x, noise, torch.tensor([time, time]))
        torch.testing.assert_close(batch["x"], signal * x + spread * noise)
        assert spread / (signal + spread) == pytest.approx(share, abs=0.01)
        torch.testing.assert_close(
            objective.clean(batch["x"], batch["target"], signal, spread), x, atol=1e-4, rtol=1e-4
        )


def test_a_trained_denoiser_errs_less_than_one_that_knows_nothing():
    """One that answers nothing sees y = x_s for the clean x: |y - x|^2 / s^2 is that of noise - x, 2 for latents of deviation 1."""
    small = model_folder("gensat-small")
    vae = ConvAutoencoder.from_pretrained(small / "vae").eval()
    picture = np.asarray(Image.open(small.parent / "examples" / "village.jpg").convert("RGB"))[:256, :256]
    samples = [Sample("ucmerced", "1", picture, "houses among fields", None, None, Acquisition(gsd=0.25))]
    trained = load_denoiser(small).eval()
    error = judging.flow_error(trained, scheduler_of(small), vae, samples)
    assert error == judging.flow_error(trained, scheduler_of(small), vae, samples)
    torch.nn.init.zeros_(trained.unet.conv_out.weight)
    torch.nn.init.zeros_(trained.unet.conv_out.bias)
    nothing = judging.flow_error(trained, scheduler_of(small), vae, samples)
    assert 0.3 < error < 0.75 * nothing and nothing > 1.5


def test_times_are_spread_as_asked():
    x = torch.zeros(4000, 1, 1, 1)
    for prediction in ("flow", "v_prediction"):
        for time, low, high in (("uniform", 0.23, 0.27), ("logit_normal", 0.12, 0.15)):
            t = BatchObjective(prediction=prediction, time=time)(x, np.random.default_rng(1))["t"].double()
            assert low < float((t < 250).double().mean()) < high  # a normal is below logit(1/4) = -1.1 in 13.6 %
            assert 0 <= float(t.min()) and float(t.max()) < 1000 and abs(float(t.mean()) - 500) < 20


@pytest.mark.parametrize("wrong", [{"prediction": "epsilon"}, {"time": "gaussian"}, {"snr_gamma": 5.0}])
def test_an_objective_that_there_is_not_is_refused(wrong):
    with pytest.raises(InputError):
        BatchObjective(**wrong)


def test_a_convolution_in_the_place_of_attention_reaches_one_cell_and_no_farther():
    torch.manual_seed(0)
    mix = LocalMixing(4)
    x = torch.randn(1, 49, 4, requires_grad=True)
    mix(x, grid=(7, 7))[0, 24].sum().backward()
    reached = x.grad[0].abs().sum(-1).reshape(7, 7) > 0
    assert reached[2:5, 2:5].all() and int(reached.sum()) == 9


def test_denoisers_of_every_kind_take_words_and_are_saved_as_what_they_are(tmp_path):
    x, words = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 16)
    for settings in ({"mixer": "convolution"}, {"conv_blocks": 0, "depth": 3}):
        unet = toy_unet(**settings)
        with torch.no_grad():
            a, b = (unet(x, torch.tensor(400.0), w).sample for w in (words, 2 * words + 1))
        assert not torch.allclose(a, b)
        unet.save_pretrained(tmp_path / str(len(settings)))
        back = type(unet).from_pretrained(tmp_path / str(len(settings)))
        with torch.no_grad():
            # weights that lie elsewhere in memory may take another kernel: the last bits are not theirs to keep
            torch.testing.assert_close(back(x, torch.tensor(400.0), words).sample, a, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="mixer"):
        toy_unet(mixer="wave")


@pytest.mark.slow
def test_a_denoiser_is_measured_by_the_images_that_it_makes(tmp_path, monkeypatch):
    """Images asked for by captions, on a thin untrained denoiser: figures come out, twice the same, and real features are read once."""
    changes = ["model.conv_width=32", "model.width=64", "model.depth=1", "place.degree=4", "place.hidden_dim=16"]
    torch.manual_seed(0)
    folder = tmp_path / "variant" / "ema"
    build(load_recipe("denoiser", changes)).save(folder)
    rng = np.random.default_rng(0)
    acquisition = Acquisition(gsd=0.3, sensor="aerial")
    asked = [
        Sample("ucmerced", str(i), rng.integers(0, 256, (128, 128, 3), np.uint8), "a river", "river", None, acquisition)
        for i in range(70)
    ]
    monkeypatch.setattr(judging, "load_samples", lambda *args, **kwargs: asked)
    settings = {"root": None, "count": 66, "side": 128}
    measure = OmegaConf.create({**settings, "every": 1, "steps": 1, "guidance": 1.0, "batch": 8, "seed": 0})
    recipe = load_recipe("denoiser", [*changes, f"autoencoder={model_folder('gensat-small') / 'vae'}"])
    first = judging.made(folder, measure, recipe)
    kept = list(tmp_path.glob("features-*.safetensors"))
    assert len(kept) == 1 and 0 <= first["class consistency"] <= 1 and first["Frechet-64"] > 0
    assert first["flow error"] > 1.0
    written = kept[0].stat().st_mtime_ns
    assert judging.made(folder, measure, recipe) == first and kept[0].stat().st_mtime_ns == written
