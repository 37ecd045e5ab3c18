"""The light of a reference panorama: its sky looked for or masked, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from published_toys import plus_model

from gensat.errors import InputError
from gensat.models.sky_histogram import find_sky
from gensat.pipelines.density import DensityGroundPipeline
from gensat.pipelines.density_light import FIND, light_histogram, open_reference

ROWS, COLS = 128, 256


def scene(seed=0):
    """A cloudy sky over a street: houses with windows, one across the seam, and rough ground; and where the sky is."""
    draw = np.random.default_rng(seed)
    sky = np.ones((ROWS, COLS), bool)
    sky[60:] = False
    picture = np.empty((ROWS, COLS, 3), np.float32)
    up = np.linspace(0, 1, ROWS)[:, None]
    picture[:] = np.stack([0.3 + 0.5 * up, 0.5 + 0.35 * up, np.broadcast_to(0.95, up.shape)], -1)
    rows, cols = np.mgrid[:ROWS, :COLS]
    for _ in range(6):  # soft clouds
        r, c, size = draw.integers(5, 50), draw.integers(0, COLS), draw.uniform(4, 12)
        apart = (cols - c + COLS / 2) % COLS - COLS / 2
        cloud = np.exp(-((rows - r) ** 2 + (apart / 3) ** 2) / size**2)[..., None]
        picture = picture * (1 - 0.6 * cloud) + 0.6 * cloud
    for left, right, top, grey in ((240, 276, 30, 0.35), (40, 70, 20, 0.6), (120, 160, 45, 0.2)):
        where = np.arange(left, right) % COLS
        picture[top:60, where] = grey
        picture[top + 3 : 60 : 4, where] = 0.05
        sky[top:60, where] = False
    picture[60:] = draw.uniform(0.1, 0.6, (ROWS - 60, COLS, 1))
    return torch.from_numpy(picture.astype(np.float32)), torch.from_numpy(sky)


@pytest.mark.parametrize("seed", range(4))
def test_the_sky_is_found(seed):
    picture, sky = scene(seed)
    found = find_sky(picture)
    assert float((found & sky).sum() / (found | sky).sum()) > 0.95
    # wherever the panorama is cut open
    turned = find_sky(picture.roll(77, 1)).roll(-77, 1)
    assert float((turned != found).float().mean()) < 0.002


def test_no_sky_is_said():
    """Leaves and their gaps all over, and a smooth ground below them."""
    leaves = np.random.default_rng(0).integers(0, 2, (64, 128)).repeat(2, 0).repeat(2, 1)
    picture = torch.from_numpy(leaves[:, :, None].astype(np.float32)).repeat(1, 1, 3)
    with pytest.raises(InputError, match="give its mask"):
        find_sky(picture)
    picture[64:] = 0.7
    with pytest.raises(InputError, match="give its mask"):
        find_sky(picture)


def test_a_found_sky_lights_like_its_mask():
    ground = DensityGroundPipeline(plus_model()).ground
    picture, _ = scene()
    mask = find_sky(picture)
    found, notes = light_histogram(ground, picture.numpy(), FIND, None)
    given, none = light_histogram(ground, picture.numpy(), mask.numpy(), None)
    assert none == [] and "looked for" in notes[0]
    # the mask is brought to the model's size by other means: a row of pixels at its border
    assert float((found - given).abs().max()) < 0.05 and float(found.sum()) == pytest.approx(3.0, abs=1e-4)


def test_references_come_from_files(tmp_path):
    picture, sky = scene()
    shown = Image.fromarray((picture.numpy() * 255).round().astype(np.uint8))
    shown.save(tmp_path / "street.png")
    Image.fromarray(sky.numpy()).save(tmp_path / "mask.png")
    one = open_reference(tmp_path / "street.png", tmp_path / "mask.png")
    assert np.array_equal(np.asarray(one.light), np.asarray(shown))
    assert np.array_equal(np.asarray(one.sky) > 127, sky.numpy())
    assert open_reference(tmp_path / "street.png").sky == FIND
    Image.new("L", (64, 64)).save(tmp_path / "square.png")
    with pytest.raises(InputError, match="mask of this panorama"):
        open_reference(tmp_path / "street.png", tmp_path / "square.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "street.png").read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read"):
        open_reference(tmp_path / "cut.jpg")
    with pytest.raises(InputError, match="does not exist"):
        open_reference(tmp_path / "nothing.jpg")


def test_a_high_dynamic_range_is_shown(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    picture, _ = scene()
    linear = (picture.numpy() ** 2.2 * 1000).astype(np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGB": linear}).write(str(tmp_path / "street.exr"))
    shown = np.asarray(open_reference(tmp_path / "street.exr").light)
    assert shown.shape == (ROWS, COLS, 3) and 90 < np.median(shown) < 150 and shown.max() <= 255
    order = lambda values: np.corrcoef(values.ravel(), picture.numpy().ravel())[0, 1]  # noqa: E731
    assert order(shown) > 0.95


def test_what_is_no_mask_is_refused():
    ground = DensityGroundPipeline(plus_model()).ground
    with pytest.raises(InputError, match="'find'"):
        light_histogram(ground, scene()[0].numpy(), "blue", None)
