"""``gensat train``: lists recipes, checks what is asked, trains, and says where the weights are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from saved_toy import FOUND, toy_folder
from shards_stand_in import write_shard

from gensat.cli import run
from gensat.cli.train import TRAININGS
from gensat.train import logs
from gensat.train.chain import FLAGS
from gensat.train.recipe import load_recipe, recipes


@pytest.fixture(autouse=True)
def _loud():
    yield
    logs.quiet = False


def changes(tmp_path, **more):
    write_shard(tmp_path / "mine-000.tar", count=4)
    values = {
        "data.shards": tmp_path / "mine-000.tar",
        "model": toy_folder(),
        "steps": 2,
        "batch": 2,
        "log_every": 1,
        "save_every": 2,
        "sample_every": 0,
        "precision": "no",
        "tensorboard": "false",
        **more,
    }
    return [f"{k}={v}" for k, v in values.items()]


def test_the_list_names_every_recipe(capsys):
    assert run(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(
        name in out for name in ("lora", "finetune", "layout", "distill", "denoiser", "autoencoder", "controlnet")
    )
    assert run(["train", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == recipes()


def test_the_list_imports_no_torch():
    code = "import sys; from gensat.cli import run; run(['train', '--list']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=FOUND)
    assert done.stderr.strip() == "False"


def test_every_recipe_of_a_training_here_can_be_started():
    for name in (
        "lora",
        "finetune",
        "layout",
        "distill",
        "denoiser",
        "autoencoder",
        "controlnet",
        "segmenter",
        "probe",
    ):
        assert load_recipe(name).training in TRAININGS


def test_a_run_says_where_its_weights_are_and_goes_on(tmp_path, capsys):
    words = ["train", "lora", *changes(tmp_path), "--out", str(tmp_path / "run")]
    assert run([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["steps"] == 2 and told["weights"].endswith("toy-lora") and told["figures"]["loss"] > 0
    assert '{"step": 1, "loss"' in err
    assert run([*words, "steps=3", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "run" / "checkpoint-3").is_dir()


def test_a_recipe_of_ones_own(tmp_path, capsys):
    OmegaConf.save(load_recipe("lora"), tmp_path / "mine.yaml")
    assert run(["train", str(tmp_path / "mine.yaml"), *changes(tmp_path), "--out", str(tmp_path / "run")]) == 0
    assert "toy-lora" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "--list names them"),
        (["train", "loral"], "did you mean 'lora'"),
        (["train", "lora", "step=3"], "did you mean 'steps'"),
        (["train", "lora", "steps=-3"], "steps is -3"),
        (["train", "lora", "data.shards=nowhere"], "nowhere"),
        (["train", "lora", "model=nowhere"], "no model is called 'nowhere'"),
        (["train", "lora", "precision=fp16", "data.shards={shard}"], "precision=bf16"),
    ],
)
def test_errors_are_at_most_three_lines_and_exit_2(words, message, tmp_path, capsys):
    shard = write_shard(tmp_path / "mine-000.tar", count=2)
    words = [word.format(shard=shard) for word in words]
    out = ["--out", str(tmp_path / "run")] if len(words) > 1 else []
    assert run([*words, *out]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) <= 3 and "Traceback" not in err
    assert not (tmp_path / "run").exists(), "nothing is written before everything is checked"


def test_the_recipes_and_keys_that_the_documentation_names_are_there():
    text = (Path(__file__).resolve().parents[1] / "docs" / "training.md").read_text()
    found = re.findall(r"(?:gensat train|-m gensat\.train\.finetune) ([a-z]\w*) ((?:[\w.]+=\S+ ?)+)", text)
    assert len(found) >= 4
    for name, values in found:
        load_recipe(name, [v for v in values.split() if not v.startswith("-")])
    known = [load_recipe(name) for name in ("lora", "distill", "few_steps", "denoiser", "controlnet")]
    for key in re.findall(r"`([a-z_.]+)=[\w.]*`", text):
        assert key in FLAGS or any(OmegaConf.select(one, key, default="no") != "no" for one in known), key
