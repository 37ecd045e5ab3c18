"""IoU of water and the Flood Visualization Plausibility Score."""

import pytest
import torch

from gensat.errors import InputError
from gensat.metrics.flood import fvps_each, summarise_flood, water_iou


def masks(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "#" for letter in row]] for row in rows])


def test_iou_of_water_per_image() -> None:
    shown, asked = masks("##..", "....", "####"), masks(".##.", "....", "....")
    assert water_iou(shown, asked).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_fvps_is_the_harmonic_mean_of_each_image() -> None:
    iou, distance = torch.tensor([0.5, 1.0, 0.0, 0.8]), torch.tensor([0.5, 0.0, 0.2, 1.7])
    assert fvps_each(iou, distance).tolist() == pytest.approx([0.5, 1.0, 0.0, 0.0], abs=1e-6)


def test_the_score_is_averaged_over_images_not_made_of_averages() -> None:
    # the paper's own averages, .502 and .265, would give .597; its table says .533
    assert float(fvps_each(torch.tensor([0.502]), torch.tensor([0.265]))) == pytest.approx(0.597, abs=1e-3)
    each = fvps_each(torch.tensor([0.004, 1.0]), torch.tensor([0.265, 0.265]))
    assert float(each.mean()) < float(fvps_each(torch.tensor([0.502]), torch.tensor([0.265]))) - 0.1


def test_a_figure_says_by_which_networks_and_how_sure() -> None:
    made = summarise_flood("FVPS(ELPD)", torch.linspace(0.2, 0.8, 40), extractor="efficientnet-lite0")
    assert made.value == pytest.approx(0.5) and made.interval is not None and made.interval[0] < 0.5 < made.interval[1]
    assert "FVPS(ELPD)" in str(made) and made.extractor == "efficientnet-lite0" and made.deviation > 0.1


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="differ in size"):
        water_iou(masks("##"), masks("###"))
    with pytest.raises(InputError, match="one of each"):
        fvps_each(torch.rand(2), torch.rand(3))
    with pytest.raises(InputError, match="negative"):
        fvps_each(torch.rand(1), torch.tensor([-0.1]))
    with pytest.raises(InputError, match="finite"):
        summarise_flood("IoU", torch.tensor([float("nan")]), extractor="none")
