"""Reader of pix2pixHD generators, such as the flood generator of the Earth Intelligence Engine: all sizes are read off the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gensat.errors import ModelError
from gensat.hub.convert import Converted, fitted
from gensat.hub.convert_ground import Tensors, shape_of
from gensat.hub.spec import Defaults, ModelSpec, Signal

_STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
"""Of instance norms in checkpoints of old torch releases, which never used them."""


def config_of(tensors: Tensors) -> dict[str, int]:
    """Sizes of the generator that these tensors belong to.

    Raises:
        ModelError: they lack the first or last convolution, or a whole block.
    """
    shape = lambda name: shape_of(tensors, name)  # noqa: E731
    enhancers = len({m[1] for name in tensors if (m := re.match(r"model(\d+)_1\.", name))})
    inner, channels = shape("model.1.weight")[:2]
    downsamples = 0  # strided 3x3 convolutions stand at 4, 7, 10 ... until the blocks begin
    while f"model.{4 + 3 * downsamples}.weight" in tensors:
        wide = shape(f"model.{4 + 3 * downsamples}.weight")
        if wide[:2] != (inner * 2 ** (downsamples + 1), inner * 2**downsamples):
            break
        downsamples += 1
    count = lambda net: len({m[1] for n in tensors if (m := re.match(net + r"\.(\d+)\.conv_block\.", n))})  # noqa: E731
    last = f"model{enhancers}_2" if enhancers else "model"
    ends = [int(m[1]) for n in tensors if (m := re.fullmatch(last + r"\.(\d+)\.weight", n))]
    if not ends or inner % 2**enhancers:
        raise ModelError("the checkpoint lacks the last convolution of pix2pixHD; give the published file")
    return {
        "channels": channels,
        "out_channels": shape(f"{last}.{max(ends)}.weight")[0],
        "width": inner // 2**enhancers,
        "downsamples": downsamples,
        "blocks": count("model"),
        "enhancers": enhancers,
        "local_blocks": count("model1_2") if enhancers else 3,
    }


def read_pix2pixhd(tensors: Tensors, settings: Mapping[str, Any], variant: str | None, licence: str) -> Converted:
    """A pix2pixHD generator of floods. Raises ModelError for tensors that do not fit, or another input than a mask and an RGB image."""
    unused = [name for name in tensors if _STATISTICS.search(name)]
    plain = {name: value for name, value in tensors.items() if name not in unused}
    config = config_of(plain)
    if (config["channels"], config["out_channels"]) != (4, 3):
        raise ModelError(
            f"this pix2pixHD makes {config['out_channels']} channels of {config['channels']}; only generators of RGB from a flood mask "
            "and RGB can be converted"
        )
    from gensat.models.pix2pixhd import Pix2PixHD

    model = fitted(Pix2PixHD, config, plain, "a pix2pixHD generator")
    spec = ModelSpec(
        name="eie-pix2pixhd",
        pipeline="PublishedFloodPipeline",
        licence=licence,
        description="pix2pixHD of the Earth Intelligence Engine: an image and a flood mask (-1 flooded, +1 dry) to an image of the flood",
        signals={
            "image": Signal("channels", range=(-1.0, 1.0), bands=("red", "green", "blue"), spatial="native"),
            "mask": Signal("channels", range=(-1.0, 1.0), spatial="native", resampling="nearest", mask_polarity="keep"),
        },
        native_size=1024,
        size_limits=(model.multiple, 2048),
        multiple=model.multiple,
        window=1024,
        window_stride=768,
        defaults=Defaults(gsd=0.5),
    )
    left_out = {"statistics that instance norms never used": unused} if unused else {}
    return Converted(model, spec, left_out)
