"""Few-step distillation: paths of the teacher, pieces of them, and a student that is nearer to it than its own few steps."""

import json

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from saved_toy import toy_and_shard
from toy_diffusion import toy_diffusion
from toys import toy_pipeline

import gensat
from gensat.errors import InputError
from gensat.train import distill
from gensat.train.dropout import Dropout
from gensat.train.latents import Entry, TextBank
from gensat.train.paths import Wishes, kept_paths, levels, load_paths, solve
from gensat.train.recipe import load_recipe
from gensat.types import Acquisition, Place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_and_shard(tmp_path_factory.mktemp("distil"))


def recipe(folder, out, **changes):
    values = {
        "data.shards": folder / "mine-000.tar",
        "model": folder / "toy",
        "out": out,
        "paths": 32,
        "chunk": 16,
        "held": 6,
        "batch": 32,
        "steps": 4,
        "warmup": 1,
        "log_every": 2,
        "save_every": 4,
        "sample_every": 0,
        "precision": "no",
        "tensorboard": "false",
        **changes,
    }
    return load_recipe("distill", [f"{k}={v}" for k, v in values.items()])


def wishes(pipe, **drop):
    acquisition = Acquisition(0.5, "2020-05-01", 0.0, "aerial")
    entries = [Entry("mine", np.zeros(0), ["a red river"], Place(10, 50), acquisition, np.zeros(0), None, "k")]
    text = TextBank.encode(["a red river"], (pipe.text_encoder, pipe.tokenizer), max_tokens=16)
    nothing = {name: 0.0 for name in Dropout().__dict__}
    return Wishes(entries, text, shape=(4, 8, 8), seed=3, drop=Dropout(**{**nothing, **drop}), sensors=["aerial"])


def test_a_solved_path_is_what_the_pipeline_makes():
    pipe = toy_pipeline(gsd_range=(0.05, 60.0))
    asked = wishes(pipe)
    told = asked.told([0, 1])
    ends = solve(pipe, asked, told, 4, guidance=2.0)[:, -1]
    for k in range(2):
        made = pipe(
            "a red river",
            place=Place(10, 50),
            gsd=0.5,
            date="2020-05-01",
            cloud_cover=0.0,
            sensor="aerial",
            width=64,
            height=64,
            num_inference_steps=4,
            guidance_scale=2.0,
            latents=told["noise"][k : k + 1],
            output_type="latent",
        ).images
        torch.testing.assert_close(ends[k : k + 1], made, atol=2e-4, rtol=1e-3)


def test_states_on_the_way_are_those_of_every_step():
    pipe = toy_pipeline()
    asked = wishes(pipe, place=0.5)
    told = asked.told(range(3))
    every = solve(pipe, asked, told, 6, guidance=1.5)
    third = solve(pipe, asked, told, 6, guidance=1.5, every=3)
    assert every.shape == (3, 7, 4, 8, 8) and torch.equal(third, every[:, ::3])
    assert torch.equal(third[:, 0], told["noise"])
    alone = solve(pipe, asked, asked.told([2]), 6, guidance=1.5, every=3)
    torch.testing.assert_close(alone[0], third[2], atol=1e-5, rtol=1e-4)


def test_levels_of_few_steps_lie_among_those_of_many_also_when_shifted():
    for shift in (1.0, 3.0):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        few, many = levels(scheduler, 4)[1], levels(scheduler, 20)[1]
        torch.testing.assert_close(few, many[::5])
        assert few[0] == 1 and few[-1] == 0


def test_following_the_targets_of_the_pieces_walks_the_path():
    scheduler = FlowMatchEulerDiscreteScheduler()
    times, sigmas = levels(scheduler, 4)
    states = torch.randn(5, 5, 4, 8, 8).half()
    asked = wishes(toy_pipeline())
    draw = distill.Pieces(asked, states, times, sigmas, batch=20, seed=0)
    made = draw.part(0, 0, 1)
    seen = {}
    for x, t, target in zip(made["x"], made["t"], made["target"], strict=True):
        k = times.tolist().index(float(t))
        path = next(i for i in range(5) if torch.equal(states[i, k].float(), x))
        seen[path, k] = x + (sigmas[k + 1] - sigmas[k]) * target
    assert len(seen) == 20, "an epoch is every piece once"
    assert all(torch.allclose(v, states[i, k + 1].float(), atol=1e-5) for (i, k), v in seen.items())
    parts = [distill.Pieces(asked, states, times, sigmas, batch=20, seed=0).part(0, k, 4) for k in range(4)]
    assert all(torch.equal(part["x"], made["x"][k::4]) for k, part in enumerate(parts))


def test_paths_that_are_there_are_not_asked_for_again(tmp_path):
    asked = []

    def make(chunk):
        asked.append(chunk)
        return torch.full((len(chunk), 2, 1), float(chunk.start))

    chunks = [range(0, 4), range(4, 8), range(8, 10)]
    kept_paths(tmp_path, "a", chunks[:2], make, rank=0, world=1)
    (tmp_path / "paths-00001.safetensors").write_bytes(b"damaged")
    kept_paths(tmp_path, "a", chunks, make, rank=0, world=2)
    kept_paths(tmp_path, "a", chunks, make, rank=1, world=2)
    assert asked == [range(0, 4), range(4, 8), range(8, 10), range(4, 8)]
    assert load_paths(tmp_path, 9)[:, 0, 0].tolist() == [0] * 4 + [4] * 4 + [8]
    kept_paths(tmp_path, "b", chunks[:1], make, rank=0, world=1)
    assert len(asked) == 5, "another teacher, other paths"


def test_a_student_is_nearer_to_the_teacher_than_the_teacher_in_as_few_steps(folder, tmp_path):
    teacher = toy_pipeline()
    with torch.no_grad():
        teacher.unet.conv_out.weight *= 6  # random weights make nearly straight paths, which need no student
    teacher.save_pretrained(tmp_path / "bent")
    settings = {"model": tmp_path / "bent", "student_steps": 2, "teacher_steps": 12, "guidance": 2.0, "paths": 128}
    settings |= {"chunk": 67, "batch": 32, "lr": 3e-3, "ema": 0.97, "log_every": 50, "save_every": 120}
    outcome = distill.train(recipe(folder, tmp_path / "run", steps=120, sample_every=120, **settings))
    figures = outcome.figures
    student, guided, plain = (figures[f"{k}_2_steps_psnr"] for k in ("student", "teacher_guided", "teacher_unguided"))
    assert student > guided + 1 > plain, figures
    pipe = gensat.load(outcome.weights)
    assert (pipe.spec.defaults.steps, pipe.spec.defaults.guidance_scale) == (2, 1.0)
    made = pipe("a red river", seed=1, width=64, height=64)
    assert made.scenes[0].provenance["steps"] == 2
    assert f"{student} dB" in (outcome.weights / "README.md").read_text()
    again = distill.train(recipe(folder, tmp_path / "run", steps=120, **settings))
    assert again.figures["student_2_steps_psnr"] == student, "a finished run says the same again"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_steps": 10}, r"give a multiple of student_steps \(4\), such as 20"),
        ({"student_steps": 0}, "multiple"),
        ({"held": 0}, "1 or more"),
        ({"data.size": 20}, "multiples of 16"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        distill.train(recipe(folder, tmp_path, **changes))


def test_models_of_noise_prediction_are_refused(folder, tmp_path):
    toy_diffusion().save_pretrained(tmp_path / "sd")
    with pytest.raises(InputError, match="not trained with flow matching"):
        distill.train(recipe(folder, tmp_path / "run", model=tmp_path / "sd"))


def test_the_log_is_json(folder, tmp_path):
    distill.train(recipe(folder, tmp_path))
    lines = [json.loads(line) for line in open(tmp_path / "log.jsonl")]
    assert [line["step"] for line in lines] == [2, 4]
