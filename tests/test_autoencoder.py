"""The autoencoder's receptive field is exactly what it says, and its way of speaking is that of diffusers."""

import pytest
import torch
from toys import toy_vae

from gensat.errors import InputError
from gensat.hub.resolve import model_folder
from gensat.models.autoencoder import ConvAutoencoder, Doubling, Halving, PixelNorm, regrouped, zeroed

SHAPES = [
    {},
    {"decoder_blocks": (2, 3, 1), "encoder_blocks": (2, 1, 1)},
    {"block_channels": (8, 8), "encoder_channels": (8, 8), "decoder_blocks": (2, 1), "encoder_blocks": (1, 2)},
    {
        "shortcuts": True,
        "block_channels": (12, 24),
        "encoder_channels": (12, 24),
        "decoder_blocks": (1, 2),
        "encoder_blocks": (2, 1),
    },
]


def reach(gradient, factor_in, at, footprint=1):
    """Furthest rows and columns with a gradient, before and after a footprint that begins at ``at``."""
    rows, cols = (gradient.abs().sum((0, 1)) > 0).nonzero().T
    before = [at - int(axis.min()) for axis in (rows, cols)]
    after = [int(axis.max()) - (at + footprint - 1) for axis in (rows, cols)]
    return max(before + after)


@pytest.mark.parametrize("settings", SHAPES)
def test_decoder_halo_is_the_receptive_field(settings):
    vae = toy_vae(**settings)
    cells = 2 * vae.decoder_halo + 5
    middle, far = cells // 2, 0
    for row in range(vae.factor):  # every pixel of a cell, along the diagonal
        z = torch.randn(1, 4, cells, cells, requires_grad=True)
        pixel = middle * vae.factor + row
        vae.decode(z).sample[:, :, pixel, pixel].sum().backward()
        far = max(far, reach(z.grad, 1, middle))
    assert far == vae.decoder_halo


@pytest.mark.parametrize("settings", SHAPES)
def test_encoder_halo_is_the_receptive_field(settings):
    vae = toy_vae(**settings)
    f = vae.factor
    cells = 2 * (vae.encoder_halo // f) + 5
    x = torch.randn(1, 3, cells * f, cells * f, requires_grad=True)
    middle = cells // 2
    vae.encode(x).latent_dist.mode()[:, :, middle, middle].sum().backward()
    assert reach(x.grad, f, middle * f, footprint=f) == vae.encoder_halo


@torch.no_grad()
def test_default_size_is_what_the_recipe_trains():
    vae = ConvAutoencoder()
    assert (vae.factor, vae.decoder_halo) == (8, 12)
    assert vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode().shape == (1, 8, 8, 8)


@torch.no_grad()
def test_encoding_and_decoding_move_with_the_image():
    vae = toy_vae()
    x = torch.randn(1, 3, 256, 256)
    halo = -(-vae.encoder_halo // 8)
    z, moved = (vae.encode(part).latent_dist.mode() for part in (x, x[:, :, 16:, 8:]))
    torch.testing.assert_close(moved[:, :, halo:, halo:], z[:, :, 2 + halo :, 1 + halo :], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_mean_colour_takes_the_straight_way():
    vae = ConvAutoencoder(block_channels=(8,) * 3, encoder_channels=(8,) * 3)
    vae.encoder[-1].weight.zero_()
    vae.encoder[-1].bias[:8] = 0
    for layer in (vae.decoder[-2],):
        layer.weight.zero_()
        layer.bias.zero_()
    flat = torch.tensor([0.5, -0.2, 0.1])[:, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(vae(flat), flat)


def test_pixel_norm_has_unit_mean_square_and_no_neighbours():
    norm, x = PixelNorm(6), torch.randn(2, 6, 5, 5, requires_grad=True)
    y = norm(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(2, 5, 5), atol=1e-4, rtol=0)
    y[0, :, 2, 3].sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).nonzero().tolist() == [[2, 3]]
    assert torch.isfinite(norm(torch.zeros(1, 6, 2, 2))).all()
    assert norm(x.detach().bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
def test_normalising_is_undone_and_saved(tmp_path):
    vae = toy_vae()
    vae.latent_mean.copy_(torch.tensor([1.0, -2, 0, 3]))
    vae.latent_std.copy_(torch.tensor([1.0, 2, 0.5, 3]))
    z = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(vae.denormalise(vae.normalise(z)), z)
    torch.testing.assert_close(vae.normalise(z)[:, 1], (z[:, 1] + 2) / 2)
    vae.save_pretrained(tmp_path)
    again = ConvAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(again.latent_std, vae.latent_std) and torch.equal(
        again(torch.ones(1, 3, 16, 16)), vae(torch.ones(1, 3, 16, 16))
    )


@torch.no_grad()
def test_tuples_as_diffusers_returns_them():
    vae, z = toy_vae(), torch.randn(1, 4, 2, 2)
    assert torch.equal(vae.decode(z, return_dict=False)[0], vae.decode(z).sample)


@torch.no_grad()
def test_bfloat16_is_close():
    vae, x = toy_vae(), torch.randn(1, 3, 64, 64).clamp(-1, 1)
    exact = vae(x)
    half = toy_vae().to(torch.bfloat16)(x.bfloat16()).float()
    assert (half - exact).abs().mean() < 0.02 * exact.std() + 0.01


def test_the_shipped_autoencoder_has_room_in_half_precision():
    """The greatest value inside, on images that no photograph is, is far below what float16 holds; and float16 gives the same image."""
    vae = ConvAutoencoder.from_pretrained(model_folder("gensat-small") / "vae").eval()
    greatest = []

    def look(_, __, out):
        if torch.is_tensor(out):
            greatest.append(float(out.abs().max()))

    for module in vae.modules():
        module.register_forward_hook(look)
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for x in (noise, noise.sign(), torch.ones_like(noise), -torch.ones_like(noise)):
            vae(x)
        exact = vae(noise)
        half = vae.half()(noise.half()).float()
    assert max(greatest) < 65504 / 100
    assert -10 * torch.log10(((half - exact) / 2).square().mean()) > 55


@torch.no_grad()
def test_shortcuts_alone_lead_an_image_there_and_back():
    x = torch.randn(2, 3, 8, 12)
    there, back = zeroed(Halving(3, 12)), zeroed(Doubling(12, 3, kernel=3))
    torch.testing.assert_close(back(there(x)), x)
    assert there(x).shape == (2, 12, 4, 6)
    few = regrouped(torch.arange(6.0).reshape(1, 6, 1, 1), 2).flatten()  # means of neighbours
    assert few.tolist() == [1.0, 4.0] and regrouped(few.reshape(1, 2, 1, 1), 4).flatten().tolist() == [1, 1, 4, 4]
    with pytest.raises(InputError, match="64 channels become 12"):
        ConvAutoencoder(shortcuts=True, block_channels=(64, 128), encoder_channels=(48, 96))
