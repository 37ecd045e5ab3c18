"""The bag of conditions of one request: what the user gave, encoded once, handed to the loop per window and guidance branch.

Every window takes its conditions from its own footprint: the place of its centre, its part of the layout, and its prompt where the prompt is
a function of the place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..diffusion.guidance import Branch
from ..diffusion.inputs import Control, DenoiserInputs
from ..diffusion.windows import Window
from ..hub.spec import ModelSpec
from ..types import Acquisition, Place

# prompt of a window, given the place of its centre (None on a canvas without coordinates)
PromptMap = Callable[[Place | None], str]
TextEncode = Callable[[Sequence[str]], tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]]
# places (one per sample, None = unknown) and acquisitions to what is added to the time embedding
VectorEncode = Callable[[Sequence[Place | None], Sequence[Acquisition]], Float[Tensor, "b v"]]


@dataclass
class ControlImage:
    """A control picture of the canvas in the ControlNet's own channels and range, (b or 1, frames, c, H, W), and its strength."""

    net: nn.Module
    image: Float[Tensor, "b t c h w"]
    scale: float = 1.0


@dataclass
class ConditionBag:
    """Conditions of ``samples`` images on one canvas.

    Args:
        spec: the model's; it says what each guidance branch drops.
        samples: images in the batch.
        factor: pixels per latent cell.
        prompts: one per sample, or a function of a window's place.
        negative: one per sample: the text of the unconditional branch.
        place_of: the place of a window's centre (a window is in latent cells), None where unknown.
        acquisition: of all samples.
        text, vector: encoders; None where the model has none.
        controls: control pictures over the canvas; outside of it they are zero, which means unknown.
        channels: extra input channels on the latent grid of the canvas (b or 1, c, h, w), zero outside.
        class_label: (b,) labels, and what the unconditional branch gets instead.
        broadcast: vectors for the decoder, and what the unconditional branch gets instead.
    """

    spec: ModelSpec
    samples: int
    factor: int
    prompts: Sequence[str] | PromptMap = ()
    negative: Sequence[str] = ()
    place_of: Callable[[Window], Place | None] = lambda window: None
    acquisition: Acquisition = field(default_factory=Acquisition)
    text: TextEncode | None = None
    vector: VectorEncode | None = None
    controls: Sequence[ControlImage] = ()
    channels: Float[Tensor, "b c h w"] | None = None
    class_label: Tensor | None = None
    null_label: Tensor | None = None
    broadcast: object | None = None
    null_broadcast: object | None = None

    def __post_init__(self) -> None:
        self._cache: dict = {}

    def inputs(self, window: Window, branch: Branch) -> DenoiserInputs:
        """Conditions of the window's footprint, with what ``branch`` drops replaced by its null."""
        place = self.place_of(window)
        tokens, mask = self._tokens(place, branch) if self.text else (None, None)
        return DenoiserInputs(
            tokens=tokens,
            token_mask=mask,
            time_vector=self._vector(place, branch) if self.vector else None,
            class_label=self.null_label
            if self._drops("acquisition", branch) and self.null_label is not None
            else self.class_label,
            channels=None if self.channels is None else self._spread(cut(self.channels, window)),
            controls=tuple(self._control(c, window, branch) for c in self.controls),
            broadcast=self.null_broadcast
            if self._drops("place", branch) and self.null_broadcast is not None
            else self.broadcast,
        )

    def _drops(self, signal: str, branch: Branch) -> bool:
        """Whether a branch replaces a signal by its null."""
        if signal not in self.spec.signals:
            return branch is Branch.UNCONDITIONAL
        policy = self.spec.signals[signal].unconditional
        if branch is Branch.UNCONDITIONAL:
            return policy != "kept"
        return branch is Branch.TEXT and policy == "dropped"

    def _tokens(self, place: Place | None, branch: Branch) -> tuple[Tensor, Tensor]:
        if self._drops("prompt", branch):
            words = tuple(self.negative)
        elif callable(self.prompts):
            words = (self.prompts(place),) * self.samples
        else:
            words = tuple(self.prompts)
        if ("text", words) not in self._cache:
            self._cache["text", words] = self.text(words)
        return self._cache["text", words]

    def _vector(self, place: Place | None, branch: Branch) -> Tensor:
        place = None if self._drops("place", branch) else place
        acquisition = Acquisition() if self._drops("acquisition", branch) else self.acquisition
        if ("vector", place, acquisition) not in self._cache:
            vector = self.vector([place], [acquisition]).expand(self.samples, -1)
            self._cache["vector", place, acquisition] = vector
        return self._cache["vector", place, acquisition]

    def _control(self, control: ControlImage, window: Window, branch: Branch) -> Control:
        image = self._spread(cut(control.image, window.scaled(self.factor)))
        return Control(control.net, torch.zeros_like(image) if self._drops("layout", branch) else image, control.scale)

    def _spread(self, value: Tensor) -> Tensor:
        return value.expand(self.samples, *value.shape[1:])


def cut(value: Float[Tensor, "*b h w"], window: Window) -> Float[Tensor, "*b hh ww"]:
    """The part of a canvas-sized tensor under a window; zero where the window reaches outside."""
    height, width = value.shape[-2:]
    top, left = max(window.row, 0), max(window.col, 0)
    bottom, right = min(window.row + window.height, height), min(window.col + window.width, width)
    out = value.new_zeros((*value.shape[:-2], window.height, window.width))
    if bottom > top and right > left:
        rows, cols = slice(top - window.row, bottom - window.row), slice(left - window.col, right - window.col)
        out[..., rows, cols] = value[..., top:bottom, left:right]
    return out
