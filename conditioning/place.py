"""Where on Earth: spherical harmonics, unit sphere and Equal Earth features, and the networks that read them.

Convention: coordinates are (lon, lat) in degrees, in that order, float64 until the features are made (a float32
longitude is only good to about a metre, and GeoCLIP's finest capsule multiplies every error by more than a thousand).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.nn.functional import linear

from ..errors import InputError, ModelError
from ..hub.installed import installed_file
from ..types import Place

# Šavrič, Patterson and Jenny 2018, "The Equal Earth map projection", equation 11
_EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
_GEOCLIP_SCALE = 66.50336 / 180  # GeoCLIP's own units for the projected coordinates


def spherical_harmonics(
    lon: Float[Tensor, "*n"], lat: Float[Tensor, "*n"], *, degree: int, legacy_m0: bool = False
) -> Float64[Tensor, "*n f"]:
    """Real spherical harmonics of degree 0 to ``degree - 1`` at longitude and latitude in degrees: (..., degree**2).

    Convention: the features of SatCLIP (Klemmer et al. 2023, after Rußwurm et al. 2024, equation 3): azimuth lon + 180,
    polar angle lat + 90, no Condon-Shortley phase, order l = 0..degree-1 and within it m = -l..l (sine for m < 0,
    cosine for m > 0). Orthonormal on the sphere; ``legacy_m0`` multiplies the m = 0 column by pi, as the published
    SatCLIP code does and its weights were trained with.

    The normalised three-term recurrence (Holmes and Featherstone 2002, equations 11 and 12) is exact to rounding at
    any degree and latitude. SatCLIP's closed-form polynomials are not: with its degree-40 weights these features equal
    the trained ones only for |lat| below about 40 degrees (differences of 1e-2 at 60, 0.6 at the pole); degree 10
    agrees everywhere.
    """
    if degree < 1:
        raise InputError(f"the harmonic degree is {degree}; give 1 or more")
    azimuth = torch.deg2rad(lon.double() + 180)
    latitude = torch.deg2rad(lat.double())
    x, sine = -torch.sin(latitude)[..., None], torch.cos(latitude)[..., None]  # cosine and sine of the polar angle
    orders = torch.arange(degree, dtype=torch.float64, device=lon.device)
    sin_m = torch.sin(orders * azimuth[..., None])
    cos_m = torch.cos(orders * azimuth[..., None])

    row = torch.full_like(x, math.sqrt(1 / (4 * math.pi)))  # normalised P_l^m for m = 0..l, here l = 0
    before = row.new_zeros(row.shape)
    features = []
    for l in range(degree):  # noqa: E741 (the degree is called l everywhere)
        if l > 0:
            m = orders[:l]
            a = torch.sqrt((4 * l**2 - 1) / (l**2 - m**2))
            # zero for m = l - 1, where there is no P_{l-2}^m (and so always for l = 1)
            b = torch.sqrt(((l - 1) ** 2 - m**2) / abs(4 * (l - 1) ** 2 - 1))
            diagonal = math.sqrt((2 * l + 1) / (2 * l)) * sine * row[..., -1:]
            row, before = torch.cat([a * (x * row - b * before), diagonal], -1), row
            before = torch.cat([before, torch.zeros_like(x)], -1)
        zonal = row[..., :1] * (math.pi if legacy_m0 else 1.0)
        waves = math.sqrt(2) * row[..., 1:]
        features += [(waves * sin_m[..., 1 : l + 1]).flip(-1), zonal, waves * cos_m[..., 1 : l + 1]]
    return torch.cat(features, -1)


def unit_sphere(lon: Float[Tensor, "*n"], lat: Float[Tensor, "*n"]) -> Float64[Tensor, "*n 3"]:
    """(cos lat cos lon, cos lat sin lon, sin lat) for degrees, as PLONK (Dufour et al. 2025) takes coordinates."""
    lon, lat = torch.deg2rad(lon.double()), torch.deg2rad(lat.double())
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)


def equal_earth(lon: Float[Tensor, "*n"], lat: Float[Tensor, "*n"]) -> Float64[Tensor, "*n 2"]:
    """Equal Earth projection (x east, y north) of degrees on the unit sphere (Šavrič et al. 2018, equation 11)."""
    a1, a2, a3, a4 = _EQUAL_EARTH
    lon, lat = torch.deg2rad(lon.double()), torch.deg2rad(lat.double())
    t = torch.asin(math.sqrt(3) / 2 * torch.sin(lat))
    slope = 9 * a4 * t**8 + 7 * a3 * t**6 + 3 * a2 * t**2 + a1
    x = 2 * math.sqrt(3) / 3 * lon * torch.cos(t) / slope
    return torch.stack([x, a4 * t**9 + a3 * t**7 + a2 * t**3 + a1 * t], -1)


def place_arrays(places: Sequence[Place | None]) -> tuple[Float64[Tensor, "b 2"], Bool[Tensor, " b"]]:
    """(lon, lat) in degrees and which of them are known, as the place encoders take them; None is an unknown place."""
    lonlat = [(0.0, 0.0) if place is None else (place.lon, place.lat) for place in places]
    known = [place is not None for place in places]
    return torch.tensor(lonlat, dtype=torch.float64).reshape(-1, 2), torch.tensor(known, dtype=torch.bool)


class SirenPlaceEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A vector per place: spherical features, then a SIREN (Sitzmann et al. 2020), with a learned vector for unknown.

    The first layer is sin(30 (W x + b)), the following ones sin(W x + b), the last one linear. With ``degree`` 10 or
    40, ``hidden_dim`` 512, ``num_layers`` 2, ``out_dim`` 256 and ``legacy_m0`` it has the shape and the keys
    (``layers.0``, ``layers.1``, ``last_layer``) of SatCLIP's location encoder; ``null`` is ours.

    Args:
        degree: number of harmonic degrees; the features tell apart places about 180 / degree degrees from each other.
        features: "spherical_harmonics" (degree**2 inputs) or "unit_sphere" (3 inputs, ``degree`` unused).
        zero_init: the encoder starts as exactly zero for every place, for fine-tuning a denoiser that knew none.
    """

    @register_to_config
    def __init__(
        self,
        degree: int = 16,
        hidden_dim: int = 256,
        num_layers: int = 2,
        out_dim: int = 256,
        features: str = "spherical_harmonics",
        legacy_m0: bool = False,
        zero_init: bool = False,
    ):
        super().__init__()
        if features not in ("spherical_harmonics", "unit_sphere"):
            raise InputError(f"no place features are called {features!r}; use spherical_harmonics or unit_sphere")
        in_dim = 3 if features == "unit_sphere" else degree**2
        widths = [in_dim] + [hidden_dim] * num_layers
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.last_layer = nn.Linear(hidden_dim, out_dim)
        self.null = nn.Parameter(torch.zeros(out_dim) if zero_init else 0.02 * torch.randn(out_dim))
        for k, layer in enumerate([*self.layers, self.last_layer]):
            fan_in = layer.in_features
            bound = 1 / fan_in if k == 0 else math.sqrt(6 / fan_in)  # Sitzmann et al. 2020, section 3.2
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        if zero_init:
            nn.init.zeros_(self.last_layer.weight)
            nn.init.zeros_(self.last_layer.bias)

    def forward(self, lonlat: Float64[Tensor, "b 2"], known: Bool[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Encode (lon, lat) in degrees; where ``known`` is False the coordinates are ignored and ``null`` is given."""
        lon, lat = _only_known(lonlat, known)
        if self.config["features"] == "unit_sphere":
            x = unit_sphere(lon, lat)
        else:
            x = spherical_harmonics(lon, lat, degree=self.config["degree"], legacy_m0=self.config["legacy_m0"])
        # the first layer in float32 whatever the module's precision: half a float places a point to some kilometres
        weight, bias = (parameter.float() for parameter in self.layers[0].parameters())
        x = torch.sin(30 * linear(x.to(weight), weight, bias)).to(self.null.dtype)
        for layer in self.layers[1:]:
            x = torch.sin(layer(x))
        return torch.where(known.to(x.device)[:, None], self.last_layer(x), self.null)


class GeoClipPlaceEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """GeoCLIP's location encoder (Vivanco Cepeda et al. 2023): three Fourier-feature networks, summed.

    Capsule i sees the Equal Earth coordinates v as [cos | sin](2 pi B_i v), B_i of standard deviation ``sigmas[i]``;
    the keys ``LocEnc{i}.capsule.*`` and ``LocEnc{i}.head.0`` are the published ones. ``out_dim`` adds a linear layer
    ``proj`` from the ``embed_dim`` of the published vector to the width a denoiser takes; ``null`` (unknown place) and
    ``proj`` are ours and have to be trained; ``zero_init`` starts both at zero.
    """

    _keep_in_fp32_modules = ["b"]  # type: ignore[assignment]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        sigmas: Sequence[float | int] = (1.0, 16.0, 256.0),
        num_frequencies: int = 256,
        hidden_dim: int = 1024,
        embed_dim: int = 512,
        out_dim: int | None = None,
        zero_init: bool = False,
    ):
        super().__init__()
        for i, sigma in enumerate(sigmas):
            self.add_module(f"LocEnc{i}", _GeoClipCapsule(sigma, num_frequencies, hidden_dim, embed_dim))
        self.proj = None if out_dim is None else nn.Linear(embed_dim, out_dim)
        width = embed_dim if out_dim is None else out_dim
        self.null = nn.Parameter(torch.zeros(width) if zero_init else 0.02 * torch.randn(width))
        if zero_init and self.proj is not None:
            nn.init.zeros_(self.proj.weight)
            nn.init.zeros_(self.proj.bias)

    @classmethod
    def from_package(cls, *, out_dim: int | None = None, zero_init: bool = False) -> "GeoClipPlaceEncoder":
        """The trained encoder, from the weight file inside the installed pip package geoclip (never imported)."""
        file = installed_file("geoclip", "model/weights/location_encoder_weights.pth", install="gensat[place]")
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            frequencies, hidden = state["LocEnc0.capsule.0.b"].shape[0], state["LocEnc0.capsule.1.weight"].shape[0]
            embed = state["LocEnc0.head.0.weight"].shape[0]
        except Exception as error:  # whatever the unpickler met: a damaged or foreign file
            raise ModelError(f"the GeoCLIP weights in {file} cannot be read ({error}); reinstall geoclip") from error
        capsules = {key.split(".")[0] for key in state}
        model = cls(
            sigmas=[16.0**i for i in range(len(capsules))],
            num_frequencies=frequencies,
            hidden_dim=hidden,
            embed_dim=embed,
            out_dim=out_dim,
            zero_init=zero_init,
        )
        report = model.load_state_dict(state, strict=False)
        missing = [key for key in report.missing_keys if key.startswith("LocEnc")]  # null and proj are not published
        if missing or report.unexpected_keys:
            raise ModelError(
                f"the GeoCLIP weights in {file} do not fit: missing {missing}, unexpected {report.unexpected_keys}; "
                "install geoclip 1.3"
            )
        return model.eval()

    def forward(self, lonlat: Float64[Tensor, "b 2"], known: Bool[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Encode (lon, lat) in degrees; where ``known`` is False the coordinates are ignored and ``null`` is given."""
        lon, lat = _only_known(lonlat, known)
        xy = (equal_earth(lon, lat) * _GEOCLIP_SCALE).to(self.null.device)
        embedding = torch.stack([getattr(self, f"LocEnc{i}")(xy) for i in range(len(self.config["sigmas"]))]).sum(0)
        if self.proj is not None:
            embedding = self.proj(embedding)
        return torch.where(known.to(embedding.device)[:, None], embedding, self.null)


class _GeoClipCapsule(nn.Module):
    def __init__(self, sigma: float | int, num_frequencies: int, hidden_dim: int, embed_dim: int):
        super().__init__()
        layers: list[nn.Module] = [_FourierFeatures(sigma, num_frequencies)]
        for width in (2 * num_frequencies, hidden_dim, hidden_dim):
            layers += [nn.Linear(width, hidden_dim), nn.ReLU()]
        self.capsule = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(hidden_dim, embed_dim))

    def forward(self, xy: Float64[Tensor, "b 2"]) -> Float[Tensor, "b d"]:
        fourier, *rest = self.capsule
        x = fourier(xy).to(self.head[0].weight.dtype)
        for layer in rest:
            x = layer(x)
        return self.head(x)


class _FourierFeatures(nn.Module):
    """[cos | sin](2 pi B v), phases in float64 (Tancik et al. 2020, equation 5); ``b`` stays float32 in a half module.

    The phases reach thousands of radians: half-precision frequencies would turn the finest capsule into noise.
    """

    b: Tensor

    def __init__(self, sigma: float | int, num_frequencies: int):
        super().__init__()
        self.register_buffer("b", sigma * torch.randn(num_frequencies, 2))

    def _apply(self, fn, recurse=True):
        exact = self.b
        super()._apply(fn, recurse)
        if torch.finfo(self.b.dtype).bits < 32:
            self.b = exact.to(self.b.device)
        return self

    def forward(self, v: Float64[Tensor, "b 2"]) -> Float64[Tensor, "b f"]:
        phase = 2 * math.pi * v @ self.b.double().T
        return torch.cat([phase.cos(), phase.sin()], -1)


def _only_known(
    lonlat: Float64[Tensor, "b 2"], known: Bool[Tensor, " b"]
) -> tuple[Float64[Tensor, " b"], Float64[Tensor, " b"]]:
    """Longitude and latitude with unknown places at (0, 0): a NaN there would reach the gradients through `where`."""
    lon, lat = torch.where(known.to(lonlat.device)[:, None], lonlat, 0.0).unbind(1)
    return lon, lat
