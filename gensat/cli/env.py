"""``gensat env``: what is installed here and what it runs on, for bug reports."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen

_PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "safetensors", "huggingface_hub",
    "kornia", "controlnet-aux", "numpy", "Pillow", "rasterio", "pyproj", "shapely", "typer", "xformers",
)  # fmt: skip


def env(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Print the versions of everything that matters, the device, and whether xformers runs."""
    screen = Screen(quiet, json)
    with screen.listening():
        data = _environment()
    screen.result(data, "\n".join(_lines(data)))


def _environment() -> dict[str, Any]:
    import pyproj
    import rasterio
    import torch

    from gensat import __version__
    from gensat.diffusion.precision import choose, why_no_xformers
    from gensat.hub.resolve import DEFAULT, shipped

    precision = choose()
    device: dict[str, Any] = {"type": precision.device.type, "dtype": str(precision.dtype).removeprefix("torch.")}
    if precision.device.type == "cuda":
        properties = torch.cuda.get_device_properties(precision.device)
        device |= {"name": properties.name, "memory_gb": round(properties.total_memory / 2**30, 1)}
    return {
        "gensat": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "cuda_build": torch.version.cuda,
        "gdal": rasterio.__gdal_version__,
        "proj": pyproj.proj_version_str,
        "packages": {name: _version(name) for name in _PACKAGES},
        "xformers": f"torch attention is used: {reason}" if (reason := why_no_xformers()) else "runs here",
        "models": sorted(shipped()),
        "default_model": DEFAULT,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lines(data: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in data.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{name:<{16 - len(indent)}} {'none' if text in (None, '') else text}")
    return lines


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(env)
