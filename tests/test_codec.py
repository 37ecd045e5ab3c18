"""Tiled decoding equals whole decoding with our autoencoder, on any place of the lattice; foreign VAEs carry a measured seam."""

import pytest
import torch
from diffusers import AutoencoderKL
from toys import toy_vae

from gensat.diffusion.codec import Codec


def latents(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def foreign(**changes):
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "scaling_factor": 0.5,
    }
    return AutoencoderKL(**{**settings, **changes}).eval()


@pytest.fixture(scope="module")
def vae():
    net = toy_vae()
    net.latent_mean.copy_(torch.linspace(-1, 1, 4))
    net.latent_std.copy_(torch.linspace(0.5, 2, 4))
    return net


@torch.no_grad()
@pytest.mark.parametrize("origin", [(0, 0), (3, 5), (-7, 1000001)])
@pytest.mark.parametrize("shape", [(13, 21), (9, 40)])
def test_tiled_decoding_is_whole_decoding(vae, origin, shape):
    z = latents(2, 4, *shape)
    whole = Codec(vae, whole=64).decode(z)
    codec = Codec(vae, tile=6, whole=0)
    assert codec.exact
    torch.testing.assert_close(codec.decode(z, origin), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("origin", [(0, 0), (3, -5)])
def test_tiled_encoding_is_whole_encoding(vae, origin):
    images = latents(2, 3, 13 * 8, 21 * 8).clamp(-1, 1)
    whole = Codec(vae, whole=64).encode(images)
    torch.testing.assert_close(Codec(vae, tile=6, whole=12).encode(images, origin), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_too_small_a_halo_is_not_exact(vae):
    codec = Codec(vae, tile=6, whole=0, halo=1)
    z = latents(1, 4, 24, 24)
    assert not codec.exact
    assert (codec.decode(z) - Codec(vae).decode(z)).abs().max() > 1e-4 and codec.seam_error(z) > 1e-4


@torch.no_grad()
def test_part_of_a_canvas_decodes_like_the_canvas_beyond_the_halo(vae):
    z, codec = latents(1, 4, 40, 40), Codec(vae, tile=8, whole=16)
    part = codec.decode(z[:, :, 5:37, 3:35], (5, 3))
    inside = codec.halo * 8
    whole = codec.decode(z)[:, :, 5 * 8 : 37 * 8, 3 * 8 : 35 * 8]
    inner = slice(inside, -inside)
    torch.testing.assert_close(part[:, :, inner, inner], whole[:, :, inner, inner], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("width", "whole"), [(16, 64), (24, 4), (5, 64)])
def test_panorama_decodes_without_a_seam(vae, width, whole):
    z, codec = latents(1, 4, 6, width), Codec(vae, tile=6, whole=whole)
    image = codec.decode(z, wrap=True)
    assert image.shape == (1, 3, 48, width * 8)
    for turn in (1, width // 2):
        turned = codec.decode(z.roll(-turn, dims=-1), (0, turn), wrap=True)
        torch.testing.assert_close(turned, image.roll(-turn * 8, dims=-1), atol=1e-5, rtol=0)
    assert not torch.allclose(codec.decode(z), image, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("whole", [64, 4])
def test_panorama_encodes_without_a_seam(vae, whole):
    images, codec = latents(1, 3, 32, 128), Codec(vae, tile=6, whole=whole)
    z = codec.encode(images, wrap=True)
    assert z.shape == (1, 4, 4, 16)
    torch.testing.assert_close(codec.encode(images.roll(-24, -1), (0, 3), wrap=True), z.roll(-3, -1), atol=1e-5, rtol=0)
    assert not torch.allclose(codec.encode(images), z, atol=1e-4)


@torch.no_grad()
def test_encoding_is_normalised_and_decoding_undoes_it(vae):
    images = latents(2, 3, 32, 48).clamp(-1, 1)
    z = Codec(vae).encode(images)
    assert z.shape == (2, 4, 4, 6) and z.dtype == torch.float32
    raw = vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(z * vae.latent_std[:, None, None] + vae.latent_mean[:, None, None], raw)
    torch.testing.assert_close(Codec(vae).decode(z), vae.decode(raw).sample.clamp(-1, 1))


@torch.no_grad()
def test_foreign_vae_is_scaled_as_its_config_says():
    net = foreign(shift_factor=0.25)
    codec, images = Codec(net), latents(1, 3, 16, 16).clamp(-1, 1)
    assert (codec.factor, codec.channels, codec.exact, codec.halo) == (2, 4, False, 8)
    mode = net.encode(images).latent_dist.mode()
    torch.testing.assert_close(codec.encode(images), (mode - 0.25) * 0.5)
    torch.testing.assert_close(codec.decode(codec.encode(images)), net.decode(mode).sample.clamp(-1, 1))


def test_foreign_vae_has_a_finite_reported_seam():
    codec = Codec(foreign(), tile=8, halo=2)
    z = latents(1, 4, 24, 24)
    assert 1e-4 < codec.seam_error(z) < 1
    assert Codec(foreign(), tile=32).seam_error(z) == 0, "one tile has no seam"


def test_own_vae_has_none(vae):
    assert Codec(vae, tile=6).seam_error(latents(1, 4, 20, 20)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("bands", [1, 4, 7])
def test_any_number_of_bands(bands):
    codec = Codec(toy_vae(bands=bands), tile=6, whole=8)
    images = latents(1, bands, 80, 32).clamp(-1, 1)
    out = codec.decode(codec.encode(images))
    assert out.shape == images.shape and out.abs().max() <= 1


@torch.no_grad()
def test_half_precision_weights_give_float32_images(vae):
    half = toy_vae().to(torch.bfloat16)
    codec = Codec(half)
    out = codec.decode(codec.encode(latents(1, 3, 32, 32).clamp(-1, 1)))
    assert out.dtype == torch.float32


def test_offloaded_weights_do_not_pull_the_latents_along(vae):
    class Hook:
        execution_device = torch.device("meta")

    net = toy_vae()
    net._hf_hook = Hook()
    assert Codec(net)._placed(torch.zeros(1)).device.type == "meta"
