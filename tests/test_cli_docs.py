"""The commands in docs/cli.md run as they stand there (on the toy model)."""

import re
import shlex
from pathlib import Path

import pytest
from saved_toy import toy_folder

from gensat.cli import commands, demo, run
from gensat.geo.classes import CLASSES, COLOURS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("gensat ")]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.rsplit("-o ", 1)[-1])
def test_a_documented_command_runs(line, tmp_path, monkeypatch, capsys):
    words = shlex.split(line.replace("gensat-small", str(toy_folder())))[1:]
    words += ["--model", str(toy_folder())] if words[0] in ("generate", "demo") else []
    monkeypatch.setattr(demo, "SIDE", 32)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    assert run(words) == 0, capsys.readouterr().err
    if "-o" in words:
        assert (tmp_path / words[words.index("-o") + 1]).exists()


def test_all_commands_were_found():
    assert len(LINES) >= 10
    assert [name for name in commands() if f"gensat {name}" not in TEXT] == []


def test_the_documented_colours_are_those_of_the_legend():
    text = (ROOT / "docs" / "comfyui.md").read_text()
    for name, (red, green, blue) in zip(CLASSES, COLOURS, strict=True):
        assert f"| {name} | {red} {green} {blue} |" in text
