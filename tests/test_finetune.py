"""Fine-tuning: our model and Stable Diffusion's, by LoRA, as a whole and by ControlNet; the results load and make images."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from omegaconf import OmegaConf
from PIL import Image
from shards_stand_in import write_shard
from toy_diffusion import toy_diffusion
from toys import toy_pipeline

import gensat
from gensat.cli import run
from gensat.errors import InputError
from gensat.train import finetune
from gensat.train.checkpoint import checkpoints, read
from gensat.train.dropout import Dropout
from gensat.train.latents import Entry, TextBank
from gensat.train.objective import Objective
from gensat.train.recipe import load_recipe
from gensat.train.tuning import EpochDraw
from gensat.types import Acquisition, Place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    toy_pipeline().save_pretrained(folder / "toy")
    for kind in ("epsilon", "v_prediction"):
        toy_diffusion(kind).save_pretrained(folder / kind)
    write_shard(folder / "mine-000.tar")
    write_shard(folder / "foreign-000.tar", count=4, sensor="a sensor of its own", cloud_cover=0.5, date="2020-05-01")
    return folder


def tune(folder, name, model, out, **changes):
    values = {
        "data.shards": folder / "mine-000.tar",
        "model": folder / model,
        "out": out,
        "steps": 4,
        "batch": 4,
        "warmup": 1,
        "log_every": 2,
        "save_every": 4,
        "sample_every": 0,
        "precision": "no",
        "tensorboard": "false",
        "ema": 0.0,
        **changes,
    }
    return finetune.train(load_recipe(name, [f"{k}={v}" for k, v in values.items()]))


def image(pipe, **call):
    with torch.no_grad():
        return np.asarray(
            pipe("a red river", seed=3, num_inference_steps=2, width=64, height=64, **call).images[0], float
        )


@pytest.mark.parametrize("model", ["toy", "epsilon", "v_prediction"])
def test_a_lora_is_learned_and_read_by_us_and_by_diffusers(folder, tmp_path, model):
    outcome = tune(folder, "lora", model, tmp_path / "run", lr=0.05, sample_every=4, sample_steps=1)
    assert outcome.steps == 4 and np.isfinite(outcome.figures["loss"])
    weights = tmp_path / "run" / f"{model}-lora"
    assert {"README.md", "recipe.yaml", "pytorch_lora_weights.safetensors"} == {p.name for p in weights.iterdir()}
    pipe = gensat.load(folder / model)
    before = image(pipe)
    pipe.load_lora_weights(weights)
    after = image(pipe)
    assert np.abs(after - before).mean() > 0.1
    assert run(["generate", "a red river", "--model", str(folder / model), "--lora", str(weights), "--width", "64",
                "--steps", "1", "-o", str(tmp_path / "x.png")]) == 0  # fmt: skip
    assert Image.open(tmp_path / "run" / "samples" / "step-000004.png").size[0] > 64
    if model != "toy":
        plain = StableDiffusionPipeline.from_pretrained(folder / model, safety_checker=None)
        plain.load_lora_weights(weights)
        ours = {k: v for k, v in pipe.unet.state_dict().items() if "lora" in k}
        theirs = {k: v for k, v in plain.unet.state_dict().items() if "lora" in k}
        pairs = zip(sorted(ours.items()), sorted(theirs.items()), strict=True)
        assert len(ours) > 4 and all(torch.equal(a[1], b[1]) for a, b in pairs)


def test_the_saved_lora_is_what_was_trained(folder, tmp_path):
    tune(folder, "lora", "toy", tmp_path / "run", lr=0.05)
    tensors, _ = read(checkpoints(tmp_path / "run")[-1])
    pipe = gensat.load(folder / "toy")
    pipe.load_lora_weights(tmp_path / "run" / "toy-lora", adapter_name="mine")
    loaded = {k.replace(".mine.", ".default."): v for k, v in pipe.unet.state_dict().items() if "lora" in k}
    trained = {k.removeprefix("nets.unet."): v for k, v in tensors.items() if "lora" in k}
    assert trained.keys() == loaded.keys()
    torch.testing.assert_close(
        loaded, trained, atol=1e-7, rtol=1e-5
    )  # the average with decay 0 is the weights, to rounding
    assert not any("base_layer" in k for k in tensors), "a checkpoint holds only what is trained"


@pytest.mark.parametrize(("model", "gamma"), [("toy", "null"), ("epsilon", 5), ("v_prediction", 5)])
def test_the_whole_denoiser_is_learned_into_a_model_folder(folder, tmp_path, model, gamma):
    outcome = tune(folder, "finetune", model, tmp_path / "run", lr=0.01, snr_gamma=gamma)
    before, after = gensat.load(folder / model), gensat.load(outcome.weights)
    assert after.spec.name == f"{model}-full" and after.spec.signals == before.spec.signals
    assert np.abs(image(after) - image(before)).mean() > 0.1
    for part in ("vae", "text_encoder"):
        a, b = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a), "what was frozen is as it was"
    assert "runs" not in (outcome.weights / "unet" / "config.json").read_text()
    assert not any("_name_or_path" in p.read_text() for p in outcome.weights.glob("*/config.json"))


@pytest.mark.parametrize("model", ["toy", "epsilon"])
def test_a_controlnet_is_learned_and_a_layout_changes_the_image(folder, tmp_path, model):
    outcome = tune(folder, "layout", model, tmp_path / "run", lr=0.05, sample_every=4, sample_steps=1)
    pipe = gensat.load(outcome.weights)
    assert {"layout", "edges"} <= set(pipe.spec.signals)
    layout = np.full((64, 64), 5, np.uint8)
    layout[:32] = 3
    base, ours = gensat.load(folder / model), pipe.unet.state_dict()
    assert all(torch.equal(v, ours[k]) for k, v in base.unet.state_dict().items()), "the denoiser stays as it is"
    assert np.abs(image(pipe, layout=layout) - image(pipe)).mean() > 0.1
    np.testing.assert_array_equal(image(pipe), image(base))


def test_a_new_controlnet_starts_without_effect(folder, tmp_path):
    from gensat.train.methods import new_controlnet

    pipe = gensat.load(folder / "epsilon")
    pipe.register_modules(controlnet=new_controlnet(pipe.unet))
    net, x = pipe.controlnet, torch.randn(1, 4, 8, 8)
    down, mid = net(x, 10, torch.randn(1, 77, 16), torch.randn(1, 13, 64, 64), return_dict=False)
    assert not mid.any() and not any(d.any() for d in down)
    assert torch.equal(net.conv_in.weight, pipe.unet.conv_in.weight)


def test_training_lowers_the_loss_of_two_colours(folder, tmp_path):
    outcome = tune(
        folder, "finetune", "toy", tmp_path / "run", steps=60, batch=12, lr=0.01, log_every=10, save_every=60, ema=0.9
    )
    lines = [json.loads(line)["loss"] for line in open(tmp_path / "run" / "log.jsonl")]
    assert lines[-1] < 0.9 * lines[0], lines
    assert outcome.seconds > 0


def test_what_a_model_does_not_know_is_taken_as_unknown(folder, tmp_path):
    outcome = tune(folder, "lora", "toy", tmp_path / "a", **{"data.shards": folder / "foreign-000.tar"})
    assert outcome.steps == 4
    assert "mine 4" in (outcome.weights / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "controlnet", "depth": 9}, "has no key 'depth'"),
        ({"data.shards": "nowhere-*.tar"}, "nowhere"),
        ({"data.size": 50}, "takes multiples of 16"),
        ({"method": "magic"}, "use one of lora, full, controlnet"),
        ({"snr_gamma": 5}, "set snr_gamma=null"),
        ({"batch": 5, "accumulate": 2}, "cannot be divided among 2"),
        ({"shares.other": 1}, "shares names other; there is mine"),
        ({"lora.targets": "[nothing]"}, "set lora.targets"),
        ({"dropout.txt": 0.1}, "has no key 'dropout.txt'; did you mean 'dropout.text'"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        tune(folder, "lora", "toy", tmp_path / "run", **changes)
    assert "\n" not in str(caught.value)


# The draws.


def entries(count=7):
    rng = np.random.default_rng(0)
    made = []
    for k in range(count):
        place, acquisition = Place(10 + k, 50), Acquisition(0.5, "2020-05-01", 0.1, "aerial")
        latent = rng.standard_normal((2, 4, 4)).astype(np.float16)
        image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        made.append(Entry("mine", latent, [f"caption {k}"], place, acquisition, image, None, f"key{k}"))
    return made


def drawing(made, **changes):
    captions = sorted({c for e in made for c in e.captions} | {""})
    text = TextBank(captions, torch.randn(len(captions), 3, 4), torch.ones(len(captions), 3, dtype=torch.bool))
    objective = Objective(toy_pipeline().scheduler)
    settings = {"batch": 6, "seed": 0, "drop": Dropout(), "sensors": ["aerial"], "turns": True}
    return EpochDraw(made, text, objective, **{**settings, **changes})


def test_every_sample_comes_once_an_epoch_in_another_order():
    draw = drawing(entries())
    first, second = ([draw.chosen(p)[1] for p in range(7 * e, 7 * e + 7)] for e in range(2))
    assert sorted(first) == sorted(second) == list(range(7)) and first != second
    assert [draw.chosen(p) for p in range(30)] == [drawing(entries()).chosen(p) for p in range(30)]
    assert first != [drawing(entries(), seed=1).chosen(p)[1] for p in range(7)]


def test_parts_of_a_step_are_rows_of_its_batch_whatever_came_before():
    whole = drawing(entries(), layouts=True).part(5, 0, 1)
    parts = [drawing(entries(), layouts=True).part(5, k, 3) for k in range(3)]
    for name in ("x", "t", "target", "tokens", "control"):
        for k, part in enumerate(parts):
            assert torch.equal(part[name], whole[name][k::3]), name
    assert torch.equal(parts[1]["acquisition"][0], whole["acquisition"][0][1::3])


def test_a_samples_draws_depend_on_its_key_and_the_epoch_not_on_its_neighbours():
    made = entries()
    few = [made[2], made[5]]
    values = {}
    for draw in (drawing(made), drawing(few)):
        for position in range(len(draw.entries)):
            epoch, index = draw.chosen(position)
            if (key := draw.entries[index].key) in ("key2", "key5"):
                assert epoch == 0
                values.setdefault(key, []).append(draw._row(position))
    for a, b in values.values():
        assert torch.equal(a["noise"], b["noise"]) and a["time"] == b["time"] and a["caption"] == b["caption"]
    again = drawing(few)
    assert not torch.equal(again._row(0)["noise"], again._row(2)["noise"]), "another epoch, other noise"


def test_shares_balance_sources():
    made = entries(10)
    for e in made[:9]:
        e.source = "many"
    draw = drawing(made, shares={"many": 1.0, "mine": 1.0})
    sources = [draw.entries[draw.chosen(p)[1]].source for p in range(2000)]
    assert 0.45 < sources.count("mine") / 2000 < 0.55
    with pytest.raises(InputError, match="nothing to train on"):
        drawing([])


def test_dropout_hides_each_signal_as_often_as_the_recipe_says():
    draw = drawing(entries(), drop=Dropout(*[0.0] * 9))
    made = draw.part(0, 0, 1)
    assert made["acquisition"][1].all() and bool(made["acquisition"][2].all())
    hidden = drawing(entries(), drop=Dropout(everything=1.0)).part(0, 0, 1)
    assert not hidden["acquisition"][1].any() and not hidden["acquisition"][2].any()
    assert {drawing(entries(), drop=Dropout(everything=1.0))._row(p)["caption"] for p in range(6)} == {""}
    rows = [drawing(entries(), drop=Dropout(place=0.5, everything=0.0))._row(p) for p in range(70)]
    assert 20 < sum(row["place"] is None for row in rows) < 50


def test_the_recipe_lies_beside_the_weights_and_trains_them_again(folder, tmp_path):
    first = tune(folder, "lora", "toy", tmp_path / "a")
    again = load_recipe(str(first.weights / "recipe.yaml"), [f"out={tmp_path / 'b'}"])
    assert OmegaConf.to_container(again)["lr"] == 5e-4
    second = finetune.train(again)
    states = [read(checkpoints(o.out)[-1])[0] for o in (first, second)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
