"""Students of few steps: the way is the pipeline's, both stages teach what they should, and the result is a model."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from saved_toy import toy_and_shard
from toy_diffusion import toy_diffusion
from toys import toy_pipeline

import gensat
from gensat.conditioning.acquisition import acquisition_arrays
from gensat.conditioning.place import place_arrays
from gensat.conditioning.text import encode_text
from gensat.diffusion.adapters import adapt
from gensat.errors import InputError
from gensat.train import few_steps
from gensat.train.lora import LORA
from gensat.train.paths import inputs_of, levels, way
from gensat.train.recipe import load_recipe
from gensat.types import Acquisition, Place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_and_shard(tmp_path_factory.mktemp("few"))


def recipe(folder, out, **changes):
    values = {
        "data.shards": folder / "mine-000.tar",
        "data.cache": folder / "cache",
        "model": folder / "toy",
        "out": out,
        "student_steps": 2,
        "batch": 2,
        "steps": 4,
        "warmup": 1,
        "critic.from": 2,
        "critic.alone": 0,
        "critic.width": 16,
        "critic.window": 4,
        "log_every": 1,
        "save_every": 4,
        "precision": "no",
        "compile": "false",
        **changes,
    }
    return load_recipe("few_steps", [f"{k}={v}" for k, v in values.items()])


def test_the_way_is_what_the_pipeline_makes():
    pipe = toy_pipeline(gsd_range=(0.05, 60.0))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    asked = {"place": Place(10, 50), "gsd": 0.5, "width": 64, "height": 64, "num_inference_steps": 3}
    made = pipe("a red river", **asked, guidance_scale=1.0, latents=noise, output_type="latent").images
    text = encode_text(pipe.text_encoder, pipe.tokenizer, ["a red river"], max_length=16)
    told = {"tokens": text.tokens, "mask": text.mask, "place": place_arrays([Place(10, 50)])}
    told["acquisition"] = acquisition_arrays([Acquisition(gsd=0.5)], ["aerial"])
    with torch.no_grad():
        denoiser, inputs = adapt(pipe.unet), inputs_of(pipe, told)
        states = way(lambda x, t: denoiser(x, t, inputs), noise, *levels(pipe.scheduler, 3))
    assert len(states) == 4 and torch.equal(states[0], noise)
    torch.testing.assert_close(states[-1], made, atol=2e-4, rtol=1e-3)


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_first_the_anchor_then_the_critic_alone_then_both(folder, tmp_path):
    few_steps.train(recipe(folder, tmp_path, **{"critic.from": 1, "critic.alone": 1, "critic.steepness": 0}))
    lines = log_of(tmp_path)
    assert ["anchor" in line for line in lines] == [True, False, True, True]
    assert ["told_apart" in line for line in lines] == [False, True, True, True]
    assert ["convincing" in line for line in lines] == [False, False, True, True]
    assert not any("steep" in line for line in lines)


def test_the_student_learns_the_guidance(folder, tmp_path):
    """Nothing but the anchor: the student's unguided velocity comes near to the teacher's guided one."""
    changes = {"critic.from": 60, "lr": 3e-3, "anchor.guidance": 4.0, "batch": 4}
    few_steps.train(recipe(folder, tmp_path, steps=60, **changes))
    values = [line["anchor"] for line in log_of(tmp_path)]
    assert np.mean(values[-20:]) < 0.75 * np.mean(values[:10])


def test_the_student_learns_to_convince_a_critic_that_stands_still(folder, tmp_path):
    changes = {"critic.from": 0, "critic.weight": 1.0, "anchor.later": 0, "rates.critic": 0, "lr": 5e-3}
    few_steps.train(recipe(folder, tmp_path, steps=60, **changes))
    values = [line["convincing"] for line in log_of(tmp_path)]
    assert np.mean(values[-20:]) < np.mean(values[:20]) - 0.01, values


def test_two_parts_of_a_batch_train_as_one(folder, tmp_path):
    whole = few_steps.train(recipe(folder, tmp_path / "whole", steps=2, **{"critic.from": 0}))
    parts = few_steps.train(recipe(folder, tmp_path / "parts", steps=2, accumulate=2, **{"critic.from": 0}))
    for name in ("convincing", "told_apart"):
        assert parts.figures[name] == pytest.approx(whole.figures[name], abs=2e-3)


@pytest.mark.parametrize("changes", [{"student_steps": 0}, {"critic.window": 2}])
def test_what_cannot_be_is_one_sentence(folder, tmp_path, changes):
    with pytest.raises(InputError, match="correct them"):
        few_steps.train(recipe(folder, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_sample_sheet_is_what_the_student_makes(folder, tmp_path):
    few_steps.train(recipe(folder, tmp_path, steps=1, sample_every=1))
    assert [p.name for p in (tmp_path / "samples").iterdir()]


def test_other_kinds_of_models_are_refused(folder, tmp_path):
    toy_diffusion().save_pretrained(tmp_path / "sd")
    with pytest.raises(InputError, match="own flow models"):
        few_steps.train(recipe(folder, tmp_path / "run", model=tmp_path / "sd"))


def test_the_result_is_a_model_of_the_teacher_and_a_small_file(folder, tmp_path):
    outcome = few_steps.train(recipe(folder, tmp_path, name="quick", lr=1e-2))
    assert outcome.weights == tmp_path / "quick"
    found = sorted(str(p.relative_to(outcome.weights)) for p in outcome.weights.rglob("*.safetensors"))
    own = ["lora/pytorch_lora_weights.safetensors", "text_encoder/model.safetensors"]  # the toy's comes from no package
    assert found == own, "the teacher's networks are not stored again"
    pipe, teacher = gensat.load(outcome.weights), gensat.load(folder / "toy")
    assert (pipe.spec.defaults.steps, pipe.spec.defaults.guidance_scale) == (2, 1.0)
    made = pipe("a red river", seed=1, width=64, height=64)
    assert made.scenes[0].provenance["steps"] == 2
    asked = {"seed": 1, "width": 64, "height": 64, "num_inference_steps": 2, "guidance_scale": 1.0}
    assert not np.array_equal(made.scenes[0].array, teacher("a red river", **asked).scenes[0].array)
    layout = np.full((64, 64), 3, np.uint8)
    assert pipe("", layout=layout, seed=1).scenes[0].array.shape == (64, 64, 3), "the teacher's ControlNet came with it"
    assert "2 steps without guidance" in (outcome.weights / "README.md").read_text()


def test_a_student_may_go_on_from_an_earlier_one(folder, tmp_path):
    first = few_steps.train(recipe(folder, tmp_path / "first", lr=1e-2, **{"critic.from": 4}))
    again = few_steps.train(recipe(folder, tmp_path / "again", init=first.weights, lr=1e-9, **{"critic.from": 4}))
    one, other = (load_file(o.weights / LORA) for o in (first, again))
    assert one.keys() == other.keys() and any(v.abs().max() > 1e-4 for k, v in one.items() if "lora_B" in k)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=1e-3)
    with pytest.raises(InputError, match=r"set lora\.rank as it was"):
        few_steps.train(recipe(folder, tmp_path / "bad", init=first.weights, **{"lora.rank": 3}))
    with pytest.raises(InputError, match="holds no lora"):
        few_steps.train(recipe(folder, tmp_path / "none", init=tmp_path))
