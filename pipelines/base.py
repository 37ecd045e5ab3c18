"""What the pipelines of gensat share: their components, the spec, saving and loading, and conditions for the loop."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from torch import Tensor, nn

from ..conditioning.bag import ConditionBag, ControlImage, PromptMap
from ..conditioning.edges import load_edges
from ..conditioning.layout import encode_layout
from ..conditioning.place import place_arrays
from ..conditioning.text import encode_text, load_minilm
from ..diffusion.codec import Codec
from ..diffusion.windows import Window
from ..errors import InputError
from ..geo.canvas import Canvas
from ..geo.layout import load_layout
from ..hub.resolve import model_folder
from ..hub.spec import ModelSpec
from ..hub.weights import check_weights, import_components, load_component
from ..types import Acquisition, Place
from .contract import FED, require_honoured


class ConditionedPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Latent diffusion under conditions; everything about the model that its weights do not say is in ``spec``.

    Components: ``vae``, ``unet`` (any denoiser), ``scheduler``; optional ``text_encoder`` with ``tokenizer``, ``place_encoder``,
    ``acquisition_encoder``, ``controlnet``.
    """

    model_cpu_offload_seq = "text_encoder->place_encoder->acquisition_encoder->controlnet->unet->vae"
    _optional_components = ["text_encoder", "tokenizer", "place_encoder", "acquisition_encoder", "controlnet"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        vae: nn.Module,
        unet: nn.Module,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        place_encoder: nn.Module | None = None,
        acquisition_encoder: nn.Module | None = None,
        controlnet: nn.Module | None = None,
        spec: ModelSpec | None = None,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            place_encoder=place_encoder,
            acquisition_encoder=acquisition_encoder,
            controlnet=controlnet,
        )
        self.spec = require_honoured(spec or ModelSpec(name="unnamed"), acquisition_encoder)
        self.folder: Path | None = None
        self._interrupt = False
        self._num_timesteps = 0

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "ConditionedPipeline":
        """Load a model folder, or a hub id that is cached (``local_files_only=False`` fetches it); only safetensors are read.

        The spec comes from its ``gensat.json``, a text encoder that it leaves out from the package that the spec names.
        Raises ModelError for weights that do not fit the networks.
        """
        folder = model_folder(pretrained_model_name_or_path, download=not kwargs.pop("local_files_only", True))
        spec = kwargs.pop("spec", None) or ModelSpec.load(folder)
        import_components(folder)
        if spec.text_encoder == "minilm" and not (folder / "text_encoder").is_dir() and "text_encoder" not in kwargs:
            kwargs["text_encoder"], kwargs["tokenizer"] = load_minilm()
            if kwargs.get("torch_dtype") is not None:
                kwargs["text_encoder"] = kwargs["text_encoder"].to(kwargs["torch_dtype"])
        for name in spec.shared:
            if not (folder / name).is_dir() and name not in kwargs:
                kwargs[name] = load_component(folder, name, kwargs.get("torch_dtype"), spec=spec)
        given = set(kwargs)
        pipe = super().from_pretrained(str(folder), **{"use_safetensors": True, **kwargs})
        for name, module in pipe.components.items():
            if name not in given:
                check_weights(folder / name, module)
        pipe.spec, pipe.folder = require_honoured(spec, getattr(pipe, "acquisition_encoder", None)), folder
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> "ConditionedPipeline":
        """A pipeline of this class on the components and the spec of another, each replaced where a keyword says so."""
        # diffusers' own matches components by their exact annotated class, which "any denoiser" is not
        dtype = kwargs.pop("torch_dtype", None)
        shared = {name: module for name, module in pipeline.components.items() if name in cls._component_names()}
        pipe = cls(**{**shared, "spec": getattr(pipeline, "spec", None), **kwargs})
        pipe.folder = getattr(pipeline, "folder", None)
        return pipe if dtype is None else pipe.to(dtype)

    @classmethod
    def _component_names(cls) -> set[str]:
        return set(inspect.signature(cls.__init__).parameters) - {"self", "spec"}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save every component, the text encoder included, and the spec: the folder stands alone."""
        super().save_pretrained(save_directory, **kwargs)
        replace(self.spec, lora=None).save(save_directory)  # its denoiser has it already

    @property
    def codec(self) -> Codec:
        """The VAE as the loop uses it."""
        return Codec(self.vae)

    @property
    def interrupt(self) -> bool:
        """Set ``_interrupt`` in a callback to stop after the current step, as in diffusers."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Evaluations of the schedule in the current call, as in diffusers."""
        return self._num_timesteps

    def _takes(self, signal: str) -> bool:
        """Whether the model knows the signal and the component that encodes it is loaded."""
        return signal in self.spec.signals and getattr(self, FED[signal][1], None) is not None

    def _require_components(self, given: Mapping[str, bool]) -> None:
        """Refuse conditions whose encoder was left out when the pipeline was loaded."""
        for signal, wanted in given.items():
            if wanted and not self._takes(signal):
                raise InputError(
                    f"this pipeline was loaded without its {FED[signal][1]}, which {signal} needs; load it, or leave {signal} out"
                )

    def _controls(
        self,
        made: Canvas,
        asked: Canvas,
        layout: Any,
        legend: Any,
        edges: Any,
        scale: float | int,
        notes: list[str],
    ) -> tuple[list[ControlImage], float | None]:
        """The control picture of layout and edges, and the share of the canvas that the layout covers."""
        if legend is not None and layout is None:
            raise InputError("a legend came without a layout; give the layout that it belongs to")
        if layout is None and edges is None:
            return [], None
        if not 0 <= scale <= 10:
            raise InputError(f"controlnet_conditioning_scale is {scale}; give 0 to 10, 1 is as trained")
        classes = np.zeros((asked.height, asked.width), np.uint8)
        coverage = None
        if layout is not None:
            plan = load_layout(layout, asked, legend=legend)
            classes, coverage = plan.class_map, plan.coverage
            notes += plan.notes
        lines = None if edges is None else load_edges(edges, width=asked.width, height=asked.height)
        pad = (0, made.width - asked.width, 0, made.height - asked.height)
        control = nn.functional.pad(encode_layout(torch.from_numpy(classes).long(), lines), pad)
        return [ControlImage(self.controlnet, control[:, None].to(self._execution_device), scale)], coverage

    def _bag(
        self,
        canvas: Canvas,
        centre: Place | None,
        prompts: list[str] | PromptMap,
        negative: list[str],
        acquisition: Acquisition,
        controls: list[ControlImage],
        tell_place: bool,
    ) -> ConditionBag:
        factor = self.codec.factor
        whole = Window(0, 0, canvas.height // factor, canvas.width // factor)

        def place_of(window: Window) -> Place | None:
            if centre is None or not tell_place:
                return None
            if window == whole:
                return centre
            rows, cols = window.row + window.height / 2, window.col + window.width / 2
            lon, lat = (float(degrees) for degrees in canvas.places(rows * factor, cols * factor))
            return Place(lon, lat) if np.isfinite([lon, lat]).all() else None  # beyond the edge of the projection

        def text(words: Sequence[str]) -> tuple[Tensor, Tensor]:
            return encode_text(self.text_encoder, self.tokenizer, words, max_length=self.spec.defaults.prompt_tokens)

        def vector(places: Sequence[Place | None], acquisitions: Sequence[Acquisition]) -> Tensor:
            parts = []
            if self.place_encoder is not None:
                parts.append(self.place_encoder(*place_arrays(places)))
            if self.acquisition_encoder is not None:
                parts.append(self.acquisition_encoder(*self.acquisition_encoder.arrays(acquisitions)))
            return sum(parts[1:], parts[0])

        has_vector = self.place_encoder is not None or self.acquisition_encoder is not None
        return ConditionBag(
            self.spec,
            len(negative),
            factor,
            prompts=prompts,
            negative=negative,
            place_of=place_of,
            acquisition=acquisition,
            text=text if self.text_encoder is not None else None,
            vector=vector if has_vector else None,
            controls=controls,
        )

    def _on_step(self, callback: Any, wanted: set[str], notes: list[str]) -> Callable[[int, Tensor, Tensor], Any]:
        """The loop's callback: progress bar, the user's callback, and a note when it stopped early."""
        self._interrupt = False
        bar = self.progress_bar(total=self._num_timesteps)

        def on_step(i: int, t: Tensor, x: Tensor) -> Tensor | None:
            bar.update()
            changed = callback(self, i, t, {"latents": x} if wanted else {}) if callback is not None else None
            if self._interrupt:
                notes.append(f"interrupted after step {i + 1} of {self._num_timesteps}: the image is not finished")
            if self._interrupt or i + 1 == self._num_timesteps:
                bar.close()
            latents = (changed or {}).get("latents", x)
            return None if latents is x else latents

        return on_step
