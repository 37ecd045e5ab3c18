"""Nodes for ComfyUI; ``gensat comfy install --to DIR`` makes a ComfyUI find them."""

from gensat.comfy import (
    change_nodes,
    density_nodes,
    flood_nodes,
    flood_render_nodes,
    flood_view_nodes,
    ground_nodes,
    height_nodes,
    nodes,
)

_KINDS = (
    nodes,
    ground_nodes,
    height_nodes,
    density_nodes,
    flood_nodes,
    flood_render_nodes,
    flood_view_nodes,
    change_nodes,
)
NODE_CLASS_MAPPINGS = {name: node for kind in _KINDS for name, node in kind.NODE_CLASS_MAPPINGS.items()}
NODE_DISPLAY_NAME_MAPPINGS = {name: title for kind in _KINDS for name, title in kind.NODE_DISPLAY_NAME_MAPPINGS.items()}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
