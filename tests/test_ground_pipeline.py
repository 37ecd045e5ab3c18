"""The ground refiner with tiny networks: geometry and sky stay, frames are told of each other, panoramas close; and its training."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from refiner_toys import toy_refiner
from solid_toys import FRAME, village
from torch.nn.functional import pad
from toys import toy_pipeline, toy_vae

import gensat
from gensat.conditioning.gbuffers import GBUFFER_CHANNELS, encode_gbuffers
from gensat.diffusion.codec import Codec
from gensat.errors import InputError, ModelError
from gensat.hub.weights import load_component
from gensat.render.cameras import Camera, OrthographicCamera, Panorama
from gensat.render.gbuffers import render
from gensat.train.pair_bank import PairBank
from gensat.train.recipe import load_recipe
from gensat.train.refiner import earlier
from gensat.train.street_pairs import BUFFERS, make_shards


@pytest.fixture(scope="module")
def pipe():
    return toy_refiner()


@pytest.fixture(scope="module")
def scene():
    return village(64, 0.5)


def standing(x=0.0, width=96, height=72):
    return Camera.looking(FRAME, (x, -13.0, 1.7 + 0.05 * x), fov=70, width=width, height=height)


FEW = {"num_inference_steps": 2, "seed": 3}


def test_the_sky_and_all_buffers_stay_and_the_rest_is_painted_again_alike(pipe, scene):
    raw = render(scene, standing(width=100, height=70), samples=2)  # no multiples of anything
    out = pipe(raw, "a red houses", **FEW)
    (made,) = out.views
    sky = raw.sky
    assert torch.equal(made.rgb[sky], raw.rgb[sky]) and (made.rgb != raw.rgb)[~sky].float().mean() > 0.9
    for name in ("distance", "normals", "classes", "kind"):
        assert torch.equal(getattr(made, name), getattr(raw, name))
    assert not made.seen.any() and made.rgb.min() >= 0 and made.rgb.max() <= 1
    assert made.provenance["refiner"] == "toy-ground" and made.provenance["prompt"] == "a red houses"
    assert torch.equal(pipe(raw, "a red houses", **FEW).views[0].rgb, made.rgb)
    assert not torch.equal(pipe(raw, "a red houses", **{**FEW, "seed": 4}).views[0].rgb, made.rgb)
    assert not torch.equal(pipe(raw, "a blue river", **FEW).views[0].rgb, made.rgb)
    assert out.images[0].size == (100, 70)


def test_little_strength_stays_near_the_raw_render(pipe, scene):
    raw = render(scene, standing())
    buffers, rays = {n: getattr(raw, n) for n in BUFFERS}, raw.camera.rays()
    guide = pad(encode_gbuffers(buffers, rays.directions, rays.origins), (0, 0, 0, 8), mode="replicate")
    decoded = pipe.codec.decode(pipe.codec.encode(guide[:, :3]))
    own = pipe.finisher(decoded, guide).clamp(-1, 1)[0, :, :72].permute(1, 2, 0) / 2 + 0.5
    own = torch.where(raw.sky[..., None], raw.rgb, own)  # what the autoencoder alone makes of it
    far = [(pipe(raw, strength=s, num_inference_steps=20, seed=3).views[0].rgb - own).abs().mean() for s in (0.05, 1.0)]
    assert far[0] < 0.5 * far[1]


def test_a_frame_is_told_of_the_frame_before(pipe, scene):
    frames = [render(scene, standing(x)) for x in (0.0, 0.2)]
    together = list(pipe.walk(frames, **FEW))
    alone = pipe(frames[1], **FEW).views[0]
    apart = list(pipe.walk(frames, consistent=False, **FEW))
    assert torch.equal(apart[1].rgb, alone.rgb) and not torch.equal(together[1].rgb, alone.rgb)
    assert torch.equal(together[0].rgb, apart[0].rgb)
    calls = []

    def lazily():
        for frame in frames:
            calls.append(frame)
            yield frame

    walk = pipe.walk(lazily(), **FEW)
    next(walk)
    assert len(calls) == 1  # frames are made as they are needed


def test_a_panorama_closes(pipe, scene):
    where, width = (0.37, -13.21, 1.7), 256  # beside the edges of the noise's cubes
    made = []
    for k in (0, 1):
        heading = 360 * 64 * k / width  # one window's stride further
        camera = Panorama.looking(FRAME, where, heading=heading, width=width, height=128)
        made.append(pipe(render(scene, camera), **FEW).views[0].rgb)
    alike = (made[1] - made[0].roll(-64, 1)).abs().amax(-1) < 1e-2
    assert alike.float().mean() > 0.95  # where rounding moves a ray into another cube of the noise it differs


@pytest.mark.parametrize(
    ("camera", "options", "message"),
    [
        (lambda: OrthographicCamera.above((0.0, 0.0, 50.0), 64, 64, 0.5), {}, "keeps its image"),
        (lambda: standing(width=48, height=48), {}, "too small"),
        (lambda: Panorama.looking(FRAME, (0.0, -13.0, 1.7), width=200, height=100), {}, "such as 192"),
        (standing, {"strength": 0}, "strength is 0"),
        (standing, {"guidance_scale": -1}, "guidance_scale"),
    ],
)
def test_what_cannot_be_painted_is_said_first(pipe, scene, camera, options, message):
    with pytest.raises(InputError, match=message):
        pipe(render(scene, camera()), **{**FEW, **options})


def test_a_saved_refiner_stands_alone(pipe, scene, tmp_path):
    pipe.save_pretrained(tmp_path / "toy")
    again = gensat.load(tmp_path / "toy", device="cpu", dtype="float32")
    again.set_progress_bar_config(disable=True)
    raw = render(scene, standing())
    assert torch.allclose(again(raw, **FEW).views[0].rgb, pipe(raw, **FEW).views[0].rgb, atol=1e-4)


def test_a_refiner_may_share_the_vae_of_another_model(pipe, scene, tmp_path):
    toy_pipeline().save_pretrained(tmp_path / "owner")
    pipe.spec = replace(pipe.spec, shared={"vae": str(tmp_path / "owner")})
    pipe.save_pretrained(tmp_path / "toy")
    shutil.rmtree(tmp_path / "toy" / "vae")
    again = gensat.load(tmp_path / "toy", device="cpu", dtype="float32")
    owner = load_component(tmp_path / "owner", "vae")
    assert all(
        torch.equal(a, b) for a, b in zip(again.vae.state_dict().values(), owner.state_dict().values(), strict=True)
    )
    shutil.rmtree(tmp_path / "owner" / "vae")
    with pytest.raises(ModelError, match="no vae to share"):
        gensat.load(tmp_path / "toy")


def test_earlier_frames_reach_all_or_part_or_nothing():
    valid = earlier(np.random.default_rng(0), 200, 8, share=0.5)
    kinds = valid.mean((1, 2, 3))
    assert 60 < (kinds == 0).sum() < 140 and (kinds == 1).any() and ((kinds > 0) & (kinds < 1)).any()


@pytest.mark.slow
def test_more_processes_make_the_same_pairs(tmp_path):
    made = [make_shards(tmp_path / str(n), 2, views=1, side=64, workers=n) for n in (1, 2)]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*made, strict=True))
    with pytest.raises(InputError, match="1 or more processes"):
        make_shards(tmp_path, 1, workers=0)


def test_streets_train_a_refiner(scene, tmp_path):
    from gensat.train.finisher import train as train_finisher
    from gensat.train.refiner import train as train_refiner
    from gensat.train.street_pairs import train as make_pairs

    pairs = make_pairs(load_recipe("street_pairs", [f"out={tmp_path / 'pairs'}", "count=1", "views=3", "side=64"]))
    bank = PairBank(pairs.weights)
    assert len(bank.pairs) == 4 and all("street view" in c for c in bank.captions())
    batch, other = (bank.batch(np.random.default_rng(0), 5, 64) for _ in range(2))
    assert batch["target"].shape == (5, 3, 64, 64) and torch.equal(batch["guide"], other["guide"])
    sky = batch["guide"][:, GBUFFER_CHANNELS.index("sky")] == 1
    assert (batch["guide"][:, GBUFFER_CHANNELS.index("nearness")][sky] == 0).all()
    for c in range(3):  # a sky stays that of the raw picture
        assert torch.equal(batch["target"][:, c][sky], batch["guide"][:, c][sky])
    codec = Codec(toy_vae())
    again = PairBank(pairs.weights, codec).batch(np.random.default_rng(0), 5, 64)
    for name, picture in (("latents", again["target"]), ("raw", again["guide"][:, :3])):
        assert torch.allclose(again[name], codec.encode(picture), atol=5e-3)  # of whole tiles, which 64 pixels are
    common = [
        "steps=2",
        "batch=2",
        "warmup=1",
        "log_every=1",
        "precision=no",
        "data.crop=64",
        f"data.folder={pairs.weights}",
    ]
    vae = tmp_path / "vae"
    toy_vae().save_pretrained(vae)
    common.append(f"autoencoder={vae}")
    tiny = ["model.widths=[8,8,8]", "model.blocks=[1,1,1]"]
    finisher = train_finisher(load_recipe("finisher", [*common, *tiny, f"out={tmp_path / 'finisher'}"]))
    small = [
        "stem.widths=[4,4,8]",
        "model.conv_width=8",
        "model.width=16",
        "model.depth=1",
        "model.heads=2",
        "model.vector_dim=16",
    ]
    made = train_refiner(
        load_recipe("refiner", [*common, *small, f"finisher={finisher.weights}", f"out={tmp_path / 'refiner'}"])
    )
    assert np.isfinite(made.figures["loss"])
    loaded = gensat.load(made.weights, device="cpu", dtype="float32")
    loaded.set_progress_bar_config(disable=True)
    assert loaded(render(scene, standing()), "a street view", num_inference_steps=1, seed=0).images[0].size == (96, 72)
