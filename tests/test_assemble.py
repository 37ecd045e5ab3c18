"""Model folders of trained parts: their licence, an autoencoder that is another model's, the scheduler of what was predicted, averages."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf
from peft import LoraConfig, get_peft_model_state_dict
from shards_stand_in import write_shard
from toys import wake

import gensat
from gensat.cli import run
from gensat.errors import InputError, ModelError
from gensat.hub.resolve import model_folder
from gensat.hub.weights import load_component, merge_lora
from gensat.pipelines.satellite import SatellitePipeline
from gensat.train import assemble, posthoc
from gensat.train import denoiser as denoiser_training
from gensat.train.assemble import build, load_denoiser, save_scheduler
from gensat.train.averages import PowerAverages
from gensat.train.controlnet import begun
from gensat.train.lora import LORA
from gensat.train.objective import velocity_scheduler
from gensat.train.recipe import load_recipe

SMALL = model_folder("gensat-small")


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    """A thin denoiser for the shipped autoencoder."""
    changes = ["model.conv_width=32", "model.width=64", "model.depth=1", "place.degree=4", "place.hidden_dim=16"]
    torch.manual_seed(0)
    model = wake(build(load_recipe("denoiser", changes)))
    folder = tmp_path_factory.mktemp("parts") / "ema"
    model.save(folder)
    return folder


def put(out, denoiser, *more):
    assemble.main([str(out), f"autoencoder={SMALL / 'vae'}", f"denoiser={denoiser}", *more])
    return gensat.load(out)


def test_a_model_of_the_free_part_says_so(denoiser, tmp_path, capsys):
    whole, free = put(tmp_path / "whole", denoiser), put(tmp_path / "free", denoiser, "open=1")
    assert whole.spec.licence == "CC BY-NC-SA 4.0" and free.spec.licence == "CC BY-SA 4.0"
    capsys.readouterr()
    assert run(["models", "show", str(tmp_path / "free")]) == 0
    assert "CC BY-SA 4.0" in capsys.readouterr().out
    assert "_name_or_path" not in (tmp_path / "free/unet/config.json").read_text()


def test_a_controlnet_that_does_not_fit_is_refused(denoiser, tmp_path):
    with pytest.raises(InputError, match=r"belongs to another denoiser \(.*conv_width \d+ instead of 32"):
        put(tmp_path / "wrong", denoiser, f"controlnet={SMALL}")
    assert not (tmp_path / "wrong").exists()
    init, unet = f"init={SMALL / 'controlnet'}", load_denoiser(denoiser).unet
    with pytest.raises(InputError, match="belongs to another denoiser"):
        begun(load_recipe("controlnet", [init]), unet, control_channels=13)
    with pytest.raises(InputError, match="takes 13 channels, this training shows it 15"):
        begun(load_recipe("flood", [init]), load_denoiser(SMALL).unet, control_channels=15)


def test_a_model_may_be_another_ones_core_and_a_lora(denoiser, tmp_path):
    put(tmp_path / "core", denoiser, "open=1")
    pipe = gensat.load(tmp_path / "core")
    torch.manual_seed(1)
    pipe.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False), "own"
    )
    SatellitePipeline.save_lora_weights(
        tmp_path, unet_lora_layers=get_peft_model_state_dict(pipe.unet, adapter_name="own")
    )
    lora = tmp_path / "pytorch_lora_weights.safetensors"

    assemble.main([str(tmp_path / "whole"), f"core={tmp_path / 'core'}", f"lora={lora}"])
    assert sorted(p.name for p in (tmp_path / "whole").iterdir() if p.is_dir()) == ["lora", "scheduler"]
    whole, core = gensat.load(tmp_path / "whole"), gensat.load(tmp_path / "core")
    assert whole.spec.licence == "CC BY-NC-SA 4.0" and core.spec.licence == "CC BY-SA 4.0"
    how = {"seed": 3, "width": 128, "height": 128, "num_inference_steps": 2}
    without = core("", **how).scenes[0].array.astype(int)
    core.load_lora_weights(str(tmp_path), weight_name=lora.name)
    wanted, made = (p("", **how).scenes[0].array.astype(int) for p in (core, whole))
    assert abs(made - wanted).max() <= 1 < abs(made - without).max()

    whole.save_pretrained(tmp_path / "alone")  # has what was merged, once
    assert (gensat.load(tmp_path / "alone")("", **how).scenes[0].array == made).all()
    third = load_component(tmp_path / "whole", "unet")  # as a model takes it that shares it
    assert all(
        torch.equal(a, b) for a, b in zip(third.state_dict().values(), whole.unet.state_dict().values(), strict=True)
    )
    lora.write_bytes(b"{}")
    with pytest.raises(ModelError, match="does not fit its denoiser"):
        assemble.main([str(tmp_path / "bad"), f"core={tmp_path / 'core'}", f"lora={lora}"])
    (tmp_path / "whole" / LORA).unlink()
    with pytest.raises(ModelError, match="restore the model folder"):
        gensat.load(tmp_path / "whole")


def trained(folder, **changes):
    """What a denoiser's training of three steps on coloured squares leaves, a LoRA on ``core``."""
    given = {"data.shards": f"{folder}/mine-000.tar", "data.cache": folder / "latents", "autoencoder": SMALL / "vae"}
    given |= {
        "steps": 3,
        "batch": 2,
        "large": 0,
        "lora.rank": 2,
        "lr": 0.02,
        "warmup": 1,
        "ema": 0.5,
        "compile": "false",
    }
    given |= {"muon": "null", "precision": "no", "shares": "{mine: 1}", **changes}
    recipe = load_recipe("denoiser", [f"{k}={v}" for k, v in given.items()])
    return denoiser_training.train(recipe).weights


def test_a_lora_and_encoders_are_trained_on_a_core_that_stays(denoiser, tmp_path):
    write_shard(tmp_path / "mine-000.tar", count=6, side=128)
    put(tmp_path / "core", denoiser, "open=1")
    before = load_denoiser(tmp_path / "core")
    ema = trained(tmp_path, core=tmp_path / "core", out=tmp_path / "first")
    after, alone = load_denoiser(ema), load_denoiser(tmp_path / "core").unet
    both = zip(before.unet.named_parameters(), after.unet.parameters(), strict=True)
    moved = [n for (n, a), b in both if not torch.equal(a, b)]
    assert moved and all(n.endswith("weight") for n in moved) and not any("norm" in n or "table" in n for n in moved)
    merge_lora(alone, ema / LORA)
    for a, b in zip(alone.parameters(), after.unet.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)  # the LoRA is kept in float16
    places = [model.place_encoder.state_dict().values() for model in (before, after)]
    assert not all(torch.equal(a, b) for a, b in zip(*places, strict=True))

    assemble.main([str(tmp_path / "whole"), f"core={tmp_path / 'core'}", f"lora={ema}"])
    kept = sorted(p.name for p in (tmp_path / "whole").iterdir() if p.is_dir())
    assert kept == ["acquisition_encoder", "lora", "place_encoder", "scheduler"]
    shutil.move(tmp_path / "core", tmp_path / "elsewhere-core")
    with pytest.raises(ModelError, match="no model is called 'core'"):
        gensat.load(tmp_path / "whole")
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "elsewhere-core", tmp_path / "moved/core")
    shutil.move(tmp_path / "whole", tmp_path / "moved/whole")  # two that lie side by side are found wherever that is
    pipe = gensat.load(tmp_path / "moved/whole")
    for net, theirs in ((pipe.unet, after.unet), (pipe.place_encoder, after.place_encoder)):
        for a, b in zip(net.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.float(), b, atol=2e-3, rtol=2e-3)

    core = tmp_path / "moved/core"
    again = load_denoiser(trained(tmp_path, core=core, out=tmp_path / "second", init=ema, lr=1e-12))
    for a, b in zip(again.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
    with pytest.raises(InputError, match="other layers or another rank"):
        trained(tmp_path, core=core, out=tmp_path / "third", init=ema, **{"lora.rank": 3})
    with pytest.raises(InputError, match="set objective"):
        trained(tmp_path, core=core, out=tmp_path / "third", **{"objective.prediction": "v_prediction"})


def test_a_model_is_sampled_by_what_its_denoiser_was_trained_for(denoiser, tmp_path):
    folder = shutil.copytree(denoiser, tmp_path / "velocity")
    save_scheduler(velocity_scheduler(), folder)
    pipe = put(tmp_path / "out", folder)
    assert pipe.scheduler.config.prediction_type == "v_prediction" and pipe.scheduler.config.rescale_betas_zero_snr
    assert type(put(tmp_path / "flow", denoiser).scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
    (folder / "scheduler/scheduler_config.json").write_text('{"_class_name": "Strange"}')
    with pytest.raises(InputError, match="Strange"):
        assemble.scheduler_of(folder)


def test_averages_become_a_denoiser_of_the_asked_length(denoiser, tmp_path):
    done = tmp_path / "run"
    shutil.copytree(denoiser, done / "ema")
    OmegaConf.save({"training": "denoiser"}, done / "recipe.yaml")
    model = load_denoiser(done / "ema")
    kept = PowerAverages(model, [0.05, 0.1])
    for step in range(1, 9):
        with torch.no_grad():
            model.unet.conv_in.bias.fill_(step)
        kept.step(step)
        if step % 2 == 0:
            kept.write(done / "averages", step)
    posthoc.main([str(done), str(tmp_path / "out"), "sigma=0.05,0.1"])
    found = [load_denoiser(tmp_path / f"out-{s}").unet for s in ("0.05", "0.1")]
    for i, unet in enumerate(found):
        names = kept.names.index("unet.conv_in.bias")
        assert torch.allclose(unet.conv_in.bias, kept.values[i][names], rtol=1e-4)
        assert torch.allclose(unet.conv_out.weight, model.unet.conv_out.weight, atol=1e-5)
    assert 8 > float(found[0].conv_in.bias.detach()[0]) > float(found[1].conv_in.bias.detach()[0]) > 5


def test_what_assemble_needs_is_said(tmp_path):
    with pytest.raises(InputError, match="give OUT autoencoder=DIR"):
        assemble.main([str(tmp_path)])
