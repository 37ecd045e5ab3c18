"""What the evaluation asks for, and how its figures are written down."""

import numpy as np
import pytest
import torch
from toys import toy_pipeline

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.train.evaluate import PLACES, Evaluation, Report, asked_from, bucketed, by_shape, check_parts, inside
from gensat.train.report import markdown, rows, write_html
from gensat.train.response import changes, condition_changes
from gensat.train.sources import Sample
from gensat.types import Acquisition, Place


def sample(source, i, size=64, **more):
    return Sample(source, f"{source}{i}", np.full((size, size, 3), i % 256, np.uint8), "words", **more)


def test_every_land_use_and_layout_image_is_asked_for_and_the_rest_evenly():
    samples = [sample("ucmerced", i) for i in range(10)] + [sample("houston", i) for i in range(100)]
    asked = asked_from(samples, 20)
    assert [s.source for s in asked].count("ucmerced") == 10
    numbers = [int(s.key.removeprefix("houston")) for s in asked if s.source == "houston"]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == 99
    with pytest.raises(InputError, match="ask for fewer"):
        asked_from(samples, 111)


def test_samples_come_at_a_size_the_model_makes_and_cover_the_same_ground():
    small = bucketed(sample("landsat", 1, 75, acquisition=Acquisition(gsd=15.0)))
    assert small.image.shape == (128, 128, 3) and small.acquisition.gsd == pytest.approx(15 * 75 / 128)
    layout = np.full((224, 224), 5, np.uint8)
    large = bucketed(sample("rasters", 1, 224, layout=layout, acquisition=Acquisition(gsd=10.0)))
    assert large.image.shape == (256, 256, 3) and large.layout.shape == (256, 256)


def test_boxes_of_places_are_apart():
    boxes = {name: box for name, (_, box) in PLACES.items()}
    for name, (w, s, e, n) in boxes.items():
        centre = Place((w + e) / 2, (s + n) / 2)
        assert [other for other, box in boxes.items() if inside(centre, box)] == [name]
    assert not inside(None, boxes["Houston"])


def test_grouping_by_shape_keeps_every_image():
    shapes = [(8, 8), (4, 4), (8, 8), (4, 4), (8, 8)]
    images = [np.full((*shape, 3), i, np.uint8) for i, shape in enumerate(shapes)]
    groups = list(by_shape(images, most=2))
    assert [len(group) for group in groups] == [2, 1, 2]
    assert all(len({x.shape for x in group}) == 1 for group in groups)
    assert sorted(x[0, 0, 0] for group in groups for x in group) == [0, 1, 2, 3, 4]


def test_reconstruction_is_measured_on_images_of_every_shape():
    evaluation = Evaluation.__new__(Evaluation)  # without its data set
    evaluation.pipe = toy_pipeline()
    evaluation.heldout = [sample("landsat", i, size) for i, size in enumerate((32, 64, 32, 64, 32))]
    with torch.no_grad():
        psnr, ssim = evaluation.autoencoder()["landsat"]
    assert psnr["n"] == ssim["n"] == 5


def test_unknown_and_missing_parts_are_refused():
    check_parts(["place", "gsd"])
    with pytest.raises(InputError, match="no part of the evaluation is called 'bogus'; use some of autoencoder"):
        check_parts(["place", "bogus"])
    with pytest.raises(InputError, match="no part is named"):
        check_parts([])


def test_every_figure_is_a_row_with_its_number_of_samples(tmp_path):
    one = Measurement("psnr", 28.123, 40, "net@224", (27.0, 29.0), 0.95).to_dict()
    report = Report(
        {"name": "toy"},
        {"autoencoder": {"houston": [one, one]}, "gsd": one, "counts": {"a": 1}},
        {"a <sheet>": "a.jpg"},
    )
    found = list(rows(report.figures))
    assert [name for name, _ in found] == ["autoencoder / houston"] * 2 + ["gsd"]
    text = markdown(report)
    assert "| gsd: psnr | 28.1 [27, 29] | 40 | net@224 |" in text
    write_html(report, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "28.1" in page and "a &lt;sheet&gt;" in page and "a.jpg" in page


def test_each_condition_that_a_model_takes_is_told_in_two_ways_and_the_change_measured():
    figures = condition_changes(toy_pipeline(), count=2, confidence=None, num_inference_steps=2)
    assert set(figures) == {*changes(), "another seed", "the same again"}
    assert figures["the same again"]["value"] == 0
    silent = [name for name, m in figures.items() if m["value"] == 0]
    assert silent == ["the same again"]
    without = toy_pipeline()
    without.controlnet = None
    assert "layout" not in condition_changes(without, count=1, confidence=None, num_inference_steps=1)
