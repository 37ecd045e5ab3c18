"""The Python of docs/ground.md on paths, exports and splats runs as it stands there, in its order."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from solid_toys import village

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "ground.md").read_text()
SECTIONS = ("Paths and video", "Exports", "Splats")


def blocks():
    for name in SECTIONS:
        (body,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
        yield from re.findall(r"```python\n(.*?)```", body, re.DOTALL)


def test_the_documented_python_runs(tmp_path, monkeypatch):
    for package in ("cv2", "imageio_ffmpeg", "laspy", "pygltflib", "plyfile"):
        pytest.importorskip(package)
    scene = village()
    lon, lat = scene.frame.lonlat(np.array([-13.0, -10, 0]), np.array([-13.0, -10, -10]))
    monkeypatch.chdir(tmp_path)
    line = {"type": "LineString", "coordinates": np.stack([lon, lat], axis=1).tolist()}
    Path("walk.geojson").write_text(json.dumps(line))
    names = {"scene": scene}
    for code in blocks():
        exec(code.replace("fps=8", "fps=1"), names)
    made = {p.name for p in tmp_path.iterdir()}
    assert made == {
        "walk.geojson",
        "walk.mp4",
        "walk.json",
        "scene.glb",
        "scene.splats.ply",
        "scene.laz",
        "discs.splats.ply",
    }
    assert len(names["again"]) == len(names["splats"]) and not names["view"].sky.all()
