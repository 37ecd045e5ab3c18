"""Nodes for ComfyUI; ``gensat comfy install --to DIR`` makes a ComfyUI find them."""

from gensat.comfy import ground_nodes, height_nodes, nodes

NODE_CLASS_MAPPINGS = nodes.NODE_CLASS_MAPPINGS | ground_nodes.NODE_CLASS_MAPPINGS | height_nodes.NODE_CLASS_MAPPINGS
NODE_DISPLAY_NAME_MAPPINGS = (
    nodes.NODE_DISPLAY_NAME_MAPPINGS | ground_nodes.NODE_DISPLAY_NAME_MAPPINGS | height_nodes.NODE_DISPLAY_NAME_MAPPINGS
)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
