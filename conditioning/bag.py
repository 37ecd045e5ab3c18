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
from ..diffusion.inputs import Control, DenoiserInputs, Residuals
from ..diffusion.windows import Window
from ..errors import ModelError
from ..hub.spec import ModelSpec
from ..types import Acquisition, Place

# prompt of a window, given the place of its centre (None on a canvas without coordinates)
PromptMap = Callable[[Place | None], str]
TextEncode = Callable[[Sequence[str]], tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]]
# places (one per sample, None = unknown) and acquisitions to what is added to the time embedding
VectorEncode = Callable[[Sequence[Place | None], Sequence[Acquisition]], Float[Tensor, "b v"]]


@dataclass
class ControlImage:
    """A control picture of the canvas in the ControlNet's own channels and range, (b or 1, frames, c, H, W), and its strength.

    ``signal`` is the one whose policy in the spec says whether a guidance branch sees it.
    """

    net: nn.Module
    image: Float[Tensor, "b t c h w"]
    scale: float | int = 1.0
    signal: str = "layout"


@dataclass
class ConditionBag:
    """Conditions of ``samples`` images on one canvas.

    Args:
        spec: the model's; it says what each guidance branch drops. A signal that it does not name is dropped by the unconditional branch.
        samples: images in the batch.
        factor: pixels per latent cell.
        prompts: one per sample, or a function of a window's place; empty for no words.
        negative: one per sample: the text of the unconditional branch; empty for no words.
        place_of: the place of a window's centre (a window is in latent cells), None where unknown.
        acquisition: of all samples.
        text, vector: encoders; None where the model has none.
        controls: control pictures over the canvas; outside of it they are zero, which means unknown.
        channels: extra input channels on the latent grid of the canvas (b or 1, c, h, w); zero outside, and where they are dropped.
        class_label: (b,) labels; ``null_label`` is what a branch that drops them gets instead.
        broadcast: vectors for the decoder; ``null_broadcast`` is what a branch that drops them gets instead.
        wrap: columns of the canvas go round (a panorama).

    Raises:
        ModelError: labels or vectors that guidance may drop came without their null.
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
    broadcast: Residuals | None = None
    null_broadcast: Residuals | None = None
    wrap: bool = False

    def __post_init__(self) -> None:
        self._cache: dict = {}
        for route, value, null in (
            ("class_label", self.class_label, self.null_label),
            ("broadcast", self.broadcast, self.null_broadcast),
        ):
            if value is not None and null is None and self._drops_route(route, Branch.UNCONDITIONAL):
                raise ModelError(
                    f"model {self.spec.name} drops its {route} under guidance, but has no value for unknown; "
                    "give one, or set the signal to kept in the spec"
                )

    def inputs(self, window: Window, branch: Branch) -> DenoiserInputs:
        """Conditions of the window's footprint, with what ``branch`` drops replaced by its null."""
        place = self._place(window)
        tokens, mask = self._tokens(place, branch) if self.text else (None, None)
        return DenoiserInputs(
            tokens=tokens,
            token_mask=mask,
            time_vector=self._vector(place, branch) if self.vector else None,
            class_label=self.null_label if self._drops_route("class_label", branch) else self.class_label,
            channels=self._channels(window, branch),
            controls=tuple(self._control(c, window, branch) for c in self.controls),
            broadcast=self.null_broadcast if self._drops_route("broadcast", branch) else self.broadcast,
        )

    def _drops(self, signal: str, branch: Branch) -> bool:
        """Whether a branch replaces a signal by its null."""
        if signal not in self.spec.signals:
            return branch is Branch.UNCONDITIONAL
        policy = self.spec.signals[signal].unconditional
        if branch is Branch.UNCONDITIONAL:
            return policy != "kept"
        return branch is Branch.TEXT and policy == "dropped"

    def _drops_route(self, route: str, branch: Branch) -> bool:
        """Whether a branch drops what enters by a route: any signal of that route, as they share one value."""
        signals = [name for name, signal in self.spec.signals.items() if signal.route == route]
        return any(self._drops(name, branch) for name in signals) if signals else branch is Branch.UNCONDITIONAL

    def _place(self, window: Window) -> Place | None:
        if ("place", window) not in self._cache:
            self._cache["place", window] = self.place_of(window)
        return self._cache["place", window]

    def _tokens(self, place: Place | None, branch: Branch) -> tuple[Tensor, Tensor]:
        words: Sequence[str]
        if self._drops("prompt", branch):
            words = self.negative
        elif callable(self.prompts):
            words = (self.prompts(place),) * self.samples
        else:
            words = self.prompts
        key = ("text", tuple(words) or ("",) * self.samples)
        if key not in self._cache:
            assert self.text is not None  # asked only where there is an encoder
            self._cache[key] = self.text(key[1])
        return self._cache[key]

    def _vector(self, place: Place | None, branch: Branch) -> Tensor:
        place = None if self._drops("place", branch) else place
        acquisition = Acquisition() if self._drops("acquisition", branch) else self.acquisition
        key = ("vector", place, acquisition)
        if key not in self._cache:
            assert self.vector is not None  # asked only where there is an encoder
            self._cache[key] = self.vector([place], [acquisition]).expand(self.samples, -1)
        return self._cache[key]

    def _channels(self, window: Window, branch: Branch) -> Tensor | None:
        if self.channels is None:
            return None
        part = self._spread(cut(self.channels, window, wrap=self.wrap))
        return torch.zeros_like(part) if self._drops_route("channels", branch) else part

    def _control(self, control: ControlImage, window: Window, branch: Branch) -> Control:
        image = self._spread(cut(control.image, window.scaled(self.factor), wrap=self.wrap))
        dropped = self._drops(control.signal, branch)
        return Control(control.net, torch.zeros_like(image) if dropped else image, control.scale)

    def _spread(self, value: Tensor) -> Tensor:
        return value.expand(self.samples, *value.shape[1:])


def cut(value: Float[Tensor, "*b h w"], window: Window, *, wrap: bool = False) -> Float[Tensor, "*b hh ww"]:
    """The part of a canvas-sized tensor under a window; zero where the window reaches outside, unless its columns ``wrap``."""
    canvas = Window(0, 0, value.shape[-2], value.shape[-1])
    if wrap:
        value = value[..., torch.arange(window.col, window.col + window.width) % canvas.width]
        canvas = Window(0, window.col, canvas.height, window.width)
    inner = window.clipped(canvas)
    out = value.new_zeros((*value.shape[:-2], window.height, window.width))
    if inner.height and inner.width:
        to_rows, to_cols = inner.within(window)
        rows, cols = inner.within(canvas)
        out[..., to_rows, to_cols] = value[..., rows, cols]
    return out
