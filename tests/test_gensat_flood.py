"""The shipped renderer of floods itself: whole, small, licensed, and it paints turbid water exactly where it is asked to."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import gensat
from gensat.hydro.over_image import LaidFlood, lay_flood
from gensat.types import GeoImage

ASSETS = Path(str(files("gensat.assets")))
FOLDER = ASSETS / "gensat-flood"


@pytest.fixture(scope="module")
def laid() -> LaidFlood:
    """The village with a metre of water south of a line."""
    image = GeoImage.open(ASSETS / "examples" / "village.jpg")
    image = GeoImage(np.ascontiguousarray(image.array[:128, :128]))
    depth = np.zeros((128, 128), np.float32)
    depth[56:] = 1.0
    return lay_flood(image, depth, gsd=0.5, heights=np.zeros((128, 128), np.float32))


@pytest.fixture(scope="module")
def pipe():
    made = gensat.load("gensat-flood", device="cpu", dtype="float32")
    made.set_progress_bar_config(disable=True)
    return made


def test_the_folder_holds_what_is_its_own_and_says_its_licence():
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) < 6e6
    spec = json.loads((FOLDER / "gensat.json").read_text())
    assert spec["shared"]["unet"] == "gensat-small" and not (FOLDER / "unet").exists()
    assert spec["licence"] == "CC BY-NC-SA 4.0" and "Attribution-NonCommercial" in (FOLDER / "LICENSE").read_text()


def test_it_paints_turbid_water_with_grain_where_it_is_asked_to(pipe, laid):
    made, grainy = (
        pipe.paint(laid, seed=2, num_inference_steps=6, grain=g).scenes[0].array.astype(float) for g in (0, 1)
    )
    before = laid.image.array.astype(float)
    assert np.array_equal(made[~laid.seen], before[~laid.seen])
    water = made[66:, 8:-8]  # away from the soft edge
    assert np.abs(water - before[66:, 8:-8]).mean() > 10
    red, green, blue = water.reshape(-1, 3).mean(0)
    assert red > blue + 8 and green > blue and 50 < green < 190  # as Houston's was
    rough = [np.abs(np.diff(picture.mean(-1), axis=0)).mean() for picture in (water, before[66:, 8:-8])]
    assert rough[0] < 0.8 * rough[1]
    grain = (grainy - made)[66:, 8:-8]
    assert np.abs(grain.mean((0, 1))).max() < 0.3 and 1.5 < grain.std() < 3.5  # of 255, as Houston's


def test_a_seed_is_a_picture(pipe, laid):
    one, again, other = (pipe.paint(laid, seed=seed, num_inference_steps=3).scenes[0].array for seed in (1, 1, 4))
    assert np.array_equal(one, again) and np.abs(one.astype(int) - other).mean() > 0.5
