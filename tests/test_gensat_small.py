"""The shipped model itself: it is whole, says what it may be used for, repeats itself, and every condition changes its pictures."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import gensat
from gensat.train.response import changes, condition_changes

FOLDER = Path(str(files("gensat.assets"))) / "gensat-small"
FEW = {"num_inference_steps": 6}


@pytest.fixture(scope="module")
def pipe():
    made = gensat.load("gensat-small", device="cpu", dtype="float32")
    made.set_progress_bar_config(disable=True)
    return made


def pictures(pipe, count=4, seed=0, **about) -> np.ndarray:
    prompts = [about.pop("prompt", "")] * count
    size = {"width": 128, "height": 128}
    return np.stack([s.array for s in pipe(prompts, seed=seed, **size, **about, **FEW).scenes]).astype(float)


def test_the_folder_is_small_and_says_its_licence():
    size = sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file())
    assert size < 30e6
    spec = json.loads((FOLDER / "gensat.json").read_text())
    licence = (FOLDER / "LICENSE").read_text()
    assert spec["licence"] == "CC BY-NC-SA 4.0" and "Attribution-NonCommercial-ShareAlike 4.0" in licence
    assert "held-out" in (FOLDER / "README.md").read_text().lower()


def test_no_config_names_a_path_of_the_machine_that_made_it():
    configs = [json.loads(path.read_text()) for path in FOLDER.rglob("*.json")]
    assert configs and not any("_name_or_path" in config for config in configs)


def test_the_same_request_gives_the_same_bits_and_a_batch_agrees_to_a_grey_level(pipe):
    request = {"gsd": 0.3, "width": 128, "height": 128, **FEW}
    one = pipe("a harbor", seed=3, **request).scenes[0].array
    again = pipe("a harbor", seed=3, **request).scenes[0].array
    assert np.array_equal(one, again)
    batch = pipe(["a river", "a harbor", "a beach", ""], seed=[1, 3, 5, 7], **request).scenes
    assert np.abs(batch[1].array.astype(int) - one.astype(int)).max() <= 1


def test_every_condition_changes_the_picture(pipe):
    figures = condition_changes(pipe, count=1, confidence=None, num_inference_steps=4)
    without = set() if pipe.controlnet is not None else {"layout", "edges"}
    assert set(figures) == {*changes(), "another seed", "the same again"} - without
    assert figures["the same again"]["value"] == 0
    weak = {name: m["value"] for name, m in figures.items() if m["value"] < 1 and name != "the same again"}
    assert not weak, f"these change the picture by less than one grey level: {weak}"


def test_clouds_whiten_a_forest(pipe):
    clear, cloudy = (pictures(pipe, prompt="a forest", cloud_cover=c).mean() for c in (0.0, 0.95))
    assert cloudy > clear + 2


def excess_green(images: np.ndarray) -> float:
    return float((2 * images[..., 1] - images[..., 0] - images[..., 2]).mean())


def test_words_choose_the_colours(pipe):
    forest, beach = (pictures(pipe, prompt=words, gsd=0.6) for words in ("a forest", "a beach"))
    assert excess_green(forest) > excess_green(beach) + 5


def test_woods_on_the_map_are_green_and_dark_where_they_are(pipe):
    from gensat.geo.legend import BUILDING, WOODLAND

    plan = np.full((128, 128), WOODLAND, np.uint8)
    plan[:, 64:] = BUILDING
    for image in (plan, plan[:, ::-1].copy()):  # the side counts, not the noise under it
        made = pictures(pipe, layout=image, legend="gensat", gsd=0.5)
        halves = (made[:, :, :56], made[:, :, 72:])
        woods, built = halves if image[0, 0] == WOODLAND else halves[::-1]
        assert excess_green(woods) > excess_green(built) + 20 and woods.mean() < built.mean()


def test_guidance_amplifies_the_map(pipe):
    from gensat.geo.legend import OTHER_GROUND, WOODLAND

    plan = np.full((128, 128), WOODLAND, np.uint8)
    plan[:, 64:] = OTHER_GROUND
    contrast = []
    for scale in (1.0, 3.0):
        made = pictures(pipe, layout=plan, legend="gensat", gsd=0.5, guidance_scale=scale)
        contrast.append(excess_green(made[:, :, :56]) - excess_green(made[:, :, 72:]))
    assert contrast[1] > 1.5 * contrast[0] > 0
