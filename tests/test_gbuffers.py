"""G-buffers as a refiner reads them, and the autoencoder that decodes beside them."""

import math

import pytest
import torch
from refiner_toys import TINY, toy_guided
from torch.nn.functional import normalize

from gensat.conditioning.gbuffers import GBUFFER_CHANNELS, encode_gbuffers, refiner_channels
from gensat.errors import InputError
from gensat.models.guided_autoencoder import GuidedAutoencoder


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


def test_an_untrained_decoder_gives_the_raw_render():
    vae = GuidedAutoencoder(**TINY)
    guide = torch.rand(2, 22, 32, 48) * 2 - 1
    assert torch.equal(vae.picture(torch.randn(2, 4, 4, 6), guide), guide[:, :3])


def test_a_pixel_depends_on_no_more_than_the_halo():
    vae, halo = toy_guided(), GuidedAutoencoder(**TINY).decoder_halo
    side = 2 * halo + 9
    z, guide = torch.randn(1, 4, side, side), torch.randn(1, 22, 8 * side, 8 * side)
    whole = vae.decode(z, guide)
    far_z, far_guide = z.clone(), guide.clone()
    middle = slice(halo + 4, halo + 5)
    keep = torch.zeros(side, side, dtype=torch.bool)
    keep[4 : 2 * halo + 5, 4 : 2 * halo + 5] = True
    far_z[..., ~keep] += 1
    far_guide[..., ~keep.repeat_interleave(8, 0).repeat_interleave(8, 1)] += 1
    pixels = slice(8 * middle.start, 8 * middle.stop)
    changed = vae.decode(far_z, far_guide)
    assert torch.allclose(whole[..., pixels, pixels], changed[..., pixels, pixels], atol=1e-5)
    assert not torch.allclose(whole, changed)


def test_a_panorama_has_no_seam():
    vae = toy_guided(1)
    z, guide = torch.randn(1, 4, 4, 16), torch.rand(1, 22, 32, 128) * 2 - 1
    out = vae.picture(z, guide, wrap=True)
    turned = vae.picture(z.roll(5, -1), guide.roll(40, -1), wrap=True)
    assert torch.allclose(turned, out.roll(40, -1), atol=1e-5)
    assert not torch.allclose(out, vae.picture(z, guide), atol=1e-3)


def test_what_a_denoiser_is_shown():
    vae, guide = toy_guided(2), torch.rand(2, 22, 32, 32) * 2 - 1
    alone = refiner_channels(vae.latents, guide)
    assert alone.shape == (2, 22 + 4 + 4 + 1, 4, 4) and not alone[:, 26:].any()
    assert torch.allclose(alone[:, :22, 0, 0], guide[..., :8, :8].mean((-1, -2)), atol=1e-6)
    valid = torch.zeros(2, 1, 4, 4)
    valid[..., 2:] = 1
    earlier = refiner_channels(vae.latents, guide, torch.ones(2, 4, 4, 4), valid)
    assert torch.equal(earlier[:, 26:], valid.expand(-1, 5, -1, -1)) and torch.equal(earlier[:, :26], alone[:, :26])
