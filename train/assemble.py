"""Put trained parts together as a model folder: ``python -m gensat.train.assemble OUT autoencoder=DIR denoiser=DIR controlnet=DIR``.

Weights are stored in float16; the text encoder is left out and read from its package when the model is loaded. ``open=1`` states the licence of
the public-domain and CC BY part; ``vae_of=NAME`` leaves the autoencoder out where it is that of the shipped model NAME, from which it is taken then.
``OUT core=NAME lora=FILE controlnet=DIR`` makes a model of another one (a shipped name or a folder) and a LoRA on its denoiser: the core is not stored again.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn

from ..conditioning.acquisition import SCALARS, AcquisitionEncoder
from ..conditioning.place import SirenPlaceEncoder
from ..conditioning.text import load_minilm
from ..errors import InputError, ModelError
from ..hub.resolve import model_folder
from ..hub.spec import Defaults, ModelSpec, Signal, Value
from ..hub.weights import load_component, merge_lora
from ..models.autoencoder import ConvAutoencoder
from ..models.controlnet import LayoutControlNet
from ..models.denoiser import LatentDenoiser
from ..pipelines.base import ConditionedPipeline
from ..pipelines.satellite import SatellitePipeline
from .recipe import program

NON_COMMERCIAL_LICENCE = "CC BY-NC-SA 4.0"
OPEN_LICENCE = "CC BY-SA 4.0"
LORA = "lora/pytorch_lora_weights.safetensors"
_CORE = ("vae", "unet", "place_encoder", "acquisition_encoder")


class ConditionedDenoiser(nn.Module):
    """The denoiser and the encoders that are trained with it."""

    unet: LatentDenoiser
    place_encoder: SirenPlaceEncoder
    acquisition_encoder: AcquisitionEncoder

    def __init__(self, unet: LatentDenoiser, place_encoder: SirenPlaceEncoder, acquisition_encoder: AcquisitionEncoder):
        super().__init__()
        self.unet, self.place_encoder, self.acquisition_encoder = unet, place_encoder, acquisition_encoder

    def save(self, folder) -> None:
        """Each part as a diffusers folder under ``folder``."""
        for name in ("unet", "place_encoder", "acquisition_encoder"):
            getattr(self, name).save_pretrained(folder / name)


def scheduler_of(denoiser: str | Path, *, shift: float = 1.0) -> Any:
    """The scheduler that a denoiser's folder was trained for: what it says, else flow matching with ``shift``."""
    path = Path(denoiser) / "scheduler" / "scheduler_config.json"
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


def build(recipe) -> ConditionedDenoiser:
    """Fresh networks of a recipe, or those saved in the folder ``recipe["init"]``."""
    if init := recipe["init"]:
        return ConditionedDenoiser(
            LatentDenoiser.from_pretrained(init, subfolder="unet"),
            SirenPlaceEncoder.from_pretrained(init, subfolder="place_encoder"),
            AcquisitionEncoder.from_pretrained(init, subfolder="acquisition_encoder"),
        )
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


def on_core(spec: ModelSpec, core: str, pipe: ConditionedPipeline) -> ModelSpec:
    """``spec`` of a model that is another one, ``core``, but for a LoRA on its denoiser, which is to be written to its folder as ``LORA``."""
    shared = {name: core for name in (*_CORE, "controlnet") if getattr(pipe, name, None) is not None}
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


def require_same(vae: ConvAutoencoder, theirs: ConvAutoencoder, owner: str) -> None:
    """Raise ModelError where an autoencoder is not, in float16, that of the model ``owner``."""
    ours, other = ({k: v.half() for k, v in net.state_dict().items()} for net in (vae, theirs))
    if ours.keys() != other.keys() or any(not torch.equal(ours[k], other[k]) for k in ours):
        raise ModelError(f"this autoencoder is not that of {owner}; ship {owner} with it first, or leave vae_of= out")


def main(arguments: list[str]) -> None:
    """Read the parts, check that they fit by making one small image, write the folder (its README.md and LICENSE stay as they are)."""
    parts = dict(a.split("=", 1) for a in arguments[1:] if "=" in a)
    if not ({"autoencoder", "denoiser"} <= set(parts) or {"core", "lora"} <= set(parts)):
        raise InputError(
            "give OUT autoencoder=DIR denoiser=DIR [controlnet=DIR] [open=1] [vae_of=NAME], or OUT core=NAME lora=FILE [controlnet=DIR] [open=1]; "
            "see the module's first lines"
        )
    out, core, owner = Path(arguments[0]), parts.get("core"), parts.get("vae_of")
    folder = model_folder(core) if core else Path(parts["denoiser"])
    base = build({"init": folder})
    vae = load_component(folder, "vae") if core else ConvAutoencoder.from_pretrained(parts["autoencoder"])
    if owner:
        require_same(vae, load_component(model_folder(owner), "vae"), owner)
    if core:
        merge_lora(base.unet, Path(parts["lora"]))
    controlnet = (
        LayoutControlNet.from_pretrained(parts["controlnet"], subfolder="controlnet") if "controlnet" in parts else None
    )
    spec = small_spec(
        out.name,
        licence=OPEN_LICENCE if parts.get("open") else NON_COMMERCIAL_LICENCE,
        controlnet=controlnet is not None,
    )
    shared = dict.fromkeys(_CORE, core) if core else {"vae": owner} if owner else {}
    pipe = SatellitePipeline(
        vae=vae,
        unet=base.unet,
        scheduler=scheduler_of(folder, shift=float(parts.get("shift", 1.0))),
        place_encoder=base.place_encoder,
        acquisition_encoder=base.acquisition_encoder,
        controlnet=controlnet,
        spec=replace(spec, shared=shared, lora=LORA if core else None),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe("", num_inference_steps=1, seed=0, width=128, height=128)
    pipe.to(torch.float16)
    save_model(pipe, out)
    if core:
        (out / "lora").mkdir(exist_ok=True)
        shutil.copyfile(parts["lora"], out / LORA)


if __name__ == "__main__":
    program(main)
