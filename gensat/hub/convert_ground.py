"""Readers of published satellite-to-ground models: Sat2Density and Sat2Density++.

Sizes are inferred from the shapes of tensors. Spectral norm is divided out (weight / (u . W v)), the equalised learning
rate multiplied in, so that the networks here are plain ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gensat.errors import InputError, ModelError
from gensat.hub.convert import Converted, fitted
from gensat.hub.spec import Defaults, ModelSpec, Signal

Tensors = Mapping[str, Tensor]

TILES = {
    "sat2density": {
        "cvact": {"tile_metres": 30.0, "elevation": 90.0},
        "cvusa": {"tile_metres": 55.0, "elevation": 45.0},
    },
    # the published code takes the eye of VIGOR from the city: 2 * 3 m / (0.111 to 0.118 m * 320) over the ground
    "sat2density++": {
        "cvact": {"tile_metres": 30.0, "elevation": 90.0, "eye": 0.2},
        "cvusa": {"tile_metres": 55.0, "elevation": 45.0, "eye": 0.2},
        "vigor": {"tile_metres": 73.0, "elevation": 90.0, "eye": 0.16},
    },
}
"""How the tiles and panoramas of each data set were taken."""

_CONSTANTS = re.compile(r"(resample_filter|triplane_axes|encoder\.alpha|rendering_resolution)$")


@dataclass(frozen=True)
class Reader:
    """How one published model is recognised and read.

    Args:
        name: as its authors call it.
        key: of the checkpoint under which its tensors stand, if they are not at the top.
        marks: names of tensors that only it has.
        licence: what its authors say of the weights.
        read: tensors, settings, variant and licence to the network.
        settings: name of the file of settings beside the weights.
    """

    name: str
    key: str | None
    marks: tuple[str, ...]
    licence: str
    read: Callable[[Tensors, Mapping[str, Any], str | None, str], Converted]
    settings: str = "generator_config.json"

    def recognises(self, tensors: Tensors) -> bool:
        """Whether these are its tensors."""
        return all(mark in tensors for mark in self.marks)


def _variant(model: str, variant: str | None) -> str:
    known = TILES[model]
    if variant is None:
        raise InputError(
            f"nothing says which data set this {model} was trained on; add --variant {' or '.join(known)} (it sets the metres of a tile)"
        )
    if variant not in known:
        raise InputError(f"variant {variant!r} of {model} is unknown; use {', '.join(known)}")
    return variant


def model_spec(name: str, licence: str, tile: float, size: int, span: tuple[float, float], what: str) -> ModelSpec:
    """Spec of a ground-view model: the only condition is the tile."""
    gsd = tile / size
    return ModelSpec(
        name=name,
        pipeline="DensityGroundPipeline",
        licence=licence,
        description=what,
        signals={"image": Signal("channels", range=span, bands=("red", "green", "blue"), spatial="native")},
        native_size=size,
        size_limits=(size, size),
        window=size,
        window_stride=size,
        gsd_range=(gsd / 2, gsd * 2),
        defaults=Defaults(gsd=gsd),
    )


def unnormalised(tensors: Tensors) -> dict[str, Tensor]:
    """Spectral norm divided out: ``weight_orig / (u . W v)`` in place of ``weight_orig``, ``weight_u`` and ``weight_v``.

    Raises:
        ModelError: a weight without its two vectors, or one whose norm is 0.
    """
    plain = {}
    for name, value in tensors.items():
        if name.endswith(("weight_u", "weight_v")):
            continue
        if name.endswith("weight_orig"):
            base = name.removesuffix("_orig")
            try:
                u, v = tensors[base + "_u"], tensors[base + "_v"]
            except KeyError as error:
                raise ModelError(
                    f"the checkpoint lacks {error.args[0]} beside {name}; give the published file"
                ) from None
            sigma = u.float() @ (value.float().flatten(1) @ v.float())
            if not float(sigma.abs()) > 0:
                raise ModelError(f"the spectral norm of {name} is 0; download the file again")
            name, value = base, value.float() / sigma
        plain[name] = value
    return plain


def read_sat2density(tensors: Tensors, settings: Mapping[str, Any], variant: str | None, licence: str) -> Converted:
    """Sat2Density, both published checkpoints. Raises ModelError, InputError for a variant that is not given."""
    variant = _variant("sat2density", variant)
    plain = unnormalised(tensors)
    blocks = lambda net: len({n.split(".")[2] for n in plain if re.match(net + r"\.model\.\d+\.conv_block_0", n)})  # noqa: E731
    shape = lambda name: shape_of(plain, name)  # noqa: E731
    config: dict[str, Any] = {
        "levels": shape("depth_model.up_end.layers.conv.weight")[0],
        "density_width": shape("depth_model.model.0.layers.conv.weight")[0],
        "density_blocks": blocks("depth_model"),
        "painter_width": shape("denoise_model.model.0.layers.conv.weight")[0],
        "painter_blocks": blocks("denoise_model"),
        "painter_up": shape("denoise_model.up0_b.layers.conv.weight")[0],
        "style_dim": shape("style_encode.fc_mu.layers.conv.weight")[0],
        "style_width": shape("style_model.fc_out.weight")[0],
        "style_layers": sum(bool(re.fullmatch(r"style_model\.fc_layers\.\d+\.weight", n)) for n in plain),
        "bins": shape("style_encode.layer1.layers.conv.weight")[1],
        **TILES["sat2density"][variant],
    }
    from gensat.models.sat2density import Sat2Density

    model = fitted(Sat2Density, config, plain, "Sat2Density")
    what = f"Sat2Density of {variant.upper()}: a tile of {config['tile_metres']:g} m and a sky to a panorama"
    spec = model_spec(f"sat2density-{variant}", licence, config["tile_metres"], 256, (0.0, 1.0), what)
    folded = [n for n in tensors if n.endswith(("weight_u", "weight_v"))]
    return Converted(model, spec, {"spectral norm, divided out": folded})


def read_sat2density_plus(
    tensors: Tensors, settings: Mapping[str, Any], variant: str | None, licence: str
) -> Converted:
    """Sat2Density++. Raises ModelError, InputError for a variant that is not given."""
    sampling, marching = (section(settings, name) for name in ("point_sampling_kwargs", "ray_marching_kwargs"))
    variant = _variant(
        "sat2density++", variant or (str(sampling["data_type"]).lower() if "data_type" in sampling else None)
    )
    if sampling.get("aabb_strict") is False:
        raise ModelError(
            "this Sat2Density++ samples beyond its cube (aabb_strict false), which is not built; use a published one"
        )
    constants = [name for name in tensors if _CONSTANTS.search(name)]
    plain = {name: _folded(name, value) for name, value in tensors.items() if name not in constants}
    shape = lambda name: shape_of(plain, name)  # noqa: E731
    layers = lambda net: sum(bool(re.fullmatch(net + r"\.fc\d+\.weight", n)) for n in plain)  # noqa: E731
    config: dict[str, Any] = {
        "z_dim": shape("backbone.mapping.fc0.weight")[1],
        "w_dim": shape("backbone.mapping.fc0.weight")[0],
        "mapping_layers": layers(r"backbone\.mapping"),
        "sky_layers": layers("sky_img_mapping"),
        "bins": shape("sky_img_mapping.embed.weight")[1],
        "encoder_widths": (
            shape("encoder.b256.conv0.weight")[0],
            *(shape(f"encoder.b{n}.conv1.weight")[0] for n in (256, 128, 64, 32)),
        ),
        "plane_widths": tuple(shape(f"backbone.synthesis.b{n}.conv1.weight")[0] for n in (32, 64, 128, 256)),
        "sky_widths": tuple(shape(f"sky_synthesis.b{n}.conv1.weight")[0] for n in (4, 8, 16, 32, 64, 128)),
        "planes": shape("backbone.synthesis.b32.torgb.weight")[0] // 3,
        "hidden": shape("mlp.net0.weight")[0],
        "colours": shape("mlp.grd_color_convert.weight")[0],
        "upscaler": tuple(shape(f"post_cnn.block{n}.conv1.weight")[0] for n in (0, 1)),
        **TILES["sat2density++"][variant],
    }
    notes = []
    for name, given, where in (
        ("coarse", "num_points", sampling),
        ("fine", "num_importance", {**sampling, **settings}),
        ("activation", "density_clamp_mode", marching),
        ("box", "coordinate_scale", {**section(settings, "point_representer_kwargs"), **settings}),
    ):
        if given in where:
            config[name] = where[given]
        else:
            notes.append(
                f"{given} stands in no generator_config.json beside the weights: assumed as in the recorded runs"
            )
    if config.get("activation", "mipnerf") not in ("mipnerf", "softplus", "relu"):
        raise ModelError(
            f"density_clamp_mode {config['activation']!r} is unknown; use a config with mipnerf, softplus or relu"
        )
    from gensat.models.sat2density_plus import Sat2DensityPlus

    model = fitted(Sat2DensityPlus, config, plain, "Sat2Density++")
    what = f"Sat2Density++ of {variant.upper()}: a tile of {config['tile_metres']:g} m and a sky to a panorama"
    spec = model_spec(f"sat2density-plus-{variant}", licence, config["tile_metres"], 256, (-1.0, 1.0), what)
    return Converted(model, spec, {"constants of the program": constants}, notes)


def _folded(name: str, value: Tensor) -> Tensor:
    """The weight that the equalised learning rate makes of a stored one (Karras et al. 2018, section 4.1)."""
    styled = re.search(r"\.conv[01]\.weight$", name) and not name.startswith("encoder.")  # brought to unit power later
    value = value.float()
    if name.endswith(".weight") and value.ndim >= 2 and not styled:
        value = value / math.sqrt(value[0].numel())
    if re.search(r"mapping\.fc\d+\.", name):
        value = value * 0.01  # learning rate multiplier of the mappings
    return value


def shape_of(tensors: Tensors, name: str) -> tuple[int, ...]:
    """Shape of a tensor. Raises ModelError if it is not there."""
    if name not in tensors:
        raise ModelError(f"the checkpoint lacks tensor {name}; give the published file")
    return tuple(tensors[name].shape)


def section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the settings, empty if it is not there."""
    found = settings.get(name, {})
    return found if isinstance(found, Mapping) else {}
