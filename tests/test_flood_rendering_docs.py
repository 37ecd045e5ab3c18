"""docs/flood_rendering.md: its Python and its command for the street run as they stand there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import shapely

from gensat.cli import run
from gensat.geo.crs import to_lonlat
from gensat.types import GeoImage

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "flood_rendering.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for line in re.findall(r"^gensat .*$", TEXT, re.MULTILINE) if "assets/examples/" in line]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    image = GeoImage.open("assets/examples/village.jpg")
    exec(compile(BLOCKS[0], "docs/flood_rendering.md", "exec"), {})  # the depth that all below is shown with
    assert GeoImage.open("village_depth.tif").array.max() == 2.0
    x, y = image.transform @ (np.array([60, 180, 120]), np.array([60, 90, 200]))
    area = shapely.Polygon(np.stack(to_lonlat(image.crs, x, y), 1))
    Path("area.geojson").write_text(
        f'{{"type": "Feature", "properties": {{}}, "geometry": {shapely.to_geojson(area)}}}'
    )
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS[1:], ids=("image", "street", "changes"))
def test_the_python_runs(block, here):
    names = {}
    exec(compile(block, "docs/flood_rendering.md", "exec"), names)
    if "flooded" in names and isinstance(names["flooded"], GeoImage):
        assert np.array_equal(names["flooded"].array[~names["seen"]], names["image"].array[~names["seen"]])
    if "picture" in names:
        assert names["picture"].shape == (64, 96, 3)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.rsplit("-o ", 1)[-1])
def test_a_command_runs(line, here, capsys):
    words = shlex.split(line)[1:]
    assert run(words) == 0, capsys.readouterr().err
    assert (here / words[words.index("-o") + 1]).exists()


def test_every_picture_exists():
    pictures = re.findall(r"\]\((images/[^)]+)\)", TEXT)
    assert len(pictures) >= 5 and all((ROOT / "docs" / name).is_file() for name in pictures)
