"""The satellite pipeline with a toy model: every condition, every output, and everything a diffusers user expects of a call."""

import numpy as np
import pytest
import torch
from PIL import Image
from satellite_requests import CLASSES, HOUSTON, KAMPALA, REQUEST, SMALL, latents, picture, pixels
from toys import toy_pipeline, toy_spec, toy_vae

from gensat.diffusion.noise import NoiseField
from gensat.errors import InputError
from gensat.geo.canvas import Canvas
from gensat.hub.spec import Defaults
from gensat.pipelines.parts import choose_noise
from gensat.pipelines.satellite import SatellitePipeline
from gensat.types import Acquisition, GeoImage, Place


@pytest.fixture(scope="module")
def pipe():
    return toy_pipeline()


@pytest.fixture(scope="module")
def base(pipe):
    return pipe(**REQUEST)


# -- results ----------------------------------------------------------------------------------------------------------------


def test_same_request_is_bit_identical(pipe, base):
    assert np.array_equal(pixels(pipe(**REQUEST)), pixels(base))
    assert pixels(base).std() > 2


def test_result_does_not_depend_on_the_batch(pipe):
    batch = pipe(**{**REQUEST, "prompt": ["a harbor", "a beach", "houses", ""], "seed": 7})
    for i, words in enumerate(["a harbor", "a beach", "houses", ""]):
        alone = pipe(**{**REQUEST, "prompt": words, "seed": 7 + i})
        assert np.abs(pixels(alone)[0] - pixels(batch)[i]).max() <= 1
        assert batch.scenes[i].provenance["seed"] == 7 + i and batch.scenes[i].provenance["prompt"] == words


def test_noise_of_a_sample_is_the_same_bits_in_any_batch_and_canvas():
    shape = (4, 8, 8)
    batch, name = choose_noise([7, 8, 9], "earth/EPSG:32615/4.0000", shape, origin=(3, 5))
    alone, _ = choose_noise([8], "earth/EPSG:32615/4.0000", shape, origin=(3, 5))
    assert name == "earth/EPSG:32615/4.0000"
    assert torch.equal(batch(3, 5, 8, 8, 4)[1:2], alone(3, 5, 8, 8, 4))
    assert torch.equal(alone(3, 5, 8, 8, 4), NoiseField(8, name)(0, 0, 20, 20, 4)[:, :, 3:11, 5:13])


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a beach"},
        {"prompt": ""},
        {"negative_prompt": "houses"},
        {"withhold": ("place",)},
        {"withhold": ("gsd",)},
        {"date": "2017-02-28"},
        {"date": None},
        {"cloud_cover": 0.8},
        {"sensor": "sentinel-2"},
        {"layout": CLASSES},
        {"edges": np.eye(32, dtype=np.float32)},
        {"guidance_scale": 4},
        {"place_guidance_scale": 5.0},
        {"guidance_rescale": 0.7},
        {"guidance_interval": (0.5, 1.0)},
        {"seed": 8},
        {"num_inference_steps": 3},
        {"place": KAMPALA},
        {"gsd": 2},
    ],
    ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items() if not isinstance(v, np.ndarray)) or next(iter(c)),
)
def test_every_condition_changes_the_picture(pipe, changes):
    assert (latents(pipe, **changes) - latents(pipe)).abs().max() > 1e-3


def test_layouts_and_edges_tell_apart(pipe):
    plan = latents(pipe, layout=CLASSES)
    assert (latents(pipe, layout=CLASSES.T.copy()) - plan).abs().max() > 1e-4
    assert (latents(pipe, layout=CLASSES, controlnet_conditioning_scale=0.5) - plan).abs().max() > 1e-4
    assert torch.equal(latents(pipe, layout=CLASSES, controlnet_conditioning_scale=0), latents(pipe))


def test_a_place_only_known_to_the_noise_is_not_a_condition(pipe):
    def told(**changes):
        noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
        return latents(pipe, latents=noise, **changes)

    assert (told() - told(place=KAMPALA)).abs().max() > 1e-3
    assert torch.equal(told(withhold=("place",)), told(withhold=("place",), place=KAMPALA))


# -- outputs ----------------------------------------------------------------------------------------------------------------


def test_output_types_show_the_same_picture(pipe, base):
    array = pipe(**REQUEST, output_type="np").images
    tensor = pipe(**REQUEST, output_type="pt").images
    assert array.shape == (1, 32, 32, 3) and tensor.shape == (1, 3, 32, 32)
    assert np.allclose(array, tensor.permute(0, 2, 3, 1).numpy()) and 0 <= array.min() and array.max() <= 1
    assert np.abs(array * 255 - pixels(base)).max() <= 0.51
    assert np.array_equal(np.asarray(base.images[0]), pixels(base)[0])


@torch.no_grad()
def test_latents_have_no_scenes(pipe, base):
    out = pipe(**REQUEST, output_type="latent")
    assert out.scenes is None and out.images.shape == (1, 4, 4, 4)
    decoded = pipe.codec.decode(out.images)
    assert np.abs((decoded[0].permute(1, 2, 0).numpy() * 127.5 + 127.5) - pixels(base)[0]).max() <= 0.51


def test_tuples_as_diffusers_returns_them(pipe, base):
    (images,) = pipe(**REQUEST, return_dict=False)
    assert np.array_equal(np.asarray(images[0]), np.asarray(base.images[0]))
    assert pipe(**REQUEST, output_type="latent", return_dict=False)[0].shape == (1, 4, 4, 4)


def test_scene_lies_where_it_was_asked_for(base):
    (scene,) = base.scenes
    rows, cols = Canvas.like(scene).pixels(HOUSTON.lon, HOUSTON.lat)
    assert abs(rows - 16) < 0.01 and abs(cols - 16) < 0.01
    assert scene.crs.to_epsg() == 32615 and scene.transform.a == 0.5
    assert scene.acquisition == Acquisition(scene.acquisition.gsd, "2017-08-31")
    assert [band.name for band in scene.bands] == ["red", "green", "blue"]


def test_provenance_tells_everything_and_comes_back_from_a_file(base, tmp_path):
    (scene,) = base.scenes
    tags = scene.provenance
    assert tags["synthetic"] is True and tags["seed"] == 7 and tags["prompt"] == "a harbor"
    assert tags["model"] == "toy" and len(tags["model_hash"]) == 16 and tags["model_licence"] == "Apache-2.0"
    assert tags["place"] == HOUSTON.to_dict() and tags["acquisition"]["date"] == "2017-08-31"
    assert tags["noise"] == "earth/EPSG:32615/4.0000" and tags["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    scene.save(tmp_path / "x.tif")
    again = GeoImage.open(tmp_path / "x.tif")
    assert again.provenance == tags and np.array_equal(again.array, scene.array)


def test_more_than_three_bands():
    bands = ("red", "green", "blue", "nir")
    pipe = toy_pipeline(bands=bands)
    pipe.register_modules(vae=toy_vae(bands=4))
    out = pipe(**REQUEST)
    assert out.scenes[0].array.shape == (32, 32, 4) and out.scenes[0].bands[3].name == "nir"
    assert out.images[0].size == (32, 32) and pipe(**REQUEST, output_type="pt").images.shape[1] == 4


def test_several_images_per_prompt(pipe):
    out = pipe(**{**REQUEST, "prompt": ["a harbor", "a beach"]}, num_images_per_prompt=2)
    assert [s.provenance["prompt"] for s in out.scenes] == ["a harbor"] * 2 + ["a beach"] * 2
    assert [s.provenance["seed"] for s in out.scenes] == [7, 8, 9, 10]
    two = pipe(**{**REQUEST, "seed": [3, 99]}, num_images_per_prompt=2)
    assert [s.provenance["seed"] for s in two.scenes] == [3, 99]
    each = pipe(**{**REQUEST, "prompt": ["", ""]}, negative_prompt=["a beach", "houses"])
    assert [s.provenance["negative_prompt"] for s in each.scenes] == ["a beach", "houses"]
    assert np.abs(pixels(each)[0] - pixels(each)[1]).max() > 0


def test_without_a_seed_one_is_drawn_and_told(pipe):
    request = {k: v for k, v in REQUEST.items() if k != "seed"}
    a, b = pipe(**request), pipe(**request)
    assert a.scenes[0].provenance["seed"] != b.scenes[0].provenance["seed"]
    again = pipe(**request, seed=a.scenes[0].provenance["seed"])
    assert np.array_equal(pixels(again), pixels(a))


def test_generator_and_latents_replace_the_noise_field_and_are_told(pipe, base):
    def seeded():
        return torch.Generator().manual_seed(1)

    a, b = (pipe(**REQUEST, generator=seeded()) for _ in range(2))
    tags = a.scenes[0].provenance
    assert tags["noise"] == "generator" and tags["seed"] is None and np.array_equal(pixels(a), pixels(b))
    assert np.abs(pixels(a) - pixels(base)).max() > 0
    given = torch.randn(1, 4, 4, 4, generator=seeded())
    c = pipe(**REQUEST, latents=given)
    assert c.scenes[0].provenance["noise"] == "latents" and np.array_equal(pixels(c), pixels(a))


def test_one_generator_per_image_makes_images_of_their_own(pipe):
    request = {**REQUEST, "prompt": ["a harbor"] * 2}
    two = pipe(**request, generator=[torch.Generator().manual_seed(s) for s in (1, 2)])
    alone = pipe(**REQUEST, generator=torch.Generator().manual_seed(2))
    assert np.abs(pixels(two)[1] - pixels(alone)[0]).max() <= 1


# -- canvas -----------------------------------------------------------------------------------------------------------------


def test_defaults_come_from_the_spec_and_are_told(pipe):
    out = pipe("a harbor", place=HOUSTON, seed=1, num_inference_steps=1)
    assert out.scenes[0].array.shape == (64, 64, 3) and out.scenes[0].transform.a == 0.5
    assert out.notes == ["no gsd was given: made at the model's default of 0.5 m per pixel"]
    assert pipe("", place=HOUSTON, gsd=1, seed=1, **SMALL).scenes[0].provenance["guidance_scale"] == 2.0


def test_guidance_without_a_scale_of_its_own_in_the_spec(pipe):
    spec = toy_spec(defaults=Defaults(steps=2, guidance_scale=1.0, place_guidance_scale=4.0, prompt_tokens=16))
    guided = SatellitePipeline(**pipe.components, spec=spec)
    guided.set_progress_bar_config(disable=True)
    assert guided(**REQUEST).scenes[0].provenance["place_guidance_scale"] == 4.0
    assert torch.equal(latents(guided), latents(pipe, guidance_scale=1.0, place_guidance_scale=4.0))


def test_no_place_is_no_place(pipe):
    scene = pipe("a harbor", seed=1, **SMALL).scenes[0]
    assert scene.crs is None and scene.transform is None and scene.provenance["place"] is None
    assert scene.provenance["noise"] == "local" and scene.gsd is None


def test_box_is_made_in_the_models_multiple_and_cropped(pipe):
    box = (-95.36, 29.76, -95.3597, 29.76025)
    out = pipe("a harbor", bbox=box, gsd=0.5, seed=1, num_inference_steps=1)
    (scene,) = out.scenes
    canvas = Canvas.from_bbox(box, 0.5)
    assert (scene.height, scene.width) == (canvas.height, canvas.width) != (64, 64)
    assert scene.height % 16 and scene.transform == canvas.transform
    west, south, east, north = Canvas.like(scene).lonlat_bounds
    assert west <= box[0] and south <= box[1] and east >= box[2] and north >= box[3]
    assert out.images[0].size == (canvas.width, canvas.height)


def test_box_of_a_width_is_cropped_too(pipe):
    out = pipe("", bbox=(-95.36, 29.76, -95.3597, 29.76025), width=48, seed=1, num_inference_steps=1)
    assert out.scenes[0].width == 48 and out.scenes[0].height % 16 and abs(out.scenes[0].transform.a - 29.2 / 48) < 0.02


def test_box_below_the_smallest_size_is_cropped_from_it(pipe):
    out = pipe("", bbox=(-95.36, 29.76, -95.35995, 29.76004), gsd=0.5, seed=1, num_inference_steps=1)
    assert out.scenes[0].width < 16 and out.scenes[0].height < 16


def test_a_canvas_of_its_own(pipe):
    canvas = Canvas.around(HOUSTON, 0.5, 40, 36)
    scene = pipe("a harbor", canvas=canvas, seed=1, num_inference_steps=1).scenes[0]
    assert (scene.width, scene.height) == (40, 36) and scene.transform == canvas.transform


def test_crs_of_the_result(pipe):
    assert pipe("", place=HOUSTON, gsd=1, crs="EPSG:32614", seed=1, **SMALL).scenes[0].crs.to_epsg() == 32614


def test_snapping_moves_the_origin_onto_the_noise_grid(pipe):
    scene = pipe(**{**REQUEST, "gsd": 1}, snap=True).scenes[0]
    assert scene.transform.c % 8 == 0 and scene.transform.f % 8 == 0
    assert abs(scene.transform.c - pipe(**{**REQUEST, "gsd": 1}).scenes[0].transform.c) <= 4


def test_large_canvas_goes_in_windows_with_their_own_words(pipe):
    asked = []

    def words(place):
        asked.append(place)
        return "a harbor" if place.lon < HOUSTON.lon else "houses"

    out = pipe(words, place=HOUSTON, gsd=0.5, width=160, height=32, seed=3, num_inference_steps=1)
    (scene,) = out.scenes
    assert scene.array.shape == (32, 160, 3) and scene.provenance["windows"] == "64 px every 32 px"
    assert scene.provenance["prompt"] == "(a function of the place)"
    assert len(set(asked)) > 8 and min(p.lon for p in asked) < HOUSTON.lon < max(p.lon for p in asked)
    halo = (7 + pipe.vae.decoder_halo) * 8
    assert out.notes == [
        f"made in windows of 64 px: pixels more than {halo} px inside do not depend on where the canvas ends"
    ]


def test_regeneration_inside_the_halo_agrees_to_one_grey_value():
    pipe = toy_pipeline(size_limits=(32, 32), window=32, window_stride=16)
    pipe.register_modules(vae=toy_vae(decoder_blocks=(0, 0, 0)))
    request = {"prompt": "a harbor", "seed": 3, "num_inference_steps": 2, "place_guidance_scale": 3.0, "layout": None}
    large = Canvas.around(HOUSTON, 0.5, 256, 256).snapped(8)
    small = large.crop(24, 16, 192, 208)
    a, b = (pipe(**request, canvas=canvas) for canvas in (large, small))
    halo = int(b.notes[0].split("more than ")[1].split(" px")[0])
    inner = slice(halo, -halo)
    part = pixels(a)[0][24 : 24 + 192, 16 : 16 + 208]
    assert halo < 90 and np.abs(part - pixels(b)[0])[inner, inner].max() <= 1
    assert np.abs(part - pixels(b)[0]).max() > 1


# -- start images -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_start_image_is_kept_more_at_small_strength(pipe):
    image = Image.fromarray(picture())
    start = pipe.codec.encode(torch.from_numpy(picture()).permute(2, 0, 1)[None] / 127.5 - 1)
    request = {"image": image, "num_inference_steps": 10, "guidance_scale": 1.0}
    far = [float((latents(pipe, **request, strength=s) - start).abs().mean()) for s in (0.1, 0.5, 1.0)]
    assert far == sorted(far) and far[0] < 0.5 * far[2]


@pytest.mark.parametrize(
    "kind", [np.array, Image.fromarray, lambda a: a > 0, lambda a: a / 255], ids="array picture bool float".split()
)
def test_inpainting_keeps_the_rest_bit_for_bit(pipe, kind):
    image, mask = picture(), np.zeros((32, 32), np.uint8)
    mask[5:19, 8:27] = 255
    out = pixels(pipe(**REQUEST, image=image, mask=kind(mask), strength=1.0))[0]
    assert np.array_equal(out[mask == 0], image[mask == 0].astype(int))
    assert np.abs(out - image)[mask > 0].mean() > 5


def test_georeferenced_image_brings_its_canvas(pipe):
    canvas = Canvas.around(HOUSTON, 0.5, 40, 32)
    image = canvas.image(np.full((32, 40, 3), 90, np.uint8))
    scene = pipe("a harbor", image=image, seed=1, num_inference_steps=2).scenes[0]
    assert scene.transform == canvas.transform and scene.crs == canvas.crs and scene.width == 40
    moved = Canvas.around(Place(lon=-95.361, lat=29.76), 0.5, 32, 32).image(picture())
    with pytest.raises(InputError, match="lies elsewhere"):
        pipe(**REQUEST, image=moved)


def test_canvas_takes_the_size_of_the_image(pipe):
    image = Image.fromarray(picture().repeat(2, axis=1)[:, :56])
    assert pipe("", image=image, seed=1, num_inference_steps=2).images[0].size == (56, 32)
    scene = pipe("", image=picture(), place=HOUSTON, gsd=0.5, seed=1, num_inference_steps=2).scenes[0]
    assert scene.array.shape == (32, 32, 3) and scene.place is not None


# -- callbacks --------------------------------------------------------------------------------------------------------------


def test_callback_sees_every_step_and_may_replace_the_latents(pipe):
    seen = []

    def callback(p, i, t, values):
        seen.append((p is pipe, i, float(t), tuple(values["latents"].shape)))
        return {"latents": torch.zeros_like(values["latents"])} if i == 1 else {}

    out = pipe(**REQUEST, callback_on_step_end=callback, output_type="latent")
    assert [s[:2] for s in seen] == [(True, 0), (True, 1)] and seen[0][2] > seen[1][2] and seen[0][3] == (1, 4, 4, 4)
    assert not out.images.any() and pipe.num_timesteps == 2


def test_callback_objects_name_their_tensors(pipe):
    class Callback:
        tensor_inputs = ("latents",)

        def __call__(self, p, i, t, values):
            self.values = set(values)
            return values

    callback = Callback()
    pipe(**REQUEST, callback_on_step_end=callback)
    assert callback.values == {"latents"}
    with pytest.raises(InputError, match="only latents"):
        pipe(**REQUEST, callback_on_step_end_tensor_inputs=["prompt_embeds"])


def test_interrupt_ends_the_run_and_is_told(pipe):
    steps = []

    def callback(p, i, t, values):
        steps.append(i)
        p._interrupt = i == 1
        return {}

    out = pipe(**{**REQUEST, "num_inference_steps": 8}, callback_on_step_end=callback)
    assert steps == [0, 1] and pipe.interrupt and out.scenes[0].provenance["interrupted"] is True
    assert out.notes == ["interrupted after step 2 of 8: the image is not finished"]
    assert pipe(**REQUEST).scenes[0].provenance["interrupted"] is False


def test_words_that_the_model_does_not_read_are_told(pipe):
    out = pipe("a harbor " * 12, **SMALL, seed=1)
    assert [note.split(":")[0] for note in out.notes if "tokens" in note] == [
        "a prompt has 24 tokens and the model reads 14"
    ]
