"""The training loop: resumable to the step, drawn by step, by steps or by minutes; the chain of all trainings."""

import io
import itertools
import json
import tarfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gensat.errors import InputError
from gensat.train.chain import SHARES, models, pieces, plan
from gensat.train.chain import main as chain
from gensat.train.optim import cosine_rate, make_optimizers
from gensat.train.recipe import load_recipe
from gensat.train.runner import Trainer


def recipe(out, **changes):
    values = {
        "out": str(out),
        "steps": 6,
        "minutes": None,
        "batch": 2,
        "lr": 0.05,
        "warmup": 2,
        "beta2": 0.9,
        "weight_decay": 0.01,
        "ema": 0.9,
        "clip": 1.0,
        "precision": "no",
        "log_every": 2,
        "save_every": 2,
    }
    return OmegaConf.create({**values, **changes})


def linear():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def fit(model, step):
    x = torch.from_numpy(np.random.default_rng([5, step]).standard_normal((8, 3), dtype=np.float32))
    return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}


def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_weights(tmp_path):
    whole = Trainer(linear(), recipe(tmp_path / "a"))
    whole.run(fit)

    class Killed(Exception):
        pass

    def killed_at_5(model, step):
        if step == 5:
            raise Killed
        return fit(model, step)

    first = Trainer(linear(), recipe(tmp_path / "b"))
    with pytest.raises(Killed):
        first.run(killed_at_5)
    resumed = Trainer(linear(), recipe(tmp_path / "b"))
    assert resumed.step == 4
    resumed.run(fit)
    assert torch.equal(whole.plain.weight, resumed.plain.weight)
    assert all(torch.equal(a, b) for a, b in zip(whole.ema.shadow_params, resumed.ema.shadow_params, strict=True))
    assert sorted(p.name for p in (tmp_path / "b").glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert [json.loads(line)["step"] for line in (tmp_path / "a/log.jsonl").read_text().splitlines()] == [2, 4, 6]


def test_a_run_killed_after_its_last_checkpoint_still_writes_its_result(tmp_path):
    def killed(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(linear(), recipe(tmp_path, steps=2)).run(fit, on_save=killed)
    written = []
    Trainer(linear(), recipe(tmp_path, steps=2)).run(fit, on_save=lambda trainer: written.append(trainer.step))
    assert written == [2]


def test_a_gradient_that_is_not_finite_skips_the_step(tmp_path):
    trainer = Trainer(linear(), recipe(tmp_path, steps=1))
    before = trainer.plain.weight.clone()
    trainer.run(lambda model, step: {"loss": model(torch.full((1, 3), float("nan"))).mean()})
    assert torch.equal(trainer.plain.weight, before)


def test_the_rate_warms_up_and_decays():
    rates = [cosine_rate(s, s / 100, warmup=10) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0, abs=0.03)
    assert rates[100] == pytest.approx(0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_batches_prepared_by_other_processes_train_the_same_weights(tmp_path):
    def draw(step):
        x = np.random.default_rng([5, step]).standard_normal((8, 3), dtype=np.float32)
        return {"x": torch.from_numpy(x), "weight": step + 1}

    def loss(model, batch):
        return {"loss": batch["weight"] * (model(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()}

    ends = []
    for workers in (0, 2):
        trainer = Trainer(linear(), recipe(tmp_path / str(workers), workers=workers))
        trainer.run(loss, draw)
        ends.append(trainer.plain.weight)
    assert torch.equal(*ends)


def test_minutes_alone_decay_the_rate_over_that_time_and_a_resumed_run_has_only_the_rest(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gensat.train.runner.time.time", lambda: now[0])
    settings = {"steps": None, "minutes": 1, "save_every": 5}
    rates = []

    def ten_seconds(model, step):
        now[0] += 10
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        if step == 4 and not resumed:
            raise KeyboardInterrupt
        return fit(model, step)

    resumed = False
    trainer = Trainer(linear(), recipe(tmp_path, **settings))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(ten_seconds)
    assert trainer.step == 4 and trainer.seconds == 40
    resumed, now[0] = True, 1000.0
    trainer = Trainer(linear(), recipe(tmp_path, **settings))
    trainer.run(ten_seconds)
    assert trainer.step == 6 and trainer.seconds == 60
    assert rates[1:] == sorted(rates[1:], reverse=True) and rates[-1] < 0.2 * max(rates)
    with pytest.raises(InputError, match="neither steps nor minutes"):
        Trainer(linear(), recipe(tmp_path / "x", steps=None)).run(fit)


def test_recipes_resolve_and_refuse_what_they_do_not_know():
    assert load_recipe("denoiser", ["lr=0.5"]).lr == 0.5
    with pytest.raises(InputError, match="autoencoder"):
        load_recipe("autoencodr")
    with pytest.raises(InputError, match="has no key 'warmups'; did you mean 'warmup'"):
        load_recipe("denoiser", ["warmups=1"])


def test_muon_takes_the_matrices_of_blocks_and_its_run_resumes_to_the_same_weights(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.blocks, self.out = torch.nn.Sequential(torch.nn.Linear(3, 3)), torch.nn.Linear(3, 1)

        def forward(self, x):
            return self.out(self.blocks(x))

    settings = {"muon": 0.05, "steps": 40, "save_every": 20}
    adamw, muon = make_optimizers(Net(), recipe(tmp_path, **settings))
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(3, 3)]
    assert sum(len(g["params"]) for g in adamw.param_groups) == 3
    assert len(make_optimizers(Net(), recipe(tmp_path))) == 1
    losses = []

    def logged(model, step):
        values = fit(model, step)
        losses.append(float(values["loss"].detach()))
        return values

    whole = Trainer(Net(), recipe(tmp_path / "a", **settings))
    whole.run(logged)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    cut = Trainer(Net(), recipe(tmp_path / "b", **settings))
    with pytest.raises(RuntimeError, match="cut"):
        cut.run(lambda model, step: fit(model, step) if step < 30 else _cut())
    resumed = Trainer(Net(), recipe(tmp_path / "b", **settings))
    assert resumed.step == 20
    resumed.run(fit)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, resumed.parameters, strict=True))


def _cut():
    raise RuntimeError("cut")


def test_parts_of_a_model_have_rates_of_their_own(tmp_path):
    """AdamW's first step is the rate, whatever the gradient: it shows what each part's rate is."""

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.slow, self.fast, self.still = (torch.nn.Linear(3, 1, bias=False) for _ in range(3))

        def forward(self, x):
            return self.slow(x) + self.fast(x) + self.still(x)

    model = Pair()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rates = OmegaConf.create({"fast": 5.0, "still": 0.0})
    settings = {"steps": 1, "lr": 1e-3, "weight_decay": 0.0, "clip": 1e3}
    Trainer(model, OmegaConf.merge(recipe(tmp_path, **settings), {"rates": rates, "warmup": 1})).run(fit)
    moved = {name.split(".")[0]: (p - before[name]).abs() for name, p in model.named_parameters()}
    rate = cosine_rate(0, 0.0, warmup=1) * 1e-3
    torch.testing.assert_close(moved["slow"], torch.full((1, 3), rate), rtol=1e-2, atol=0)
    torch.testing.assert_close(moved["fast"], torch.full((1, 3), 5 * rate), rtol=1e-2, atol=0)
    assert not moved["still"].any()


def test_the_chain_shares_its_minutes_and_hands_each_stage_what_the_one_before_made(tmp_path):
    given = {"autoencoder": ["batch=64", "lr=1e-3"], "decoder": ["disturb=0.3"], "denoiser": [], "controlnet": []}
    stages = plan(tmp_path, 20.0, given)
    settings = [dict(a.split("=", 1) for a in stage[1:]) for stage in stages]
    assert sum(float(s["minutes"]) for s in settings) == pytest.approx(20)
    first, decoder, denoiser, controlnet = settings
    assert first["batch"] == decoder["batch"] == "64" and "batch" not in denoiser
    assert decoder["init"] == denoiser["autoencoder"] == controlnet["autoencoder"] == str(tmp_path / "autoencoder/ema")
    assert decoder["keep_encoder"] == "true" and decoder["disturb"] == "0.3" and decoder["lr"] == "3e-4"
    assert controlnet["denoiser"] == denoiser["out"] + "/ema"
    assert f"autoencoder={decoder['out']}/ema" in models(tmp_path, "m", given)[0]
    for stage in stages:  # every recipe takes its overrides
        load_recipe(stage[0].rsplit(".", 1)[1], stage[1:])


def test_the_chain_trains_the_free_part_and_on_it_a_lora_of_everything(tmp_path):
    stages = plan(tmp_path, 33.0, {"denoiser-all": ["lora.rank=8"]}, readings=True, pd=True)
    settings = [dict(a.split("=", 1) for a in stage[1:]) for stage in stages]
    assert sum(float(s["minutes"]) for s in settings) == pytest.approx(33)
    assert [s.get("data.public_domain") for s in settings] == ["true"] * 4 + [None] * 2
    assert {s["autoencoder"] for s in settings[2:]} == {str(tmp_path / "autoencoder/ema")}
    free, control, lora, control_all = settings[2:]
    assert lora["core"] == free["out"] + "/ema" and lora["lora.rank"] == "8" and "core" not in free
    assert control["denoiser"] == lora["core"] and control_all["denoiser"] == lora["out"] + "/ema"
    assert control_all["init"] == control["out"] + "/ema/controlnet"
    assert free["data.cache"] == control["data.cache"] != lora["data.cache"] == control_all["data.cache"]
    assert all(s["data.readings"] == str(tmp_path / "readings") for s in settings[2:])
    for stage in stages:
        load_recipe(stage[0].rsplit(".", 1)[1], stage[1:])


def test_the_licence_of_the_chain_is_that_of_what_its_stages_saw(tmp_path):
    free, none = ["data.public_domain=true"], []
    assert "open=1" not in models(tmp_path, "m", {s: none for s in SHARES})[0]
    assert "open=1" in models(tmp_path, "m", {s: free for s in SHARES})[0]
    with pytest.raises(InputError, match=r"for autoencoder only; .* pd=true"):
        models(tmp_path, "m", {"autoencoder": free, "denoiser": none, "controlnet": none})
    with pytest.raises(InputError, match=r"for denoiser, controlnet only"):
        models(tmp_path, "m", {s: ["data.public_domain=false"] if s == "decoder" else free for s in SHARES})
    theirs, ours = models(tmp_path, "m", {s: none for s in SHARES}, pd=True)
    assert theirs[0].endswith("m-pd") and theirs[-1] == "open=1"
    assert ours[1:] == [
        f"{k}={tmp_path / v}"
        for k, v in (("core", "m-pd"), ("lora", "denoiser-all/ema"), ("controlnet", "controlnet-all/ema"))
    ]


def test_the_chain_refuses_what_it_does_not_know(tmp_path):
    for words, message in (
        ([], "give the folder"),
        (["x", "pd=yes"], "true or false"),
        (["x", "lr=3"], "lr=3 is neither"),
    ):
        with pytest.raises(InputError, match=message):
            chain([str(tmp_path / w) if w == "x" else w for w in words])


def test_the_pieces_of_a_folder_are_small_and_come_together_again(tmp_path):
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    content = np.random.default_rng(0).bytes(50_000)
    (folder / "vae" / "weights").write_bytes(content)
    made = pieces(folder, 20_000)
    assert len(made) == 4 and max(p.stat().st_size for p in made) == 20_000
    with tarfile.open(fileobj=io.BytesIO(b"".join(p.read_bytes() for p in made))) as tar:
        assert tar.extractfile("model/vae/weights").read() == content
