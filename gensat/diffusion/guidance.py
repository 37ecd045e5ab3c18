"""Classifier-free guidance: which conditions each branch drops, and how the branches are put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError


class Branch(str, Enum):
    """One evaluation of the denoiser; the model's spec says for each signal what drops it."""

    FULL = "full"  # with every condition
    TEXT = "text"  # without those that have a scale of their own (unconditional: "dropped"), such as the place
    UNCONDITIONAL = "unconditional"  # without any that may be dropped


@dataclass(frozen=True)
class Guidance:
    """``scale`` guides all conditions jointly; with ``place_scale``, ``scale`` guides the text and ``place_scale`` the place.

    Joint (Ho and Salimans 2022, eq. 6 with w = s - 1): u + s (c - u). Separate (as in "GPS as a control signal", Feng et al. 2025):
    u + s_text (e_text - u) + s_place (e_full - e_text). ``rescale`` (0 to 1) pulls the standard deviation of the result back to that of
    the full branch (Lin et al. 2023, section 3.4). ``interval`` limits guidance to a part of the steps, as fractions of the schedule from
    noise (0) to image (1) (Kynkaanniemi et al. 2024).
    """

    scale: float | int = 1.0
    place_scale: float | int | None = None
    rescale: float | int = 0.0
    interval: tuple[float | int, float | int] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name, value in (("guidance_scale", self.scale), ("place_guidance_scale", self.place_scale)):
            if value is not None and not 0 <= value <= 100:
                raise InputError(
                    f"{name} must lie in 0 .. 100, not {value}; 1 switches guidance off, 2 to 8 are usual."
                )
        if not 0 <= self.rescale <= 1:
            raise InputError(f"guidance_rescale must lie in 0 .. 1, not {self.rescale}; 0 switches it off.")
        if not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise InputError(
                f"The guidance interval must lie in 0 .. 1 and grow, not {self.interval}; use (0, 1) for all steps."
            )

    def branches(self, progress: float | int = 0.0) -> tuple[Branch, ...]:
        """Branches to evaluate at ``progress`` (0 at the first step, 1 at the last)."""
        if not self.interval[0] <= progress <= self.interval[1]:
            return (Branch.FULL,)
        if self.place_scale is not None and self.place_scale != self.scale:
            return (Branch.UNCONDITIONAL, Branch.TEXT, Branch.FULL)
        return (Branch.FULL,) if self.scale == 1 else (Branch.UNCONDITIONAL, Branch.FULL)

    def combine(self, predictions: Sequence[Float[Tensor, "b c h w"]]) -> Float[Tensor, "b c h w"]:
        """Put the predictions of ``branches`` together, in their order."""
        if len(predictions) == 1:
            return predictions[0]
        if len(predictions) == 2:
            nothing, full = predictions
            out = nothing + self.scale * (full - nothing)
        else:
            nothing, text, full = predictions
            out = nothing + self.scale * (text - nothing) + (self.place_scale or 0.0) * (full - text)
        if self.rescale:
            spread, wanted = (p.std(dim=(1, 2, 3), keepdim=True) for p in (out, full))
            matched = out * (wanted / spread.clamp_min(torch.finfo(out.dtype).tiny))
            out = self.rescale * matched + (1 - self.rescale) * out
        return out
