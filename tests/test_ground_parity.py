"""Sat2Density and Sat2Density++ against what the original programs computed: small slices here, everything where it lies."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity_fill import PARITY, checksum, drawn, filled
from published_toys import PLAIN, PLUS

from gensat.hub.convert_ground import read_sat2density, read_sat2density_plus
from gensat.models.sat2density import Illumination, Sat2Density, _HistogramEncoder, _StyleMLP
from gensat.models.sat2density_frames import look_around, look_down, panorama_camera, ray_length, tile_volume
from gensat.models.sat2density_plus import Sat2DensityPlus
from gensat.models.sat2density_plus_views import look, opaque_ground, panorama, panorama_rays, to_cube
from gensat.models.stylegan import Mapping
from gensat.render.volume import integrate, resample, softplus_density

GOLDEN = np.load(Path(__file__).parent / "data" / "ground_views.npz")
here = pytest.mark.skipif(
    not (PARITY / "sat2densitypp.npz").is_file(), reason="the recorded runs are not here (GENSAT_PARITY)"
)


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert float((found.detach().double() - expected.double()).abs().max()) < tolerance


def filled_module(module, prefix, scale=lambda name, value: value):
    state = {name: scale(name, drawn(prefix + name, tuple(t.shape))) for name, t in module.state_dict().items()}
    module.load_state_dict(state)
    return module.requires_grad_(False).eval()


def test_the_light_of_sat2density():
    by_gain = lambda name, value: value * (1.5 if value.ndim >= 2 else 1.0)  # noqa: E731
    encoder = filled_module(_HistogramEncoder(270, 256, 128), "style_encode.", by_gain)
    style = filled_module(_StyleMLP(128, 256, 256, 5), "style_model.", by_gain)
    found = Illumination(*encoder(golden("hist")[None]))
    close(found.mean[0], golden("mu"), 1e-5)
    close(found.log_variance[0], golden("logvar"), 1e-5)
    close(style(found.mean)[0], golden("style_w"), 1e-5)
    draw = lambda seed: found.sample(torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_the_mappings_of_sat2density_plus():
    # stored weights are N(0, 1) and those of the mappings N(0, 100): folding the learning rates in gives N(0, 1 / fan in)
    less = lambda name, value: value * 0.01 if re.match(r"fc\d\.bias", name) else value  # noqa: E731
    z = golden("z").float()[None]
    plain = filled_module(Mapping(512, 512, 2, rows=9), "backbone.mapping.", less)
    close(plain(z)[0], golden("wp_row"), 1e-4)
    sky = filled_module(Mapping(512, 512, 3, c_dim=270), "sky_img_mapping.", less)
    close(sky(z, golden("hist_pp")[None])[0], golden("w_sky_row"), 1e-4)


@pytest.mark.parametrize(
    ("mode", "active"), [("relu", F.relu), ("softplus", F.softplus), ("mipnerf", softplus_density)]
)
def test_the_integrator_of_sat2density_plus(mode, active):
    density, radii, colours = (
        golden("int_densities")[0, ..., 0],
        golden("int_radii")[0, ..., 0],
        golden("int_colors")[0],
    )
    middle = lambda x: (x[:, 1:] + x[:, :-1]) / 2  # noqa: E731
    found = integrate(active(middle(density)), middle(radii), middle(colours), step=radii.diff(dim=-1))
    close(found.values * 2 - 1, golden(f"int_{mode}_color")[0], 1e-5)
    close(found.distance[:, None], golden(f"int_{mode}_dist")[0], 1e-5)
    close(found.opacity[:, None], golden(f"int_{mode}_opacity")[0], 1e-5)
    close(found.weights[..., None], golden(f"int_{mode}_weight")[0], 1e-5)
    if mode == "mipnerf":
        close(resample(radii, found.weights, 9)[..., None], golden("imp_radii_det")[0], 1e-5)


def test_the_rays_of_sat2density_plus():
    rays = panorama_rays(Sat2DensityPlus(**{**PLUS, "elevation": 90.0}), corners=True)
    close(rays[::8, ::8], golden("rays_s8"), 1e-5)
    height, width, up = golden("position_hwz")
    reach = to_cube(torch.stack([width, height, up]), rays)
    close((reach[..., None] * (torch.arange(48) + 1) / 48)[::8, ::8], golden("radii_s8"), 1e-5)


@pytest.mark.parametrize(("tile", "units"), [(30.0, 1.46875), (55.0, 1.4296875)])
def test_the_rays_of_sat2density_are_as_long_as_published(tile, units):
    model = Sat2Density(**{**PLAIN, "tile_metres": tile})
    assert ray_length(model) / (tile / 2) == pytest.approx(units, abs=1e-9)


def record(name):
    return json.loads((PARITY / f"{name}.json").read_text()), np.load(PARITY / f"{name}.npz")


@pytest.fixture(scope="module")
def plain():
    about, arrays = record("sat2density_cvact")
    tensors = filled(about["state_dict"], about["gain"])
    for name, value in checksum(tensors).items():
        assert value == pytest.approx(about["weights_checksum"][name], rel=1e-9), name
    return read_sat2density(tensors, {}, "cvact", "").model, arrays


@pytest.fixture(scope="module")
def plus():
    about, arrays = record("sat2densitypp")
    tensors = filled(about["state_dict"], about["gain"])
    for name, value in tensors.items():
        if name.endswith("resample_filter"):
            tensors[name] = torch.outer(taps := torch.tensor([1.0, 3.0, 3.0, 1.0]), taps) / 64
        elif name.endswith(".weight") and value.ndim >= 2:
            often = 100 if ".mapping.fc" in name or "sky_img_mapping.fc" in name else 1
            tensors[name] = value * math.sqrt(value[0].numel()) * often
    tensors["mlp.net0.weight"] *= 2
    tensors["mlp.net1_density.weight"] *= 3
    tensors["point_representer.triplane_axes"] = torch.tensor(about["constants"]["triplane_axes"])
    tensors["encoder.alpha"] = torch.tensor(-1.0)
    del tensors["rendering_resolution"]  # an integer, and no part of the recorded sum
    assert checksum(tensors)["sum_sq"] == pytest.approx(about["weights_checksum"]["sum_sq"], rel=1e-6)
    return read_sat2density_plus(tensors, about["config"], None, "").model, arrays


@here
@pytest.mark.data
@torch.no_grad()
def test_sat2density_as_recorded(plain):
    model, arrays = plain
    of = lambda name: torch.from_numpy(arrays[name])  # noqa: E731
    tile, half = of("sat_u8").permute(2, 0, 1) / 255, 15.0
    density = model.density(tile[None])[0]
    close(density[::8, ::8, ::8], of("density_slice"), 2e-4)
    close(density[5, ::2, ::2], of("density_level5"), 2e-4)
    close(density.mean((1, 2)), of("density_mean_per_level"), 2e-4)
    close(density.std((1, 2)), of("density_std_per_level"), 2e-4)
    volume = tile_volume(model, density, tile)
    south, east = (float(v) * half for v in arrays["origin_h_w"])
    seen = look_around(model, volume, panorama_camera(model, east, -south), corners=True)
    close(seen.values.movedim(-1, 0), of("rgb"), 2e-4)
    close(seen.opacity, of("opacity"), 2e-4)
    close(seen.distance / half, of("depth"), 2e-4)
    down = look_down(model, volume)
    close(down.distance / half, of("sat_depth"), 2e-4)
    close(down.opacity, of("sat_opacity"), 2e-4)
    style = model.style(model.illumination(of("hist")[None]).mean)
    close(style[0], of("style_w"), 1e-5)
    recorded = torch.cat([of("rgb"), of("opacity")[None], of("depth")[None]])
    close(model.paint(recorded[None], style)[0], of("pano"), 1e-4)
    own = torch.stack([*seen.values.unbind(-1), seen.opacity, seen.distance / half])
    close(model.paint(own[None], style)[0], of("pano"), 1e-3)


@here
@pytest.mark.data
@torch.no_grad()
def test_sat2density_plus_as_recorded(plus):
    model, arrays = plus
    of = lambda name: torch.from_numpy(arrays[name])  # noqa: E731
    w = model.backbone.mapping(of("z")[None].float())
    light = model.sky_img_mapping(of("z")[None].float(), of("hist_pp")[None])
    close(w[0], of("wp_row"), 1e-4)
    close(light[0], of("w_sky_row"), 1e-4)
    feature = model.encode(of("sat_u8").permute(2, 0, 1)[None] / 127.5 - 1)
    close(feature[0, ::8], of("encoder_feature_s"), 1e-4)
    planes = model.planes(feature, w)[0]
    close(planes[:, ::4, ::16, ::16], of("triplane_s"), 1e-4)
    close(planes.mean((2, 3)), of("triplane_mean"), 1e-4)
    close(planes.std((2, 3)), of("triplane_std"), 1e-4)
    points = model.features(planes, of("query_points"))
    close(points, of("query_feature"), 1e-4)
    close(model.density(points), of("query_density"), 1e-4)
    close(model.colour(points, light[0]), of("query_color"), 1e-4)
    close(model.colour(points), of("query_color_nostyle"), 1e-4)
    sky = model.sky(light)[0]
    close(sky[::4], of("sky_feature"), 5e-4)
    height, width, up = of("position_hwz")
    eye = torch.stack([width, height, up])
    seen = panorama(model, planes, eye, light[0], w[0], sky=sky, ground=False, corners=True)
    close(seen.features[::4], of("feature_raw"), 5e-4)
    close(seen.opacity, of("alpha"), 5e-4)
    close(seen.depth, of("depth"), 5e-4)
    close(seen.blended[:3], of("compo_rgb"), 5e-4)
    close(seen.picture, of("pano"), 5e-4)
    close(opaque_ground(seen.opacity), of("alpha_infer_mode"), 5e-4)
    shown = panorama(model, planes, eye, light[0], w[0], sky=sky, corners=True)
    close(shown.picture, of("pano_infer_mode_f16"), 5e-3)
    # of the view from above every sixteenth row: rays know nothing of each other
    at = (torch.arange(256) + 0.5) / 128 - 1
    start = torch.stack([at.expand(256, -1), at[:, None].expand(-1, 256), torch.ones(256, 256)], -1)[::16]
    down = look(model, planes, start, torch.tensor([0.0, 0.0, -1.0]).expand(start.shape), torch.full((16, 256), 2.0))
    close(down.distance, of("sat_depth")[::16], 1e-4)
    close(down.opacity[:, ::4], of("sat_alpha_s4")[::4], 1e-4)
    close(down.values[:, ::2, :3].movedim(-1, 0), of("sat_rgb")[:, ::8], 1e-4)
