"""Reader of the published Sat3DGen: names of latent diffusion's decoders and of DINOv3 become those of diffusers and transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gensat.errors import ModelError
from gensat.hub.convert import Converted, fitted
from gensat.hub.convert_ground import Tensors, model_spec, section, shape_of

_AXES = "point_representer.oneplane_axes"  # a constant of the program
_MODULES = (("unet_model.dino_model.", "backbone."), ("unet_model.decoder.", "decoder."))
_PARTS = (
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
    ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
    ("mid.attn_1.", "mid_block.attentions.0.to_"),
    ("norm_out.", "conv_norm_out."),
)
_REQUIRED = {
    "representation_type": ("oneplane",),
    "backbone": ("dinov3-large-sat", "dinov3-large-lvd"),
    "no_hidden_states": (True,),
    "no_cls_token": (True,),
    "sr_factor": (2,),
    "sr_padding_mode": ("reflect", "zeros"),
    "aabb_strict": (True,),
    "density_clamp_mode": ("mipnerf", "softplus"),
    "use_mid_point": (True,),
    "scale_color": (False,),
    "use_white_background": (False,),
}
"""Settings of the published config.json that are built, and their values."""
_HEAD = 64  # channels of an attention head in every DINOv3 ViT


def renamed(tensors: Tensors) -> dict[str, Tensor]:
    """Tensors of the published file under the names of :class:`gensat.models.sat3dgen.Sat3DGen`."""
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name == _AXES:
            continue
        for old, new in _MODULES:
            name = new + name.removeprefix(old) if name.startswith(old) else name
        module, _, rest = name.partition(".")
        if module in ("decoder", "sky_decoder"):
            name = f"{module}.{_decoder_name(rest, _levels(tensors, module))}"
            if ".attentions.0.to_" in name and value.ndim == 4:  # 1x1 convolutions
                value = value.flatten(1)
        elif module == "backbone":  # transformers 4 has no "model." here
            name = re.sub(r"^backbone\.(model\.)?layer\.", "backbone.model.layer.", name)
        plain[name] = value
    return plain


def _levels(tensors: Tensors, module: str) -> int:
    prefix = "unet_model.decoder." if module == "decoder" else "sky_decoder."
    return 1 + max(
        (int(n.split(".")[-5]) for n in tensors if re.match(prefix + r"up\.\d+\.block\.0\.conv1\.weight", n)),
        default=-1,
    )


def _decoder_name(name: str, levels: int) -> str:
    if found := re.match(r"up\.(\d+)\.(?:block\.(\d+)\.|upsample\.)(.*)", name):
        level, block, rest = levels - 1 - int(found[1]), found[2], found[3]
        part = "upsamplers.0." if block is None else f"resnets.{block}."
        name = f"up_blocks.{level}.{part}{rest}"
    for old, new in _PARTS:
        if name.startswith(old):
            name = new + name.removeprefix(old)
    return name.replace("nin_shortcut", "conv_shortcut")


def read_sat3dgen(tensors: Tensors, settings: Mapping[str, Any], variant: str | None, licence: str) -> Converted:
    """Sat3DGen. Raises ModelError for settings that are not built, or tensors that do not fit."""
    options = section(settings, "opt")
    network = section(options, "network")
    sampling, marching = (section(network, f"{name}_kwargs") for name in ("point_sampling", "ray_marching"))
    told = {**sampling, **marching, **network, **options}
    for name, values in _REQUIRED.items():
        if name in told and told[name] not in values:
            raise ModelError(
                f"this Sat3DGen has {name} {told[name]!r}, which is not built (only {', '.join(map(str, values))}); "
                "use the published one"
            )
    plain = renamed(tensors)
    shape = lambda name: shape_of(plain, name)  # noqa: E731
    count = lambda pattern: len({m[1] for n in plain if (m := re.match(pattern, n))})  # noqa: E731
    up = lambda net: [  # noqa: E731
        shape(f"{net}.up_blocks.{i}.resnets.0.conv1.weight")[0] for i in range(count(net + r"\.up_blocks\.(\d+)\."))
    ][::-1]
    width = shape("backbone.embeddings.cls_token")[-1]
    config: dict[str, Any] = {
        "dino": {
            "hidden_size": width,
            "num_hidden_layers": count(r"backbone\.model\.layer\.(\d+)\."),
            "num_attention_heads": width // _HEAD,
            "intermediate_size": shape("backbone.model.layer.0.mlp.up_proj.weight")[0],
            "num_register_tokens": shape("backbone.embeddings.register_tokens")[1],
            "patch_size": shape("backbone.embeddings.patch_embeddings.weight")[-1],
            "layer_norm_eps": 1e-5,
        },
        "widths": up("decoder"),
        "sky_widths": up("sky_decoder"),
        "plane": shape("decoder.conv_out.weight")[0] // 2,
        "hidden": shape("mlp.net0.weight")[0],
        "colours": shape("mlp.grd_color_convert.weight")[0],
        "w_dim": shape("mlp.style_squ.weight")[1],
        "bins": shape("sky_mapping.mapping.0.weight")[1],
        "mapping_layers": count(r"sky_mapping\.mapping\.(\d+)\.weight"),
        "upscaler": shape("sr_module.block0.conv0.conv.weight")[0],
    }
    notes = []
    for name, given in (
        ("coarse", "num_points"),
        ("fine", "num_importance"),
        ("activation", "density_clamp_mode"),
        ("pad", "pad"),
        ("padding", "sr_padding_mode"),
    ):
        if given in told:
            config[name] = told[given]
        else:
            notes.append(f"{given} stands in no config.json beside the weights: assumed as in the published one")
    from gensat.models.sat3dgen import Sat3DGen

    model = fitted(Sat3DGen, config, plain, "Sat3DGen")
    metres = model.config.tile_metres
    what = f"Sat3DGen of VIGOR: a tile of {metres:g} m and a sky to a field, panoramas, views and heights"
    spec = model_spec("sat3dgen", licence, metres, 256, (0.0, 1.0), what)
    return Converted(model, spec, {"constants of the program": [n for n in tensors if n == _AXES]}, notes)
