"""Which network describes images, by name: what ``--extractor`` takes."""

from pathlib import Path

import torch

from gensat.errors import InputError
from gensat.models.clip import Clip
from gensat.models.features import EfficientNetLite0, EfficientNetLite2
from gensat.models.inception import InceptionV3

KINDS = "lite0, lite2, inception:FILE or clip:FOLDER"
_LITE = {"lite0": EfficientNetLite0, "lite2": EfficientNetLite2}


def check_extractor(text: str) -> tuple[str, Path | None]:
    """Kind and path of an extractor's name, checked without loading anything. Raises InputError."""
    kind, _, where = text.partition(":")
    if kind not in (*_LITE, "inception", "clip") or (kind in _LITE) != (not where):
        raise InputError(f"there is no extractor {text!r}; give {KINDS}")
    path = Path(where) if where else None
    if path is not None and not path.exists():
        raise InputError(f"extractor {text!r}: {path} does not exist; check the path")
    return kind, path


def load_extractor(
    text: str = "lite0", *, device: str | torch.device = "cpu"
) -> EfficientNetLite0 | InceptionV3 | Clip:
    """The network that ``text`` names (``KINDS``), frozen, on ``device``.

    Raises:
        InputError: no such extractor.
        ModelError: its weights are missing or damaged.
    """
    kind, path = check_extractor(text)
    if path is None:
        return _LITE[kind].from_installed().to(device)
    return InceptionV3.from_file(path).to(device) if kind == "inception" else Clip.from_folder(path).to(device)
