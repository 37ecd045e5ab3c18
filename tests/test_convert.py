"""Published checkpoints to model folders: what they become, what is refused, and that nothing in them is run."""

import json
import pickle

import pytest
import torch
from published_toys import PLAIN, PLUS, plain_checkpoint, plain_model, plus_checkpoint, plus_model
from safetensors.torch import save_file

import gensat
from gensat.cli import run
from gensat.errors import InputError, ModelError
from gensat.hub.convert import convert, read_model
from gensat.hub.spec import ModelSpec
from gensat.hub.tensors import flattened, read_tensors, weight_file


def saved(folder, values, name="model.pth"):
    torch.save(values, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    convert(saved(folder, plain_checkpoint()), folder / "out", variant="cvact")
    return folder / "out"


def test_sat2density_becomes_the_network_that_it_was(converted):
    pipe = gensat.load(converted)
    assert type(pipe).__name__ == "DensityGroundPipeline" and pipe.spec.name == "sat2density-cvact"
    expected = plain_model().state_dict()
    for name, value in pipe.model.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-6), name
    assert {k: pipe.model.config[k] for k in PLAIN} == PLAIN
    assert "not stated" in ModelSpec.load(converted).licence


def test_what_was_left_out_is_said(tmp_path):
    made = read_model(saved(tmp_path, plain_checkpoint()), variant="cvusa")
    ((reason, names),) = made.left_out.items()
    assert "spectral" in reason and len(names) == 2 * sum("weight_orig" in n for n in plain_checkpoint()["netG"])
    assert made.model.config.tile_metres == 55.0 and made.model.config.elevation == 45.0


def test_the_data_set_is_read_off_the_path_or_asked_for(tmp_path):
    run = tmp_path / "run-20230303_142752-2cqv8uh4" / "files" / "checkpoint"
    run.mkdir(parents=True)
    assert read_model(saved(run, plain_checkpoint())).spec.name == "sat2density-cvusa"
    with pytest.raises(InputError, match="--variant cvact or cvusa"):
        read_model(saved(tmp_path, plain_checkpoint(), "unnamed.pth"))
    with pytest.raises(InputError, match="'paris' of sat2density is unknown"):
        read_model(tmp_path / "unnamed.pth", variant="paris")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_sat2density_plus_with_its_settings(tmp_path, suffix):
    settings = {
        "num_importance": 5,
        "point_sampling_kwargs": {"data_type": "vigor", "num_points": 6},
        "ray_marching_kwargs": {"density_clamp_mode": "softplus"},
    }
    (tmp_path / "generator_config.json").write_text(json.dumps(settings))
    if suffix == "pth":
        saved(tmp_path, {"module." + k: v for k, v in plus_checkpoint().items()}, "generator_smooth.pth")
    else:
        save_file({k: v.contiguous() for k, v in plus_checkpoint().items()}, tmp_path / "generator_smooth.safetensors")
    made = convert(tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    config, expected = made.model.config, plus_model().state_dict()
    assert (config.activation, config.coarse, config.fine, config.tile_metres) == ("softplus", 6, 5, 73.0)
    assert all(tuple(config[k]) == v if isinstance(v, tuple) else config[k] == v for k, v in PLUS.items())
    for name, value in made.model.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-6), name
    assert len(made.notes) == 1 and "coordinate_scale" in made.notes[0]
    again = gensat.load(tmp_path.parent / f"{tmp_path.name}-out")
    assert (
        again.model.config.plane_widths == PLUS["plane_widths"]
        or tuple(again.model.config.plane_widths) == PLUS["plane_widths"]
    )


def without(checkpoint, name):
    del checkpoint["netG"][name]
    return checkpoint


def changed(checkpoint, name, value):
    checkpoint["netG"][name] = value
    return checkpoint


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: without(plain_checkpoint(), "style_model.fc_out.bias"), r"1 missing and 0 unexpected.*fc_out\.bias"),
        (lambda: changed(plain_checkpoint(), "extra", torch.zeros(1)), "0 missing and 1 unexpected.*extra"),
        (lambda: changed(plain_checkpoint(), "style_model.fc_out.bias", torch.zeros(9)), r"is \(9,\)"),
        (lambda: changed(plain_checkpoint(), "style_model.fc_out.bias", torch.full((7,), torch.nan)), "NaN"),
        (lambda: without(plain_checkpoint(), "depth_model.up0_b.layers.conv.weight_u"), "lacks.*weight_u"),
        (lambda: {"a": torch.zeros(1)}, r"none of the models.*Sat2Density, Sat2Density\+\+"),
        (lambda: [torch.zeros(1)], "holds a list"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(tmp_path, make, words):
    source = saved(tmp_path, make())
    with pytest.raises(ModelError, match=words):
        convert(source, tmp_path / "out", variant="cvact")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_code_of_a_pickle_is_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"netG": plain_checkpoint()["netG"], "x": Evil(trap)}, tmp_path / "evil.pth")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil(trap)))
    for name in ("evil.pth", "bare.pt"):
        with pytest.raises(ModelError, match=r"asks for|not made of tensors|cannot be read"):
            convert(tmp_path / name, tmp_path / "out", variant="cvact")
        assert not trap.exists() and not (tmp_path / "out").exists()


def test_damaged_and_absent_files(tmp_path):
    whole = saved(tmp_path, plain_checkpoint()).read_bytes()
    (tmp_path / "short.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="download it again"):
        read_tensors(tmp_path / "short.pth")
    with pytest.raises(ModelError, match="2 files of weights"):
        weight_file(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        weight_file(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match="no file of weights"):
        weight_file(tmp_path / "notes.txt")


def test_module_is_stripped_only_where_every_name_has_it():
    one, two = torch.zeros(1), torch.ones(1)
    assert set(flattened({"module.a": one, "module.b": two})) == {"a", "b"}
    assert set(flattened({"module.a": one, "b": two})) == {"module.a", "b"}


def test_an_output_is_replaced_only_when_asked(tmp_path, converted):
    source = saved(tmp_path, plain_checkpoint())
    convert(source, tmp_path / "out", variant="cvact")
    with pytest.raises(InputError, match="--overwrite"):
        convert(source, tmp_path / "out", variant="cvact")
    convert(source, tmp_path / "out", variant="cvusa", overwrite=True)
    assert ModelSpec.load(tmp_path / "out").name == "sat2density-cvusa"
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no model folder"):
        convert(source, tmp_path / "mine", variant="cvact", overwrite=True)


def test_the_command(tmp_path, capsys):
    source, out = str(saved(tmp_path, plain_checkpoint())), str(tmp_path / "out")
    arguments = ["models", "convert", source, "-o", out, "--variant", "cvact", "--licence", "none given", "--json"]
    assert run(arguments) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["model"] == "sat2density-cvact" and data["class"] == "Sat2Density" and data["licence"] == "none given"
    assert data["parameters"] == sum(p.numel() for p in plain_model().parameters())
    assert "tensors left out (spectral norm" in said.err
    assert run(["models", "show", out]) == 0
    assert "none given" in capsys.readouterr().out
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert "--overwrite" in said.err and said.err.count("\n") <= 3
