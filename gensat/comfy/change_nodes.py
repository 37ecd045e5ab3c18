"""The node that changes the ground: fire, melting ice, new forest."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, an_image, mappings, number, seeds, text
from gensat.comfy.values import Geo, as_image, as_mask, one_image
from gensat.errors import InputError

_OWN = {"burn": ("severity", "ash"), "melt": ("share", "floes", "water"), "reforest": ("cover", "spacing", "height")}


class GensatGroundChange(Node):
    """An image after a fire, a melt or a planting."""

    TITLE = "Ground Change"
    DESCRIPTION = "Burns, melts or plants what a mask covers; all else stays as it was. Takes a MASK or a file of one."
    RETURN_TYPES = ("IMAGE", "GENSAT_GEO", "MASK")
    RETURN_NAMES = ("image", "geo", "changed")
    FUNCTION = "change"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "kind": (list(_OWN), {"default": "burn"}),
                "severity": number(0.8, 0.0, 1.0, 0.05, "Burn: share of the ground."),
                "ash": number(0.08, 0.0, 1.0, 0.01, "Burn: white ash where it burnt completely."),
                "share": number(0.5, 0.0, 1.0, 0.05, "Melt: of the ice."),
                "floes": number(40.0, 1.0, 10_000.0, 1.0, "Melt: metres of a floe."),
                "water": text("clear", "Melt: clear to mud, or g/m3 of sediment."),
                "cover": number(0.8, 0.0, 0.9, 0.05, "Reforest: share under crowns."),
                "spacing": number(6.0, 0.5, 50.0, 0.5, "Reforest: metres between trees."),
                "height": number(12.0, 0.5, 100.0, 0.5, "Reforest: metres of the trees."),
                **seeds(),
            },
            "optional": {
                **an_image(),
                "mask": ("MASK", {"tooltip": "Of the image's size, above 0.5 where it changes; or"}),
                "mask_file": text(tooltip="a raster (anything but 0), or polygons in a vector file."),
                "gsd": number(0.0, 0.0, 1000.0, 0.5, "Metres per pixel without a georeference; 0: 0.5."),
            },
        }

    def change(
        self,
        kind: str,
        severity: float,
        ash: float,
        share: float,
        floes: float,
        water: str,
        cover: float,
        spacing: float,
        height: float,
        seed: int,
        geo: Geo | None = None,
        file: str = "",
        mask: Any = None,
        mask_file: str = "",
        gsd: float = 0.0,
    ) -> tuple[Any, Geo, Any]:
        """The picture, the image with its place, and the mask on its pixels."""
        from gensat.geo.display import to_rgb
        from gensat.render.change_request import Masked

        if (mask is None) != bool(mask_file.strip()):
            raise InputError("a change needs one mask; connect a MASK, or name a file")
        area = host.input_file(mask_file.strip()) if mask is None else mask[0].detach().cpu().numpy() > 0.5
        masked = Masked.open(one_image(geo, file, "a change needs"), area, gsd=gsd or None)
        every = {
            "severity": severity, "ash": ash, "share": share, "floes": floes, "water": water, "cover": cover, "spacing": spacing, "height": height,
        }  # fmt: skip
        made = masked.changed(kind, seed=seed, **{name: every[name] for name in _OWN[kind]})
        return as_image(to_rgb(made)), Geo((made,)), as_mask(masked.mask)

    @classmethod
    def IS_CHANGED(cls, file: str = "", mask_file: str = "", **_: Any) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(file, mask_file)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatGroundChange,))
