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


def test_the_python_on_published_models_runs(tmp_path, monkeypatch):
    """On a small Sat2Density of random weights, an image of 32 m around the place, and a panorama of two colours."""
    from affine import Affine
    from PIL import Image
    from published_toys import plain_model

    from gensat.geo.crs import from_lonlat, parse_crs
    from gensat.pipelines.density import DensityGroundPipeline
    from gensat.types import GeoImage, Place

    monkeypatch.chdir(tmp_path)
    DensityGroundPipeline(plain_model()).save_pretrained("sat2density")
    crs, place = parse_crs("EPSG:32618"), Place(lon=-77.0526, lat=38.8121)
    x, y = (float(v) for v in from_lonlat(crs, place.lon, place.lat))
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = GeoImage(pixels, crs=crs, transform=Affine(0.5, 0, x - 16, 0, -0.5, y + 16))
    image.save("image.tif")
    street, sky = np.full((128, 512, 3), 60, np.uint8), np.zeros((128, 512), np.uint8)
    street[:60], sky[:60] = (120, 160, 220), 255
    Image.fromarray(street).save("street.jpg")
    Image.fromarray(sky).save("street_sky.png")
    Path("path.csv").write_text("w,h,angle\n310,320,0\n330,320,0\n")  # drawn on 640 pixels
    near = {f"place_{k}": Place(place.lon, place.lat + k * 1e-5) for k in (1, 2, 3)}
    names = {
        "gensat": __import__("gensat"),
        "panorama": street,
        "its_mask": sky,
        "image": image,
        "place": place,
        **near,
    }
    (body,) = re.findall(r"^## Published models\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    for code in re.findall(r"```python\n(.*?)```", body, re.DOTALL):
        if "tile_field" not in code:  # random weights make a mesh of millions of triangles
            exec(code, names)
    views = list(names["views"])
    assert len(views) == 2 and views[0].where()["camera_lon"] < place.lon < views[1].where()["camera_lon"]
    assert len(names["more"].views) == 3 and len(names["out"].images) == 4
