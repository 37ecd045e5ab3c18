"""Floods painted by diffusion: what is dry stays, what is wet is painted, and the picture follows the water."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_controlnet, toy_pipeline

import gensat
from gensat.conditioning.flood import FLOOD_CHANNELS, depth_channel, encode_flood
from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING
from gensat.hub.spec import Signal
from gensat.models.water_grain import WaterGrain
from gensat.pipelines.flood import FloodPipeline
from gensat.types import Band, GeoImage, Place

SIZE = 64


@pytest.fixture(scope="module")
def pipe() -> FloodPipeline:
    core = toy_pipeline()
    signals = {name: core.spec.signals[name] for name in ("prompt", "place", "acquisition")}
    signals["water_depth"] = Signal("residuals", null="zero", spatial="canvas", component="controlnet")
    spec = replace(core.spec, pipeline="FloodPipeline", signals=signals)
    net = toy_controlnet(control_channels=len(FLOOD_CHANNELS))
    made = FloodPipeline(**{**core.components, "controlnet": net}, spec=spec)
    made.set_progress_bar_config(disable=True)
    return made


def scene(width: int = SIZE, height: int = SIZE, dtype: type = np.uint8, bands: int = 3) -> GeoImage:
    canvas = Canvas.around(Place(lon=-95.4, lat=29.8), 0.5, width, height)
    rng = np.random.default_rng(4)
    array = rng.integers(0, 256, (height, width, bands)).astype(np.float32)
    names = ["red", "green", "blue", "nir"][:bands]
    array = (array / 255 if dtype is np.float32 else array).astype(dtype)
    return canvas.image(array, bands=[Band(n) for n in names])


def water(width: int = SIZE, height: int = SIZE, level: float = 1.5) -> np.ndarray:
    depth = np.zeros((height, width), np.float32)
    depth[10 : height - 20, 5 : width - 11] = level
    return depth


def test_dry_pixels_stay_bit_for_bit_and_all_of_the_water_is_painted(pipe: FloodPipeline) -> None:
    before, depth = scene(), water()
    out = pipe(before, depth, seed=1)
    [after] = out.scenes
    dry = depth == 0
    assert np.array_equal(after.array[dry], before.array[dry])
    assert np.array_equal(out.seen, ~dry)
    inner = out.seen.copy()
    inner[:14], inner[-24:], inner[:, :9], inner[:, -15:] = False, False, False, False
    assert (after.array != before.array).any(-1)[inner].mean() > 0.95
    assert after.crs == before.crs and after.transform == before.transform
    assert after.provenance["synthetic"] and after.provenance["flood"] == "diffusion"


def test_the_edge_is_soft_inside_and_sharp_when_asked(pipe: FloodPipeline) -> None:
    before, depth = scene(), water()
    soft, sharp = (pipe(before, depth, seed=1, edge=e).scenes[0].array.astype(int) for e in (4, 0))
    change = [np.abs(a - before.array).mean(-1) for a in (soft, sharp)]
    shore = np.zeros(depth.shape, bool)
    shore[10, 5:50] = True
    assert change[0][shore].mean() < 0.5 * change[1][shore].mean()
    assert np.array_equal(soft[25:30, 25:30], sharp[25:30, 25:30])


def test_the_same_seed_is_the_same_picture_and_depth_image_and_words_change_it(pipe: FloodPipeline) -> None:
    before, depth = scene(), water()
    first = pipe(before, depth, seed=1).scenes[0].array
    assert np.array_equal(first, pipe(before, depth, seed=1).scenes[0].array)
    other = scene()
    other.array[30:50, 30:50] = 0
    for changed in (
        pipe(before, depth, seed=2),
        pipe(before, water(level=6.0), seed=1),
        pipe(other, depth, seed=1),
        pipe(before, depth, prompt="a red beach", seed=1),
    ):
        assert not np.array_equal(first[12:28, 12:28], changed.scenes[0].array[12:28, 12:28])


def test_several_pictures_have_seeds_of_their_own_and_equal_single_ones(pipe: FloodPipeline) -> None:
    before, depth = scene(), water()
    out = pipe(before, depth, seed=5, num_images_per_prompt=2)
    alone = pipe(before, depth, seed=6)
    assert len(out.images) == 2 and out.scenes[1].provenance["seed"] == 6
    apart = np.abs(out.scenes[1].array.astype(int) - alone.scenes[0].array)
    assert apart.max() <= 1


def test_sizes_need_not_be_multiples(pipe: FloodPipeline) -> None:
    out = pipe(scene(75, 58), water(75, 58), seed=1)
    assert out.scenes[0].array.shape == (58, 75, 3)


def test_a_depth_of_another_grid_and_crs_is_brought_to_the_image(pipe: FloodPipeline) -> None:
    before = scene()
    canvas = Canvas.around(Place(lon=-95.4, lat=29.8), 2.0, 40, 40, crs="EPSG:3857")
    depth = np.zeros((40, 40, 1), np.float32)
    depth[:, :20] = 2.0  # the western half
    out = pipe(before, canvas.image(depth, bands=["depth"]), seed=1)
    assert 0.4 < out.seen.mean() < 0.6 and out.seen[:, :28].all() and not out.seen[:, 36:].any()


def test_what_rises_above_the_water_stays_dry(pipe: FloodPipeline) -> None:
    before, depth = scene(), water(level=1.5)
    heights = np.zeros_like(depth)
    heights[20:30, 20:30] = 5.0
    heights[20:30, 35:40] = 1.0
    out = pipe(before, depth, heights=heights, seed=1)
    assert not out.seen[20:30, 20:30].any() and out.seen[20:30, 35:40].all()
    assert np.array_equal(out.scenes[0].array[20:30, 20:30], before.array[20:30, 20:30])
    layout = np.zeros(depth.shape, np.uint8)
    layout[20:30, 20:30] = BUILDING
    assert np.array_equal(
        pipe(before, depth, layout=layout, seed=1).seen[20:30], out.seen[20:30] | (heights[20:30] == 1)
    )
    assert any("covers whatever stands" in note for note in pipe(before, depth, seed=1).notes)


def test_floats_and_further_bands_are_kept(pipe: FloodPipeline) -> None:
    before, depth = scene(dtype=np.float32, bands=4), water()
    out = pipe(before, depth, seed=1)
    after = out.scenes[0]
    assert after.array.dtype == np.float32 and np.array_equal(after.array[..., 3], before.array[..., 3])
    assert np.array_equal(after.array[depth == 0], before.array[depth == 0])
    assert any("nir" in note for note in out.notes)


def test_a_picture_without_a_place(pipe: FloodPipeline) -> None:
    out = pipe(scene().array, water(), gsd=0.5, seed=1)
    assert out.scenes[0].crs is None and out.images[0].size == (SIZE, SIZE)


def test_saved_and_loaded_it_paints_the_same(pipe: FloodPipeline, tmp_path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    loaded = gensat.load(tmp_path / "model", device="cpu", dtype="float32")
    assert isinstance(loaded, FloodPipeline)
    loaded.set_progress_bar_config(disable=True)
    before, depth = scene(), water()
    assert np.array_equal(loaded(before, depth, seed=1).scenes[0].array, pipe(before, depth, seed=1).scenes[0].array)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": np.zeros((SIZE, SIZE), np.float32)}, "no pixel"),
        ({"depth": np.ones((9, 9), np.float32)}, "same size"),
        ({"depth": -np.ones((SIZE, SIZE), np.float32)}, "below 0"),
        ({"gsd": 0.5}, "leave it out"),
        ({"heights": np.zeros((5, 5), np.float32)}, "size"),
        ({"withhold": ["date"]}, "withhold"),
        ({"controlnet_conditioning_scale": 11}, "0 to 10"),
        ({"num_inference_steps": 0}, "step"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(pipe: FloodPipeline, change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pipe(**{"image": scene(), "depth": water(), **change})


def test_a_depth_elsewhere_is_refused(pipe: FloodPipeline) -> None:
    far = Canvas.around(Place(lon=16.8, lat=52.2), 2.0, 40, 40).image(np.ones((40, 40, 1), np.float32))
    with pytest.raises(InputError, match="does not overlap"):
        pipe(scene(), far)


def test_channels_say_what_is_known_of_each_pixel() -> None:
    before = torch.rand(2, 3, 16, 24) * 2 - 1
    depth = torch.zeros(2, 16, 24)
    depth[0, 4:8] = 1.0
    depth[1, 4:8] = 40.0
    made = encode_flood(before, depth)
    assert made.shape == (2, len(FLOOD_CHANNELS), 16, 24) and torch.equal(made[:, :3], before)
    assert torch.equal(made[:, 3], (depth > 0).float())
    assert made[0, 4, 5, 0] == pytest.approx(np.log(2) / np.log(21)) and made[1, 4, 5, 0] == 1
    assert torch.equal(made[..., 3:9, 5:20], encode_flood(before[..., 3:9, 5:20], depth[..., 3:9, 5:20]))
    assert float(depth_channel(torch.tensor([[0.0]]))) == 0
    with pytest.raises(InputError, match="negative"):
        encode_flood(before, depth - 1)
    with pytest.raises(InputError, match="differ in size"):
        encode_flood(before, depth[:, :8])


def test_without_the_mask_the_whole_picture_is_the_models_own(pipe: FloodPipeline) -> None:
    before = scene()
    made = [pipe(before, depth, seed=1, masked=False).scenes[0].array for depth in (water(), water()[::-1].copy())]
    assert np.array_equal(*made)
    assert (made[0] != before.array).any(-1).mean() > 0.95


def test_grain_lies_on_the_water_alone_and_belongs_to_the_place(pipe: FloodPipeline) -> None:
    before, depth = scene(), water()
    rng = np.random.default_rng(1)
    grain = WaterGrain.of([rng.normal(0, 0.05, (32, 32, 3)).astype(np.float32) for _ in range(2)], 0.5)
    grainy = FloodPipeline(**{**pipe.components, "grain": grain}, spec=pipe.spec)
    smooth, none, some, more = (
        p(before, depth, seed=1, grain=g).scenes[0].array.astype(int)
        for p, g in ((pipe, 1), (grainy, 0), (grainy, 1), (grainy, 2))
    )
    assert np.array_equal(smooth, none) and np.array_equal(some[depth == 0], before.array[depth == 0])
    inner = np.s_[16:36, 12:44]
    clear = ((smooth[inner] > 40) & (smooth[inner] < 215)).all(-1)  # where nothing is cut off
    assert clear.sum() > 50
    assert (some - none)[inner][clear].std() == pytest.approx(0.05 * 127.5, rel=0.2)
    assert (more - none)[inner][clear].std() == pytest.approx(0.1 * 127.5, rel=0.2)
    with pytest.raises(InputError, match="grain is 5"):
        grainy(before, depth, grain=5)


def test_a_saved_model_keeps_its_grain_and_one_without_has_none(pipe: FloodPipeline, tmp_path) -> None:
    grain = WaterGrain.of([np.random.default_rng(1).normal(0, 0.05, (16, 16, 3)).astype(np.float32)], 0.5)
    grainy = FloodPipeline(**{**pipe.components, "grain": grain}, spec=pipe.spec)
    for name, model in (("with", grainy), ("without", pipe)):
        model.save_pretrained(tmp_path / name)
        again = FloodPipeline.from_pretrained(tmp_path / name)
        assert (again.grain is None) == (model.grain is None)
        made, expected = (p(scene(), water(), seed=2).scenes[0].array for p in (again, model))
        assert np.array_equal(made, expected)
