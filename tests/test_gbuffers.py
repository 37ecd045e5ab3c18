"""G-buffers as a refiner reads them, and the finisher that works beside them."""

import math

import pytest
import torch
from refiner_toys import toy_finisher
from torch.nn.functional import normalize
from toys import toy_vae

from gensat.conditioning.gbuffers import GBUFFER_CHANNELS, encode_gbuffers, refiner_channels
from gensat.diffusion.codec import Codec
from gensat.errors import InputError
from gensat.models.finisher import Finisher


def at(name):
    return GBUFFER_CHANNELS.index(name)


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
    out = encode_gbuffers(buffers, rays)
    assert out.shape == (1, 22, 16, 16) and len(GBUFFER_CHANNELS) == 22
    assert out[0, at("nearness"), 0, 0] == 0.5 and out[0, at("nearness"), 0, 1] == 0
    assert out[0, at("facing"), 0, 0] == 1 and out[0, at("edge-on"), 0, 0] == 0
    assert torch.allclose(out[0, :3].permute(1, 2, 0), buffers["rgb"] * 2 - 1)
    assert torch.equal(out[0, at("water")], (buffers["classes"] == 4).float())
    assert torch.equal(out[0, at("wall")], (buffers["kind"] == 3).float())
    assert torch.equal(out[0, at("elevation")], rays[..., 2])
    batch = {n: torch.stack([v, v]) for n, v in buffers.items()}
    assert torch.equal(encode_gbuffers(batch, torch.stack([rays, rays])), torch.cat([out, out]))


def test_nothing_depends_on_where_north_is_and_a_mirror_turns_one_sign():
    buffers, rays = some()
    out = encode_gbuffers(buffers, rays)
    turn = math.radians(77)
    about = torch.tensor([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    turned = encode_gbuffers({**buffers, "normals": buffers["normals"] @ about.T}, rays @ about.T)
    assert torch.allclose(turned, out, atol=1e-5)
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    flipped = encode_gbuffers({**buffers, "normals": buffers["normals"] * mirror}, rays * mirror)
    sign = torch.ones(22)
    sign[at("edge-on")] = -1
    assert torch.allclose(flipped, out * sign[:, None, None], atol=1e-5)


def test_buffers_that_do_not_fit_are_refused():
    buffers, rays = some()
    with pytest.raises(InputError, match="render both at one size"):
        encode_gbuffers({**buffers, "rgb": buffers["rgb"][:8]}, rays)
    with pytest.raises(InputError, match="NaN"):
        encode_gbuffers({**buffers, "distance": torch.full((16, 16), torch.nan)}, rays)


def test_an_untrained_finisher_changes_nothing():
    decoded, guide = torch.rand(2, 3, 32, 48) * 2 - 1, torch.rand(2, 22, 32, 48)
    assert torch.equal(Finisher(widths=(8, 8, 12), blocks=(1, 1, 1))(decoded, guide), decoded)


def test_a_pixel_depends_on_no_more_than_the_halo():
    net = toy_finisher()
    halo = -(-net.halo // 8) * 8
    side = 2 * halo + 24
    decoded, guide = torch.randn(1, 3, side, side), torch.randn(1, 22, side, side)
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
    decoded, guide = torch.randn(1, 3, 32, 128), torch.rand(1, 22, 32, 128) * 2 - 1
    out = net(decoded, guide, wrap=True)
    turned = net(decoded.roll(40, -1), guide.roll(40, -1), wrap=True)
    assert torch.allclose(turned, out.roll(40, -1), atol=1e-5)
    assert not torch.allclose(out, net(decoded, guide), atol=1e-3)


def test_what_a_denoiser_is_shown():
    codec, guide = Codec(toy_vae()), torch.rand(2, 22, 32, 32) * 2 - 1
    alone = refiner_channels(codec.encode, guide)
    assert alone.shape == (2, 22 + 4 + 4 + 1, 4, 4) and not alone[:, 26:].any()
    assert torch.allclose(alone[:, :22, 0, 0], guide[..., :8, :8].mean((-1, -2)), atol=1e-6)
    valid = torch.zeros(2, 1, 4, 4)
    valid[..., 2:] = 1
    earlier = refiner_channels(codec.encode, guide, torch.ones(2, 4, 4, 4), valid)
    assert torch.equal(earlier[:, 26:], valid.expand(-1, 5, -1, -1)) and torch.equal(earlier[:, :26], alone[:, :26])
