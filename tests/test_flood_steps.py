"""A flood that travels, seen from the street: the depths of moments, what is between them, and the pictures that say when."""

import json

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from test_flood_street import canyon, depths, north, place  # noqa: F401  # place is a fixture

from gensat.cli import run
from gensat.errors import InputError
from gensat.geo.classes import WATER
from gensat.hydro.domain import Domain
from gensat.hydro.moments import keeper
from gensat.hydro.scenario import Scenario
from gensat.render.flood_scene import depth_at
from gensat.render.flood_steps import FloodSteps, between
from gensat.render.flood_view import filmed, time_text, write_time
from gensat.render.water import WaterLight
from gensat.types import GeoImage


def kept(folder, scene, levels, seconds, names="depth_{:09.1f}s.tif", tags=True):
    """Depth rasters of level surfaces, as a solver keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    for level, time in zip(levels, seconds, strict=True):
        image = depths(scene, level)
        provenance = {"seconds": float(time)} if tags else {}
        GeoImage(image.array, crs=image.crs, transform=image.transform, provenance=provenance).save(
            folder / names.format(time)
        )
    return folder


@pytest.mark.parametrize("back", [False, True])
def test_a_level_surface_that_rises_or_falls_evenly_is_exact_between_moments(back):
    bed = np.linspace(0, 4, 50)[None] + 0.3 * np.sin(np.arange(30))[:, None]
    low, high = ((level - bed).clip(0) for level in (1.0, 3.0))
    assert ((low == 0) & (high > 0)).sum() > 500
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        found = between(high, low, 1 - share) if back else between(low, high, share)
        # where nothing beside a cell rises as much as it is deep, nothing is known of it: here no such cell is
        np.testing.assert_allclose(found, (1 + 2 * share - bed).clip(0), atol=1e-6)


def test_a_front_comes_to_dry_ground_without_a_jump():
    before, after = np.zeros((1, 8)), np.full((1, 8), 0.6)
    before[0, :3], after[0, 5:] = 0.5, 0.0
    found = np.stack([between(before, after, share)[0] for share in np.linspace(0, 1, 7)])
    np.testing.assert_allclose(found[0], before[0], atol=1e-7)
    np.testing.assert_allclose(found[-1], after[0], atol=1e-7)
    np.testing.assert_allclose(found[:, 3], np.linspace(0, 0.6, 7), atol=1e-6)  # deeper than what is beside it rises
    assert (np.diff(found, axis=0) >= 0).all() and (found[:, 5:] == 0).all()
    outside = between(np.array([[np.nan, 1.0]]), np.array([[1.0, 1.0]]), 0.5)
    assert np.isnan(outside[0, 0]) and outside[0, 1] == 1


@pytest.mark.parametrize("inner", ["steps", "."])
def test_the_scene_between_two_moments_has_the_depth_between(tmp_path, inner):
    scene = canyon(slope=0.02)
    kept(tmp_path / inner, scene, [-2.0, 0.4, 1.4, 0.9], [60, 120, 240, 300])
    steps = FloodSteps.open(tmp_path)
    assert len(steps) == 4 and steps.seconds.tolist() == [60, 120, 240, 300]
    for seconds, level in ((120, 0.4), (150, 0.65), (240, 1.4), (270, 1.15)):
        assert depth_at(steps.scene(scene, seconds), 0.5, -10.0) == pytest.approx(level + 0.2, abs=2e-4), seconds
    assert steps.scene(scene, 60).water is None  # dry is no error here
    assert steps.deepest(scene, (0.5, -10.0)) == 240 and steps.deepest(scene, (0.5, 400.0)) == 240
    assert steps.depths_at(scene, 0.5, -10.0) == pytest.approx(
        [0, 0.61, 1.61, 1.11], abs=0.02
    )  # the lowest cell around
    times = [seconds for _, seconds in steps.scenes(scene, 5)]
    assert times == [60, 120, 180, 240, 300]
    with pytest.raises(InputError, match="minute 6 is not of this flood; give one from 1 to 5"):
        steps.at(360)


def test_names_may_say_the_time(tmp_path):
    scene = canyon()
    kept(tmp_path, scene, [0.2, 0.4, 0.6], [90, 600, 1200.5], names="wd-{:g}s.tif", tags=False)
    assert FloodSteps.open(tmp_path).seconds.tolist() == [90, 600, 1200.5]  # 90 before 600, not after 1200


def test_what_is_no_flood_of_moments_is_one_sentence(tmp_path):
    scene = canyon()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no depth rasters"):
        FloodSteps.open(tmp_path / "empty")
    with pytest.raises(InputError, match="is no folder"):
        FloodSteps.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"a\.tif says no time"):
        FloodSteps.open(kept(tmp_path / "untimed", scene, [0.5], [60], names="a.tif", tags=False))
    mixed = kept(tmp_path / "mixed", scene, [0.5], [60])
    kept(mixed, scene, [0.6], [30], names="later.tif")
    with pytest.raises(InputError, match=r"do not rise: later\.tif is of 30 s, after depth_0000060\.0s\.tif of 60 s"):
        FloodSteps.open(mixed)
    grids = kept(tmp_path / "grids", scene, [0.5], [60])
    other = depths(scene, 0.5)
    GeoImage(
        other.array[:-1], crs=other.crs, transform=other.transform @ Affine.identity(), provenance={"seconds": 90.0}
    ).save(grids / "depth_0000090.0s.tif")
    with pytest.raises(InputError, match=r"depth_0000090\.0s\.tif is on another grid than depth_0000060\.0s\.tif"):
        FloodSteps.open(grids)
    highest = kept(tmp_path / "highest", scene, [0.5], [60], names="depth.tif")
    (highest / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"at its highest only; give .*depth\.tif, or simulate it again with --every"):
        FloodSteps.open(highest)
    cut = kept(tmp_path / "cut", scene, [0.5, 0.6], [60, 120])
    (cut / "depth_0000120.0s.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match="cannot be read as a raster"):
        FloodSteps.open(cut)


def test_a_film_shows_the_water_come_and_go(tmp_path):
    scene, camera = canyon(), north(16, 16)
    kept(tmp_path, scene, [-1.0, 1.0, 1.2, -1.0], [0, 60, 120, 180])
    steps = FloodSteps.open(tmp_path)
    light = WaterLight(steps.scene(scene, 120), None, wind=1)
    shares, depth = [], []
    for view, now in filmed((one for one, _ in steps.scenes(scene, 7)), camera, light):
        shares.append(int((view.classes == WATER).sum()))
        depth.append(depth_at(now, 0.5, -10.0))
    assert depth == pytest.approx([0, 0.5, 1.0, 1.1, 1.2, 0.6, 0], abs=1e-4)
    assert shares[0] == shares[-1] == 0 and min(shares[1:-1]) > 20
    kept(tmp_path, scene, [2.5], [240])  # over the eye
    with pytest.raises(InputError, match="under water"):
        list(filmed((one for one, _ in FloodSteps.open(tmp_path).scenes(scene, 5)), camera, light))


def test_a_picture_says_when():
    assert [time_text(v) for v in (0, 65.2, 3599, 3600, 5430)] == [
        "0 min 00 s", "1 min 05 s", "59 min 59 s", "1 h 00 min", "1 h 30 min",
    ]  # fmt: skip
    plain = np.full((60, 120, 3), 90, np.uint8)
    one, other = write_time(plain, 60), write_time(plain, 120)
    assert (one != plain).any(-1)[:30].sum() == 0 < (one != plain).any(-1)[30:, :100].sum()
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def moving(place, tmp_path_factory):  # noqa: F811
    """The words of a command on a small place, and the moments of a flood of it as a simulation keeps them: the south fills."""
    folder, at = place
    out = tmp_path_factory.mktemp("moving") / "flood"
    out.mkdir()
    domain = Domain.open(folder / "dtm.tif")
    keep = keeper(domain, Scenario(inflows=[(float(at[1]), float(at[2]), 3.0)], hours=0.05), out)
    for minute in (1, 2, 3):
        keep(60.0 * minute, (4.2 + 0.3 * minute - domain.bed).clip(0))
    small = ["--width", "48", "--height", "36", "--samples", "1", "--json", "--terrain", str(folder / "dtm.tif")]
    return ["flood", "view", str(folder / "a.tif"), *at, *small], at, out


def test_the_command_shows_the_moments_of_a_simulated_flood(moving, tmp_path, capsys):
    words, at, flood = moving
    steps = FloodSteps.open(flood)
    assert steps.seconds.tolist() == [60, 120, 180]
    more = ["--depth", f"{flood}/", "--gauge", *at[1:], "--frames", "3", "--fps", "2"]
    assert run([*words, *more, "-o", str(tmp_path / "out/")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "before.png", "view.png", "view.npz", "beside.png", "rising.mp4", "run.json",
    }  # fmt: skip
    assert said["moments"] == 3 and said["flood_seconds"] == 180  # when it is deepest here
    y = 4_295_968.0
    ground = np.interp(4_296_000 - y, np.arange(40) + 0.5, np.linspace(6, 4, 40))
    assert said["depth_gauge"] == pytest.approx(5.1 - ground, abs=5e-3) == pytest.approx(said["depth_here"], abs=0.01)
    shown = GeoImage.open(tmp_path / "out" / "view.png")
    assert shown.provenance["flood_seconds"] == said["flood_seconds"]
    assert shown.provenance["gauge_depth"] == pytest.approx(said["depth_gauge"], abs=1e-3)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["asked"]["depth"] == "flood"
    assert run([*words, *more, "-o", str(tmp_path / "a.gif")]) == 0
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 3
    capsys.readouterr()
    assert run([*words, "--depth", str(flood), "--minute", "1.5", "-o", str(tmp_path / "early.png")]) == 0
    assert json.loads(capsys.readouterr().out)["flood_seconds"] == 90


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--minute", "90"], "minute 90 is not of this flood; give one from 1 to 3"),
        (["--minute", "1", "-o", "x.gif"], "--minute is for a still"),
        (["--eye", "0.01"], "under water"),
    ],
)
def test_the_command_says_what_is_wrong_with_moments(moving, tmp_path, capsys, more, told):
    words, _, flood = moving
    out = [] if "-o" in more else ["-o", str(tmp_path / "bad.png")]
    assert run([*words, "--depth", str(flood), *out, *more]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) <= 3
    assert not list(tmp_path.iterdir())
