"""gensat.load: a folder becomes its pipeline; whatever is wrong with one is one clear sentence."""

import json
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from accelerate import cpu_offload
from toys import toy_pipeline

import gensat
from gensat.errors import ModelError
from gensat.hub import load as loading
from gensat.hub.fingerprint import fingerprint
from gensat.hub.registry import models, models_with
from gensat.hub.resolve import model_folder, shipped
from gensat.hub.spec import FILE
from gensat.hub.weights import check_weights
from gensat.pipelines.satellite import SatellitePipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "toy"
    toy_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "toy")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    """No test here may reach the network, and none sees this machine's cache."""
    attempts = []

    def refuse(*args, **kwargs):
        attempts.append(args)
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    return attempts


def refused(*args, **kwargs):
    with pytest.raises(ModelError) as caught:
        gensat.load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message


def test_folder_becomes_its_pipeline_on_this_machine(folder, offline):
    for name in (folder, str(folder)):
        pipe = gensat.load(name, device="cpu")
        assert type(pipe) is SatellitePipeline and pipe.folder == folder and pipe.spec.name == "toy"
    assert pipe.unet.dtype == torch.float32 and not pipe.unet.training and not offline


def test_precision_is_that_which_was_asked_for(folder):
    pipe = gensat.load(folder, device="cpu", dtype="bfloat16")
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.place_encoder.dtype == torch.bfloat16
    scene = pipe("a harbor", width=32, height=32, num_inference_steps=1, seed=1).scenes[0]
    assert scene.provenance["precision"] == "bfloat16 on cpu"


def test_licence_is_told_once(folder, caplog):
    loading._told.clear()
    with caplog.at_level(logging.WARNING, "gensat"):
        gensat.load(folder, device="cpu")
        gensat.load(folder, device="cpu")
    assert [r.message for r in caplog.records if r.name.startswith("gensat")] == ["model toy: licence Apache-2.0"]


def test_a_hub_id_is_not_fetched_unless_asked(offline):
    message = refused("nobody/nothing")
    assert message.startswith("model nobody/nothing is not on this machine") and "give a folder" in message
    assert not offline, "nothing downloads unless asked"


def test_a_hub_id_that_cannot_be_reached(offline):
    message = refused("nobody/nothing", download=True)
    assert "could not be fetched" in message and message.endswith("check the id and the network")
    assert offline, "it was asked for"


def test_a_hub_id_that_is_cached_needs_no_network(saved, offline):
    from huggingface_hub import constants

    cache = os.path.join(constants.HF_HUB_CACHE, "models--somebody--toy")
    os.makedirs(os.path.join(cache, "refs"))
    with open(os.path.join(cache, "refs", "main"), "w") as file:
        file.write("0" * 40)
    shutil.copytree(saved, os.path.join(cache, "snapshots", "0" * 40))
    assert gensat.load("somebody/toy", device="cpu").spec.name == "toy" and not offline


@pytest.mark.parametrize("name", ["no such model", "gensat-large", "/no/such/folder/at all"])
def test_unknown_names_say_what_there_is(name):
    message = refused(name)
    assert f"no model is called {name!r}" in message and "a folder" in message


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    assert "is no model (it has no model_index.json)" in refused(tmp_path)
    assert "is a file; give the folder" in refused(tmp_path / "readme.txt")


def test_a_folder_without_its_spec(folder):
    (folder / FILE).unlink()
    assert f"holds no {FILE}" in refused(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"a": 1}', '{"_class_name": 3}', '{"_class_name": ["a", "b"]}']
)
def test_a_damaged_index(folder, content):
    (folder / "model_index.json").write_text(content)
    assert "restore the model folder" in refused(folder) or "open it with diffusers" in refused(folder)


def test_a_class_that_gensat_does_not_know(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    message = refused(folder)
    assert "holds a FluxPipeline; gensat loads SatellitePipeline" in message


@pytest.mark.parametrize("component", ["unet", "vae", "place_encoder", "controlnet"])
@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_truncated_weights(folder, component, keep):
    file = folder / component / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    message = refused(folder)
    assert "cannot be loaded" in message and message.endswith("restore its files") and str(folder) in message


def test_truncated_text_encoder(folder):
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot be loaded" in refused(folder)


def test_missing_weights(folder):
    (folder / "unet" / WEIGHTS).unlink()
    assert "cannot be loaded" in refused(folder)


def test_weights_of_another_size(folder):
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "width": 64}))
    assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize("place", [["gensat.models.denoiser", "Nothing"], ["gensat.models.nothing", "LatentDenoiser"]])
def test_unknown_network_class(folder, place):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": place}))
    assert re.search("othing.*restore", refused(folder))


def test_pickled_weights_are_never_run(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (folder / "unet" / WEIGHTS).unlink()
    with (folder / "unet" / "diffusion_pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(), file)
    assert "cannot be loaded" in refused(folder)
    assert not (tmp_path / "exploded").exists()


def test_weights_are_compared_by_name(folder):
    pipe = SatellitePipeline.from_pretrained(folder)
    for name in ("unet", "vae", "controlnet", "place_encoder"):
        check_weights(folder / name, getattr(pipe, name))
    with pytest.raises(ModelError, match=r"do not fit ConvAutoencoder: .* missing and .* unexpected"):
        check_weights(folder / "unet", pipe.vae)


def test_fingerprint_is_that_of_the_tensors(folder):
    pipe, other = SatellitePipeline.from_pretrained(folder), SatellitePipeline.from_pretrained(folder)
    mark = fingerprint(pipe)
    assert len(mark) == 16 and mark == fingerprint(pipe) == fingerprint(other)
    pipe.to(memory_format=torch.channels_last)
    assert fingerprint(pipe) == mark
    with torch.no_grad():
        other.unet.merge.bias[0] += 1
    assert fingerprint(other) != mark
    with torch.no_grad():
        other.unet.merge.bias.copy_(pipe.unet.merge.bias)
    assert fingerprint(other) == mark


def test_fingerprint_knows_the_text_encoder_and_survives_half_precision_and_offload(folder):
    pipe = SatellitePipeline.from_pretrained(folder)
    with torch.no_grad():
        for name in ("unet", "vae", "place_encoder", "acquisition_encoder", "controlnet"):
            getattr(pipe, name).half().float()  # as published: float16
    mark = fingerprint(pipe)
    assert fingerprint(pipe.to(torch.float16)) == mark
    other = SatellitePipeline.from_pretrained(folder)
    for name in ("unet", "vae", "place_encoder", "acquisition_encoder", "controlnet"):
        getattr(other, name).half().float()
    cpu_offload(other.unet, execution_device=torch.device("cpu"))
    assert next(other.unet.parameters()).is_meta and fingerprint(other) == mark
    with torch.no_grad():
        next(other.text_encoder.parameters()).add_(1)
    assert fingerprint(other) != mark


def test_shipped_models_have_specs_and_licences(tmp_path, monkeypatch):
    for name, spec in models().items():
        assert spec.name == name and spec.licence != "unknown"
        assert (shipped()[name] / "model_index.json").is_file()
        assert all(name in models_with()[signal] for signal in spec.signals)


def test_a_shipped_name_is_its_folder(saved, monkeypatch):
    monkeypatch.setattr("gensat.hub.resolve.shipped", lambda: {"toy": saved})
    monkeypatch.setattr("gensat.hub.registry.shipped", lambda: {"toy": saved})
    assert model_folder("toy") == saved
    assert models_with()["layout"] == ["toy"] and models()["toy"].native_size == 64
    assert "use toy, a folder, or a hub id" in refused("gensat-huge")


def test_a_saved_folder_loads_in_a_fresh_process(saved):
    code = f"import gensat; p = gensat.load({str(saved)!r}, device='cpu'); print(type(p).__name__, p.spec.name)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert out.split() == ["SatellitePipeline", "toy"]
