"""A training that is killed with -9 again and again ends with the bits of one that was not; two processes train what one does."""

import json
import shutil

import killed_run
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shards_stand_in import write_shard
from toys import toy_pipeline

from gensat.train.checkpoint import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    toy_pipeline().save_pretrained(folder / "toy")
    write_shard(folder / "toy-000.tar")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """An uninterrupted run and the seconds it took."""
    seconds, code = killed_run.run(killed_run.recipe_values(folder, "whole"))
    assert code == 0
    return folder / "whole", seconds


def same(a, b):
    """Everything equal to the bit, in nested states."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def result(out):
    tensors, state = read(out / "checkpoint-30")
    state.pop("seconds")
    log = [{k: v for k, v in json.loads(line).items() if k != "samples_per_s"} for line in open(out / "log.jsonl")]
    weights = load_file(out / "toy-lora" / "pytorch_lora_weights.safetensors")
    return {"tensors": tensors, "state": state, "log": log, "weights": weights}


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_and_once_in_a_checkpoint_write_ends_bit_identical(folder, whole, times):
    reference, seconds = whole
    name = f"killed-{times}"
    values, out, sign = killed_run.recipe_values(folder, name), folder / name, folder / f"sign-{times}"
    _, code = killed_run.run(values, kill_in_write=sign)
    assert sign.exists() and code == -9
    assert list(out.glob(".fresh-*")) and not list(out.glob("checkpoint-*")), "it died in its first checkpoint"
    rng = np.random.default_rng()  # other moments in every run of the tests
    killed = 1
    while killed < times:  # a machine that became faster may let a run end: then the next one has less time
        _, code = killed_run.run(values, kill_after=float(rng.uniform(0.2, 0.95) * seconds))
        killed, seconds = killed + 1, seconds if code == -9 else 0.6 * seconds
    assert killed_run.run(values)[1] == 0
    assert same(result(out), result(reference))
    assert not list(out.glob(".fresh-*"))
    assert sorted(p.name for p in out.glob("checkpoint-*")) == ["checkpoint-25", "checkpoint-30"]


def test_the_comparison_can_fail(folder, whole):
    values = killed_run.recipe_values(folder, "other", seed=1)
    assert killed_run.run(values)[1] == 0
    other = result(folder / "other")
    assert not same(other["tensors"], result(whole[0])["tensors"])


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_ends_the_same(folder, whole):
    out = folder / "damaged"
    shutil.copytree(whole[0], out)
    state = out / "checkpoint-30" / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    assert killed_run.run(killed_run.recipe_values(folder, "damaged"))[1] == 0
    assert same(result(out), result(whole[0]))


def test_two_processes_and_two_passes_train_what_one_does(folder):
    ends = []
    for name, changes, processes in (("one", {}, 1), ("passes", {"accumulate": 2}, 1), ("two", {}, 2)):
        # dropout layers draw per part of the batch, so only equal parts agree on them
        values = killed_run.recipe_values(folder, name, steps=8, **{"lora.dropout": 0.0}, **changes)
        assert killed_run.run(values, processes=processes)[1] == 0
        ends.append(load_file(folder / name / "checkpoint-8" / "model.safetensors"))
    one, passes, two = ends
    for key in one:
        torch.testing.assert_close(passes[key], one[key], atol=1e-6, rtol=1e-5)
        assert torch.equal(two[key], passes[key]), "the same parts, added up in another place"
    assert max(float((one[k]).abs().max()) for k in one) > 1e-3
