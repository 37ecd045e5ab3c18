"""What gensat's nodes share: their attributes, the widgets of their inputs, and what a node that writes files returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

Widget: TypeAlias = tuple[Any, dict[str, Any]]


class Node:
    """A node of ComfyUI's V1 interface; ``FUNCTION`` names the method that does its work."""

    TITLE: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    RETURN_NAMES: ClassVar[tuple[str, ...]]
    FUNCTION: ClassVar[str]
    CATEGORY: ClassVar[str] = "gensat"


class OutputNode(Node):
    """A node that writes files into ComfyUI's output folder and passes their paths on as text."""

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @staticmethod
    def written(paths: Sequence[Path], **shown: Any) -> dict[str, Any]:
        """What ComfyUI takes from such a node: paths, one a line, and what the interface shows beside them."""
        text = "\n".join(map(str, paths))
        return {"ui": {**shown, "text": [text]}, "result": (text,)}


MAX_SEED = 2**53 - 1
"""The largest whole number that survives a browser."""


def text(default: str = "", tooltip: str | None = None, **more: Any) -> Widget:
    """A line of text."""
    return "STRING", _known(default=default, tooltip=tooltip, **more)


def number(default: float, low: float, high: float, step: float, tooltip: str | None = None) -> Widget:
    """A number, taken as it was typed: the step is of the arrows, and ComfyUI must not round to it."""
    return "FLOAT", _known(default=default, min=low, max=high, step=step, round=False, tooltip=tooltip)


def whole(default: int, low: int, high: int, tooltip: str | None = None, **more: Any) -> Widget:
    """A whole number."""
    return "INT", _known(default=default, min=low, max=high, tooltip=tooltip, **more)


def degrees(lon: float, lat: float, step: float) -> dict[str, Widget]:
    """Longitude and latitude of a point."""
    return {
        "lon": number(lon, -180.0, 180.0, step, "Degrees east."),
        "lat": number(lat, -90.0, 90.0, step, "Degrees north."),
    }


def looking(panorama: bool) -> dict[str, Widget]:
    """Where one stands and looks; ``panorama`` is the default."""
    return {
        **degrees(0.0, 0.0, 0.00001),
        "heading": number(0.0, 0.0, 360.0, 1.0, "Degrees from true north."),
        "pitch": number(0.0, -90.0, 90.0, 1.0, "Degrees up; not of panoramas."),
        "fov": number(90.0, 1.0, 170.0, 1.0, "Degrees across; not of panoramas."),
        "panorama": ("BOOLEAN", {"default": panorama}),
    }


def standing() -> dict[str, Widget]:
    """A camera on the ground of a scene."""
    return {
        **looking(panorama=False),
        "width": whole(1024, 16, 8192),
        "height": whole(768, 16, 8192),
        "eye": number(1.7, 0.1, 1000.0, 0.1, "Metres above ground, not water."),
    }


def an_image(kind: str = "An image file") -> dict[str, Widget | tuple[str]]:
    """An image that another node made, or a file."""
    return {"geo": ("GENSAT_GEO",), "file": text(tooltip=f"{kind}, where no geo is connected.")}


def seeds(tooltip: str | None = None) -> dict[str, Widget]:
    """A seed, which the browser may change after each run."""
    return {"seed": whole(0, 0, MAX_SEED, tooltip, control_after_generate=True)}


def prefix(default: str, example: str = "") -> dict[str, Widget]:
    """The name that numbered files begin with."""
    return {"filename_prefix": text(default, f"May name a folder{example}.")}


def mappings(nodes: Iterable[type[Node]]) -> tuple[dict[str, type], dict[str, str]]:
    """``NODE_CLASS_MAPPINGS`` and ``NODE_DISPLAY_NAME_MAPPINGS``."""
    every = {node.__name__: node for node in nodes}
    return dict(every), {name: f"{node.TITLE} (gensat)" for name, node in every.items()}


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
