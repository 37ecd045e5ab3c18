"""What the satellite pipeline refuses, before any work, and with which sentence."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from diffusers import SASolverScheduler
from satellite_requests import CLASSES, REQUEST, SMALL, picture
from toys import toy_pipeline, toy_spec

from gensat.errors import InputError, ModelError
from gensat.geo.canvas import Canvas
from gensat.hub.spec import Signal, Value
from gensat.pipelines.satellite import SatellitePipeline
from gensat.types import GeoImage, Place


@pytest.fixture(scope="module")
def pipe():
    return toy_pipeline()


OFF_THE_MAP = GeoImage(CLASSES, crs="EPSG:32636", transform=Affine(0.5, 0, 450000, 0, -0.5, 40000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cloud_cover": 40}, "cloud cover 40 .* 40 percent is 0.4"),
        ({"date": "2017-02-30"}, "2017-02-30"),
        ({"layout": CLASSES[:20]}, "32 x 20 pixels .* canvas of 32 x 32"),
        ({"layout": CLASSES + 70}, "codes 70, 71, 72, 73 .* does not know; give"),
        ({"layout": OFF_THE_MAP}, "overlap"),
        ({"layout": CLASSES, "legend": "no-such-legend"}, "no-such-legend"),
        ({"legend": "worldcover"}, "a legend came without a layout"),
        ({"edges": np.zeros((20, 20), np.float32)}, "edge picture is 20 x 20"),
        ({"width": 40}, "width 40 is not a multiple of 16; use 32 or 48"),
        ({"height": 0}, "height is 0"),
        ({"width": 16, "height": 16}, "at least 32 pixels"),
        ({"bbox": (-95.4, 29.7, -95.3, 29.8)}, "both a place and a bbox"),
        ({"canvas": Canvas.local(32, 32)}, "a canvas came together with place, gsd, width, height"),
        ({"place": None, "crs": "EPSG:32615"}, "CRS was given without a place"),
        ({"gsd": 100}, "gsd 100 m is outside 0.05 to 60 m"),
        ({"gsd": -1}, "gsd -1.* is not"),
        ({"sensor": "sputnik"}, "does not know the sensor 'sputnik'; use one of aerial"),
        ({"withhold": ("date",)}, r"withhold names \['date'\]"),
        ({"prompt": []}, "list of prompts is empty"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"seed": [1, 2]}, "2 seeds for 1 images"),
        ({"seed": -3}, "not -3"),
        ({"num_inference_steps": 0}, "steps must be at least 1"),
        ({"guidance_scale": -2.0}, "guidance_scale must lie in 0 .. 100"),
        ({"guidance_rescale": 2.0}, "guidance_rescale"),
        ({"guidance_interval": (0.9, 0.1)}, "interval"),
        ({"layout": CLASSES, "controlnet_conditioning_scale": -1.0}, "controlnet_conditioning_scale is -1"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"latents are \(1, 4, 8, 8\), this call needs \(1, 4, 4, 4\)"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 images"),
        ({"mask": np.zeros((32, 32))}, "mask came without an image"),
        ({"image": picture(side=30)}, "the image is 30 x 30 x 3, the canvas needs 32 x 32 x 3"),
        ({"image": picture().astype(np.float32)}, "the image is float32 from 0 to 255; give 8-bit"),
        ({"image": picture(), "strength": 0.0}, "strength must lie above 0"),
        ({"image": picture(), "mask": np.zeros((9, 32))}, "the mask is 9 x 32"),
        ({"image": picture(), "mask": np.full((32, 32), 1.5)}, "mask goes from 1.5 to 1.5"),
        ({"image": picture(), "mask": np.full((32, 32), np.nan)}, "mask goes from nan"),
        ({"output_type": "jpeg"}, "output_type is 'jpeg'; use one of pil, np, pt, latent"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_wrong_requests_are_found_before_any_work(pipe, changes, message, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the denoiser ran")

    monkeypatch.setattr(pipe.unet, "forward", never)
    with pytest.raises(InputError, match=message) as caught:
        pipe(**{**REQUEST, **changes})
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_latitude_of_95_is_refused():
    with pytest.raises(InputError, match="latitude 95 is outside -90 to 90"):
        Place(lon=0, lat=95)


def test_scheduler_that_draws_is_refused(pipe):
    bad = SatellitePipeline(**{**pipe.components, "scheduler": SASolverScheduler()}, spec=pipe.spec)
    with pytest.raises(InputError, match="SASolverScheduler draws noise"):
        bad(**REQUEST)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"layout": CLASSES}, "layout"), ({"edges": CLASSES * 1.0}, "edges"), ({"date": "2017"}, "acquisition")],
)
def test_conditions_that_a_model_cannot_take_name_models_that_can(pipe, changes, name, monkeypatch):
    monkeypatch.setattr("gensat.hub.request.models_with", lambda: {name: ["gensat-small"]})
    signals = {"prompt": Signal("tokens"), "place": Signal("time_vector")}
    bare = SatellitePipeline(**pipe.components, spec=toy_spec(signals=signals))
    with pytest.raises(InputError, match=f"toy cannot take {name}; use gensat-small, or leave it out"):
        bare(**{**REQUEST, "date": None, **changes})


def test_spec_that_promises_a_missing_controlnet(pipe):
    parts = {**pipe.components, "controlnet": None}
    with pytest.raises(InputError, match="loaded without its controlnet, which layout needs"):
        SatellitePipeline(**parts, spec=pipe.spec)(**REQUEST, layout=CLASSES)


def test_conditions_whose_encoder_was_left_out_are_refused_or_told(pipe):
    bare = SatellitePipeline(**{**pipe.components, "text_encoder": None, "acquisition_encoder": None}, spec=pipe.spec)
    bare.set_progress_bar_config(disable=True)
    with pytest.raises(InputError, match="without its text_encoder, which prompt needs"):
        bare("a harbor", **SMALL)
    with pytest.raises(InputError, match="without its acquisition_encoder, which acquisition needs"):
        bare("", date="2017", **SMALL)
    assert any("ground sampling distances" in note for note in bare("", gsd=0.5, **SMALL).notes)


@pytest.mark.parametrize(
    ("signal", "change", "message"),
    [
        ("place", {"route": "tokens"}, "wants its place by the route 'tokens', this pipeline gives time_vector"),
        (
            "place",
            {"values": (Value("lat"), Value("lon"))},
            "wants its place as lat, lon, this pipeline gives lon, lat",
        ),
        ("place", {"values": (Value("lon", divisor=180.0), Value("lat"))}, "lon, lat, unscaled"),
        ("acquisition", {"values": (Value("year"), Value("gsd"))}, "wants its acquisition as year, gsd"),
        ("edges", {"range": (-1.0, 1.0)}, r"in the range \(-1.0, 1.0\), this pipeline gives 0 to 1"),
        ("layout", {"component": "t2i_adapter"}, "encoded by t2i_adapter, this pipeline gives controlnet"),
    ],
)
def test_specs_that_the_pipeline_would_not_follow_are_refused(pipe, signal, change, message):
    spec = toy_spec()
    signals = {**spec.signals, signal: replace(spec.signals[signal], **change)}
    with pytest.raises(ModelError, match=message):
        SatellitePipeline(**pipe.components, spec=toy_spec(signals=signals))


WRONG_KINDS = """
import numpy as np
from satellite_requests import SMALL, picture
from toys import toy_pipeline
from gensat.errors import InputError
pipe = toy_pipeline()
for changes in (
    {"seed": 7.5}, {"seed": "7"}, {"prompt": ["a", 3]}, {"image": "x.png"}, {"image": [picture()]}, {"gsd": "0.5"},
    {"place": (-95.0, 29.0)}, {"cloud_cover": "much"}, {"sensor": 8}, {"max_batch": 0},
):
    try:
        pipe(**{"prompt": "a harbor", **SMALL, **changes})
    except InputError as error:
        print(error)
"""


def test_values_of_the_wrong_kind_are_refused_in_one_sentence():
    """In a process of its own: here the type checker of the tests would speak first."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG_KINDS], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    expected = [
        "seed is 7.5; give a whole number",
        "seed is '7'; give a whole number",
        "a prompt is 3; give a text",
        "the image is a str; give a GeoImage",
        "the image is a list; give a GeoImage",
        "gsd is '0.5'; give a number",
        "place is (-95.0, 29.0); give gensat.Place",
        "cloud cover is 'much'; give a number",
        "sensor is 8; give its name",
        "max_batch is 0; give 1 or more",
    ]
    said = done.stdout.splitlines()
    assert len(said) == len(expected)
    assert all(line.startswith(start) for line, start in zip(said, expected, strict=True)), said


def test_start_images_are_read_by_band_name_and_refused_where_they_say_nothing(pipe):
    rgb = picture()
    scene = GeoImage(
        rgb[..., ::-1].copy(), ["blue", "green", "red"], "EPSG:32615", Affine(0.5, 0, 270000, 0, -0.5, 3290000)
    )
    keep = np.zeros((32, 32))
    out = pipe("a harbor", image=scene, mask=keep, seed=1, num_inference_steps=2)
    assert np.array_equal(out.scenes[0].array, rgb) and out.scenes[0].crs == scene.crs
    with pytest.raises(InputError, match="there is no band 'blue'"):
        pipe("", image=GeoImage(rgb, ["nir", "red", "green"]), seed=1, num_inference_steps=2)
    holes = np.ones((32, 32), bool)
    holes[:8] = False
    gappy = GeoImage(rgb, valid=holes)
    with pytest.raises(InputError, match=r"25\.0% of the image are pixels without a value"):
        pipe("", image=gappy, seed=1, num_inference_steps=2)
    assert pipe("", image=gappy, mask=~holes, seed=1, num_inference_steps=2).scenes[0].valid is None


def test_a_georeferenced_start_image_keeps_its_place_whatever_else_is_said_of_it(pipe):
    scene = GeoImage(picture(), None, "EPSG:32615", Affine(0.5, 0, 270000, 0, -0.5, 3290000))
    out = pipe("", image=scene, gsd=0.5, width=32, seed=1, num_inference_steps=2)
    assert out.scenes[0].transform == scene.transform
    with pytest.raises(InputError, match=r"the image has a gsd of 0\.5, 2 was asked for"):
        pipe("", image=scene, gsd=2.0, seed=1, num_inference_steps=2)


def test_float_images_and_tensors_are_in_0_to_1_as_in_diffusers(pipe):
    rgb = picture()
    settings = {"strength": 0.5, "seed": 1, "num_inference_steps": 2, "output_type": "latent"}
    as_bytes = pipe("", image=rgb, **settings).images
    assert torch.allclose(pipe("", image=rgb / 255.0, **settings).images, as_bytes, atol=1e-5)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    assert torch.allclose(pipe("", image=tensor, **settings).images, as_bytes, atol=1e-5)
