"""gensat change, its masks, and its node."""

import json

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from pyproj import CRS

from gensat import GeoImage
from gensat.cli import run
from gensat.comfy.change_nodes import GensatGroundChange
from gensat.comfy.values import Geo
from gensat.geo.canvas import Canvas
from gensat.geo.crs import to_lonlat
from gensat.geo.masks import read_mask
from gensat.render.change_optics import burn
from gensat.render.change_request import Masked
from gensat.render.wavelengths import read_wavelengths
from gensat.types import Band

UTM, GRID, SIDE = "EPSG:32633", Affine(2, 0, 500_000, 0, -2, 5_500_000), 48
NM = "480,560,650,840,1610,2200"
KINDS = ("burn", "melt", "reforest")


def lonlat(*corners):
    """Corners as (column, row) of the image, in degrees."""
    x, y = np.array([GRID @ (column, row) for column, row in corners]).T
    return np.stack(to_lonlat(CRS.from_user_input(UTM), x, y), 1)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A picture, an image of six bands without names, and masks of its left upper part: of its pixels, coarse, in degrees, as polygons."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    GeoImage(rng.integers(80, 200, (SIDE, SIDE, 3), dtype=np.uint8), crs=UTM, transform=GRID).save("rgb.tif")
    six = (np.array([0.04, 0.07, 0.05, 0.4, 0.2, 0.1]) * rng.uniform(0.8, 1.2, (SIDE, SIDE, 1)) * 1e4).astype(np.uint16)
    GeoImage(six, [Band(f"b{k}", scale=1e-4) for k in range(6)], UTM, GRID).save("six.tif")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:32, 8:40] = 7
    GeoImage(mask, crs=UTM, transform=GRID).save("mask.tif")
    GeoImage(mask[4::8, 4::8], crs=UTM, transform=GRID @ Affine.scale(8)).save("coarse.tif")
    area = shapely.Polygon(lonlat((8, 8), (40, 8), (40, 32), (8, 32)))
    feature = {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(area))}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return mask > 0


@pytest.mark.parametrize("name", ["mask.tif", "coarse.tif", "area.geojson"])
def test_a_mask_lies_where_it_is(place, name):
    mask, notes = read_mask(name, Canvas.like(GeoImage.open("rgb.tif")))
    assert np.array_equal(mask, place) and notes == []


def test_a_mask_in_degrees_and_one_that_ends_inside(place):
    (west, south), (east, north) = lonlat((-4, SIDE + 4), (SIDE + 4, -4))
    step = (east - west) / 400
    fine = np.zeros((round((north - south) / step), 400), np.float32)
    rows, columns = np.mgrid[: fine.shape[0], :400] + 0.5
    inside = shapely.contains_xy(
        shapely.Polygon(lonlat((8, 8), (40, 8), (40, 32), (8, 32))), west + columns * step, north - rows * step
    )
    fine[inside] = 0.3
    fine[0] = np.nan
    GeoImage(fine, crs="EPSG:4326", transform=Affine(step, 0, west, 0, -step, north)).save("degrees.tif")
    mask, _ = read_mask("degrees.tif", Canvas.like(GeoImage.open("rgb.tif")))
    assert (mask != place).sum() < 40  # pixels of the rim
    GeoImage(place[:, :24].astype(np.uint8), crs=UTM, transform=GRID).save("half.tif")
    mask, notes = read_mask("half.tif", Canvas.like(GeoImage.open("rgb.tif")))
    assert np.array_equal(mask[:, :24], place[:, :24]) and not mask[:, 24:].any()
    assert notes == ["50% of the image lie outside mask half.tif and stay as they are"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", ["rgb.tif", "six.tif"])
def test_outside_of_the_mask_nothing_changes(place, capsys, kind, image):
    lengths = ["--wavelengths", NM] if image == "six.tif" else []
    words = ["change", kind, image, "--mask", "area.geojson", *lengths, "--seed", "3", "--json"]
    assert run([*words, "-o", "out.tif"]) == 0
    said = json.loads(capsys.readouterr().out)
    before, after = GeoImage.open(image), GeoImage.open("out.tif")
    assert np.array_equal(after.array[~place], before.array[~place])
    assert (after.array[place] != before.array[place]).any(-1).mean() > 0.3
    assert (after.crs, after.transform, after.array.dtype) == (before.crs, before.transform, before.array.dtype)
    assert after.provenance["change"] == kind and after.provenance["synthetic"] is True
    assert (after.provenance["image"], after.provenance["mask"]) == (image, "area.geojson")
    assert said["mask_share"] == pytest.approx(place.mean(), abs=1e-4) and said["seed"] == 3
    if kind == "burn" and lengths:
        assert said["dnbr"] > 0.3
    assert run([*words, "-o", "out.tif"]) == 2 and "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite", "-o", "out.tif"]) == 0
    assert np.array_equal(GeoImage.open("out.tif").array, after.array)


def test_options_are_those_of_the_functions(place):
    image = GeoImage.open("rgb.tif")
    assert (
        run("change burn rgb.tif --mask mask.tif --severity 0.4 --ash 0.3 --patches 0 --edge 0 -q -o a.tif".split())
        == 0
    )
    own = burn(image, place, severity=0.4, ash=0.3, patches=0.0, edge=0.0)
    assert np.array_equal(GeoImage.open("a.tif").array, own.array)
    grade = np.linspace(0, 1, 12, dtype=np.float32)[None].repeat(12, 0)
    GeoImage(grade, crs=UTM, transform=GRID @ Affine.scale(4)).save("grade.tif")
    assert run("change burn rgb.tif --mask mask.tif --severity grade.tif --patches 0 -q -o b.tif".split()) == 0
    light = GeoImage.open("b.tif").array.mean(2)
    assert light[12:28, 10:14].mean() > light[12:28, 34:38].mean() + 20  # hardly burnt in the west, fully in the east
    assert run("change reforest rgb.tif --mask mask.tif --cover 0.3 --spacing 8 --sun 90 30 -q -o c.tif".split()) == 0
    assert GeoImage.open("c.tif").provenance["crown_cover"] == pytest.approx(0.3, abs=0.12)
    assert run("change melt rgb.tif --mask mask.tif --share 0.25 --edge 0 --water 5 -q -o d.tif".split()) == 0
    opened = (GeoImage.open("d.tif").array != image.array).any(-1).sum()
    assert abs(int(opened) - round(0.25 * place.sum())) <= 8


def test_tags_may_say_the_wavelengths():
    assert read_wavelengths("six.tif") is None
    with rasterio.open("six.tif", "r+") as file:
        for band, length in enumerate((480, 560, 650, 840, 1610, 2200), 1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(length / 1000))
    assert read_wavelengths("six.tif") == pytest.approx([480, 560, 650, 840, 1610, 2200])
    assert run("change burn six.tif --mask mask.tif -q -o out.tif".split()) == 0
    assert GeoImage.open("out.tif").provenance["dnbr"] > 0.3
    with rasterio.open("rgb.tif", "r+") as file:
        file.update_tags(1, wavelength="650 nm")
        file.update_tags(2, wavelength="0.56", wavelength_units="Micrometers")
        file.update_tags(3, wavelength="480.5")
    assert read_wavelengths("rgb.tif") == pytest.approx([650, 560, 480.5])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("burn rgb.tif --mask none.tif", "none.tif does not exist"),
        ("burn rgb.tif --mask cut.tif", "cannot be read as a raster"),
        ("burn rgb.tif --mask empty.tif", "the mask holds no valid pixel"),
        ("burn rgb.tif --mask elsewhere.tif", "does not overlap"),
        ("burn rgb.tif --mask plain.png", "no place in common"),
        ("burn rgb.tif --mask line.geojson", "holds no polygons"),
        ("burn rgb.tif --mask mask.tif --severity 40", "severity is not between 0 and 1"),
        ("burn rgb.tif --mask mask.tif --severity none.tif", "none.tif does not exist"),
        ("burn rgb.tif --mask mask.tif --severity rgb.tif", "3 bands"),
        ("burn six.tif --mask mask.tif", "wavelengths in nanometres"),
        ("burn six.tif --mask mask.tif --wavelengths 480,560", "2 wavelengths were given for 6 bands"),
        ("burn six.tif --mask mask.tif --wavelengths blue,red", "not understood"),
        ("burn six.tif --mask mask.tif --wavelengths 0.48,0.56,0.65,0.84,1.61,2.2", "not understood; give nanometres"),
        ("burn rgb.tif --mask mask.tif --gsd 1", "leave it out"),
        ("melt rgb.tif --mask mask.tif --share 40", "share is 40"),
        ("melt rgb.tif --mask mask.tif --water beer", "no water 'beer'"),
        ("reforest rgb.tif --mask mask.tif --cover 0.95", "no forest"),
        ("reforest rgb.tif --mask mask.tif --sun 90 1", "degrees high"),
        ("burn rgb.tif --mask mask.tif --bogus", "--bogus"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, capsys, words, told):
    (tmp_path / "cut.tif").write_bytes((tmp_path / "mask.tif").read_bytes()[:200])
    nothing = GeoImage.open("mask.tif").array * 0
    GeoImage(nothing, crs=UTM, transform=GRID).save("empty.tif")
    GeoImage(nothing + 1, crs=UTM, transform=GRID @ Affine.translation(900, 0)).save("elsewhere.tif")
    GeoImage(nothing[:-1] + 1).save("plain.png")
    line = {"type": "LineString", "coordinates": lonlat((8, 8), (40, 32)).tolist()}
    (tmp_path / "line.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": line}))
    capsys.readouterr()
    assert run(["change", *words.split(), "-o", "wrong.tif"]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) <= 3
    assert not (tmp_path / "wrong.tif").exists()


def test_an_image_without_a_place_takes_a_mask_of_its_size(place):
    GeoImage(GeoImage.open("rgb.tif").array).save("rgb.png")
    GeoImage(place.astype(np.uint8) * 255).save("mask.png")
    assert run("change reforest rgb.png --mask mask.png --gsd 2 -q -o out.png".split()) == 0
    after = GeoImage.open("out.png").array
    assert np.array_equal(after[~place], GeoImage.open("rgb.tif").array[~place])


NODE = {
    "severity": 0.8,
    "ash": 0.08,
    "share": 0.5,
    "floes": 40.0,
    "water": "clear",
    "cover": 0.8,
    "spacing": 6.0,
    "height": 12.0,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_makes_what_the_command_makes(place, kind):
    assert run(["change", kind, "rgb.tif", "--mask", "mask.tif", "--seed", "5", "-q", "-o", "out.tif"]) == 0
    given = torch.from_numpy(place.astype(np.float32))[None]
    image = Geo((GeoImage.open("rgb.tif"),))
    picture, geo, mask = GensatGroundChange().change(kind, **NODE, seed=5, geo=image, mask=given)
    assert np.array_equal(geo.scenes[0].array, GeoImage.open("out.tif").array)
    assert picture.shape == (1, SIDE, SIDE, 3) and torch.equal(mask, given)
    named = GensatGroundChange().change(kind, **NODE, seed=5, file="rgb.tif", mask_file="area.geojson")
    assert torch.equal(named[0], picture)


def test_what_is_wrong_with_the_node_is_said(place):
    from gensat.errors import InputError

    given = torch.from_numpy(place.astype(np.float32))[None]
    for more, told in (
        ({"file": "rgb.tif"}, "connect a MASK, or name a file"),
        ({"file": "rgb.tif", "mask": given, "mask_file": "mask.tif"}, "connect a MASK, or name a file"),
        ({"mask": given}, "connect geo, or name a file"),
        ({"file": "rgb.tif", "mask": given[:, 1:]}, "one bool a pixel"),
    ):
        with pytest.raises(InputError, match=told):
            GensatGroundChange().change("burn", **NODE, seed=0, **more)
    with pytest.raises(InputError, match="no change 'drown'"):
        Masked.open(GeoImage.open("rgb.tif"), place).changed("drown")
