"""ModelSpec: what a model takes and how, as the small JSON ``gensat.json`` beside its weights.

Pipelines know tasks, the spec knows models: for every signal the route to the denoiser, the order and scaling of its values, what stands for
"unknown", what the unconditional branch does with it, and how a map is brought to the canvas. Wrong-order coordinates cannot happen: a
pipeline refuses a spec whose routes, orders or scales it does not follow (``gensat.pipelines.contract``).
"""

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gensat.errors import InputError, ModelError

FILE = "gensat.json"
Route = Literal["tokens", "time_vector", "class_label", "residuals", "channels", "known_latents", "broadcast"]
Null = Literal["zero", "level0", "learned", "empty_text"]
Unconditional = Literal["dropped", "joint", "kept"]
Spatial = Literal["none", "canvas", "native", "latent", "count"]
Resampling = Literal["none", "nearest", "bilinear", "cubic", "area", "mode"]
SIGNALS = (
    "prompt",
    "place",
    "acquisition",
    "layout",
    "edges",
    "references",
    "image",
    "mask",
    "elevation",
    "water_depth",
    "gbuffers",
)


@dataclass(frozen=True)
class Value:
    """One number of a signal: the model sees ``(raw + offset) / divisor * scale`` of a raw value in ``unit``."""

    name: str
    unit: str = ""
    offset: float = 0.0
    divisor: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class Signal:
    """How one signal reaches the denoiser.

    Args:
        route: where it enters.
        values: its numbers, in the model's order (empty for text and pictures).
        range: value range of a picture, such as (0, 1) or (-1, 1).
        bands: names of a picture's channels in the model's order.
        null: what stands for "unknown".
        unconditional: "joint" is dropped with everything else, "dropped" under a guidance scale of its own, "kept" never.
        spatial: "canvas" is warped to the canvas, "native" keeps its own size, "latent" lies on the latent grid, "count" is a fixed number of frames.
        resampling: how it is brought to the canvas.
        mask_polarity: what 1 means in a mask: "generate" or "keep".
        component: the pipeline component that encodes it.
    """

    route: Route
    values: tuple[Value, ...] = ()
    range: tuple[float, float] | None = None
    bands: tuple[str, ...] = ()
    null: Null = "zero"
    unconditional: Unconditional = "joint"
    spatial: Spatial = "none"
    resampling: Resampling = "none"
    mask_polarity: Literal["generate", "keep"] | None = None
    component: str | None = None


@dataclass(frozen=True)
class Defaults:
    """What a pipeline call uses when it is not told otherwise; ``place_guidance_scale`` None means joint guidance."""

    gsd: float = 0.5
    steps: int = 20
    guidance_scale: float = 3.0
    place_guidance_scale: float | None = None
    prompt_tokens: int = 77


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model that its weights do not say.

    ``shared`` names components that the folder leaves out and the model they are taken from, such as a VAE; ``lora`` is a file of the folder that is
    merged into the denoiser when the model is loaded, so that a model can be another one's core and what it learned besides.
    ``native_size`` and ``size_limits`` (smallest, largest denoised in one piece) are image sides in pixels, ``multiple`` what sides must be
    a multiple of, ``window`` and ``window_stride`` the lattice of larger canvases in pixels; ``gsd_range`` is in metres per pixel.
    """

    name: str
    pipeline: str = "SatellitePipeline"
    version: str = "1"
    licence: str = "unknown"
    description: str = ""
    signals: Mapping[str, Signal] = field(default_factory=dict)
    bands: tuple[str, ...] = ("red", "green", "blue")
    native_size: int = 256
    size_limits: tuple[int, int] = (128, 512)
    multiple: int = 16
    window: int = 256
    window_stride: int = 128
    gsd_range: tuple[float, float] = (0.05, 60.0)
    text_encoder: Literal["saved", "minilm"] = "saved"
    shared: Mapping[str, str] = field(default_factory=dict)
    lora: str | None = None
    defaults: Defaults = field(default_factory=Defaults)

    def __post_init__(self) -> None:
        if unknown := set(self.signals) - set(SIGNALS):
            raise ModelError(
                f"model {self.name} has unknown signals {sorted(unknown)}; use some of {', '.join(SIGNALS)}"
            )
        sizes = (self.multiple, self.native_size, self.window, self.window_stride, *self.size_limits)
        if min(sizes) < 1 or self.size_limits[0] > self.size_limits[1] or self.window_stride > self.window:
            raise ModelError(f"the sizes of model {self.name} are not above 0 and in order; correct {FILE}")
        if any(size % self.multiple for size in sizes):
            raise ModelError(
                f"native size, limits, window or stride of model {self.name} are no multiples of {self.multiple}; correct {FILE}"
            )
        if not 0 < self.gsd_range[0] <= self.defaults.gsd <= self.gsd_range[1]:
            raise ModelError(
                f"the default gsd {self.defaults.gsd:g} m of model {self.name} is outside its range {self.gsd_range}; correct {FILE}"
            )

    def require(self, given: Sequence[str], able: Mapping[str, Sequence[str]] | None = None) -> None:
        """Check that the model can take the signals ``given``; ``able`` maps a signal to the models that can (for the message)."""
        for name in given:
            if name not in self.signals:
                models = [m for m in (able or {}).get(name, ()) if m != self.name]
                choice = f"use {' or '.join(models)}, or" if models else "no known model here takes it;"
                raise InputError(
                    f"model {self.name} cannot take {name}; {choice} leave it out (it takes {', '.join(self.signals)})"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> "ModelSpec":
        """Read and check plain values; raises ModelError naming the entry that is wrong."""
        return _read(cls, data, cls.__name__)

    @classmethod
    def load(cls, folder: str | Path) -> "ModelSpec":
        """Read ``gensat.json`` of a model folder; a Stable Diffusion folder without one gets the spec of its configs."""
        path = Path(folder) / FILE
        if not path.is_file():
            from gensat.hub.foreign import foreign_spec  # it makes specs, so it stands above this module

            if (spec := foreign_spec(Path(folder))) is not None:
                return spec
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{folder} holds no {FILE}; give the folder of a gensat model") from None
        except (OSError, ValueError) as error:  # unreadable, no text, or no JSON
            raise ModelError(f"{path} cannot be read ({error}); restore the file") from error
        return cls.from_dict(values)

    def save(self, folder: str | Path) -> None:
        """Write ``gensat.json`` into a model folder."""
        (Path(folder) / FILE).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of ``gensat.json``, made from the dataclasses themselves."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_schema_of_class(ModelSpec)}


def _schema_of_class(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    properties = {name: _schema_of(hint) for name, hint in hints.items()}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema_of(hint: Any) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _schema_of_class(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(h) for h in inner]}
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return {"type": "array", "items": _schema_of(inner[0])}
        return {
            "type": "array",
            "prefixItems": [_schema_of(h) for h in inner],
            "minItems": len(inner),
            "maxItems": len(inner),
        }
    if origin is not None:  # a mapping from names
        return {"type": "object", "additionalProperties": _schema_of(inner[1])}
    return {"type": {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}[hint]}


def _read(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the annotated type, or ModelError saying where it is wrong."""
    origin, inner = get_origin(hint), get_args(hint)
    wrong = ModelError(f"{FILE}: {where} is {value!r}; correct it (see gensat.hub.spec)")
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise wrong
        hints = get_type_hints(hint)
        if unknown := set(value) - set(hints):
            raise ModelError(
                f"{FILE}: {where} has unknown entries {sorted(unknown)}; the model may need a newer gensat"
            )
        try:
            return hint(**{k: _read(hints[k], v, f"{where}.{k}") for k, v in value.items()})
        except TypeError as error:
            raise ModelError(f"{FILE}: {where} is incomplete ({error}); restore the file") from error
    if origin is Literal:
        if value not in inner:
            raise ModelError(f"{FILE}: {where} is {value!r}; use one of {', '.join(map(str, inner))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _read(next(h for h in inner if h is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise wrong
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            raise wrong
        return tuple(_read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None:
        if not isinstance(value, Mapping):
            raise wrong
        return {k: _read(inner[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise wrong
    return value
