"""The published flood generator: what the original computes, its sizes read off tensors, and pictures that change only where there is water."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from affine import Affine
from parity_fill import PARITY, checksum, filled

import gensat
from gensat.cli import run
from gensat.errors import InputError, ModelError
from gensat.hub.convert import read_model
from gensat.hub.convert_pix2pixhd import config_of, read_pix2pixhd
from gensat.models.pix2pixhd import Pix2PixHD
from gensat.pipelines.flood_published import PublishedFloodPipeline
from gensat.types import GeoImage


def published(width=4, downsamples=2, blocks=2, enhancers=0, local_blocks=1, channels=4):
    """Names and shapes as the published program numbers its layers, written down without it."""
    shapes = {}

    def conv(name, out, into, side):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [out, into, side, side], [out]

    def transposed(name, into, out):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [into, out, 3, 3], [out]

    inner = width * 2**enhancers
    conv("model.1", inner, channels, 7)
    at, wide = 4, inner
    for _ in range(downsamples):
        conv(f"model.{at}", 2 * wide, wide, 3)
        at, wide = at + 3, 2 * wide
    for _ in range(blocks):
        for part in (1, 5):
            conv(f"model.{at}.conv_block.{part}", wide, wide, 3)
        at += 1
    for _ in range(downsamples):
        transposed(f"model.{at}", wide, wide // 2)
        at, wide = at + 3, wide // 2
    if not enhancers:
        conv(f"model.{at + 1}", 3, wide, 7)
    for number in range(1, enhancers + 1):
        wide = width * 2 ** (enhancers - number)
        conv(f"model{number}_1.1", wide, channels, 7)
        conv(f"model{number}_1.4", 2 * wide, wide, 3)
        for k in range(local_blocks):
            for part in (1, 5):
                conv(f"model{number}_2.{k}.conv_block.{part}", 2 * wide, 2 * wide, 3)
        transposed(f"model{number}_2.{local_blocks}", 2 * wide, wide)
        if number == enhancers:
            conv(f"model{number}_2.{local_blocks + 4}", 3, wide, 7)
    return filled(shapes, 1.0)


def by_formula(t, x, sizes):
    """The generator by torch functions on published tensors, without any of our modules."""

    def norm(v):
        return (v - v.mean((2, 3), keepdim=True)) / (v.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()

    def conv(v, name, pad=0, **how):
        v = F.pad(v, (pad,) * 4, mode="reflect") if pad else v
        return F.conv2d(v, t[f"{name}.weight"], t[f"{name}.bias"], **how)

    def up(v, name):
        how = {"stride": 2, "padding": 1, "output_padding": 1}
        return norm(F.conv_transpose2d(v, t[f"{name}.weight"], t[f"{name}.bias"], **how)).relu()

    def block(v, name):
        inside = norm(conv(v, f"{name}.conv_block.1", 1)).relu()
        return v + norm(conv(inside, f"{name}.conv_block.5", 1))

    def whole(v):
        v, at = norm(conv(v, "model.1", 3)).relu(), 4
        for _ in range(sizes["downsamples"]):
            v, at = norm(conv(v, f"model.{at}", stride=2, padding=1)).relu(), at + 3
        for _ in range(sizes["blocks"]):
            v, at = block(v, f"model.{at}"), at + 1
        for _ in range(sizes["downsamples"]):
            v, at = up(v, f"model.{at}"), at + 3
        return v if sizes["enhancers"] else conv(v, f"model.{at + 1}", 3).tanh()

    scales = [x]
    for _ in range(sizes["enhancers"]):
        scales.append(F.avg_pool2d(scales[-1], 3, stride=2, padding=1, count_include_pad=False))
    v = whole(scales[-1])
    for n in range(1, sizes["enhancers"] + 1):
        down = norm(conv(scales[-1 - n], f"model{n}_1.1", 3)).relu()
        v = v + norm(conv(down, f"model{n}_1.4", stride=2, padding=1)).relu()
        for k in range(sizes["local_blocks"]):
            v = block(v, f"model{n}_2.{k}")
        v = up(v, f"model{n}_2.{sizes['local_blocks']}")
    return conv(v, f"model{sizes['enhancers']}_2.{sizes['local_blocks'] + 4}", 3).tanh() if sizes["enhancers"] else v


def some(height=32, width=48, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=g) * 2 - 1, torch.rand(1, height, width, generator=g) < 0.5


SIZES = (
    {"width": 4, "downsamples": 2, "blocks": 2},
    {"width": 3, "downsamples": 1, "blocks": 1, "enhancers": 1, "local_blocks": 2},
    {"width": 2, "downsamples": 2, "blocks": 3, "enhancers": 2, "local_blocks": 1},
)


@pytest.mark.parametrize("sizes", SIZES)
def test_sizes_are_read_off_and_the_network_is_the_formula(sizes):
    tensors = published(**sizes)
    full = {"channels": 4, "out_channels": 3, "enhancers": 0, "local_blocks": 3, **sizes}
    assert config_of(tensors) == full
    made = read_pix2pixhd(tensors, {}, None, "mine")
    assert made.spec.licence == "mine" and made.spec.signals["mask"].range == (-1.0, 1.0) and not made.left_out
    rgb, flooded = some()
    found = made.model(rgb, flooded)
    mask = 1 - 2 * flooded[:, None].float()  # published: -1 flooded, +1 dry, before the colours
    assert torch.allclose(found, by_formula(tensors, torch.cat([mask, rgb], 1), full), atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    not (PARITY / "eie_pix2pixhd_global.npz").is_file(), reason="the recorded run is not here (GENSAT_PARITY)"
)
def test_the_recorded_run_of_the_original():
    record = json.loads((PARITY / "eie_pix2pixhd_global.json").read_text())
    tensors = filled(record["state_dict"], record["gain"])
    ours, theirs = checksum(tensors), record["weights_checksum"]
    assert ours["n_params"] == theirs["n_params"] == 182_446_403 and ours["sum"] == pytest.approx(theirs["sum"])
    model = read_pix2pixhd(tensors, record, None, "unknown").model
    recorded = np.load(PARITY / "eie_pix2pixhd_global.npz")
    rgb = torch.from_numpy(recorded["rgb_u8"]).permute(2, 0, 1)[None].float() / 127.5 - 1
    flooded = torch.from_numpy(recorded["flooded_u8"] > 0)[None]
    with torch.inference_mode():
        made = model(rgb, flooded)[0].numpy()
        dry = model(rgb, torch.zeros_like(flooded))[0, :, ::4, ::4].numpy()
    assert np.abs(made - recorded["out"]).max() < 2e-4
    assert np.abs(dry - recorded["out_all_dry_s4"]).max() < 2e-4


def toy(**sizes):
    return read_pix2pixhd(published(**sizes), {}, None, "test").model


def test_the_mask_counts_and_nothing_that_was_given_changes():
    """The published training sets its mask to dry in place, through an alias, before every step."""
    model, (rgb, flooded) = toy(), some()
    before = rgb.clone(), flooded.clone()
    wet, dry = model(rgb, flooded), model(rgb, torch.zeros_like(flooded))
    assert torch.equal(rgb, before[0]) and torch.equal(flooded, before[1])
    assert float((wet - dry).abs().mean()) > 0.01
    assert float((model(rgb, ~flooded) - wet).abs().mean()) > 0.01  # polarity
    assert torch.equal(model(rgb, flooded), wet)


def test_any_size_comes_back_as_it_was():
    model = toy()
    rgb, flooded = some(29, 42)
    assert model(rgb, flooded).shape == rgb.shape and bool(torch.isfinite(model(rgb, flooded)).all())
    multiple = some(28, 40)
    padded = F.pad(rgb[..., :28, :40], (0, 0, 0, 0))
    assert torch.equal(model(padded, multiple[1]), model(rgb[..., :28, :40], multiple[1]))


def test_batches_do_not_mix():
    model = toy()
    one, two = some(seed=1), some(seed=2)
    both = model(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]))
    assert torch.allclose(both[:1], model(*one), atol=1e-5) and torch.allclose(both[1:], model(*two), atol=1e-5)


def test_what_does_not_fit_is_said(tmp_path):
    model, (rgb, flooded) = toy(), some()
    with pytest.raises(InputError, match="differ in size"):
        model(rgb, flooded[:, :-1])
    with pytest.raises(InputError, match="takes 4 channels"):
        model(rgb)
    tensors = published()
    with pytest.raises(ModelError, match="1 missing and 1 unexpected"):
        read_pix2pixhd({("other" if n == "model.7.bias" else n): v for n, v in tensors.items()}, {}, None, "")
    with pytest.raises(ModelError, match="only generators of RGB from a flood mask"):
        read_pix2pixhd(published(channels=3), {}, None, "")
    broken = {**tensors, "model.4.bias": tensors["model.4.bias"] * float("nan")}
    with pytest.raises(ModelError, match=r"model\.4\.bias holds NaN"):
        read_pix2pixhd(broken, {}, None, "")


def test_from_a_published_file_to_a_picture(tmp_path, capsys):
    tensors = {f"module.{n}": v for n, v in published(width=4, downsamples=2, blocks=1).items()}
    tensors["module.model.2.running_mean"] = torch.zeros(4)
    torch.save(tensors, tmp_path / "latest_net_G.pth")
    out = str(tmp_path / "eie")
    assert run(["models", "convert", str(tmp_path / "latest_net_G.pth"), "-o", out, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == "eie-pix2pixhd" and "not stated" in said["licence"]
    assert said["left_out"] == {"statistics that instance norms never used": ["model.2.running_mean"]}
    pipe = gensat.load(out, device="cpu")
    assert isinstance(pipe, PublishedFloodPipeline) and isinstance(pipe.model, Pix2PixHD)
    rng = np.random.default_rng(0)
    image = GeoImage(rng.integers(0, 256, (50, 60, 4), dtype=np.uint8), ["nir", "red", "green", "blue"], crs="EPSG:32615",
                     transform=Affine(0.5, 0, 270_000, 0, -0.5, 3_290_000))  # fmt: skip
    seen = np.zeros((50, 60), bool)
    seen[10:40, 20:50] = True
    made = pipe(image, seen)
    assert np.array_equal(made.array[~seen], image.array[~seen])
    assert np.array_equal(made.band("nir"), image.band("nir"))
    assert (made.array[seen] != image.array[seen]).any(1).mean() > 0.95
    assert made.provenance["model"] == "eie-pix2pixhd" and made.crs == image.crs
    everything = pipe(image, seen, whole=True)
    assert (everything.array[~seen] != image.array[~seen]).any(1).mean() > 0.95
    with pytest.raises(InputError, match="no pixel"):
        pipe(image, np.zeros_like(seen))


def test_large_images_are_painted_in_windows():
    pipe = PublishedFloodPipeline(toy())
    rgb, flooded = some(70, 100)
    whole, parts = pipe.paint(rgb, flooded, 1024), pipe.paint(rgb, flooded, 64)
    assert torch.equal(whole, pipe.model(rgb, flooded)) and parts.shape == whole.shape
    assert bool(torch.isfinite(parts).all()) and parts.abs().max() <= 1
    # norms differ a little from window to window, the picture does not
    assert float(torch.corrcoef(torch.stack([whole.flatten(), parts.flatten()]))[0, 1]) > 0.8
    with pytest.raises(InputError, match="multiple of 4"):
        pipe.paint(rgb, flooded, 30)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save({"model.1.weight": torch.zeros(3, 3)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="none of the models that can be converted"):
        read_model(tmp_path / "net.pth")
