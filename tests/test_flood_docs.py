"""docs/floods.md: its commands and its Python run as they stand there, and Olinda's table is what comes out."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from gensat.cli import run
from gensat.hydro.bathtub import bathtub, find_sources
from gensat.hydro.domain import Domain
from gensat.hydro.ensembles import Ensemble, probability
from gensat.hydro.scenario import Scenario

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "floods.md").read_text()
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("gensat ") and "assets/examples/" in line
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.rsplit("-o ", 1)[-1])
def test_a_command_runs(line, here, capsys):
    words = shlex.split(line)[1:]
    assert run(words) == 0, capsys.readouterr().err
    assert (here / words[words.index("-o") + 1]).exists()


def test_there_are_commands():
    assert len(LINES) >= 4


def test_the_python_runs(here):
    found = {}
    exec(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1], found)
    assert found["flood"].extent.any() and (here / "flood" / "run.json").exists()


def test_the_table_of_olinda_is_what_comes_out(here):
    domain = Domain.open("assets/examples/olinda_dem.tif")
    land, cell = domain.bed > 0, domain.area / 1e6
    rows = re.findall(r"^\| ([1-5]) \| ([\d. |]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for name, values in rows:
        level = float(name)
        sources = find_sources(domain.bed, level).cells
        four, eight = (((bathtub(domain.bed, level, sources, neighbours=n) > 0) & land).sum() * cell for n in (4, 8))
        below = ((domain.bed < level) & land).sum() * cell
        ensemble = Ensemble(members=100, dem_error=3.0, correlation=500.0)
        made, _ = probability(domain, Scenario(level=level), ensemble)
        expected = (made.probability * land).sum() * cell
        said = [float(value) for value in values.split("|")]
        np.testing.assert_allclose(said, [four, eight, below, expected], atol=0.006)
