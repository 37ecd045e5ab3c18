"""The pipeline of the published ground-view models: true coordinates, light, seeds, repeated calls, and what is refused."""

import numpy as np
import pytest
import torch
from affine import Affine
from PIL import Image
from published_toys import plain_model, plus_model

from gensat.errors import InputError
from gensat.models.sky_histogram import raw_histogram
from gensat.pipelines.density import DensityGroundPipeline
from gensat.pipelines.density_tile import cut_tile, standing
from gensat.render.pixel_path import read_pixel_path
from gensat.types import GeoImage, Place

# UTM zone 31 ends at 6 degrees east; there, at 52 degrees north, the grid is turned by 2.36 degrees
CRS, LEFT, TOP, GSD = "EPSG:32631", 705_900.0, 5_765_900.0, 0.25
HISTOGRAM = np.linspace(0, 1, 270)


def georeferenced(size=400):
    array = np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return GeoImage(array, crs=CRS, transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))


def pipe(model):
    return DensityGroundPipeline(model)


@pytest.fixture
def tower(monkeypatch):
    """Sat2Density that sees, whatever the tile, one tower 8 m north of its centre."""
    model = plain_model()

    def density(tile):
        volume = torch.zeros(1, 8, 256, 256)
        row = 128 - round(8 / 30 * 256)
        volume[:, :, row - 4 : row + 4, 124:132] = 500.0
        return volume

    monkeypatch.setattr(model, "density", density)
    return pipe(model)


def test_a_panorama_looks_where_it_is_told_by_true_north(tower):
    image = georeferenced()
    centre = image.place
    for heading in (0.0, 90.0, 200.0):
        out = tower(image, centre, heading=heading, histogram=HISTOGRAM)
        view = out.views[0]
        assert view.where()["heading"] % 360 == pytest.approx(heading, abs=1e-6)
        tall = view.opacity[40] > 0.5  # a row above the horizon
        column = float(np.flatnonzero(tall.numpy()).mean()) + 0.5 if heading != 180 else None
        seen = (heading + (column / 512 - 0.5) * 360) % 360
        convergence = out.tile.frame.convergence()
        assert abs(convergence) > 2 and seen == pytest.approx(convergence % 360, abs=0.6)
        near = view.distance[60][torch.isfinite(view.distance[60])]
        assert float(near.min()) == pytest.approx(8 - 4 * 30 / 256, abs=0.4)
        assert not view.seen.any() and view.sky[5].all() and out.images[0].size == (512, 128)


def test_places_and_pixels_mean_the_same_point(tower):
    tile = tower.read(georeferenced())
    east, north = 3.0, -4.5
    place = tile.frame.place(east, north)
    assert standing(tile, place) == pytest.approx((east, north), abs=1e-6)
    row, col = (0.5 - north / 30) * 256, (east / 30 + 0.5) * 256
    assert standing(tile, (row, col)) == pytest.approx((east, north), abs=1e-9)
    one, two = tower(tile, [place, (row, col)], heading=[10.0, 10.0], histogram=HISTOGRAM).views
    assert torch.allclose(one.rgb, two.rgb, atol=1e-4)
    where = one.where()
    assert (where["camera_lon"], where["camera_lat"]) == pytest.approx((place.lon, place.lat), abs=1e-9)


def test_the_tile_is_cut_around_the_place_and_stays_inside():
    image = georeferenced()
    middle = cut_tile(image, 30.0, 256, image.place)
    assert middle.frame.origin[:2] == pytest.approx((LEFT + 50, TOP - 50), abs=1e-3)
    corner = middle.frame.place(-49.0, 49.0)
    moved = cut_tile(image, 30.0, 256, corner)
    assert moved.frame.origin[:2] == pytest.approx((LEFT + 15, TOP - 15), abs=1e-6)
    assert standing(moved, corner) == pytest.approx((-14.0, 14.0), abs=1e-3)
    crop = Image.fromarray(image.array[:120, :120]).resize((256, 256), Image.Resampling.BICUBIC)
    apart = np.abs(np.asarray(crop) / 255 - moved.pixels.permute(1, 2, 0).numpy())
    assert apart[:240, :240].max() < 1e-6  # at the other borders the crop does not know its neighbours
    grid = moved.geo(np.zeros((256, 256, 1), np.float32), bands=["height"])
    assert grid.transform.c == pytest.approx(LEFT) and grid.gsd == pytest.approx(30 / 256)


def test_a_picture_without_a_place_is_the_tile(tower):
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    out = tower(picture, (128, 128), histogram=HISTOGRAM)
    assert out.tile.pixels.shape == (3, 256, 256) and out.tile.frame.crs is None
    assert "camera_lon" not in out.views[0].where()


@pytest.mark.parametrize("model", [plain_model, plus_model])
def test_one_tile_serves_many_cameras_and_calls_repeat(model):
    made, image = pipe(model()), georeferenced()
    first = made(image, histogram=HISTOGRAM, heading=30.0)
    again = made(first.tile, histogram=HISTOGRAM, heading=30.0)
    assert torch.equal(first.views[0].rgb, again.views[0].rgb)
    drawn = made(first.tile, histogram=HISTOGRAM, heading=30.0, seed=1)
    assert not torch.equal(drawn.views[0].rgb, first.views[0].rgb) and drawn.notes
    provenance = first.views[0].provenance
    assert provenance["synthetic"] is True and provenance["model_hash"] and provenance["tile_metres"] == 30.0
    rgb = first.views[0].rgb
    assert rgb.shape == (128, 512, 3) and float(rgb.min()) >= 0 and float(rgb.max()) <= 1
    assert first.gathered[0].shape == (128, 512, 3)


def test_the_view_from_above_has_the_tower_where_it_stands(tower):
    out = tower(georeferenced(), histogram=HISTOGRAM, above=True)
    heights = out.heights.array[:, :, 0]
    row = 128 - round(8 / 30 * 256)
    assert heights[row, 128] == pytest.approx(8.0, abs=1.2) and heights[200, 50] < 1.3  # a level is 0.9 m, a step 0.3 m
    assert out.heights.crs is not None and out.above.array.shape == (256, 256, 3)
    inside = np.abs(out.above.array.astype(float) / 255 - out.tile.pixels.permute(1, 2, 0).numpy())
    assert inside[heights < 1.3].max() < 0.02  # the colours are those of the tile; the tower's top fades, as published


def test_the_light_of_a_panorama_is_its_histogram(tower):
    draw = np.random.default_rng(0)
    panorama = draw.random((128, 512, 3)).astype(np.float32)
    sky = np.zeros((128, 512), np.float32)
    sky[:60] = 1
    by_picture = tower(georeferenced(), light=panorama, sky=sky).views[0].rgb
    shown = np.round(panorama * 255).astype(np.float32) / 255
    counts = raw_histogram(torch.from_numpy(shown), torch.from_numpy(sky))
    assert counts.shape == (270,)
    # blue first; the first ten bins, with everything that is no sky, are left out
    blue = torch.from_numpy(shown[:, :, 2] * sky)
    assert torch.equal(counts[:90], torch.histc(blue)[10:])
    by_counts = tower(georeferenced(), histogram=counts).views[0].rgb
    assert torch.allclose(by_picture, by_counts, atol=1e-5)


def test_trajectories_of_both_programs(tmp_path):
    (tmp_path / "plus.csv").write_text("w,h,angle\n10.5,20,0\n11,20,-1.5707963\n")
    (tmp_path / "plain.csv").write_text("x,y,angle\n10.5,20,90\n11,20,-170\n")
    plus, plain = read_pixel_path(tmp_path / "plus.csv"), read_pixel_path(tmp_path / "plain.csv")
    assert (plus[0].row, plus[0].col, plus[0].heading) == (20.0, 10.5, 90.0)  # to the right is east
    assert plus[1].heading == pytest.approx(0.0, abs=1e-4) or plus[1].heading == pytest.approx(360.0, abs=1e-4)
    (tmp_path / "shares.csv").write_text("w,h\n-1,1\n0,0.5\n")
    shares = read_pixel_path(tmp_path / "shares.csv", drawn_on=640, size=(200, 100))
    assert [(p.row, p.col, p.heading) for p in shares] == [(100.0, 0.0, None), (75.0, 100.0, None)]
    (tmp_path / "vigor.csv").write_text("w,h,angle\n600,20,0\n320,20,0\n")
    with pytest.raises(
        InputError, match=r"line 2 of vigor\.csv lies outside of a picture of 256 x 256 pixels.*drawn_on"
    ):
        read_pixel_path(tmp_path / "vigor.csv")
    assert read_pixel_path(tmp_path / "vigor.csv", drawn_on=640)[1].col == 128.0
    large = read_pixel_path(tmp_path / "plus.csv", drawn_on=640)
    assert (large[0].row, large[0].col) == (8.0, 4.2)
    assert plain[0] == plus[0] and plain[1].heading == 190.0
    for text, words in (
        ("a,b\n1,2\n", "columns"),
        ("w,h,angle\n1,x,2\n", "line 2"),
        ("w,h,angle\n1,nan,2\n", "finite"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(InputError, match=words):
            read_pixel_path(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_pixel_path(tmp_path / "nothing.csv")


def small():
    return GeoImage(np.zeros((50, 50, 3), np.uint8), crs=CRS, transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(image=georeferenced()), "no light was given"),
        (dict(image=georeferenced(), light=np.zeros((8, 16, 3), np.uint8)), "sky mask"),
        (dict(image=georeferenced(), light=np.zeros((8, 16, 3), np.uint8), sky=np.zeros((8, 16))), "shows no sky"),
        (dict(image=georeferenced(), histogram=np.zeros(90)), "270"),
        (dict(image=georeferenced(), histogram=HISTOGRAM, light=np.zeros((8, 16, 3))), "one of them"),
        (dict(image=georeferenced(), histogram=HISTOGRAM, at=Place(5.0, 52.0)), "outside"),
        (dict(image=georeferenced(), histogram=HISTOGRAM, at=(128, 300)), "outside of the tile"),
        (dict(image=georeferenced(), histogram=HISTOGRAM, at=[(1, 1), (2, 2)], heading=[0.0]), "1 headings for 2"),
        (dict(image=georeferenced(), histogram=HISTOGRAM, at="here"), "Place"),
        (dict(image=small(), histogram=HISTOGRAM), "12.5 x 12.5 m"),
        (dict(image=np.zeros((20, 30, 3), np.uint8), histogram=HISTOGRAM), "square tile of 30 m"),
        (dict(image=np.zeros((20, 20, 3), np.uint8), histogram=HISTOGRAM, at=Place(6.0, 52.0)), "no place"),
    ],
)
def test_what_is_wrong_is_said_before_any_network_runs(given, words, monkeypatch):
    made = pipe(plain_model())
    monkeypatch.setattr(made.ground, "around", lambda *a: pytest.fail("ran"))
    with pytest.raises(InputError, match=words):
        made(**given)


def test_a_saved_pipeline_is_the_same(tmp_path):
    import gensat

    made = pipe(plus_model())
    made.save_pretrained(tmp_path / "model")
    again = gensat.load(tmp_path / "model")
    one, two = (p(georeferenced(), histogram=HISTOGRAM).views[0] for p in (made, again))
    torch.testing.assert_close(one.rgb, two.rgb, atol=1e-4, rtol=0)  # bits depend on where weights lie in memory
    assert one.provenance["model_hash"] == two.provenance["model_hash"]
