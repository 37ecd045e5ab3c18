"""The height network: its distribution, its finite reach, any size, and the pictures that it learns from."""

import math

import numpy as np
import pytest
import torch

from gensat.errors import InputError
from gensat.geo.sun import SunPosition
from gensat.models.height import SUN_VALUES, HeightModel, Heights, sun_values
from gensat.train.height_figures import errors, table
from gensat.train.height_pairs import GROUPS, HeightPair, height_pairs, mean_heights, types_for
from gensat.train.heights import augment, turned

SUN = SunPosition(150, 40)


@pytest.fixture(scope="module")
def model():
    """Small, with weights that let every pixel and the sun count."""
    torch.manual_seed(3)
    net = HeightModel(channels=(8, 12), blocks=(1, 1), sun_width=6).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.4 if parameter.ndim == 1 else 1.5 / math.sqrt(parameter[0].numel()))
    return net


def test_the_loss_is_the_likelihood_of_a_laplace_distribution():
    torch.manual_seed(0)
    location, log_scale = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    true = torch.rand(2, 5, 7) * 30
    laplace = torch.distributions.Laplace(location, log_scale.exp())
    expected = -laplace.log_prob(torch.log1p(true)) - math.log(2)
    found = Heights(location, log_scale, torch.zeros(2, 3, 5, 7))
    torch.testing.assert_close(found.loss(true), expected)


def test_the_interval_holds_68_percent():
    torch.manual_seed(0)
    found = Heights(torch.full((1, 1, 1), 2.5), torch.full((1, 1, 1), -1.2), torch.zeros(1, 3, 1, 1))
    drawn = torch.expm1(torch.distributions.Laplace(found.location, found.log_scale.exp()).sample((40_000,)))
    low, high = found.interval()
    assert float(((drawn >= low) & (drawn <= high)).float().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float((drawn < found.median()).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(found.spread()) == pytest.approx(float(high - low) / 2)


@pytest.mark.parametrize("size", [(200, 232), (77, 131), (5, 9)])
def test_tiles_are_the_whole(model, size):
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    whole, tiled = (model.predict(picture, SUN, tile=tile) for tile in (None, 32))
    assert whole.location.shape == (1, *size) and float(whole.location.std()) > 0.1
    torch.testing.assert_close(tiled.location, whole.location, atol=1e-4, rtol=0)
    torch.testing.assert_close(tiled.log_scale, whole.log_scale, atol=1e-4, rtol=0)


def test_nothing_beyond_the_halo_counts(model):
    side = 2 * model.halo + 64
    picture = torch.rand(1, 3, side, side, requires_grad=True)
    middle = side // 2
    model(picture).location[0, middle, middle].backward()
    rows = torch.nonzero(picture.grad.abs().sum((0, 1, 3)))[:, 0]
    reach = max(middle - int(rows.min()), int(rows.max()) - middle)
    assert model.halo / 3 < reach <= model.halo and model.halo % model.multiple == 0


def test_a_batch_is_its_pictures(model):
    pictures = torch.rand(3, 3, 32, 48)
    suns = [SUN, None, SunPosition(90, 20)]
    together = model(pictures, sun_values(suns)).location
    for k, sun in enumerate(suns):
        alone = model(pictures[k : k + 1], sun_values([sun])).location[0]
        torch.testing.assert_close(together[k], alone, atol=1e-5, rtol=1e-5)
    assert (model(pictures).location[1] - together[1]).abs().max() < 1e-5  # not told is not known
    assert (model(pictures).location[0] - together[0]).abs().max() > 1e-3  # the sun counts


def test_what_the_network_is_told_of_the_sun():
    known, low, night, unknown = sun_values([SunPosition(90, 45), SunPosition(180, 1), SunPosition(0, -3), None])
    expected = [1, math.sqrt(0.5), 0, math.sqrt(0.5), -1, 0]  # in the east: shadows point west, a metre long
    torch.testing.assert_close(known, torch.tensor(expected), atol=1e-6, rtol=0)
    assert (
        low[5] == pytest.approx(4.0) and torch.equal(night, unknown) and not unknown.any() and len(known) == SUN_VALUES
    )


def test_sizes_and_tiles_that_do_not_fit_are_refused(model):
    with pytest.raises(InputError, match="multiples of 8"):
        model(torch.rand(1, 3, 30, 32))
    with pytest.raises(InputError, match="multiple of 8"):
        model.predict(torch.rand(3, 32, 32), tile=12)
    with pytest.raises(InputError, match="two or more"):
        HeightModel(channels=(8, 8), blocks=(1,))


def bright_towards(sun, size=96):
    """A picture that gets brighter towards the sun, 10 m high everywhere."""
    rows, columns = np.indices((size, size)) - size / 2
    angle = math.radians(sun.azimuth)
    shade = 128 + (columns * math.sin(angle) - rows * math.cos(angle)) * 120 / size
    rgb = np.repeat(shade[..., None], 3, 2).clip(0, 255).astype(np.uint8)
    flat = np.full((size, size), 10.0, np.float32)
    return HeightPair(rgb, flat, np.ones((size, size), np.uint8), sun, "toy", 0, "clear")


def test_the_sun_turns_with_the_picture_and_heights_grow_with_it():
    pair = bright_towards(SunPosition(150, 40))
    azimuths, scales = set(), set()
    for seed in range(60):
        picture, heights, groups, sun = augment(pair, np.random.default_rng(seed), crop=64, known_sun=1.0)
        assert (groups == 1).all()
        assert picture.shape == (3, 64, 64) and heights.shape == (64, 64) and sun.elevation == 40
        rows, columns = np.gradient(picture.mean(0).numpy())
        gradient = math.degrees(math.atan2(columns.mean(), -rows.mean()))
        assert abs((gradient - sun.azimuth + 180) % 360 - 180) < 12
        azimuths.add(round(sun.azimuth))
        scales.add(round(float(heights.mean()) / 10, 2))
        assert 0.84 < float(heights.mean()) / 10 < 1.22
    assert len(azimuths) == 8 and len(scales) > 8
    again = augment(pair, np.random.default_rng(5), crop=64)[0]
    assert torch.equal(again, augment(pair, np.random.default_rng(5), crop=64)[0])
    assert all(augment(pair, np.random.default_rng(s), crop=64, known_sun=0.0)[3] is None for s in range(4))


def test_water_is_level_ground_of_one_colour():
    pair = bright_towards(SunPosition(150, 40))
    shares = []
    for seed in range(20):
        picture, heights, groups, _ = augment(pair, np.random.default_rng(seed), crop=64, water=1.0)
        wet = heights == 0
        assert torch.equal(wet, groups == GROUPS.index("ground")) and (heights[~wet] > 8).all()
        shares.append(float(wet.float().mean()))
        apart = picture.movedim(0, -1)[wet].std(0).max()
        assert apart < picture.movedim(0, -1)[~wet].std(0).max() + 0.06
    assert 0.1 < min(shares) < 0.3 < 0.6 < max(shares) < 0.85
    dry = augment(pair, np.random.default_rng(1), crop=64, water=0.0)[1]
    assert (dry > 8).all()


def test_tiles_say_what_stands_there_as_the_whole_does(model):
    picture = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(4))
    whole, tiled = (model.predict(picture, SUN, tile=tile).groups for tile in (None, 32))
    assert whole.shape == (1, len(GROUPS), 64, 80)
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_a_turn_is_numpy_s():
    assert turned(SunPosition(0, 30), 1, False).azimuth == 270  # rot90 brings the north to the west
    assert turned(SunPosition(90, 30), 0, True).azimuth == 270
    assert turned(None, 2, True) is None


def test_pairs_are_kept_and_are_what_the_street_is(tmp_path):
    first = height_pairs(tmp_path, ["informal"], 1, seed=7)[0]
    stamp = next(tmp_path.iterdir()).stat().st_mtime_ns
    again = height_pairs(tmp_path, ["informal"], 1, seed=7)[0]
    assert next(tmp_path.iterdir()).stat().st_mtime_ns == stamp
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.groups, again.groups)
    means = mean_heights([again])
    assert 2 < means["building"] < 8 and means["ground"] < 0.3 and means["ground"] < means["all"] < means["building"]
    next(tmp_path.iterdir()).write_bytes(b"cut off")
    drawn = height_pairs(tmp_path, ["informal"], 1, seed=7)[0]
    assert (
        np.array_equal(drawn.rgb, again.rgb) and np.abs(drawn.heights - again.heights).max() < 0.02
    )  # kept in float16
    assert types_for(True) == ["estate", "waterfront"] and "village" in types_for(False)
    with pytest.raises(InputError, match="moon"):
        height_pairs(tmp_path, ["moon"], 1)


def test_errors_are_by_group_and_by_hand():
    true = np.array([[0.0, 10.0], [20.0, 5.0]], np.float32)
    groups = np.array([[0, 1], [1, 2]], np.uint8)
    off = [(true + delta, true, groups) for delta in (1.0, -3.0)]
    found = errors(off)
    assert found["building"]["pixels"] == 4 and found["building"]["streets"] == 2
    assert found["building"]["mae"]["value"] == 2.0 and found["all"]["rmse"]["value"] == pytest.approx(math.sqrt(5))
    assert found["tree"]["mae"]["interval"] == [1.0, 3.0]
    text = table({"constant": found})
    assert "2.00 [1.00, 3.00] (2.24)" in text and "| 2 |" in text
