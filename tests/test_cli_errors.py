"""Everything wrong with a request is one clear sentence, found before torch is loaded; nothing is ever half-written."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from saved_toy import FOUND, generate, toy_folder

from gensat import GeoImage
from gensat.cli import run

HOUSTON = ["--lon", "-95.36", "--lat", "29.76"]
BOX = ["--bbox", "-95.37", "29.75", "-95.3695", "29.7505"]

# arguments after the prompt, and words of the answer; "@x" is a file made by ``files``
WRONG = [
    (["--lon", "-95", "--lat", "95"], "latitude 95 is outside -90 to 90"),
    (["--lon", "29.76", "--lat", "-95.36"], "swapped"),
    (["--lon", "200", "--lat", "10"], "perhaps -160"),
    (["--lon", "10"], "both --lon and --lat"),
    ([*HOUSTON, *BOX], "both a place and a bbox"),
    (["--bbox", "-95", "29", "-96", "30"], "west -95 is not less than east -96"),
    (["--bbox", "-96", "30", "-95", "29"], "south 30 is not less than north 29"),
    (["--bbox", "-96", "29", "-90", "30", "--gsd", "10"], "more than 200 km"),
    ([*BOX, "--gsd", "1", "--width", "100"], "give width 50"),
    ([*BOX, "--gsd", "1", "--width", "48"], "give width 50"),
    (["--width", "1000000", "--height", "1000000"], "more than 268,435,456 in all"),
    (["--lon", "1", "--lat", "1", "--gsd", "0.1", "--width", "1600000"], "more than 268,435,456 in all"),
    (["--gsd", "30", "--width", "32000", "--height", "64"], "960 km long, more than 200 km"),
    (["--crs", "EPSG:32615"], "CRS was given without a place"),
    ([*HOUSTON, "--crs", "EPSG:4326"], "not a projected system"),
    ([*HOUSTON, "--crs", "EPSG:99999"], "not known"),
    ([*HOUSTON, "--crs", "EPSG:3031"], "EPSG:3031 is not made for lon=-95.36 lat=29.76"),
    ([*HOUSTON, "--width", "100"], "use 96 or 112"),
    ([*HOUSTON, "--width", "16"], "at least 32"),
    (["--width", "0"], "width is 0"),
    ([*HOUSTON, "--gsd", "-1"], "metres per pixel above 0"),
    ([*HOUSTON, "--gsd", "100"], "outside 0.05 to 60 m"),
    (["--date", "2017-02-30"], "the day must be 1 to 28"),
    (["--date", "yesterday"], "'yesterday' is not understood"),
    (["--cloud", "40"], "40 percent is 0.4"),
    (["--sensor", "spot"], "aerial, sentinel-2"),
    (["--count", "0"], "--count is 0"),
    (["--batch", "0"], "--batch is 0"),
    (["--seed", "-1"], "seed -1"),
    (["--steps", "0"], "0 steps"),
    (["--guidance", "-2"], "--guidance is -2"),
    (["--guidance", "nan"], "--guidance is nan"),
    (["--scheduler", "dpm"], "for model toy use flow"),
    (["--scheduler", "fast"], "'fast' is not known"),
    (["--lora", "@absent.safetensors"], "does not exist"),
    (["--lora", "@weights.bin"], "no .safetensors file"),
    (["--lora", "@damaged.safetensors"], "is damaged"),
    (["--lora", "@plain.safetensors"], "holds no LoRA tensors"),
    (["--layout", "@absent.tif"], "does not exist"),
    (["--layout", "@damaged.tif"], "cannot be read"),
    ([*HOUSTON, "--layout", "@codes32.png"], "give the same size, or a layout with a CRS"),
    (["--width", "32", "--layout", "@code99.png"], "codes 99 that legend 'gensat' does not know"),
    ([*HOUSTON, "--layout", "@paris.geojson"], "does not overlap the canvas"),
    (["--width", "32", "--layout", "@codes32.png", "--legend", "nonsense"], "'nonsense' is no file"),
    (["--legend", "esri"], "came without a layout"),
    (["--controlnet-scale", "0.5"], "came without a layout or edges"),
    (["--edges", "@codes32.png"], "are 32 x 32 pixels and the canvas 64 x 64"),
    (["--edges", "@damaged.tif"], "cannot be read"),
    (["--model", "@no-model"], "has no model_index.json"),
    (["--model", "@absent-model"], "no model is called"),
    (["--model", "nobody/nothing-like-this"], "not on this machine"),
    (["--model", "@truncated"], "is damaged"),
    (["--model", "@nospec"], "holds no gensat.json"),
    (["-o", "@picture.gif"], "has no image extension"),
    (["-o", "@absent/picture.tif"], "create it first"),
    (["-o", "@absent/folder/"], "create it first"),
    (["-o", "@there.tif"], "overwrite it with --overwrite"),
    (["-o", "@there/"], "000000-5.tif exists"),
    (["-o", "@noextension"], "noextension is a file where a folder is needed"),
    (["--count", "2", "-o", "@two.tif"], "do not fit into the one file"),
    (["-o", ""], "has no name"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("files")
    (folder / "weights.bin").write_bytes(b"x")
    save_file({"weight": np.zeros(3, np.float32)}, folder / "plain.safetensors")
    (folder / "damaged.safetensors").write_bytes((folder / "plain.safetensors").read_bytes()[:-4])
    (folder / "damaged.tif").write_bytes(b"II*\0 no more")
    Image.fromarray(np.ones((32, 32), np.uint8)).save(folder / "codes32.png")
    Image.fromarray(np.full((32, 32), 99, np.uint8)).save(folder / "code99.png")
    square = [[2.0, 48.0], [2.1, 48.0], [2.1, 48.1], [2.0, 48.0]]
    feature = {
        "type": "Feature",
        "properties": {"natural": "water"},
        "geometry": {"type": "Polygon", "coordinates": [square]},
    }
    (folder / "paris.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    (folder / "no-model").mkdir()
    for name in ("truncated", "nospec"):
        shutil.copytree(toy_folder(), folder / name)
    weights = folder / "truncated" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "nospec" / "gensat.json").unlink()
    (folder / "there").mkdir()
    for name in ("there.tif", "there/000000-5.tif", "noextension"):
        (folder / name).write_bytes(b"before")
    return folder


def command(arguments: list[str], files: Path) -> list[str]:
    words = [str(files / word[1:]) + "/" * word.endswith("/") if word.startswith("@") else word for word in arguments]
    out = [] if "-o" in words else ["-o", str(files / "result.tif")]
    model = [] if "--model" in words else ["--model", str(toy_folder())]
    seed = [] if "--seed" in words else ["--seed", "5"]
    return ["generate", "a harbor", *words, *out, *model, *seed]


@pytest.fixture(scope="module")
def answers(files) -> dict:
    """All wrong requests in one process, which must not import torch for any of them."""
    script = """
    import contextlib, io, json, sys
    from gensat.cli import run
    answers = []
    for arguments in json.load(sys.stdin):
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
            code = run(arguments)
        answers.append([code, out.getvalue(), err.getvalue()])
    json.dump({"answers": answers, "torch": "torch" in sys.modules}, sys.stdout)
    """
    requests = json.dumps([command(arguments, files) for arguments, _ in WRONG])
    before = sorted(files.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input=requests,
        capture_output=True,
        text=True,
        check=True,
        env=FOUND,
    )
    assert sorted(files.rglob("*")) == before  # not a file more, not a file less
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_a_wrong_request_is_one_sentence_and_exit_2(index, answers):
    code, out, err = answers["answers"][index]
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ") and WRONG[index][1] in line
    assert "Traceback" not in err


def test_none_of_them_needed_torch(answers):
    assert answers["torch"] is False


def test_existing_files_stay_as_they_were(files, answers):
    for name in ("there.tif", "there/000000-5.tif", "noextension"):
        assert (files / name).read_bytes() == b"before"


def test_overwrite_replaces(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"before")
    assert generate("", "--width", 32, "--steps", 1, "--overwrite", "-o", tmp_path / "a.tif") == 0
    assert GeoImage.open(tmp_path / "a.tif").width == 32


@pytest.mark.parametrize(("device", "words"), [("tpu", "tpu"), ("cuda:99", "device")])
def test_a_device_that_is_not_there_is_exit_2(tmp_path, capsys, device, words):
    assert generate("", "--device", device, "-o", tmp_path / "a.tif") == 2
    assert words in capsys.readouterr().err.lower()


def test_a_lora_for_another_model_is_exit_2(tmp_path, capsys):
    from safetensors.numpy import save_file

    shape = np.zeros((2, 7), np.float32)
    save_file(
        {"unet.nowhere.lora_A.weight": shape, "unet.nowhere.lora_B.weight": shape.T.copy()}, tmp_path / "x.safetensors"
    )
    assert generate("", "--width", 32, "--lora", tmp_path / "x.safetensors", "-o", tmp_path / "a.tif") == 2
    assert "does not fit model toy" in capsys.readouterr().err


def test_a_full_disk_is_exit_1_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert generate("", "--width", 32, "--steps", 1, "--quiet", "-o", tmp_path / "a.tif") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a.tif could not be written (No space left on device); free space" in line
    assert list(tmp_path.iterdir()) == []


def fail_after(monkeypatch, steps: int, error: BaseException) -> None:
    """Makes the denoising loop raise ``error`` in the callback of step number ``steps`` (counted over all calls)."""
    from gensat.pipelines.satellite import SatellitePipeline

    call, seen = SatellitePipeline.__call__, [0]

    def broken(self, *arguments, callback_on_step_end, **options):
        def callback(*values):
            seen[0] += 1
            if seen[0] == steps:
                raise error
            return callback_on_step_end(*values)

        return call(self, *arguments, callback_on_step_end=callback, **options)

    monkeypatch.setattr(SatellitePipeline, "__call__", broken)


def test_running_out_of_memory_is_exit_1(tmp_path, capsys, monkeypatch):
    import torch

    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory")):
        with monkeypatch.context() as patch:
            fail_after(patch, 1, error)
            assert generate("", "--width", 32, "--quiet", "-o", tmp_path / "a.tif") == 1
        assert "out of memory; make the image smaller" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_exit_130_and_keeps_what_is_whole(tmp_path, capsys, monkeypatch):
    fail_after(monkeypatch, 5, KeyboardInterrupt())  # in the second image
    options = ["--width", 32, "--steps", 3, "--count", 3, "--batch", 1, "--seed", 7, "--quiet"]
    assert generate("", *options, "-o", tmp_path / "out") == 130
    assert "interrupted after writing 1 of 3 images; --seed 8 --count 2 makes the rest" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000-7.tif"]
    assert GeoImage.open(tmp_path / "out" / "000000-7.tif").provenance["seed"] == 7


def test_a_bug_is_exit_1_without_a_traceback_unless_asked_for(tmp_path, capsys, monkeypatch):
    for debug in ("", "1"):
        monkeypatch.setenv("GENSAT_DEBUG", debug)
        with monkeypatch.context() as patch:
            fail_after(patch, 1, ZeroDivisionError("division by zero"))
            assert generate("", "--width", 32, "--quiet", "-o", tmp_path / "a.tif") == 1
        err = capsys.readouterr().err
        assert "error: ZeroDivisionError: division by zero" in err
        assert ("Traceback" in err) is bool(debug)
        assert debug or len(err.strip().splitlines()) <= 3


_WRITES_SLOWLY = """
import pathlib, sys, time
from gensat import cli
from gensat.files import atomic_write

def work(arguments, **options):
    with atomic_write("a.tif", overwrite=True) as part:
        part.write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(30)
        part.write_bytes(b"whole")

cli.build = lambda: work
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "left"), [(signal.SIGTERM, 130, 0), (signal.SIGINT, 130, 0), (signal.SIGKILL, -9, 1)]
)
def test_killed_while_writing_leaves_the_old_file(tmp_path, number, code, left):
    (tmp_path / "a.tif").write_bytes(b"before")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_SLOWLY],
        cwd=tmp_path,
        env=FOUND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        assert process.stderr.read().strip() == ("interrupted" if code == 130 else "")
    assert (tmp_path / "a.tif").read_bytes() == b"before"
    assert len([path for path in tmp_path.iterdir() if path.name != "a.tif"]) == left


def test_a_reader_that_goes_away_is_no_traceback():
    command = [sys.executable, "-m", "gensat", "models", "show", str(toy_folder())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=FOUND) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_comfy_install_refuses_what_is_no_comfyui(tmp_path, capsys):
    assert run(["comfy", "install", "--to", str(tmp_path)]) == 2
    assert "is no ComfyUI (it has no main.py)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
