"""What the pipelines here do with a ModelSpec, checked when a model is loaded: a spec that asks for anything else is refused, never half obeyed."""

from typing import Any

from ..errors import ModelError
from ..hub.spec import ModelSpec, Signal, Value

FED = {  # signal: its route, and the component that encodes it
    "prompt": ("tokens", "text_encoder"),
    "place": ("time_vector", "place_encoder"),
    "acquisition": ("time_vector", "acquisition_encoder"),
    "layout": ("residuals", "controlnet"),
    "edges": ("residuals", "controlnet"),
    "water_depth": ("residuals", "controlnet"),
}
PLACE = ("lon", "lat")  # degrees, as conditioning.place takes them


def require_honoured(spec: ModelSpec, acquisition_encoder: Any = None) -> ModelSpec:
    """The spec itself; ModelError naming the first entry that the pipelines here would not follow.

    Signals without an entry in ``FED`` are left to pipelines that know them: here they cannot be given.
    """
    for name, (route, component) in FED.items():
        if name not in spec.signals:
            continue
        signal = spec.signals[name]
        if signal.route != route:
            raise _unable(spec, name, f"by the route {signal.route!r}", route)
        if signal.component not in (None, component):
            raise _unable(spec, name, f"encoded by {signal.component}", component)
        if signal.range not in (None, (0.0, 1.0)):
            raise _unable(spec, name, f"in the range {signal.range}", "0 to 1")
        order = PLACE if name == "place" else None
        if name == "acquisition" and acquisition_encoder is not None:
            order = (*acquisition_encoder.scalar_names, "sensor")
        if order is not None and not _in_order(signal, order):
            raise _unable(spec, name, f"as {', '.join(v.name for v in signal.values)}", f"{', '.join(order)}, unscaled")
    return spec


def _in_order(signal: Signal, order: tuple[str, ...]) -> bool:
    """Whether the values are those of the encoder, which scales by itself."""
    plain = all(v == Value(v.name, v.unit) for v in signal.values)
    return not signal.values or (plain and tuple(v.name for v in signal.values) == order)


def _unable(spec: ModelSpec, name: str, wanted: str, given: str) -> ModelError:
    return ModelError(
        f"model {spec.name} wants its {name} {wanted}, this pipeline gives {given}; it needs a pipeline of its own"
    )
