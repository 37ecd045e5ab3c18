"""What a fine-tuning changes of a model, and what it writes: a LoRA, the whole denoiser, or a ControlNet for layouts."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel, UNet2DConditionModel
from omegaconf import DictConfig
from torch import Tensor, nn

from ..conditioning.layout import LAYOUT_CHANNELS
from ..diffusion.adapters import adapt
from ..diffusion.inputs import Control, DenoiserInputs
from ..errors import ModelError
from ..hub.spec import ModelSpec
from ..models.controlnet import LayoutControlNet
from ..models.denoiser import LatentDenoiser
from .assemble import control_signals, save_model
from .lora import add_lora, save_lora

NETWORKS = ("unet", "place_encoder", "acquisition_encoder", "controlnet")


class Tuned(nn.Module, ABC):
    """The networks of a pipeline that a prediction goes through; what of them is trained has ``requires_grad``.

    Args:
        pipe: a pipeline of gensat; everything in it is frozen first.
    """

    def __init__(self, pipe: Any):
        super().__init__()
        self.pipe_of = lambda: pipe  # a module must not register the pipeline's other parts
        for module in pipe.components.values():
            if isinstance(module, nn.Module):
                module.requires_grad_(False)
        self.prepare(pipe)
        self.nets = nn.ModuleDict({n: m for n in NETWORKS if isinstance(m := getattr(pipe, n, None), nn.Module)})
        self.denoiser = adapt(pipe.unet)

    @abstractmethod
    def prepare(self, pipe: Any) -> None:
        """Thaw, or add, what is trained."""

    def train(self, mode: bool = True) -> "Tuned":
        """Training mode for what is trained; a frozen network stays as it is used."""
        self.training = mode
        for net in self.nets.values():
            net.train(mode and any(p.requires_grad for p in net.parameters()))
        return self

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """The prediction for a batch of ``tuning.EpochDraw``, through the same adapter as when images are made."""
        vectors = []
        if "place_encoder" in self.nets:
            vectors.append(self.nets["place_encoder"](*batch["place"]))
        if "acquisition_encoder" in self.nets:
            vectors.append(self.nets["acquisition_encoder"](*batch["acquisition"]))
        controls: tuple[Control, ...] = ()
        if "control" in batch:
            controls = (Control(self.nets["controlnet"], batch["control"][:, None]),)
        inputs = DenoiserInputs(
            tokens=batch["tokens"],
            token_mask=batch["mask"],
            time_vector=sum(vectors[1:], vectors[0]) if vectors else None,
            controls=controls,
        )
        return self.denoiser(batch["x"], batch["t"], inputs)

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write a whole model folder."""
        save_model(self.pipe_of(), folder, spec)


class Lora(Tuned):
    """Low-rank updates of some layers (``lora``)."""

    def __init__(self, pipe: Any, recipe: DictConfig):
        self.settings = recipe.lora
        super().__init__(pipe)

    def prepare(self, pipe: Any) -> None:
        """Add the adapter."""
        add_lora(pipe.unet, self.settings)

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write ``pytorch_lora_weights.safetensors``."""
        save_lora(self.pipe_of().unet, folder)


class Full(Tuned):
    """All of the denoiser, and the encoders of place and acquisition."""

    def __init__(self, pipe: Any, recipe: DictConfig):
        super().__init__(pipe)

    def prepare(self, pipe: Any) -> None:
        """Thaw them."""
        for name in ("unet", "place_encoder", "acquisition_encoder"):
            if isinstance(module := getattr(pipe, name, None), nn.Module):
                module.requires_grad_(True)


class Layout(Tuned):
    """A ControlNet for layouts and edges (Zhang et al. 2023): the model's own where it has one, else a new one from its denoiser."""

    def __init__(self, pipe: Any, recipe: DictConfig):
        self.depth = int(recipe.get("depth") or 1)
        super().__init__(pipe)

    def prepare(self, pipe: Any) -> None:
        """Add or thaw the ControlNet."""
        if pipe.controlnet is None:
            pipe.register_modules(controlnet=new_controlnet(pipe.unet, depth=self.depth).to(pipe.unet.device))
        pipe.controlnet.requires_grad_(True)

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write a whole model folder whose spec takes layouts and edges."""
        super().save(folder, replace(spec, signals={**spec.signals, **control_signals()}))


METHODS: dict[str, Any] = {"lora": Lora, "full": Full, "controlnet": Layout}


def new_controlnet(unet: nn.Module, *, depth: int = 1) -> nn.Module:
    """A ControlNet that changes nothing yet, for the 13 channels of ``conditioning.layout``.

    Raises ModelError for a network that none is known for.
    """
    channels = len(LAYOUT_CHANNELS)
    if isinstance(unet, LatentDenoiser):
        return LayoutControlNet.from_denoiser(unet, control_channels=channels, depth=depth)
    if isinstance(unet, UNet2DConditionModel):
        return ControlNetModel.from_unet(unet, conditioning_channels=channels)
    raise ModelError(f"there is no ControlNet for a {type(unet).__name__}; use a U-Net of diffusers or gensat-small")


def result_spec(spec: ModelSpec, name: str, method: str) -> ModelSpec:
    """The spec of a fine-tuned model."""
    return replace(spec, name=name, description=f"{spec.name}, {method} fine-tuning; {spec.description}".strip("; "))


def student_spec(spec: ModelSpec, name: str, steps: int) -> ModelSpec:
    """The spec of a model that makes in ``steps`` steps without guidance what another one makes with both."""
    words = f"{spec.name} in {steps} steps without guidance; {spec.description}".strip("; ")
    defaults = replace(spec.defaults, steps=steps, guidance_scale=1.0, place_guidance_scale=None)
    return replace(spec, name=name, description=words, defaults=defaults)
