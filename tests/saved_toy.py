"""A toy model on disk, saved once per test process, and the command line run against it in this process."""

import atexit
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from shards_stand_in import write_shard
from toys import toy_pipeline

import gensat
from gensat.cli import run

FOUND = {**os.environ, "PYTHONPATH": str(Path(gensat.__file__).parents[1])}
"""Environment in which subprocesses find the package that is tested here, wherever they run."""


@cache
def toy_folder() -> Path:
    """Folder of the toy pipeline, as ``save_pretrained`` writes it."""
    folder = Path(tempfile.mkdtemp(prefix="gensat-toy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    toy_pipeline().save_pretrained(folder / "toy")
    return folder / "toy"


def toy_and_shard(folder: Path) -> Path:
    """The folder, with the toy model in ``toy`` and a shard of coloured squares to train it on."""
    shutil.copytree(toy_folder(), folder / "toy")
    write_shard(folder / "mine-000.tar")
    return folder


def generate(*arguments: object) -> int:
    """Exit code of ``gensat generate`` with the toy model."""
    return run(["generate", *map(str, arguments), "--model", str(toy_folder())])


def generate_json(capsys, *arguments: object) -> dict:
    """What ``gensat generate --json`` prints; it has to succeed."""
    capsys.readouterr()
    code = generate(*arguments, "--json")
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)
