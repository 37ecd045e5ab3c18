"""Everything that can be found wrong with a request before torch is imported and a model loaded."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open

from gensat.errors import InputError, ModelError
from gensat.geo.canvas import Canvas
from gensat.geo.layout import load_layout
from gensat.geo.raster import require_file
from gensat.hub.request import check_request, make_canvas
from gensat.hub.resolve import model_folder
from gensat.hub.spec import ModelSpec
from gensat.types import Acquisition, Place

SCHEDULERS = {"euler": "noise", "ddim": "noise", "dpm": "noise", "flow": "flow"}
"""Names of ``gensat.diffusion.schedule.NAMES`` and what a model has to predict for each: noise (or v), or a flow."""

_LORA_FILE = "pytorch_lora_weights.safetensors"
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Model:
    """What a model's folder says without its weights being read.

    Args:
        folder: where it lies.
        spec: its ``gensat.json``.
        components: names of what ``model_index.json`` lists.
        scheduler: configuration of its scheduler.
        sensors: names it knows.
    """

    folder: Path
    spec: ModelSpec
    components: tuple[str, ...]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()

    @property
    def schedulers(self) -> list[str]:
        """Names of schedulers that fit what the model predicts."""
        kind = str(self.scheduler.get("prediction_type", "")) + str(self.scheduler.get("_class_name", ""))
        predicted = "flow" if "flow" in kind.lower() else "noise"
        return [name for name, needed in SCHEDULERS.items() if needed == predicted]


def inspect_model(name: str) -> Model:
    """Finds a model and reads what its folder says.

    Raises:
        ModelError: no such model, a file that is missing or damaged, or weights that are shorter than they say.
    """
    folder = model_folder(name)
    spec = ModelSpec.load(folder)
    index = _read_json(folder / "model_index.json")
    components = [k for k, v in index.items() if not k.startswith("_") and isinstance(v, list) and v[0] is not None]
    for file in sorted(folder.glob("*/*.safetensors")):
        check_safetensors(file, "restore the model folder")
    scheduler, sensors = folder / "scheduler" / "scheduler_config.json", folder / "acquisition_encoder" / "config.json"
    return Model(
        folder,
        spec,
        tuple(components),
        _read_json(scheduler) if scheduler.is_file() else {},
        tuple(_read_json(sensors).get("sensors", ())) if sensors.is_file() else (),
    )


def check_safetensors(file: Path, remedy: str) -> list[str]:
    """Names of the tensors of a file, its header and length checked.

    Raises:
        ModelError: it is no safetensors file or is truncated; the message ends with ``remedy``.
    """
    try:
        with safe_open(file, framework="np") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged ({error}); {remedy}") from error


def check_conditions(
    model: Model,
    prompt: str,
    *,
    place: Place | None = None,
    bbox: tuple[float | int, ...] | None = None,
    gsd: float | int | None = None,
    crs: str | None = None,
    width: int | None = None,
    height: int | None = None,
    acquisition: Acquisition,
    layout: Path | None = None,
    legend: str | None = None,
    edges: Path | None = None,
    controlnet_scale: float | int | None = None,
) -> Canvas:
    """The canvas of a request, its conditions checked against the model and against each other.

    Raises:
        InputError: whatever is wrong first.
    """
    canvas = make_canvas(model.spec, [], place=place, bbox=bbox, gsd=gsd, crs=crs, width=width, height=height)
    known = Acquisition(canvas.ground_gsd or gsd, acquisition.date, acquisition.cloud_cover, acquisition.sensor)
    given = {"prompt": bool(prompt), "layout": layout is not None, "edges": edges is not None}
    check_request(model.spec, canvas, known, **given, cropped=bbox is not None)
    if acquisition.sensor and "acquisition_encoder" in model.components and acquisition.sensor not in model.sensors:
        choice = f"use one of {', '.join(model.sensors)}, or leave it out" if model.sensors else "leave it out"
        raise InputError(f"model {model.spec.name} does not know the sensor {acquisition.sensor!r}; {choice}")
    if layout is None and legend is not None:
        raise InputError(f"legend {legend!r} came without a layout; add --layout FILE, or leave it out")
    if layout is None and edges is None and controlnet_scale is not None:
        raise InputError("--controlnet-scale came without a layout or edges; add one, or leave it out")
    _require_number("--controlnet-scale", controlnet_scale, 0, 10)
    if layout is not None:
        load_layout(layout, canvas, legend=legend)
    if edges is not None:
        _check_edges(edges, canvas)
    return canvas


def check_sampling(
    model: Model,
    *,
    steps: int | None,
    guidance: float | int | None,
    place_guidance: float | int | None,
    scheduler: str | None,
) -> None:
    """Checks how the model is to be run; raises InputError."""
    if steps is not None and not 1 <= steps <= 1000:
        raise InputError(f"{steps} steps are not possible; give 1 to 1000, here {model.spec.defaults.steps} are usual")
    _require_number("--guidance", guidance, 0, 100)
    _require_number("--place-guidance", place_guidance, 0, 100)
    if scheduler is not None and scheduler not in model.schedulers:
        reason = "does not fit what it predicts" if scheduler in SCHEDULERS else "is not known"
        raise InputError(
            f"scheduler {scheduler!r} {reason}; for model {model.spec.name} use {' or '.join(model.schedulers)}"
        )


def check_lora(path: Path) -> Path:
    """The safetensors file of a LoRA, given as the file or as the folder that holds it; raises InputError."""
    file = path / _LORA_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"LoRA {file} does not exist; give a .safetensors file, or a folder with {_LORA_FILE}")
    if file.suffix != ".safetensors":
        raise InputError(f"LoRA {file.name} is no .safetensors file; save it as one, other formats can run code")
    if not any("lora" in name.lower() for name in check_safetensors(file, "get the file again")):
        raise InputError(f"{file} holds no LoRA tensors; give a file that save_lora_weights wrote")
    return file


def choose_seeds(seed: int | None, count: int) -> list[int]:
    """Seeds of ``count`` images: seed, seed + 1, ...; a random first one when None. Raises InputError."""
    if not 1 <= count <= 1_000_000:
        raise InputError(f"--count is {count}; give 1 or more")
    first = secrets.randbelow(2**31) if seed is None else seed
    if not 0 <= first <= _MAX_SEED - count:
        raise InputError(f"seed {first} is outside 0 to {_MAX_SEED - count}; give a whole number in it")
    return [first + i for i in range(count)]


def _check_edges(path: Path, canvas: Canvas) -> None:
    require_file(path)
    try:
        with Image.open(path) as picture:
            picture.load()
            size = picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"edges {path} cannot be read ({error}); give a PNG, JPEG or TIFF picture") from error
    if size != (canvas.width, canvas.height):
        raise InputError(
            f"edges {path.name} are {size[0]} x {size[1]} pixels and the canvas {canvas.width} x {canvas.height}; "
            "resize them, or draw them at the size of the canvas"
        )


def _require_number(name: str, value: float | int | None, low: float | int, high: float | int) -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} is {value:g}; give {low:g} to {high:g}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("no object")
        return values
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); restore the model folder") from error
