"""The few things a node asks of the ComfyUI it runs in; outside of one each has a plain answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gensat.errors import InputError, OutputError


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


def output_target(prefix: str) -> Path:
    """The path in the output folder that a filename prefix stands for. Raises InputError where it lies outside."""
    if "\0" in prefix:
        raise InputError("filename_prefix holds a NUL character, which no file name may; remove it")
    root = output_folder().resolve()
    target = (root / prefix.strip()).resolve()
    if not target.is_relative_to(root) or target == root:
        raise InputError(f"filename_prefix {prefix!r} lies outside the output folder; give a name in it")
    return target


def next_output(prefix: str, suffix: str) -> Path:
    """``prefix_00001_.suffix`` and so on, as ComfyUI numbers its own files; its folder is made.

    Raises InputError for a prefix outside the output folder, OutputError for a folder that cannot be made.
    """
    target = output_target(prefix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target.parent} could not be made ({error.strerror}); choose another prefix") from error
    taken = [path.name.removeprefix(f"{target.name}_").split("_")[0] for path in target.parent.glob(f"*_{suffix}")]
    number = max((int(text) for text in taken if text.isdigit()), default=0) + 1
    return target.with_name(f"{target.name}_{number:05d}_{suffix}")


def input_file(name: str) -> Path:
    """A file named by the user: as it is if that exists, else in ComfyUI's input folder."""
    path, folder = Path(name), _folder("get_input_directory")
    return path if folder is None or path.is_absolute() or path.exists() else folder / path


def optional_file(name: str) -> Path | None:
    """As :func:`input_file`; None where no name is given."""
    return input_file(name.strip()) if name.strip() else None


def number_or_file(given: str) -> str | None:
    """Text that is a number or names a file of the user's: a number stays as it was typed, nothing is None."""
    given = given.strip()
    try:
        float(given or "0")
        return given or None
    except ValueError:
        return str(input_file(given))


def as_saved(*names: str) -> str:
    """Which files these names stand for and when they were saved last, for ``IS_CHANGED``; what is no file is left out."""
    paths = [input_file(name.strip()) for name in names if name.strip()]
    return str([(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()])


def _folder(getter: str) -> Path | None:
    try:
        import folder_paths
    except ImportError:
        return None
    return Path(getattr(folder_paths, getter)())
