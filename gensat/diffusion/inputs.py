"""What a denoiser takes, whatever its architecture: the one protocol between a bag of conditions and the loop.

``bag.inputs(window, branch) -> DenoiserInputs`` and ``denoiser(x, t, inputs) -> prediction``; small adapters map it to networks.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gensat.diffusion.guidance import Branch
from gensat.diffusion.windows import Window


@dataclass(frozen=True)
class Residuals:
    """Values added inside the denoiser: ``down`` to its skips (in their order), ``mid`` to its middle; maps, or vectors (b, c, 1, 1)."""

    down: tuple[Tensor, ...]
    mid: Tensor | None = None

    def __add__(self, other: "Residuals") -> "Residuals":
        down = tuple(a + b for a, b in zip(self.down, other.down, strict=True))
        if self.mid is None or other.mid is None:
            return Residuals(down, other.mid if self.mid is None else self.mid)
        return Residuals(down, self.mid + other.mid)

    def vectors_onto(self, maps: "Residuals") -> "Residuals":
        """These (b, c, 1, 1) vectors broadcast over the space of ``maps`` and added."""
        return maps + self


@dataclass(frozen=True)
class Control:
    """A residual provider: ``net`` (a ControlNet) looks at ``image`` (b, frames, c, h, w) in its own range; the residuals of all frames are summed.

    ``time_vector`` (b, frames, v), where given, is added to the time embedding of that frame.
    """

    net: nn.Module
    image: Float[Tensor, "b t c h w"]
    scale: float = 1.0
    time_vector: Float[Tensor, "b t v"] | None = None

    def residuals(self, x: Tensor, t: Tensor, inputs: "DenoiserInputs") -> Residuals:
        """Sum over frames of the ControlNet's residuals for the latents ``x`` at time ``t``."""
        total: Residuals | None = None
        for frame in range(self.image.shape[1]):
            vector = inputs.time_vector if self.time_vector is None else self.time_vector[:, frame]
            out = call_controlnet(self.net, x, t, self.image[:, frame].to(x.dtype), self.scale, inputs, vector)
            total = out if total is None else total + out
        return total


@dataclass(frozen=True)
class DenoiserInputs:
    """The conditions of one window and branch; every tensor has the batch as its first axis and absent ones are None.

    ``tokens`` (b, l, d) with ``token_mask`` (b, l, True at words): cross-attention; ``time_vector`` (b, v): added to the time embedding;
    ``class_label`` (b,); ``channels`` (b, c, h, w): extra input channels on the latent grid; ``controls``: residual providers;
    ``broadcast``: vectors spread over the decoder's space.
    """

    tokens: Float[Tensor, "b l d"] | None = None
    token_mask: Bool[Tensor, "b l"] | None = None
    time_vector: Float[Tensor, "b v"] | None = None
    class_label: Int[Tensor, "b"] | Float[Tensor, "b"] | None = None
    channels: Float[Tensor, "b c h w"] | None = None
    controls: tuple[Control, ...] = ()
    broadcast: Residuals | None = None

    def residuals(self, x: Tensor, t: Tensor) -> Residuals | None:
        """Everything to be added inside the denoiser: ControlNet residuals and broadcast vectors."""
        total: Residuals | None = None
        for control in self.controls:
            out = control.residuals(x, t, self)
            total = out if total is None else total + out
        if self.broadcast is not None:
            total = self.broadcast if total is None else self.broadcast.vectors_onto(total)
        return total


def concatenate(parts: Sequence[DenoiserInputs]) -> DenoiserInputs:
    """Several inputs of the same structure as one batch (guidance branches, windows)."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    values: dict = {}
    for field in fields(DenoiserInputs):
        column = [getattr(p, field.name) for p in parts]
        if field.name == "controls":
            values["controls"] = tuple(
                replace(
                    c,
                    image=torch.cat([p.controls[i].image for p in parts]),
                    time_vector=_cat([p.controls[i].time_vector for p in parts]),
                )
                for i, c in enumerate(first.controls)
            )
        elif field.name == "broadcast" and first.broadcast is not None:
            downs = zip(*(b.down for b in column), strict=True)
            values["broadcast"] = Residuals(tuple(torch.cat(d) for d in downs), _cat([b.mid for b in column]))
        else:
            values[field.name] = _cat(column)
    return DenoiserInputs(**values)


def _cat(column: Sequence[Tensor | None]) -> Tensor | None:
    return None if column[0] is None else torch.cat([c for c in column if c is not None])


class Bag(Protocol):
    """A bag of conditions, ready for a canvas: asked by the loop for each window and guidance branch."""

    def inputs(self, window: Window, branch: Branch) -> DenoiserInputs:
        """Conditions of the window's own footprint, for all samples of the batch."""
        ...


class Denoiser(Protocol):
    """``x`` (b, c, h, w) scaled latents, ``t`` a scalar time step of the scheduler, to a prediction of the scheduler's kind."""

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        ...


class UNetAdapter:
    """Calls anything with UNet2DConditionModel's signature: diffusers' UNets and our own denoiser.

    A time vector goes to a ``time_vector`` argument where the network has one; a UNet without it gets the vector added to the output
    of its ``time_embedding`` by a hook, which is what metadata models do in subclasses (DiffusionSat section 3.1).
    """

    def __init__(self, unet: nn.Module):
        self.unet = unet
        self.takes = set(inspect.signature(unet.forward).parameters)

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        residuals = inputs.residuals(x, t)
        if inputs.channels is not None:
            x = torch.cat([x, inputs.channels.to(x.dtype)], dim=1)
        keywords: dict = {}
        if inputs.token_mask is not None and "encoder_attention_mask" in self.takes:
            keywords["encoder_attention_mask"] = inputs.token_mask
        if inputs.class_label is not None:
            keywords["class_labels"] = inputs.class_label
        if residuals is not None:
            keywords["down_block_additional_residuals"] = residuals.down
            if residuals.mid is not None:
                keywords["mid_block_additional_residual"] = residuals.mid
        tokens = None if inputs.tokens is None else inputs.tokens.to(x.dtype)
        if "time_vector" in self.takes:
            return self.unet(x, t, tokens, time_vector=inputs.time_vector, return_dict=False, **keywords)[0]
        with added_to_time_embedding(self.unet, inputs.time_vector):
            return self.unet(x, t, tokens, return_dict=False, **keywords)[0]


class DiTAdapter:
    """Calls diffusers' class-conditional DiT and text-conditioned PixArt transformers; a learned variance is cut off."""

    def __init__(self, transformer: nn.Module):
        self.transformer = transformer
        self.takes = set(inspect.signature(transformer.forward).parameters)

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        if inputs.channels is not None:
            x = torch.cat([x, inputs.channels.to(x.dtype)], dim=1)
        keywords: dict = {"timestep": t.expand(x.shape[0]), "return_dict": False}
        if inputs.class_label is not None:
            keywords["class_labels"] = inputs.class_label
        if inputs.tokens is not None and "encoder_hidden_states" in self.takes:
            keywords["encoder_hidden_states"] = inputs.tokens.to(x.dtype)
            keywords["encoder_attention_mask"] = inputs.token_mask
        if "added_cond_kwargs" in self.takes:
            keywords["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        out = self.transformer(x, **keywords)[0]
        return out[
            :, : self.transformer.config.in_channels - (0 if inputs.channels is None else inputs.channels.shape[1])
        ]


def adapt(net: nn.Module) -> Denoiser:
    """The adapter for a network, chosen by its signature."""
    names = list(inspect.signature(net.forward).parameters)
    return DiTAdapter(net) if names[0] == "hidden_states" else UNetAdapter(net)


class added_to_time_embedding:  # noqa: N801  (reads as a phrase in a with statement)
    """Within the block, ``vector`` is added to what ``net.time_embedding`` returns; with None nothing happens."""

    def __init__(self, net: nn.Module, vector: Tensor | None):
        self.net, self.vector = net, vector

    def __enter__(self) -> None:
        self.handle = None
        if self.vector is not None:
            self.handle = self.net.time_embedding.register_forward_hook(
                lambda m, a, out: out + self.vector.to(out.dtype)
            )

    def __exit__(self, *error: object) -> None:
        if self.handle is not None:
            self.handle.remove()


def call_controlnet(
    net: nn.Module,
    x: Tensor,
    t: Tensor,
    image: Tensor,
    scale: float,
    inputs: DenoiserInputs,
    time_vector: Tensor | None,
) -> Residuals:
    """One call of our LayoutControlNet or of diffusers' ControlNetModel."""
    takes = inspect.signature(net.forward).parameters
    if "encoder_hidden_states" not in takes:
        return Residuals(net(x, t, image, time_vector=time_vector, conditioning_scale=scale))
    with added_to_time_embedding(net, time_vector):
        down, mid = net(
            x,
            t,
            inputs.tokens.to(x.dtype),
            controlnet_cond=image,
            conditioning_scale=scale,
            class_labels=inputs.class_label,
            return_dict=False,
        )
    return Residuals(tuple(down), mid)
