"""``gensat.load``: read what a folder holds and return the right pipeline, ready on this machine."""

import json
import logging
import os
from importlib import import_module
from typing import Any

from gensat.diffusion.precision import apply, choose
from gensat.errors import ModelError
from gensat.hub.foreign import STABLE_DIFFUSION
from gensat.hub.resolve import DEFAULT, model_folder

logger = logging.getLogger(__name__)

# The one place where the core names what stands above it.
_PIPELINES = {
    "SatellitePipeline": "gensat.pipelines.satellite",
    "DensityGroundPipeline": "gensat.pipelines.density",
    "HeightPipeline": "gensat.pipelines.heights",
    "GroundPipeline": "gensat.pipelines.ground",
    "FloodPipeline": "gensat.pipelines.flood",
    "PublishedFloodPipeline": "gensat.pipelines.flood_published",
}
_RUN_AS = dict.fromkeys(STABLE_DIFFUSION, "SatellitePipeline")
_told: set[str] = set()


def load(
    name: str | os.PathLike[str] = DEFAULT,
    *,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    compile: bool | str = False,
    download: bool = False,
    **kwargs: Any,
) -> Any:
    """Load a model by its shipped name, folder or hub id, on the best device here.

    ``device``, ``dtype``, ``attention`` and ``compile`` are those of ``gensat.diffusion.precision.choose``; other keywords go to the
    pipeline's ``from_pretrained``. Nothing is downloaded unless ``download`` is true.

    Raises ModelError for a folder that is no model, damaged weights or an id that cannot be reached.
    """
    precision = choose(device, dtype, attention, compile=compile)
    folder = model_folder(name, download=download)
    try:
        kind = str(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / 'model_index.json'} cannot be read ({type(error).__name__}); restore the model folder"
        ) from error
    kind = _RUN_AS.get(kind, kind)
    if kind not in _PIPELINES:
        able = ", ".join([*_PIPELINES, *_RUN_AS])
        raise ModelError(f"{folder} holds a {kind}; gensat loads {able}; open it with diffusers")
    pipeline = getattr(import_module(_PIPELINES[kind]), kind)
    try:
        pipe = pipeline.from_pretrained(folder, **kwargs)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # safetensors, JSON, torch and diffusers each raise their own for damaged files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model in {folder} cannot be loaded ({first[:200]}); restore its files") from error
    if pipe.spec.name not in _told:
        _told.add(pipe.spec.name)
        logger.warning("model %s: licence %s", pipe.spec.name, pipe.spec.licence)
    return apply(pipe, precision)
