"""The satellite pipeline and the outside: saving, loading, adapters, networks of diffusers."""

import socket

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from satellite_requests import HOUSTON, REQUEST, SMALL, pixels
from toys import toy_pipeline, toy_spec, toy_text

from gensat.errors import ModelError
from gensat.hub.spec import Signal
from gensat.pipelines.satellite import SatellitePipeline


@pytest.fixture(scope="module")
def pipe():
    return toy_pipeline()


@pytest.fixture(scope="module")
def base(pipe):
    return pipe(**REQUEST)


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "toy"
    pipe.save_pretrained(path)
    return path


def test_saving_and_loading_gives_the_same_pictures(pipe, base, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    again = SatellitePipeline.from_pretrained(folder)
    again.set_progress_bar_config(disable=True)
    assert again.spec == pipe.spec and again.folder == folder
    assert set(again.components) == {
        "vae", "text_encoder", "tokenizer", "unet", "controlnet", "scheduler", "place_encoder", "acquisition_encoder",
    }  # fmt: skip
    assert np.array_equal(pixels(again(**REQUEST, layout=None)), pixels(base))
    assert again(**REQUEST).scenes[0].provenance["model_hash"] == base.scenes[0].provenance["model_hash"]


def test_parts_may_be_given_when_loading(pipe, folder):
    again = SatellitePipeline.from_pretrained(
        folder, controlnet=None, scheduler=DDIMScheduler(), spec=toy_spec(name="other")
    )
    assert again.controlnet is None and isinstance(again.scheduler, DDIMScheduler) and again.spec.name == "other"


def test_text_encoder_of_the_package_is_read_when_the_folder_has_none(pipe, tmp_path, monkeypatch):
    slim = SatellitePipeline(
        vae=pipe.vae, unet=pipe.unet, scheduler=pipe.scheduler, spec=toy_spec(text_encoder="minilm")
    )
    slim.save_pretrained(tmp_path)
    monkeypatch.setattr("gensat.pipelines.base.load_minilm", toy_text)
    again = SatellitePipeline.from_pretrained(tmp_path)
    assert again.text_encoder is not None
    again.save_pretrained(tmp_path / "full")
    monkeypatch.undo()
    alone = SatellitePipeline.from_pretrained(tmp_path / "full")
    assert torch.equal(
        alone.text_encoder.embeddings.word_embeddings.weight, again.text_encoder.embeddings.word_embeddings.weight
    )


def test_from_pipe_shares_the_networks_and_the_spec(pipe, base):
    other = SatellitePipeline.from_pipe(pipe)
    assert other is not pipe and other.unet is pipe.unet and other.spec == pipe.spec
    assert np.array_equal(pixels(other(**REQUEST)), pixels(base))


def test_lora_is_loaded_saved_and_unloaded(base, tmp_path):
    pipe = toy_pipeline()
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    trained = pixels(pipe(**REQUEST))
    pipe.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    assert [p.name for p in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]

    pipe = toy_pipeline()
    pipe.load_lora_weights(tmp_path, adapter_name="style")
    with_lora = pipe(**REQUEST)
    assert np.array_equal(pixels(with_lora), trained) and np.abs(trained - pixels(base)).max() > 1
    assert with_lora.scenes[0].provenance["lora"] == {"style": 1.0} and base.scenes[0].provenance["lora"] is None
    assert with_lora.scenes[0].provenance["model_hash"] != base.scenes[0].provenance["model_hash"]
    pipe.set_adapters(["style"], [0.0])
    assert np.abs(pixels(pipe(**REQUEST)) - pixels(base)).max() <= 1
    pipe.set_adapters("style", 0.5)
    assert pipe(**REQUEST).scenes[0].provenance["lora"] == {"style": 0.5}
    pipe.disable_lora()
    off = pipe(**REQUEST)
    assert off.scenes[0].provenance["lora"] is None and np.array_equal(pixels(off), pixels(base))
    pipe.unload_lora_weights()
    after = pipe(**REQUEST)
    assert np.array_equal(pixels(after), pixels(base))
    assert after.scenes[0].provenance["model_hash"] == base.scenes[0].provenance["model_hash"]


def test_networks_of_diffusers_run_through_the_same_code():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        layers_per_block=1,
    ).eval()
    toy = toy_pipeline()
    pipe = SatellitePipeline(
        vae=vae,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False),
        text_encoder=toy.text_encoder,
        tokenizer=toy.tokenizer,
        acquisition_encoder=toy.acquisition_encoder,
        spec=toy_spec(),
    )
    pipe.set_progress_bar_config(disable=True)
    a, b = pipe(**REQUEST), pipe(**{**REQUEST, "date": "2016"})
    assert a.images[0].size == (32, 32) and np.abs(pixels(a) - pixels(b)).max() > 0
    assert a.scenes[0].provenance["scheduler"] == "DDIMScheduler"


def test_every_encoder_is_optional(pipe):
    signals = {"prompt": Signal("tokens")}
    bare = SatellitePipeline(vae=pipe.vae, unet=pipe.unet, scheduler=pipe.scheduler, spec=toy_spec(signals=signals))
    bare.set_progress_bar_config(disable=True)
    out = bare("", place=HOUSTON, gsd=0.5, seed=1, **SMALL)
    assert out.scenes[0].crs is not None
    assert [note.split(":")[0] for note in out.notes] == [
        "model toy does not know places",
        "model toy does not know ground sampling distances",
    ]


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "toy")
    file = tmp_path / "toy" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["merge.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"LatentDenoiser: 1 missing and 0 unexpected tensors .*lack merge.weight"):
        SatellitePipeline.from_pretrained(tmp_path / "toy")
    save_file(
        {**load_file(file), "merge.weight": torch.zeros(16, 32, 1, 1), "extra": torch.zeros(1)}, file, {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"0 missing and 1 unexpected tensors .*unknown extra"):
        SatellitePipeline.from_pretrained(tmp_path / "toy")
