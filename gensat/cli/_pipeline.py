"""A model as the commands run it: loaded, with another scheduler and a LoRA where asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gensat.cli._console import hush_libraries
from gensat.cli._request import Model
from gensat.errors import InputError


def load_pipeline(
    model: Model, *, device: str, dtype: str, scheduler: str | None = None, lora: Path | None = None
) -> Any:
    """The pipeline without its progress bar. Raises InputError for a LoRA that does not fit the model."""
    hush_libraries()
    from gensat.diffusion.schedule import NAMES
    from gensat.hub.load import load

    pipe = load(model.folder, device=device, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = NAMES[scheduler].from_config(pipe.scheduler.config)
    if lora is not None:
        try:
            own = lora.parent.name if lora.stem == "pytorch_lora_weights" else lora.stem
            name = re.sub(r"\W", "_", own) or "lora"  # module names take no dots
            pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name=name)
        except (ValueError, KeyError, RuntimeError, AttributeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"LoRA {lora.name} does not fit model {model.spec.name} ({first}); use another") from error
    return pipe
