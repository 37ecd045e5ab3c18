"""The few things a node asks of the ComfyUI it runs in; outside of one each has a plain answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_step(steps: int) -> Callable[[Any, int, Any, dict], dict]:
    """A ``callback_on_step_end`` that moves ComfyUI's progress bar and stops when the user pressed cancel."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ImportError:
        return lambda pipe, step, time, values: {}
    bar = ProgressBar(steps)

    def callback(pipe: Any, step: int, time: Any, values: dict) -> dict:
        bar.update_absolute(step + 1)
        throw_exception_if_processing_interrupted()
        return {}

    return callback


def image_device() -> Any:
    """Where ComfyUI wants the tensors that pass between nodes: the CPU unless it was started otherwise."""
    try:
        from comfy.model_management import intermediate_device
    except ImportError:
        return "cpu"
    return intermediate_device()


def output_folder() -> Path:
    """ComfyUI's output folder, else ``output`` in the working directory."""
    return _folder("get_output_directory") or Path("output")


def temp_folder() -> Path | None:
    """ComfyUI's folder for previews; None outside of ComfyUI."""
    return _folder("get_temp_directory")


def input_file(name: str) -> Path:
    """A file named by the user: as it is if that exists, else in ComfyUI's input folder."""
    path, folder = Path(name), _folder("get_input_directory")
    return path if folder is None or path.is_absolute() or path.exists() else folder / path


def _folder(getter: str) -> Path | None:
    try:
        import folder_paths
    except ImportError:
        return None
    return Path(getattr(folder_paths, getter)())
