"""The models that are known here, with what they take: those that ship with the package."""

from collections.abc import Mapping

from gensat.hub.resolve import shipped
from gensat.hub.spec import ModelSpec


def models() -> dict[str, ModelSpec]:
    """Specs of the shipped models by name."""
    return {name: ModelSpec.load(folder) for name, folder in shipped().items()}


def models_with() -> Mapping[str, list[str]]:
    """For every signal, the shipped models that take it."""
    able: dict[str, list[str]] = {}
    for name, spec in models().items():
        for signal in spec.signals:
            able.setdefault(signal, []).append(name)
    return able
