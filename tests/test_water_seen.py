"""The water of an image itself: found, read, and laid over the land around it, from Python, the command line and the node."""

import json

import numpy as np
import pytest
import shapely
from affine import Affine

from gensat.cli import run
from gensat.comfy.flood_render_nodes import GensatFloodRender
from gensat.errors import InputError
from gensat.geo.crs import to_lonlat
from gensat.render.water_optics import WATERS, Water
from gensat.render.water_seen import SeenWater, is_seen, largest_water, require_water, water_of
from gensat.types import Band, GeoImage

NM = (485.0, 560.0, 660.0, 835.0, 1650.0)
TEXT = "485,560,660,835,1650"
GRID = Affine(10.0, 0, 270_000, 0, -10.0, 3_290_000)
SEA, POND = (slice(0, 60), slice(0, 20)), (slice(40, 50), slice(60, 72))


def place(water=WATERS["lake"], pond=WATERS["mud"], scale=1e-4):
    """Green land with a sea along its west and a muddy pond, as reflectances or as counts that nobody explains."""
    rng = np.random.default_rng(0)
    land = np.array([0.04, 0.08, 0.06, 0.3, 0.2]) * rng.uniform(0.6, 1.4, (60, 80, 1))
    for where, what in ((SEA, water), (POND, pond)):
        land[where] = what.reflectance(NM) * rng.normal(1, 0.01, land[where].shape[:2])[..., None]
    bands = [Band(f"B{i}", scale=scale) for i in range(5)]
    return GeoImage(np.rint(land * 1e4 + 300 * (scale == 1)).astype(np.uint16), bands, "EPSG:32615", GRID)


def flood():
    """Metres of water on the land beside the sea, none in the pond."""
    depth = np.zeros((60, 80), np.float32)
    depth[:, 20:50] = 4.0
    return GeoImage(depth, ["depth"], "EPSG:32615", GRID)


def mask_of(part):
    found = np.zeros((60, 80), bool)
    found[part] = True
    return found


def test_the_largest_water_is_found_without_its_shore():
    found = SeenWater.of(place(), wavelengths=NM)
    assert not (found.where & ~mask_of(SEA)).any() and found.where.sum() == 58 * 18
    assert float(found.water.sediment) == pytest.approx(8.0, rel=0.1)
    np.testing.assert_allclose(found.water.reflectance(NM[:3]), WATERS["lake"].reflectance(NM[:3]), rtol=0.02)
    np.testing.assert_array_equal(largest_water(found.reading), found.where)


def test_a_mask_says_which_water():
    found = SeenWater.of(place(), mask_of(POND), wavelengths=NM)
    np.testing.assert_allclose(found.water.reflectance(NM[:3]), WATERS["mud"].reflectance(NM[:3]), rtol=0.02)
    assert 700 < float(found.water.sediment) < 1400


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_the_flood_has_the_colour_of_the_sea(scale, tmp_path, monkeypatch, capsys):
    """Of reflectances and of counts: what the exposure is taken for goes in and comes out again."""
    monkeypatch.chdir(tmp_path)
    image = place(Water(40.0, 0.4), scale=scale)
    image.save("coast.tif")
    flood().save("depth.tif")
    words = ["flood", "render", "coast.tif", "--depth", "depth.tif", "--wavelengths", TEXT, "--json", "--edge", "0"]
    assert run([*words, "--water", "image", "--cloud", "0", "--wind", "0", "-o", "a.tif"]) == 0
    said = json.loads(capsys.readouterr().out)["water"]
    assert said["seen_in"] == "image" and said["seen_pixels"] == 58 * 18
    made = GeoImage.open("a.tif").array.astype(float)
    np.testing.assert_array_equal(made[:, 50:], image.array[:, 50:])
    seen, painted = (np.median(part, axis=(0, 1))[:3] for part in (image.array[SEA], made[:, 20:50]))
    land = np.median(image.array[:, 50:], axis=(0, 1))[:3]
    assert (np.abs(painted / seen - 1) < 0.08).all(), (seen, painted)  # the sky is mirrored on top
    assert (np.abs(painted - seen) < 0.35 * np.abs(land - seen) + 15).all()
    GeoImage(mask_of(SEA).astype(np.uint8), ["sea"], "EPSG:32615", GRID).save("sea.tif")
    assert run([*words, "--water", "sea.tif", "-o", "b.tif"]) == 0
    assert json.loads(capsys.readouterr().out)["water"]["seen_pixels"] == 60 * 20


def test_a_polygon_and_the_node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = place()
    image.save("coast.tif")
    flood().save("depth.tif")
    corners = GRID @ (np.array([0, 20, 20, 0]), np.array([0, 0, 60, 60]))
    area = shapely.Polygon(np.stack(to_lonlat(image.crs, *corners), 1))
    (tmp_path / "sea.geojson").write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(area))})
    )
    assert run(
        ["flood", "render", "coast.tif", "--depth", "depth.tif", "--wavelengths", TEXT, "--water", "sea.geojson", "-q", "-o", "a.tif"]
    ) == 0  # fmt: skip
    named = GeoImage(image.array, ["blue", "green", "red", "nir", "swir"], image.crs, image.transform)
    named.save("named.tif")
    _, geo, _ = GensatFloodRender().render("depth.tif", "optical", "sea.geojson", 1.5, "", 2.0, 0, file="named.tif")
    assert geo.scenes[0].provenance["water"]["seen_in"] == "sea.geojson"
    before = GensatFloodRender.IS_CHANGED("depth.tif", water="sea.geojson")
    (tmp_path / "sea.geojson").write_text("")
    assert before != GensatFloodRender.IS_CHANGED("depth.tif", water="sea.geojson")


def test_what_is_no_water_is_said():
    image = place()
    dry = GeoImage(image.array[:, 20:58], image.bands, image.crs, image.transform)
    rgb = GeoImage(image.array[..., :3], image.bands[:3], image.crs, image.transform)
    for what, source, lengths, message in (
        (rgb, "image", NM[:3], "give a mask of water"),
        (dry, "image", NM, "no open water of 30 pixels"),
        (image, mask_of((slice(0, 60), slice(60, 80))), NM, "so it is land"),
        (image, np.zeros((60, 80), bool), NM, "no valid pixel"),
        (image, "none.tif", NM, "does not exist"),
        (GeoImage(image.array[..., 3:], image.bands[3:], image.crs, image.transform), mask_of(SEA), NM[3:], "visible"),
    ):
        with pytest.raises(InputError, match=message):
            SeenWater.of(what, source, wavelengths=lengths)
    assert [is_seen(water) for water in ("silt", "12", 12, Water(3), "image", "sea.tif")] == [False] * 4 + [True] * 2
    with pytest.raises(InputError, match="no water 'beer'"):
        require_water("beer")


def test_the_street_takes_the_water_of_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place().save("coast.tif")
    assert water_of("mud", "coast.tif") == WATERS["mud"] and float(water_of("30", "coast.tif").sediment) == 30
    assert water_of("image", "coast.tif", TEXT) == SeenWater.of(GeoImage.open("coast.tif"), wavelengths=NM).water
    GeoImage(mask_of(POND).astype(np.uint8), ["pond"], "EPSG:32615", GRID).save("pond.tif")
    np.testing.assert_allclose(
        water_of("pond.tif", "coast.tif", TEXT).reflectance(NM[:3]), WATERS["mud"].reflectance(NM[:3]), rtol=0.02
    )
    look = ["flood", "view", "coast.tif", "--level", "2", "--at", "-95.3", "29.7", "-o", "street.png"]
    for more, said in (
        (["--water", "swamp"], "there is no water 'swamp'"),
        (["--water", "mud", "--wavelengths", TEXT], "--wavelengths tell the bands"),
    ):
        assert run([*look, *more]) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "street.png").exists()
