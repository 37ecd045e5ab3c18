"""The layout segmenter: shapes, what its loss may and may not see, and that it learns."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gensat.errors import InputError
from gensat.geo.legend import BUILDING, OTHER_GROUND, ROAD, UNKNOWN, WATER, WOODLAND
from gensat.models.features import EfficientNetLite0
from gensat.models.segmenter import LayoutSegmenter
from gensat.train import segmenter as training
from gensat.train.sources import Sample

CLASSES = (OTHER_GROUND, BUILDING, ROAD, WATER, WOODLAND)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return EfficientNetLite0(None)


def scene(rng, size=64):
    """A red building on green ground, with its map."""
    image, layout = np.full((size, size, 3), (60, 140, 60), np.uint8), np.full((size, size), OTHER_GROUND, np.uint8)
    row, col = rng.integers(0, size // 2, 2)
    image[row : row + 32, col : col + 32] = (210, 60, 50)
    layout[row : row + 32, col : col + 32] = BUILDING
    return image, layout


def sample(source, image, layout):
    return Sample(source, "toy", image, "", layout=layout)


def losses(scores, layout, **options):
    defaults = {"classes": CLASSES, "weights": torch.ones(5), "footprints": [False], "not_building": 0.0}
    return training.segmentation_loss(scores, layout, **{**defaults, **options})


@pytest.mark.parametrize("size", [(64, 64), (75, 100), (33, 40)])
def test_scores_have_the_size_of_the_image(backbone, size):
    model = LayoutSegmenter(widths=(8, 8, 8, 8, 8))
    x = torch.rand(2, 3, *size)
    assert model.scores(x, backbone=backbone).shape == (2, 5, *size)
    codes = model.predict(x, backbone=backbone)
    assert codes.dtype == torch.uint8 and codes.shape == (2, *size)
    assert set(codes.unique().tolist()) <= set(CLASSES)


def test_the_predicted_codes_follow_the_classes_in_their_order(backbone):
    model = LayoutSegmenter(classes=(WATER, BUILDING), widths=(8, 8, 8, 8, 8))
    with torch.no_grad():
        model.head[-1].weight.zero_()
        model.head[-1].bias.copy_(torch.tensor([5.0, 0.0]))
    assert model.predict(torch.rand(1, 3, 64, 64), backbone=backbone).unique().tolist() == [WATER]


def test_a_map_is_compared_in_the_classes_that_can_be_told_apart():
    layout = torch.arange(11, dtype=torch.uint8)[None, None]
    told = LayoutSegmenter().tellable(layout)
    assert told.tolist() == [[[0, 1, 2, 3, 4, 5, 1, 1, 1, 0, 1]]]  # fields and snow are open ground, wetland is unknown
    assert LayoutSegmenter(classes=(4, 7)).tellable(layout).unique().tolist() == [0, 4, 7]


def test_the_saved_decoder_is_small_and_survives_half_precision(backbone, tmp_path):
    torch.manual_seed(1)
    model = LayoutSegmenter()
    x = torch.rand(1, 3, 64, 64)
    before = model.scores(x, backbone=backbone)
    training.write(model, tmp_path, {"poland": {"value": 0.5}})
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 1.5e6
    assert {t.dtype for t in load_file(weights).values()} == {torch.float16}
    assert next(model.parameters()).dtype == torch.float32
    again = LayoutSegmenter.from_pretrained(tmp_path)
    assert torch.allclose(again.scores(x, backbone=backbone), before, atol=0.02)
    assert "0.5" in (tmp_path / "report.json").read_text()


def test_misuse_says_what_to_do():
    with pytest.raises(InputError, match="5 multiples of 8"):
        LayoutSegmenter(widths=(8, 8, 8))
    with pytest.raises(InputError, match="size=None, not 224"):
        LayoutSegmenter().scores(torch.rand(1, 3, 64, 64), backbone=EfficientNetLite0(224))


def test_unknown_pixels_teach_nothing():
    scores = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layout = torch.full((1, 8, 8), UNKNOWN)
    layout[0, 2, 3] = ROAD
    result = losses(scores, layout)
    result["loss"].backward()
    touched = scores.grad.abs().sum(1)[0] > 0
    assert touched.nonzero().tolist() == [[2, 3]]
    assert float(result["loss"].detach()) == pytest.approx(
        float(-scores.detach()[0, :, 2, 3].log_softmax(0)[2]), rel=1e-5
    )


def test_unknown_in_a_footprint_map_pushes_only_the_building_down():
    scores = torch.zeros(1, 5, 4, 4, requires_grad=True)
    layout = torch.full((1, 4, 4), UNKNOWN)
    result = losses(scores, layout, footprints=[True], not_building=0.5)
    # five equal scores: -log(1 - 1/5)
    assert float(result["loss"].detach()) == pytest.approx(-np.log(0.8), rel=1e-5)
    result["loss"].backward()
    assert (scores.grad[:, 1] > 0).all()
    assert torch.allclose(scores.grad[:, [0, 2, 3, 4]], scores.grad[:, :1].expand(1, 4, 4, 4))
    assert float(losses(scores.detach(), layout)["loss"]) == 0.0


def test_class_weights_lift_rare_classes_and_average_to_one():
    layout = np.full((10, 10), OTHER_GROUND, np.uint8)
    layout[0] = BUILDING
    image = np.zeros((10, 10, 3), np.uint8)
    samples = [
        sample("poland", image, layout),
        sample("uganda", image, layout * 0 + BUILDING),
    ]
    weights = training.class_weights(samples, (OTHER_GROUND, BUILDING), power=0.5)
    assert float(weights[1] / weights[0]) == pytest.approx(3.0)
    assert float(0.9 * weights[0] + 0.1 * weights[1]) == pytest.approx(1.0)


def test_augmenting_moves_image_and_map_together_and_repeats_by_seed():
    image, layout = scene(np.random.default_rng(0), size=96)
    for seed in range(12):
        tile, codes = training.augment(image, layout, np.random.default_rng(seed), crop=64)
        assert tile.shape == (64, 64, 3) and codes.shape == (64, 64) and tile.dtype == np.float32
        assert set(np.unique(codes)) <= {OTHER_GROUND, BUILDING}
        assert ((tile[..., 0] > tile[..., 1]) == (codes == BUILDING)).mean() > 0.9
        assert 0 <= tile.min() and tile.max() <= 1
        again, _ = training.augment(image, layout, np.random.default_rng(seed), crop=64)
        assert np.array_equal(again, tile)


def test_it_learns_buildings_and_reports_them(backbone):
    torch.manual_seed(0)
    model = LayoutSegmenter(widths=(8, 16, 16, 16, 16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        images, layouts = zip(*(scene(rng) for _ in range(4)), strict=True)
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        y = torch.from_numpy(np.stack(layouts)).long()
        loss = losses(model(backbone.pyramid(x, normalise=False), size=(64, 64)), y, footprints=[False] * 4)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    samples = [sample("poland", *scene(rng)) for _ in range(6)]
    samples += [sample("uganda", s.image, s.layout * (s.layout == BUILDING)) for s in samples[:2]]
    maps = training.read_layouts(model.eval(), samples, backbone=backbone)
    figures = training.report(maps, samples)
    assert figures["poland"]["value"] > 0.7 and figures["poland"]["n"] == 6
    # footprints alone cannot show false buildings; counted as ground, they can
    assert set(figures["uganda"]["per_class"]) == {"building"}
    assert figures["uganda"]["as_ground"]["per_class"]["not building"] > 0.7
    assert training.sheet(maps, samples).size == (4 * 3 * 64, 2 * 64)


def test_the_command_trains_saves_resumes_and_measures(monkeypatch, tmp_path, backbone, capsys):
    rng = np.random.default_rng(0)
    toys = [sample("poland", *scene(rng)) for _ in range(4)]
    monkeypatch.setattr(training, "load_samples", lambda *_, **__: toys)
    monkeypatch.setattr(EfficientNetLite0, "from_installed", lambda **_: backbone)
    out, saved = tmp_path / "run", tmp_path / "saved"
    recipe = [f"out={out}", f"save={saved}", "model.widths=[8,8,8,8,8]", "data.crop=64", "batch=2"]
    training.main([*recipe, "steps=2", "warmup=1", "save_every=1", "log_every=1"])
    assert (out / "checkpoint-2").is_dir() and (out / "heldout.jpg").is_file()
    assert LayoutSegmenter.from_pretrained(saved).config.widths == [8, 8, 8, 8, 8]
    training.main([*recipe, "steps=3", "warmup=1", "save_every=1", "log_every=1"])
    assert "resumed checkpoint-2" in capsys.readouterr().err and (out / "checkpoint-3").is_dir()
