"""Nodes for ComfyUI; ``gensat comfy install --to DIR`` makes a ComfyUI find them."""

from gensat.comfy.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
