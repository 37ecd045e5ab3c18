"""Floods painted by optics: what water of a depth looks like, and what must not change."""

import math

import numpy as np
import pytest
import torch
from affine import Affine
from conftest import DATA

from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.sun import SunPosition
from gensat.hydro.open_water import open_water
from gensat.hydro.resample import depth_on
from gensat.render.flood_optics import FILM, render_flood
from gensat.render.radiometry import Radiometry
from gensat.render.water_optics import NANOMETRES, RGB, WATERS, Water, fresnel
from gensat.render.waves import Waves
from gensat.types import Band, GeoImage

FLAT = {"wind": 0, "cloud": 0.0, "streaks": 0.0, "shadows": False, "edge": 0.0}


def picture(height=40, width=56, dtype=np.uint8, bands=("red", "green", "blue"), seed=0):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 0.9, (height, width, len(bands)))
    array = {"uint8": values * 255, "uint16": values * 4000, "float32": values}[np.dtype(dtype).name].astype(dtype)
    return GeoImage(array, bands, crs="EPSG:32615", transform=Affine(0.5, 0, 270_000, 0, -0.5, 3_290_000))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [("red", "green", "blue"), ("gray",), ("blue", "green", "red", "nir", "swir", "tir")])
def test_only_the_water_changes_and_all_of_it_does(dtype, bands):
    image = picture(dtype=dtype, bands=bands)
    before = image.array.copy()
    depth = np.full((40, 56), 3.0, np.float32)
    seen = np.zeros((40, 56), bool)
    seen[10:30, 5:40] = True
    made = render_flood(image, depth, seen, edge=2.0)
    assert made.array.dtype == image.array.dtype and np.array_equal(image.array, before)
    assert np.array_equal(made.array[~seen], before[~seen])
    lit = [i for i, name in enumerate(bands) if name in NANOMETRES]
    inner = (made.array != before)[..., lit].any(-1)
    assert inner[seen].mean() > 0.98  # the rest had the colour of water
    if "tir" in bands:
        assert np.array_equal(made.array[..., -1], before[..., -1])
    assert made.crs == image.crs and made.transform == image.transform and made.bands == image.bands
    assert made.provenance["synthetic"] is True and made.provenance["flood"] == "optical"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_no_depth_is_no_change(dtype):
    image = picture(dtype=dtype)
    seen = np.ones((40, 56), bool)
    made = render_flood(image, np.zeros((40, 56), np.float32), seen, wind=5)
    assert np.array_equal(made.array, image.array)


def reflectance_at(depth, **options):
    """Of the same picture under so many metres everywhere, as painted and read with the picture's own exposure."""
    image = picture(dtype=np.float32, bands=("red", "green", "blue", "nir"))
    size = image.array.shape[:2]
    reading = Radiometry.of(image, dry=np.zeros(size, bool))
    made = render_flood(image, np.full(size, depth, np.float32), np.ones(size, bool), **{**FLAT, **options})
    return (made.physical() - reading.air) / reading.gain, reading


def test_deeper_water_is_closer_to_the_colour_of_deep_water():
    deep, reading = reflectance_at(500.0, water="lake")
    sky = math.pi * 0.02 * 0.08
    assert np.abs(deep - Water.named("lake").reflectance(reading.nanometres)).max() < sky
    last = None
    for depth in (FILM, 0.2, 0.5, 1.0, 3.0, 10.0, 40.0):
        away = np.abs(reflectance_at(depth, water="lake")[0] - deep)
        assert last is None or (away <= last + 1e-6).all()
        last = away
    assert last.max() < 1e-4


def test_light_of_the_bottom_falls_off_exponentially():
    """Beer and Lambert: between two depths, (R - deep) shrinks by exp(-K dH) in each band."""
    deep = reflectance_at(500.0, water="lake")[0]
    near, reading = reflectance_at(0.2, water="lake")
    far, _ = reflectance_at(0.7, water="lake")
    kept = np.exp(-0.5 * Water.named("lake").attenuation(reading.nanometres, 50.0))
    visible = slice(0, 3)  # in the infrared nothing is left to compare
    bright = near - deep > 0.02
    ratio = (far - deep) / np.where(bright, near - deep, 1)
    assert np.abs(ratio - kept)[..., visible][bright[..., visible]].max() < 2e-3


def test_infrared_is_black_in_clear_water_and_sediment_brightens_red():
    clear, _ = reflectance_at(2.0, water="clear")
    assert clear[..., 3].max() < 0.01  # near infrared: 2 m of water take it all
    red = [Water(c).reflectance(RGB)[0] for c in (1, 10, 100, 1000)]
    assert red == sorted(red) and red[-1] < 1
    blue_over_red = [w.reflectance(RGB)[2] / w.reflectance(RGB)[0] for w in WATERS.values()]
    assert blue_over_red == sorted(blue_over_red, reverse=True)


def test_water_that_was_seen_is_found_again():
    """What is in it, where the model made it; its very colour, where something else did."""
    for water in (*WATERS.values(), Water(55.0, 0.3)):
        found = Water.like(water.reflectance((480, 560, 660)), (480, 560, 660))
        assert float(found.sediment) == pytest.approx(float(water.sediment), rel=0.1)
        np.testing.assert_allclose(
            found.reflectance((450, 520, 600)), water.reflectance((450, 520, 600)), rtol=0.03, atol=1e-3
        )
    grey = (0.10, 0.13, 0.10, 0.006, 0.006)
    found = Water.like(grey, (485, 560, 660, 835, 1650))
    np.testing.assert_allclose(found.reflectance((485, 560, 660)), grey[:3], rtol=1e-6)
    assert 5 < float(found.sediment) < 60 and found.reflectance((835, 1650)).max() < 0.02
    for wrong, lengths in (((0.1, 0.2), (480, 560, 660)), ((0.1, 0.0), (480, 560)), ((0.1,), (900,))):
        with pytest.raises(InputError, match="between 0 and 1 in visible bands"):
            Water.like(wrong, lengths)


@pytest.mark.data
@pytest.mark.parametrize(("site", "zero"), [("282D_485L_3_3", 0), ("38D_378R_2_3", 0), ("433D_629L_3_1", 1000)])
def test_counts_of_a_sensor_are_read_as_the_reflectances_they_are(site, zero):
    """Sentinel-2 surface reflectances with their scale hidden: the land is read as bright as it is, within a factor of 1.8, on the places the means are of."""
    image = GeoImage.open(DATA / "rasters" / "sites" / site / "s2_l2a.tif")
    lengths = np.array((490, 560, 665, 842, 1610, 2190))
    true = (image.array[..., [1, 2, 3, 7, 10, 11]] - zero).clip(0) / 1e4
    read = Radiometry.of(GeoImage((true * 3000).astype(np.uint16)), wavelengths=lengths.tolist()).reflectance()
    for part in (lengths < 700, (lengths > 700) & (lengths < 1300), lengths > 1300):
        ratio = read[..., part].mean() / true[..., part].mean()
        assert 1 / 1.8 < ratio < 1.8, (lengths[part], ratio)


def test_energy():
    """No water throws back more than falls on it, however muddy; absorbed and mirrored light stay between 0 and 1."""
    lengths = np.arange(400, 2401, 10)
    for sediment in (0, 1, 100, 1e4, 1e5):
        water = Water(sediment, 1.0)
        assert (water.reflectance(lengths) >= 0).all() and (water.reflectance(lengths) < 0.75).all()
        assert (water.attenuation(lengths) > 0).all()
    assert fresnel(1.0) == pytest.approx((0.333 / 2.333) ** 2)
    angles = np.cos(np.linspace(0, np.pi / 2, 50))
    share = fresnel(angles)
    assert (np.diff(share) > 0)[5:].all() and share[-1] == pytest.approx(1) and (share <= 1).all()


def test_absorption_is_that_of_pope_and_fry():
    a = Water(0, 0).absorption([440, 500, 550, 600, 650, 700])
    assert np.allclose(a, [0.00635, 0.0204, 0.0565, 0.2224, 0.340, 0.624], rtol=0.05)


def test_slopes_have_the_variance_of_cox_and_munk_and_belong_to_the_place():
    waves = Waves(6.0)
    x, y = (torch.rand(2, 40_000, dtype=torch.float64) * 400).unbind()
    fine = torch.full_like(x, 1e-3)
    slopes, rest = waves.slopes(x, y, fine)
    assert float((slopes**2).sum(1).mean()) == pytest.approx(0.003 + 0.00512 * 6, rel=0.05) and rest.max() < 1e-12
    coarse, rest = waves.slopes(x, y, torch.full_like(x, 50.0))
    assert coarse.abs().max() == 0 and torch.allclose(rest, torch.full_like(rest, waves.variance))
    # the same waves from another frame
    moved = Waves(6.0, origin=(1000.25, -300.5)).slopes(x - 1000.25, y + 300.5, fine)[0]
    assert torch.allclose(moved, slopes, atol=1e-9)
    assert not torch.equal(waves.slopes(x, y, fine, time=1.0)[0], slopes)
    assert Waves(0).slopes(x, y, fine)[0].abs().max() == 0


def test_glint_is_brightest_under_a_high_sun_and_hidden_by_clouds():
    image, depth, seen = picture(), np.full((40, 56), 9.0, np.float32), np.ones((40, 56), bool)
    how = {"water": "clear", "wind": 6, "streaks": 0.0}

    def mean(elevation, cloud=0.0):
        return float(render_flood(image, depth, seen, sun=SunPosition(180, elevation), cloud=cloud, **how).array.mean())

    assert mean(85) > mean(65) + 5 > mean(35) + 5
    assert mean(85, 1.0) < mean(85)


def test_neighbouring_images_meet():
    """Streaks and waves are those of the place: a part of the image has the water of the whole, where exposure is known."""
    whole = picture(64, 64, np.uint16)
    whole.bands = tuple(Band(b.name, scale=1e-4) for b in whole.bands)
    part = GeoImage(
        whole.array[16:48, 16:48],
        whole.bands,
        whole.crs,
        Affine(0.5, 0, 270_008, 0, -0.5, 3_289_992),
    )
    depth, seen = np.full((64, 64), 2.0, np.float32), np.ones((64, 64), bool)
    one = render_flood(whole, depth, seen, shadows=False).array[16:48, 16:48]
    two = render_flood(part, depth[:32, :32], seen[:32, :32], shadows=False).array
    assert np.abs(one.astype(int) - two.astype(int)).max() <= 1
    other = render_flood(part, depth[:32, :32], seen[:32, :32], shadows=False, seed=5).array
    assert np.abs(one.astype(int) - other.astype(int)).max() > 20


def test_from_a_coarse_depth_in_degrees_to_the_picture():
    image = picture(80, 80)
    depth = GeoImage(
        np.where(np.arange(12)[None] < 6, 2.0, 0.0).repeat(12, 0).astype(np.float32),
        crs="EPSG:4326",
        transform=Affine(1e-4, 0, -95.3781, 0, -1e-4, 29.7192),
    )
    metres, wet = depth_on(depth, Canvas.like(image))
    high = np.zeros((80, 80))
    high[30:40, 5:12] = 6.0  # a house
    seen = open_water(metres, heights=high)
    assert seen.any() and not seen[30:40, 5:12].any() and (seen <= wet).all()
    made = render_flood(image, metres, seen)
    assert np.array_equal(made.array[~seen], image.array[~seen])


def test_shadows_of_what_stands_in_the_water_lie_on_it():
    image = GeoImage(np.full((60, 60, 3), 150, np.uint8), acquisition=None)
    image.array[:20, :20] = 210  # a house
    image.array[20:28, :20] = 40  # its shadow
    image.array[50:56, 50:56] = 40  # dark ground far from anything that stands
    image.array[0, 30:40] = 0  # something black, for the air
    seen = np.ones((60, 60), bool)
    seen[:20, :20] = False
    made = render_flood(image, np.full((60, 60), 2.0), seen, water="mud", gsd=0.5, wind=0, streaks=0, edge=0).array
    assert made[23, 10].mean() < 0.75 * made[40, 10].mean()
    assert made[53, 53].mean() == pytest.approx(made[40, 10].mean(), rel=0.03)


def test_what_cannot_be_is_one_sentence():
    image, depth, seen = picture(), np.ones((40, 56), np.float32), np.ones((40, 56), bool)
    for how, told in (
        ({"water": "beer"}, "no water 'beer'"),
        ({"water": -3.0}, "sediment"),
        ({"wind": 90}, "wind"),
        ({"cloud": 40}, "cloud is 40"),
        ({"sun": SunPosition(0, -10)}, "night"),
        ({"wavelengths": [650.0]}, "1 wavelengths were given for 3 bands"),
        ({"wavelengths": [650.0, 560.0, 90_000.0]}, "nanometres"),
    ):
        with pytest.raises(InputError, match=told):
            render_flood(image, depth, seen, **how)
    with pytest.raises(InputError, match="no pixel"):
        render_flood(image, depth, ~seen)
    with pytest.raises(InputError, match="below 0 or not known"):
        render_flood(image, -depth, seen)
    with pytest.raises(InputError, match="do not fit"):
        render_flood(image, depth[:-1], seen)
    nameless = GeoImage(image.array.repeat(2, 2))
    with pytest.raises(InputError, match="which light band 'band1' shows"):
        render_flood(nameless, depth, seen)
    named = render_flood(nameless, depth, seen, wavelengths=[485, 560, 660, 830, 1650, 2215])
    assert named.array.shape == nameless.array.shape
