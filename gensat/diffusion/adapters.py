"""From DenoiserInputs to networks: our denoiser, diffusers' UNets with ControlNets, and its DiT and PixArt transformers.

A condition that a network has no way to take is a ModelError, never dropped in silence.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gensat.diffusion.inputs import Control, Denoiser, DenoiserInputs, Residuals
from gensat.errors import ModelError


def adapt(net: nn.Module) -> Denoiser:
    """The adapter for a network, chosen by the signature of its ``forward``."""
    names = list(inspect.signature(net.forward).parameters)
    return TransformerAdapter(net) if names[0] == "hidden_states" else UNetAdapter(net)


class UNetAdapter:
    """Calls anything with UNet2DConditionModel's signature: diffusers' UNets and our own denoiser.

    A time vector goes to a ``time_vector`` argument where the network has one; a UNet without it gets the vector added to the output
    of its ``time_embedding``, which is what metadata models do in subclasses (DiffusionSat section 3.1).
    """

    def __init__(self, unet: nn.Module):
        self.unet = unet
        self.takes = set(inspect.signature(unet.forward).parameters)

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        added = residuals(inputs, x, t)
        keywords: dict[str, Any] = {"return_dict": False}
        if "encoder_hidden_states" in self.takes:  # always given: UNet2DConditionModel has no default for it
            keywords["encoder_hidden_states"] = None if inputs.tokens is None else inputs.tokens.to(x.dtype)
        elif inputs.tokens is not None:
            raise _cannot(self.unet, "tokens")
        if inputs.token_mask is not None and "encoder_attention_mask" in self.takes:
            keywords["encoder_attention_mask"] = inputs.token_mask
        if inputs.class_label is not None:
            if all(getattr(self.unet, name, None) is None for name in ("class_embedding", "label")):
                raise _cannot(self.unet, "a class label")
            keywords["class_labels"] = inputs.class_label
        if added is not None:
            if "down_block_additional_residuals" not in self.takes:
                raise _cannot(self.unet, "residuals")
            keywords["down_block_additional_residuals"] = added.down
            if (
                "mid_block_additional_residual" in self.takes
            ):  # without it diffusers takes the others for a T2I adapter's
                keywords["mid_block_additional_residual"] = x.new_zeros(()) if added.mid is None else added.mid
        if "time_vector" in self.takes:
            keywords["time_vector"] = inputs.time_vector
        with _added_to(self.unet, None if "time_vector" in self.takes else inputs.time_vector):
            return self.unet(_with_channels(x, inputs), t, **keywords)[0]


class TransformerAdapter:
    """Calls diffusers' class-conditional DiT and text-conditioned PixArt transformers; a learned variance is cut off."""

    def __init__(self, transformer: nn.Module):
        self.transformer = transformer
        self.takes = set(inspect.signature(transformer.forward).parameters)

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        if inputs.controls or inputs.broadcast is not None:
            raise _cannot(self.transformer, "residuals")
        keywords: dict[str, Any] = {"timestep": t.expand(x.shape[0]), "return_dict": False}
        if inputs.class_label is not None:
            if "class_labels" not in self.takes:
                raise _cannot(self.transformer, "a class label")
            keywords["class_labels"] = inputs.class_label
        if inputs.tokens is not None:
            if "encoder_hidden_states" not in self.takes:
                raise _cannot(self.transformer, "tokens")
            keywords["encoder_hidden_states"] = inputs.tokens.to(x.dtype)
            keywords["encoder_attention_mask"] = inputs.token_mask
        if "added_cond_kwargs" in self.takes:
            keywords["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        with _added_to(self.transformer, inputs.time_vector):
            out = self.transformer(_with_channels(x, inputs), **keywords)[0]
        return out[:, : x.shape[1]]


def residuals(inputs: DenoiserInputs, x: Tensor, t: Tensor) -> Residuals | None:
    """Everything to be added inside the denoiser: those of all ControlNets, summed over their frames, and broadcast vectors."""
    parts = [
        _controlnet(control, frame, x, t, inputs)
        for control in inputs.controls
        if control.scale
        for frame in range(control.image.shape[1])
    ]
    if inputs.broadcast is not None:
        down = tuple(v.to(x.dtype) for v in inputs.broadcast.down)
        parts.append(Residuals(down, None if inputs.broadcast.mid is None else inputs.broadcast.mid.to(x.dtype)))
    return sum(parts[1:], parts[0]) if parts else None


def _controlnet(control: Control, frame: int, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Residuals:
    """One frame through our LayoutControlNet or diffusers' ControlNetModel."""
    net, image = control.net, control.image[:, frame].to(x.dtype)
    vector = inputs.time_vector if control.time_vector is None else control.time_vector[:, frame]
    if "encoder_hidden_states" not in inspect.signature(net.forward).parameters:
        return Residuals(tuple(net(x, t, image, time_vector=vector, conditioning_scale=control.scale)))
    if inputs.tokens is None:
        raise ModelError(f"{type(net).__name__} attends to text, but no tokens were given; load a text encoder with it")
    with _added_to(net, vector):
        down, mid = net(
            x,
            t,
            inputs.tokens.to(x.dtype),
            controlnet_cond=image,
            conditioning_scale=control.scale,
            class_labels=inputs.class_label,
            return_dict=False,
        )
    return Residuals(tuple(down), mid)


def _with_channels(x: Tensor, inputs: DenoiserInputs) -> Tensor:
    return x if inputs.channels is None else torch.cat([x, inputs.channels.to(x.dtype)], dim=1)


def _cannot(net: nn.Module, what: str) -> ModelError:
    return ModelError(f"{type(net).__name__} cannot take {what}; leave the condition out, or correct the model's spec")


@contextlib.contextmanager
def _added_to(net: nn.Module, vector: Tensor | None) -> Iterator[None]:
    """Within the block, ``vector`` is added to the network's embedded time step; with None nothing happens."""
    if vector is None:
        yield
        return
    single = getattr(net, "adaln_single", None)  # PixArt's
    embedding = getattr(net, "time_embedding", None) if single is None else single.emb
    if embedding is None:
        raise _cannot(net, "a time vector")
    handle = embedding.register_forward_hook(lambda module, args, out: out + vector.to(out.dtype))
    try:
        yield
    finally:
        handle.remove()
