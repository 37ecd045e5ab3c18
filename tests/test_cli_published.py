"""``gensat ground --model``: converted checkpoints on the command line, and their node."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from affine import Affine
from PIL import Image
from published_toys import gen_model, plain_checkpoint, plain_model, plus_model

from gensat.cli import run
from gensat.errors import InputError
from gensat.pipelines.density import DensityGroundPipeline
from gensat.pipelines.density_place import UNCHECKED, DensityPlace, read_histogram, steps
from gensat.render.paths import Track
from gensat.types import GeoImage

# UTM zone 31 ends at 6 degrees east; there, at 52 degrees north, the grid is turned by 2.36 degrees
CRS, LEFT, TOP, GSD = "EPSG:32631", 705_900.0, 5_765_900.0, 0.25


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A converted toy of Sat2Density (tiles of 30 m), an image of 100 m, a panorama with its sky, and its 270 numbers."""
    folder = tmp_path_factory.mktemp("published")
    torch.save(plain_checkpoint(), folder / "model.pth")
    asked = [
        "models",
        "convert",
        str(folder / "model.pth"),
        "--variant",
        "cvact",
        "-o",
        str(folder / "plain"),
        "--quiet",
    ]
    assert run(asked) == 0
    draw = np.random.default_rng(3)
    array = draw.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    GeoImage(array, crs=CRS, transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP)).save(folder / "image.tif")
    Image.fromarray(array[:64, :64]).save(folder / "tile.png")
    street = draw.integers(0, 60, (128, 512, 3), dtype=np.uint8)
    street[:60] = (120, 160, 220)
    Image.fromarray(street).save(folder / "street.png")
    sky = np.zeros((128, 512), np.uint8)
    sky[:60] = 255
    Image.fromarray(sky).save(folder / "sky.png")
    np.save(folder / "light.npy", np.linspace(0, 1, 270))
    return folder


def middle(made):
    place = GeoImage.open(made / "image.tif").place
    return ["--at", f"{place.lon:.14f}", f"{place.lat:.14f}"]


def ground(*arguments):
    return run(["ground", *map(str, arguments)])


def test_a_panorama_is_that_of_the_pipeline_and_says_what_is_not_known(made, tmp_path, capsys):
    import gensat

    asked = [made / "image.tif", "--model", made / "plain", "--light", made / "street.png", "--sky", made / "sky.png"]
    asked += [*middle(made), "--panorama", "--heading", 30]
    assert ground(*asked, "-o", tmp_path / "a.npz", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["width"], said["height"], said["tile_metres"]) == (512, 128, 30.0) and UNCHECKED in said["notes"]
    pipe = gensat.load(made / "plain")
    image = GeoImage.open(made / "image.tif")
    with Image.open(made / "street.png") as light, Image.open(made / "sky.png") as sky:
        view = pipe(image, image.place, heading=30.0, light=light, sky=sky).views[0]
    found = np.load(tmp_path / "a.npz")
    np.testing.assert_allclose(found["rgb"], view.rgb.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["distance"], view.distance.numpy(), rtol=1e-4)
    assert not found["seen"].any()
    assert ground(*asked, "-o", tmp_path / "a.png", "--quiet") == 0
    tags = GeoImage.open(tmp_path / "a.png").provenance
    assert (
        tags["heading"] == pytest.approx(30, abs=1e-6) and tags["light"] == "street.png" and tags["synthetic"] is True
    )
    assert tags["image"] == "image.tif" and tags["camera_lon"] == pytest.approx(image.place.lon, abs=1e-7)


@pytest.mark.parametrize("model", [plain_model, plus_model, gen_model])
def test_a_folder_gets_a_view_a_panorama_the_tile_from_above_and_a_record(model, made, tmp_path, capsys):
    DensityGroundPipeline(model()).save_pretrained(tmp_path / "model")
    asked = [made / "image.tif", "--model", tmp_path / "model", "--sky-histogram", made / "light.npy", *middle(made)]
    assert ground(*asked, "--fov", 60, "--width", 64, "-o", f"{tmp_path}/here/", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    names = ["view.png", "view.npz", "panorama.png", "panorama.npz", "above.tif", "heights.tif", "run.json"]
    assert [p.rsplit("/", 1)[1] for p in said["outputs"]] == names
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == sorted(names)
    metres = model().config.tile_metres
    for name in ("above", "heights"):
        image = GeoImage.open(tmp_path / "here" / f"{name}.tif")
        assert image.crs.to_epsg() == 32631 and image.gsd * image.width == pytest.approx(metres, rel=1e-3)
        assert image.transform.c == pytest.approx(LEFT + 50 - metres / 2, abs=0.01)
    assert GeoImage.open(tmp_path / "here" / "view.png").array.shape == (64, 64, 3)
    record = json.loads((tmp_path / "here" / "run.json").read_text())
    assert UNCHECKED in record["scene"]["notes"] and record["tile_metres"] == metres
    assert record["asked"]["model"] == "model" and str(tmp_path) not in json.dumps(record)
    digest = hashlib.sha256((made / "light.npy").read_bytes()).hexdigest()
    assert record["inputs"]["sky_histogram"] == {"file": "light.npy", "bytes": 270 * 8 + 128, "sha256": digest}


def test_a_trajectory_of_the_published_programs_becomes_its_frames(made, tmp_path, capsys):
    """Drawn in pixels of a picture of 200 x 200 over the image: the first frame is what stands at that place shows."""
    (tmp_path / "way.csv").write_text("w,h,angle\n90,100,0\n100,100,0\n110,100,-1.5707963\n")
    asked = [made / "image.tif", "--model", made / "plain", "--sky-histogram", made / "light.npy"]
    way = ["--track", tmp_path / "way.csv", "--drawn-on", 200, 200, "--fps", 2]
    assert ground(*asked, *way, "--panorama", "--frames", "-o", f"{tmp_path}/walk/", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 3
    where = [json.loads(str(np.load(tmp_path / f"walk/frames/frame-0000{i}.npz")["where"])) for i in range(3)]
    frame = DensityPlace.open(
        DensityGroundPipeline(plain_model()), made / "image.tif", histogram=np.ones(270)
    ).frame  # its origin is the centre
    for found, east, azimuth in zip(where, (-5, 0, 5), (90, 90, 0), strict=True):
        there = frame.place(east, 0.0)
        assert (found["camera_lon"], found["camera_lat"]) == pytest.approx((there.lon, there.lat), abs=1e-8)
        assert found["heading"] == pytest.approx(frame.heading(azimuth, east, 0.0), abs=1e-4)
    assert where[0]["camera_xyz"][:2] == pytest.approx([-5, 0], abs=1e-3)  # one tile, around the middle of the way
    assert ground(*asked, *way, "-o", tmp_path / "walk.gif", "--width", 64) == 0
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 3 and film.size == (64, 64)


def test_a_line_is_walked_and_a_trajectory_keeps_its_points():
    frame = DensityPlace.open(
        DensityGroundPipeline(plain_model()), GeoImage(np.zeros((8, 8, 3), np.uint8)), histogram=np.ones(270)
    ).frame
    x = np.array([0.0, 7.0])
    line, poses = Track(frame, x, 0 * x), Track(frame, x, 0 * x, heading=np.array([0.0, 90.0]))
    assert len(steps(line, fps=2, speed=None, pace=1.4)) == 11 and len(steps(poses, fps=2, speed=None, pace=1.4)) == 2
    assert len(steps(poses, fps=2, speed=7.0, pace=1.4)) == 3


def test_points_of_a_picture_without_a_place_are_metres_from_its_centre(made):
    """A tile of unknown scale; and an image of known scale larger than a tile, whose tile goes where the camera stands."""
    pipe = DensityGroundPipeline(plain_model())
    tile = DensityPlace.open(pipe, made / "tile.png", histogram=np.ones(270))
    view = tile.make(tile.tile([3.0], [-4.0]), [3.0], [-4.0], [0.0]).views[0]
    assert view.where()["camera_xyz"][:2] == pytest.approx([3, -4], abs=1e-6)
    large = GeoImage(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    place = DensityPlace.open(pipe, large, gsd=0.25, histogram=np.ones(270))
    cut = place.tile([20.0], [30.0])
    assert cut.frame.origin == (20.0, 30.0, 0.0)
    crop = Image.fromarray(large.array[20:140, 220:340]).resize((256, 256), Image.Resampling.BICUBIC)
    apart = np.abs(np.asarray(crop) / 255 - cut.pixels.permute(1, 2, 0).numpy())
    assert apart[8:248, 8:248].max() < 1e-6
    view = place.make(cut, [21.0], [30.0], [0.0]).views[0]
    assert view.where()["camera_xyz"][:2] == pytest.approx([1, 0], abs=1e-6)
    with pytest.raises(InputError, match="outside the image"):
        place.local((60.0, 0.0))


def test_histograms_are_read_from_any_of_three_kinds(tmp_path):
    values = np.linspace(0, 2, 270)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.json").write_text(json.dumps(values.tolist()))
    (tmp_path / "a.csv").write_text(",".join(map(repr, values.tolist())))
    for name in ("a.npy", "a.json", "a.csv"):
        np.testing.assert_array_equal(read_histogram(tmp_path / name), values)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--buildings", "b.geojson"], "--buildings does not go with --model"),
        (["--time", "2024-06-21T09:00Z"], "--time does not go with --model"),
        (["--facades", "village"], "--facades does not go with --model"),
        (["--to", "6", "52"], "--to does not go with --model"),
        (["--eye", "2"], "--eye does not go with --model"),
        (["--panorama", "--width", "64"], "panoramas have one size; leave --width out"),
        (["--sky-histogram", "@nothing.npy"], "nothing.npy does not exist"),
        (["--sky-histogram", "@street.png"], "street.png cannot be read; give 270 numbers"),
        (["--sky-histogram", "@short.csv"], "the histogram has shape"),
        (["--light", "@street.png", "--sky-histogram", "@light.npy"], "both a histogram and a panorama"),
        (["--light", "@nothing.png"], "nothing.png"),
        ([], "needs the sky of a place; give --light PANORAMA, or --sky-histogram"),
        (["--light", "@street.png", "--gsd", "1"], "leave --gsd out"),
        (
            ["--sky-histogram", "@light.npy", "--model", "gensat-heights"],
            "gensat-heights is no published ground-view model",
        ),
        (["--sky-histogram", "@light.npy", "--model", "@nothing"], "nothing"),
        (["--sky-histogram", "@light.npy", "--at", "6.5", "52"], "lies outside the image"),
        (["--sky-histogram", "@light.npy", "--width", "63"], "a view of 63 x 63 pixels"),
        (["--light", "@street.png", "--sky", "@tile.png"], "the sky mask is 64 x 64 pixels"),
        (["--drawn-on", "640", "640"], "--drawn-on is the width and height"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(options, words, made, tmp_path, capsys):
    (made / "short.csv").write_text("1,2,3")
    given = [made / o[1:] if o.startswith("@") else o for o in options]
    asked = [made / "image.tif", *([] if "--model" in options else ["--model", made / "plain"])]
    asked += [*([] if "--at" in options else middle(made)), *given]
    assert ground(*asked, "-o", tmp_path / "a.png") == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) <= 3 and "Traceback" not in said
    assert not (tmp_path / "a.png").exists()


def test_options_of_models_without_one_are_refused(made, tmp_path, capsys):
    asked = [made / "image.tif", *middle(made), "--terrain", 0, "--sky", made / "sky.png", "-o", tmp_path / "a.png"]
    assert ground(*asked) == 2 and "--sky is for --model" in capsys.readouterr().err


def test_a_way_longer_than_the_tile_is_refused(made, tmp_path, capsys):
    (tmp_path / "way.csv").write_text("w,h,angle\n10,100,0\n390,100,0\n")
    asked = [made / "image.tif", "--model", made / "plain", "--sky-histogram", made / "light.npy"]
    assert ground(*asked, "--track", tmp_path / "way.csv", "-o", tmp_path / "a.mp4") == 2
    said = capsys.readouterr().err
    assert (
        re.search(r"the way is 95 m across, and .* knows one tile of 30 m", said) and not (tmp_path / "a.mp4").exists()
    )
