"""From what a user calls a model (the default's name, a folder, a hub id) to a folder on disk; nothing downloads unless asked."""

import os
import re
from importlib.resources import files
from pathlib import Path

from gensat.errors import ModelError

DEFAULT = "gensat-small"
_NOT_FETCHED = ["*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl", "*.msgpack", "*.h5", "*.onnx"]  # only safetensors are read
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def shipped() -> dict[str, Path]:
    """Names and folders of the models that ship with the package."""
    root = Path(str(files("gensat.assets")))
    return {p.parent.name: p.parent for p in sorted(root.glob("*/model_index.json"))}


def model_folder(name: str | os.PathLike[str], *, download: bool = False) -> Path:
    """The folder of a model: a shipped name, a local folder, or a hub id that is cached (or fetched, when ``download`` says so).

    Raises ModelError: no such model, a folder without ``model_index.json``, a hub id that is neither cached nor reachable.
    """
    text = str(name)
    if text in shipped():
        return shipped()[text]
    path = Path(name)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(
                f"folder {path} is no model (it has no model_index.json); give a folder that save_pretrained wrote"
            )
        return path
    if path.exists():
        raise ModelError(f"{path} is a file; give the folder of a model")
    if not _HUB_ID.fullmatch(text):
        raise ModelError(
            f"no model is called {text!r}; use {', '.join([*shipped(), 'a folder'])}, or a hub id like owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, local_files_only=not download, ignore_patterns=_NOT_FETCHED))
    except Exception as error:  # every way a hub can fail has its own class
        hint = (
            "check the id and the network"
            if download
            else "download it with huggingface_hub's snapshot_download, or give a folder"
        )
        raise ModelError(
            f"model {text} is not on this machine{' and could not be fetched' if download else ''} ({type(error).__name__}); {hint}"
        ) from error
