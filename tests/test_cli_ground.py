"""``gensat ground`` and ``gensat scene export`` on a small place of known shape."""

import hashlib
import json
import re

import numpy as np
import pytest
import shapely
import torch
import trimesh
from affine import Affine
from PIL import Image
from pyproj import CRS

from gensat.cli import run
from gensat.geo.crs import from_lonlat
from gensat.models.height import HeightModel
from gensat.train.heights import save_model
from gensat.types import GeoImage

UTM = CRS.from_epsg(32633)
LEFT, TOP, SIDE = 500_000.0, 5_500_000.0, 64  # on the central meridian: grid north is true north
MIDDLE = (500_032.0, 5_499_968.0)


@pytest.fixture
def place(tmp_path):
    """64 m of green ground at 12 m, a block of 20 m in the north, a slab of 8 m in the east; footprints and surface model."""
    grid = Affine(1, 0, LEFT, 0, -1, TOP)
    green = np.full((SIDE, SIDE, 3), (60, 120, 60), np.uint8)
    GeoImage(green, crs=UTM, transform=grid).save(tmp_path / "image.tif")
    heights = np.full((SIDE, SIDE), 12, np.float32)
    heights[4:14, 20:44], heights[24:40, 50:60] = 32, 20
    GeoImage(heights, bands=["height"], crs=UTM, transform=grid).save(tmp_path / "dsm.tif")
    GeoImage(np.full((SIDE, SIDE), 12, np.float32), bands=["height"], crs=UTM, transform=grid).save(
        tmp_path / "dtm.tif"
    )
    GeoImage(heights, bands=["height"], crs=UTM, transform=Affine(1, 0, LEFT + 900, 0, -1, TOP)).save(
        tmp_path / "elsewhere.tif"
    )
    nothing = np.full((SIDE, SIDE), np.nan, np.float32)
    GeoImage(nothing, bands=["height"], crs=UTM, transform=grid).save(tmp_path / "holes.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "dsm.tif").read_bytes()[:-3000])
    shapes = [
        (shapely.box(LEFT + 20, TOP - 14, LEFT + 44, TOP - 4), 20),
        (shapely.box(LEFT + 50, TOP - 40, LEFT + 60, TOP - 24), 8),
    ]
    features = [
        {"type": "Feature", "properties": {"height": high}, "geometry": json.loads(shapely.to_geojson(shape))}
        for shape, high in shapes
    ]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    (tmp_path / "blocks.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    )
    return tmp_path


def at(x, y):
    from gensat.geo.crs import to_lonlat

    return [f"{float(v):.9f}" for v in to_lonlat(UTM, x, y)]


def ground(*arguments) -> int:
    return run(["ground", *map(str, arguments)])


@pytest.mark.parametrize(
    "heights", [("--heights", "dsm.tif"), ("--buildings", "blocks.geojson", "--terrain", "dtm.tif")]
)
def test_a_view_shows_the_block_where_it_stands(place, capsys, heights):
    options = [place / o if "." in o else o for o in heights]
    assert ground(
        place / "image.tif", *options, "--at", *at(*MIDDLE), "--heading", 0, "--fov", 90, "--width", 90, "--height", 90,
        "--samples", 1, "-o", place / "a.npz", "--json",
    ) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["frames"] == 1
    buffers = np.load(place / "a.npz")
    # The block's wall is 18 m ahead, from 12 m to the left to 12 m to the right, up to 18.3 m above the eye.
    assert buffers["depth"][45, 45] == pytest.approx(18, abs=0.01)
    wall = (buffers["kind"] == 3) & (np.abs(buffers["depth"] - 18) < 0.01)
    columns, rows = np.flatnonzero(wall.any(axis=0)), np.flatnonzero(wall[:, 45])
    assert columns[0] == 45 - 30 and columns[-1] == 45 + 29  # 12 / 18 of half the width
    assert rows[0] == 0 and rows[-1] == 48  # the last centre above 45 + 1.7 / 18 * 45
    assert (
        not buffers["seen"][wall].any() and buffers["seen"][(buffers["kind"] == 1) & (buffers["distance"] < 25)].all()
    )


def test_a_panorama_has_true_headings_and_its_tags_say_where_it_is(place):
    assert ground(
        place / "image.tif", "--heights", place / "dsm.tif", "--at", *at(*MIDDLE), "--heading", 90, "--panorama",
        "--width", 180, "--samples", 1, "--time", "2024-06-21T11:00Z", "-o", place / "a.png",
    ) == 0  # fmt: skip
    image = GeoImage.open(place / "a.png")
    assert image.array.shape == (90, 180, 3) and image.provenance["synthetic"] is True
    assert image.provenance["heading"] == pytest.approx(90, abs=0.01)
    assert image.provenance["camera_lon"] == pytest.approx(float(at(*MIDDLE)[0]), abs=1e-6)


def test_a_walk_is_a_video_and_a_folder_holds_pictures_and_buffers(place, capsys):
    line = {
        "type": "LineString",
        "coordinates": [[float(v) for v in at(LEFT + 8, TOP - 50)], [float(v) for v in at(LEFT + 20.01, TOP - 50)]],
    }
    (place / "way.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": line}))
    walk = [
        place / "image.tif",
        "--heights",
        place / "dsm.tif",
        "--track",
        place / "way.geojson",
        "--width",
        32,
        "--samples",
        1,
        "--speed",
        6,
        "--fps",
        2,
    ]
    assert ground(*walk, "-o", place / "walk.gif") == 0
    with Image.open(place / "walk.gif") as video:
        assert video.n_frames == 5  # 12 m at 6 m/s, twice a second
    capsys.readouterr()
    assert ground(*walk, "-o", f"{place}/all/", "--frames", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    frames = place / "all" / "frames"
    assert sorted(p.name for p in frames.iterdir())[:2] == ["frame-00000.npz", "frame-00000.png"]
    where = [json.loads(str(np.load(frames / f"frame-0000{i}.npz")["where"])) for i in (0, 4)]
    assert where[0]["heading"] == pytest.approx(90, abs=0.1) and where[1]["camera_lon"] > where[0]["camera_lon"]


def test_one_command_makes_views_a_walk_and_a_scene(place, capsys):
    """From one place to another behind a block: everything of it in a folder, in true coordinates, and nothing twice."""
    start, end = at(LEFT + 32, TOP - 20), at(LEFT + 32, TOP - 1.8)
    asked = [
        place / "image.tif", "--buildings", place / "blocks.geojson", "--terrain", place / "dtm.tif", "--at", *start, "--to", *end,
        "--width", 32, "--samples", 1, "--speed", 10, "--fps", 1,
    ]  # fmt: skip
    assert ground(*asked, "-o", f"{place}/tour", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    names = [
        "view.png",
        "view.npz",
        "panorama.png",
        "panorama.npz",
        "track.geojson",
        "walk.mp4",
        "scene.glb",
        "run.json",
    ]
    assert [p.rsplit("/", 1)[1] for p in said["outputs"]] == names
    assert sorted(p.name for p in (place / "tour").iterdir()) == sorted(names)
    line = json.loads((place / "tour" / "track.geojson").read_text())["features"][0]["geometry"]["coordinates"]
    assert line[0] == pytest.approx([float(v) for v in start], abs=1e-7)
    assert line[-1] == pytest.approx([float(v) for v in end], abs=1e-7)
    walked = shapely.LineString(np.stack(from_lonlat(UTM, *np.array(line).T), axis=1))
    assert walked.distance(shapely.box(LEFT + 20, TOP - 14, LEFT + 44, TOP - 4)) > 0.5 and walked.length > 40
    view, panorama = (GeoImage.open(place / "tour" / f"{n}.png") for n in ("view", "panorama"))
    assert view.array.shape == (24, 32, 3) and panorama.array.shape == (32, 64, 3)
    assert view.provenance["heading"] == pytest.approx(panorama.provenance["heading"])
    assert (
        min(view.provenance["heading"], 360 - view.provenance["heading"]) > 30
    )  # along the way, not north into the wall
    low, high = trimesh.load(place / "tour" / "scene.glb").bounds
    np.testing.assert_allclose(high - low, [64, 20, 64], atol=0.01)
    record = json.loads((place / "tour" / "run.json").read_text())
    assert record["place"]["crs"] == "EPSG:32633" and record["asked"]["at"] == [float(v) for v in start]
    assert record["synthetic"] is True and record["frames"] == said["frames"]
    assert record["outputs"] == names[:-1] and str(place) not in json.dumps(record)  # names, no folders of this machine
    assert set(record["inputs"]) == {"image", "buildings", "terrain"}
    digest = hashlib.sha256((place / "dtm.tif").read_bytes()).hexdigest()
    assert record["inputs"]["terrain"]["sha256"] == digest and record["asked"]["terrain"] == "dtm.tif"
    assert ground(*asked, "-o", f"{place}/tour") == 2 and "exists" in capsys.readouterr().err
    assert ground(*asked, "-o", f"{place}/tour", "--overwrite") == 0


def test_trees_come_from_a_surface_model_beside_footprints(place, capsys):
    """What the surface model holds outside the footprints becomes trees; alone beside one of the others it is refused."""
    heights = GeoImage.open(place / "dsm.tif")
    heights.array[50:56, 10:16] = 20
    heights.save(place / "woods.tif")
    asked = [
        place / "image.tif",
        "--buildings",
        place / "blocks.geojson",
        "--heights",
        place / "woods.tif",
        "--at",
        *at(*MIDDLE),
    ]
    look = ["--heading", 225, "--width", 64, "--height", 64, "--samples", 1, "-o", place / "a.npz", "--json"]
    assert ground(*asked, *look) == 2 and "with both buildings and terrain" in capsys.readouterr().err
    assert ground(*asked, "--terrain", place / "dtm.tif", *look) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any(re.search(r"[1-9]\d* trees stand", note) for note in notes)
    buffers = np.load(place / "a.npz")
    crown = (buffers["kind"] == 4) & (buffers["classes"] == 5)
    assert crown.any() and 15 < np.median(buffers["distance"][crown]) < 35  # the trees stand 27 m away


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at", *at(LEFT + 30, TOP - 8), "--buildings", "blocks.geojson"], r"lies inside a building; the nearest open ground is lon="),
        (["--at", "15.1", "49.6", "--heights", "dsm.tif"], r"lies outside the image"),
        (["--heights", "dsm.tif"], r"give --at LON LAT for one view, or --track"),
        (["--at", *at(*MIDDLE)], r"nothing is known of heights; give heights"),
        (["--at", *at(*MIDDLE), "--heights", "dsm.tif", "--terrain", "0"], r"heights are a surface model"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--time", "2024-06-21"], r"no time of day"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--to", *at(*MIDDLE)], r"cannot hold a walk"),
        (["--to", *at(*MIDDLE), "--terrain", "0"], r"give --at LON LAT"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--frames"], r"frames are for a folder"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--cloud", "0.5"], r"cloud and visibility need a sun"),
        (["--at", *at(*MIDDLE), "--terrain", "nothing.tif"], r"nothing.tif"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--smooth"], r"smooth is for heights"),
        (["--at", "15", "95", "--terrain", "0"], r"latitude 95"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--width", "0"], r"0 x 0 pixels is empty"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--width", "100000", "--panorama"], r"100000 x 50000 pixels is larger"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--fov", "180"], r"--fov 180 is not between"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--pitch", "91"], r"--pitch 91 is not between"),
        (["--at", *at(*MIDDLE), "--terrain", "0", "--eye", "0"], r"eye height 0 m is not above the ground"),
        (["--at", *at(*MIDDLE), "--terrain", "nan"], r"ground height nan is not finite"),
        (["--at", *at(LEFT + 30, TOP - 8), "--heights", "dsm.tif"], r"on or in a building or tree; the nearest open ground is lon="),
        (["--at", *at(*MIDDLE), "--heights", "dsm.tif", "--unit", "yards"], r"yards"),
        (["--at", *at(*MIDDLE), "--heights", "elsewhere.tif"], r"elsewhere.tif .*do(es)? not (overlap|cover)"),
        (["--at", *at(*MIDDLE), "--heights", "holes.tif"], r"holes.tif hold nothing but nodata"),
        (["--at", *at(*MIDDLE), "--heights", "cut.tif"], r"cut.tif.* cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(place, capsys, options, words):
    given = [place / o if o.endswith((".tif", ".geojson")) and (place / o).exists() else o for o in options]
    assert ground(place / "image.tif", *given, "-o", place / "a.png") == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and "Traceback" not in said
    assert not (place / "a.png").exists()


@pytest.mark.parametrize("name", ["a.gif", "a.txt"])
def test_an_output_that_cannot_hold_a_view_is_refused(place, capsys, name):
    assert ground(place / "image.tif", "--terrain", 0, "--at", *at(*MIDDLE), "-o", place / name) == 2
    assert "cannot hold one view" in capsys.readouterr().err


def test_a_picture_without_a_place_needs_its_scale(place, capsys):
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(place / "plain.png")
    asked = [place / "plain.png", "--terrain", 0, "--at", 1, 2, "--width", 16, "--samples", 1]
    assert ground(*asked, "-o", place / "b.png") == 2 and "--gsd" in capsys.readouterr().err
    assert ground(*asked, "--gsd", 0.5, "-o", place / "b.png") == 0


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "las", "tif"])
def test_a_scene_goes_to_other_programs(place, capsys, suffix):
    scene = [place / "image.tif", "--buildings", place / "blocks.geojson", "--terrain", place / "dtm.tif"]
    assert (
        run(["scene", "export", *map(str, scene), "-o", str(place / f"out.{suffix}"), "--spacing", "2", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    if suffix == "glb":
        low, high = trimesh.load(place / "out.glb").bounds
        assert high[1] - low[1] == pytest.approx(20, abs=0.01)  # y is up: the block
        assert said["kind"].startswith("mesh")
    if suffix == "tif":
        heights = GeoImage.open(place / "out.tif").array[:, :, 0]
        assert (
            heights[8, 30] == pytest.approx(32)
            and heights[50, 10] == pytest.approx(12)
            and heights[30, 55] == pytest.approx(20)
        )


def test_splats_are_a_ply_and_other_formats_are_refused(place, capsys):
    scene = [str(place / "image.tif"), "--terrain", "0"]
    assert run(["scene", "export", *scene, "-o", str(place / "s.splats.ply"), "--spacing", "4"]) == 0
    assert b"scale_0" in (place / "s.splats.ply").read_bytes()[:2000]
    assert run(["scene", "export", *scene, "-o", str(place / "s.fbx")]) == 2
    assert "is no format of a scene" in capsys.readouterr().err


def test_a_refiner_paints_what_the_renderer_shows(place, capsys):
    from refiner_toys import toy_refiner

    toy_refiner().save_pretrained(place / "painter")
    view = (place / "image.tif", "--heights", place / "dsm.tif", "--at", *at(*MIDDLE), "--width", 96, "--height", 64)
    painted = (*view, "--refine", place / "painter", "--prompt", "red houses", "--steps", 1)
    assert ground(*view, "-o", place / "raw.npz") == 0 and ground(*painted, "-o", place / "a.npz") == 0
    assert ground(*painted, "-o", place / "b.npz") == 0
    raw, one, again = (np.load(place / f"{name}.npz") for name in ("raw", "a", "b"))
    assert np.array_equal(one["rgb"], again["rgb"]) and np.array_equal(one["distance"], raw["distance"])
    sky = raw["opacity"] == 0
    assert np.array_equal(one["rgb"][sky], raw["rgb"][sky]) and not np.array_equal(one["rgb"], raw["rgb"])
    capsys.readouterr()
    assert ground(*view, "--prompt", "red houses", "-o", place / "c.png") == 2
    assert "--refine MODEL" in capsys.readouterr().err
    assert ground(*view, "--refine", "gensat-small", "-o", place / "c.png") == 2
    assert "no refiner of ground views" in capsys.readouterr().err


def test_heights_may_be_guessed_from_the_image(place, capsys):
    torch.manual_seed(0)
    save_model(
        HeightModel(channels=(8, 12), blocks=(1, 1), sun_width=6), place / "guesser", "mean absolute error 9.9 m"
    )
    asked = ("--at", *at(*MIDDLE), "--width", 96, "--height", 64, "--samples", 1)
    guess = ("--heights", f"estimate:{place / 'guesser'}", "--terrain", "12")
    assert ground(place / "image.tif", *guess, *asked, "-o", place / "a.npz", "--json") == 0
    assert any("estimate" in note for note in json.loads(capsys.readouterr().out)["notes"])
    ahead = np.load(place / "a.npz")["distance"][-1].min()
    assert 1.7 < ahead < 4  # the ground is where the terrain says, whatever stands on it
    assert ground(place / "image.tif", "--heights", "estimate:nowhere", *asked, "-o", place / "b.npz") == 2
    assert "nowhere" in capsys.readouterr().err
