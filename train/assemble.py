"""Put trained parts together as a model folder: ``python -m gensat.train.assemble OUT autoencoder=DIR denoiser=DIR controlnet=DIR``.

Weights are stored in float16; the text encoder is left out and read from its package when the model is loaded. ``open=1`` states the licence of
the public-domain and CC BY part.
``OUT core=NAME lora=DIR [controlnet=DIR]`` makes a model of another one (a shipped name or a folder) and a LoRA on its denoiser: the core is not stored
again. ``lora`` is a file, or the folder of ``gensat train denoiser core=NAME``, from which the encoders are then taken too.
"""

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn

from ..conditioning.acquisition import SCALARS, AcquisitionEncoder
from ..conditioning.place import SirenPlaceEncoder
from ..conditioning.text import load_minilm
from ..errors import InputError
from ..hub.load import load
from ..hub.resolve import model_folder, shipped
from ..hub.spec import Defaults, ModelSpec, Signal, Value
from ..hub.weights import load_component, merge_lora
from ..models.autoencoder import ConvAutoencoder
from ..models.controlnet import LayoutControlNet
from ..models.denoiser import LatentDenoiser
from ..pipelines.base import ConditionedPipeline
from ..pipelines.satellite import SatellitePipeline
from .lora import LORA, add_lora, go_on, save_lora
from .recipe import program

NON_COMMERCIAL_LICENCE = "CC BY-NC-SA 4.0"
OPEN_LICENCE = "CC BY-SA 4.0"
_ENCODERS = ("place_encoder", "acquisition_encoder")


class ConditionedDenoiser(nn.Module):
    """The denoiser and the encoders that are trained with it."""

    unet: LatentDenoiser
    place_encoder: SirenPlaceEncoder
    acquisition_encoder: AcquisitionEncoder

    def __init__(self, unet: LatentDenoiser, place_encoder: SirenPlaceEncoder, acquisition_encoder: AcquisitionEncoder):
        super().__init__()
        self.unet, self.place_encoder, self.acquisition_encoder = unet, place_encoder, acquisition_encoder

    def save(self, folder: Path) -> None:
        """Each part as a diffusers folder under ``folder``; a LoRA is merged for that, and kept beside them as ``LORA``."""
        unet = self.unet
        if hasattr(unet, "peft_config"):
            save_lora(unet, (folder / LORA).parent, half=True)
            unet = deepcopy(unet)
            unet.fuse_lora()
            unet.unload_lora()
        unet.save_pretrained(folder / "unet")
        for name in _ENCODERS:
            getattr(self, name).save_pretrained(folder / name)


def scheduler_of(denoiser: str | Path, *, shift: float = 1.0) -> Any:
    """The scheduler that a denoiser (a training's folder, or a model's name or folder) was trained for: what it says, else flow matching with ``shift``."""
    path = _folder(denoiser) / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    config = json.loads(path.read_text(encoding="utf-8"))
    kinds = {kind.__name__: kind for kind in (FlowMatchEulerDiscreteScheduler, DDIMScheduler)}
    if config.get("_class_name") not in kinds:
        raise InputError(f"{path} says {config.get('_class_name')}; it is one of {', '.join(kinds)}")
    return kinds[config["_class_name"]].from_config(config)


def save_scheduler(scheduler: Any, folder: Path) -> None:
    """As ``scheduler_of`` reads it; nothing for plain flow matching, which is what a folder without one means."""
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler.save_pretrained(folder / "scheduler")


def load_denoiser(name: str | Path) -> ConditionedDenoiser:
    """The networks of a model (a shipped name or its folder), or those that a training saved in a folder."""
    parts = {"unet": LatentDenoiser, "place_encoder": SirenPlaceEncoder, "acquisition_encoder": AcquisitionEncoder}
    folder = _folder(name)
    if (folder / "model_index.json").is_file():
        return ConditionedDenoiser(*(load_component(folder, part) for part in parts))
    return ConditionedDenoiser(*(kind.from_pretrained(folder, subfolder=part) for part, kind in parts.items()))


def _folder(name: str | Path) -> Path:
    """Of a training's result, which is no model yet, or of a model."""
    return Path(name) if Path(name).is_dir() and str(name) not in shipped() else model_folder(name)


def build(recipe: Any) -> ConditionedDenoiser:
    """Fresh networks of a recipe, those of ``recipe.init``, or those of ``recipe.core`` with a LoRA, which goes on from ``recipe.init``."""
    if recipe.core:
        base = load_denoiser(recipe.core)
        add_lora(base.unet, recipe.lora)
        if recipe.init:
            go_on(base.unet, Path(recipe.init))
            earlier = load_denoiser(recipe.init)
            base.place_encoder, base.acquisition_encoder = earlier.place_encoder, earlier.acquisition_encoder
        return base
    if recipe.init:
        return load_denoiser(recipe.init)
    return ConditionedDenoiser(
        LatentDenoiser(**recipe.model),
        SirenPlaceEncoder(**recipe.place),
        AcquisitionEncoder(**{**recipe.acquisition, "sensors": list(recipe.acquisition.sensors)}),
    )


def small_spec(name: str, *, licence: str, controlnet: bool) -> ModelSpec:
    """The spec of the default model."""
    units = {"gsd": "m", "cloud_cover": "fraction"}
    scalars = [Value(str(s["name"]), units.get(str(s["name"]), "")) for s in SCALARS]
    acquisition = (*scalars, Value("sensor", "name"))
    lonlat = (Value("lon", "degrees"), Value("lat", "degrees"))
    signals = {
        "prompt": Signal("tokens", null="empty_text", component="text_encoder"),
        "place": Signal(
            "time_vector", values=lonlat, null="learned", unconditional="dropped", component="place_encoder"
        ),
        "acquisition": Signal("time_vector", values=acquisition, null="learned", component="acquisition_encoder"),
    }
    if controlnet:
        signals |= control_signals()
    return ModelSpec(
        name=name,
        licence=licence,
        description="the default model: 0.1 to 30 m, 128 to 512 px in one piece, larger in windows",
        signals=signals,
        native_size=256,
        size_limits=(128, 512),
        multiple=16,
        window=256,
        window_stride=128,
        gsd_range=(0.05, 60.0),
        text_encoder="minilm",
        defaults=Defaults(gsd=0.5, steps=20, guidance_scale=3.0, prompt_tokens=24),
    )


def control_signals() -> dict[str, Signal]:
    """What a ControlNet of ``conditioning.layout``'s channels takes; guidance amplifies it with the words."""
    edges = Signal("residuals", range=(0.0, 1.0), spatial="canvas", component="controlnet")
    return {"layout": replace(edges, resampling="mode"), "edges": edges}


def forget_origin(folder: Path) -> None:
    """Remove the folder each part came from, a path of this machine, from the configs that diffusers wrote."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")


def save_model(pipe: ConditionedPipeline, folder: Path, spec: ModelSpec | None = None) -> None:
    """Save a pipeline as the model that ``spec`` (or its own) describes: without a text encoder that is read from its package, and without what is another model's."""
    spec = spec or pipe.spec
    left_out = ("text_encoder", "tokenizer") if spec.text_encoder == "minilm" else ()
    parts: dict[str, Any] = {name: None if name in left_out else part for name, part in pipe.components.items()}
    type(pipe)(**parts, spec=spec).save_pretrained(folder)
    for name in spec.shared:
        shutil.rmtree(folder / name)
    forget_origin(folder)
    spec.save(folder)  # save_pretrained forgets a LoRA, for it writes merged weights; here those are another model's


def on_core(spec: ModelSpec, core: str, pipe: ConditionedPipeline, *, own: Sequence[str] = ()) -> ModelSpec:
    """``spec`` of a model that is another one, ``core``, but for what is its ``own`` and a LoRA on its denoiser, to be written to its folder as ``LORA``."""
    parts = ("vae", "unet", *_ENCODERS, "controlnet")
    shared = {name: core for name in parts if getattr(pipe, name, None) is not None and name not in own}
    return replace(spec, shared=shared, lora=LORA)


def make_pipeline(
    name: str,
    vae: ConvAutoencoder,
    base: ConditionedDenoiser,
    controlnet: LayoutControlNet | None = None,
    *,
    licence: str,
    scheduler: Any = None,
) -> SatellitePipeline:
    """The default model of its parts, with the text encoder of its package."""
    text_encoder, tokenizer = load_minilm()
    return SatellitePipeline(
        vae=vae,
        unet=base.unet,
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        place_encoder=base.place_encoder,
        acquisition_encoder=base.acquisition_encoder,
        controlnet=controlnet,
        spec=small_spec(name, licence=licence, controlnet=controlnet is not None),
    )


def main(arguments: list[str]) -> None:
    """Read the parts, check that they fit by making one small image, write the folder (its README.md and LICENSE stay as they are)."""
    parts = dict(a.split("=", 1) for a in arguments[1:] if "=" in a)
    if not ({"autoencoder", "denoiser"} <= set(parts) or {"core", "lora"} <= set(parts)):
        raise InputError(
            "give OUT autoencoder=DIR denoiser=DIR [controlnet=DIR] [open=1], or OUT core=NAME lora=DIR [controlnet=DIR] [open=1]; "
            "see the module's first lines"
        )
    out, core = Path(arguments[0]), parts.get("core")
    open_ = OPEN_LICENCE if parts.get("open") else NON_COMMERCIAL_LICENCE
    if core:
        _on_core(out, core, Path(parts["lora"]), parts.get("controlnet"), licence=open_)
        return
    base = load_denoiser(parts["denoiser"])
    pipe = make_pipeline(
        out.name,
        ConvAutoencoder.from_pretrained(parts["autoencoder"]),
        base,
        _controlnet(folder, base.unet) if (folder := parts.get("controlnet")) else None,
        licence=open_,
        scheduler=scheduler_of(parts["denoiser"], shift=float(parts.get("shift", 1.0))),
    )
    _tried(pipe)
    save_model(pipe, out)


def _on_core(out: Path, core: str, lora: Path, controlnet: str | None, *, licence: str) -> None:
    folder = model_folder(core)
    pipe: Any = load(folder, dtype="float32")
    own = ["controlnet"] if controlnet else []
    file = lora
    if lora.is_dir():
        base, file, own = load_denoiser(lora), lora / LORA, [*own, *_ENCODERS]
        pipe.register_modules(place_encoder=base.place_encoder, acquisition_encoder=base.acquisition_encoder)
    merge_lora(pipe.unet, file)
    if controlnet:
        pipe.register_modules(controlnet=_controlnet(controlnet, pipe.unet))
    _tried(pipe)
    spec = small_spec(out.name, licence=licence, controlnet=pipe.controlnet is not None)
    beside = folder.resolve().parent == out.resolve().parent  # then the two stay together wherever they are taken
    save_model(pipe, out, on_core(spec, folder.name if beside else core, pipe, own=own))
    (out / LORA).parent.mkdir(exist_ok=True)
    shutil.copyfile(file, out / LORA)


def _controlnet(folder: str, unet: LatentDenoiser) -> LayoutControlNet:
    made = LayoutControlNet.from_pretrained(folder, subfolder="controlnet")
    made.check_fits(unet)
    return made


def _tried(pipe: Any) -> None:
    """Make a small image, so that parts that do not fit are found now; then halve the weights' precision."""
    pipe.set_progress_bar_config(disable=True)
    pipe("", num_inference_steps=1, seed=0, width=128, height=128)
    pipe.to(torch.float16)


if __name__ == "__main__":
    program(main)
