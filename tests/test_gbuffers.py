"""G-buffers as a refiner reads them, and the networks that see them at full size."""

import math

import pytest
import torch
from refiner_toys import toy_finisher, toy_stem
from torch.nn.functional import normalize
from toys import toy_vae

from gensat.conditioning.gbuffers import GBUFFER_CHANNELS, encode_gbuffers, refiner_channels
from gensat.diffusion.codec import Codec
from gensat.errors import InputError
from gensat.models.finisher import Finisher


def at(name):
    return GBUFFER_CHANNELS.index(name)


HERE = torch.zeros(1, 1, 3)
MANY = len(GBUFFER_CHANNELS)


def some(height=16, width=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    rays = normalize(torch.randn(height, width, 3, generator=g), dim=-1)
    buffers = {
        "rgb": torch.rand(height, width, 3, generator=g),
        "distance": torch.rand(height, width, generator=g) * 50,
        "normals": normalize(torch.randn(height, width, 3, generator=g), dim=-1),
        "classes": torch.randint(0, 11, (height, width), generator=g),
        "kind": torch.randint(0, 5, (height, width), generator=g),
        "seen": torch.rand(height, width, generator=g) < 0.5,
    }
    return buffers, rays


def test_every_channel_means_what_its_name_says():
    buffers, rays = some()
    buffers["distance"][0, 0], buffers["distance"][0, 1] = 10.0, math.inf
    buffers["normals"][0, 0], rays[0, 0] = torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    out = encode_gbuffers(buffers, rays, HERE)
    assert out.shape == (1, MANY, 16, 16) and MANY == 32
    assert out[0, at("nearness"), 0, 0] == 0.5 and out[0, at("nearness"), 0, 1] == 0
    assert out[0, at("facing"), 0, 0] == 1 and out[0, at("edge-on"), 0, 0] == 0
    assert torch.allclose(out[0, :3].permute(1, 2, 0), buffers["rgb"] * 2 - 1)
    assert torch.equal(out[0, at("water")], (buffers["classes"] == 4).float())
    assert torch.equal(out[0, at("wall")], (buffers["kind"] == 3).float())
    assert torch.equal(out[0, at("elevation")], rays[..., 2])
    batch = {n: torch.stack([v, v]) for n, v in buffers.items()}
    both = encode_gbuffers(batch, torch.stack([rays, rays]), torch.zeros(2, 1, 1, 3))
    assert torch.equal(both, torch.cat([out, out]))


def test_nothing_depends_on_where_north_is_and_a_mirror_turns_signs():
    buffers, rays = some()
    out = encode_gbuffers(buffers, rays, HERE)
    turn = math.radians(77)
    about = torch.tensor([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    turned = encode_gbuffers({**buffers, "normals": buffers["normals"] @ about.T}, rays @ about.T, HERE)
    assert torch.allclose(turned, out, atol=1e-5)
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    flipped = encode_gbuffers({**buffers, "normals": buffers["normals"] * mirror}, rays * mirror, HERE)
    sign = torch.tensor(
        [-1.0 if name == "edge-on" or ("sine of" in name and "along" in name) else 1.0 for name in GBUFFER_CHANNELS]
    )
    sign = torch.where(torch.tensor(["cosine" in name for name in GBUFFER_CHANNELS]), 1.0, sign)
    assert torch.allclose(flipped, out * sign[:, None, None], atol=1e-5)


def test_buffers_that_do_not_fit_are_refused():
    buffers, rays = some()
    with pytest.raises(InputError, match="render both at one size"):
        encode_gbuffers({**buffers, "rgb": buffers["rgb"][:8]}, rays, HERE)
    with pytest.raises(InputError, match="NaN"):
        encode_gbuffers({**buffers, "distance": torch.full((16, 16), torch.nan)}, rays, HERE)


def wall_from(x: float, y: float = -10.0):
    """A wall along the x axis, seen from (x, y, 1.7) looking north, and the x and z of its points."""
    u, v = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-0.4, 0.4, 32), indexing="xy")
    rays = normalize(torch.stack([u, torch.ones_like(u), v], -1), dim=-1)
    distance = -y / rays[..., 1]
    origin = torch.tensor([x, y, 1.7])
    points = origin + distance[..., None] * rays
    buffers = {
        "rgb": torch.rand(32, 64, 3),
        "distance": distance,
        "normals": torch.tensor([0.0, -1.0, 0.0]).expand(32, 64, 3),
        "classes": torch.ones(32, 64).long(),
        "kind": torch.full((32, 64), 3),
        "seen": torch.zeros(32, 64, dtype=torch.bool),
    }
    return buffers, rays, origin.expand(1, 1, 3), points


@pytest.mark.parametrize(
    ("name", "axis", "length"), [("4 m along", 0, 4.0), ("16 m along", 0, 16.0), ("3 m up", 2, 3.0)]
)
def test_the_rulers_of_a_wall_lie_still_in_the_world(name, axis, length):
    for x, y in ((0.0, -10.0), (3.7, -10.0), (-1.2, -6.0)):
        buffers, rays, origin, points = wall_from(x, y)
        out = encode_gbuffers(buffers, rays, origin)[0]
        sine, cosine = out[at(f"sine of {name} a wall")], out[at(f"cosine of {name} a wall")]
        metres = points[..., axis] - (1.7 if axis == 2 else 0)
        phase = torch.atan2(sine, cosine) * length / (2 * math.pi)
        apart = torch.remainder(phase - metres + length / 2, length) - length / 2
        assert apart.abs().max() < 1e-3
        assert 0.4 < torch.hypot(sine, cosine).mean() < 1
    buffers["kind"] = torch.full((32, 64), 1)
    assert not encode_gbuffers(buffers, rays, origin)[0, -10:].any()  # no wall, no ruler


def test_a_ruler_that_pixels_cannot_show_fades():
    near, far = (encode_gbuffers(*wall_from(0.0, y)[:3])[0] for y in (-5.0, -60.0))
    short, long = at("sine of 2 m along a wall"), at("sine of 16 m along a wall")
    strength = [[torch.hypot(v[k], v[k + 1]).max() for k in (short, long)] for v in (near, far)]
    assert strength[0][0] > 0.8 and strength[1][0] == 0 and strength[1][1] > 0.6


def test_an_untrained_finisher_changes_nothing():
    decoded, guide = torch.rand(2, 3, 32, 48) * 2 - 1, torch.rand(2, MANY, 32, 48)
    assert torch.equal(Finisher(widths=(8, 8, 12), blocks=(1, 1, 1))(decoded, guide), decoded)


def test_a_pixel_depends_on_no_more_than_the_halo():
    net = toy_finisher()
    halo = -(-net.halo // 8) * 8
    side = 2 * halo + 24
    decoded, guide = torch.randn(1, 3, side, side), torch.randn(1, MANY, side, side)
    keep = torch.zeros(side, side, dtype=torch.bool)
    keep[8:-8, 8:-8] = True  # the middle block's pixels and all within the halo of them
    other = [v.clone() for v in (decoded, guide)]
    for v in other:
        v[..., ~keep] += 1
    here = slice(halo + 8, halo + 16)
    whole, changed = net(decoded, guide), net(*other)
    assert torch.allclose(whole[..., here, here], changed[..., here, here], atol=1e-5)
    assert not torch.allclose(whole, changed)


def test_a_panorama_has_no_seam():
    net = toy_finisher(1)
    decoded, guide = torch.randn(1, 3, 32, 128), torch.rand(1, MANY, 32, 128) * 2 - 1
    out = net(decoded, guide, wrap=True)
    turned = net(decoded.roll(40, -1), guide.roll(40, -1), wrap=True)
    assert torch.allclose(turned, out.roll(40, -1), atol=1e-5)
    assert not torch.allclose(out, net(decoded, guide), atol=1e-3)


def test_the_stem_closes_a_panorama_and_sees_every_pixel():
    net, guide = toy_stem(), torch.rand(1, MANY, 32, 128) * 2 - 1
    out = net(guide, wrap=True)
    assert out.shape == (1, 8, 4, 16)
    assert torch.allclose(net(guide.roll(40, -1), wrap=True), out.roll(5, -1), atol=1e-5)
    assert not torch.allclose(out, net(guide), atol=1e-3) and torch.allclose(
        out[..., 6:-6], net(guide)[..., 6:-6], atol=1e-5
    )
    other = guide.clone()
    other[:, 0, 13, 67] += 1  # one channel of one pixel
    changed = (net(other, wrap=True) - out).abs().amax((0, 1)) > 1e-7
    assert changed[1, 8] and not changed[:, :2].any()


def test_what_a_denoiser_is_shown():
    codec, guide = Codec(toy_vae()), torch.rand(2, MANY, 32, 32) * 2 - 1
    shown, raw = toy_stem()(guide), codec.encode(guide[:, :3])
    alone = refiner_channels(shown, raw)
    assert alone.shape == (2, 8 + 4 + 4 + 1, 4, 4) and not alone[:, 12:].any()
    assert torch.equal(alone[:, :8], shown) and torch.equal(alone[:, 8:12], raw)
    valid = torch.zeros(2, 1, 4, 4)
    valid[..., 2:] = 1
    earlier = refiner_channels(shown, raw, torch.ones(2, 4, 4, 4), valid)
    assert torch.equal(earlier[:, 12:], valid.expand(-1, 5, -1, -1)) and torch.equal(earlier[:, :12], alone[:, :12])
