"""Heights and footprints from files: units, datums, holes, grids, and the one sentence for each bad file."""

import json

import numpy as np
import pytest
import rasterio
import rasterio.crs
import shapely
import torch
from affine import Affine
from pyproj import CRS
from rasterio.warp import transform_geom

from gensat.errors import InputError
from gensat.geo.buildings import height_of, read_buildings
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING, ROAD
from gensat.geo.elevation import HeightMap
from gensat.render.scene import Scene
from gensat.types import GeoImage

UTM = 32618
LEFT, TOP = 321_000.0, 4_298_000.0


def write(path, heights, *, crs=UTM, transform=None, nodata=None, unit=None):
    heights = np.asarray(heights, dtype=np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", width=heights.shape[1], height=heights.shape[0], count=1, dtype="float32",
        crs=None if crs is None else rasterio.crs.CRS.from_user_input(crs), nodata=nodata,
        transform=transform if transform is not None else Affine(2, 0, LEFT, 0, -2, TOP),
    ) as file:  # fmt: skip
        file.write(heights, 1)
        if unit:
            file.units = (unit,)
    return path


def ramp(rows=40, columns=50):
    return 10 + 0.1 * np.arange(columns)[None, :] + 0.2 * np.arange(rows)[:, None]


def canvas(gsd=2.0, width=50, height=40, left=LEFT, top=TOP):
    return Canvas(width, height, gsd, CRS.from_epsg(UTM), Affine(gsd, 0, left, 0, -gsd, top))


def image(where=None, **size):
    where = where or canvas(**size)
    draw = np.random.default_rng(0)
    return where.image(draw.integers(0, 255, (where.height, where.width, 3), dtype=np.uint8))


def test_the_same_grid_is_copied_bit_by_bit(tmp_path):
    path = write(tmp_path / "dsm.tif", ramp(), unit="metre")
    laid = HeightMap.open(path).on(canvas())
    assert np.array_equal(laid.heights, ramp().astype(np.float32))
    assert laid.notes == ("dsm.tif does not state its vertical datum; heights are used as they are",)
    part = HeightMap.open(path).on(canvas(width=10, height=10, left=LEFT + 8, top=TOP - 6))
    assert np.array_equal(part.heights, ramp().astype(np.float32)[3:13, 4:14])


def test_another_resolution_is_bilinear(tmp_path):
    path = write(tmp_path / "dsm.tif", ramp())
    laid = HeightMap.open(path).on(canvas(gsd=0.5, width=100, height=100, left=LEFT + 20, top=TOP - 20))
    row, column = (np.mgrid[0:100, 0:100] + 0.5) * 0.25 + 10 - 0.5
    np.testing.assert_allclose(laid.heights, 10 + 0.1 * column + 0.2 * row, atol=2e-3)  # a plane stays a plane
    assert any("resampled from EPSG:32618, 2 metre a cell" in note for note in laid.notes)


def test_another_crs_is_warped(tmp_path):
    """Heights in degrees, a function of place: what arrives on the metric grid is the function at each pixel."""

    def plane(lon, lat):
        return 100 + 3000 * (lon + 77.06) + 5000 * (lat - 38.81)

    step = 1e-5
    lon, lat = -77.0635 + step * (np.arange(300) + 0.5), 38.8145 - step * (np.arange(250) + 0.5)
    heights = plane(lon[None, :], lat[:, None])
    path = write(tmp_path / "d.tif", heights, crs=4326, transform=Affine(step, 0, -77.0635, 0, -step, 38.8145))
    where = Canvas.from_bbox((-77.0630, 38.8125, -77.0610, 38.8140), gsd=1.0, crs=UTM)
    laid = HeightMap.open(path).on(where)
    at = where.places(*(np.mgrid[0 : where.height, 0 : where.width] + 0.5))
    assert np.abs(laid.heights - plane(*at)).max() < 0.02


@pytest.mark.parametrize("unit, factor", [("ft", 0.3048), ("us-ft", 1200 / 3937), ("foot", 0.3048), ("cm", 0.01)])
def test_feet_are_converted_and_said(tmp_path, unit, factor):
    path = write(tmp_path / "dsm.tif", ramp(), unit=unit)
    read = HeightMap.open(path)
    np.testing.assert_allclose(read.heights, ramp() * factor, rtol=1e-6)
    assert read.notes[0] == f"dsm.tif is in {unit} and was converted to metres"
    told = HeightMap.open(write(tmp_path / "plain.tif", ramp()), unit=unit)
    np.testing.assert_allclose(told.heights, read.heights)


def test_the_vertical_part_of_a_crs_names_datum_and_unit(tmp_path):
    path = write(tmp_path / "navd.tif", ramp(), crs="EPSG:26918+6360")  # NAVD88 height (ftUS)
    read = HeightMap.open(path)
    assert "NAVD88" in read.datum and read.crs.to_epsg() == 26918
    np.testing.assert_allclose(read.heights, ramp() * 1200 / 3937, rtol=1e-6)


def test_holes_are_filled_and_counted(tmp_path):
    heights = ramp()
    heights[10:14, 20:25] = np.nan
    heights[0, 0] = -9999
    path = write(tmp_path / "dsm.tif", heights)
    read = HeightMap.open(path)
    assert read.holes == 21
    whole = read.without_holes()
    assert whole.filled == 21 and whole.holes == 0
    assert np.abs(whole.heights - ramp()).max() < 1.5 and np.array_equal(
        whole.heights[20:], ramp().astype(np.float32)[20:]
    )
    assert "21 cells of the heights (1.1 percent) were holes and are interpolated" in whole.notes
    assert "1 cells of dsm.tif hold a nodata value that is not declared; they are holes" in whole.notes
    declared = HeightMap.open(write(tmp_path / "n.tif", np.where(np.isnan(heights), -99, heights), nodata=-99))
    assert declared.holes == 21


def test_a_hole_wider_than_the_interpolation_takes_the_nearest_height(tmp_path):
    heights = np.full((300, 300), 5.0)
    heights[10:, 10:] = np.nan
    filled = HeightMap.open(write(tmp_path / "dsm.tif", heights)).without_holes()
    np.testing.assert_allclose(filled.heights, 5, atol=1e-4)


def test_what_is_not_covered_takes_the_nearest_height(tmp_path):
    laid = HeightMap.open(write(tmp_path / "dsm.tif", ramp())).on(canvas(left=LEFT - 20))
    assert (laid.heights[:, :10] == laid.heights[:, 10:11]).all()
    assert any("do not cover 20 percent" in note for note in laid.notes)


def broken(tmp_path, **changes):
    return write(tmp_path / "bad.tif", **{"heights": ramp(), **changes})


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda p: HeightMap.open(broken(p, unit="fathom")),
            "unit 'fathom' of bad.tif is not known; give --unit",
        ),
        (lambda p: HeightMap.open(broken(p, heights=ramp() * 1000)), "as no place on the Earth does"),
        (lambda p: HeightMap.open(broken(p, heights=np.full((4, 4), np.nan))), "nothing but nodata"),
        (lambda p: HeightMap.open(p / "none.tif"), "does not exist"),
        (lambda p: HeightMap.open(broken(p)).on(canvas(left=LEFT + 5000)), "do not overlap the image at lon"),
        (lambda p: HeightMap.open(broken(p, crs=None)).on(canvas()), "have no CRS"),
        (lambda p: HeightMap.open(broken(p)).on(Canvas.local(20, 20, 1.0)), "cannot be laid under an image without"),
        (lambda p: HeightMap.open(truncated(broken(p))), "cannot be read"),
    ],
)
def test_bad_heights(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        make(tmp_path)


def truncated(path):
    path.write_bytes(path.read_bytes()[:2000])
    return path


def write_buildings(path, shapes, properties, crs=UTM):
    features = [
        {
            "type": "Feature",
            "properties": p,
            "geometry": transform_geom(crs, 4326, shapely.geometry.mapping(s), precision=9),
        }
        for s, p in zip(shapes, properties, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def house(x, y, side=8.0):
    return shapely.box(LEFT + x, TOP - y - side, LEFT + x + side, TOP - y)


def test_heights_of_buildings():
    assert height_of({"HEIGHT": 17.5}) == 17.5
    assert height_of({"building:height": "12 m"}) == 12
    assert height_of({"height": "30 ft"}) == pytest.approx(9.144)
    assert height_of({"building:levels": "4"}) == 12
    assert height_of({"height": "n/a", "levels": 2}) == 6
    assert (
        height_of({"height": -3}) is None
        and height_of({"name": "x"}) is None
        and height_of({"height": float("nan")}) is None
    )
    assert height_of({"h": 5.0, "height": 9}, "h") == 5


def test_buildings_are_clipped_mended_and_split(tmp_path):
    bow = shapely.Polygon([(LEFT + 60, TOP - 20), (LEFT + 70, TOP - 30), (LEFT + 70, TOP - 20), (LEFT + 60, TOP - 30)])
    shapes = [
        house(-4, 10),
        house(20, 10).difference(house(22, 12, 3)),
        bow,
        shapely.MultiPolygon([house(40, 50), house(60, 50)]),
    ]
    rest = [shapely.LineString([(LEFT, TOP - 5), (LEFT + 50, TOP - 5)]), house(30, 60)]
    path = write_buildings(
        tmp_path / "b.geojson",
        [*shapes, *rest],
        [
            {"height": 5.0},
            {"height": 6.0},
            {"height": 7.0},
            {"height": None},
            {"highway": "footway"},
            {"landuse": "grass"},
        ],
    )
    found = read_buildings(path, canvas())
    assert len(found.footprints) == 6 and shapely.is_valid(found.footprints).all()
    areas = sorted(round(p.area, 1) for p in found.footprints)
    assert areas == [25.0, 25.0, 32.0, 55.0, 64.0, 64.0]  # bow tie in two, the clipped one, the courtyard, the pair
    assert sorted(found.heights.tolist()) == [5, 6, 6, 6, 7, 7]
    assert any("1 buildings have no height; 6 m is assumed" in n for n in found.notes)
    assert any("1 features are points or lines" in n for n in found.notes)
    assert any("1 features are no buildings" in n for n in found.notes) and any("mended" in n for n in found.notes)


def test_bad_buildings(tmp_path):
    path = write_buildings(tmp_path / "b.geojson", [house(10, 10)], [{"name": "town hall"}])
    with pytest.raises(InputError, match=r"no building of b\.geojson has a height \(attributes: name"):
        read_buildings(path, canvas())
    with pytest.raises(InputError, match="no attribute 'hoehe'; choose one of name"):
        read_buildings(path, canvas(), height="hoehe")
    assert read_buildings(path, canvas(), default=9).heights.tolist() == [9]
    with pytest.raises(InputError, match="does not overlap"):
        read_buildings(path, canvas(left=LEFT + 9000))
    with pytest.raises(InputError, match="place"):
        read_buildings(path, Canvas.local(10, 10, 1.0))


def test_scene_from_buildings(tmp_path):
    """Prisms stand on the lowest ground under their corners, and true places lead to them."""
    path = write_buildings(tmp_path / "b.geojson", [house(20, 10), house(60, 40)], [{"height": 6.0}, {"height": 11.0}])
    terrain = write(tmp_path / "dtm.tif", ramp())
    scene = Scene.from_buildings(image(), path, terrain, classes=np.full((40, 50), ROAD, np.uint8))
    assert scene.frame.origin == (LEFT + 50, TOP - 40, 10.0) and len(scene.buildings) == 2
    lowest = [10 + 0.1 * (x / 2 - 0.5) + 0.2 * (y / 2 - 0.5) - 10 for x, y in ((20, 10), (60, 40))]
    np.testing.assert_allclose(scene.buildings.base, lowest, atol=1e-4)
    np.testing.assert_allclose(scene.buildings.top - scene.buildings.base, [6, 11], atol=1e-5)
    x, y = (torch.tensor(float(v)) for v in scene.frame.from_crs(LEFT + 64, TOP - 44))
    assert scene.buildings.over(x, y).item() == 1 and int(scene.class_at(x, y)) == BUILDING
    assert (scene.classes == BUILDING).sum() == 2 * 16 and (scene.classes == ROAD).sum() == 2000 - 32
    assert "dtm.tif does not state its unit; metres are assumed" in scene.provenance["notes"]
    flat = Scene.from_buildings(image(), path)
    assert flat.buildings.base.tolist() == [0, 0] and "level plane" in flat.provenance["notes"][0]


def test_scene_from_heights(tmp_path):
    dsm = write(tmp_path / "dsm.tif", ramp())
    scene = Scene.from_dsm(image(), dsm)
    assert scene.terrain.surface == "columns" and isinstance(scene.terrain.beyond, float)
    x, y = scene.grid.centres()
    np.testing.assert_allclose(scene.height_at(x, y) + scene.frame.origin[2], ramp(), atol=1e-4)
    smooth = Scene.from_dsm(image(), HeightMap.open(dsm), surface="bilinear")
    np.testing.assert_allclose(smooth.height_at(x, y) + smooth.frame.origin[2], ramp(), atol=1e-4)
    bare = Scene.from_terrain(image(), dsm)
    assert bare.terrain.surface == "bilinear" and bare.terrain.beyond == "edge"


def test_columns_of_a_coarser_surface_model_keep_their_walls(tmp_path):
    """Under an image of half the cell, each cell becomes four columns of its height: nothing in between."""
    heights = np.where(np.random.default_rng(0).random((20, 25)) < 0.3, 20.0, 3.0)
    dsm = write(tmp_path / "dsm.tif", heights)
    scene = Scene.from_dsm(image(gsd=1.0, width=50, height=40), dsm)
    local = scene.terrain.heights.numpy() + scene.frame.origin[2]
    assert np.array_equal(local, np.kron(heights, np.ones((2, 2))))
    assert any("laid cell by cell from EPSG:32618, 2 metre a cell" in note for note in scene.provenance["notes"])
    smooth = Scene.from_dsm(image(gsd=1.0, width=50, height=40), dsm, surface="bilinear").terrain.heights.numpy()
    assert ((smooth > 1) & (smooth < 16)).mean() > 0.3


def test_an_image_without_a_georeference_needs_its_scale(tmp_path):
    loose = GeoImage(np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(InputError, match="give --gsd in metres per pixel"):
        Scene.from_terrain(loose)
    scene = Scene.from_dsm(loose, write(tmp_path / "dsm.tif", ramp()), gsd=0.5)
    assert scene.grid.step == 0.5 and scene.frame.crs is None
    assert scene.stand((0.0, 0.0))[2] > 1.7
    with pytest.raises(InputError, match=r"lies outside the image, whose south-west corner is x=-12\.50"):
        scene.stand((50.0, 0.0))
    with pytest.raises(InputError, match="2 m per pixel by its georeference"):
        Scene.from_terrain(image(), gsd=1.0)
    with pytest.raises(InputError, match="not a projected system"):
        Scene.from_terrain(
            GeoImage(np.zeros((4, 4, 3), np.uint8), crs=4326, transform=Affine(1e-5, 0, -77, 0, -1e-5, 38))
        )
    with pytest.raises(InputError, match="need an image with a place"):
        Scene.from_buildings(loose, "b.geojson", gsd=0.5)


def test_web_mercator_has_metres_on_the_ground(tmp_path):
    """A grid metre is 0.78 m at 38.8 degrees north: the scene is as large as the ground, not as the grid."""
    where = Canvas(60, 60, 2.0, CRS.from_epsg(3857), Affine(2, 0, -8_579_000, 0, -2, 4_691_000))
    scene = Scene.from_terrain(image(where), 5.0)
    assert scene.grid.step == pytest.approx(2 * np.cos(np.radians(scene.frame.place(0, 0).lat)), rel=4e-3)
