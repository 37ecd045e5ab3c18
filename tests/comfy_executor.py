"""A small ComfyUI for tests: checks a graph in API format as its validator does, and runs it in topological order."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

WIDGETS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class EmptyImage:
    """ComfyUI's node of that name: one colour."""

    RETURN_TYPES, FUNCTION = ("IMAGE",), "generate"

    @classmethod
    def INPUT_TYPES(cls):
        number = {"min": 0, "max": 0xFFFFFF}
        return {"required": {name: ("INT", number) for name in ("width", "height", "batch_size", "color")}}

    def generate(self, width, height, batch_size, color):
        rgb = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
        return (rgb.expand(batch_size, height, width, 3),)


class ImageCompositeMasked:
    """ComfyUI's node of that name, without mask and resizing."""

    RETURN_TYPES, FUNCTION = ("IMAGE",), "composite"

    @classmethod
    def INPUT_TYPES(cls):
        number = {"min": 0, "max": 16384}
        images, numbers = (
            dict.fromkeys(("destination", "source"), ("IMAGE",)),
            dict.fromkeys(("x", "y"), ("INT", number)),
        )
        return {"required": {**images, **numbers, "resize_source": ("BOOLEAN", {})}, "optional": {"mask": ("MASK",)}}

    def composite(self, destination, source, x, y, resize_source):
        out = destination.clone()
        out[:, y : y + source.shape[1], x : x + source.shape[2]] = source
        return (out,)


class PreviewImage:
    """ComfyUI's node of that name, which shows pictures and returns nothing."""

    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "show", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    def show(self, images):
        return {"ui": {"images": [tuple(images.shape)]}, "result": ()}


def problems(graph: Mapping[str, Any], nodes: Mapping[str, type]) -> list[str]:
    """What ComfyUI's validator would answer with HTTP 400, one line each; empty for a good graph."""
    found = []
    for key, node in graph.items():
        kind = nodes[node["class_type"]]
        inputs = kind.INPUT_TYPES()
        known = {**inputs.get("required", {}), **inputs.get("optional", {})}
        found += [f"{key}: {name} is missing" for name in inputs.get("required", {}) if name not in node["inputs"]]
        for name, value in node["inputs"].items():
            if name not in known:
                found.append(f"{key}: {name} is unknown")
                continue
            wanted, extra = known[name][0], known[name][1] if len(known[name]) > 1 else {}
            if isinstance(value, list):
                given = nodes[graph[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                found += [] if given == wanted else [f"{key}: {name} gets {given}, not {wanted}"]
            elif isinstance(wanted, list):
                found += [] if value in wanted else [f"{key}: {name} {value!r} is not in {wanted}"]
            elif wanted not in WIDGETS:
                found.append(f"{key}: {name} has to be linked")
            elif wanted in ("INT", "FLOAT"):
                number = WIDGETS[wanted](value)
                if number < extra.get("min", number):
                    found.append(f"{key}: {name} {number} is below {extra['min']}")
                if number > extra.get("max", number):
                    found.append(f"{key}: {name} {number} is above {extra['max']}")
    return found


def execute(graph: Mapping[str, Any], nodes: Mapping[str, type]) -> dict[str, Any]:
    """What each node returned: its outputs as a tuple, and for output nodes ``ui`` beside them as a dictionary."""
    done: dict[str, Any] = {}

    def run(key: str) -> Any:
        if key not in done:
            kind = nodes[graph[key]["class_type"]]
            arguments = {}
            for name, value in graph[key]["inputs"].items():
                arguments[name] = outputs(run(value[0]))[value[1]] if isinstance(value, list) else value
            if hasattr(kind, "IS_CHANGED"):
                taken = inspect.signature(kind.IS_CHANGED).parameters
                kind.IS_CHANGED(**{name: value for name, value in arguments.items() if name in taken})
            done[key] = getattr(kind(), kind.FUNCTION)(**arguments)
        return done[key]

    for key in graph:
        run(key)
    return done


def outputs(returned: Any) -> tuple:
    """The outputs of a node, whether it returned a tuple or a dictionary with ``result``."""
    values = returned.get("result", ()) if isinstance(returned, dict) else returned
    assert isinstance(values, tuple)
    return values
