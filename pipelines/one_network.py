"""What pipelines of one network share: folders with ``model/``, ``model_index.json`` and ``gensat.json``, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from diffusers import DiffusionPipeline
from torch import nn

from ..hub.resolve import model_folder
from ..hub.spec import ModelSpec
from ..hub.weights import check_weights, import_components

Self = TypeVar("Self", bound="OneNetworkPipeline")


class OneNetworkPipeline(DiffusionPipeline):
    """A pipeline whose only component is ``model``, with its spec and, where it was loaded, the folder."""

    def __init__(self, model: nn.Module, spec: ModelSpec | None = None):
        super().__init__()
        self.register_modules(model=model)
        self.spec = spec or ModelSpec(name="unnamed", pipeline=type(self).__name__)
        self.folder: Path | None = None

    @classmethod
    def from_pretrained(cls: type[Self], pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a model folder, a shipped name, or a hub id that is cached; only safetensors are read.

        Raises:
            ModelError: no such model, or weights that do not fit the network.
        """
        folder = model_folder(pretrained_model_name_or_path, download=not kwargs.pop("local_files_only", True))
        spec = kwargs.pop("spec", None) or ModelSpec.load(folder)
        import_components(folder)
        pipe = super().from_pretrained(str(folder), **{"use_safetensors": True, **kwargs})
        if "model" not in kwargs:
            check_weights(folder / "model", pipe.model)
        pipe.spec, pipe.folder = spec, folder
        return pipe

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save the network and the spec."""
        super().save_pretrained(save_directory, **kwargs)
        self.spec.save(save_directory)
