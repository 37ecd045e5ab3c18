"""Fire, melting ice and new forest: what changes by physics, and what must not change at all."""

import numpy as np
import pytest
from affine import Affine

from gensat.errors import InputError
from gensat.geo.sun import SunPosition
from gensat.render.change_optics import CHAR, burn, melt
from gensat.render.forest_optics import reforest
from gensat.render.radiometry import Radiometry, open_light
from gensat.types import Band, GeoImage

BANDS = ("blue", "green", "red", "nir", "swir", "swir2")
NM = (480.0, 560.0, 650.0, 840.0, 1610.0, 2200.0)
VEGETATION = (0.04, 0.07, 0.05, 0.40, 0.20, 0.10)


def meadow(size=48, gsd=2.0, dtype=np.uint16, seed=0):
    """Reflectances of grass with some pattern, stored as Sentinel-2 stores them."""
    pattern = np.random.default_rng(seed).uniform(0.8, 1.2, (size, size, 1))
    bands = [Band(name, scale=1e-4) for name in BANDS]
    return GeoImage(
        (np.array(VEGETATION) * pattern * 1e4).astype(dtype),
        bands,
        crs="EPSG:32615",
        transform=Affine(gsd, 0, 300_000, 0, -gsd, 3_290_000),
    )


def disc(size, radius=0.4):
    y, x = np.mgrid[:size, :size] / size - 0.5
    return x**2 + y**2 < radius**2


CHANGES = {
    "burn": lambda image, mask, **how: burn(image, mask, **how),
    "melt": lambda image, mask, **how: melt(image, mask, **how),
    "reforest": lambda image, mask, **how: reforest(image, mask, **how),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nothing_changes_outside_of_the_mask(change, dtype):
    rng = np.random.default_rng(1)
    values = rng.uniform(0.2, 0.8, (40, 40, 3))
    array = {"uint8": values * 255, "uint16": values * 9000, "float32": values}[np.dtype(dtype).name].astype(dtype)
    image, mask = GeoImage(array), disc(40)
    kept = array.copy()
    made = CHANGES[change](image, mask, seed=3)
    assert np.array_equal(made.array[~mask], kept[~mask]) and np.array_equal(image.array, kept)
    assert made.array.dtype == dtype and (made.array[mask] != kept[mask]).any(-1).mean() > 0.3
    assert made.provenance["synthetic"] is True and made.provenance["change"] == change
    assert np.array_equal(CHANGES[change](image, mask, seed=3).array, made.array)
    assert not np.array_equal(CHANGES[change](image, mask, seed=4).array, made.array)


def reflectance(image):
    return Radiometry.of(image, wavelengths=NM).reflectance()


def test_a_burn_mixes_with_char_and_the_burn_ratio_falls():
    image, mask = meadow(), np.ones((48, 48), bool)
    char = np.interp(NM, *np.array(CHAR).T)
    falls, last = [], None
    for severity in (0.2, 0.5, 0.8, 1.0):
        made = burn(image, mask, severity=severity, ash=0.0, patches=0.0, edge=0.0, wavelengths=NM)
        falls.append(made.provenance["dnbr"])
        away = np.abs(reflectance(made).mean((0, 1)) - char)
        assert last is None or (away <= last + 1e-4).all()
        last = away
    assert last.max() < 2e-3  # all of it char, on average
    assert falls == sorted(falls) and falls[0] > 0.05 and falls[-1] > 0.66  # high severity (Key and Benson 2006)
    half = burn(image, mask, severity=0.5, ash=0.0, patches=0.0, edge=0.0, wavelengths=NM)
    mixed = 0.5 * np.array(VEGETATION) + 0.5 * char
    assert np.allclose(reflectance(half).mean((0, 1)), mixed, atol=2e-3)
    white = burn(image, mask, severity=1.0, ash=0.5, patches=0.0, edge=0.0, wavelengths=NM)
    assert (reflectance(white)[..., :3].mean() > 2 * char[:3]).all()


def test_severity_may_be_a_map():
    image, mask = meadow(), np.ones((48, 48), bool)
    grade = np.repeat(np.linspace(0, 1, 48)[None], 48, 0)
    made = reflectance(burn(image, mask, severity=grade, patches=0.0, edge=0.0, wavelengths=NM))
    near = made[..., 3].mean(0)
    assert np.corrcoef(near, -grade[0])[0, 1] > 0.98
    assert np.array_equal(burn(image, mask, severity=0.0, wavelengths=NM).array, image.array)


def ice_field(size=64):
    values = np.random.default_rng(0).integers(205, 235, (size, size, 1)).repeat(3, 2).astype(np.uint8)
    return GeoImage(values, crs="EPSG:3413", transform=Affine(2, 0, 0, 0, -2, 0))


def test_melt_opens_just_the_share_that_was_asked_for_and_more_of_it_opens_more():
    image, ice = ice_field(), disc(64)
    last = np.zeros_like(ice)
    for share in (0.1, 0.35, 0.8, 1.0):
        made = melt(image, ice, share=share, floes=20.0, edge=0.0)
        opened = (made.array != image.array).any(-1)
        assert abs(int(opened.sum()) - share * int(ice.sum())) <= 1
        assert (opened >= last).all() and not opened[~ice].any()
        assert made.array[opened].mean() < 0.4 * image.array[ice].mean()  # dark water beside ice
        last = opened
    assert np.array_equal(melt(image, ice, share=0.0).array, image.array)


def test_a_forest_covers_what_was_asked_for_and_is_green_in_the_infrared():
    image = meadow(96, gsd=1.0)
    image.array[:] = (np.array((0.10, 0.13, 0.18, 0.24, 0.32, 0.30)) * 1e4).astype(np.uint16)  # bare soil
    mask = np.ones((96, 96), bool)
    last = 0.0
    for cover in (0.2, 0.5, 0.8):
        made = reforest(image, mask, cover=cover, wavelengths=NM)
        assert made.provenance["crown_cover"] == pytest.approx(cover, abs=0.06)
        assert made.provenance["ndvi_after"] > max(last, made.provenance["ndvi_before"])
        last = made.provenance["ndvi_after"]
    assert last > 0.6
    assert (reflectance(made)[..., 2] < reflectance(image)[..., 2]).mean() > 0.9  # darker in red
    assert np.array_equal(reforest(image, mask, cover=0.0, wavelengths=NM).array, image.array)


def test_a_coarse_image_of_a_forest_is_the_mean_of_a_fine_one():
    fine, coarse = meadow(120, gsd=1.0), meadow(30, gsd=4.0)
    for image in (fine, coarse):
        image.array[:] = (np.array((0.10, 0.13, 0.18, 0.24, 0.32, 0.30)) * 1e4).astype(np.uint16)
    how = {"cover": 0.6, "wavelengths": NM}
    one = reflectance(reforest(fine, np.ones((120, 120), bool), **how)).reshape(30, 4, 30, 4, 6).mean((1, 3))
    two = reflectance(reforest(coarse, np.ones((30, 30), bool), **how))
    inner = slice(4, -4)
    assert np.abs(one - two)[inner, inner].mean() < 0.02
    assert np.corrcoef(one[inner, inner, 3].ravel(), two[inner, inner, 3].ravel())[0, 1] > 0.9


def test_a_forest_in_strips_is_the_forest_at_once(monkeypatch):
    image, mask = meadow(60, gsd=1.5), disc(60)
    sun = SunPosition(10.0, 20.0)  # long shadows to the south, over the seams
    whole = reforest(image, mask, cover=0.5, sun=sun, wavelengths=NM)
    monkeypatch.setattr("gensat.render.forest_optics._POINTS", 2**10)
    assert np.array_equal(reforest(image, mask, cover=0.5, sun=sun, wavelengths=NM).array, whole.array)


@pytest.mark.parametrize("lengths", [NM, (485.0, 560.0, 660.0, 835.0, 1650.0, 2215.0)])
def test_dark_plants_are_no_shadow_whatever_the_sensor(lengths):
    """A wood is dark in visible light and bright in the infrared; shadow is dark in both."""
    values = np.tile(np.array([0.12, 0.15, 0.18, 0.24, 0.3, 0.28]), (40, 40, 1))
    values[:8], values[32:] = VEGETATION, values[32:] * 0.2
    light = open_light(values, np.array(lengths), np.ones((40, 40), bool), left=0.25)
    assert light[:8].min() > 0.99 and light[36:].max() < 0.3 and light[12:28].min() > 0.95


def test_shadows_fall_away_from_the_sun():
    """One tree: what is dark beside its crown lies on the other side of it than the sun."""
    image = meadow(64, gsd=0.5)
    mask = np.ones((64, 64), bool)
    for azimuth, (down, over) in {90.0: (0, -1), 180.0: (-1, 0)}.items():
        made = reforest(image, mask, cover=0.02, spacing=16.0, height=6.0, sun=SunPosition(azimuth, 40), wavelengths=NM)
        near = reflectance(made)[..., 3] / reflectance(image)[..., 3]
        dark, crowns = near < 0.62, reflectance(made)[..., 2] / reflectance(image)[..., 2] < 0.9
        assert dark.any()
        rows, columns = np.nonzero(dark & (np.abs(near - 0.56) < 0.02))  # ground in shadow: twice 0.28 of its light
        trees = np.nonzero(crowns & ~(np.abs(near - 0.56) < 0.02))
        assert len(rows) and len(trees[0])
        shift = np.array([rows.mean() - trees[0].mean(), columns.mean() - trees[1].mean()])
        assert shift @ (down, over) > 1.0 and abs(shift @ (over, down)) < abs(shift @ (down, over))


def test_what_cannot_be_is_one_sentence():
    image, mask = meadow(16), np.ones((16, 16), bool)
    for call, told in (
        (lambda: burn(image, ~mask, wavelengths=NM), "no valid pixel"),
        (lambda: burn(image, mask[:-1], wavelengths=NM), "one bool a pixel"),
        (lambda: burn(image, mask, severity=3.0, wavelengths=NM), "severity"),
        (lambda: burn(image, mask, ash=2, wavelengths=NM), "ash is 2"),
        (lambda: melt(image, mask, share=40, wavelengths=NM), "share is 40"),
        (lambda: melt(image, mask, floes=0, wavelengths=NM), "floes"),
        (lambda: reforest(image, mask, cover=0.95, wavelengths=NM), "no forest"),
        (lambda: reforest(image, mask, sun=SunPosition(0, 1), wavelengths=NM), "degrees high"),
        (lambda: burn(image, mask), "which light band 'swir2' shows"),
    ):
        with pytest.raises(InputError, match=told):
            call()
