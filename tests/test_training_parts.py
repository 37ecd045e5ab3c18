"""Parts of the training loop: recipes that are checked, batches in parts, checkpoints, signals, logs, objectives."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr
from omegaconf import OmegaConf
from test_training import fit, linear
from test_training import recipe as tiny

from gensat.errors import InputError, ModelError
from gensat.train import checkpoint
from gensat.train.logs import Log, read_log
from gensat.train.objective import Objective, loss
from gensat.train.parts import part_seed, rows, take
from gensat.train.recipe import load_recipe, recipes
from gensat.train.runner import Trainer


def test_every_shipped_recipe_loads_and_says_what_it_is_for():
    for name, about in recipes().items():
        assert load_recipe(name).get("training", name) and len(about) > 20


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("denoisr", [], "no recipe 'denoisr'; did you mean 'denoiser'"),
        ("denoiser", ["stepz=3"], "did you mean 'steps'"),
        ("denoiser", ["model.witdh=3"], "did you mean 'model.width'"),
        ("denoiser", ["steps.x=3"], "steps is a value"),
        ("denoiser", ["steps"], "write key=value"),
        ("denoiser", ["steps=many"], "steps is 'many'; give a number"),
        ("denoiser", ["compile=3"], "give true or false"),
        ("denoiser", ["batch=0"], "batch is 0; give 1 or more"),
        ("denoiser", ["batch=2.5"], "batch is 2.5"),
        ("denoiser", ["lr=-1"], "lr is -1; give a number above 0"),
        ("denoiser", ["ema=2"], "ema is 2; give 0 to 1"),
        ("autoencoder", ["halved=2"], "halved is 2; give 0 to 1"),
        ("autoencoder", ["disturb=-1"], "disturb is -1; give 0 or more"),
        ("denoiser", ["precision=fp8"], "use one of auto, no, fp32, fp16, bf16"),
        ("denoiser", ["steps=null"], "neither steps nor minutes"),
        ("denoiser", ["seed=-4"], "seed is -4"),
        ("lora", ["dropout.text=3"], "dropout.text is 3; give 0 to 1"),
    ],
)
def test_what_a_recipe_cannot_be_is_one_sentence(name, changes, message):
    with pytest.raises(InputError) as caught:
        load_recipe(name, changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_of_the_users_own_is_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("# mine\nsteps: 3\nlr: 0.1\n")
    assert load_recipe(str(tmp_path / "mine.yaml"), ["lr=0.2"]).lr == 0.2
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="holds no keys"):
        load_recipe(str(tmp_path / "list.yaml"))


def test_parts_put_together_are_the_batch():
    batch = {
        "x": torch.arange(12).reshape(6, 2),
        "pair": (torch.arange(6), [*"abcdef"]),
        "k": 3,
        "s": torch.tensor(1.0),
    }
    parts = [take(batch, i, 3) for i in range(3)]
    assert sorted(torch.cat([p["x"] for p in parts]).flatten().tolist()) == list(range(12))
    assert parts[1]["pair"][1] == ["b", "e"] and parts[1]["pair"][0].tolist() == [1, 4]
    assert all(p["k"] == 3 and p["s"] == 1 for p in parts) and rows(parts[0]) == 2
    with pytest.raises(InputError, match="cannot be divided among 4"):
        take(batch, 0, 4)


def test_seeds_of_parts_are_their_own():
    assert len({part_seed(s, t, p) for s in range(3) for t in range(3) for p in range(3)}) == 27


def test_accumulating_gradients_trains_what_the_large_batch_does(tmp_path):
    def draw(step):
        return torch.from_numpy(np.random.default_rng([5, step]).standard_normal((8, 3), dtype=np.float32))

    def error(model, x):
        return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    ends = []
    for passes in (1, 2, 4):
        trainer = Trainer(linear(), tiny(tmp_path / str(passes), accumulate=passes))
        trainer.run(error, draw)
        ends.append(trainer.plain.weight.detach())
        assert trainer.images == 48
    torch.testing.assert_close(ends[1], ends[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ends[2], ends[0], atol=1e-6, rtol=1e-5)


def test_dropout_layers_resume_too(tmp_path):
    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    whole = Trainer(net(), tiny(tmp_path / "a"))
    whole.run(fit)
    cut = Trainer(net(), tiny(tmp_path / "b"))
    with pytest.raises(ZeroDivisionError):
        cut.run(lambda model, step: fit(model, step) if step < 5 else 1 / 0)
    torch.rand(7)  # something else draws
    resumed = Trainer(net(), tiny(tmp_path / "b"))
    resumed.run(fit)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, resumed.parameters, strict=True))
    logs = [[{**line, "samples_per_s": 0} for line in read_log(tmp_path / n)] for n in "ab"]
    assert logs[0] == logs[1] and len(logs[0]) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_leaves(tmp_path, number):
    trainer = Trainer(linear(), tiny(tmp_path, steps=50, save_every=50))

    def told(model, step):
        if step == 7:
            os.kill(os.getpid(), number)
        return fit(model, step)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(told)
    assert trainer.step == 8 and [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]
    assert signal.getsignal(number) is before


def test_a_loss_scale_like_that_of_fp16_trains_the_same_and_is_kept(tmp_path):
    plain = Trainer(linear(), tiny(tmp_path / "plain", steps=3))
    plain.run(fit)
    scaled = Trainer(linear(), tiny(tmp_path / "scaled", steps=3))
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scaled.run(fit)
    torch.testing.assert_close(scaled.plain.weight, plain.plain.weight)
    state = checkpoint.read(checkpoint.checkpoints(tmp_path / "scaled")[-1])[1]
    assert state["scaler"]["scale"] == 2048.0
    scaled.recipe.steps = 4
    before = scaled.plain.weight.clone()
    scaled.run(lambda model, step: {"loss": model(torch.full((1, 3), float("inf"))).mean()})
    assert torch.equal(scaled.plain.weight, before) and scaled.scaler.get_scale() == 1024.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs a GPU; use precision=bf16"):
        Trainer(linear(), tiny(tmp_path, precision="fp16"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Trainer(linear(), tiny(tmp_path, steps=2)).run(fit)
    with pytest.raises(ModelError, match="of another model"):
        Trainer(torch.nn.Linear(4, 1), tiny(tmp_path))


def test_checkpoints_without_sums_are_read_and_damaged_ones_are_found(tmp_path, capsys):
    Trainer(linear(), tiny(tmp_path)).run(fit)
    older, newer = checkpoint.checkpoints(tmp_path)
    (newer / checkpoint.MANIFEST).unlink()
    assert checkpoint.newest(tmp_path, print) == newer
    (newer / "model.safetensors").write_bytes(b"x")
    said = []
    assert checkpoint.newest(tmp_path, said.append) == older
    assert len(said) == 1 and "checkpoint-6 is damaged" in said[0] and not newer.exists()
    (older / "state.pt").unlink()
    with pytest.raises(ModelError, match=r"no checkpoint in .* is whole"):
        checkpoint.newest(tmp_path, said.append)
    assert older.exists(), "nothing is removed where there is nothing to go back to"


def test_a_log_drops_what_is_written_again_and_half_a_line(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 2, "loss": 1}\n{"step": 4, "loss": 2}\n{"step": 6, "lo')
    Log(tmp_path, 2, board=False).write(4, {"loss": 3.0})
    assert read_log(tmp_path) == [{"step": 2, "loss": 1}, {"step": 4, "loss": 3.0}]
    assert (tmp_path / "log.jsonl").read_text().endswith("\n")


def test_tensorboard_holds_the_figures_and_the_sample_sheets(tmp_path):
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = Trainer(linear(), tiny(tmp_path, sample_every=3))
    seen = []

    def sheet():
        seen.append((trainer.step, trainer.plain.training, trainer.plain.weight.clone()))
        return Image.new("RGB", (8, 4))

    trainer.run(fit, sample=sheet)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    written = [round(e.value, 5) for e in events.Scalars("loss")]
    assert written == [line["loss"] for line in read_log(tmp_path)] and len(written) == 3
    assert events.Images("samples")
    assert [(s, t) for s, t, _ in seen] == [(3, False), (6, False)] and trainer.plain.training
    assert torch.equal(seen[-1][2], trainer.ema.shadow_params[0]), "samples come from the averaged weights"
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-000003.png", "step-000006.png"]


def test_one_resolved_recipe_lies_with_the_run_and_a_changed_one_is_said(tmp_path, capsys):
    Trainer(linear(), tiny(tmp_path, steps=2)).run(fit)
    capsys.readouterr()
    Trainer(linear(), tiny(tmp_path, steps=4, clip=2.0))
    assert "began with another steps, clip" in capsys.readouterr().err
    assert OmegaConf.load(tmp_path / "recipe.yaml").clip == 2.0


# What a denoiser is trained to predict.


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_targets_are_those_of_diffusers(prediction):
    scheduler = DDPMScheduler(prediction_type=prediction)
    latents, noise = torch.randn(6, 2, 4, 4), torch.randn(6, 2, 4, 4)
    time = torch.tensor([0, 10, 300, 600, 900, 999])
    made = Objective(scheduler).noised(latents, noise, time.float())
    torch.testing.assert_close(made["x"], scheduler.add_noise(latents, noise, time), atol=1e-5, rtol=1e-4)
    wanted = {"epsilon": noise, "sample": latents, "v_prediction": scheduler.get_velocity(latents, noise, time)}
    torch.testing.assert_close(made["target"], wanted[prediction], atol=1e-5, rtol=1e-4)
    assert torch.equal(made["weight"], torch.ones(6))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_as_in_the_training_script_of_diffusers(prediction):
    scheduler = DDPMScheduler(prediction_type=prediction)
    time = torch.arange(0, 1000, 37)
    snr = compute_snr(scheduler, time)
    weight = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    weight = weight / snr if prediction == "epsilon" else weight / (snr + 1)
    mine = Objective(scheduler, snr_gamma=5).weight(time.float())
    torch.testing.assert_close(mine, weight.float(), atol=1e-5, rtol=2e-3)


def test_min_snr_is_one_loss_of_the_image_in_all_forms():
    """The paper weighs the loss of the image by min(SNR, gamma); noise and velocity are the same loss, divided."""
    latents, noise, guess = torch.randn(3, 4, 2, 4, 4).unbind(0)
    time, values = torch.tensor([5.0, 200.0, 500.0, 900.0]), []
    for kind in ("sample", "epsilon", "v_prediction"):
        objective = Objective(DDPMScheduler(prediction_type=kind), snr_gamma=5)
        made = objective.noised(latents, noise, time)
        alpha = objective.alphas[time.long()].float()[:, None, None, None]
        # the same guess of the image, told in each form
        implied = (made["x"] - alpha.sqrt() * guess) / (1 - alpha).sqrt()
        told = {
            "sample": guess,
            "epsilon": implied,
            "v_prediction": alpha.sqrt() * implied - (1 - alpha).sqrt() * guess,
        }
        values.append(float(loss(told[kind], made)))
    assert values[1] == pytest.approx(values[0], rel=1e-3) and values[2] == pytest.approx(values[0], rel=1e-3)


def test_zero_terminal_snr_has_finite_weights():
    for kind, last in (("epsilon", 1.0), ("v_prediction", 0.0)):
        scheduler = DDIMScheduler(prediction_type=kind, rescale_betas_zero_snr=True)
        weight = Objective(scheduler, snr_gamma=5).weight(torch.tensor([0.0, 999.0]))
        assert torch.isfinite(weight).all() and weight[1] == pytest.approx(last, abs=1e-4)


def test_flow_matching_draws_a_logit_normal_time_and_straight_paths():
    objective = Objective(FlowMatchEulerDiscreteScheduler())
    rng = np.random.default_rng(0)
    times = np.array([objective.draw((1, 2, 2), rng)[1] for _ in range(4000)]) / 1000
    logits = np.log(times / (1 - times))
    assert abs(logits.mean()) < 0.05 and abs(logits.std() - 1) < 0.04
    latents, noise = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    made = objective.noised(latents, noise, torch.tensor([250.0, 1000.0]))
    torch.testing.assert_close(made["x"] - made["t"][:, None, None, None] / 1000 * made["target"], latents)


def test_objectives_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="takes flow"):
        Objective(FlowMatchEulerDiscreteScheduler(), prediction="epsilon")
    with pytest.raises(InputError, match="set snr_gamma=null"):
        Objective(FlowMatchEulerDiscreteScheduler(), snr_gamma=5)
    with pytest.raises(InputError, match="takes epsilon, v_prediction, sample"):
        Objective(DDPMScheduler(), prediction="flow")


def test_the_json_lines_are_json(tmp_path):
    Trainer(linear(), tiny(tmp_path, tensorboard=False)).run(fit)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "lr", "samples_per_s"} == set(lines[0]) and not (tmp_path / "tensorboard").exists()


@pytest.mark.slow
def test_the_training_benchmark_runs(capsys, monkeypatch):
    from benchmarks import training

    monkeypatch.setattr("sys.argv", ["training", "--side", "64", "--batch", "2", "--runs", "1"])
    training.main()
    assert "example with kept latents" in capsys.readouterr().out
