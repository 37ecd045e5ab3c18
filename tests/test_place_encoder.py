"""Place features against golden vectors and analytic facts; the place encoders against their contract."""

import copy
import importlib.util
import json
import sys

import diffusers
import numpy as np
import pyproj
import pytest
import torch
from diffusers import DiffusionPipeline

from gensat.conditioning.place import (
    GeoClipPlaceEncoder,
    SirenPlaceEncoder,
    equal_earth,
    place_arrays,
    spherical_harmonics,
    unit_sphere,
)
from gensat.errors import InputError, ModelError
from gensat.types import Place

SATCLIP = {  # published features of degree 3, lon and lat in degrees
    (-122.4194, 37.7749): [0.886227, 0.326012, -0.940275, 0.207048, 0.308912, -0.446547, 0.12454, -0.2836, -0.145107],
    (0.0, 0.0): [0.886227, 0, 0, -0.488603, 0, 0, -0.990832, 0, 0.546274],
    (151.2, -33.9): [0.886227, -0.195373, 0.856133, 0.355383, -0.317754, -0.243661, -0.066149, 0.443218, 0.201653],
}
PLACES = [Place(-95.36, 29.76), Place(32.58, 0.35), Place(151.2, -33.9), Place(-180, 90), Place(0, 0)]


def degrees(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("lonlat", SATCLIP)
def test_harmonics_equal_the_published_satclip_features(lonlat):
    lon, lat = degrees(*lonlat)
    features = spherical_harmonics(lon, lat, degree=3, legacy_m0=True)
    np.testing.assert_allclose(features, SATCLIP[lonlat], atol=1e-6)


def test_harmonics_are_orthonormal_on_the_sphere():
    degree = 12
    x, weight = np.polynomial.legendre.leggauss(degree)  # exact up to polynomials of degree 2 * 12 - 1 in sin(lat)
    lon = torch.arange(2 * degree, dtype=torch.float64) * 180 / degree
    lat = torch.rad2deg(torch.asin(torch.from_numpy(x)))
    grid_lat, grid_lon = torch.meshgrid(lat, lon, indexing="ij")
    features = spherical_harmonics(grid_lon, grid_lat, degree=degree)
    area = torch.from_numpy(weight)[:, None, None] * (2 * np.pi / len(lon))
    gram = torch.einsum("yxf,yxg->fg", features * area, features)
    torch.testing.assert_close(gram, torch.eye(degree**2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_harmonics_agree_with_scipy_at_any_latitude():
    special = pytest.importorskip("scipy.special")
    if not hasattr(special, "sph_harm_y"):
        pytest.skip("this scipy has no sph_harm_y")
    degree, lon = 44, np.array([-180.0, -122.4, 0, 3.7, 180, 91])
    lat = np.array([0.0, -90, 90, 61.3, -75, 89.999])
    ours = spherical_harmonics(torch.from_numpy(lon), torch.from_numpy(lat), degree=degree)
    for l in range(degree):  # noqa: E741
        for m in range(-l, l + 1):
            y = special.sph_harm_y(l, abs(m), np.deg2rad(lat + 90), np.deg2rad(lon + 180))
            part = y.real if m >= 0 else y.imag
            want = part * (-1) ** m * np.sqrt(2) if m else part  # scipy has the Condon-Shortley phase
            np.testing.assert_allclose(ours[:, l * l + l + m], want, atol=1e-11)


@pytest.mark.parametrize("lat", [-90.0, -89.9999, -60.0, 0.0, 75.0, 90.0])
def test_harmonics_obey_the_addition_theorem_up_to_the_poles(lat):
    features = spherical_harmonics(degrees(12.3), degrees(lat), degree=60)[0]
    sums = [float((features[l * l : (l + 1) ** 2] ** 2).sum()) * 4 * np.pi / (2 * l + 1) for l in range(60)]  # noqa: E741
    np.testing.assert_allclose(sums, 1, rtol=1e-11)


def test_legacy_switch_scales_only_the_zonal_terms_by_pi():
    ratio = spherical_harmonics(degrees(10), degrees(20), degree=4, legacy_m0=True) / spherical_harmonics(
        degrees(10), degrees(20), degree=4
    )
    want = torch.ones(16, dtype=torch.float64)
    want[[0, 2, 6, 12]] = torch.pi
    torch.testing.assert_close(ratio[0], want)


def test_harmonics_resolve_less_than_float32_does():
    lon = degrees(-95.36, -95.36 + 1e-8)
    assert lon.float().unique().numel() == 1
    features = spherical_harmonics(lon, degrees(29.76, 29.76), degree=16)
    assert not torch.equal(features[0], features[1])


def test_harmonics_refuse_degree_zero():
    with pytest.raises(InputError, match="degree is 0; give 1 or more"):
        spherical_harmonics(degrees(0), degrees(0), degree=0)


def test_unit_sphere_points_along_the_axes():
    xyz = unit_sphere(degrees(0, 90, 0, 180), degrees(0, 0, 90, 0))
    torch.testing.assert_close(xyz, degrees(1, 0, 0, 0, 1, 0, 0, 0, 1, -1, 0, 0).reshape(4, 3))


def test_equal_earth_agrees_with_proj():
    lon, lat = np.meshgrid(np.linspace(-180, 180, 9), np.linspace(-90, 90, 9))
    want = pyproj.Proj("+proj=eqearth +R=1")(lon, lat)
    ours = equal_earth(torch.from_numpy(lon), torch.from_numpy(lat))
    np.testing.assert_allclose(ours, np.stack(want, -1), atol=1e-9)


def test_place_arrays_keep_order_and_mark_unknown():
    lonlat, known = place_arrays([Place(-95.36, 29.76), None])
    assert lonlat.dtype == torch.float64 and lonlat[0].tolist() == [-95.36, 29.76]
    assert known.tolist() == [True, False]
    assert place_arrays([])[0].shape == (0, 2)


def geoclip(**options):
    return GeoClipPlaceEncoder(num_frequencies=8, hidden_dim=16, embed_dim=12, **options)


ENCODERS = {
    "siren": lambda: SirenPlaceEncoder(degree=6, hidden_dim=16, out_dim=12),
    "siren-sphere": lambda: SirenPlaceEncoder(hidden_dim=16, out_dim=12, num_layers=3, features="unit_sphere"),
    "geoclip": geoclip,
    "geoclip-projected": lambda: geoclip(out_dim=20),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]().eval()


@torch.no_grad()
def test_encoder_tells_places_and_unknown_apart(encoder):
    out = encoder(*place_arrays([*PLACES, None]))
    assert out.shape == (6, encoder.null.shape[0])
    assert torch.pdist(out).min() > 1e-3
    torch.testing.assert_close(out[-1], encoder.null)


@torch.no_grad()
def test_encoder_does_not_depend_on_the_batch(encoder):
    together = encoder(*place_arrays([*PLACES, None]))
    alone = torch.cat([encoder(*place_arrays([place])) for place in [*PLACES, None]])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert torch.equal(together, encoder(*place_arrays([*PLACES, None])))


def test_unknown_coordinates_never_reach_output_or_gradient(encoder):
    lonlat, known = place_arrays([PLACES[0], None])
    lonlat[1] = torch.nan
    out = encoder(lonlat, known)
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_encoder_survives_saving_bit_for_bit(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    again = type(encoder).from_pretrained(tmp_path)
    assert torch.equal(again(*place_arrays([*PLACES, None])), encoder(*place_arrays([*PLACES, None])))


@torch.no_grad()
@pytest.mark.parametrize("how", ["half", "to", "from_pretrained"])
def test_half_precision_blurs_the_weights_and_never_the_place(encoder, how, tmp_path):
    want = copy.deepcopy(encoder).half().float()(*place_arrays(PLACES))  # rounded weights, exact arithmetic
    if how == "from_pretrained":
        encoder.save_pretrained(tmp_path)
        encoder = type(encoder).from_pretrained(tmp_path, torch_dtype=torch.float16)
    else:
        encoder = encoder.half() if how == "half" else encoder.to(torch.float16)
    out = encoder(*place_arrays(PLACES))
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), want, atol=2e-3, rtol=0)


@torch.no_grad()
def test_siren_in_half_precision_sees_coordinates_in_full():
    encoder = SirenPlaceEncoder(hidden_dim=1, num_layers=1, out_dim=1, features="unit_sphere")
    encoder.layers[0].weight.copy_(torch.tensor([[0.0, 0.0, 50.0]]))  # exact in half precision
    encoder.layers[0].bias.zero_()
    encoder.last_layer.weight.fill_(1.0)
    encoder.last_layer.bias.zero_()
    lonlat, known = place_arrays([Place(0, lat) for lat in (10, 10.01, 47.3)])
    want = torch.sin(30 * 50 * torch.sin(torch.deg2rad(lonlat[:, 1])))
    torch.testing.assert_close(encoder.half()(lonlat, known)[:, 0].double(), want, atol=1e-3, rtol=0)


def test_geoclip_frequencies_are_never_rounded_to_half(tmp_path):
    exact = geoclip()
    frequencies = exact.LocEnc2.capsule[0].b.clone()
    exact.save_pretrained(tmp_path)
    loaded = GeoClipPlaceEncoder.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    for half in (exact.half(), exact.to(torch.bfloat16), loaded):
        assert half.dtype != torch.float32
        assert torch.equal(half.LocEnc2.capsule[0].b, frequencies) and half.LocEnc2.capsule[0].b.dtype == torch.float32


@pytest.mark.parametrize("make", [SirenPlaceEncoder, geoclip])
def test_zero_init_starts_as_nothing_and_can_learn(make):
    options = {"degree": 4, "hidden_dim": 8} if make is SirenPlaceEncoder else {}
    encoder = make(out_dim=6, zero_init=True, **options)
    out = encoder(*place_arrays([PLACES[0], None]))
    assert not out.any()
    out.sum().backward()
    assert encoder.null.grad.abs().min() > 0
    last = encoder.last_layer if make is SirenPlaceEncoder else encoder.proj
    assert last.weight.grad.abs().max() > 0


@torch.no_grad()
def test_siren_has_the_keys_and_the_function_of_satclip():
    encoder = SirenPlaceEncoder(degree=10, hidden_dim=512, num_layers=2, out_dim=256, legacy_m0=True)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items() if key.endswith("weight")}
    assert shapes == {"layers.0.weight": (512, 100), "layers.1.weight": (512, 512), "last_layer.weight": (256, 512)}
    lonlat, known = place_arrays(PLACES)
    x = spherical_harmonics(*lonlat.unbind(1), degree=10, legacy_m0=True).float()
    x = torch.sin(30 * encoder.layers[0](x))
    want = encoder.last_layer(torch.sin(encoder.layers[1](x)))
    torch.testing.assert_close(encoder(lonlat, known), want)


def test_unknown_feature_name_is_refused():
    with pytest.raises(InputError, match="spherical_harmonics or unit_sphere"):
        SirenPlaceEncoder(features="wrap")


def fake_package(folder, state):
    """An installed geoclip that breaks when imported."""
    weights = folder / "geoclip" / "model" / "weights"
    weights.mkdir(parents=True)
    (folder / "geoclip" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    torch.save(state, weights / "location_encoder_weights.pth")


def published_state():
    torch.manual_seed(1)
    return {key: torch.randn_like(value) for key, value in geoclip().state_dict().items() if key != "null"}


@torch.no_grad()
def test_geoclip_is_read_from_the_package_without_importing_it(tmp_path, monkeypatch):
    state = published_state()
    fake_package(tmp_path, state)
    monkeypatch.syspath_prepend(tmp_path)
    encoder = GeoClipPlaceEncoder.from_package(out_dim=5)
    assert "geoclip" not in sys.modules
    assert encoder(*place_arrays(PLACES)).shape == (5, 5)
    loaded = encoder.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert {"LocEnc2.capsule.0.b", "LocEnc0.capsule.5.bias", "LocEnc1.head.0.weight"} <= set(state)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "foreign"])
def test_geoclip_weights_that_do_not_fit_are_refused(damage, tmp_path, monkeypatch):
    state = published_state()
    if damage == "missing":
        del state["LocEnc1.head.0.bias"]
    elif damage == "unexpected":
        state["LocEnc1.head.1.bias"] = torch.zeros(1)
    else:
        state = {"weight": torch.zeros(1)}
    fake_package(tmp_path, state)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="location_encoder_weights"):
        GeoClipPlaceEncoder.from_package()


def test_missing_geoclip_says_what_to_install(monkeypatch):
    monkeypatch.setattr("gensat.hub.installed.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"geoclip is not installed; run .*gensat\[place\]"):
        GeoClipPlaceEncoder.from_package()


@torch.no_grad()
@pytest.mark.skipif(importlib.util.find_spec("geoclip") is None, reason="geoclip is not installed (extra: place)")
def test_geoclip_gives_the_published_embedding():
    # computed with geoclip 1.3.0's own LocationEncoder in float64: first and last two of 512 numbers, and the norm
    golden = {
        (-95.36, 29.76): [-0.012958, -0.008283, 0.000507, -0.006932, 0.233675],
        (32.58, 0.35): [-0.010287, 0.030433, -0.022653, 9.1e-05, 0.404213],
        (151.2, -33.9): [-0.001945, 0.015545, 0.010807, -0.027584, 0.263709],
    }
    out = GeoClipPlaceEncoder.from_package()(*place_arrays([Place(*lonlat) for lonlat in golden]))
    ours = torch.cat([out[:, :2], out[:, -2:], out.norm(dim=1, keepdim=True)], 1)
    torch.testing.assert_close(ours, torch.tensor(list(golden.values())), atol=1e-5, rtol=0)


class PlacePipeline(DiffusionPipeline):
    def __init__(self, place_encoder):
        super().__init__()
        self.register_modules(place_encoder=place_encoder)


def test_encoder_comes_back_inside_a_saved_pipeline(encoder, tmp_path):
    PlacePipeline(encoder).save_pretrained(tmp_path)
    module, name = json.loads((tmp_path / "model_index.json").read_text())["place_encoder"]
    assert (module, name) == ("gensat.conditioning.place", type(encoder).__name__)
    # diffusers takes a component for its own when the folder above its module has the name of one of its pipelines
    assert not hasattr(diffusers.pipelines, module.split(".")[-2])
    again = PlacePipeline.from_pretrained(tmp_path).place_encoder
    states = again.state_dict()
    assert all(torch.equal(states[key], value) for key, value in encoder.state_dict().items())
