"""What a denoiser takes, whatever its architecture: the one protocol between a bag of conditions and the loop.

``bag.inputs(window, branch) -> DenoiserInputs`` and ``denoiser(x, t, inputs) -> prediction``; ``gensat.diffusion.adapters`` maps it to
networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

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


@dataclass(frozen=True)
class Control:
    """A residual provider: ``net`` (a ControlNet) looks at ``image`` (b, frames, c, h, w) in its own range; the residuals of all frames are summed.

    ``time_vector`` (b, frames, v), where given, is added to the time embedding of that frame instead of the request's own.
    """

    net: nn.Module
    image: Float[Tensor, "b t c h w"]
    scale: float | int = 1.0
    time_vector: Float[Tensor, "b t v"] | None = None


@dataclass(frozen=True)
class DenoiserInputs:
    """The conditions of one window and branch; every tensor has the batch as its first axis and absent ones are None.

    ``tokens`` (b, l, d) with ``token_mask`` (b, l, True at words): cross-attention; ``time_vector`` (b, v): added to the time embedding;
    ``class_label`` (b,); ``channels`` (b, c, h, w): extra input channels on the latent grid; ``controls``: residual providers;
    ``broadcast``: vectors (b, c, 1, 1) spread over the decoder's space, where a ControlNet's maps would be added.
    """

    tokens: Float[Tensor, "b l d"] | None = None
    token_mask: Bool[Tensor, "b l"] | None = None
    time_vector: Float[Tensor, "b v"] | None = None
    class_label: Int[Tensor, " b"] | Float[Tensor, " b"] | None = None
    channels: Float[Tensor, "b c h w"] | None = None
    controls: tuple[Control, ...] = ()
    broadcast: Residuals | None = None


def concatenate(parts: Sequence[DenoiserInputs]) -> DenoiserInputs:
    """Several inputs of the same structure as one batch (guidance branches, windows).

    Raises ValueError where only some of the parts have a condition: a batch has one structure, and "unknown" is a value, not an absence.
    """
    if len(parts) == 1:
        return parts[0]
    values: dict = {}
    for field in fields(DenoiserInputs):
        column = [getattr(p, field.name) for p in parts]
        if field.name == "controls":
            values["controls"] = tuple(_join_controls(c) for c in zip(*column, strict=True))
        elif field.name == "broadcast" and all(b is not None for b in column):
            downs = zip(*(b.down for b in column), strict=True)
            values["broadcast"] = Residuals(tuple(torch.cat(d) for d in downs), _cat([b.mid for b in column], "mid"))
        else:
            values[field.name] = _cat(column, field.name)
    return DenoiserInputs(**values)


def _join_controls(same: Sequence[Control]) -> Control:
    first = same[0]
    if any(c.net is not first.net or c.scale != first.scale for c in same):
        raise ValueError("controls of one batch differ in their network or scale; only their images may differ")
    vectors = _cat([c.time_vector for c in same], "time_vector of a control")
    return replace(first, image=torch.cat([c.image for c in same]), time_vector=vectors)


def _cat(column: Sequence[Tensor | None], name: str) -> Tensor | None:
    if all(c is None for c in column):
        return None
    if any(c is None for c in column):
        raise ValueError(f"only some windows or branches of a batch have {name}; give all of them one, or none")
    return torch.cat([c for c in column if c is not None])


@runtime_checkable
class Bag(Protocol):
    """A bag of conditions, ready for a canvas: asked by the loop for each window and guidance branch."""

    def inputs(self, window: Window, branch: Branch) -> DenoiserInputs:
        """Conditions of the window's own footprint, for all samples of the batch."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """``x`` (b, c, h, w) scaled latents, ``t`` a scalar time step of the scheduler, to a prediction of the scheduler's kind."""

    def __call__(self, x: Tensor, t: Tensor, inputs: DenoiserInputs) -> Tensor:
        """The prediction (b, c, h, w)."""
        ...
