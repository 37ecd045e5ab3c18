"""The figures of a ground refiner come from streets and panoramas as they say."""

import numpy as np
import pytest
import torch
from PIL import Image
from refiner_toys import toy_refiner

from gensat.errors import InputError
from gensat.train.recipe import load_recipe
from gensat.train.refiner_report import SIDES, panorama_crops, train
from gensat.train.refiner_views import held_out_types


@pytest.fixture
def panoramas(tmp_path):
    """Two 2:1 pictures: a sky over ground, each of its own colours."""
    paths = []
    for k in range(2):
        picture = np.zeros((64, 128, 3), np.uint8)
        picture[:32], picture[32:] = (90 + 60 * k, 140, 220), (90, 80 - 30 * k, 60)
        picture[:, ::7] //= 2
        paths.append(tmp_path / f"pano{k}.png")
        Image.fromarray(picture).save(paths[-1])
    return paths


def test_crops_look_all_around_at_the_height_of_eyes(panoramas):
    crops = panorama_crops(panoramas, 6, 32, seed=0)
    again = panorama_crops(panoramas, 6, 32, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(crops, again, strict=True)) and crops[0].shape == (32, 32, 3)
    for crop in crops:
        assert crop[0, :, 2].mean() > crop[0, :, 0].mean() and crop[-1, :, 0].mean() > crop[-1, :, 2].mean()


def test_panoramas_that_are_missing_are_said_before_anything_is_painted(panoramas, tmp_path):
    for given, what in (([], "there are none"), (["nothere.exr"], "nothere.exr is no file")):
        recipe = load_recipe("refiner_report", [f"out={tmp_path / 'out'}"])
        recipe.panoramas, recipe.trained_panoramas = given, [str(panoramas[1])]
        with pytest.raises(InputError, match=what):
            train(recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_report_holds_every_figure(panoramas, tmp_path):
    toy_refiner().save_pretrained(tmp_path / "toy")
    recipe = load_recipe(
        "refiner_report", [f"out={tmp_path / 'out'}", f"model={tmp_path / 'toy'}", "count=80", "views=40"]
    )
    recipe.panoramas, recipe.trained_panoramas = [str(panoramas[0])], [str(panoramas[1])]
    recipe.side, recipe.frames, recipe.denoising_steps = 64, 3, 1
    made = train(recipe)
    assert held_out_types() and made.steps == 80
    for side in SIDES:
        for name in ("frechet_64", "kernel", "edges"):
            assert np.isfinite(made.figures[f"{side} {name}"])
    assert made.figures["drawn facades edges"] > 0.5  # a raw render keeps what its colours show
    assert made.figures["walk refined, together"] > 0 and (tmp_path / "out" / "walk.jpg").is_file()
